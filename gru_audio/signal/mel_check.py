"""Is a given mel what a voice wants? Its levels and its bands' profile, against those that the voice was trained on.

A mel in decibels that is taken for natural logarithms becomes full-scale noise. Three things are looked at:

1. Bounds: nothing a contract makes lies under its floor, and no audio is much louder than full scale.
2. Six figures of the mel, in units of the voice's own mean and deviation of each band: mean level, slope of the bands'
   profile, deviation in time, unevenness of the profile, lowest and highest values. 400 clips of 42 voices, as they are
   and with peaks of -20 and 0 dBFS, gave their mean and covariance (benchmarks/mel_figures.py). The mel's distance from
   these (Mahalanobis', squared) is compared with the distance it would have if it were stored in another way: as log10,
   in decibels, mapped to [0, 1] and so on.
3. Whether bands move together, as speech and music do. Steady noise is no speech, but may be copied.

Shapes: F frames, M bands.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.mel import MelFrames, analysis_window, filterbank, log_unit, to_linear

Doubles = npt.NDArray[np.float64]

_FIGURES_MEAN = np.array([-0.409, 0.887, -0.158, -1.157, -2.247, 1.289])
_FIGURES_COVARIANCE = np.array(
    [
        [0.253, 0.026, -0.032, -0.069, 0.217, 0.209],
        [0.026, 0.06, -0.014, -0.054, 0.03, 0.019],
        [-0.032, -0.014, 0.06, 0.018, -0.141, 0.019],
        [-0.069, -0.054, 0.018, 0.176, -0.034, -0.059],
        [0.217, 0.03, -0.141, -0.034, 0.502, 0.1],
        [0.209, 0.019, 0.019, -0.059, 0.1, 0.231],
    ]
)
_PRECISION = np.linalg.inv(_FIGURES_COVARIANCE)

_UNDER_FLOOR = 2.0  # nepers: what a network predicts may fall a little short of the floor
_UNDER_FLOOR_SHARE = 0.01
_LOUDEST_FRAME_DBFS, _LOUD_FRAME_DBFS, _LOUD_SHARE, _LOUD_MEAN_DBFS = 20.0, 6.0, 0.05, 2.0
_TOO_LOUD, _TOO_FAR = 1.8, 70.0  # mean level and distance of what no recording reaches
_LOUDER = 0.3  # a mel stored in another way that passes the bounds is louder than this
_FITS = 30.0  # distance of nearly all speech
_NAMED = 50.0  # distance up to which a storage is named where the voice's own is out of the question
_RARE = 10.0  # added to the distance of what few tools do
_TOGETHER = 0.35
_NEAR_MARGIN, _FRAMES_FOR_NEAR = 30.0, 160
_POWERS_MARGIN = 9.0  # twice that of any recording: a short, lively one at full scale comes near to it
_CUT_SHARE = 0.005  # of values that are the lowest one: something cut them off there
_LEAST_FRAMES = 60
_MOST_FRAMES = 1000  # are looked at; what was speech so far stays so


@dataclass(frozen=True)
class Storage:
    """One way to store a band's size.

    Attributes:
        name: for the user.
        changes: the fields in which a contract that stores so differs from the voice's.
        mend: what to do where no contract says it.
        is_near: loud, clipped speech comes near to it, so that more is asked for.
        margin: by how much better than the voice's own it must fit.
    """

    name: str
    changes: dict[str, Any]
    mend: str = ""
    is_near: bool = False
    margin: float = 1.0


def _storages(config: MelConfig) -> list[Storage]:
    power = 2 if config.spectrum == "power" else 1
    other = "powers" if power == 1 else "magnitudes"
    found = [
        Storage("natural logarithms", {"log": "ln", "scale": 1.0, "offset": 0.0}),
        Storage("log10", {"log": "log10", "scale": 1.0, "offset": 0.0}),
        Storage("decibels", {"log": "db", "scale": 1.0, "offset": 0.0}),
        Storage("decibels with 100 added", {"log": "db", "scale": 1.0, "offset": 100.0}),
        Storage("decibels mapped to [0, 1]", {"log": "db", "scale": 0.01, "offset": 1.0}),
        Storage("decibels mapped to [-4, 4]", {"log": "db", "scale": 0.08, "offset": 2.4}, is_near=True),
        Storage("log10 of powers as Whisper maps it", {"log": "log10", "scale": 0.5 / power, "offset": 1.0}),
        Storage(
            f"logarithms of {other}",
            {"scale": config.scale * (2 if power == 1 else 0.5)},
            margin=_POWERS_MARGIN,
        ),
        Storage(
            "made from samples as 16-bit integers",
            {
                "offset": round(
                    config.offset + power * config.scale * float(np.log(32768)) / log_unit(config), 4
                )
            },
        ),
    ]
    return [one for one in found if _line(config.model_copy(update=one.changes)) != _line(config)]


def _line(config: MelConfig) -> tuple[float, float]:
    """Factor and offset from the natural logarithm to what is stored."""
    return config.scale / log_unit(config), config.offset


class MelJudge:
    """Knows what mels a voice wants; nothing changes it."""

    def __init__(self, config: MelConfig, mean: FloatArray, deviation: FloatArray) -> None:
        """Take a voice's contract, and the mean and deviation (M,) of its mel's bands."""
        self.config = config
        factor, _ = _line(config)
        self._mean = mean.astype(np.float64)
        self._deviation = np.maximum(
            deviation.astype(np.float64), 0.5 * factor
        )  # a band may always have been empty
        self._slope = (self._mean - self._mean.mean()) / max(float(self._mean.var()) * self._mean.size, 1e-9)
        self.storages = _storages(config)

    def require(self, mel: FloatArray, name: str = "mel") -> MelFrames:
        """Check a whole mel (F, M); returns it with its linear form, which the check needs.

        Raises:
            MelError: it is stored in another way than the voice wants, or cannot be speech.
        """
        tally, linear = Tally(self.config), to_linear(mel, self.config)
        tally.add(mel, frame_levels(linear, self.config))
        complaint = self.complaint(tally)
        if complaint:
            raise MelError(f"{name}: {complaint}")
        return MelFrames(mel, linear)

    def complaint(self, tally: "Tally") -> str | None:
        """What is wrong with the mel so far, and what to do; None where nothing is."""
        if not tally.n_frames:
            return None
        reason, figures = tally.out_of_bounds(), self._figures(tally.bands)
        best, gain = self._best(tally, figures, _NAMED if reason else _FITS)
        if tally.n_frames < _LEAST_FRAMES and not reason:
            return None
        too_even = figures[0] > _TOO_LOUD and _distance(figures) > _TOO_FAR
        moves = tally.moves_together > _TOGETHER and figures[0] > _LOUDER
        fits_better = best and moves and gain > self._margin(best, tally)
        if best and gain > 0 and (reason or too_even or fits_better):
            return self._looks_like(best)
        if reason or too_even:
            made_of = "it is louder and more even than any speech"
            return (
                f"cannot be speech under the voice's contract: {reason or made_of}; make it with that contract "
                "(gru-audio info prints it), or add --force (in Python: check=False)"
            )
        return None

    def _margin(self, storage: Storage, tally: "Tally") -> float:
        """By how much better than the voice's own a storage must fit."""
        if not storage.is_near or tally.is_cut:
            return storage.margin
        return _NEAR_MARGIN if tally.n_frames >= _FRAMES_FOR_NEAR else np.inf

    def _looks_like(self, storage: Storage) -> str:
        looks = f"looks like {storage.name}, not like the voice's contract"
        if storage.mend:
            return f"{looks}; {storage.mend}, or add --force (in Python: check=False)"
        return (
            f"{looks}; add --mel {self._spelt(storage)}, or --force (in Python: convert_mel, or check=False)"
        )

    def _spelt(self, storage: Storage) -> str:
        """The contract as --mel takes it: a preset's name, or the fields that differ from the voice's."""
        wanted = self.config.model_copy(update=storage.changes)
        for name, preset in MEL_PRESETS.items():
            if preset.model_copy(update={"floor": wanted.floor, "padding": wanted.padding}) == wanted:
                return name
        changes = {key: value for key, value in storage.changes.items() if value != getattr(self.config, key)}
        return ",".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in changes.items()
        )

    def _best(self, tally: "Tally", figures: Doubles, limit: float) -> tuple[Storage | None, float]:
        """The storage that fits best, if any fits, and by how much better than the voice's own it does."""
        factor, offset = _line(self.config)
        found: list[tuple[float, Storage]] = []
        for storage in self.storages:
            other_factor, other_offset = _line(self.config.model_copy(update=storage.changes))
            ratio = factor / other_factor
            moved = tally.bands.moved(ratio, offset - ratio * other_offset)
            found.append((_distance(self._figures(moved)), storage))
        normal = tally.bands.moved(self._deviation, self._mean)
        by_clip = (np.abs(tally.bands.mean) < 0.1).all() and (np.abs(tally.bands.deviation - 1) < 0.5).all()
        distance = 0.0 if by_clip else _distance(self._figures(normal)) + _RARE
        found.append((distance, _NORMALISED))
        if tally.logarithms is not None:
            for exponent in (
                1.0,
                0.5,
                2.0,
            ):  # sizes of the voice's spectrum, or powers or magnitudes in its place
                sizes = tally.logarithms.moved(exponent * factor, offset)
                found.append((_distance(self._figures(sizes)), _SIZES))
        distance, best = min(found, key=lambda pair: pair[0])
        return (best, _distance(figures) - distance) if distance < limit else (None, 0.0)

    def _figures(self, bands: "Bands") -> Doubles:
        def deviations(values: Doubles) -> Doubles:
            return np.asarray((values - self._mean) / self._deviation)

        level = deviations(bands.mean)
        return np.array(
            [
                level.mean(),
                bands.mean @ self._slope,
                np.log(bands.deviation.mean() / self._deviation.mean() + 0.05),
                np.log(level.std() + 0.02),
                deviations(bands.lowest).mean(),
                deviations(bands.highest).mean(),
            ]
        )


_SIZES = Storage("sizes without a logarithm", {}, "take their logarithm first")
_NORMALISED = Storage(
    "bands brought to mean 0 and deviation 1", {}, "undo that first, with the table that it was done with"
)


def _distance(figures: Doubles) -> float:
    from_mean = figures - _FIGURES_MEAN
    return float(from_mean @ _PRECISION @ from_mean)


@dataclass(frozen=True)
class Bands:
    """Each band's mean, deviation, lowest and highest value, (M,) each."""

    mean: Doubles
    deviation: Doubles
    lowest: Doubles
    highest: Doubles

    def moved(self, factor: "float | Doubles", offset: "float | Doubles") -> "Bands":
        """Those of the same mel times a positive factor, and an offset added; of all bands, or (M,) of each."""
        return Bands(
            factor * self.mean + offset,
            factor * self.deviation,
            factor * self.lowest + offset,
            factor * self.highest + offset,
        )


class _Sums:
    """Sums over frames, of which `Bands` are made."""

    def __init__(self, n_bands: int) -> None:
        self._n = 0
        self._first, self._second = np.zeros(n_bands), np.zeros(n_bands)
        self._lowest, self._highest = np.full(n_bands, np.inf), np.full(n_bands, -np.inf)

    def add(self, values: Doubles) -> None:
        self._n += len(values)
        self._first += values.sum(0)
        self._second += np.square(values).sum(0)
        self._lowest = np.minimum(self._lowest, values.min(0))
        self._highest = np.maximum(self._highest, values.max(0))

    @property
    def bands(self) -> Bands:
        mean = self._first / self._n
        return Bands(
            mean,
            np.sqrt(np.maximum(self._second / self._n - mean**2, 0)),
            self._lowest,
            self._highest,
        )


class Tally:
    """What is known of a mel that comes piece by piece."""

    def __init__(self, config: MelConfig) -> None:
        """Begin with no frames under a contract."""
        self._config, self.n_frames = config, 0
        self._bands, self._frames = _Sums(config.n_mels), _Sums(1)
        self._logarithms: _Sums | None = _Sums(config.n_mels)
        factor, offset = _line(config)
        floor = factor * float(np.log(config.floor)) + offset
        self._step = factor  # a neper
        self._bound = floor - _UNDER_FLOOR * factor * (2 if config.spectrum == "power" else 1)
        self._n_under = self._n_loud = self._n_lowest = 0
        self._lowest, self._floor = np.inf, floor
        self._power = 0.0
        self._loudest = (-np.inf, 0)  # dBFS, and which frame

    def add(self, mel: FloatArray, levels: Doubles) -> None:
        """Take frames (k, M) and their `frame_levels` (k,)."""
        if not len(mel):
            return
        if levels.max() > self._loudest[0]:
            self._loudest = float(levels.max()), self.n_frames + int(levels.argmax())
        values = np.clip(mel.astype(np.float64), -1e30, 1e30)[: max(0, _MOST_FRAMES - self.n_frames)]
        self.n_frames += len(mel)
        if not len(values):
            return
        levels = levels[: len(values)]
        self._n_loud += int(np.count_nonzero(levels > _LOUD_FRAME_DBFS))
        self._power += float((10 ** (levels / 10)).sum())
        self._n_under += int(np.count_nonzero(values < self._bound))
        if values.min() < self._lowest:
            self._lowest, self._n_lowest = float(values.min()), 0
        self._n_lowest += int(np.count_nonzero(values == self._lowest))
        self._bands.add(values)
        self._frames.add(values.mean(1, keepdims=True))
        if values.min() < 0:
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
        n_values = min(self.n_frames, _MOST_FRAMES) * self._config.n_mels
        return self._n_lowest > _CUT_SHARE * n_values and self._lowest > self._floor + self._step

    @property
    def moves_together(self) -> float:
        """From 0, where bands change each for itself as in noise, to 1."""
        own = float(self.bands.deviation.mean())
        return float(self._frames.bands.deviation[0]) / own if own > 0 else 0.0

    def out_of_bounds(self) -> str | None:
        """What no audio makes under the contract."""
        n_seen = min(self.n_frames, _MOST_FRAMES)
        under, loud = self._n_under / (n_seen * self._config.n_mels), self._n_loud / n_seen
        mean_dbfs = 10 * np.log10(self._power / n_seen + 1e-30)
        if under > _UNDER_FLOOR_SHARE:
            return f"{under:.0%} of its values lie far below the contract's floor"
        if self._loudest[0] > _LOUDEST_FRAME_DBFS:
            return f"frame {self._loudest[1]} is {self._loudest[0]:.0f} dB over full scale"
        if loud > _LOUD_SHARE:
            return f"{loud:.0%} of its frames are more than {_LOUD_FRAME_DBFS:.0f} dB over full scale"
        if mean_dbfs > _LOUD_MEAN_DBFS:
            return f"its level is {mean_dbfs:.0f} dB over full scale"
        return None


class Watch:
    """The check of a stream: looks at once at what is far too loud, and at the rest each time the mel has doubled."""

    def __init__(self, judge: MelJudge) -> None:
        """Begin before the first frame."""
        self._judge, self._tally, self._next = judge, Tally(judge.config), 1

    def push(self, mel: FloatArray) -> MelFrames:
        """Check the next frames (k, M); returns them with their linear form, which the check needs.

        Raises:
            MelError: they cannot be what the voice wants, or those before and they together.
        """
        frames = MelFrames(mel, linear := to_linear(mel, self._judge.config))
        levels = frame_levels(linear, self._judge.config)
        self._tally.add(mel, levels)
        n_frames = self._tally.n_frames
        if not len(mel) or (n_frames < self._next and levels.max() <= _LOUDEST_FRAME_DBFS):
            return frames
        complaint = self._judge.complaint(self._tally)
        if complaint:
            raise MelError(f"mel up to frame {n_frames - 1}: {complaint}")
        self._next = (
            2 * max(n_frames, _LEAST_FRAMES // 2) if n_frames < _MOST_FRAMES else n_frames + _MOST_FRAMES
        )
        return frames


def frame_levels(linear: FloatArray, config: MelConfig) -> Doubles:
    """(F,) about how loud the audio of each frame is, in dBFS: exact for noise, too little for high tones.

    Args:
        linear: (F, M), see `to_linear`.
        config: the mel's contract.
    """
    gains, widths = noise_gains(config)
    size = linear.astype(np.float64)
    power = (size if config.spectrum == "power" else size**2) / gains
    return np.asarray(10 * np.log10(power @ widths + 1e-30))


@lru_cache(maxsize=8)
def noise_gains(config: MelConfig) -> tuple[Doubles, Doubles]:
    """What a band holds, in power, of noise of power 1 a sample; and which share of the spectrum a band is."""
    filters, window = filterbank(config).astype(np.float64), analysis_window(config).astype(np.float64)
    omega = 2 * np.pi * np.arange(filters.shape[1]) / config.n_fft
    emphasis = np.abs(1 - config.preemphasis * np.exp(-1j * omega))
    energy = float(np.sum(window**2))
    if config.spectrum == "power":
        gains = energy * (filters @ emphasis**2)
    else:
        gains = energy * np.pi / 4 * (filters @ emphasis) ** 2  # a bin's size is Rayleigh's
    return np.maximum(gains, 1e-30), np.count_nonzero(filters, axis=1) / 2 / filters.shape[1]
