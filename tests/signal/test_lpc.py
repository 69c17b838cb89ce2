"""Linear prediction from the mel: against scipy, librosa and a known filter; stability; levels on real speech."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from support.loops import librosa

from gru_audio.config import MEL_PRESETS, MelConfig, SignalConfig
from gru_audio.native import library
from gru_audio.signal.lpc import frame_filters, linear_prediction
from gru_audio.signal.mel import analysis_window, filterbank, from_linear, log_mel, silent_frames, to_linear
from gru_audio.signal.mel_adapt.conversion import convert_mel

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
LANES = 8  # frames that native/signal/lpc.c takes side by side


def levinson_durbin(autocorrelation: Doubles) -> tuple[Doubles, Doubles]:
    """The C core's solution of each row's normal equations (F, P + 1): predictions (F, P) and error energies (F,)."""
    solve = library.function(
        "gru_levinson_durbin", [library.Doubles, library.Int, library.Doubles, library.Doubles]
    )
    n_frames, width = autocorrelation.shape
    coefficients, error = np.empty((n_frames, width - 1)), np.empty(n_frames)
    lanes, solved, previous = np.zeros((width, LANES)), np.empty((width, LANES)), np.empty((width, LANES))
    lanes[0] = 1.0  # what stands in lanes without a frame must be an autocorrelation too
    for first in range(0, n_frames, LANES):
        some = slice(first, min(first + LANES, n_frames))
        n_some = some.stop - first
        lanes[:, :n_some] = autocorrelation[some].T
        solve(lanes, width - 1, solved, previous)
        coefficients[some], error[some] = solved[:-1, :n_some].T, solved[-1, :n_some]
    return coefficients, error


CONTRACTS = [
    MelConfig(),
    MelConfig(spectrum="power", floor=1e-10),
    MEL_PRESETS["univoc-16k"],
    MEL_PRESETS["hifigan-22k"],
    MelConfig(sample_rate_hz=48_000, n_fft=2048, window_samples=2048, hop_samples=480, f_max_hz=24_000.0),
    MelConfig(
        sample_rate_hz=8_000, n_fft=256, window_samples=256, hop_samples=80, f_max_hz=3_800.0, n_mels=20
    ),
]


def coloured_noise(zeros_of: list[complex], n_samples: int = 80_000) -> tuple[Floats, Doubles]:
    """White noise of RMS 0.01 through an all-pole filter, and the filter's denominator."""
    denominator = np.real(np.poly(zeros_of + [np.conj(zero) for zero in zeros_of]))
    noise = 0.01 * np.random.default_rng(0).standard_normal(n_samples)
    return scipy.signal.lfilter([1.0], denominator, noise).astype(np.float32), denominator


FORMANTS = [0.95 * np.exp(0.3j), 0.9 * np.exp(1.2j), 0.85 * np.exp(2.2j)]


def response_db(denominator: Doubles) -> Doubles:
    _, response = scipy.signal.freqz([1.0], denominator, np.linspace(0, np.pi, 400))
    return np.asarray(20 * np.log10(np.abs(response)))


def excitation_of(signal: Doubles, coefficients: Doubles, hop: int) -> Doubles:
    """What the frames' predictors leave of a signal (T,) with its own clean past."""
    order = coefficients.shape[1]
    padded = np.concatenate([np.zeros(order), signal])
    pasts = np.lib.stride_tricks.sliding_window_view(padded, order)[: len(signal), ::-1]
    return np.asarray(signal - (pasts * np.repeat(coefficients, hop, axis=0)).sum(1))


# Levinson and Durbin's recursion


@given(
    signals=hnp.arrays(np.float64, (3, 64), elements=st.floats(-1, 1)),
    order=st.integers(1, 32),
)
def test_levinson_durbin_solves_the_normal_equations(signals: Doubles, order: int) -> None:
    rows = np.array([np.correlate(x, x, "full")[63 : 64 + order] for x in signals])
    rows[:, 0] = rows[:, 0] * 1.001 + 1e-6

    coefficients, error = levinson_durbin(rows)

    for row, ours, left in zip(rows, coefficients, error, strict=True):
        theirs = scipy.linalg.solve_toeplitz(row[:-1], row[1:])
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(left, row[0] - theirs @ row[1:], rtol=1e-6)


def test_levinson_durbin_on_memory_in_any_order() -> None:
    rows = 0.9 ** np.arange(5.0) * np.ones((4, 1))
    np.testing.assert_allclose(levinson_durbin(np.asfortranarray(rows))[0], [[0.9, 0, 0, 0]] * 4, atol=1e-12)


def test_levinson_durbin_on_a_white_signal_predicts_nothing() -> None:
    coefficients, error = levinson_durbin(np.array([[2.0, 0, 0, 0]]))
    np.testing.assert_array_equal(coefficients, np.zeros((1, 3)))
    np.testing.assert_array_equal(error, [2.0])


# The predictor against the filter that coloured the signal


@pytest.mark.parametrize(("order", "rms_db", "worst_db"), [(6, 0.4, 0.8), (16, 0.7, 2.5)])
def test_the_mel_tells_the_filter_that_coloured_a_signal(order: int, rms_db: float, worst_db: float) -> None:
    # Measured: order 6 0.15 dB RMS and 0.50 at most; order 16 0.36 and 1.38; librosa.lpc, from the signal
    # itself, 0.06 and 0.14.
    signal, denominator = coloured_noise(FORMANTS)
    config = SignalConfig(preemphasis=0.0, lpc_order=order)
    mel_config = MelConfig()
    linear = to_linear(log_mel(signal, mel_config), mel_config)
    mean_mel = from_linear(np.sqrt((linear**2).mean(0, keepdims=True)), mel_config)
    coefficients, error_rms, signal_rms = linear_prediction(mean_mel, mel_config, config)

    from_mel = response_db(np.concatenate([[1.0], -coefficients[0]]))
    from_signal = response_db(librosa.lpc(signal.astype(np.float64), order=order))
    for difference in (from_mel - response_db(denominator), from_mel - from_signal):
        assert np.sqrt((difference**2).mean()) < rms_db
        assert np.abs(difference).max() < worst_db
    # Measured 0.0091 and 0.945: a mel of magnitudes undershoots the RMS of noise.
    assert error_rms[0] == pytest.approx(0.01, rel=0.15)
    assert signal_rms[0] == pytest.approx(signal.std(), rel=0.1)


def test_pre_emphasis_moves_from_the_signal_into_the_spectrum() -> None:
    """The predictor of the pre-emphasised signal, from the plain signal's mel."""
    signal, _ = coloured_noise(FORMANTS)
    emphasised = np.append(signal[:1], signal[1:] - np.float32(0.85) * signal[:-1])
    mel_config = MelConfig()
    ours, error_rms, _ = linear_prediction(
        log_mel(signal, mel_config), mel_config, SignalConfig(preemphasis=0.85)
    )
    theirs, their_rms, _ = linear_prediction(
        log_mel(emphasised, mel_config), mel_config, SignalConfig(preemphasis=0.0)
    )

    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.15)
    np.testing.assert_allclose(error_rms, their_rms, rtol=0.05)


@pytest.mark.parametrize("changes", [{"spectrum": "power", "floor": 1e-10}, {"preemphasis": 0.97}])
def test_every_contract_leads_to_the_same_predictor(changes: dict[str, Any], speech: Floats) -> None:
    plain, other = MelConfig(), MelConfig(**changes)
    signal_config = SignalConfig()
    ours = linear_prediction(log_mel(speech, plain), plain, signal_config)
    theirs = linear_prediction(log_mel(speech, other), other, signal_config)

    loud = ours[2] > 0.01
    for mine, others in zip(ours[1:], theirs[1:], strict=True):  # levels; measured 1.1 dB at most
        assert np.abs(20 * np.log10(mine[loud] / others[loud])).max() < 2.0


@pytest.mark.parametrize(
    "mel_config",
    [
        MelConfig(f_max_hz=4_000.0),
        MelConfig(f_min_hz=300.0),
        MEL_PRESETS["hifigan-22k"],  # 3 kHz above f_max
    ],
)
def test_what_no_filter_covers_is_taken_to_be_as_loud_as_its_neighbours(mel_config: MelConfig) -> None:
    """A hole there would be a predictor of a smooth signal, which white noise is not."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(40_000)).astype(np.float32)
    mel = log_mel(noise, mel_config)
    coefficients, error_rms, signal_rms = linear_prediction(mel, mel_config, SignalConfig(preemphasis=0.0))
    hop = mel_config.hop_samples
    excitation = excitation_of(noise[: len(mel) * hop].astype(np.float64), coefficients, hop)

    # Measured within 10 %. When the level was that of the last bin a filter reaches, for HiFi-GAN's contract
    # the excitation was 4.7 times as loud as the noise and 12 times as loud as expected.
    assert excitation.std() == pytest.approx(noise.std(), rel=0.1)
    assert np.sqrt(((excitation / np.repeat(error_rms, hop)) ** 2).mean()) == pytest.approx(1.0, abs=0.15)
    assert np.median(signal_rms) == pytest.approx(noise.std(), rel=0.1)


def test_a_mel_in_another_log_gives_the_same_predictor(speech: Floats) -> None:
    plain, decibels = MelConfig(), MelConfig(log="db", scale=0.01, offset=1.0)
    mel = log_mel(speech, plain)
    ours = linear_prediction(mel, plain, SignalConfig())
    theirs = linear_prediction(convert_mel(mel, plain, decibels), decibels, SignalConfig())

    for mine, others in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, others, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_spectrum_is_the_filterbanks_pseudo_inverse_of_the_mel(contract: MelConfig) -> None:
    """The signal's level against the whole dense inverse; without emphasis it is the power's sum."""
    filters = filterbank(contract).astype(np.float64)
    mel = np.random.default_rng(0).uniform(-4, 2, (11, contract.n_mels)).astype(np.float32)
    _, _, signal_rms = linear_prediction(mel, contract, SignalConfig(preemphasis=contract.preemphasis))

    spectrum = to_linear(mel, contract).astype(np.float64) @ np.linalg.pinv(filters).T  # (F, K)
    covered = np.flatnonzero(filters.any(axis=0))
    middles = filters.argmax(axis=1)
    outside = np.clip(np.arange(filters.shape[1]), middles[0], middles[-1])
    nearest = np.where(np.isin(np.arange(filters.shape[1]), covered), np.arange(filters.shape[1]), outside)
    floored = np.maximum(spectrum, 1e-14 if contract.spectrum == "power" else 1e-7)[:, nearest]
    power = floored if contract.spectrum == "power" else floored**2
    total = (2 * power.sum(1) - power[:, 0] - power[:, -1]) / contract.n_fft
    energy = np.sum(analysis_window(contract).astype(np.float64) ** 2)
    np.testing.assert_allclose(signal_rms, np.sqrt((total * (1 + 1e-4) + 1e-9) / energy), rtol=1e-6)


def test_filters_that_are_the_same_up_to_rounding_count_as_one(speech: Floats) -> None:
    """Two of Whisper's are: what a mel's noise makes them differ by was taken ten million times as large."""
    contract = MEL_PRESETS["whisper-16k"]
    mel = log_mel(speech, contract)
    noisy = mel + np.random.default_rng(0).normal(0, 1e-3, mel.shape).astype(np.float32)
    levels = [linear_prediction(frames, contract, SignalConfig())[2] for frames in (mel, noisy)]
    np.testing.assert_allclose(levels[1], levels[0], rtol=0.05)


# Stability


mel_values = st.one_of(
    st.floats(-12, 3, width=32),
    st.sampled_from([-1e30, -100.0, -11.5, 0.0, 20.0, 60.0, 1e30]).map(
        lambda value: float(np.float32(value))
    ),
)


@pytest.mark.slow
@given(
    contract=st.sampled_from(CONTRACTS),
    order=st.sampled_from([1, 2, 16, 32]),
    preemphasis=st.sampled_from([0.0, 0.85, 0.99]),
    data=st.data(),
)
@settings(max_examples=150)
def test_every_mel_gives_a_stable_predictor(
    contract: MelConfig, order: int, preemphasis: float, data: st.DataObject
) -> None:
    mel = data.draw(hnp.arrays(np.float32, (4, contract.n_mels), elements=mel_values))
    filters = frame_filters(mel, contract, SignalConfig(lpc_order=order, preemphasis=preemphasis))

    assert np.isfinite(filters.coefficients).all()
    for coefficients in filters.coefficients.astype(np.float64):  # as rounded to float32
        assert np.abs(np.roots(np.concatenate([[1.0], -coefficients]))).max() < 1
    for scale in (filters.excitation_scale, filters.signal_scale):
        assert np.isfinite(scale).all()
        assert (scale > 0).all()
    # The error is a part of the signal: their ranges are 8 and 6.
    assert (filters.excitation_scale / 8 <= filters.signal_scale / 6 * (1 + 1e-6)).all()


@pytest.mark.parametrize("contract", CONTRACTS)
def test_silence_has_levels_of_about_one_step_of_16_bits(contract: MelConfig) -> None:
    _, error_rms, signal_rms = linear_prediction(silent_frames(3, contract), contract, SignalConfig())

    assert ((error_rms > 0) & (error_rms <= signal_rms)).all()
    assert (signal_rms < 2 / 32_768).all()  # the contracts' floors; 0.5 to 1.3 steps


# Frame by frame


@given(cuts=st.lists(st.integers(0, 90), max_size=6), order=st.sampled_from(["C", "F"]))
@settings(max_examples=40)
def test_chunks_of_frames_give_the_same_bits(cuts: list[int], order: Any) -> None:
    mel_config, signal_config = MelConfig(), SignalConfig()
    mel = np.random.default_rng(1).uniform(-12, 2, (90, 80)).astype(np.float32)
    whole = frame_filters(mel, mel_config, signal_config)
    bounds = [0, *sorted(cuts), 90]
    chunks = [
        frame_filters(np.array(mel[start:stop], order=order), mel_config, signal_config)
        for start, stop in pairwise(bounds)
    ]

    for name in ("coefficients", "excitation_scale", "signal_scale"):
        together = np.concatenate([getattr(chunk, name) for chunk in chunks])
        np.testing.assert_array_equal(together, getattr(whole, name))
        assert together.dtype == np.float32


# Real speech


def test_levels_and_prediction_gain_on_real_speech(sample_clips: dict[str, Floats]) -> None:
    # Measured with benchmarks/signal_model.py: a clip's e/g has RMS 0.94 to 1.02 and its 99.99th percentile
    # at 6.1 to 8.2, s/r RMS 0.99 to 1.03; prediction gains 7.5 to 14.8 dB, 9.8 in the mean.
    mel_config, signal_config = MelConfig(), SignalConfig()
    hop = mel_config.hop_samples
    gains_db, peaks = [], []
    for audio in sample_clips.values():
        mel = log_mel(audio, mel_config)
        coefficients, error_rms, signal_rms = linear_prediction(mel, mel_config, signal_config)
        signal = scipy.signal.lfilter([1, -0.85], [1], audio.astype(np.float64))[: len(mel) * hop]
        excitation = excitation_of(signal, coefficients, hop)
        normalised = excitation / np.repeat(error_rms, hop)
        assert np.sqrt((normalised**2).mean()) == pytest.approx(1.0, abs=0.1)
        assert np.sqrt(((signal / np.repeat(signal_rms, hop)) ** 2).mean()) == pytest.approx(1.0, abs=0.07)
        peaks.append(np.quantile(np.abs(normalised), 0.9999))
        gains_db.append(10 * np.log10((signal**2).sum() / (excitation**2).sum()))
    assert min(gains_db) > 7.0
    assert np.mean(gains_db) > 9.0
    assert max(peaks) < 9.5
    assert np.mean(np.array(peaks) < signal_config.excitation_range) > 0.9


# Edges


def test_order_0_is_no_prediction(speech: Floats) -> None:
    mel = log_mel(speech, MelConfig())
    filters = frame_filters(mel, MelConfig(), SignalConfig(lpc_order=0))

    assert filters.coefficients.shape == (len(mel), 0)
    np.testing.assert_array_equal(filters.excitation_scale, np.ones(len(mel), np.float32))
    np.testing.assert_array_equal(filters.signal_scale, np.ones(len(mel), np.float32))


@pytest.mark.parametrize("order", [0, 16])
def test_no_frames(order: int) -> None:
    filters = frame_filters(np.zeros((0, 80), np.float32), MelConfig(), SignalConfig(lpc_order=order))

    assert filters.coefficients.shape == (0, order)
    assert filters.excitation_scale.shape == filters.signal_scale.shape == (0,)


def test_ranges_scale_the_levels(speech: Floats) -> None:
    mel = log_mel(speech, MelConfig())
    _, error_rms, signal_rms = linear_prediction(mel, MelConfig(), SignalConfig())
    filters = frame_filters(mel, MelConfig(), SignalConfig(excitation_range=5.0, signal_range=3.0))

    np.testing.assert_allclose(filters.excitation_scale, 5 * error_rms, rtol=1e-6)
    np.testing.assert_allclose(filters.signal_scale, 3 * signal_rms, rtol=1e-6)
