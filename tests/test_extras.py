"""A plain install: what it lacks is one line that says how to get it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.warm_process import WarmProcess, warm_process

from gru_audio.errors import MissingPackageError
from gru_audio.extras import require

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "samples" / "it-carlo-vm-rec-name.flac"
PLAIN = """
import sys
for package in ("torch", "torchaudio", "tensorboard", "librosa", "scipy", "pesq", "pystoi", "speechmos", "distillmos",
                "onnxruntime", "numba", "pyloudnorm"):
    sys.modules[package] = None  # as if it were not installed
import gru_audio.cli
import gru_audio.data.prepare, gru_audio.inspection.preview, gru_audio.synthesis.vocoder  # for all commands at once
"""


@pytest.fixture(scope="module")
def plain_install() -> Iterator[WarmProcess]:
    with warm_process(PLAIN) as process:
        yield process


def said(plain_install: WarmProcess, command: str, folder: Path) -> tuple[int, str]:
    """A command's exit code, and what it wrote to stderr."""
    done = plain_install.run(command.split(), folder / "said", folder=folder, NO_COLOR="1")
    return done.returncode, done.stderr.decode()


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
    command: str, purpose: str, package: str, extra: str, plain_install: WarmProcess, tmp_path: Path
) -> None:
    line = f"error: {purpose} needs {package}, which is not installed; pip install 'gru-audio[{extra}]'\n"
    assert said(plain_install, command, tmp_path) == (1, line)


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
def test_the_rest_works_without_them(command: str, plain_install: WarmProcess, tmp_path: Path) -> None:
    assert said(plain_install, command, tmp_path) == (0, "")


def test_what_is_installed_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("torch", "tensorboard", "librosa", "scipy"):  # stand-ins, which are found where it is not
        (tmp_path / f"{package}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    require("train", "this")
    require("eval", "this")


def test_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(MissingPackageError, match=r"^it needs librosa, .* pip install 'gru-audio\[eval\]'$"):
        require("eval", "it")
