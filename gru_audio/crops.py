"""Training batches: random crops of a dataset, run through the closed loop.

A crop is a function of the seed, the step and its place in the batch, so a resumed run sees what the
interrupted one would have seen, and so do several processes that share a batch, however many there are.

Shapes: see model.py; W is the run-in before a crop, in samples.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.audio import from_int16
from gru_audio.codec import CodecTrace, pre_emphasis, run_closed_loop
from gru_audio.config import Config
from gru_audio.dataset import Clip, Dataset
from gru_audio.errors import DatasetError
from gru_audio.lpc import frame_filters
from gru_audio.mel import FloatArray, log_mel, silent_frames

CodeArray = npt.NDArray[np.int16]

_STATISTICS_CROPS = 512
_SMALLEST_STD = 0.1  # of a mel band over the training set: a band that never changes stays usable
_STATISTICS_STREAM = 1 << 40  # a step that no run reaches: its random stream is the statistics' own


class Batch(NamedTuple):
    """What one training step reads.

    Attributes:
        mel: (B, F + 2 * context, M), the crop's frames and the conditioner's context.
        lags: (B, F), pitch labels in samples, 0 where unvoiced.
        target: (B, T), codes to be predicted.
        history: (B, W + T), noisy excitation codes from the run-in on.
        previous_signal: (B, T), codes of s[t - 1].
        prediction: (B, T), codes of the prediction of s[t].
    """

    mel: FloatArray
    lags: FloatArray
    target: CodeArray
    history: CodeArray
    previous_signal: CodeArray
    prediction: CodeArray


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


class CropSource:
    """Draws batches of crops from one split of a dataset."""

    def __init__(self, dataset: Dataset, config: Config, split: str, context_frames: int) -> None:
        """Index the split.

        Args:
            dataset: made with `config.mel`.
            config: its tables mel, signal and train.
            split: `"train"`, `"valid"` or `"test"`.
            context_frames: mel frames given before and after each crop.

        Raises:
            DatasetError: the mel contracts or the pitch ranges differ, or the split is empty.
        """
        dataset.require_mel(config.mel)
        dataset.require_pitch_range(config.signal)
        self._dataset, self._config, self._context = dataset, config, context_frames
        self._clips = dataset.clips(split)
        if not self._clips:
            raise DatasetError(f"{dataset.path}: its split '{split}' is empty; prepare more clips")
        self._ends: dict[int, npt.NDArray[np.int64]] = {}

    def batch(self, step: int, share: Share = WHOLE, n_returns: int = 0) -> Batch:
        """The batch after `step` steps, as large as that stage's.

        Args:
            step: how many are done.
            share: the part of it that is wanted; all of it by default.
            n_returns: how often the run went back to a checkpoint; it draws other crops each time.
        """
        train = self._config.train
        stage = train.stage_at(step)
        n_frames = stage.crop_samples // self._config.mel.hop_samples
        streams = (
            np.random.SeedSequence(train.seed, spawn_key=(n_returns, step, index))
            for index in share.of(stage.batch_size)
        )
        return self._stack(self._draw(np.random.default_rng(stream), n_frames) for stream in streams)

    def mel_statistics(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation (M,) of the mel over random crops."""
        rng = np.random.default_rng((self._config.train.seed, _STATISTICS_STREAM))
        n_frames = self._config.train.crop_samples // self._config.mel.hop_samples
        frames = np.concatenate(
            [self._mel(*self._place(rng, n_frames), n_frames, run_in=0) for _ in range(_STATISTICS_CROPS)]
        )
        return frames.mean(0), np.maximum(frames.std(0), _SMALLEST_STD)

    def _place(self, rng: np.random.Generator, n_frames: int) -> tuple[Clip, int]:
        """A clip and the frame at which a crop of F frames starts in it."""
        if n_frames not in self._ends:
            self._ends[n_frames] = np.cumsum(self._count_starts(n_frames))
        ends = self._ends[n_frames]
        position = int(rng.integers(ends[-1]))
        index = int(np.searchsorted(ends, position, side="right"))
        return self._clips[index], position - int(ends[index - 1] if index else 0)

    def _count_starts(self, n_frames: int) -> list[int]:
        """For each clip at how many frames a crop can start, all equally likely; a clip shorter than one has one."""
        hop = self._config.mel.hop_samples
        return [max(1, clip.n_samples // hop - n_frames + 1) for clip in self._clips]

    def _draw(self, rng: np.random.Generator, n_frames: int) -> Batch:
        """One crop of F frames, as a batch without its first axis."""
        config, hop, context = self._config, self._config.mel.hop_samples, self._context
        clip, first = self._place(rng, n_frames)
        n_run_in = config.warm_up_samples // hop
        mel = self._mel(clip, first, n_frames, run_in=n_run_in)
        filters = frame_filters(mel[context : len(mel) - context], config.mel, config.signal)
        signal = self._signal(clip, first - n_run_in, n_run_in + n_frames)
        noise = rng.integers(-config.train.code_noise, config.train.code_noise + 1, signal.size, np.int8)
        trace: CodecTrace = run_closed_loop(signal, filters, config.signal, noise)
        lags = np.zeros(n_frames, np.float32)
        known = self._dataset.lags(clip, first, min(first + n_frames, clip.n_samples // hop))
        lags[: len(known)] = known
        crop = slice(config.warm_up_samples, None)
        return Batch(
            mel[n_run_in:],
            lags,
            trace.target[crop],
            trace.excitation,
            trace.previous_signal[crop],
            trace.prediction[crop],
        )

    def _mel(self, clip: Clip, first: int, n_frames: int, run_in: int) -> FloatArray:
        """Frames first - run_in - context to first + F + context; silence outside the clip."""
        mel_config = self._config.mel
        hop, n_clip_frames = mel_config.hop_samples, clip.n_samples // mel_config.hop_samples
        low, high = first - run_in - self._context, first + n_frames + self._context
        margin = -(-mel_config.n_fft // hop)  # frames whose windows could reach over a slice's cut
        from_frame, to_frame = max(low - margin, 0), min(high + margin, n_clip_frames)
        # With padding "center" a last frame stands around the clip's end.
        n_mel_frames = n_clip_frames + (mel_config.padding == "center")
        audio = from_int16(self._dataset.audio(clip, from_frame * hop, to_frame * hop))
        computed = log_mel(audio, mel_config)
        mel = silent_frames(high - low, mel_config)
        inside = slice(max(low, 0), min(high, n_mel_frames))
        mel[inside.start - low : inside.stop - low] = computed[
            inside.start - from_frame : inside.stop - from_frame
        ]
        return mel

    def _signal(self, clip: Clip, first: int, n_frames: int) -> FloatArray:
        """The pre-emphasised samples of frames first to first + n_frames; silence outside the clip."""
        hop, lead = self._config.mel.hop_samples, self._config.mel.lead_samples
        low = first * hop - lead - 1  # pre-emphasis looks one sample back
        high = low + 1 + n_frames * hop
        audio = np.zeros(high - low, np.float32)
        start, stop = max(low, 0), min(high, clip.n_samples)
        audio[start - low : stop - low] = from_int16(self._dataset.audio(clip, start, stop))
        return pre_emphasis(audio, self._config.signal.preemphasis)[1:]

    @staticmethod
    def _stack(crops: Iterable[Batch]) -> Batch:
        return Batch(*(np.stack(column) for column in zip(*crops, strict=True)))
