"""What the command line imports before it has anything to do."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "librosa", "numba", "scipy", "soundfile", "numpy", "joblib", "safetensors", "tensorboard"}
COMMANDS = ("prep", "train", "synthesize", "preview", "info", "bench")
SCRIPT = """
import sys
from gru_audio.cli import app
try:
    app(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended
print("MODULES", *sys.modules)
"""


def modules_of(*arguments: str) -> set[str]:
    """Names of the modules that are there after a command."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("MODULES ")[2].split())


def test_help_imports_nothing_heavy() -> None:
    assert not (HEAVY | {"pydantic", "gru_audio.config"}) & modules_of("--help")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_imports_nothing_heavy(command: str) -> None:
    # Typer imports pydantic itself, from 0.29 on, for a command's parameters; our config must not.
    assert not (HEAVY | {"gru_audio.config"}) & modules_of(command, "--help")


def test_info_imports_no_torch(tmp_path_factory: pytest.TempPathFactory) -> None:
    import numpy as np

    path = tmp_path_factory.mktemp("mel") / "mel.npy"
    np.save(path, np.zeros((3, 80), np.float32))
    assert not {"torch", "numba", "librosa", "tensorboard"} & modules_of("info", str(path))
