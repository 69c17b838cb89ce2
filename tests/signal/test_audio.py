"""Reading and writing audio files, and the measures of level."""

import errno
import io
import math
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pyloudnorm
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.loops import librosa

from gru_audio.errors import AudioError, GruAudioError, OutputError
from gru_audio.signal import audio as audio_module
from gru_audio.signal.audio import (
    Encoding,
    check_audio,
    dbfs,
    finite,
    from_int16,
    normalise_loudness,
    peak_dbfs,
    read_audio,
    read_encoding,
    resample,
    rms_dbfs,
    to_int16,
    trim_silence,
    write_audio,
)
from gru_audio.signal.loudness import BLOCK_S, integrated_loudness

RATE = 16_000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on PATH")


def tone(seconds: float, hz: float = 200.0, level: float = 0.5, rate: int = RATE) -> NDArray[np.float32]:
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def streamed_flac(source: Path, *options: str) -> bytes:
    """A FLAC that ffmpeg writes to a pipe and so cannot go back to state its length in."""
    command = ["ffmpeg", "-v", "error", "-i", str(source), *options, "-f", "flac", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


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


def test_write_refuses_other_suffixes_and_empty_flac(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"suffix '\.mp3' is not written; use \.wav or \.flac"):
        write_audio(tmp_path / "a.mp3", tone(0.1), RATE)
    with pytest.raises(OutputError, match="0 samples"):
        write_audio(tmp_path / "a.flac", tone(0), RATE)
    assert write_audio(tmp_path / "a.wav", tone(0), RATE) == 0
    assert read_audio(tmp_path / "a.wav")[0].shape == (0,)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"before")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"a\.wav: cannot be written: No space left on device"):
        write_audio(path, tone(0.1), RATE)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_channels_become_their_mean(tmp_path: Path) -> None:
    left, right = tone(0.1, 200), tone(0.1, 330)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav")[0], (left + right) / 2, atol=1e-7)


def unusable_files(folder: Path) -> dict[Path, str]:
    """Files that must be refused, each with what the error must say."""
    soundfile.write(folder / "whole.flac", tone(2), RATE)
    soundfile.write(folder / "whole.wav", tone(2), RATE)
    for name in ("whole.flac", "whole.wav"):
        data = (folder / name).read_bytes()
        (folder / name.replace("whole", "cut")).write_bytes(data[: len(data) // 2])
    (folder / "text.wav").write_text("these are words\n")
    (folder / "empty.wav").touch()
    (folder / "folder.wav").mkdir()
    for value in ("nan", "inf"):
        samples = np.array([0, float(value), 0], np.float32)
        soundfile.write(folder / f"{value}.wav", samples, RATE, subtype="FLOAT")
    return {
        folder / "missing.wav": "No such file",
        folder / "folder.wav": "not a file",
        folder / "empty.wav": "empty",
        folder / "text.wav": "libsndfile cannot read it",
        folder / "cut.flac": "truncated or damaged",
        folder / "cut.wav": "truncated: 31978 of 64000 bytes",
        folder / "nan.wav": "NaN or infinite",
        folder / "inf.wav": "NaN or infinite",
    }


def test_bad_files_are_refused_in_one_line_that_names_them(tmp_path: Path) -> None:
    for path, reason in unusable_files(tmp_path).items():
        with pytest.raises(AudioError, match=reason) as caught:
            read_audio(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@needs_ffmpeg
@pytest.mark.parametrize("container", ["wav", "au"])
def test_a_streamed_header_without_a_length_is_not_truncation(tmp_path: Path, container: str) -> None:
    soundfile.write(tmp_path / "a.flac", tone(1), RATE)
    command = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.flac"), "-f", container, "-"]
    streamed = subprocess.run(command, check=True, capture_output=True).stdout
    assert b"\xff\xff\xff\xff" in streamed[:100]
    (tmp_path / f"b.{container}").write_bytes(streamed)
    assert read_audio(tmp_path / f"b.{container}")[0].size == RATE


@needs_ffmpeg
@pytest.mark.parametrize("channels", [1, 2])
def test_a_streamed_flac_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    monkeypatch.setattr(audio_module, "_BLOCK_FRAMES", 7_000)
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(tmp_path / "a.wav", noise, RATE)
    streamed = streamed_flac(tmp_path / "a.wav", "-ac", str(channels))
    (tmp_path / "b.flac").write_bytes(streamed)
    assert soundfile.info(tmp_path / "b.flac").frames == 2**63 - 1
    audio, rate = read_audio(tmp_path / "b.flac")
    assert rate == RATE
    if channels == 1:  # ffmpeg's upmix lowers the level
        np.testing.assert_array_equal(to_int16(audio), to_int16(read_audio(tmp_path / "a.wav")[0]))
    assert audio.size == RATE
    (tmp_path / "c.flac").write_bytes(streamed[: len(streamed) * 2 // 3])
    with pytest.raises(AudioError, match=r"c\.flac: truncated or damaged"):
        read_audio(tmp_path / "c.flac")


def test_a_header_that_states_more_than_memory_holds_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1), RATE)
    for failure in (MemoryError(), ValueError("array is too big")):

        def fail(*_: object, failure: Exception = failure, **__: object) -> None:
            raise failure

        monkeypatch.setattr(soundfile.SoundFile, "read", fail)
        with pytest.raises(AudioError, match=r"a\.wav: states 16000 samples, more than memory holds"):
            read_audio(tmp_path / "a.wav")


def test_an_encoding_is_known_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    soundfile.write(tmp_path / "a.wav", np.zeros((10, 2)), RATE)
    (tmp_path / "a.wav").rename(path)
    assert read_encoding(path) == Encoding("WAV PCM_16", 2)
    (tmp_path / "a.m4a").write_bytes(b"not really" * 100)
    assert read_encoding(tmp_path / "a.m4a") is None


@needs_ffmpeg
def test_what_libsndfile_cannot_open_goes_through_ffmpeg(tmp_path: Path) -> None:
    audio = tone(1)
    soundfile.write(tmp_path / "a.wav", audio, RATE)
    for name in ("a.m4a", "a.g722", "-odd: name%d.m4a"):
        ffmpeg("-i", tmp_path / "a.wav", f"file:{tmp_path / name}")
        read, rate = read_audio(tmp_path / name)
        assert rate == RATE
        assert abs(read.size - audio.size) < 2_100  # AAC comes in blocks of 1024
        assert abs(rms_dbfs(read) - rms_dbfs(audio)) < 1


@needs_ffmpeg
def test_input_format_decides_where_the_file_does_not_say(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1), RATE)
    ffmpeg("-i", tmp_path / "a.wav", tmp_path / "a.g722")
    (tmp_path / "a.g722").rename(tmp_path / "a.bin")
    audio, rate = read_audio(tmp_path / "a.bin", input_format="g722")
    assert (audio.size, rate) == (RATE, RATE)
    with pytest.raises(
        AudioError, match=r"a\.bin: it is to be read as 'nonsense', and ffmpeg fails \(Unknown"
    ):
        read_audio(tmp_path / "a.bin", input_format="nonsense")


@needs_ffmpeg
def test_an_mp3_of_unstated_length_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile alone reads only part of this file and says nothing."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(8 * RATE)
    quiet_start = np.where(np.arange(noise.size) < RATE, 0.01 * noise, noise)
    soundfile.write(tmp_path / "a.wav", quiet_start, RATE)
    try:
        ffmpeg("-i", tmp_path / "a.wav", "-q:a", "5", "-write_xing", "0", tmp_path / "a.mp3")
    except subprocess.CalledProcessError:
        pytest.skip("this ffmpeg cannot write MP3")
    assert soundfile.info(tmp_path / "a.mp3").frames != pytest.approx(noise.size, rel=0.02)
    assert read_audio(tmp_path / "a.mp3")[0].size == pytest.approx(noise.size, rel=0.02)


def test_without_ffmpeg_the_error_says_how_to_mend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.m4a").write_bytes(b"not really" * 100)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match="ffmpeg is not on PATH; install ffmpeg or convert to WAV"):
        read_audio(tmp_path / "a.m4a")
    with pytest.raises(AudioError, match="'g722', and ffmpeg is not on PATH"):
        read_audio(tmp_path / "a.m4a", input_format="g722")


def test_check_audio_takes_floats_and_int16() -> None:
    np.testing.assert_array_equal(check_audio(np.array([0, -32_768, 16_384], np.int16)), [0, -1, 0.5])
    for kind in (np.float16, np.float32, np.float64):
        checked = check_audio(np.array([0.5, -0.25], kind))
        assert checked.dtype == np.float32
        np.testing.assert_array_equal(checked, [0.5, -0.25])
    assert check_audio([0.5, 0.25]).shape == (2,)
    assert check_audio(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize(
    ("given_audio", "reason"),
    [
        (np.zeros((2, 10)), r"shape \(2, 10\)"),
        (np.float32(1), r"shape \(\)"),
        (np.zeros(3, np.int32), "type int32"),
        (np.zeros(3, complex), "type complex128"),
        (["a"], "type <U1"),
        (np.array([0, np.nan]), "NaN or infinite"),
        (np.array([1e300]), "NaN or infinite"),
    ],
)
def test_check_audio_refuses_the_rest(given_audio: object, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        check_audio(given_audio)  # type: ignore[arg-type]


def test_resample_keeps_the_tone() -> None:
    assert resample(audio := tone(0.5), RATE, RATE) is audio
    for rate in (8_000, 22_050, 48_000):
        got = resample(tone(0.5), RATE, rate)
        assert got.dtype == np.float32
        assert got.size == round(0.5 * rate)
        middle = slice(got.size // 4, -got.size // 4)
        np.testing.assert_allclose(got[middle], tone(0.5, rate=rate)[: got.size][middle], atol=1e-3)
    assert resample(tone(0), RATE, 8_000).size == 0


def test_levels() -> None:
    assert dbfs(0.0) == -np.inf
    assert [finite(dbfs(0.0)), finite(np.nan), finite(0.5)] == [None, None, 0.5]
    assert dbfs(0.1) == pytest.approx(-20)
    assert peak_dbfs(tone(1)) == pytest.approx(-6.02, abs=0.01)
    assert rms_dbfs(tone(1)) == pytest.approx(-9.03, abs=0.01)
    for silent in (np.zeros(0, np.float32), np.zeros(10, np.float32)):
        assert peak_dbfs(silent) == -np.inf
        assert rms_dbfs(silent) == -np.inf


@settings(deadline=None)
@given(st.integers(1, 20_000), st.floats(0.001, 1.5), st.floats(-40, 0))
def test_loudness_reaches_its_target_or_the_peak_limit(n: int, level: float, target: float) -> None:
    audio = tone(1.5, 1_000, level)[:n]
    got = normalise_loudness(audio, RATE, target)
    assert got.shape == audio.shape
    assert peak_dbfs(got) <= -1 + 1e-4
    if n < 100 or not audio.any():
        return
    again = normalise_loudness(got, RATE, target)
    np.testing.assert_allclose(again, got, rtol=2e-3, atol=1e-6)


def test_loudness_of_a_known_tone() -> None:
    """BS.1770: a full-scale 997 Hz sine in one channel measures -3.01 LUFS."""
    got = normalise_loudness(tone(3, 997, 0.9, 48_000), 48_000, -23.0)
    assert peak_dbfs(got) == pytest.approx(-20, abs=0.1)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("level", [1.0, 0.01, 1e-4])
@pytest.mark.usefixtures("instructions")
def test_loudness_is_pyloudnorms(
    rate: int, level: float, sample_clips: dict[str, NDArray[np.float32]]
) -> None:
    for audio in sample_clips.values():
        scaled = audio * np.float32(level)
        theirs = pyloudnorm.Meter(rate, block_size=BLOCK_S).integrated_loudness(scaled.astype(np.float64))
        np.testing.assert_allclose(integrated_loudness(scaled, rate), theirs, rtol=0, atol=1e-9)


def test_loudness_leaves_silence_alone() -> None:
    for audio in (np.zeros(RATE, np.float32), np.zeros(0, np.float32), tone(1, level=1e-6)):
        np.testing.assert_array_equal(normalise_loudness(audio, RATE, -20.0), audio)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_trim_keeps_the_sound_and_the_margin(rate: int) -> None:
    silence = 1e-4 * tone(1, rate=rate)
    sound = tone(0.5, rate=rate)
    got = trim_silence(np.concatenate([silence, sound, silence]), rate, 45.0, 0.1)
    assert got.size / rate == pytest.approx(0.7, abs=0.05)
    assert np.abs(got[: round(0.06 * rate)]).max() < 1e-3
    assert rms_dbfs(got) + 10 * np.log10(got.size) == pytest.approx(
        rms_dbfs(sound) + 10 * np.log10(sound.size), abs=0.01
    )


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 48_000])
@pytest.mark.parametrize("below_peak_db", [20.0, 45.0, 80.0])
def test_trim_is_librosas(
    rate: int, below_peak_db: float, sample_clips: dict[str, NDArray[np.float32]]
) -> None:
    frame = 1 << round(math.log2(0.032 * rate))
    for audio in sample_clips.values():
        padded = np.pad(audio, (3_001, 5_003))
        theirs, _ = librosa.effects.trim(
            padded, top_db=below_peak_db, frame_length=frame, hop_length=frame // 4
        )
        np.testing.assert_array_equal(trim_silence(padded, rate, below_peak_db, 0.0), theirs)


def test_trim_leaves_silence_and_sound_alone() -> None:
    for audio in (np.zeros(RATE, np.float32), np.zeros(0, np.float32), tone(1), tone(0.001)):
        np.testing.assert_array_equal(trim_silence(audio, RATE, 45.0, 0.0), audio)


@settings(deadline=None)
@given(st.binary(max_size=400), st.sampled_from([".wav", ".flac", ".ogg", ".mp3", ".aiff", ".m4a"]))
def test_random_bytes_never_crash(data: bytes, suffix: str) -> None:
    """Whatever a file holds, reading it gives audio or one of our errors."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("shutil.which", lambda _: None),
    ):
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(data)
        try:
            audio, rate = read_audio(path)
        except GruAudioError:
            return
        assert rate > 0
        assert np.isfinite(audio).all()


def test_a_flac_cut_anywhere_is_refused(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(encoded, noise, RATE, format="FLAC")
    data = encoded.getvalue()
    for share in (0.01, 0.3, 0.7, 0.99):
        (tmp_path / "a.flac").write_bytes(data[: int(share * len(data))])
        with pytest.raises(AudioError):
            read_audio(tmp_path / "a.flac")
