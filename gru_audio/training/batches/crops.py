"""Training batches: random crops of a dataset, run through the closed loop.

A crop is a function of the seed, the step and its place in the batch, so a resumed run sees what the
interrupted one would have seen, and so do several processes that share a batch, however many there are.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import Config
from gru_audio.data.dataset import Dataset
from gru_audio.data.stored.clips import Clip, Clips
from gru_audio.errors import DatasetError
from gru_audio.signal.audio import from_int16, to_int16
from gru_audio.signal.codec import CodecTrace, pre_emphasis, run_closed_loop
from gru_audio.signal.lpc import frame_filters
from gru_audio.signal.mel import log_mel, mirrored_samples, silent_frames
from gru_audio.training.batches.augmentation import Change, augment, augmented_lags, draw_change, is_on
from gru_audio.training.batches.batch import Batch
from gru_audio.training.batches.raw_crops import RawCrops, bounds_within, mirrored, reach_of

ArrayBatch = Batch[npt.NDArray[Any]]

_STATISTICS_CROPS = 512  # at most
_SMALLEST_STD = 0.1  # of a mel band over the training set: a band that never changes stays usable
_STATISTICS_STREAM = 1 << 40  # a step that no run reaches: its random stream is the statistics' own


class Share(NamedTuple):
    """Which part of every batch a process takes.

    Attributes:
        rank: of this process, from 0.
        n_processes: among how many batches are divided.
    """

    rank: int = 0
    n_processes: int = 1

    def of(self, n_crops: int) -> range:
        """Its crops of a batch, by number; shares differ by one where they cannot be even."""
        bounds = (n_crops * (self.rank + extra) // self.n_processes for extra in (0, 1))
        return range(*bounds)


WHOLE = Share()


class _Place(NamedTuple):
    """A crop of a clip: its first frame is counted in the clip as `change` leaves it; its mel may be the given one."""

    clip: Clip
    first: int
    change: Change
    takes_given: bool = False


class _Recording(NamedTuple):
    """A stretch of a changed clip.

    Attributes:
        audio: (n,) samples, whole frames.
        first: the frame of the clip at which they begin.
        n_clip_frames: of the whole clip.
    """

    audio: FloatArray
    first: int
    n_clip_frames: int


class CropSource:
    """Draws batches of crops from one split of a dataset."""

    def __init__(self, dataset: Dataset, config: Config, split: str, context_frames: int) -> None:
        """Index the split.

        Args:
            dataset: made with `config.mel`.
            config: its tables mel, signal and train; what it augments and balances is the training split alone.
            split: `"train"`, `"valid"` or `"test"`.
            context_frames: mel frames given before and after each crop.

        Raises:
            DatasetError: the mel contracts or the pitch ranges differ, or the split is empty.
        """
        dataset.require_mel(config.mel)
        dataset.require_pitch_range(config.signal)
        if split != "train":
            always = {"speaker_balance": 0.0, "given_mel_share": float(config.train.given_mel_share > 0)}
            plain = config.train.without_augmentation().model_copy(update=always)
            config = config.model_copy(update={"train": plain})
        self._dataset, self._config, self._context = dataset, config, context_frames
        self._clips = dataset.clips(split)
        if not self._clips:
            raise DatasetError(f"{dataset.path}: its split '{split}' is empty; prepare more clips")
        self._weights = start_weights(self._clips, config.train.speaker_balance)
        self._ends: dict[int, npt.NDArray[np.float64]] = {}

    def batch(self, step: int, share: Share = WHOLE, n_returns: int = 0) -> ArrayBatch:
        """The batch after `step` steps, as large as that stage's.

        Args:
            step: how many are done.
            share: the part of it that is wanted; all of it by default.
            n_returns: how often the run went back to a checkpoint; it draws other crops each time.
        """
        n_frames = self._n_frames(step)
        return self._stack(self._draw(rng, n_frames) for rng in self._randoms(step, share, n_returns))

    def raw_batch(self, step: int, share: Share = WHOLE, n_returns: int = 0) -> RawCrops:
        """What `batch` is made from, for whoever makes it elsewhere; given mels have no place in it."""
        n_frames = self._n_frames(step)
        crops = [self._draw_raw(rng, n_frames) for rng in self._randoms(step, share, n_returns)]
        return RawCrops(*(np.stack(column) for column in zip(*crops, strict=True)))

    @property
    def batch_size(self) -> int:
        """Crops of the first batch."""
        return self._config.train.batch_size

    @property
    def has_given_mels(self) -> bool:
        """Whether a crop's mel may be one that was given for its clip."""
        return self._config.train.given_mel_share > 0 and self._clips.have_mels

    def _n_frames(self, step: int) -> int:
        return self._config.train.stage_at(step).crop_samples // self._config.mel.hop_samples

    def _randoms(self, step: int, share: Share, n_returns: int) -> Iterator[np.random.Generator]:
        """One for each crop of a share."""
        train = self._config.train
        for index in share.of(train.stage_at(step).batch_size):
            seeds = np.random.SeedSequence(train.seed, spawn_key=(n_returns, step, index))
            yield np.random.default_rng(seeds)

    def mel_statistics(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation (M,) of the mel over random crops, no more than the clips hold side by side."""
        rng = np.random.default_rng((self._config.train.seed, _STATISTICS_STREAM))
        n_frames = self._config.train.crop_samples // self._config.mel.hop_samples
        n_held = int(self._clips.n_samples.sum()) // self._config.train.crop_samples
        frames = []
        for _ in range(min(_STATISTICS_CROPS, max(1, n_held))):
            place = self._place(rng, n_frames)
            reach = range(place.first - self._context, place.first + n_frames + self._context)
            frames.append(self._mel(place, self._recording(place, reach), reach))
        every = np.concatenate(frames)
        return every.mean(0), np.maximum(every.std(0), _SMALLEST_STD)

    def _place(self, rng: np.random.Generator, n_frames: int) -> _Place:
        """Where a crop of F frames is cut, and how it is changed."""
        clip, first = self.spot(rng, n_frames)
        if clip.has_mel and self._draws_given(rng):
            return _Place(clip, first, Change(self._config.mel.hop_samples, 1.0), takes_given=True)
        if not is_on(self._config.train):
            return _Place(clip, first, Change(self._config.mel.hop_samples, 1.0))
        change = draw_change(rng, self._config)
        # The changed clip has other frames: the crop begins at the same moment, or as late as one fits.
        fits = max(0, clip.n_samples // change.source_hop - n_frames)
        return _Place(clip, min(first * self._config.mel.hop_samples // change.source_hop, fits), change)

    def _draws_given(self, rng: np.random.Generator) -> bool:
        share = self._config.train.given_mel_share
        return rng.random() < share if 0 < share < 1 else share > 0

    def spot(self, rng: np.random.Generator, n_frames: int) -> tuple[Clip, int]:
        """A clip and the frame at which a crop of F frames starts in it."""
        if n_frames not in self._ends:
            counts = self._count_starts(self._clips.n_samples, n_frames)
            self._ends[n_frames] = np.cumsum(counts * self._weights)
        ends = self._ends[n_frames]
        position = rng.random() * ends[-1]
        index = min(int(np.searchsorted(ends, position, side="right")), len(ends) - 1)
        clip, before = self._clips[index], ends[index - 1] if index else 0.0
        n_starts = int(self._count_starts(np.array(clip.n_samples), n_frames))
        first = int((position - before) / self._weights[index])
        return clip, min(first, n_starts - 1)

    def _count_starts(self, n_samples: npt.NDArray[np.int64], n_frames: int) -> npt.NDArray[np.int64]:
        """At how many frames of clips of some lengths a crop can start; a clip shorter than one has one."""
        counts: npt.NDArray[np.int64] = np.maximum(
            1, n_samples // self._config.mel.hop_samples - n_frames + 1
        )
        return counts

    def _draw(self, rng: np.random.Generator, n_frames: int) -> ArrayBatch:
        """One crop of F frames, as a batch without its first axis."""
        config, hop, context = self._config, self._config.mel.hop_samples, self._context
        n_run_in = config.run_in_samples // hop
        place = self._place(rng, n_frames)
        first, last = place.first - n_run_in, place.first + n_frames
        recording = self._recording(place, range(first - context, last + context))
        mel = self._mel(place, recording, range(first - context, last + context))
        filters = frame_filters(mel[context : len(mel) - context], config.mel, config.signal)
        signal = self._signal(recording, range(first, last))
        noise = self._noise(rng, signal.size)
        trace: CodecTrace = run_closed_loop(signal, filters, config.signal, noise)
        crop = slice(config.run_in_samples, None)
        return Batch(
            mel[n_run_in:],
            self._lags(place, n_frames),
            trace.target[crop],
            trace.excitation,
            trace.previous_signal[crop],
            trace.prediction[crop],
        )

    def _draw_raw(self, rng: np.random.Generator, n_frames: int) -> RawCrops:
        """The same crop as of `_draw`, as it travels; without the first axis."""
        config, hop = self._config, self._config.mel.hop_samples
        place = self._place(rng, n_frames)
        first, last = place.first - config.run_in_samples // hop, place.first + n_frames
        frames = range(first - self._context, last + self._context)
        recording = self._recording(place, frames)
        wanted, began = reach_of(frames, config.mel), recording.first * hop
        audio = mirrored(recording.audio, range(wanted.start - began, wanted.stop - began))
        known = range(recording.n_clip_frames + (config.mel.padding == "center"))
        return RawCrops(
            audio if is_on(config.train) else to_int16(audio),
            np.array(bounds_within(known, frames)),
            np.array(bounds_within(range(recording.n_clip_frames * hop), wanted)),
            self._lags(place, n_frames),
            self._noise(rng, (last - first) * hop),
        )

    def _noise(self, rng: np.random.Generator, n_samples: int) -> npt.NDArray[np.int8]:
        most = self._config.train.code_noise
        return rng.integers(-most, most + 1, n_samples, np.int8)

    def _recording(self, place: _Place, frames: range) -> _Recording:
        """The changed clip's audio, as far as some of its frames' windows reach."""
        mel, source_hop = self._config.mel, place.change.source_hop
        margin = -(-mirrored_samples(mel) // mel.hop_samples)  # frames whose windows could reach over a cut
        n_clip_frames = place.clip.n_samples // source_hop
        first, last = max(frames.start - margin, 0), min(frames.stop + margin, n_clip_frames)
        pcm = self._dataset.audio(place.clip, first * source_hop, last * source_hop)
        return _Recording(augment(from_int16(pcm), place.change, self._config), first, n_clip_frames)

    def _mel(self, place: _Place, recording: _Recording, frames: range) -> FloatArray:
        """(len(frames), M); silence outside the clip."""
        config = self._config.mel
        # With padding "center" a last frame stands around the clip's end.
        n_mel_frames = recording.n_clip_frames + (config.padding == "center")
        mel = silent_frames(len(frames), config)
        start, stop = max(frames.start, 0), min(frames.stop, n_mel_frames)
        if place.takes_given:
            known = self._dataset.given_mel(place.clip, start, stop)
        else:
            known = log_mel(recording.audio, config)[start - recording.first : stop - recording.first]
        mel[start - frames.start : stop - frames.start] = known
        return mel

    def _signal(self, recording: _Recording, frames: range) -> FloatArray:
        """The pre-emphasised samples of some frames; silence outside the clip."""
        hop, lead = self._config.mel.hop_samples, self._config.mel.lead_samples
        # From the recording's first sample on; pre-emphasis looks one sample back.
        low, high = ((frame - recording.first) * hop - lead for frame in (frames.start, frames.stop))
        low -= 1
        audio = np.zeros(high - low, np.float32)
        start, stop = max(low, 0), min(high, len(recording.audio))
        audio[start - low : stop - low] = recording.audio[start:stop]
        return pre_emphasis(audio, self._config.signal.preemphasis)[1:]

    def _lags(self, place: _Place, n_frames: int) -> FloatArray:
        """The labels (F,) of a crop; unvoiced behind the clip's end."""
        hop, change = self._config.mel.hop_samples, place.change
        middles = (place.first + np.arange(n_frames) + 0.5) * change.source_hop / hop
        sources = middles.astype(np.int64)
        known = self._dataset.lags(place.clip, int(sources[0]), int(sources[-1]) + 1)
        lags = np.zeros(n_frames, np.float32)
        inside = sources - sources[0] < len(known)
        lags[inside] = known[(sources - sources[0])[inside]]
        return lags if change.source_hop == hop else augmented_lags(lags, change, self._config)

    @staticmethod
    def _stack(crops: Iterable[ArrayBatch]) -> ArrayBatch:
        return Batch(*(np.stack(column) for column in zip(*crops, strict=True)))


def start_weights(clips: Clips, balance: float) -> npt.NDArray[np.float64]:
    """(clips,), how often each start in a clip is taken: a speaker's share goes with its samples to 1 - balance."""
    samples = np.bincount(clips.speaker, clips.n_samples)
    return np.power(samples[clips.speaker], -balance, dtype=np.float64)
