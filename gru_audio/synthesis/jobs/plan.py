"""Which file is synthesized to which, and what became of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gru_audio.errors import AudioError, OutputError
from gru_audio.files import is_folder, why_no_file
from gru_audio.folders import files_with, require_targets
from gru_audio.signal.audio_file.reading import AUDIO_SUFFIXES
from gru_audio.signal.audio_file.writing import WRITTEN_SUFFIXES
from gru_audio.signal.mel_file import MEL_SUFFIXES


@dataclass(frozen=True)
class Job:
    """One file to synthesize from, and where the result goes."""

    source: Path
    target: Path


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
    found = [(source, relative) for given in sources for source, relative in _search(given)]
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
    for source, relative in found:
        if output is None:
            target = Path(f"{source.stem}-synthesized{suffix}")
        else:
            target = output if is_file else output / relative.with_suffix(suffix)
        jobs.append(Job(source, target))
    require_targets((job.source, job.target) for job in jobs)
    return jobs


def _search(given: Path) -> Iterable[tuple[Path, Path]]:
    """Files of an input, each with its path below it."""
    reason = why_no_file(given)
    if reason is None:
        return [(given, Path(given.name))]
    if not is_folder(given):
        reason = "no such file or folder" if reason == "no such file" else reason
        raise AudioError(f"{given}: {reason}; check the path")
    known = AUDIO_SUFFIXES | MEL_SUFFIXES
    files = files_with(given, known)
    if not files:
        raise AudioError(
            f"{given}: holds neither audio nor mels; it looks for files that end in {', '.join(sorted(known))}"
        )
    return files
