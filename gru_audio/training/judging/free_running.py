"""Free-running validation: a voice makes held-out clips from their mels alone, as its users will have it do.

A low loss under teacher forcing does not show that a voice loses its way once it hears only itself; this does.
The engine is the caller's: training does not know of synthesis.
"""

import contextlib
import importlib.util
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray, Made
from gru_audio.config import Config
from gru_audio.data.dataset import Dataset
from gru_audio.data.stored.clips import Clip
from gru_audio.errors import AudioError
from gru_audio.quality.material import LONGEST_S, SHORTEST_S, in_turn, mel_of
from gru_audio.quality.measures import log_mel_distance_db, pesq, silence_level_db
from gru_audio.quality.pitch_measures import PitchTrack, compare_pitch
from gru_audio.signal.audio import from_int16
from gru_audio.signal.audio_file.writing import write_audio
from gru_audio.signal.mel import log_mel
from gru_audio.signal.pitch import track_pitch
from gru_audio.voice.run_folder import reference_path, sample_path, sample_paths
from gru_audio.voice.voice import Voice

Synthesizer = Callable[[Voice, Sequence[FloatArray]], list[Made]]
"""Makes the audio (F * hop,) of each mel (F, M) with a voice in memory, with the same draws at every call."""


class Score(NamedTuple):
    """By which free-running voices are ranked: PESQ, or the log-mel distance where PESQ is not installed.

    Attributes:
        measure: "pesq" or "log_mel_db".
        value: its mean over the clips.
        step: the voice's.
    """

    measure: str
    value: float
    step: int

    @classmethod
    def of(cls, figures: Mapping[str, float], step: int) -> "Score | None":
        """The score of a free run; None where no clip could be measured."""
        measure = next((name for name in ("pesq", "log_mel_db") if name in figures), None)
        return None if measure is None else cls(measure, figures[measure], step)

    def beats(self, other: "Score | None") -> bool:
        """Whether it is better than another; two measures cannot be compared, so that the newer one goes on."""
        if other is None or other.measure != self.measure:
            return True
        return self.value > other.value if self.measure == "pesq" else self.value < other.value


@dataclass(frozen=True)
class HeldOutClip:
    """A clip that is made again and again.

    Attributes:
        name: unique among them, fit for a file's name.
        audio: (n,).
        mel: (F, M).
        pitch: of the audio.
    """

    name: str
    audio: FloatArray
    mel: FloatArray
    pitch: PitchTrack


@dataclass(frozen=True)
class FreeRun:
    """What a voice made.

    Attributes:
        figures: means over the clips, those of the network alone named raw_…; a measure that no clip allows is
            absent.
        audio: (n,) for each clip.
    """

    figures: dict[str, float]
    audio: Sequence[FloatArray]


class FreeRunning:
    """The held-out clips of a run, and what is measured on them.

    Attributes:
        clips: `train.free_running_clips` of the validation split.
    """

    def __init__(self, dataset: Dataset, config: Config, synthesize: Synthesizer) -> None:
        """Choose the clips, the same for every run on a dataset.

        Raises:
            DatasetError: a clip cannot be read.
        """
        self._config, self._synthesize = config, synthesize
        chosen = choose_clips(dataset.clips("valid"), config)
        longest = round(LONGEST_S * config.mel.frame_rate_hz) * config.mel.hop_samples
        self.clips = [
            self._held_out(
                f"{index}-{Path(clip.name).name}",
                from_int16(dataset.audio(clip, 0, longest)),
                mel_of(dataset, clip, longest) if config.train.given_mel_share else None,
            )
            for index, clip in enumerate(chosen)
        ]

    def run(self, voice: Voice) -> FreeRun:
        """Make all clips with a voice, and measure them."""
        lead, made = self._config.mel.lead_samples, self._synthesize(voice, [clip.mel for clip in self.clips])
        cut = [one.cut(lead, clip.audio.size) for one, clip in zip(made, self.clips, strict=True)]
        found = [
            self._measure(clip, one.audio) | _named_raw(self._measure(clip, one.raw))
            for clip, one in zip(self.clips, cut, strict=True)
        ]
        names = dict.fromkeys(chain.from_iterable(found))
        means = {name: statistics.fmean(row[name] for row in found if name in row) for name in names}
        return FreeRun(means, [one.audio for one in cut])

    def save(self, run: Path, free_run: FreeRun, step: int, keep: Iterable[int], n_kept: int) -> None:
        """Write what was made at a step into the run's folder, and remove all but the newest and some others.

        Args:
            run: the run's folder.
            free_run: what was made.
            step: of the voice that made it.
            keep: steps whose audio stays.
            n_kept: how many of the newest steps' stay.

        Raises:
            OutputError: it cannot be written.
        """
        rate_hz = self._config.mel.sample_rate_hz
        for clip, audio in zip(self.clips, free_run.audio, strict=True):
            write_audio(sample_path(run, step, clip.name), audio, rate_hz)
            if not reference_path(run, clip.name).exists():
                write_audio(reference_path(run, clip.name), clip.audio, rate_hz)
        by_step = sample_paths(run)
        for old in set(by_step) - set(sorted(by_step)[-n_kept:]) - set(keep):
            for path in by_step[old]:
                path.unlink()

    def pictures(self, free_run: FreeRun) -> list[npt.NDArray[np.uint8]]:
        """For each clip (3, H, W): its mel, and below it that of what was made."""
        made = [log_mel(audio, self._config.mel) for audio in free_run.audio]
        return [comparison_picture(clip.mel, mel) for clip, mel in zip(self.clips, made, strict=True)]

    def _held_out(self, name: str, audio: FloatArray, given: FloatArray | None) -> HeldOutClip:
        mel = log_mel(audio, self._config.mel) if given is None else given
        return HeldOutClip(name, audio, mel, self._pitch(audio))

    def _measure(self, clip: HeldOutClip, made: FloatArray) -> dict[str, float]:
        """Each measure that this clip allows."""
        rate_hz, figures = self._config.mel.sample_rate_hz, dict[str, float]()
        if has_pesq():
            with contextlib.suppress(AudioError):
                figures["pesq"] = pesq(clip.audio, made, rate_hz)
        with contextlib.suppress(AudioError):
            figures["log_mel_db"] = log_mel_distance_db(clip.audio, made, rate_hz, self._config.mel)
        with contextlib.suppress(AudioError):
            figures["silence_db"] = silence_level_db(clip.audio, made, rate_hz)
        error = compare_pitch(clip.pitch, self._pitch(made))
        if error.cents is not None:
            figures["pitch_cents"] = error.cents
        return {**figures, "voicing_error_percent": error.voicing_error_percent}

    def _pitch(self, audio: FloatArray) -> PitchTrack:
        """By our own tracker: evaluation's takes a second for each second of audio."""
        config, mel = self._config, self._config.mel
        lags = track_pitch(
            audio, mel.sample_rate_hz, hop_samples=mel.hop_samples,
            n_frames=audio.size // mel.hop_samples, lag_min_samples=config.lag_min_samples,
            lag_max_samples=config.lag_max_samples, lead_samples=mel.lead_samples,
        )  # fmt: skip
        return PitchTrack(mel.sample_rate_hz / np.maximum(lags.astype(np.float64), 1), lags > 0)


def _named_raw(figures: dict[str, float]) -> dict[str, float]:
    return {f"raw_{name}": value for name, value in figures.items()}


def choose_clips(clips: Sequence[Clip], config: Config) -> list[Clip]:
    """`train.free_running_clips` clips, of each speaker in turn; of 2 to 6 s where the speaker has any."""
    shortest, longest = (seconds * config.mel.sample_rate_hz for seconds in (SHORTEST_S, LONGEST_S))
    fitting = [clip for clip in clips if shortest <= clip.n_samples <= longest]
    served = {clip.speaker for clip in fitting}
    fitting += [clip for clip in clips if clip.speaker not in served]
    return in_turn(fitting, lambda clip: clip.speaker)[: config.train.free_running_clips]


def has_pesq() -> bool:
    """Whether the package that computes PESQ is installed."""
    return importlib.util.find_spec("pesq") is not None


def comparison_picture(reference: FloatArray, made: FloatArray) -> npt.NDArray[np.uint8]:
    """Two mels (F, M) as (3, 4 M + 2, F): the reference above, low bands at the bottom, in shades of heat.

    Both have one scale, the reference's. Source: the colour map "hot" of MATLAB.
    """
    low, high = float(reference.min()), float(reference.max())
    line = np.ones((2, len(reference)))
    shades = [
        np.clip((mel.T[::-1] - low) / max(high - low, 1e-6), 0, 1).repeat(2, 0) for mel in (reference, made)
    ]  # (2 M, F) each
    shade = np.concatenate([shades[0], line, shades[1]])
    return np.stack([255 * np.clip(3 * shade - channel, 0, 1) for channel in range(3)]).astype(np.uint8)
