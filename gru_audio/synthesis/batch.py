"""Files in, files out: audio or mels of any length through a vocoder, a few clips at a time."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gru_audio.audio import AUDIO_SUFFIXES, read_audio, write_audio
from gru_audio.config import MelConfig
from gru_audio.errors import AudioError, GruAudioError, OutputError
from gru_audio.files import require_writable
from gru_audio.mel import FloatArray, convert_mel
from gru_audio.melfile import MEL_SUFFIXES, read_mel
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.synthesis.vocoder import Vocoder

_WRITTEN = (".wav", ".flac")
_CLIPS_AT_ONCE = 8  # held in memory together


@dataclass(frozen=True)
class Job:
    """One file to synthesise from, and where the result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Result:
    """What became of a job.

    Attributes:
        job: the files.
        audio_s: seconds of audio written.
        n_clipped: samples that were over full scale and were clipped.
        error: why nothing was written; None where it was.
    """

    job: Job
    audio_s: float = 0.0
    n_clipped: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn; see `Vocoder.synthesize`."""

    seed: int = 0
    temperature: float = 1.0
    tail_cut: float = 0.0


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
    if output is not None and output.suffix.lower() in AUDIO_SUFFIXES - set(_WRITTEN) and not output.is_dir():
        raise OutputError(
            f"{output}: only {' and '.join(_WRITTEN)} are written; choose one of them, or a folder"
        )
    is_file = output is not None and output.suffix.lower() in _WRITTEN
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
    sampling: Sampling = Sampling(),
    contract: MelConfig | None = None,
    progress: ProgressCallback = ignore_progress,
) -> Iterator[Result]:
    """Run jobs in order, a few together where the engine gains by it; a job that fails stops no other.

    Args:
        vocoder: the voice and engine.
        jobs: see `plan_jobs`.
        sampling: seed, temperature and tail cut, the same for each clip.
        contract: the contract of mel files that state none; None for the voice's own.
        progress: done and total are in jobs, with the real-time factor.

    Yields:
        One result for each job, in order.

    Raises:
        ConfigError: a setting of the sampling is out of range.
    """
    began, audio_s, n_done, waiting = time.perf_counter(), 0.0, 0, iter(jobs)
    while group := list(islice(waiting, _CLIPS_AT_ONCE if vocoder.batches else 1)):
        loaded = [_load(vocoder, job, contract) for job in group]
        mels = [mel for mel in loaded if isinstance(mel, _Loaded)]
        group_s = sum(len(mel.mel) for mel in mels) / vocoder.mel_config.frame_rate_hz
        done_before, audio_before = n_done, audio_s

        def report(inner: Progress) -> None:
            share = inner.done / inner.total
            speed = (audio_before + share * group_s) / (time.perf_counter() - began)  # noqa: B023 - called in its turn
            done = done_before + share * len(group)  # noqa: B023
            progress(Progress(done, len(jobs), {"speed": f"{speed:.2f} x real time"}))

        audios = iter(_generate(vocoder, [mel.mel for mel in mels], sampling, report))
        for job, item in zip(group, loaded, strict=True):
            yield _write(job, item, audios, vocoder) if isinstance(item, _Loaded) else Result(job, error=item)
        n_done, audio_s = n_done + len(group), audio_s + group_s


@dataclass(frozen=True)
class _Loaded:
    """A mel (F, M) under the voice's contract, and which samples of its audio to keep."""

    mel: FloatArray
    keep: slice


def _load(vocoder: Vocoder, job: Job, contract: MelConfig | None) -> "_Loaded | str":
    """The job's mel, or the error that prevents it."""
    try:
        if job.source.suffix.lower() in MEL_SUFFIXES:
            mel, given = read_mel(job.source, contract or vocoder.mel_config)
            return _Loaded(
                convert_mel(mel, given or vocoder.mel_config, vocoder.mel_config, str(job.source)),
                slice(None),
            )
        audio, sample_rate_hz = read_audio(job.source)
        n_samples = -(-audio.size * vocoder.sample_rate // sample_rate_hz)
        lead = vocoder.mel_config.lead_samples
        return _Loaded(vocoder.mel(audio, sample_rate_hz), slice(lead, lead + n_samples))
    except GruAudioError as error:
        return str(error)


def _generate(
    vocoder: Vocoder, mels: Sequence[FloatArray], sampling: Sampling, progress: ProgressCallback
) -> list[FloatArray]:
    settings = {"seed": sampling.seed, "temperature": sampling.temperature, "tail_cut": sampling.tail_cut}
    if len(mels) == 1:
        return [vocoder.synthesize(mels[0], progress=progress, **settings)]  # type: ignore[arg-type]
    return vocoder.synthesize_batch(mels, progress=progress, **settings)  # type: ignore[arg-type]


def _write(job: Job, loaded: _Loaded, audios: Iterator[FloatArray], vocoder: Vocoder) -> Result:
    audio = next(audios)[loaded.keep]
    try:
        n_clipped = write_audio(job.target, audio, vocoder.sample_rate)
    except GruAudioError as error:
        return Result(job, error=str(error))
    return Result(job, audio.size / vocoder.sample_rate, n_clipped)


def _search(given: Path) -> Iterable[tuple[Path, Path]]:
    """Files of an input, each with its path below it."""
    if given.is_file():
        return [(given, Path(given.name))]
    if not given.is_dir():
        raise AudioError(f"{given}: no such file or folder; check the path")
    known = AUDIO_SUFFIXES | MEL_SUFFIXES
    files = sorted(path for path in given.rglob("*") if path.is_file() and path.suffix.lower() in known)
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
