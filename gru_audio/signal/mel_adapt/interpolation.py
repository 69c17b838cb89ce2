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
from gru_audio.signal.mel_adapt.levels import noise_gains

_ROUNDS = 4
_STEP = 1.0  # a round's largest, in nepers of power
_FALL = 10.0  # below the lowest band power goes with this power of the frequency, 30 dB an octave: there is no voice
_LOWEST = 1 / 4  # of the lowest band's frequency; from there on down it stays
_APART = 0.01  # of a bin
_NOTHING = -70.0  # log density far below any floor
_GRAIN = 2.0**-20  # of a log density
_NEIGHBOURS = 2  # before the frame after, which a curve between two hangs on
_BEYOND = 0.5  # the levels of both frames beside, a curve goes so far at most: 2 dB
_ABOVE = 2  # bands above the highest wanted frequency, which a curve up to there hangs on
_LOUDEST = 1e15  # no audio is as loud
_ALL = 1 - 1e-6  # the share that all neighbours together have, but for rounding
_NUMBERS_TOGETHER = 1 << 17  # of a spectrum, so that they stay in the cache however long a mel is


class _Bands(NamedTuple):
    """Bands of a contract. Of filters narrower than a bin some hold nothing, and are left out, as are bins in none.

    Attributes:
        config: the contract.
        are_known: (M,) which they are.
        shares: (K, bins), each of K bands' weight on a bin that any of them hears, 1 in all.
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


class MelInterpolation:
    """Frames (k, M) made under one contract, brought to another as they come, (k', M'), of the same duration in all.

    What lies above the given contract's highest frequency is silent. What is at its floor comes to the wanted one.
    However the frames are cut, what comes out is the same.
    """

    def __init__(self, given: MelConfig, wanted: MelConfig) -> None:
        """Begin a mel."""
        self._given, self._wanted = given, wanted
        self._source, self._target = _of_use(_bands(given), wanted.f_max_hz), _bands(wanted)
        self._to_own = _spectrum_of(self._source, self._source.bins_hz)
        self._to_other = _spectrum_of(self._source, self._target.bins_hz)
        self._n_together = max(
            1, _NUMBERS_TOGETHER // max(len(self._source.bins_hz), len(self._target.bins_hz))
        )
        self._nothing = np.zeros((0, wanted.n_mels), np.float32)
        # What the next frames still need of those that came: log densities of a Hz, and which were at the floor.
        self._density = self._silence = np.zeros((0, len(self._source.gains)))
        self._first = self._n_given = self._n_made = 0

    def push(self, mel: FloatArray) -> FloatArray:
        """Take frames (k, M); the frames (k', M') whose neighbours are known now."""
        size = max(1, int(self._n_together * self._given.frame_rate_hz / self._wanted.frame_rate_hz))
        return np.concatenate(
            [self._nothing, *(self._pushed(mel[i : i + size]) for i in range(0, len(mel), size))]
        )

    def finish(self) -> FloatArray:
        """The last frames."""
        return self._made_up_to(self.n_frames(self._n_given))

    def n_frames(self, n_given: int) -> int:
        """How many frames so many become."""
        return (
            max(1, round(n_given * self._wanted.frame_rate_hz / self._given.frame_rate_hz)) if n_given else 0
        )

    def _pushed(self, mel: FloatArray) -> FloatArray:
        """The same of about as many frames as are made together, as the curves are laid through all that wait."""
        size = to_linear(mel, self._given).astype(np.float64)[:, self._source.are_known]
        size = np.clip(size, self._given.floor, _LOUDEST)
        power = size ** (2 / self._given.spectrum_power)
        density = np.log(power / self._source.gains / self._given.sample_rate_hz)
        self._density = np.concatenate([self._density, density])
        self._silence = np.concatenate([self._silence, size <= silent_up_to(self._given)])
        self._n_given += len(mel)
        if self._n_given <= _NEIGHBOURS:
            return self._made_up_to(0)
        # A curve between two frames hangs on one more on each side.
        until = _middles_s(self._given, self._n_given - 2, self._n_given - 1)[0]
        n_about = int(until * self._wanted.frame_rate_hz) + 2
        ready = _middles_s(self._wanted, self._n_made, max(self._n_made, n_about)) <= until
        n_ready = self._n_made + int(np.count_nonzero(ready))
        return self._made_up_to(min(n_ready, self.n_frames(self._n_given)))

    def _made_up_to(self, end: int) -> FloatArray:
        """The frames from the first that was not made on."""
        places = _middles_s(self._given, self._first, self._n_given)
        made = self._nothing
        if end > self._n_made:
            times = _middles_s(self._wanted, self._n_made, end)
            silence = _along_lines(times, places, self._silence)
            # After a silence of -200 dB a curve would go 11 dB above what comes next.
            made = self._refiltered(_along_curves(times, places, self._density, _BEYOND), silence)
            self._n_made = end
        next_s = _middles_s(self._wanted, self._n_made, self._n_made + 1)
        n_over = max(0, int(np.searchsorted(places, next_s)[0]) - _NEIGHBOURS)
        n_over = min(n_over, max(0, len(places) - _NEIGHBOURS - 1))
        self._density, self._silence = self._density[n_over:], self._silence[n_over:]
        self._first += n_over
        return made

    def _refiltered(self, density: DoubleArray, silence: DoubleArray) -> FloatArray:
        """What the wanted filters find (k, M'), where the given ones find log densities (k, K), some of them silent."""
        moved = density.copy()
        for _ in range(_ROUNDS):
            moved += np.clip(density - _filtered(self._to_own(moved), self._source), -_STEP, _STEP)
        # Sums in a product hang on how many frames go together; so few bits do not.
        found = np.rint(_filtered(self._to_other(moved), self._target) / _GRAIN) * _GRAIN
        silence = _along_lines(self._target.middles_hz, self._source.middles_hz, silence.T).T
        power = np.zeros((len(found), self._wanted.n_mels))
        power[:, self._target.are_known] = np.where(silence > _ALL, 0.0, np.exp(found)) * self._target.gains
        size = (power * self._wanted.sample_rate_hz) ** (self._wanted.spectrum_power / 2)
        return from_linear(size.astype(np.float32), self._wanted)


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
    """Those that hold anything."""
    filters = heard_filters(config).astype(np.float64)
    bins_hz = np.linspace(0, config.sample_rate_hz / 2, filters.shape[1])
    are_known, are_heard = np.any(filters > 0, axis=1), np.any(filters > 0, axis=0)
    filters, bins_hz = filters[are_known][:, are_heard], bins_hz[are_heard]
    shares = filters / filters.sum(1, keepdims=True)
    return _Bands(config, are_known, shares, shares @ bins_hz, bins_hz, noise_gains(config)[0][are_known])


def _of_use(bands: _Bands, highest_hz: float) -> _Bands:
    """Those up to a frequency that lie higher than all before them: two narrow ones may have the same bin."""
    highest_before = np.maximum.accumulate(np.append(-1.0, bands.middles_hz[:-1]))
    kept = bands.middles_hz > highest_before + _APART * bands.config.sample_rate_hz / bands.config.n_fft
    kept &= np.cumsum(bands.middles_hz > highest_hz) <= _ABOVE
    are_known = bands.are_known.copy()
    are_known[are_known] = kept
    are_heard = bands.shares[kept].any(0)
    return _Bands(
        config=bands.config,
        are_known=are_known,
        shares=bands.shares[kept][:, are_heard],
        middles_hz=bands.middles_hz[kept],
        bins_hz=bands.bins_hz[are_heard],
        gains=bands.gains[kept],
    )


def _middles_s(config: MelConfig, first: int, end: int) -> DoubleArray:
    """The times in the middle of the stretches of frames."""
    begin = (config.hop_samples / 2 - config.lead_samples) / config.sample_rate_hz
    return np.asarray(np.arange(first, end) / config.frame_rate_hz + begin)


def _along_lines(at: DoubleArray, places: DoubleArray, rows: DoubleArray) -> DoubleArray:
    """Rows (n, k) at ascending places (n,), interpolated along a line at others (m,): (m, k)."""
    if len(places) == 1:
        return np.repeat(rows, len(at), axis=0)
    upper, share = _between(at, places)
    return np.asarray((1 - share) * rows[upper - 1] + share * rows[upper])


def _along_curves(
    at: DoubleArray, places: DoubleArray, rows: DoubleArray, beyond: float = np.inf
) -> DoubleArray:
    """The same along cubic curves, whose slope at a place is that of a parabola through it and its neighbours.

    A curve goes no further than `beyond` both rows beside.
    """
    if len(places) <= 2:
        return _along_lines(at, places, rows)
    gaps = np.diff(places)[:, None]
    slopes = np.diff(rows, axis=0) / gaps
    middle = (slopes[:-1] * gaps[1:] + slopes[1:] * gaps[:-1]) / (gaps[:-1] + gaps[1:])
    slopes = np.concatenate([slopes[:1], middle, slopes[-1:]])
    upper, share = _between(at, places)
    gap, rest = gaps[upper - 1], 1 - share
    before, after = rows[upper - 1], rows[upper]
    values = rest**2 * (1 + 2 * share) * before + share**2 * (1 + 2 * rest) * after
    values = values + gap * share * rest * (rest * slopes[upper - 1] - share * slopes[upper])
    return np.clip(values, np.minimum(before, after) - beyond, np.maximum(before, after) + beyond)


def _between(at: DoubleArray, places: DoubleArray) -> tuple[npt.NDArray[np.intp], DoubleArray]:
    """The place after each of `at` (m,), at least the second, and how far from the one before it is, (m, 1), 0 to 1."""
    upper = np.clip(np.searchsorted(places, at), 1, len(places) - 1)
    share = np.clip((at - places[upper - 1]) / (places[upper] - places[upper - 1]), 0, 1)
    return upper, share[:, None]
