"""The check of given mels: what is stored in another way is told by name; speech, whispers, music and silence pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gru_audio.config import MEL_PRESETS, SignalConfig
from gru_audio.errors import MelError
from gru_audio.signal.lpc import linear_prediction
from gru_audio.signal.mel import log_mel, silent_frames
from gru_audio.signal.mel_adapt.conversion import convert_mel
from gru_audio.signal.mel_check.judge import MelJudge, MelWatch
from gru_audio.voice.bundled import DEFAULT_VOICE, voice_path
from gru_audio.voice.voice import load_voice

Floats = NDArray[np.float32]
VOICE = load_voice(voice_path(DEFAULT_VOICE))
CONTRACT = VOICE.config.mel
JUDGE = MelJudge(CONTRACT, VOICE.tensors["mel_mean"], VOICE.tensors["mel_std"])
LN10 = float(np.log(10))
DB = 20 / LN10

STORED: dict[str, tuple[Callable[[Floats], Floats], str]] = {
    "log10": (lambda mel: mel / LN10, "looks like log10, .*; add --mel log=log10, or --force"),
    "decibels": (lambda mel: mel * DB, "looks like decibels, .*; add --mel log=db, or"),
    "under the loudest": (lambda mel: np.maximum((mel - mel.max()) * DB, -80), "looks like decibels, "),
    "above 100": (lambda mel: mel * DB + 100, r"looks like decibels with 100 added, .*log=db,offset=100, or"),
    "to 1": (
        lambda mel: np.clip((mel * DB + 100) / 100, 0, 1),
        r"looks like decibels mapped to \[0, 1\], .*--mel log=db,scale=0.01,offset=1, or",
    ),
    "to 4": (
        lambda mel: np.clip(mel * DB * 0.08 + 2.4, -4, 4),
        r"looks like decibels mapped to \[-4, 4\], .*--mel log=db,scale=0.08,offset=2.4, or",
    ),
    "whisper": (
        lambda mel: (np.maximum(2 * mel / LN10, 2 * mel.max() / LN10 - 8) + 4) / 4,
        "looks like log10 of powers as Whisper maps it",
    ),
    "16 bits": (
        lambda mel: mel + np.float32(np.log(32768)),
        r"looks like made from samples as 16-bit integers.*--mel offset=10\.3972, or",
    ),
    "magnitude": (np.exp, "looks like sizes without a logarithm, .*; take their logarithm first, or"),
    "power": (lambda mel: np.exp(2 * mel), "looks like sizes without a logarithm|cannot be speech"),
    "log of powers": (
        lambda mel: np.maximum(2 * mel, -23),
        "looks like logarithms of powers, .*--mel scale=2, or",
    ),
    "reversed": (
        lambda mel: mel[:, ::-1],
        r"looks like bands from the highest to the lowest; turn them round .*, or add --force",
    ),
    "transposed": (
        lambda mel: mel.T.copy().reshape(mel.shape),
        r"looks like bands x frames, not like frames x bands; transpose it .*, or add --force",
    ),
    "transposed decibels": (
        lambda mel: (mel.T.copy() * DB).reshape(mel.shape),
        "looks like bands x frames, not like frames x bands",
    ),
    "normalised": (lambda mel: (mel - mel.mean(0)) / (mel.std(0) + 0.1), "bands brought to mean 0"),
    "zeros": (np.zeros_like, "cannot be speech .*: it is louder and more even than any speech"),
}


def speech_mels(sample_clips: dict[str, Floats]) -> list[Floats]:
    return [log_mel(audio, CONTRACT) for audio in sample_clips.values()]


def watched(mel: Floats, n_frames: int) -> None:
    watch = MelWatch(JUDGE)
    for first in range(0, len(mel), n_frames):
        watch.push(mel[first : first + n_frames])


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_in_another_way_is_named(name: str, sample_clips: dict[str, Floats]) -> None:
    change, message = STORED[name]
    for mel in speech_mels(sample_clips):
        other = np.asarray(change(mel), np.float32)
        with pytest.raises(MelError, match=f"^a.npy: .*{message}") as error:
            JUDGE.require(other, "a.npy")
        assert "\n" not in str(error.value)
        with pytest.raises(MelError, match=r"^mel up to frame "):
            watched(other, 4)


def test_what_is_told_to_add_mends_it(sample_clips: dict[str, Floats]) -> None:
    (mel, *_) = speech_mels(sample_clips)
    contract = CONTRACT.model_copy(update={"log": "db", "scale": 0.01, "offset": 1.0})
    stored = convert_mel(mel, CONTRACT, contract)
    with pytest.raises(MelError, match=r"log=db,scale=0\.01,offset=1"):
        JUDGE.require(stored)
    np.testing.assert_allclose(convert_mel(stored, contract, CONTRACT), mel, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "tools"),
    [
        ("log10", "espnet-24k"),
        ("to 1", "univoc-16k or wavernn-22k"),
        ("to 4", "coqui-22k"),
        ("whisper", "whisper-16k"),
        ("decibels", ""),
        ("16 bits", ""),
    ],
)
def test_tools_that_store_so_are_named(name: str, tools: str, sample_clips: dict[str, Floats]) -> None:
    """The check cannot tell another rate or hop: with the storage alone such a mel would be spoken too slowly."""
    change, _ = STORED[name]
    (mel, *_) = speech_mels(sample_clips)
    with pytest.raises(MelError) as error:
        JUDGE.require(np.asarray(change(mel), np.float32))
    _, _, told = str(error.value).partition("check=False)")
    assert told == (f"; for a mel of {tools} add that --mel and --adapt instead" if tools else "")


def test_a_voice_with_another_contract(sample_clips: dict[str, Floats]) -> None:
    """The figures are in units of the voice's own bands, so that they serve every way of storing."""
    wanted = MEL_PRESETS["univoc-16k"]
    mels = [log_mel(audio, wanted) for audio in sample_clips.values()]
    judge = MelJudge(wanted, np.concatenate(mels).mean(0), np.concatenate(mels).std(0))
    natural = wanted.model_copy(update={"log": "ln", "scale": 1.0, "offset": 0.0})
    told = []
    for mel in mels:
        judge.require(mel)
        with pytest.raises(MelError) as error:
            judge.require(convert_mel(mel, wanted, natural))
        told.append(str(error.value))
    named = [one for one in told if "looks like natural logarithms" in one]
    assert len(named) >= 9
    assert "add --mel log=ln,scale=1,offset=0, or" in named[0]


@pytest.mark.parametrize("gain", [0.003, 0.1, 1.0, 4.0])
def test_speech_soft_and_loud_passes(gain: float, sample_clips: dict[str, Floats]) -> None:
    for audio in sample_clips.values():
        loud = np.clip(audio * np.float32(gain / np.abs(audio).max()), -1, 1)
        mel = log_mel(loud, CONTRACT)
        JUDGE.require(mel)
        for n_frames in (1, 16):
            watched(mel, n_frames)


def whisper(speech: Floats) -> Floats:
    """Speech's envelope around noise."""
    mel, rng = log_mel(speech, CONTRACT), np.random.default_rng(0)
    coefficients, error, _ = linear_prediction(mel, CONTRACT, SignalConfig())
    made = np.zeros(len(mel) * 200 + 16)
    for t in range(len(mel) * 200):
        made[16 + t] = coefficients[t // 200] @ made[t : t + 16][::-1] + error[t // 200] * rng.normal()
    return np.asarray(0.3 * made[16:], np.float32)


def music(n_samples: int) -> Floats:
    """Chords that are struck and die away, over a beat of noise."""
    rng, t, made = np.random.default_rng(1), np.arange(n_samples) / 16_000, np.zeros(n_samples)
    for start in range(0, n_samples, 4000):
        since = t[: n_samples - start]
        for pitch_hz in rng.choice([110, 130.8, 164.8, 220, 261.6, 329.6, 440], 3):
            chord = sum(np.sin(2 * np.pi * pitch_hz * k * since) / k for k in range(1, 8))
            made[start:] += 0.05 * np.exp(-2 * since) * chord
        made[start : start + 1500] += 0.1 * rng.normal(size=made[start : start + 1500].size)
    return np.asarray(made / np.abs(made).max(), np.float32)


def of_bands(audio: NDArray[Any], low_hz: float, high_hz: float) -> NDArray[np.float64]:
    """Audio without what lies outside these frequencies."""
    spectrum, frequencies = np.fft.rfft(audio), np.fft.rfftfreq(audio.size, 1 / 16_000)
    inside = (frequencies >= low_hz) & (frequencies <= high_hz)
    return np.fft.irfft(spectrum * inside, audio.size)


def test_what_is_no_speech_but_audio_passes(speech: Floats) -> None:
    rng = np.random.default_rng(0)
    noise, beat = rng.normal(size=32_000), np.arange(32_000) % 2000 < 700
    heard = {
        "whisper": whisper(speech),
        "music": music(48_000),
        "squashed music": np.tanh(8 * music(48_000)),
        "noise": 0.1 * noise,
        "soft noise": 0.001 * noise,
        "silence": np.zeros(32_000),
        "tone": 0.9 * np.sin(np.arange(32_000) * 0.1),
        "a click": np.eye(1, 32_000, 9_000)[0],
        "beeps": 0.5 * np.sin(np.arange(32_000) * 0.4) * beat,
        "beats of noise": 0.1 * noise * beat + 0.001 * noise,
        "beats of a telephone's bands": 0.3 * of_bands(noise, 300, 3400) * beat + 0.001 * noise,
        "speech twice differentiated": 2 * np.diff(speech, 2),
        "speech without its low bands": of_bands(speech, 2000, 8000),
        "speech whose spectrum is turned round": speech * np.cos(np.pi * np.arange(speech.size)),
    }
    for name, audio in heard.items():
        mel = log_mel(audio.astype(np.float32), CONTRACT)
        JUDGE.require(mel, name)
        watched(mel, 4)


def test_mels_too_short_to_tell(speech: Floats) -> None:
    JUDGE.require(np.zeros((0, 80), np.float32))
    JUDGE.require(silent_frames(1, CONTRACT))
    JUDGE.require(log_mel(speech, CONTRACT)[100:101] / LN10)


@pytest.mark.parametrize(
    ("value", "told"), [(60.0, "frame 12 is"), (3e38, "frame 12 is"), (9.0, "frame 12 is")]
)
def test_one_value_far_too_loud_names_its_frame(value: float, told: str, speech: Floats) -> None:
    mel = log_mel(speech, CONTRACT)
    mel[12, 30] = value
    with pytest.raises(
        MelError, match=f"cannot be speech under .* contract: {told} [0-9]+ dB over full scale"
    ):
        JUDGE.require(mel)
    with pytest.raises(MelError, match="mel up to frame 12: "):
        watched(mel, 1)
