"""Writing audio: whole and as it comes, atomically, in spite of what goes wrong on the way."""

import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from gru_audio.errors import AudioError, OutputError
from gru_audio.signal.audio import from_int16, to_int16
from gru_audio.signal.audio_file import writing
from gru_audio.signal.audio_file.reading import read_audio
from gru_audio.signal.audio_file.writing import encode_audio, open_writer, write_audio

RATE = 16_000


def tone(seconds: float) -> NDArray[np.float32]:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_write_then_read_gives_the_same_16_bits(tmp_path: Path, suffix: str) -> None:
    pcm = np.random.default_rng(0).integers(-32_768, 32_768, 5_000).astype(np.int16)
    path = tmp_path / f"a{suffix}"
    assert write_audio(path, from_int16(pcm), 22_050) == 0
    audio, rate = read_audio(path)
    assert rate == 22_050
    assert audio.dtype == np.float32
    np.testing.assert_array_equal(to_int16(audio), pcm)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_write_counts_what_it_clips(tmp_path: Path) -> None:
    audio = np.array([0.0, 1.0, -1.0, 1.001, -1.5], np.float32)
    assert write_audio(tmp_path / "a.wav", audio, RATE) == 2
    read, _ = read_audio(tmp_path / "a.wav")
    np.testing.assert_allclose(read, [0, 1, -1, 1, -1], atol=1 / 32_767)


def test_write_refuses_other_suffixes_and_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"suffix '\.mp3' is not written; use \.wav or \.flac"):
        write_audio(tmp_path / "a.mp3", tone(0.1), RATE)
    for suffix in (".wav", ".flac"):
        with pytest.raises(OutputError, match="0 samples, there is nothing to write"):
            write_audio(tmp_path / f"a{suffix}", tone(0), RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_pieces_make_the_same_file_as_the_whole(tmp_path: Path, suffix: str) -> None:
    audio = np.random.default_rng(0).normal(0, 0.6, 50_001).astype(np.float32)
    n_clipped = write_audio(tmp_path / f"whole{suffix}", audio, RATE)
    with open_writer(tmp_path / f"pieces{suffix}", RATE) as writer:
        for first in range(0, audio.size, 777):
            writer.write(audio[first : first + 777])
        assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [
            f"whole{suffix}"
        ]
    whole, pieces = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("whole", "pieces"))
    assert whole == pieces == encode_audio(audio, RATE, suffix[1:].upper())
    assert (writer.n_samples, writer.n_clipped) == (50_001, n_clipped)
    if suffix == ".wav":
        soundfile.write(tmp_path / "theirs.wav", to_int16(audio), RATE)
        assert whole == (tmp_path / "theirs.wav").read_bytes()


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_an_error_on_the_way_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), open_writer(path, RATE) as writer:
        writer.write(tone(3))
        raise KeyboardInterrupt
    with (
        pytest.raises(AudioError, match=r"sample 16003, at 1\.000 s, is NaN or infinite"),
        open_writer(path, RATE) as writer,
    ):
        writer.write(tone(1))
        writer.write(np.array([0, 0, 0, np.nan, 0], np.float32))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    """A limit on the size of files fails as a full disk does, at a write in the midst."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"before")
    noise = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OutputError, match=rf"a\{suffix}: cannot be written: File too large"):
            write_audio(path, noise, RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_wav_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "LARGEST_WAV", 50_000)
    with pytest.raises(OutputError, match="longer than the 4 GiB that a WAV can hold"):
        write_audio(tmp_path / "a.wav", tone(2), RATE)
    assert write_audio(tmp_path / "a.flac", tone(2), RATE) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.flac"]
