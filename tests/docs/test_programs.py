"""The shortest programs that speak, out of the documentation; the browser's is in tests/web."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import c_interface
from support.documentation import ROOT, program

import gru_audio
from gru_audio.synthesis.int8.voice_file import pack_voice
from gru_audio.voice.bundled import DEFAULT_VOICE
from gru_audio.voice.voice import load_voice

Floats = NDArray[np.float32]


def spoken(n_frames: int = 400) -> Floats:
    """What each of the programs speaks."""
    vocoder = gru_audio.load(engine="int8")
    return vocoder.synthesize(np.full((n_frames, 80), -5.0, np.float32))


def test_python() -> None:
    played: list[Floats] = []
    exec(program("streams.md", "python"), {"play": played.append})
    np.testing.assert_array_equal(np.concatenate(played), spoken())


@pytest.mark.slow
def test_c(tmp_path: Path) -> None:
    """By default tests/native/test_c_example.py builds a program, which makes the same samples."""
    (tmp_path / "speak.c").write_text(program("c.md", "c"))
    told = re.search(r"python (-m ziglang cc .*) speak.c (.*) -o speak\n", (ROOT / "docs/c.md").read_text())
    assert told
    command = [sys.executable, *shlex.split(told[1]), "-Wall", "-Wextra", "-Werror"]
    build = [*command, str(tmp_path / "speak.c"), *shlex.split(told[2]), "-o", str(tmp_path / "speak")]
    subprocess.run(build, cwd=ROOT, check=True)
    export = [sys.executable, "-m", "gru_audio", "export", "-o", str(tmp_path / "voice.gru"), "--quiet"]
    subprocess.run(export, check=True)
    with (tmp_path / "voice.gru").open("rb") as voice:
        done = subprocess.run([str(tmp_path / "speak")], stdin=voice, capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32), spoken())


def test_memory_is_as_told() -> None:
    packed = pack_voice(load_voice(DEFAULT_VOICE))
    voice, text = c_interface.CVoice(packed), (ROOT / "docs/c.md").read_text()
    for what, n_bytes in {
        "the voice's file, which may lie in read-only memory": len(packed),
        "memory of an opened voice": c_interface.voice_size(),
        "memory of a stream": c_interface.stream_size(voice.pointer),
        "a saved stream": c_interface.saved_size(voice.pointer),
    }.items():
        assert f"| {what} | {n_bytes:,} |" in text
