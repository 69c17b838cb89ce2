"""Pitch lag of every frame: normalised cross-correlation, then dynamic programming over its peaks.

The lag serves a long-term predictor, which reads the excitation one lag ago. So a frame's window is
compared with the past alone, and a frame is voiced only where that past resembles it.

Source: D. Talkin, "A Robust Algorithm for Pitch Tracking (RAPT)", in Speech Coding and Synthesis, 1995.
What differs: one pass at the full rate (FFTs make it cheap), the mean of two bands' correlations, and a
noise floor relative to the clip's peak, so that the result does not depend on the clip's level.

Shapes: n samples, F frames (of one block or all), L lags, C candidates a frame, S = C + 1 states.
"""

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gru_audio.errors import AudioError
from gru_audio.native import library
from gru_audio.signal.fft import FLOATS_A_BIN, PLAN_FIELDS, factors_of, plan_of

_Floats = NDArray[np.float32]

# The numbers were tuned on 41 clips of six voices, towards a high correlation of the LPC residual with itself
# one lag ago, and voicing and octaves as pYIN finds them.
_WINDOW_S = 0.02
_FILTER_S = 0.02
_N_CANDIDATES = 8
_MIN_PEAK = 0.15
"""Lower peaks of the correlation are no candidates."""
CORRELATION_FLOOR = 5e-4
"""RMS of the noise that is assumed beneath the clip, relative to the clip's peak."""
_UNVOICED_COST = 0.65
"""A voiced frame costs 1 minus its correlation, so this is where the two are equal."""
_LAG_WEIGHT = 0.2
"""How much of its correlation the longest lag forgoes: of a period and its multiples, take the period."""
_CHANGE_COST = 1.0
"""Of each unit by which the lag's logarithm changes; an octave is 0.69."""
_SWITCH_COST = 0.3
"""Of going from voiced to unvoiced or back."""
BLOCK_FRAMES = 256
"""Frames correlated at once: bounds the memory, whatever the clip's length."""


class Search(NamedTuple):
    """Where to look: everything in samples."""

    hop: int
    first_middle: int
    """Middle of frame 0."""
    window: int
    lag_min: int
    lag_max: int


def track_pitch(
    audio: _Floats,
    sample_rate_hz: int,
    *,
    hop_samples: int,
    n_frames: int,
    lag_min_samples: int,
    lag_max_samples: int,
    lead_samples: int = 0,
) -> _Floats:
    """Estimate the pitch lag of each frame.

    Frame f is the stretch of samples [f·hop − lead, (f + 1)·hop − lead); past the clip's ends is silence.

    Args:
        audio: (n,) samples at any level.
        sample_rate_hz: rate of `audio`, 8000 to 48000.
        hop_samples: samples a frame.
        n_frames: F, number of frames wanted.
        lag_min_samples: shortest lag, at least 2.
        lag_max_samples: longest lag, above the shortest.
        lead_samples: how far each frame starts before its multiple of the hop.

    Returns:
        (F,) lags in samples, fractional, within the two limits; 0 where the frame is unvoiced.

    Raises:
        AudioError: the audio is not one channel, or has NaN or infinite samples.
    """
    if audio.ndim != 1:
        raise AudioError(f"pitch: audio of shape {audio.shape}; give one channel, shape (n,)")
    peak = float(np.maximum(np.max(audio, initial=0.0), -np.min(audio, initial=0.0)))  # NaN if any is
    if not np.isfinite(peak):
        raise AudioError("pitch: the audio has NaN or infinite samples; repair the clip or leave it out")
    if peak == 0.0 or n_frames == 0:
        return np.zeros(n_frames, np.float32)
    search = Search(
        hop=hop_samples,
        first_middle=hop_samples // 2 - lead_samples,
        window=round(_WINDOW_S * sample_rate_hz),
        lag_min=lag_min_samples,
        lag_max=lag_max_samples,
    )
    bands = _bands(sample_rate_hz)
    blocks = []
    for first in range(0, n_frames, BLOCK_FRAMES):
        middles = search.first_middle + search.hop * np.arange(first, min(first + BLOCK_FRAMES, n_frames))
        correlation = _correlate(audio, peak, bands, middles, search)
        blocks.append(_candidates(correlation, search))
    lags = np.concatenate([block[0] for block in blocks])  # (F, C)
    heights = np.concatenate([block[1] for block in blocks])  # (F, C)
    return _best_path(lags, heights, lag_max_samples)


def _bands(sample_rate_hz: int) -> list[_Floats]:
    """Taps (odd in number, symmetric) of the two bands' filters; both have no gain at 0 Hz.

    The low band, with the first harmonics, tells voicing and the octave. The other rises with frequency,
    which levels the tilt of speech: like the excitation it is made of sharp pulses, which place the lag.
    """
    nyquist_hz = sample_rate_hz / 2
    top_hz = min(7000.0, 0.85 * nyquist_hz)
    shapes = [
        ([0.0, 50.0, 150.0, 900.0, 1100.0, nyquist_hz], [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]),
        ([0.0, top_hz, 1.07 * top_hz, nyquist_hz], [0.0, 1.0, 0.0, 0.0]),
    ]
    n_taps = 2 * round(_FILTER_S * sample_rate_hz / 2) + 1
    window = np.hamming(n_taps)
    bands = []
    for frequencies_hz, gains in shapes:
        taps = filter_by_window(np.array(frequencies_hz) / nyquist_hz, gains, window)
        taps -= window * (taps.sum() / window.sum())  # a constant would correlate perfectly at every lag
        bands.append(taps.astype(np.float32))
    return bands


def filter_by_window(
    frequencies: NDArray[np.float64], gains: list[float], window: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Taps (n,) of the filter with linear phase whose gain is drawn through points; as scipy.signal.firwin2 has it.

    Args:
        frequencies: ascending from 0 to 1, the Nyquist frequency.
        gains: at these.
        window: (n,), by which the taps are multiplied; n odd.
    """
    n_bins = 1 + 2 ** math.ceil(math.log2(window.size))
    grid = np.linspace(0, 1, n_bins)
    delay = np.exp(-0.5j * np.pi * (window.size - 1) * grid)
    return np.asarray(np.fft.irfft(np.interp(grid, frequencies, gains) * delay)[: window.size] * window)


def _correlate(
    audio: _Floats, peak: float, bands: list[_Floats], middles: NDArray[np.int64], search: Search
) -> _Floats:
    """Mean over the bands of each frame's normalised cross-correlation with its past.

    Args:
        audio: (n,) the whole clip.
        peak: its largest magnitude.
        bands: taps of each band's filter.
        middles: (F,) the frames' middles, one hop apart, in samples.
        search: the window and the lags.

    Returns:
        (F, L) at the lags from lag_min − 1 to lag_max + 1: a neighbour at either end, to tell a peak.
    """
    start = int(middles[0]) - search.window // 2 - (search.lag_max + 1)
    stop = int(middles[-1]) - search.window // 2 + search.window
    margin = bands[0].size // 2
    stretch = _cut(audio, start - margin, stop + margin) / np.float32(peak)
    offsets = middles - middles[0]
    total = np.zeros((middles.size, search.lag_max - search.lag_min + 3), np.float32)
    for taps in bands:
        signal = np.empty(stop - start, np.float32)
        filter_signal(stretch, signal.size, taps, taps.size, signal)
        total += normalised_correlation(signal, offsets, search)
    total /= len(bands)
    return total


def normalised_correlation(signal: _Floats, offsets: NDArray[np.int64], search: Search) -> _Floats:
    """(F, L) RAPT's NCCF; each frame's past starts at its offset in `signal`, its window lag_max + 1 later."""
    reach, n_lags = search.lag_max + 1, search.lag_max - search.lag_min + 3
    products = np.empty((offsets.size, n_lags), np.float32)  # lags fall
    plan, ones = _correlation_plan(reach + search.window)
    scratch = library.aligned(4 * (ones.size // 2 + 1) * FLOATS_A_BIN)
    _products(
        *(plan, signal, offsets.size, search.hop, reach, n_lags, search.window),
        *(ones, scratch, products),
    )
    power = np.cumsum(np.square(signal, dtype=np.float64))
    power = np.concatenate([[0.0], power])
    energy = power[search.window :] - power[: -search.window] + search.window * CORRELATION_FLOOR**2
    levels = (1 / np.sqrt(energy)).astype(np.float32)
    of_frames = sliding_window_view(levels, reach + 1)[offsets]  # (F, reach + 1), lags fall to 0
    products *= of_frames[:, :n_lags]
    products *= of_frames[:, -1:]
    return products[:, ::-1]


def _cut(audio: _Floats, start: int, stop: int) -> _Floats:
    """audio[start:stop], with zeros where that lies outside."""
    inside = audio[max(start, 0) : max(stop, 0)]
    before = min(max(-start, 0), stop - start)
    return np.pad(inside, (before, stop - start - before - inside.size))


def _candidates(correlation: _Floats, search: Search) -> tuple[_Floats, _Floats]:
    """The highest peaks of each frame, placed between samples by a parabola through three points.

    Args:
        correlation: (F, L) as from `_correlate`.
        search: the lags.

    Returns:
        (F, C) lags and (F, C) heights; where a frame has fewer peaks, lag 1 and height −infinity.
    """
    left, middle, right = correlation[:, :-2], correlation[:, 1:-1], correlation[:, 2:]
    is_peak = (middle > left) & (middle >= right) & (middle > _MIN_PEAK)
    ranking = np.where(is_peak, -middle, 0.0)
    count = min(_N_CANDIDATES, ranking.shape[1])
    chosen = np.argpartition(ranking, count - 1, axis=1)[:, :count]  # (F, C)
    left, middle, right = (np.take_along_axis(values, chosen, axis=1) for values in (left, middle, right))
    is_peak = np.take_along_axis(is_peak, chosen, axis=1)
    curvature = np.where(is_peak, left - 2 * middle + right, -1.0)  # below zero at a peak
    shift = 0.5 * (left - right) / curvature
    lags = np.clip(search.lag_min + chosen + shift, search.lag_min, search.lag_max)
    heights = middle - 0.25 * (left - right) * shift
    return (
        np.where(is_peak, lags, 1.0).astype(np.float32),
        np.where(is_peak, heights, -np.inf).astype(np.float32),
    )


def _best_path(lags: _Floats, heights: _Floats, lag_max: int) -> _Floats:
    """The cheapest path through the candidates and the unvoiced state (Viterbi): (F, C) twice → (F,) lags."""
    n_frames, n_candidates = lags.shape
    costs = np.full((n_frames, n_candidates + 1), _UNVOICED_COST, np.float32)  # (F, S), the last is unvoiced
    costs[:, :-1] = 1 - heights * (1 - _LAG_WEIGHT * lags / lag_max)
    came_from = np.zeros(costs.shape, np.int8)
    score = costs[0]
    for first in range(1, n_frames, BLOCK_FRAMES):
        steps = _transitions(np.log(lags[first - 1 : first + BLOCK_FRAMES]))
        for frame, step in enumerate(steps, start=first):
            total = score[:, None] + step  # (S from, S to)
            came_from[frame] = total.argmin(axis=0)
            score = total.min(axis=0) + costs[frame]
        score = score - score.min()  # keeps float32 exact however long the clip
    path = np.zeros(n_frames, np.float32)
    state = int(score.argmin())
    for frame in range(n_frames - 1, -1, -1):
        if state < n_candidates:
            path[frame] = lags[frame, state]
        state = int(came_from[frame, state])
    return path


def _transitions(log_lags: _Floats) -> _Floats:
    """Cost of every step from one frame's states to the next's: (F + 1, C) → (F, S from, S to)."""
    n_frames, n_candidates = log_lags.shape[0] - 1, log_lags.shape[1]
    steps = np.full((n_frames, n_candidates + 1, n_candidates + 1), _SWITCH_COST, np.float32)
    steps[:, :-1, :-1] = _CHANGE_COST * np.abs(log_lags[1:, None, :] - log_lags[:-1, :, None])
    steps[:, -1, -1] = 0.0
    return steps


class _CorrelationPlan(library.Struct):
    _fields_ = PLAN_FIELDS


@lru_cache(maxsize=4)
def _correlation_plan(n_samples: int) -> tuple[_CorrelationPlan, _Floats]:
    """Tables for transforms of at least so many samples, and as many ones."""
    size = 2 * next(half for half in itertools.count(-(-n_samples // 2)) if max(factors_of(half)) <= 5)
    return _CorrelationPlan(**plan_of(size)), np.ones(size, np.float32)


filter_signal = library.function(
    "gru_filter", [library.Floats, library.Int, library.Floats, library.Int, library.Floats]
)
_products = library.function(
    "gru_correlate", [_CorrelationPlan, library.Floats, *[library.Int] * 5, *[library.Floats] * 3]
)
