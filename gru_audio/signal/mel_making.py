"""Mels of audio files, in files: what a TTS is trained on, so that a voice can speak what it makes."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from gru_audio.config import MelConfig
from gru_audio.errors import AudioError, GruAudioError
from gru_audio.folders import find_files, require_targets
from gru_audio.parallel import map_in_order
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.signal.audio import require_at_rate, resample
from gru_audio.signal.audio_file.reading import AUDIO_SUFFIXES, read_audio
from gru_audio.signal.mel import log_mel
from gru_audio.signal.mel_file import write_mel

Layout = Literal["frames", "bands"]
"""Which axis comes first."""


@dataclass(frozen=True)
class MelTask:
    """One file to make a mel of, where it goes, and how; `error` says why there can be none."""

    source: Path
    target: Path
    contract: MelConfig
    layout: Layout
    error: str | None = None


@dataclass(frozen=True)
class MelMade:
    """What became of a task; `error` says why nothing was written."""

    task: MelTask
    n_frames: int = 0
    error: str | None = None


def plan_mels(
    sources: Sequence[Path], folder: Path, suffix: str, contract: MelConfig, layout: Layout = "frames"
) -> list[MelTask]:
    """Pair audio with mels; folders are searched, and keep their structure below `folder`.

    Raises:
        AudioError: an input does not exist, or a folder holds no audio.
        OutputError: two mels would have one name, or the folder cannot be written.
    """
    tasks = [
        MelTask(file.path, folder / file.relative.with_suffix(suffix), contract, layout, file.error)
        for given in sources
        for file in find_files(given, AUDIO_SUFFIXES, "no audio")
    ]
    require_targets((task.source, task.target) for task in tasks if not task.error)
    return tasks


def make_mels(
    tasks: Sequence[MelTask], jobs: int | None = None, progress: ProgressCallback = ignore_progress
) -> Generator[MelMade, None, None]:
    """Make mels, several at a time; a file that fails stops no other.

    Args:
        tasks: see `plan_mels`.
        jobs: processes, one for each CPU core by default.
        progress: done and total are in files.

    Yields:
        One result for each task, in order.
    """
    for n_done, made in enumerate(map_in_order(_make, tasks, jobs), start=1):
        progress(Progress(n_done, len(tasks)))
        yield made


def _make(task: MelTask) -> MelMade:
    contract = task.contract
    try:
        if task.error:
            raise AudioError(task.error)
        audio, sample_rate_hz = read_audio(task.source)
        require_at_rate(audio, sample_rate_hz, contract.sample_rate_hz, str(task.source))
        samples = resample(audio, sample_rate_hz, contract.sample_rate_hz)
        mel = log_mel(np.pad(samples, (0, -samples.size % contract.hop_samples)), contract)
        write_mel(task.target, mel if task.layout == "frames" else mel.T, contract)
    except (GruAudioError, MemoryError) as error:
        return MelMade(task, error=str(error) or f"{task.source}: takes more memory than there is")
    return MelMade(task, len(mel))
