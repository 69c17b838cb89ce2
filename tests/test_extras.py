"""A plain install: what it lacks is one line that says how to get it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gru_audio.errors import MissingPackageError
from gru_audio.extras import require

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "samples" / "it-carlo-vm-rec-name.flac"
PLAIN = """
import sys
for package in ("torch", "torchaudio", "tensorboard", "librosa", "scipy", "pesq", "pystoi", "speechmos", "distillmos",
                "onnxruntime", "numba", "pyloudnorm"):
    sys.modules[package] = None  # as if it were not installed
from gru_audio.cli import main
main()
"""


def on_plain_install(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PLAIN, *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("command", "purpose", "package", "extra"),
    [
        ("train data -o run", "training", "torch", "train"),
        (f"synthesize {CLIP} -o out.wav --engine torch", "engine 'torch'", "torch", "train"),
        ("bench --quick", "bench", "torch", "train"),
        (
            f"evaluate {CLIP}",
            "evaluate",
            "librosa",
            "eval",
        ),
    ],
)
def test_what_is_missing_is_one_line(
    command: str, purpose: str, package: str, extra: str, tmp_path: Path
) -> None:
    done = on_plain_install(*command.split(), cwd=tmp_path)
    line = f"error: {purpose} needs {package}, which is not installed; pip install 'gru-audio[{extra}]'\n"
    assert (done.returncode, done.stderr) == (1, line)


def test_only_what_is_taken_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has torch, and not all of an extra, may use what takes torch alone."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    require("train", "engine 'torch'", "torch")
    with pytest.raises(MissingPackageError, match="training needs tensorboard, which is not installed"):
        require("train", "training")


@pytest.mark.parametrize(
    "command",
    [
        f"synthesize {CLIP} -o out.wav",
        f"preview {CLIP}",
        f"info {CLIP}",
        "info",
        f"prep {CLIP} -o data --set prep.loudness_lufs=-23",
        f"prep {CLIP} --dry-run",
    ],
)
def test_the_rest_works_without_them(command: str, tmp_path: Path) -> None:
    done = on_plain_install(*command.split(), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_installed_is_not_missing() -> None:
    require("train", "this")
    require("eval", "this")


def test_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(MissingPackageError, match=r"^it needs librosa, .* pip install 'gru-audio\[eval\]'$"):
        require("eval", "it")
