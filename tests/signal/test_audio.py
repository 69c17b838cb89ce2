"""Reading and writing audio files, and the measures of level."""

import io
import math
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

from gru_audio.errors import AudioError, GruAudioError
from gru_audio.signal.audio import (
    check_audio,
    dbfs,
    finite,
    normalise_loudness,
    peak_dbfs,
    resample,
    rms_dbfs,
    trim_silence,
)
from gru_audio.signal.audio_file.reading import read_audio
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


def test_check_audio_takes_floats_and_int16() -> None:
    np.testing.assert_array_equal(check_audio(np.array([0, -32_768, 16_384], np.int16)), [0, -1, 0.5])
    for kind in (np.float16, np.float32, np.float64):
        checked = check_audio(np.array([0.5, -0.25], kind))
        assert checked.dtype == np.float32
        np.testing.assert_array_equal(checked, [0.5, -0.25])
    assert check_audio([0.5, 0.25]).shape == (2,)
    assert check_audio(np.zeros(0)).shape == (0,)
    for stored, full_scale in ((">i2", 32_768), ("<i2", 32_768), (">f4", 1), (">f8", 1)):
        from_elsewhere = (np.array([-1, 0.5]) * full_scale).astype(stored)
        np.testing.assert_array_equal(check_audio(from_elsewhere), [-1, 0.5])


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
