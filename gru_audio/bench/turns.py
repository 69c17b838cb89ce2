"""Fair timing on a machine that others use too: all that is compared takes turns, and medians are kept."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gru_audio.progress import Progress, ProgressCallback, ignore_progress

_PROBE_FRAMES = 4


@dataclass(frozen=True)
class Task:
    """One thing to time.

    Attributes:
        subject: what it belongs to, in words.
        figure: which of the subject's figures it gives.
        run: does the work and gives its amount, in samples.
    """

    subject: str
    figure: str
    run: Callable[[], int]


@dataclass(frozen=True)
class Speed:
    """A speed in three units."""

    samples_per_s: float
    times_real_time: float
    us_per_sample: float

    @classmethod
    def of(cls, samples_per_s: float, sample_rate_hz: int) -> "Speed":
        """The speed of audio at a sample rate."""
        return cls(samples_per_s, samples_per_s / sample_rate_hz, 1e6 / samples_per_s)


def take_turns(
    tasks: Sequence[Task], turns: int, progress: ProgressCallback = ignore_progress
) -> dict[tuple[str, str], float]:
    """Run every task once a turn; the median samples a second by subject and figure."""
    speeds: dict[tuple[str, str], list[float]] = {(task.subject, task.figure): [] for task in tasks}
    for turn in range(turns):
        for i, task in enumerate(tasks):
            progress(Progress(turn * len(tasks) + i, turns * len(tasks), {"timing": task.subject}))
            began = time.perf_counter()
            n_samples = task.run()
            speeds[task.subject, task.figure].append(n_samples / (time.perf_counter() - began))
    progress(Progress(turns * len(tasks), turns * len(tasks)))
    return {key: statistics.median(figures) for key, figures in speeds.items()}


def frames_a_turn(generate: Callable[[int], int], sample_rate_hz: int, seconds: float) -> int:
    """How many frames to generate in a turn: `seconds` of audio, or what takes about that long if it is less.

    Args:
        generate: makes the samples of a number of frames and returns how many they are; it is called twice.
        sample_rate_hz: of the samples.
        seconds: of audio, and of time.
    """
    generate(1)  # compiles, or loads what was compiled
    began = time.perf_counter()
    audio_s = generate(_PROBE_FRAMES) / sample_rate_hz
    times_real_time = audio_s / (time.perf_counter() - began)
    return max(1, round(min(1.0, times_real_time) * seconds * _PROBE_FRAMES / audio_s))
