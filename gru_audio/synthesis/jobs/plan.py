"""Which file is synthesized to which, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gru_audio.errors import OutputError
from gru_audio.folders import find_files, require_targets
from gru_audio.signal.audio_file.reading import AUDIO_SUFFIXES
from gru_audio.signal.audio_file.writing import WRITTEN_SUFFIXES
from gru_audio.signal.mel_file import MEL_SUFFIXES


@dataclass(frozen=True)
class Job:
    """One file to synthesize from, and where the result goes; `error` says why there can be none."""

    source: Path
    target: Path
    error: str | None = None


@dataclass(frozen=True)
class Result:
    """What became of a job.

    Attributes:
        job: the files.
        audio_s: seconds of audio written.
        n_clipped: samples that were over full scale and were clipped.
        error: why nothing was written, or of a stream why it ended early; None where all went well.
        notes: what had to be assumed of a mel, or was lost on the way from another contract.
    """

    job: Job
    audio_s: float = 0.0
    n_clipped: int = 0
    error: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def written(self) -> bool:
        """Whether there is audio at the job's target."""
        return not self.error or self.audio_s > 0


def plan_jobs(sources: Sequence[Path], output: Path | None, suffix: str) -> list[Job]:
    """Pair inputs with outputs.

    A single file goes to `output` where that has an audio suffix, else into the folder `output`. Folders are
    searched, and keep their structure below `output`. Without `output` results go to the current folder as
    `NAME-synthesized` and the suffix.

    Raises:
        AudioError: an input does not exist, or a folder holds neither audio nor mels.
        OutputError: an output would replace an input or another output, or cannot be written.
    """
    known = AUDIO_SUFFIXES | MEL_SUFFIXES
    found = [file for given in sources for file in find_files(given, known, "neither audio nor mels")]
    if (
        output is not None
        and output.suffix.lower() in AUDIO_SUFFIXES - set(WRITTEN_SUFFIXES)
        and not output.is_dir()
    ):
        raise OutputError(
            f"{output}: only {' and '.join(WRITTEN_SUFFIXES)} are written; choose one of them, or a folder"
        )
    is_file = output is not None and output.suffix.lower() in WRITTEN_SUFFIXES
    if is_file and (len(found) != 1 or sources[0].is_dir()):
        raise OutputError(f"{output}: one file cannot take {len(found)} results; give a folder")
    jobs = []
    for file in found:
        if output is None:
            target = Path(f"{file.path.stem}-synthesized{suffix}")
        else:
            target = output if is_file else output / file.relative.with_suffix(suffix)
        jobs.append(Job(file.path, target, file.error))
    require_targets((job.source, job.target) for job in jobs if not job.error)
    return jobs
