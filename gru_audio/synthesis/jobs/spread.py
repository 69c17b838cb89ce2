"""Files in, files out, as `batch` does it in threads: here in processes, those of a cluster where there is one."""

import contextlib
import functools
import socket
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gru_audio.config import MelConfig
from gru_audio.errors import CheckpointError, OutputError
from gru_audio.files import size_when_there
from gru_audio.parallel import map_in_order
from gru_audio.progress import ProgressCallback, ignore_progress
from gru_audio.synthesis.jobs.batch import JobsProgress, run_together
from gru_audio.synthesis.jobs.given import Given
from gru_audio.synthesis.jobs.plan import Job, Result
from gru_audio.synthesis.sampling import PLAIN_SAMPLING, Sampling
from gru_audio.synthesis.vocoder import Vocoder, load
from gru_audio.voice.bundled import voice_path
from gru_audio.voice.tensor_file import digest_of


@dataclass(frozen=True)
class SentVoice:
    """A voice as it is told to another process, which loads it from its file.

    Attributes:
        voice: a bundled voice's name, or the absolute path of a file.
        digest: of that file.
        engine, device, corrections: as `load` takes them.
    """

    voice: str
    digest: str
    engine: str
    device: str
    corrections: int | None

    @classmethod
    def of(cls, voice: str, engine: str, device: str = "auto", corrections: int | None = None) -> "SentVoice":
        """The voice that `load` would load; `engine` is one's name, as "auto" may mean another on each machine."""
        path = voice_path(voice)
        given = str(path.absolute()) if Path(voice).exists() else voice
        return cls(given, _digest(path), engine, device, corrections)


@dataclass(frozen=True)
class _Task:
    """Jobs that one process runs together."""

    jobs: tuple[Job, ...]
    voice: SentVoice
    sampling: Sampling
    given: Given

    def absolute(self) -> "_Task":
        """The same for a process that works in another folder."""
        jobs = (Job(job.source.absolute(), job.target.absolute()) for job in self.jobs)
        return replace(self, jobs=tuple(jobs))


def synthesize_in_processes(
    vocoder: Vocoder,
    voice: SentVoice,
    jobs: Sequence[Job],
    *,
    sampling: Sampling = PLAIN_SAMPLING,
    contract: MelConfig | None = None,
    adapt: bool = False,
    sharpen: float = 0.0,
    check: bool = True,
    processes: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Generator[Result, None, None]:
    """Run jobs as `synthesize_files` does, with equal results.

    Args:
        vocoder: of the voice.
        voice: the same for the processes.
        jobs: see `plan_jobs`.
        sampling: see `synthesize_files`; so for the next four.
        contract: of mels that state none.
        adapt: interpolate.
        sharpen: mels.
        check: refuse what does not fit.
        processes: see `map_in_order`; those of a cluster within `on_cluster`.
        progress: done and total are in jobs; it is told when jobs are over.

    Yields:
        One result for each job, in order.

    Raises:
        CheckpointError: a machine has no such voice, or another one.
    """
    given, n_at_once = Given(contract, adapt, sharpen, check), vocoder.engine.streams_at_once
    groups = [tuple(jobs[first : first + n_at_once]) for first in range(0, len(jobs), n_at_once)]
    tally = JobsProgress(len(jobs), progress)
    tasks = [_Task(group, voice, sampling, given) for group in groups]
    with contextlib.closing(map_in_order(_run, tasks, processes)) as finished:
        for index, results in enumerate(finished):
            tally.finish(index, len(results), sum(result.audio_s for result in results))
            for job, result in zip(groups[index], results, strict=True):
                yield _seen(replace(result, job=job))


def _run(task: _Task) -> list[Result]:
    return run_together(_loaded(task.voice), task.jobs, task.sampling, task.given, ignore_progress)


@functools.lru_cache(maxsize=1)
def _loaded(voice: SentVoice) -> Vocoder:
    """The voice in a process that has been told of it, for all its tasks."""
    if _digest(voice_path(voice.voice)) != voice.digest:
        raise CheckpointError(
            f"{voice.voice}: {socket.gethostname()} has another voice under this path; let all machines have the same "
            "one, and no training change it"
        )
    return load(voice.voice, voice.engine, voice.device, voice.corrections)


def _digest(path: Path) -> str:
    return digest_of(path.read_bytes())


def _seen(result: Result) -> Result:
    """A result once its file is here."""
    try:
        if result.written:
            size_when_there(result.job.target)
    except OutputError as error:
        return replace(result, audio_s=0.0, error=str(error))
    return result
