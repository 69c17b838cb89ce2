"""Is a given mel what a voice wants? Its levels and its bands' profile, against those that the voice was trained on.

A mel in decibels that is taken for natural logarithms becomes full-scale noise. Four things are looked at:

1. Bounds: nothing a contract makes lies under its floor, and no audio is much louder than full scale.
2. Six figures of the mel, in units of the voice's own mean and deviation of each band: mean level, slope of the bands'
   profile, deviation in time, unevenness of the profile, lowest and highest values. 400 clips of 42 voices, as they are
   and with peaks of -20 and 0 dBFS, gave their mean and covariance (benchmarks/mel_figures.py). The mel's distance from
   these (Mahalanobis', squared) is compared with the distance it would have if it were stored in another way: as log10,
   in decibels, mapped to [0, 1] and so on.
3. Whether bands move together, as speech and music do. Steady noise is no speech, but may be copied.
4. The order of its values: bands that come from the highest to the lowest, and rows that are bands; see order.

Shapes: F frames, M bands.
"""

import numpy as np

from gru_audio.arrays import DoubleArray, FloatArray
from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.mel import MelFrames, to_linear
from gru_audio.signal.mel_adapt.conversion import lasting_differences
from gru_audio.signal.mel_adapt.levels import frame_levels
from gru_audio.signal.mel_check.storages import NORMALISED, SIZES, Storage, line_of, storages_of
from gru_audio.signal.mel_check.tally import LOUDEST_FRAME_DBFS, MOST_FRAMES, Bands, MelTally

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

_TOO_LOUD, _TOO_FAR = 1.8, 70.0  # mean level and distance of what no recording reaches
_LOUDER = 0.3  # a mel stored in another way that passes the bounds is louder than this
_FITS = 30.0  # distance of nearly all speech
_NAMED = 50.0  # distance up to which a storage is named where the voice's own is out of the question
_RARE = 10.0  # added to the distance of what few tools do
_TOGETHER = 0.35
_NEAR_MARGIN, _FRAMES_FOR_NEAR = 30.0, 160
_LEAST_FRAMES = 60
# Distance with the bands turned round, and by how much that is better.
_REVERSED_FITS, _REVERSED_GAIN = 25.0, 15.0


class MelJudge:
    """Knows what mels a voice wants; nothing changes it."""

    def __init__(self, config: MelConfig, mean: FloatArray, deviation: FloatArray) -> None:
        """Take a voice's contract, and the mean and deviation (M,) of its mel's bands."""
        self.config = config
        factor, _ = line_of(config)
        self._mean = mean.astype(np.float64)
        self._deviation = np.maximum(
            deviation.astype(np.float64), 0.5 * factor
        )  # a band may always have been empty
        self._slope = (self._mean - self._mean.mean()) / max(float(self._mean.var()) * self._mean.size, 1e-9)
        self.storages = storages_of(config)

    def require(self, mel: FloatArray, name: str = "mel") -> MelFrames:
        """Check a whole mel (F, M); returns it with its linear form, which the check needs.

        Raises:
            MelError: it is stored in another way than the voice wants, or cannot be speech.
        """
        tally, linear = MelTally(self.config), to_linear(mel, self.config)
        tally.add(mel, frame_levels(linear, self.config))
        complaint = self.complaint(tally)
        if complaint:
            raise MelError(f"{name}: {complaint}")
        return MelFrames(mel, linear)

    def complaint(self, tally: MelTally) -> str | None:
        """What is wrong with the mel so far, and what to do; None where nothing is."""
        if not tally.n_frames:
            return None
        reason, figures = tally.out_of_bounds(), self.figures(tally.bands)
        best, gain = self._best(tally, figures, _NAMED if reason else _FITS)
        if tally.n_frames < _LEAST_FRAMES and not reason:
            return None
        if tally.n_frames >= _LEAST_FRAMES and (order := self._wrong_order(tally, figures)):
            return f"looks like {order}, or add --force (in Python: check=False)"
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

    def _wrong_order(self, tally: MelTally, figures: DoubleArray) -> str | None:
        """What the order of the mel's values looks like, and what to do; None where it is as wanted."""
        if tally.order.is_transposed:
            return "bands x frames, not like frames x bands; transpose it (in NumPy: mel.T.copy())"
        turned = _distance(self.figures(tally.bands.reversed()))
        fits_better = turned < _REVERSED_FITS and _distance(figures) - turned > _REVERSED_GAIN
        if fits_better and tally.order.is_rougher_above and tally.moves_together > _TOGETHER:
            return "bands from the highest to the lowest; turn them round (in NumPy: mel[:, ::-1])"
        return None

    def _margin(self, storage: Storage, tally: MelTally) -> float:
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
            f"{self._other_tools(storage)}"
        )

    def _other_tools(self, storage: Storage) -> str:
        """Whose mels are stored so, too, at another rate or hop, which the check does not see."""
        line = _line_of_magnitudes(self.config.model_copy(update=storage.changes))
        names = [
            name
            for name, preset in MEL_PRESETS.items()
            if preset.n_mels == self.config.n_mels
            and np.allclose(_line_of_magnitudes(preset), line)
            and lasting_differences(preset, self.config)
        ]
        return f"; for a mel of {' or '.join(names)} add that --mel and --adapt instead" if names else ""

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

    def _best(self, tally: MelTally, figures: DoubleArray, limit: float) -> tuple[Storage | None, float]:
        """The storage that fits best, if any fits, and by how much better than the voice's own it does."""
        factor, offset = line_of(self.config)
        found: list[tuple[float, Storage]] = []
        for storage in self.storages:
            other_factor, other_offset = line_of(self.config.model_copy(update=storage.changes))
            ratio = factor / other_factor
            moved = tally.bands.moved(ratio, offset - ratio * other_offset)
            found.append((_distance(self.figures(moved)), storage))
        normal = tally.bands.moved(self._deviation, self._mean)
        by_clip = (np.abs(tally.bands.mean) < 0.1).all() and (np.abs(tally.bands.deviation - 1) < 0.5).all()
        distance = 0.0 if by_clip else _distance(self.figures(normal)) + _RARE
        found.append((distance, NORMALISED))
        if tally.logarithms is not None:
            for exponent in (
                1.0,
                0.5,
                2.0,
            ):  # sizes of the voice's spectrum, or powers or magnitudes in its place
                sizes = tally.logarithms.moved(exponent * factor, offset)
                found.append((_distance(self.figures(sizes)), SIZES))
        distance, best = min(found, key=lambda pair: pair[0])
        return (best, _distance(figures) - distance) if distance < limit else (None, 0.0)

    def figures(self, bands: Bands) -> DoubleArray:
        """Six figures of a mel's bands, of which its distance from speech is taken: see `_FIGURES_MEAN`."""

        def deviations(values: DoubleArray) -> DoubleArray:
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


def _line_of_magnitudes(config: MelConfig) -> tuple[float, float]:
    factor, offset = line_of(config)
    return factor * config.spectrum_power, offset


def _distance(figures: DoubleArray) -> float:
    from_mean = figures - _FIGURES_MEAN
    return float(from_mean @ _PRECISION @ from_mean)


class MelWatch:
    """The check of a stream: looks at once at what is far too loud, and at the rest each time the mel has doubled."""

    def __init__(self, judge: MelJudge) -> None:
        """Begin before the first frame."""
        self._judge, self._tally, self._next = judge, MelTally(judge.config), 1

    def push(self, mel: FloatArray) -> MelFrames:
        """Check the next frames (k, M); returns them with their linear form, which the check needs.

        Raises:
            MelError: they cannot be what the voice wants, or those before and they together.
        """
        frames = MelFrames(mel, linear := to_linear(mel, self._judge.config))
        levels = frame_levels(linear, self._judge.config)
        self._tally.add(mel, levels)
        n_frames = self._tally.n_frames
        if not len(mel) or (n_frames < self._next and levels.max() <= LOUDEST_FRAME_DBFS):
            return frames
        complaint = self._judge.complaint(self._tally)
        if complaint:
            raise MelError(f"mel up to frame {n_frames - 1}: {complaint}")
        self._next = (
            2 * max(n_frames, _LEAST_FRAMES // 2) if n_frames < MOST_FRAMES else n_frames + MOST_FRAMES
        )
        return frames
