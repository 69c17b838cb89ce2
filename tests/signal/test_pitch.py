import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gru_audio.errors import AudioError
from gru_audio.signal import pitch
from gru_audio.signal.pitch import track_pitch

Floats = NDArray[np.float32]
RATE, HOP = 16_000, 200
SAMPLES = Path(__file__).parents[2] / "samples"


def track(
    audio: Floats, rate: int = RATE, hop: int = HOP, lead: int = 0, n_frames: int | None = None
) -> Floats:
    return track_pitch(
        audio,
        rate,
        hop_samples=hop,
        n_frames=-(-audio.size // hop) if n_frames is None else n_frames,
        lag_min_samples=rate // 500,
        lag_max_samples=rate // 50,
        lead_samples=lead,
    )


def harmonic_tone(f0_hz: NDArray[np.float64], rate: int = RATE) -> Floats:
    """(n,) harmonics up to 3.5 kHz, 6 dB down an octave, of a fundamental that is given for each sample."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / rate
    count = int(3500 / f0_hz.max())
    return np.asarray(sum(np.sin(k * phase + k * k) / k for k in range(1, count + 1)) / 4, np.float32)


def noise(n: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def naive_ncc(signal: Floats, middle: int, lag: int, window: int, floor: float) -> float:
    """Normalised correlation of the window around a middle with the same samples one lag earlier."""
    start = middle - window // 2
    now, then = (signal[s : s + window].astype(np.float64) for s in (start, start - lag))
    energies = [float(np.sum(part**2)) + window * floor**2 for part in (now, then)]
    return float(np.sum(now * then) / np.sqrt(energies[0] * energies[1]))


@pytest.mark.parametrize(
    ("rate", "hop"), [(8000, 80), (16_000, 200), (22_050, 256), (44_100, 512), (48_000, 600)]
)
@pytest.mark.parametrize(("low_hz", "high_hz"), [(70, 110), (120, 240), (250, 420)])
def test_follows_a_gliding_tone(rate: int, hop: int, low_hz: float, high_hz: float) -> None:
    time_s = np.arange(int(1.5 * rate)) / rate
    f0_hz = np.sqrt(low_hz * high_hz) * (high_hz / low_hz) ** (0.5 * np.sin(2 * np.pi * 0.7 * time_s))
    audio = harmonic_tone(f0_hz, rate) + 0.003 * noise(time_s.size)
    lags = track(audio, rate, hop)

    inner = slice(6, -6)  # the tone's first period has no past to resemble
    assert np.all(lags[inner] > 0)
    middles = np.arange(lags.size) * hop + hop // 2
    # The lag back from t is a period that ended at t, so it belongs to the f0 half a lag before.
    expected_hz = np.interp(middles - lags / 2, np.arange(f0_hz.size), f0_hz)[inner]
    cents = 1200 * np.abs(np.log2(rate / lags[inner] / expected_hz))
    assert np.median(cents) < 4
    assert cents.max() < 35


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_noise_is_unvoiced(rate: int) -> None:
    assert np.mean(track(noise(3 * rate), rate, rate // 80) > 0) < 0.02


def test_voicing_follows_tone_and_noise() -> None:
    tone = harmonic_tone(np.full(RATE, 140.0))
    audio = np.concatenate([0.05 * noise(RATE), tone, 0.05 * noise(RATE), np.zeros(RATE, np.float32)])
    voiced = track(audio) > 0
    truth = np.arange(voiced.size) // 80 == 1
    assert np.count_nonzero(voiced != truth) <= 4  # two frames at either end of the tone


@pytest.mark.parametrize(("before_hz", "after_hz"), [(100.0, 170.0), (230.0, 130.0)])
def test_a_step_of_f0_happens_at_its_frame(before_hz: float, after_hz: float) -> None:
    step = 80 * HOP
    lags = track(harmonic_tone(np.repeat([before_hz, after_hz], step)))
    is_new = np.abs(lags - RATE / after_hz) < 2
    is_old = np.abs(lags - RATE / before_hz) < 2
    assert np.all(is_old[3:79])
    assert np.all(is_new[82:-2])  # from one period on, which is up to 123 samples


def test_lead_moves_the_frames() -> None:
    audio = harmonic_tone(np.repeat([100.0, 170.0], 8000)) + 0.01 * noise(16_000)
    delayed = np.concatenate([np.zeros(130, np.float32), audio])
    np.testing.assert_array_equal(track(audio, lead=130, n_frames=80), track(delayed, n_frames=80))
    np.testing.assert_allclose(
        track(audio, lead=HOP, n_frames=81)[2:], track(audio, n_frames=80)[1:], rtol=1e-4
    )
    np.testing.assert_allclose(
        track(audio, lead=-HOP, n_frames=79)[:-1], track(audio, n_frames=80)[1:-1], rtol=1e-4
    )


def test_correlation_equals_a_naive_one() -> None:
    search = pitch.Search(hop=70, first_middle=-40, window=160, lag_min=16, lag_max=160)
    signal = noise(1200)
    reach = search.lag_max + 1
    offsets = np.arange(0, signal.size - search.window - reach + 1, search.hop)
    found = pitch.normalised_correlation(signal, offsets, search)
    middles = offsets + reach + search.window // 2
    expected = [
        [naive_ncc(signal, int(m), lag, 160, pitch.CORRELATION_FLOOR) for lag in range(15, 162)]
        for m in middles
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = harmonic_tone(np.linspace(90.0, 200.0, 2 * RATE)) + 0.05 * noise(2 * RATE)
    whole = track(audio)
    monkeypatch.setattr(pitch, "BLOCK_FRAMES", 7)
    np.testing.assert_allclose(track(audio), whole, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-30, 1e30), f0_hz=st.floats(60, 450), negative=st.booleans())
def test_level_and_polarity_do_not_matter(scale: float, f0_hz: float, negative: bool) -> None:
    audio = harmonic_tone(np.full(4000, f0_hz))
    scaled = audio * np.float32(-scale if negative else scale)
    np.testing.assert_allclose(track(scaled), track(audio), rtol=1e-3)


def edge_cases() -> dict[str, Floats]:
    n = 4000
    impulse = np.zeros(n, np.float32)
    impulse[n // 2] = 1.0
    return {
        "nothing": np.zeros(0, np.float32),
        "one sample": np.ones(1, np.float32),
        "shorter than a window": noise(50),
        "silence": np.zeros(n, np.float32),
        "dc": np.full(n, 0.7, np.float32),
        "impulse": impulse,
        "denormal": noise(n) * np.float32(1e-42),
        "huge": noise(n) * np.float32(1e37),
        "square": np.where(np.arange(n) // 40 % 2 == 0, 1, -1).astype(np.float32),
    }


@pytest.mark.parametrize("name", edge_cases())
@pytest.mark.parametrize("lead", [-700, 0, 50, 9000])
def test_edge_cases_are_defined(name: str, lead: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lags = track(edge_cases()[name], lead=lead, n_frames=30)
    assert lags.shape == (30,)
    assert lags.dtype == np.float32
    assert np.all((lags == 0) | ((lags >= 32) & (lags <= 320)))
    if name == "square":
        assert lead != 0 or np.allclose(lags[3:17], 80, atol=0.1)
    else:
        assert not lags.any()


def test_no_frames() -> None:
    assert track(noise(1000), n_frames=0).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(bad: float) -> None:
    audio = noise(1000)
    audio[500] = bad
    with pytest.raises(AudioError, match="NaN or infinite"):
        track(audio)


def test_refuses_more_than_one_channel() -> None:
    with pytest.raises(AudioError, match=r"\(2, 500\)"):
        track(noise(1000).reshape(2, 500))


def test_agrees_with_pyin_on_speech() -> None:
    from support.loops import librosa

    clips = sorted(SAMPLES.glob("*.flac"))[::3]
    pairs = []
    for path in clips:
        audio, rate = soundfile.read(path, dtype="float32")
        audio = audio[: 3 * rate]
        lags = track(audio, rate)
        f0_hz, voiced, _ = librosa.pyin(
            np.concatenate(
                [audio[HOP // 2 :], np.zeros(HOP, np.float32)]
            ),  # pYIN's frames are centred on f·hop
            fmin=50,
            fmax=500,
            sr=rate,
            frame_length=1024,
            hop_length=HOP,
        )
        pairs.append([lags, np.where(voiced, rate / np.where(voiced, f0_hz, 1), 0)[: lags.size]])
    ours, theirs = np.concatenate(pairs, axis=1)
    both = (ours > 0) & (theirs > 0)
    cents = 1200 * np.abs(np.log2(ours[both] / theirs[both]))
    assert np.mean((ours > 0) == (theirs > 0)) > 0.85
    assert np.mean(cents > 1200 * np.log2(1.2)) < 0.02
    assert np.median(cents) < 25


# The compiled parts


@pytest.mark.parametrize("n_taps", [5, 161, 321, 961])
def test_filters_drawn_through_points_are_scipys(n_taps: int) -> None:
    points, gains = np.array([0.0, 0.1, 0.4, 0.7, 1.0]), [0.0, 0.0, 1.0, 0.3, 0.0]
    window = np.hamming(n_taps)
    np.testing.assert_allclose(
        pitch.filter_by_window(points, gains, window),
        scipy.signal.firwin2(n_taps, points, gains),
        atol=1e-12,
    )


@pytest.mark.parametrize("n_out", [0, 1, 63, 64, 200])
@pytest.mark.usefixtures("instructions")
def test_a_filtered_signal_is_numpys(n_out: int) -> None:
    signal, taps, found = noise(n_out + 20), noise(21, 1), np.empty(n_out, np.float32)
    pitch.filter_signal(signal, n_out, taps, taps.size, found)
    expected = [signal[t : t + 21].astype(np.float64) @ taps for t in range(n_out)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("n_frames", [1, 8, 13])
@pytest.mark.usefixtures("instructions")
def test_correlations_are_those_by_the_definition(n_frames: int) -> None:
    search = pitch.Search(hop=40, first_middle=0, window=90, lag_min=7, lag_max=100)
    offsets, signal = 40 * np.arange(n_frames), noise(40 * n_frames + 200)
    found = pitch.normalised_correlation(signal, offsets, search)
    for frame, lag in itertools.product(range(n_frames), range(6, 102)):
        middle = 40 * frame + 101 + 45  # of the frame's window
        expected = naive_ncc(signal, middle, lag, 90, pitch.CORRELATION_FLOOR)
        assert found[frame, lag - 6] == pytest.approx(expected, abs=2e-5)


@pytest.mark.usefixtures("instructions")
def test_labels_are_those_by_the_definition(speech: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    def filtered(signal: Floats, n_out: int, taps: Floats, n_taps: int, out: Floats) -> None:
        out[:] = np.convolve(signal.astype(np.float64), taps.astype(np.float64), "valid")

    def normalised(signal: Floats, offsets: NDArray[np.int64], search: pitch.Search) -> Floats:
        reach, size, wide = search.lag_max + 1, search.window, signal.astype(np.float64)
        rows = []
        for span in np.lib.stride_tricks.sliding_window_view(wide, size + reach)[offsets]:
            pasts = np.lib.stride_tricks.sliding_window_view(span, size)  # of lags from the longest to 0
            energies = (pasts**2).sum(1) + size * pitch.CORRELATION_FLOOR**2
            rows.append((pasts @ span[reach:] / np.sqrt(energies * energies[-1]))[::-1][search.lag_min - 1 :])
        return np.array(rows, np.float32)

    ours = track(speech[:40_000])
    monkeypatch.setattr(pitch, "filter_signal", filtered)
    monkeypatch.setattr(pitch, "normalised_correlation", normalised)
    np.testing.assert_allclose(ours, track(speech[:40_000]), rtol=0, atol=2e-3)
    assert (ours > 0).any()
