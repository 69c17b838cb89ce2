"""What the command line imports, before it has anything to do and when it speaks; and what that costs."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gru_audio.cli import make_app

HEAVY = {"torch", "librosa", "scipy", "soundfile", "numpy", "joblib", "safetensors", "tensorboard"}
NOT_FOR_SPEAKING = {"torch", "librosa", "numba", "scipy", "tensorboard", "pyloudnorm", "joblib"}
NOT_FOR_A_CLIP = {"rich", "tomllib", "concurrent.futures"}
COMMANDS = ("prep", "train", "synthesize", "preview", "evaluate", "info", "voices", "mel", "export", "bench")
CLIP = Path(__file__).parents[2] / "samples" / "it-carlo-vm-rec-name.flac"
SCRIPT = """
import pathlib, re, shlex, sys
from gru_audio.cli import app
for command in sys.argv[1:]:
    try:
        app(shlex.split(command))
    except SystemExit as ended:
        assert not ended.code, ended
peak_kib = re.search("VmHWM:\\\\s*(\\\\d+)", pathlib.Path("/proc/self/status").read_text())[1]
print("PEAK", peak_kib, "MODULES", *sys.modules)
"""


def modules_of(*commands: str) -> set[str]:
    """Names of the modules that are there after commands, one after the other."""
    return set(ran(*commands).rpartition("MODULES ")[2].split())


def ran(*commands: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *commands], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_help_imports_nothing_heavy() -> None:
    assert not (HEAVY | {"pydantic", "gru_audio.config"}) & modules_of("--help")


def test_help_lists_the_commands_without_their_options() -> None:
    listed, whole = (CliRunner().invoke(make_app(only_listed=only), ["--help"]) for only in (True, False))
    assert listed.exit_code == whole.exit_code == 0
    assert listed.output == whole.output
    assert all(command in listed.output for command in COMMANDS)


def test_a_commands_help_imports_nothing_heavy() -> None:
    """One process shows that of all commands."""
    # Typer imports pydantic itself, from 0.29 on, for a command's parameters; our config must not.
    assert not (HEAVY | {"gru_audio.config"}) & modules_of(*(f"{command} --help" for command in COMMANDS))


def test_info_imports_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "mel.npy"
    np.save(path, np.zeros((3, 80), np.float32))
    assert not NOT_FOR_SPEAKING & modules_of(f"info {path}")


@pytest.mark.parametrize("engine", ["int8", "float32"])
def test_speaking_needs_little(engine: str, tmp_path: Path) -> None:
    out = ran(f"synthesize {CLIP} -o {tmp_path}/out.wav --engine {engine}")
    found = re.search(r"PEAK (\d+) MODULES (.*)", out)
    assert found
    assert not (NOT_FOR_SPEAKING | NOT_FOR_A_CLIP) & set(found[2].split())
    assert int(found[1]) < 110 * 1024


def test_a_first_run_takes_a_moment(tmp_path: Path) -> None:
    """Of CPU time, as the tests share their cores; a quiet machine takes less than 0.4 s by the clock.

    Once Python has compiled the package, and at best: what shares a core's caches makes it dearer.
    """
    took_s = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran(f"synthesize {CLIP} -o {tmp_path}/out.wav")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took_s) < 1.5


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--version"], 0), (["info", "nothing"], 1), (["--none"], 2)]
)
def test_the_command_ends_as_python_does(arguments: list[str], code: int) -> None:
    """With what is still to be written, and with what was registered for the end."""
    script = (
        "import atexit, sys; from gru_audio.__main__ import main; "
        f"atexit.register(print, 'the end'); sys.argv[1:] = {arguments}; print('before'); main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.startswith("before\n")
    assert done.stdout.endswith("the end\n")


def test_the_command_tells_what_it_cannot_write_at_its_end() -> None:
    script = "import sys; from gru_audio.__main__ import main; sys.argv[1:] = ['--version']; main()"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode != 0
    assert "No space left" in done.stderr


@pytest.mark.parametrize(
    ("words", "wanted"), [("gru-audio syn", "synthesize"), ("gru-audio synthesize --corr", "--corrections")]
)
def test_a_shell_can_complete_commands_and_options(words: str, wanted: str) -> None:
    script = "import sys; from gru_audio.__main__ import main; sys.argv = ['gru-audio']; main()"
    asked = {"_GRU_AUDIO_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **asked},
    )
    assert done.stdout.split() == [wanted]
