"""Files in, files out: audio or mels of any length through a vocoder, several clips at a time."""

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from threading import Lock

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import AudioError, GruAudioError, MelError, OutputError
from gru_audio.files import require_writable
from gru_audio.folders import walk
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.signal.audio_file.reading import AUDIO_SUFFIXES, StoppedEarlyError, open_audio, read_audio
from gru_audio.signal.audio_file.writing import WRITTEN_SUFFIXES, open_writer
from gru_audio.signal.mel import summary
from gru_audio.signal.mel_adapt import fit_mel
from gru_audio.signal.mel_file import MEL_SUFFIXES, read_mel
from gru_audio.synthesis.feeding import Feed, audio_feed, drain, mel_feed
from gru_audio.synthesis.sampling import PLAIN_SAMPLING, Sampling
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.threads import map_in_threads

_reading_mels = Lock()  # mel_file changes the warnings' filters, which are the whole process's


@dataclass(frozen=True)
class Job:
    """One file to synthesize from, and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Given:
    """How mel files are taken; see `synthesize_files`."""

    contract: MelConfig | None
    adapt: bool
    check: bool


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
    _require_distinct(jobs)
    for folder in {job.target.parent for job in jobs}:
        require_writable(folder)
    return jobs


def synthesize_files(
    vocoder: Vocoder,
    jobs: Sequence[Job],
    *,
    sampling: Sampling = PLAIN_SAMPLING,
    contract: MelConfig | None = None,
    adapt: bool = False,
    check: bool = True,
    threads: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Generator[Result, None, None]:
    """Run jobs, several together; a job that fails stops no other. A clip's samples do not depend on the rest.

    Close the generator where you stop early; the clips under way are then given up.

    Args:
        vocoder: the voice and engine.
        jobs: see `plan_jobs`.
        sampling: seed, temperature and tail cut, the same for each clip.
        contract: the contract of mel files that state none; None for the voice's own.
        adapt: interpolate mels whose contract cannot be converted; see `mel_adapt`.
        check: refuse mels that are not what the voice wants; see `Vocoder.check`.
        threads: clips under way together, one for each CPU core by default; no matter to an engine whose streams
            go in step.
        progress: done and total are in jobs, with the real-time factor. It is called in the caller's thread.

    Yields:
        One result for each job, in order.
    """
    n_at_once = vocoder.streams_at_once
    groups = [jobs[first : first + n_at_once] for first in range(0, len(jobs), n_at_once)]
    n_threads = 1 if n_at_once > 1 else threads or _cores(len(jobs))
    tally = Tally(len(jobs), progress)

    def run(group: Sequence[Job], report: ProgressCallback) -> list[Result]:
        return run_together(vocoder, group, sampling, Given(contract, adapt, check), report)

    def advance(index: int, inner: Progress) -> None:
        share, n_streams = inner.done / inner.total, len(groups[index])
        tally.advance(index, share * n_streams, inner.done * n_streams / vocoder.mel_config.frame_rate_hz)

    with contextlib.closing(map_in_threads(run, groups, n_threads, advance)) as finished:
        for index, results in enumerate(finished):
            tally.finish(index, len(results), sum(result.audio_s for result in results))
            yield from results


class Tally:
    """How far all jobs are together, by parts that are under way at the same time."""

    def __init__(self, n_jobs: int, progress: ProgressCallback) -> None:
        self._n_jobs, self._progress, self._began = n_jobs, progress, time.perf_counter()
        self._n_done, self._audio_s = 0, 0.0
        self._under_way: dict[int, tuple[float, float]] = {}

    def advance(self, part: int, n_done: float, audio_s: float) -> None:
        """Report jobs and seconds of audio that are done of a part."""
        self._under_way[part] = n_done, audio_s
        self._report()

    def finish(self, part: int, n_jobs: int, audio_s: float) -> None:
        """Report a part that is over, whatever became of it."""
        self._under_way.pop(part, None)
        self._n_done, self._audio_s = self._n_done + n_jobs, self._audio_s + audio_s
        self._report()

    def _report(self) -> None:
        n_done = self._n_done + sum(n for n, _ in self._under_way.values())
        audio_s = self._audio_s + sum(seconds for _, seconds in self._under_way.values())
        speed = audio_s / (time.perf_counter() - self._began)
        self._progress(Progress(n_done, self._n_jobs, {"speed": f"{speed:.2f} x real time"}))


def run_together(
    vocoder: Vocoder,
    group: Sequence[Job],
    sampling: Sampling,
    given: Given,
    progress: ProgressCallback,
) -> list[Result]:
    """The results of jobs that the engine runs together; they alone are in memory."""
    if vocoder.streams_at_once == 1:
        return [_run_alone(vocoder, job, sampling, given, progress) for job in group]
    loaded = [_load(vocoder, job, given) for job in group]
    mels = [item.mel for item in loaded if isinstance(item, _Loaded)]
    audio = iter(vocoder.synthesize_batch(mels, sampling, check=False, progress=progress))
    return [
        replace(_write_made(job, next(audio)[item.keep], vocoder), notes=item.notes)
        if isinstance(item, _Loaded)
        else Result(job, error=item)
        for job, item in zip(group, loaded, strict=True)
    ]


def _run_alone(
    vocoder: Vocoder,
    job: Job,
    sampling: Sampling,
    given: Given,
    progress: ProgressCallback,
    ask_ffmpeg: bool = False,
) -> Result:
    """The result of a job that is read, run and written as it comes, so that its length takes no memory."""
    stream, config, notes = vocoder.start(sampling, check=False), vocoder.mel_config, tuple[str, ...]()
    try:
        with contextlib.ExitStack() as stack:
            if _is_mel(job):
                loaded = _load_mel(vocoder, job, given)
                feed, notes = mel_feed(loaded.mel, config, loaded.lead_samples), loaded.notes
            else:
                feed = audio_feed(stack.enter_context(open_audio(job.source, ask_ffmpeg=ask_ffmpeg)), config)
            counted = replace(feed, frames=_counted(feed, progress))
            return replace(_write(job, drain(stream, counted), vocoder), notes=notes)
    except StoppedEarlyError:
        return _run_alone(vocoder, job, sampling, given, progress, ask_ffmpeg=True)
    except (GruAudioError, MemoryError) as error:
        return Result(job, error=_told(job, error))


def _counted(feed: Feed, progress: ProgressCallback) -> Iterator[FloatArray]:
    """A feed's frames; those done are reported when the next are asked for."""
    n_done = 0
    for frames in feed.frames:
        yield frames
        n_done += len(frames)
        if n_done:  # where nobody knows how many there will be, half of them are done
            progress(Progress(n_done, max(n_done, 2 * n_done if feed.n_frames is None else feed.n_frames)))


def _cores(n_jobs: int) -> int:
    """CPU cores that this process may use, for so many jobs."""
    if n_jobs == 1:
        return 1  # joblib's import would take longer than a short clip
    import joblib

    return int(joblib.cpu_count())


@dataclass(frozen=True)
class _Loaded:
    """A mel (F, M) under the voice's contract, and which samples of its audio to keep."""

    mel: FloatArray
    lead_samples: int
    n_samples: int
    notes: tuple[str, ...] = ()

    @property
    def keep(self) -> slice:
        return slice(self.lead_samples, self.lead_samples + self.n_samples)


def _load(vocoder: Vocoder, job: Job, given: Given) -> "_Loaded | str":
    """The job's mel, or the error that prevents it."""
    try:
        if _is_mel(job):
            return _load_mel(vocoder, job, given)
        audio, sample_rate_hz = read_audio(job.source)
        n_samples = -(-audio.size * vocoder.sample_rate // sample_rate_hz)
        return _Loaded(vocoder.mel(audio, sample_rate_hz), vocoder.mel_config.lead_samples, n_samples)
    except (GruAudioError, MemoryError) as error:
        return _told(job, error)


def _is_mel(job: Job) -> bool:
    return job.source.suffix.lower() in MEL_SUFFIXES


def _load_mel(vocoder: Vocoder, job: Job, given: Given) -> _Loaded:
    """A mel file's frames (F, M) under the voice's contract, F > 0, checked."""
    wanted, notes, name = vocoder.mel_config, list[str](), str(job.source)
    assumed = given.contract or wanted
    with _reading_mels:
        mel, stated = read_mel(job.source, assumed, notes.append)
    if not len(mel):
        raise MelError(f"{job.source}: has no frames; write it again")
    if stated is assumed and given.contract is None:
        notes.append(
            f"states no mel contract; taken for the voice's own, {summary(wanted)}; --mel names another"
        )
    fitted, lead, interpolated = fit_mel(mel, stated or wanted, wanted, name, adapt=given.adapt)
    if interpolated:
        notes.append(f"interpolated from a mel with {interpolated}, at some loss of quality")
    if given.check:
        vocoder.check(fitted, name)
    return _Loaded(fitted, lead, len(fitted) * wanted.hop_samples - lead, tuple(notes))


def _told(job: Job, error: GruAudioError | MemoryError) -> str:
    """An error as a line."""
    if isinstance(error, MemoryError):
        return f"{job.source}: takes more memory than there is; cut it in pieces, or use fewer --jobs"
    return str(error)


def _write(job: Job, audio: Iterable[FloatArray], vocoder: Vocoder) -> Result:
    """Write audio as it comes; nothing is made at its place before the first of it has."""
    pieces = iter(audio)
    first = list(islice(pieces, 1))
    with open_writer(job.target, vocoder.sample_rate) as writer:
        for piece in chain(first, pieces):
            writer.write(piece)
    return Result(job, writer.n_samples / vocoder.sample_rate, writer.n_clipped)


def _write_made(job: Job, audio: FloatArray, vocoder: Vocoder) -> Result:
    """Write audio that is there as a whole."""
    try:
        return _write(job, [audio], vocoder)
    except (GruAudioError, MemoryError) as error:
        return Result(job, error=_told(job, error))


def _search(given: Path) -> Iterable[tuple[Path, Path]]:
    """Files of an input, each with its path below it."""
    if given.is_file():
        return [(given, Path(given.name))]
    if not given.is_dir():
        raise AudioError(f"{given}: no such file or folder; check the path")
    known = AUDIO_SUFFIXES | MEL_SUFFIXES
    files = sorted(path for path in walk(given) if path.is_file() and path.suffix.lower() in known)
    if not files:
        raise AudioError(
            f"{given}: holds neither audio nor mels; known are files that end in {', '.join(sorted(known))}"
        )
    return [(path, path.relative_to(given)) for path in files]


def _require_distinct(jobs: Sequence[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in sources:
            raise OutputError(f"{job.target}: would replace an input; choose another output")
        if target in taken:
            raise OutputError(
                f"{job.target}: {taken[target]} and {job.source} would both be written there; rename one"
            )
        taken[target] = job.source
