"""Reading audio files: whole, or refused for a true reason. libsndfile reads what it can; ffmpeg the rest.

What a file is, its bytes say, never its name. It is read in pieces, and its channels are mixed as they come.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.errors import AudioError
from gru_audio.signal.audio_file.decoding import StoppedEarlyError, decoder_of, opened_by_libsndfile
from gru_audio.signal.audio_file.ffmpeg import Decoded
from gru_audio.signal.audio_file.kinds import HEAD_BYTES, NO_AUDIO_KINDS, kind_of
from gru_audio.signal.audio_file.mixing import Mixer
from gru_audio.signal.audio_file.parts import find_parts
from gru_audio.signal.audio_file.source import FilePart, OpenFile
from gru_audio.signal.bounds import check_rate, check_size

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc",  # to here libsndfile; what follows is ffmpeg's
    ".m4a", ".m4b", ".aac", ".wma", ".g722", ".gsm", ".mp4", ".mkv", ".mka", ".mov", ".webm", ".weba",
    ".amr", ".3gp", ".ac3", ".ape", ".wv", ".tta", ".mp2",
})
# fmt: on
"""Suffixes, in lower case, of the files that are taken for audio when a folder is searched."""

_TO_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Encoding:
    """How a file holds its audio.

    Attributes:
        name: container and sample type as libsndfile calls them, such as "WAV PCM_16".
        n_channels: its channels.
    """

    name: str
    n_channels: int


@dataclass(frozen=True)
class AudioStream:
    """A file's audio as it is read, mono.

    Attributes:
        sample_rate_hz: its rate.
        n_samples: how many there will be, as the file states it; None where it does not.
        blocks: (n,) in turn, full scale 1, checked as `read_audio` checks the whole; they hold at least one sample.
    """

    sample_rate_hz: int
    n_samples: int | None
    blocks: Iterator[FloatArray]


def read_audio(path: Path, *, input_format: str | None = None) -> tuple[FloatArray, int]:
    """Read a file as mono audio, the mean of its channels.

    Files that were joined are read one after the other. A header that states no length, or 0 where samples follow,
    is no fault. At a recording's end `bounds.TOLERANCE_S` may be missing.

    Args:
        path: the file; what libsndfile cannot read to its end is decoded by ffmpeg.
        input_format: ffmpeg's name of the format, for files that do not say it themselves (`"g722"`);
            ffmpeg then reads the file in any case.

    Returns:
        The audio (n_samples,), full scale at 1, at least one sample, and its sample rate in Hz.

    Raises:
        AudioError: no such file, not audio, truncated or damaged, no samples, samples that are not finite or far
            over full scale, channels that cancel, more than `bounds` allows or memory holds, or ffmpeg is needed and
            missing.
    """
    try:
        return _gather(path, input_format, ask_ffmpeg=False)
    except StoppedEarlyError:
        return _gather(path, input_format, ask_ffmpeg=True)


@contextmanager
def open_audio(
    path: Path, *, input_format: str | None = None, ask_ffmpeg: bool = False
) -> Iterator[AudioStream]:
    """Read a file as `read_audio` does, in pieces: what is wrong at its end is told there, before its last piece.

    Args:
        path: see `read_audio`.
        input_format: see `read_audio`.
        ask_ffmpeg: even where libsndfile reads the file.

    Raises:
        AudioError: see `read_audio`. A StoppedEarlyError says that `ask_ffmpeg` may help.
    """
    path = Path(path)
    with ExitStack() as stack:
        source = stack.enter_context(_opened(path))
        kind = kind_of(source.at(0, HEAD_BYTES))
        if kind in NO_AUDIO_KINDS and input_format is None:
            raise AudioError(f"{path}: not audio: it is {kind}; give an audio file")
        parts = find_parts(source) if input_format is None else [FilePart(None, 0, source.size)]
        for part in parts:
            if part.fault:
                raise AudioError(f"{path}: truncated or damaged: {part.fault}; replace it")
        decoders = [decoder_of(path, source, part, input_format, ask_ffmpeg) for part in parts]
        first = stack.enter_context(decoders[0]())
        check_rate(first.sample_rate_hz, str(path))
        n_samples = _stated_samples(first, parts)
        if n_samples is not None:
            check_size(n_samples, str(path), source.size)
        mixer = Mixer(path, source.size, first)
        yield AudioStream(first.sample_rate_hz, n_samples, mixer.mixed(_joined(path, first, decoders[1:])))


def read_encoding(path: Path) -> Encoding | None:
    """How a file holds its audio; None where only ffmpeg reads it."""
    import soundfile

    with _opened(Path(path)) as source:
        try:
            with opened_by_libsndfile(source, find_parts(source)[0]) as file:
                return Encoding(f"{file.format} {file.subtype}", int(file.channels))
        except soundfile.LibsndfileError:
            return None


def _gather(path: Path, input_format: str | None, *, ask_ffmpeg: bool) -> tuple[FloatArray, int]:
    try:
        with open_audio(path, input_format=input_format, ask_ffmpeg=ask_ffmpeg) as audio:
            return _gathered(audio), audio.sample_rate_hz
    except MemoryError as error:
        raise AudioError(f"{path}: takes more memory than there is; cut it in pieces") from error


def _gathered(audio: AudioStream) -> FloatArray:
    """All samples, without a second copy of them on the way."""
    gathered, n_samples = np.empty(audio.n_samples or 0, np.float32), 0
    for block in audio.blocks:
        wanted = n_samples + block.size
        if wanted > gathered.size:
            gathered.resize(max(wanted, gathered.size * 3 // 2), refcheck=False)
        gathered[n_samples:wanted] = block
        n_samples = wanted
    gathered.resize(n_samples, refcheck=False)
    return gathered


@contextmanager
def _opened(path: Path) -> Iterator[OpenFile]:
    """The file's bytes; nothing that is no file is opened for long, or waited for."""
    try:
        if path.is_dir():
            raise AudioError(f"{path}: not a file; give an audio file")
        descriptor = os.open(path, _TO_READ)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: {reason}; check the path") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise AudioError(f"{path}: not a file; give an audio file")
        source = OpenFile(descriptor, str(path))
        if source.size == 0:
            raise AudioError(f"{path}: the file is empty (0 bytes); replace it")
        yield source
    finally:
        os.close(descriptor)


def _stated_samples(first: Decoded, parts: list[FilePart]) -> int | None:
    """How many samples a file will give; of joined ones only what their own structure tells."""
    durations = [first.duration_s, *(part.duration_s for part in parts[1:])]
    if any(duration_s is None for duration_s in durations):
        return None
    return round(sum(filter(None, durations)) * first.sample_rate_hz)


def _joined(
    path: Path, first: Decoded, others: list[Callable[[], AbstractContextManager[Decoded]]]
) -> Iterator[FloatArray]:
    """The blocks of all recordings of a file."""
    yield from first.blocks
    for number, decoder in enumerate(others, 2):
        with decoder() as decoded:
            if decoded.sample_rate_hz != first.sample_rate_hz:
                raise AudioError(
                    f"{path}: joined from files of different rates: the first has {first.sample_rate_hz} Hz, "
                    f"number {number} has {decoded.sample_rate_hz} Hz; split it"
                )
            yield from decoded.blocks
