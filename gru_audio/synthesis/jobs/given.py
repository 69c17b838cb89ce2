"""The mel files that jobs are given: read, under the voice's contract, and checked."""

from dataclasses import dataclass
from threading import Lock

from gru_audio.config import MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.mel import MelFrames
from gru_audio.signal.mel_adapt.conversion import summary
from gru_audio.signal.mel_adapt.fitting import Fitting, fit_mel
from gru_audio.signal.mel_file import MEL_SUFFIXES, read_mel
from gru_audio.synthesis.jobs.plan import Job
from gru_audio.synthesis.vocoder import Vocoder

_reading_mels = Lock()  # mel_file changes the warnings' filters, which are the whole process's


@dataclass(frozen=True)
class Given:
    """How mel files are taken; see `synthesize_files`."""

    contract: MelConfig | None
    adapt: bool
    sharpen: float
    check: bool


@dataclass(frozen=True)
class LoadedMel:
    """A mel under the voice's contract, and how many of its first samples are not wanted."""

    mel: MelFrames
    lead_samples: int
    notes: tuple[str, ...]


def is_mel(job: Job) -> bool:
    """Whether a job is made of a mel's file, not of audio."""
    return job.source.suffix.lower() in MEL_SUFFIXES


def load_mel(vocoder: Vocoder, job: Job, given: Given) -> LoadedMel:
    """A mel file's frames (F, M) under the voice's contract, F > 0, checked.

    Raises:
        MelError: it cannot be read or converted, or is not what the voice wants.
    """
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
    fitting = Fitting(stated or wanted, wanted, name, adapt=given.adapt, sharpen=given.sharpen)
    fitted = fit_mel(mel, fitting)
    notes += fitting.notes
    frames = vocoder.judged(fitted, name) if given.check else MelFrames(fitted)
    return LoadedMel(frames, fitting.lead_samples, tuple(notes))
