"""A mel under one contract as it would be under another, whose bands, hop, window or rate differ: nearly.

    levels (F, M) ──cubic, over time──► (F', M) ──cubic, over frequency──► spectrum (F', bins) ──filters──► mel (F', M')
                                           ▲                                  │
                                           └── + what its own filters miss ◄──┘   some rounds

A band's level is taken for noise of some density, in the logarithm. Curves through the bands' middles do not yet have
these levels under the contract's own filters, as a peak is lower there than it is; so they are moved by what is
missing. A window's blur cannot be undone, and a harmonic is no noise: it costs quality, see docs/mels.md.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import DoubleArray, FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.mel import from_linear, heard_filters, silent_up_to, to_linear
from gru_audio.signal.mel_check.levels import noise_gains

_ROUNDS = 6
_STEP = 1.0  # a round's largest, in nepers of power
_FALL = 10.0  # below the lowest band power goes with this power of the frequency, 30 dB an octave: there is no voice
_LOWEST = 1 / 4  # of the lowest band's frequency; from there on down it stays
_APART = 0.01  # of a bin
_NOTHING = -70.0  # log density far below any floor
_LOUDEST = 1e15  # no audio is as loud
_ALL = 1 - 1e-6  # the share that all neighbours together have, but for rounding
_NUMBERS_TOGETHER = 1 << 20  # of a spectrum, so that a long mel takes no more memory


class _Bands(NamedTuple):
    """A contract's bands. Of filters narrower than a bin some hold nothing, and are left out.

    Attributes:
        config: the contract.
        are_known: (M,) which they are.
        shares: (K, bins), each of K bands' weight on a bin, 1 in all.
        middles_hz: (K,).
        bins_hz: (bins,).
        gains: (K,) see `noise_gains`.
    """

    config: MelConfig
    are_known: npt.NDArray[np.bool_]
    shares: DoubleArray
    middles_hz: DoubleArray
    bins_hz: DoubleArray
    gains: DoubleArray


def interpolate_mel(mel: FloatArray, given: MelConfig, wanted: MelConfig) -> FloatArray:
    """A mel (F, M) made under one contract under another, (F', M'), of the same duration.

    What lies above the given contract's highest frequency is silent. What is at its floor comes to the wanted one.

    Args:
        mel: under `given`.
        given: its contract.
        wanted: the other one.
    """
    if not len(mel):
        return np.zeros((0, wanted.n_mels), np.float32)
    source, target = _apart(_bands(given)), _bands(wanted)
    size = np.clip(to_linear(mel, given).astype(np.float64)[:, source.are_known], given.floor, _LOUDEST)
    power = size ** (2 / given.spectrum_power)
    density = np.log(power / source.gains / given.sample_rate_hz)  # (F, K), of a Hz
    n_frames = max(1, round(len(mel) * wanted.frame_rate_hz / given.frame_rate_hz))
    times = np.arange(n_frames) / wanted.frame_rate_hz + _first_middle_s(wanted)
    given_times = np.arange(len(mel)) / given.frame_rate_hz + _first_middle_s(given)
    silence = (size <= silent_up_to(given)).astype(np.float64)  # which of the values around are at the floor
    silence = _along_lines(times, given_times, silence)
    silence = _along_lines(target.middles_hz, source.middles_hz, silence.T).T
    density = _along_curves(times, given_times, density)
    n_together = max(1, _NUMBERS_TOGETHER // max(len(source.bins_hz), len(target.bins_hz)))
    parts = [
        _refiltered(density[first : first + n_together], source, target)
        for first in range(0, n_frames, n_together)
    ]
    power = np.zeros((n_frames, wanted.n_mels))
    power[:, target.are_known] = np.where(silence > _ALL, 0.0, np.exp(np.concatenate(parts)))
    power[:, target.are_known] *= wanted.sample_rate_hz * target.gains
    return from_linear((power ** (wanted.spectrum_power / 2)).astype(np.float32), wanted)


def _refiltered(density: DoubleArray, source: _Bands, target: _Bands) -> DoubleArray:
    """Log densities (F, K) of one contract's bands as another's filters find them, (F, K')."""
    to_own, to_other = _spectrum_of(source, source.bins_hz), _spectrum_of(source, target.bins_hz)
    moved = density.copy()
    for _ in range(_ROUNDS):
        moved += np.clip(density - _filtered(to_own(moved), source), -_STEP, _STEP)
    return _filtered(to_other(moved), target)


def _spectrum_of(source: _Bands, at_hz: DoubleArray) -> Callable[[DoubleArray], DoubleArray]:
    """What makes of bands' log densities (F, K) those at frequencies, (F, n)."""
    weights = _along_curves(at_hz, source.middles_hz, np.eye(len(source.middles_hz)))  # (n, K)
    offset = _FALL * np.log(np.clip(at_hz / source.middles_hz[0], _LOWEST, 1.0))
    is_known = at_hz <= source.config.f_max_hz
    return lambda density: np.where(is_known, density @ weights.T + offset, _NOTHING)


def _filtered(spectrum: DoubleArray, bands: _Bands) -> DoubleArray:
    """The log density (F, K) that bands find in one (F, bins)."""
    power = bands.config.spectrum_power / 2
    return np.asarray(np.log(np.exp(power * spectrum) @ bands.shares.T + 1e-30) / power)


def _bands(config: MelConfig) -> _Bands:
    filters = heard_filters(config).astype(np.float64)
    are_known = filters.sum(1) > 0
    shares = filters[are_known] / filters[are_known].sum(1, keepdims=True)
    bins_hz = np.linspace(0, config.sample_rate_hz / 2, filters.shape[1])
    return _Bands(config, are_known, shares, shares @ bins_hz, bins_hz, noise_gains(config)[0][are_known])


def _apart(bands: _Bands) -> _Bands:
    """Those that lie higher than all before them: two narrow ones may have the same bin."""
    highest_before = np.maximum.accumulate(np.append(-1.0, bands.middles_hz[:-1]))
    kept = bands.middles_hz > highest_before + _APART * bands.bins_hz[1]
    are_known = bands.are_known.copy()
    are_known[are_known] = kept
    return bands._replace(
        are_known=are_known,
        shares=bands.shares[kept],
        middles_hz=bands.middles_hz[kept],
        gains=bands.gains[kept],
    )


def _first_middle_s(config: MelConfig) -> float:
    """The time in the middle of frame 0's stretch."""
    return (config.hop_samples / 2 - config.lead_samples) / config.sample_rate_hz


def _along_lines(at: DoubleArray, places: DoubleArray, rows: DoubleArray) -> DoubleArray:
    """Rows (n, k) at ascending places (n,), interpolated along a line at others (m,): (m, k)."""
    if len(places) == 1:
        return np.repeat(rows, len(at), axis=0)
    upper, share = _between(at, places)
    return np.asarray((1 - share) * rows[upper - 1] + share * rows[upper])


def _along_curves(at: DoubleArray, places: DoubleArray, rows: DoubleArray) -> DoubleArray:
    """The same along cubic curves, whose slope at a place is that of a parabola through it and its neighbours."""
    if len(places) <= 2:
        return _along_lines(at, places, rows)
    gaps = np.diff(places)[:, None]
    slopes = np.diff(rows, axis=0) / gaps
    middle = (slopes[:-1] * gaps[1:] + slopes[1:] * gaps[:-1]) / (gaps[:-1] + gaps[1:])
    slopes = np.concatenate([slopes[:1], middle, slopes[-1:]])
    upper, share = _between(at, places)
    gap, rest = gaps[upper - 1], 1 - share
    values = rest**2 * (1 + 2 * share) * rows[upper - 1] + share**2 * (1 + 2 * rest) * rows[upper]
    return np.asarray(values + gap * share * rest * (rest * slopes[upper - 1] - share * slopes[upper]))


def _between(at: DoubleArray, places: DoubleArray) -> tuple[npt.NDArray[np.intp], DoubleArray]:
    """The place after each of `at` (m,), at least the second, and how far from the one before it is, (m, 1), 0 to 1."""
    upper = np.clip(np.searchsorted(places, at), 1, len(places) - 1)
    share = np.clip((at - places[upper - 1]) / (places[upper] - places[upper - 1]), 0, 1)
    return upper, share[:, None]
