"""The codec with no network: emphasis against scipy, the closed loop against naive.py, and how it sounds."""

from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pesq import pesq
from support import naive

from gru_audio.config import MelConfig, SignalConfig
from gru_audio.native import instruction_sets, library
from gru_audio.signal.codec import CodecTrace, de_emphasis, pre_emphasis, run_closed_loop
from gru_audio.signal.lpc import FrameFilters, frame_filters
from gru_audio.signal.mel import log_mel
from gru_audio.signal.mulaw import encode, expansion_table, thresholds

Floats = NDArray[np.float32]

HOP = MelConfig().hop_samples
samples = hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(-1, 1, width=32))


def prepared(audio: Floats, config: SignalConfig) -> tuple[Floats, FrameFilters]:
    """The pre-emphasised signal of whole frames, and its filters."""
    mel_config = MelConfig()
    mel = log_mel(audio, mel_config)
    signal = pre_emphasis(audio[: len(mel) * HOP], config.preemphasis)
    return signal, frame_filters(mel, mel_config, config)


def through_codec(audio: Floats, config: SignalConfig) -> tuple[Floats, Floats, CodecTrace]:
    """The audio of whole frames, what the codec makes of it, and the trace."""
    signal, filters = prepared(audio, config)
    trace = run_closed_loop(signal, filters, config)
    return audio[: len(signal)], de_emphasis(trace.rebuilt, config.preemphasis), trace


def snr_db(clean: Floats, other: Floats) -> float:
    wide = clean.astype(np.float64)
    return float(10 * np.log10((wide**2).sum() / ((wide - other) ** 2).sum()))


# Emphasis


@given(
    audio=samples, coefficient=st.sampled_from([0.0, 0.5, 0.85, 0.97]), previous=st.floats(-1, 1, width=32)
)
def test_emphasis_is_scipys_filter(audio: Floats, coefficient: float, previous: float) -> None:
    taps = [1.0, -coefficient]
    state = [-coefficient * previous]
    forward = (
        scipy.signal.lfilter(taps, [1.0], audio.astype(np.float64), zi=state)[0] if audio.size else audio
    )
    np.testing.assert_allclose(pre_emphasis(audio, coefficient, previous), forward, rtol=0, atol=3e-7)
    back = (
        scipy.signal.lfilter([1.0], taps, audio.astype(np.float64), zi=[coefficient * previous])[0]
        if audio.size
        else audio
    )
    np.testing.assert_allclose(de_emphasis(audio, coefficient, previous), back, rtol=3e-6, atol=3e-6)


@given(
    audio=samples, coefficient=st.sampled_from([0.0, 0.5, 0.85, 0.97]), previous=st.floats(-1, 1, width=32)
)
def test_emphasis_is_undone(audio: Floats, coefficient: float, previous: float) -> None:
    signal = pre_emphasis(audio, coefficient, previous)
    assert signal.dtype == np.float32
    back = de_emphasis(signal, coefficient, previous)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, audio, rtol=0, atol=1e-5)


@given(audio=samples, cut=st.integers(0, 60))
def test_emphasis_goes_on_where_it_was_cut(audio: Floats, cut: int) -> None:
    first, second = audio[:cut], audio[cut:]
    for function, last in ((pre_emphasis, first), (de_emphasis, de_emphasis(first, 0.85))):
        previous = float(last[-1]) if last.size else 0.0
        parts = [function(first, 0.85), function(second, 0.85, previous)]
        np.testing.assert_array_equal(np.concatenate(parts), function(audio, 0.85))


# The closed loop


def naive_trace(
    signal: Floats, filters: FrameFilters, config: SignalConfig, noise: NDArray[np.int8]
) -> tuple[NDArray[np.int64], Floats]:
    return naive.closed_loop(
        signal,
        filters.coefficients,
        filters.excitation_scale,
        filters.signal_scale,
        noise,
        thresholds(config.n_classes),
        expansion_table(config.n_classes),
    )


def assert_same(trace: CodecTrace, codes: NDArray[np.int64], rebuilt: Floats) -> None:
    for ours, theirs in zip(in_order(trace), codes, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == np.int16
    np.testing.assert_array_equal(trace.rebuilt, rebuilt)
    assert trace.rebuilt.dtype == np.float32


def in_order(trace: CodecTrace) -> list[NDArray[np.int16]]:
    return [trace.target, trace.excitation, trace.previous_signal, trace.prediction]


@pytest.mark.parametrize("bits", [6, 8, 10])
@pytest.mark.parametrize("order", [0, 1, 16])
def test_the_loop_is_the_naive_one_to_the_bit(bits: int, order: int, speech: Floats) -> None:
    """With every instruction set; the naive loop is too slow to run for each."""
    config = SignalConfig(bits=bits, lpc_order=order)
    signal, filters = prepared(speech[20_000:21_000], config)
    noise = np.random.default_rng(0).integers(-3, 4, signal.size, np.int8)

    expected = naive_trace(signal, filters, config, noise)

    for instructions in instruction_sets.supported():
        with library.using(instructions):
            trace = run_closed_loop(signal, filters, config, noise)
        assert_same(trace, *expected)
    assert (trace.excitation != trace.target).mean() > 0.5


@given(data=st.data(), order=st.sampled_from([0, 1, 4, 32]), bits=st.sampled_from([6, 8]))
@settings(max_examples=60)
def test_the_loop_is_the_naive_one_for_any_numbers(data: st.DataObject, order: int, bits: int) -> None:
    n_frames, hop = 2, 15
    config = SignalConfig(bits=bits, lpc_order=order)
    number = st.floats(-1, 1, width=32)
    scales = hnp.arrays(np.float32, n_frames, elements=st.floats(2**-20, 16, width=32))
    filters = FrameFilters(
        data.draw(hnp.arrays(np.float32, (n_frames, order), elements=number)),
        data.draw(scales),
        data.draw(scales),
    )
    signal = data.draw(hnp.arrays(np.float32, n_frames * hop, elements=number))
    noise = data.draw(hnp.arrays(np.int8, n_frames * hop))
    with np.errstate(all="ignore"):  # these filters need not be stable
        assert_same(
            run_closed_loop(signal, filters, config, noise), *naive_trace(signal, filters, config, noise)
        )


@pytest.mark.usefixtures("instructions")
def test_the_loops_codes_are_mulaws() -> None:
    rng = np.random.default_rng(0)
    for bits in range(6, 11):
        edges = thresholds(1 << bits)
        below = np.nextafter(edges, np.float32(-9))
        values = np.concatenate([edges, below, rng.uniform(-2, 2, 500), [0.0, -0.0, np.inf, -np.inf]])
        values, one = values.astype(np.float32), np.ones(1, np.float32)
        plain = FrameFilters(np.zeros((1, 0), np.float32), one, one)
        trace = run_closed_loop(values, plain, SignalConfig(bits=bits, lpc_order=0))
        np.testing.assert_array_equal(trace.target, encode(values, 1 << bits))


def test_no_noise_is_noise_of_zero(speech: Floats) -> None:
    config = SignalConfig()
    signal, filters = prepared(speech, config)
    trace = run_closed_loop(signal, filters, config)
    np.testing.assert_array_equal(trace.target, trace.excitation)
    again = run_closed_loop(signal, filters, config, np.zeros(signal.size, np.int8))
    for ours, theirs in zip(in_order(trace), in_order(again), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_codes_alone_rebuild_the_signal(speech: Floats) -> None:
    """What synthesis does: the excitation's codes and the mel's filters, nothing of the signal."""
    config = SignalConfig()
    signal, filters = prepared(speech, config)
    trace = run_closed_loop(
        signal, filters, config, np.random.default_rng(0).integers(-3, 4, signal.size, np.int8)
    )
    excitation = expansion_table(config.n_classes)[trace.excitation] * np.repeat(
        filters.excitation_scale, HOP
    )
    rebuilt = np.zeros(signal.size)
    for t in range(signal.size):
        past = rebuilt[max(t - 16, 0) : t][::-1]
        rebuilt[t] = filters.coefficients[t // HOP, : past.size] @ past + excitation[t]

    np.testing.assert_allclose(trace.rebuilt, rebuilt, rtol=0, atol=1e-5)
    before = np.concatenate([[0], trace.rebuilt[:-1]])
    scale = np.repeat(filters.signal_scale, HOP)
    np.testing.assert_array_equal(trace.previous_signal, encode((before / scale).astype(np.float32), 256))


def test_order_0_is_plain_mu_law(speech: Floats) -> None:
    config = SignalConfig(lpc_order=0)
    signal, filters = prepared(speech, config)
    trace = run_closed_loop(signal, filters, config)

    np.testing.assert_array_equal(trace.target, encode(signal, 256))
    np.testing.assert_array_equal(trace.rebuilt, expansion_table(256)[encode(signal, 256)])
    assert (trace.prediction == 128).all()


@pytest.mark.parametrize("noise", [-127, 127])
def test_noise_does_not_leave_the_codes(noise: int, speech: Floats) -> None:
    config = SignalConfig(bits=6)
    signal, filters = prepared(speech[20_000:22_000], config)
    trace = run_closed_loop(signal, filters, config, np.full(signal.size, noise, np.int8))
    assert set(trace.excitation) == {0 if noise < 0 else 63}


# Any input


kinds = st.sampled_from(["noise", "square", "silence", "click", "constant", "alternating"])


def made_up(kind: str, level: float, seed: int, n_samples: int) -> Floats:
    rng = np.random.default_rng(seed)
    t = np.arange(n_samples)
    return np.asarray(
        {
            "noise": rng.uniform(-1, 1, n_samples),
            "square": np.sign(np.sin(2 * np.pi * rng.uniform(20, 7_000) * t / 16_000)),
            "silence": np.zeros(n_samples),
            "click": t == n_samples // 2,
            "constant": np.ones(n_samples),
            "alternating": (-1.0) ** t,
        }[kind]
        * level,
        np.float32,
    )


@given(
    kind=kinds,
    level=st.sampled_from([1e-6, 1 / 32_768, 0.1, 1.0, 50.0]),
    seed=st.integers(0, 1_000),
    n_samples=st.integers(0, 1_500),
    order=st.sampled_from([0, 2, 16, 32]),
    bits=st.sampled_from([6, 8, 10]),
)
@settings(max_examples=150)
def test_codes_are_in_range_and_the_signal_finite(
    kind: str, level: float, seed: int, n_samples: int, order: int, bits: int
) -> None:
    config = SignalConfig(lpc_order=order, bits=bits)
    signal, filters = prepared(made_up(kind, level, seed, n_samples), config)
    noise = np.random.default_rng(seed).integers(-3, 4, signal.size, np.int8)
    trace = run_closed_loop(signal, filters, config, noise)

    for codes in in_order(trace):
        assert codes.shape == signal.shape
        assert ((codes >= 0) & (codes < config.n_classes)).all()
    assert np.isfinite(trace.rebuilt).all()
    # A stable filter driven by a bounded excitation: generous, but no runaway.
    assert np.abs(trace.rebuilt).max(initial=0) <= 100 * max(level, 1e-3)


@given(
    kind=kinds,
    mel_level=st.floats(-11.5, 3, width=32),
    seed=st.integers(0, 1_000),
    level=st.floats(0, 1, width=32),
)
@settings(max_examples=40)
def test_a_mel_of_other_audio_is_survived(kind: str, mel_level: float, seed: int, level: float) -> None:
    config = SignalConfig()
    signal = pre_emphasis(made_up(kind, level, seed, 5 * HOP), config.preemphasis)
    mel = np.random.default_rng(seed).normal(mel_level, 3, (5, 80)).astype(np.float32)
    trace = run_closed_loop(signal, frame_filters(mel, MelConfig(), config), config)

    assert np.isfinite(trace.rebuilt).all()
    for codes in in_order(trace):
        assert ((codes >= 0) & (codes < 256)).all()


def test_silence_stays_silent() -> None:
    for order in (0, 16):
        audio, rebuilt, trace = through_codec(np.zeros(4_000, np.float32), SignalConfig(lpc_order=order))
        assert np.abs(rebuilt).max() < 1 / 32_768 * (1 if order else 40)  # mu-law has no code for 0
        assert audio.shape == rebuilt.shape == trace.target.shape == (4_000,)


@pytest.mark.parametrize("n_samples", [0, 1, 199])
def test_less_than_a_frame(n_samples: int) -> None:
    audio, rebuilt, trace = through_codec(np.ones(n_samples, np.float32), SignalConfig())
    assert audio.size == rebuilt.size == trace.target.size == 0


@pytest.mark.parametrize("frequency_hz", [50, 440, 3_000])
def test_a_clipped_square_wave_comes_back(frequency_hz: int) -> None:
    t = np.arange(16_000) / 16_000
    audio = np.clip(3 * np.sin(2 * np.pi * frequency_hz * t), -1, 1).astype(np.float32)
    clean, rebuilt, _ = through_codec(audio, SignalConfig())

    assert snr_db(clean, rebuilt) > 30


def test_lengths_that_do_not_fit_are_our_own_mistake() -> None:
    filters = FrameFilters(np.zeros((2, 0), np.float32), np.ones(2, np.float32), np.ones(2, np.float32))
    with pytest.raises(AssertionError):
        run_closed_loop(np.zeros(401, np.float32), filters, SignalConfig(lpc_order=0))
    none = FrameFilters(np.zeros((0, 0), np.float32), np.ones(0, np.float32), np.ones(0, np.float32))
    with pytest.raises(AssertionError):
        run_closed_loop(np.zeros(3, np.float32), none, SignalConfig(lpc_order=0))


# How it sounds


FORMS: list[tuple[dict[str, Any], float, float, float]] = [
    # Settings, then mean PESQ, lowest PESQ and mean SNR of s in dB over the bundled clips, each less a margin.
    # Measured with benchmarks/signal_model.py.
    ({"bits": 8}, 4.5, 4.4, 45.0),  # 4.60, 4.53, 47.5
    ({"bits": 6}, 4.3, 4.1, 34.0),  # 4.45, 4.21, 36.9
    ({"bits": 8, "lpc_order": 0}, 4.3, 4.1, 36.5),  # 4.43, 4.25, 37.5
]


@pytest.mark.parametrize(("changes", "mean_pesq", "least_pesq", "mean_snr"), FORMS)
def test_quality_with_no_network(
    changes: dict[str, Any],
    mean_pesq: float,
    least_pesq: float,
    mean_snr: float,
    sample_clips: dict[str, Floats],
) -> None:
    config = SignalConfig(**changes)
    scores, snrs = [], []
    for audio in sample_clips.values():
        clean, rebuilt, trace = through_codec(audio, config)
        scores.append(pesq(16_000, clean, np.clip(rebuilt, -1, 1), "wb"))
        snrs.append(snr_db(pre_emphasis(clean, config.preemphasis), trace.rebuilt))
    assert np.mean(scores) >= mean_pesq
    assert min(scores) >= least_pesq
    assert np.mean(snrs) >= mean_snr
