"""The mel contract: against librosa's, torchaudio's and the presets' own formulas; refusals."""

from typing import Any, Literal

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.contracts import contracts
from support.loops import librosa

from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.errors import AudioError, MelError
from gru_audio.signal.mel import (
    analysis_window,
    check_mel,
    filterbank,
    from_linear,
    log_mel,
    pseudo_inverse,
    silent_frames,
    to_linear,
)

Floats = NDArray[np.float32]

FORMS = [
    {},
    {"spectrum": "power", "floor": 1e-10},
    {"mel_scale": "htk"},
    {"filter_norm": "none", "mel_scale": "htk", "log": "log10"},
    {"filter_norm": "none", "spectrum": "power", "log": "db", "floor": 1e-10},
    {"padding": "center", "n_fft": 2048, "f_min_hz": 60.0, "f_max_hz": 7600.0, "n_mels": 64},
    {"sample_rate_hz": 48_000, "n_fft": 2048, "window_samples": 1201, "hop_samples": 480, "f_max_hz": 2e4},
    {
        "sample_rate_hz": 8_000,
        "n_fft": 256,
        "window_samples": 200,
        "hop_samples": 80,
        "f_max_hz": 4e3,
        "n_mels": 32,
    },
    {"log": "db", "scale": 0.0125, "offset": 1.0, "preemphasis": 0.97},
]


def name_of(form: dict[str, Any]) -> str:
    return "-".join(str(value) for value in form.values()) or "default"


def librosas_linear_mel(audio: Floats, config: MelConfig) -> NDArray[np.float64]:
    """(F, M) before the logarithm, by librosa in double precision."""
    samples = audio.astype(np.float64)
    if config.preemphasis:
        samples = librosa.effects.preemphasis(samples, coef=config.preemphasis, zi=[0.0])
    if config.padding == "same":
        samples = np.pad(samples, (config.n_fft - config.hop_samples) // 2, mode="reflect")
    spectrum = librosa.stft(
        samples,
        n_fft=config.n_fft,
        hop_length=config.hop_samples,
        win_length=config.window_samples,
        center=config.padding == "center",
        pad_mode="reflect",
    )
    filters = librosa.filters.mel(
        sr=config.sample_rate_hz,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.f_min_hz,
        fmax=config.f_max_hz,
        htk=config.mel_scale == "htk",
        norm="slaney" if config.filter_norm == "slaney" else None,
        dtype=np.float64,
    )
    magnitude = np.abs(spectrum)
    return np.asarray((filters @ (magnitude**2 if config.spectrum == "power" else magnitude)).T)


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_mel_is_librosas(form: dict[str, Any], speech: Floats) -> None:
    config = MelConfig(**form)
    theirs = librosas_linear_mel(speech, config)
    ours = log_mel(speech, config)

    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    floored = np.maximum(theirs, config.floor)
    logarithm = {
        "ln": np.log(floored),
        "log10": np.log10(floored),
        "db": (10 if config.spectrum == "power" else 20) * np.log10(floored),
    }[config.log]
    unit = {"ln": 1.0, "log10": np.log10(np.e), "db": 20 * np.log10(np.e)}[config.log] * config.scale
    # float32 against double, in nepers; measured: 2e-4 at most, in bands next to the floor.
    np.testing.assert_allclose(ours, config.scale * logarithm + config.offset, rtol=0, atol=1e-3 * unit)


@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_filterbank_is_librosas(form: dict[str, Any]) -> None:
    config = MelConfig(**form)
    theirs = librosa.filters.mel(
        sr=config.sample_rate_hz,
        n_fft=config.n_fft,
        n_mels=config.n_mels,
        fmin=config.f_min_hz,
        fmax=config.f_max_hz,
        htk=config.mel_scale == "htk",
        norm="slaney" if config.filter_norm == "slaney" else None,
    )

    np.testing.assert_allclose(filterbank(config), theirs, rtol=0, atol=1e-6 * theirs.max())
    window = librosa.util.pad_center(
        librosa.filters.get_window("hann", config.window_samples), size=config.n_fft
    )
    np.testing.assert_allclose(analysis_window(config), window, rtol=0, atol=1e-7)


@pytest.mark.parametrize("preset", sorted(MEL_PRESETS))
@pytest.mark.parametrize("spectrum", ["magnitude", "power"])
def test_presets_are_torchaudios_melspectrogram(preset: str, spectrum: str, speech: Floats) -> None:
    config = MelConfig(**{**MEL_PRESETS[preset].model_dump(), "spectrum": spectrum, "floor": 1e-10})
    audio = torch.from_numpy(speech).double()
    if config.preemphasis:
        audio = torchaudio.functional.preemphasis(audio, config.preemphasis)
    if config.padding == "same":
        pad = (config.n_fft - config.hop_samples) // 2
        audio = torch.nn.functional.pad(audio[None], (pad, pad), mode="reflect")[0]
    theirs = torchaudio.transforms.MelSpectrogram(
        sample_rate=config.sample_rate_hz,
        n_fft=config.n_fft,
        win_length=config.window_samples,
        hop_length=config.hop_samples,
        f_min=config.f_min_hz,
        f_max=config.f_max_hz,
        n_mels=config.n_mels,
        power=1.0 if spectrum == "magnitude" else 2.0,
        center=config.padding == "center",
        norm="slaney" if config.filter_norm == "slaney" else None,
        mel_scale=config.mel_scale,
    ).double()(audio)

    ours = to_linear(log_mel(speech, config), config)
    np.testing.assert_allclose(ours, theirs.numpy().T, rtol=2e-3, atol=1e-7)


def test_hifigan_preset_is_hifigans_formula(speech: Floats) -> None:
    """Source: Kong et al., HiFi-GAN (2020), meldataset.py, with its published 22 kHz settings."""
    n_fft, hop = 1024, 256
    audio = torch.nn.functional.pad(torch.from_numpy(speech)[None], (384, 384), mode="reflect")
    window = torch.hann_window(1024)
    spectrum = torch.stft(audio, n_fft, hop, 1024, window, center=False, return_complex=True)
    magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
    filters = torch.from_numpy(librosa.filters.mel(sr=22_050, n_fft=n_fft, n_mels=80, fmin=0, fmax=8000))
    theirs = torch.log(torch.clamp(filters @ magnitude, min=1e-5))[0].T.numpy()

    ours = log_mel(speech, MEL_PRESETS["hifigan-22k"])

    assert ours.shape == theirs.shape == (len(speech) // hop, 80)
    # The 1e-9 that HiFi-GAN adds under the root lifts digital silence alone.
    audible = theirs > np.log(1e-3)
    np.testing.assert_allclose(ours[audible], theirs[audible], rtol=0, atol=2e-3)
    assert audible.mean() > 0.8


def test_tacotron2_preset_is_tacotrons_formula(speech: Floats) -> None:
    """Source: NVIDIA's Tacotron 2, stft.py: the STFT as a convolution with windowed cosines and sines."""
    n = np.arange(1024)
    basis = np.exp(-2j * np.pi * np.outer(np.arange(513), n) / 1024) * (
        0.5 - 0.5 * np.cos(2 * np.pi * n / 1024)
    )
    padded = np.pad(speech.astype(np.float64), 512, mode="reflect")
    frames = librosa.util.frame(padded, frame_length=1024, hop_length=256)
    filters = librosa.filters.mel(sr=22_050, n_fft=1024, n_mels=80, fmin=0.0, fmax=8000.0)
    theirs = np.log(np.maximum(filters @ np.abs(basis @ frames), 1e-5)).T

    ours = log_mel(speech, MEL_PRESETS["tacotron2-22k"])

    assert ours.shape == theirs.shape == (1 + len(speech) // 256, 80)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)


def test_univoc_preset_is_universal_vocodings_formula(speech: Floats) -> None:
    """Source: B. van Niekerk's UniversalVocoding 0.1, utils.py and config.json (decibels from -100 on)."""
    emphasised = librosa.effects.preemphasis(speech, coef=0.97, zi=[0.0])
    magnitude = np.abs(
        librosa.stft(emphasised, n_fft=2048, hop_length=200, win_length=800, pad_mode="reflect")
    )
    linear = librosa.filters.mel(sr=16_000, n_fft=2048, n_mels=80, fmin=50) @ magnitude
    theirs = np.clip((librosa.amplitude_to_db(linear, ref=1.0, amin=1e-5, top_db=None) + 100) / 100, 0, 1)

    ours = log_mel(speech, MEL_PRESETS["univoc-16k"])

    assert ours.shape == theirs.T.shape
    np.testing.assert_allclose(np.minimum(ours, 1), theirs.T, rtol=0, atol=1e-4)
    assert (ours > 1).mean() < 0.01


@pytest.mark.parametrize("numbers", [np.float32, np.float64])
@pytest.mark.parametrize("preset", MEL_PRESETS)
def test_no_bin_takes_a_band_many_times_over(preset: str, numbers: type) -> None:
    """Two of Whisper's filters are the same up to rounding, of which the inverse makes millions."""
    filters: NDArray[Any] = filterbank(MEL_PRESETS[preset]).astype(numbers)
    found = pseudo_inverse(filters)
    assert found.dtype == numbers
    assert np.abs(found).max() * np.abs(filters).max() < 10
    np.testing.assert_allclose(filters @ found @ filters, filters, atol=1e-4 * filters.max())


# Frames and edges


@given(
    n_samples=st.integers(0, 3_000),
    hop=st.sampled_from([80, 200, 256]),
    padding=st.sampled_from(["same", "center"]),
)
@settings(max_examples=60)
def test_frame_count(n_samples: int, hop: int, padding: Any) -> None:
    config = MelConfig(hop_samples=hop, padding=padding)
    mel = log_mel(np.full(n_samples, 0.1), config)

    expected = n_samples // hop if padding == "same" else 1 + n_samples // hop
    assert mel.shape == (expected if n_samples else 0, 80)
    assert np.isfinite(mel).all()


@pytest.mark.parametrize("padding", ["same", "center"])
@pytest.mark.parametrize("position", [1_000, 1_099, 1_100, 1_101, 1_199, 1_250])
def test_a_click_is_loudest_in_the_frame_that_stands_for_its_sample(padding: Any, position: int) -> None:
    config = MelConfig(padding=padding)
    audio = np.zeros(3_000, np.float32)
    audio[position] = 1.0

    loudness = to_linear(log_mel(audio, config), config).sum(1)

    frame = (position + config.lead_samples) // config.hop_samples
    assert loudness[frame] >= loudness.max() * (1 - 1e-6)  # halfway between frames two are equally loud


@pytest.mark.parametrize("n_fft", [64, 66, 90, 100, 166, 254, 486, 512, 1000, 2046, 2048, 2310, 16_384])
@pytest.mark.parametrize("spectrum", ["magnitude", "power"])
@pytest.mark.usefixtures("instructions")
def test_transforms_of_any_even_size(n_fft: int, spectrum: Literal["magnitude", "power"]) -> None:
    """Factors 2 to 5, other primes, and none but one."""
    config = MelConfig(n_fft=n_fft, window_samples=60, hop_samples=20, n_mels=8, spectrum=spectrum)
    audio = np.random.default_rng(0).uniform(-1, 1, 220).astype(np.float32)
    padded = np.pad(audio, (n_fft - 20) // 2, mode="reflect").astype(np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::20] * analysis_window(config)
    size = np.abs(np.fft.rfft(frames, axis=1)) ** (2 if spectrum == "power" else 1)
    linear = size @ filterbank(config).astype(np.float64).T
    np.testing.assert_allclose(to_linear(log_mel(audio, config), config), linear, rtol=2e-5)


@pytest.mark.parametrize("preset", sorted(MEL_PRESETS))
def test_silence_is_the_floor(preset: str) -> None:
    config = MEL_PRESETS[preset]
    mel = log_mel(np.zeros(2_048), config)

    np.testing.assert_array_equal(mel, silent_frames(len(mel), config))
    np.testing.assert_allclose(to_linear(mel, config), config.floor, rtol=1e-5)


@pytest.mark.parametrize("n_samples", [1, 2, 199, 200, 411, 412, 413, 1_023])
@pytest.mark.parametrize("padding", ["same", "center"])
def test_a_clip_shorter_than_a_window_is_mirrored_until_it_fills_it(n_samples: int, padding: Any) -> None:
    config = MelConfig(padding=padding)
    audio = np.random.default_rng(n_samples).uniform(-1, 1, n_samples).astype(np.float32)
    period = np.concatenate([audio, audio[-2:0:-1]])  # what reflection at both ends repeats
    starts = range(-512, n_samples - 511, 200) if padding == "center" else range(-412, n_samples - 611, 200)
    frames = [period[np.arange(start, start + 1024) % len(period)] for start in starts]

    mel = log_mel(audio, config)

    assert len(mel) == len(frames)
    if frames:
        spectrum = np.abs(np.fft.rfft(np.array(frames) * analysis_window(config).astype(np.float64)))
        np.testing.assert_allclose(
            to_linear(mel, config), spectrum @ filterbank(config).T, rtol=1e-3, atol=1e-5
        )


def test_full_scale_is_finite_and_not_cut() -> None:
    square = np.sign(np.sin(2 * np.pi * 440 * np.arange(4_000) / 16_000))
    config = MelConfig()
    loud, quiet = (to_linear(log_mel(level * square, config), config) for level in (1.0, 0.5))

    np.testing.assert_allclose(loud, 2 * quiet, rtol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_audio_that_is_not_finite_is_refused(bad: float) -> None:
    audio = np.zeros(2_000)
    audio[17] = bad
    with pytest.raises(AudioError, match="NaN or infinite"):
        log_mel(audio, MelConfig())


def test_stereo_is_refused() -> None:
    with pytest.raises(AudioError, match=r"shape \(2, 500\).*one channel"):
        log_mel(np.zeros((2, 500)), MelConfig())


# Stored values


def test_decibels_of_a_power_are_those_of_its_root() -> None:
    magnitude, power = MelConfig(log="db"), MelConfig(log="db", spectrum="power", floor=1e-10)
    linear = np.full((1, 80), 0.01, np.float32)

    np.testing.assert_allclose(from_linear(linear, magnitude), -40.0, rtol=1e-6)
    np.testing.assert_allclose(from_linear(linear**2, power), -40.0, rtol=1e-6)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32), contracts)
@example(3.4e38, MelConfig(scale=0.0125))
@example(-3.4e38, MelConfig(scale=0.0125))
def test_any_stored_number_has_a_finite_linear_value(value: float, config: MelConfig) -> None:
    linear = to_linear(np.full((2, 80), value, np.float32), config)

    assert np.isfinite(linear).all()
    assert (linear >= np.float32(config.floor)).all()


# Shapes


def test_check_mel_turns_what_it_can() -> None:
    mel = np.arange(240.0).reshape(3, 80)
    config = MelConfig()

    for given_shape in (mel, mel[None], mel.T, mel.T[None], np.asfortranarray(mel), mel.astype(np.int64)):
        checked = check_mel(given_shape, config)
        np.testing.assert_array_equal(checked, mel)
        assert checked.dtype == np.float32
        assert checked.flags.c_contiguous
    square = np.arange(6400.0).reshape(80, 80)
    np.testing.assert_array_equal(check_mel(square, config), square)
    assert check_mel(np.zeros((0, 80)), config).shape == (0, 80)
    assert check_mel(mel.tolist(), config).shape == (3, 80)
    assert check_mel(mel.astype(np.float16), config).dtype == np.float32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(80), r"x: shape \(80,\), a mel is \(n_frames, 80\)"),
        (np.zeros((2, 3, 80)), r"x: shape \(2, 3, 80\), a mel is"),
        (np.zeros((3, 64)), r"x: shape \(3, 64\) has no axis of 80 bands"),
        ([[0.0] * 80, [0.0] * 79], "x: no array .*; a mel is"),
        (np.zeros((3, 80), complex), "x: holds complex128, a mel holds real numbers"),
        (np.zeros((3, 80), bool), "x: holds bool"),
        (np.array(["a"]), "x: holds <U1"),
        (np.full((3, 80), 1e300), "x: 3 (of 3 )?frames have NaN or infinite values, the first is frame 0"),
    ],
)
def test_check_mel_refuses_the_rest(values: Any, message: str) -> None:
    with pytest.raises(MelError, match=message):
        check_mel(values, MelConfig(), "x")


def test_check_mel_finds_nan() -> None:
    mel = np.zeros((9, 80))
    mel[4, 3], mel[7, 0] = np.nan, np.inf
    with pytest.raises(
        MelError, match=r"mel: 2 (of 9 )?frames have NaN or infinite values, the first is frame 4"
    ):
        check_mel(mel, MelConfig())
