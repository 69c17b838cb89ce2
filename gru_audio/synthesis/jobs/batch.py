"""Files in, files out: audio or mels of any length through a vocoder, several clips at a time."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock

from gru_audio.arrays import Made
from gru_audio.config import MelConfig
from gru_audio.errors import AudioError, GruAudioError
from gru_audio.files import files_open_at_once
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.signal.audio_file.decoding import StoppedEarlyError
from gru_audio.signal.audio_file.reading import open_audio
from gru_audio.signal.audio_file.writing import open_writer
from gru_audio.signal.mel import MelFrames
from gru_audio.synthesis.feeding import Wanted, audio_feed, mel_feed
from gru_audio.synthesis.jobs.given import Given, is_mel, load_mel
from gru_audio.synthesis.jobs.plan import Job, Result
from gru_audio.synthesis.sampling import PLAIN_SAMPLING, Sampling
from gru_audio.synthesis.stream import require_finite
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.threads import map_in_threads

_FILES_OF_A_JOB = 4  # open: what is read, what is written, and the locks
JOBS_FOR_THREADS = 16
"""Of so many jobs some wait for the disk."""
_THREADS = 4  # that feed a group: more wait for the interpreter, 8.9 s where 4 take 7.4 (docs/figures.md)


def synthesize_files(
    vocoder: Vocoder,
    jobs: Sequence[Job],
    *,
    sampling: Sampling = PLAIN_SAMPLING,
    contract: MelConfig | None = None,
    adapt: bool = False,
    sharpen: float = 0.0,
    check: bool = True,
    threads: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Generator[Result, None, None]:
    """Run jobs, several together; a job that fails stops no other. A clip's samples do not depend on the rest.

    Close the generator where you stop early; the clips under way are then given up.

    Args:
        vocoder: the voice and engine.
        jobs: see `plan.plan_jobs`.
        sampling: seed, temperature and tail cut, the same for each clip.
        contract: the contract of mel files that state none; None for the voice's own.
        adapt: interpolate mels whose contract cannot be converted; see `mel_adapt`.
        sharpen: how much mels are sharpened, where they are too smooth; see `mel_adapt.sharpening`.
        check: refuse mels that are not what the voice wants; see `Vocoder.check`.
        threads: clips under way together, one for each CPU core by default; no matter to an engine whose streams
            go in step.
        progress: done and total are in jobs, with the real-time factor. It is called in the caller's thread.

    Yields:
        One result for each job, in order.
    """
    n_at_once, n_threads = vocoder.engine.streams_at_once, threads or _cores(len(jobs))
    if n_at_once > 1:  # one group's files are read while another's samples are made
        n_threads = vocoder.engine.groups_at_once if len(jobs) >= 2 * JOBS_FOR_THREADS else 1
        n_open = files_open_at_once(_FILES_OF_A_JOB * len(jobs)) // _FILES_OF_A_JOB
        n_at_once = max(1, min(n_at_once, -(-len(jobs) // n_threads), n_open // n_threads))
    # Those that go in step should be of one length.
    order = (
        sorted(range(len(jobs)), key=lambda i: _size(jobs[i].source)) if n_at_once > 1 else range(len(jobs))
    )
    numbers = [order[first : first + n_at_once] for first in range(0, len(jobs), n_at_once)]
    groups = [[jobs[number] for number in group] for group in numbers]
    tally = JobsProgress(len(jobs), progress)

    feeding = Lock() if vocoder.engine.streams_at_once > 1 else None

    def run(group: Sequence[Job], report: ProgressCallback) -> list[Result]:
        return run_together(
            vocoder, group, sampling, Given(contract, adapt, sharpen, check), report, feeding=feeding
        )

    def advance(index: int, inner: Progress) -> None:
        share, n_streams = inner.done / inner.total, len(groups[index])
        tally.advance(index, share * n_streams, inner.done * n_streams / vocoder.mel_config.frame_rate_hz)

    with contextlib.closing(map_in_threads(run, groups, n_threads, advance)) as finished:
        waiting, n_given = dict[int, Result](), 0
        for index, results in enumerate(finished):
            tally.finish(index, len(results), sum(result.audio_s for result in results))
            waiting |= zip(numbers[index], results, strict=True)
            while n_given in waiting:
                yield waiting.pop(n_given)
                n_given += 1


class JobsProgress:
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
    ask_ffmpeg: bool = False,
    feeding: contextlib.AbstractContextManager[object] | None = None,
) -> list[Result]:
    """The results of jobs that the engine runs together, each read, run and written as it comes.

    `feeding` is held while files are read and written, so that of groups in several threads one is fed and others run.
    """
    streams, shares = vocoder.start_in_step(len(group), sampling), _Shares(len(group), progress)
    results, stopped_early = dict[int, Result](), list[int]()
    under_way = [
        _UnderWay(_steps(vocoder, job, given, ask_ffmpeg, partial(shares.report, number)))
        for number, job in enumerate(group)
    ]

    def go_on(number: int, job: Job) -> None:
        """Hand a job what was made of its frames, and take its next ones."""
        try:
            mel = under_way[number].next_frames()
        except StopIteration as end:
            results[number] = end.value
        except StoppedEarlyError:
            results[number] = Result(job)
            stopped_early.append(number)
        except (GruAudioError, MemoryError) as error:
            results[number] = Result(job, error=_told(job, error))
        else:
            if mel is not None:
                streams.push(number, mel)
            else:
                ended.add(number)
                streams.end(number)
            return
        streams.give_up(number)

    in_flight, ended = set[int](), set[int]()

    def can_go_on(number: int) -> bool:
        """Not while it waits; nor at its end, before the last of it has been made."""
        is_last = number in ended and number in in_flight
        return not (is_last or number in results or streams.is_waiting(number))

    def feed(numbers: Sequence[int]) -> None:
        for number in numbers:
            while can_go_on(number):
                go_on(number, group[number])

    with contextlib.ExitStack() as stack:
        for one in under_way:
            stack.callback(one.steps.close)
        in_turn: Callable[..., Iterable[None]] = map
        parts = [range(len(group))]
        if len(group) >= JOBS_FOR_THREADS:  # files and mels: C, which lets go of the interpreter
            from concurrent.futures import ThreadPoolExecutor

            in_turn = stack.enter_context(ThreadPoolExecutor(_THREADS)).map
            parts = [range(first, len(group), _THREADS) for first in range(_THREADS)]
        while len(results) < len(group):  # what is made now is written in the next turn, while more is made
            in_flight = set(filter(streams.is_waiting, range(len(group))))
            made_of_all = streams.launch()
            with feeding or contextlib.nullcontext():
                for _ in in_turn(feed, parts):
                    pass
            shares.tell()
            for one, made in zip(under_way, made_of_all(), strict=True):
                one.made.append(made)
    if stopped_early:  # they begin anew
        again = [group[number] for number in stopped_early]
        anew = run_together(vocoder, again, sampling, given, lambda _: shares.tell(), True, feeding)
        results |= zip(stopped_early, anew, strict=True)
    return [results[number] for number in range(len(group))]


class _UnderWay:
    """A job's steps, and what was made since the last of them."""

    def __init__(self, steps: Generator[MelFrames | None, Made, Result]) -> None:
        self.steps, self.made, self._has_begun = steps, list[Made](), False

    def next_frames(self) -> MelFrames | None:
        """The job's next step; raises what the step does, and after the last StopIteration with the result."""
        if not self._has_begun:
            self._has_begun = True
            return next(self.steps)
        made = self.made[0] if len(self.made) == 1 else Made.joined(self.made)
        self.made.clear()
        return self.steps.send(made)


def _steps(
    vocoder: Vocoder, job: Job, given: Given, ask_ffmpeg: bool, report: Callable[[int, int], None]
) -> Generator[MelFrames | None, Made, Result]:
    """A job, step by step, so that its length takes no memory.

    Yields:
        The mel's next frames; None where there are no more. What was made of them is sent in return.
    """
    if job.error:
        raise AudioError(job.error)
    config, notes, n_raw, n_made = vocoder.mel_config, tuple[str, ...](), 0, 0
    with contextlib.ExitStack() as stack:
        if is_mel(job):
            loaded = load_mel(vocoder, job, given)
            feed, notes = mel_feed(loaded.mel, config, loaded.lead_samples), loaded.notes
        else:
            feed = audio_feed(stack.enter_context(open_audio(job.source, ask_ffmpeg=ask_ffmpeg)), config)
        wanted, writer = Wanted(feed), None
        for mel in chain(feed.frames, [None]):
            audio, raw = yield mel
            require_finite(raw, n_raw // config.hop_samples, config.hop_samples)
            require_finite(audio, n_made // config.hop_samples, config.hop_samples)
            n_raw, n_made = n_raw + raw.size, n_made + audio.size
            heard = wanted.of(audio, has_ended=mel is None)
            if writer is None and (heard.size or mel is None):  # not before there is something to write
                writer = stack.enter_context(open_writer(job.target, vocoder.sample_rate))
            if writer is not None:
                writer.write(heard)
            n_done = n_raw // config.hop_samples
            if n_done:  # where nobody knows how many there will be, half of them are done
                report(n_done, max(n_done, 2 * n_done if feed.n_frames is None else feed.n_frames))
    assert writer is not None
    return Result(job, writer.n_samples / vocoder.sample_rate, writer.n_clipped, notes=notes)


class _Shares:
    """How far the jobs of a group are together: the mean of their frames and shares.

    It is told once a round, not for each job: those who listen would take the interpreter from hundreds of others.
    """

    def __init__(self, n_jobs: int, progress: ProgressCallback) -> None:
        self._n_done, self._shares, self._progress = [0] * n_jobs, [0.0] * n_jobs, progress
        self._n_jobs, self._sums, self._counting = n_jobs, (0.0, 0.0), Lock()

    def report(self, number: int, n_done: int, n_frames: int) -> None:
        """The frames that are done of a job, and how many it has."""
        with self._counting:
            self._sums = (
                self._sums[0] + n_done - self._n_done[number],
                self._sums[1] + n_done / n_frames - self._shares[number],
            )
            self._n_done[number], self._shares[number] = n_done, n_done / n_frames

    def tell(self) -> None:
        """Report progress, if there is any."""
        done, share = (value / self._n_jobs for value in self._sums)
        if share:
            self._progress(Progress(done, done / share))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # which whoever reads it tells
        return 0


def _cores(n_jobs: int) -> int:
    """CPU cores that this process may use, for so many jobs."""
    if n_jobs == 1:
        return 1  # joblib's import would take longer than a short clip
    import joblib

    return int(joblib.cpu_count())


def _told(job: Job, error: GruAudioError | MemoryError) -> str:
    """An error as a line."""
    if isinstance(error, MemoryError):
        return f"{job.source}: takes more memory than there is; cut it in pieces, or use fewer --jobs"
    return str(error)
