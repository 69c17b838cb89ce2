"""The C program that speaks from a mel file, built by the command that its head tells."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.bundled import DEFAULT_VOICE
from gru_audio.voice.voice import load_voice

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples" / "c" / "speak.c"

Floats = NDArray[np.float32]
Result = subprocess.CompletedProcess[str]


def run(*command: str | Path) -> Result:
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program and the voice, made as the documentation says."""
    folder = tmp_path_factory.mktemp("c")
    told = re.search(r"python (-m ziglang cc .*) -o speak\n", SOURCE.read_text())
    assert told
    built = run(sys.executable, *shlex.split(told[1]), "-Wall", "-Wextra", "-Werror", "-o", folder / "speak")
    assert built.returncode == 0, built.stderr
    exported = run(sys.executable, "-m", "gru_audio", "export", "-o", folder / "voice.gru")
    assert exported.returncode == 0, exported.stderr
    return folder


def test_it_is_short() -> None:
    assert len(SOURCE.read_text().splitlines()) <= 60


def test_its_samples_are_pythons(folder: Path, speech: Floats) -> None:
    vocoder = Vocoder(load_voice(DEFAULT_VOICE), "int8")
    mel = vocoder.mel(speech[:10_000], 16_000)
    np.save(folder / "mel.npy", mel)
    mel.tofile(folder / "mel.f32")
    for name in ("mel.npy", "mel.f32"):
        done = run(folder / "speak", folder / "voice.gru", folder / name, folder / "out.wav")
        assert done.returncode == 0, done.stderr
        audio, rate = soundfile.read(folder / "out.wav", dtype="float32")
        assert rate == vocoder.sample_rate
        np.testing.assert_array_equal(audio, vocoder.synthesize(mel))


def test_what_it_cannot_use_is_told_in_one_line(folder: Path) -> None:
    np.save(folder / "doubles.npy", np.zeros((4, 80)))
    (folder / "cut.npy").write_bytes((folder / "doubles.npy").read_bytes()[:60])
    np.full((4, 80), np.nan, np.float32).tofile(folder / "nan.f32")
    np.save(folder / "wide.npy", np.zeros((3, 100), np.float32))
    (folder / "empty.f32").touch()
    (folder / "torn.f32").write_bytes(bytes(4 * 80 + 4))
    (folder / "no.gru").write_bytes(b"no voice at all")
    for voice, mel, says in (
        ("no.gru", "nan.f32", "no.gru: the bytes are no exported voice"),
        ("nowhere.gru", "nan.f32", "nowhere.gru: No such file"),
        ("voice.gru", "nan.f32", "nan.f32: the mel or the audio has NaN"),
        ("voice.gru", "doubles.npy", "doubles.npy: no array of float32"),
        ("voice.gru", "cut.npy", "cut.npy: no array of float32"),
        ("voice.gru", "wide.npy", "wide.npy: no whole frames of float32"),
        ("voice.gru", "empty.f32", "empty.f32: no whole frames of float32"),
        ("voice.gru", "torn.f32", "torn.f32: no whole frames of float32"),
    ):
        done = run(folder / "speak", folder / voice, folder / mel, folder / "out.wav")
        assert done.returncode == 1
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
