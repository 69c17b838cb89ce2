"""What is counted of a mel as it comes, whatever its length. Shapes: see judge.py."""

from dataclasses import dataclass

import numpy as np

from gru_audio.arrays import DoubleArray, FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.mel_check.order import Order
from gru_audio.signal.mel_check.storages import line_of

_UNDER_FLOOR = 2.0  # nepers: what a network predicts may fall a little short of the floor
_UNDER_FLOOR_SHARE = 0.01
LOUDEST_FRAME_DBFS, _LOUD_FRAME_DBFS, _LOUD_SHARE, _LOUD_MEAN_DBFS = 20.0, 6.0, 0.05, 2.0
_CUT_SHARE = 0.005  # of values that are the lowest one: something cut them off there
MOST_FRAMES = 1000  # are looked at; what was speech so far stays so


@dataclass(frozen=True)
class Bands:
    """Each band's mean, deviation, lowest and highest value, (M,) each."""

    mean: DoubleArray
    deviation: DoubleArray
    lowest: DoubleArray
    highest: DoubleArray

    def moved(self, factor: "float | DoubleArray", offset: "float | DoubleArray") -> "Bands":
        """Those of the same mel times a positive factor, and an offset added; of all bands, or (M,) of each."""
        return Bands(
            factor * self.mean + offset,
            factor * self.deviation,
            factor * self.lowest + offset,
            factor * self.highest + offset,
        )

    def reversed(self) -> "Bands":
        """Those of the same mel with its bands the other way round."""
        return Bands(self.mean[::-1], self.deviation[::-1], self.lowest[::-1], self.highest[::-1])


class _Sums:
    """Sums over frames, of which `Bands` are made."""

    def __init__(self, n_bands: int) -> None:
        self._n = 0
        self._first, self._second = np.zeros(n_bands), np.zeros(n_bands)
        self._lowest, self._highest = np.full(n_bands, np.inf), np.full(n_bands, -np.inf)

    def add(self, values: DoubleArray) -> None:
        self._n += len(values)
        if len(values) == 1:  # of a stream: its sums over frames are itself
            self._add(values[0], np.square(values[0]), values[0], values[0])
        else:
            self._add(values.sum(0), np.square(values).sum(0), values.min(0), values.max(0))

    def _add(
        self, first: DoubleArray, second: DoubleArray, lowest: DoubleArray, highest: DoubleArray
    ) -> None:
        self._first += first
        self._second += second
        self._lowest = np.minimum(self._lowest, lowest)
        self._highest = np.maximum(self._highest, highest)

    @property
    def bands(self) -> Bands:
        mean = self._first / self._n
        return Bands(
            mean,
            np.sqrt(np.maximum(self._second / self._n - mean**2, 0)),
            self._lowest,
            self._highest,
        )


class MelTally:
    """What is known of a mel that comes piece by piece."""

    def __init__(self, config: MelConfig) -> None:
        """Begin with no frames under a contract."""
        self._config, self.n_frames = config, 0
        self._bands, self._frames = _Sums(config.n_mels), _Sums(1)
        self._logarithms: _Sums | None = _Sums(config.n_mels)
        factor, offset = line_of(config)
        floor = factor * float(np.log(config.floor)) + offset
        self._step = factor  # a neper
        neper = factor * config.spectrum_power
        self.order = Order(config.n_mels, neper)
        self._bound = floor - _UNDER_FLOOR * neper
        self._n_under = self._n_loud = self._n_lowest = 0
        self._lowest, self._floor = np.inf, floor
        self._power = 0.0
        self._loudest = (-np.inf, 0)  # dBFS, and which frame

    def add(self, mel: FloatArray, levels: DoubleArray) -> None:
        """Take frames (k, M) and their `frame_levels` (k,)."""
        if not len(mel):
            return
        loudest = int(levels.argmax())
        if levels[loudest] > self._loudest[0]:
            self._loudest = float(levels[loudest]), self.n_frames + loudest
        values = mel[: max(0, MOST_FRAMES - self.n_frames)].astype(np.float64)
        self.n_frames += len(mel)
        if not len(values):
            return
        np.minimum(np.maximum(values, -1e30, out=values), 1e30, out=values)
        lowest, levels = float(values.min()), levels[: len(values)]
        self._n_loud += int(np.count_nonzero(levels > _LOUD_FRAME_DBFS))
        self._power += float((10 ** (levels / 10)).sum())
        if lowest < self._bound:
            self._n_under += int(np.count_nonzero(values < self._bound))
        if lowest < self._lowest:
            self._lowest, self._n_lowest = lowest, 0
        if lowest == self._lowest:
            self._n_lowest += int(np.count_nonzero(values == lowest))
        self._bands.add(values)
        self.order.add(values)
        self._frames.add(values.mean(1, keepdims=True))
        if lowest < 0:
            self._logarithms = None
        elif self._logarithms is not None:
            # Under the voice's floor there is nothing; sizes are of its spectrum, or of the other one.
            self._logarithms.add(np.log(np.maximum(values, self._config.floor)))

    @property
    def bands(self) -> Bands:
        """Of the mel as it stands."""
        return self._bands.bands

    @property
    def logarithms(self) -> Bands | None:
        """Of its natural logarithm; None where a value is below 0."""
        return None if self._logarithms is None else self._logarithms.bands

    @property
    def is_cut(self) -> bool:
        """Many values are the lowest one, which is not the contract's floor."""
        n_values = min(self.n_frames, MOST_FRAMES) * self._config.n_mels
        return self._n_lowest > _CUT_SHARE * n_values and self._lowest > self._floor + self._step

    @property
    def moves_together(self) -> float:
        """From 0, where bands change each for itself as in noise, to 1."""
        own = float(self.bands.deviation.mean())
        return float(self._frames.bands.deviation[0]) / own if own > 0 else 0.0

    def out_of_bounds(self) -> str | None:
        """What no audio makes under the contract."""
        n_seen = min(self.n_frames, MOST_FRAMES)
        under, loud = self._n_under / (n_seen * self._config.n_mels), self._n_loud / n_seen
        mean_dbfs = 10 * np.log10(self._power / n_seen + 1e-30)
        if under > _UNDER_FLOOR_SHARE:
            return f"{under:.0%} of its values lie far below the contract's floor"
        if self._loudest[0] > LOUDEST_FRAME_DBFS:
            return f"frame {self._loudest[1]} is {self._loudest[0]:.0f} dB over full scale"
        if loud > _LOUD_SHARE:
            return f"{loud:.0%} of its frames are more than {_LOUD_FRAME_DBFS:.0f} dB over full scale"
        if mean_dbfs > _LOUD_MEAN_DBFS:
            return f"its level is {mean_dbfs:.0f} dB over full scale"
        return None
