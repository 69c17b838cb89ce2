"""Reading audio files: whole, or refused for a true reason. libsndfile reads what it can; ffmpeg the rest.

What a file is, its bytes say, never its name. It is read in pieces, and its channels are mixed as they come.
"""

import math
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.errors import AudioError
from gru_audio.signal.audio_file.ffmpeg import BARE_FORMATS, Decoded, decode_with_ffmpeg
from gru_audio.signal.audio_file.kinds import HEAD_BYTES, NO_AUDIO_KINDS, kind_of
from gru_audio.signal.audio_file.mixing import Mixer
from gru_audio.signal.audio_file.parts import find_parts
from gru_audio.signal.audio_file.source import Part, Source, Stretch
from gru_audio.signal.audio_file.stderr_notes import without_mpg123_notes
from gru_audio.signal.bounds import allowed_loss_s, check_rate, check_size

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
_UNSTATED_FRAMES = (1 << 63) - 1  # what libsndfile says of a FLAC that was written to a pipe
_BLOCK_VALUES = 1 << 20


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


class StoppedEarlyError(AudioError):
    """libsndfile ended before the recording does; ffmpeg may not."""


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
        parts = find_parts(source) if input_format is None else [Part(None, 0, source.size)]
        for part in parts:
            if part.fault:
                raise AudioError(f"{path}: truncated or damaged: {part.fault}; replace it")
        decoders = [_decoder(path, source, part, input_format, ask_ffmpeg) for part in parts]
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
            with _libsndfile(source, find_parts(source)[0]) as file:
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
def _opened(path: Path) -> Iterator[Source]:
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
        source = Source(descriptor, str(path))
        if source.size == 0:
            raise AudioError(f"{path}: the file is empty (0 bytes); replace it")
        yield source
    finally:
        os.close(descriptor)


def _decoder(
    path: Path, source: Source, part: Part, input_format: str | None, ask_ffmpeg: bool
) -> Callable[[], AbstractContextManager[Decoded]]:
    """How a recording is decoded, which begins when it is called."""

    @contextmanager
    def decode() -> Iterator[Decoded]:
        with ExitStack() as stack:
            decoded, by = _choose(stack, path, source, part, input_format, ask_ffmpeg)
            duration_s = part.duration_s if part.duration_s is not None else decoded.duration_s
            _require_whole(path, part, duration_s)
            blocks = _complete(decoded, duration_s, path, by)
            yield Decoded(decoded.sample_rate_hz, decoded.n_channels, duration_s, blocks)

    return decode


def _choose(
    stack: ExitStack, path: Path, source: Source, part: Part, input_format: str | None, ask_ffmpeg: bool
) -> tuple[Decoded, str]:
    """What libsndfile makes of a recording, else what ffmpeg does; and which of them it is."""
    import soundfile

    if input_format is not None:
        because = f"it is to be read as '{input_format}'"
    elif ask_ffmpeg:
        because = "libsndfile stops before its end"
    else:
        try:
            file = stack.enter_context(_libsndfile(source, part))
            frames, rate_hz = int(file.frames), int(file.samplerate)
            duration_s = None if frames == _UNSTATED_FRAMES or not rate_hz else frames / rate_hz
            if not (part.unstated and _is_short(duration_s or 0.0, part.duration_s)):
                return Decoded(rate_hz, int(file.channels), duration_s, _read(path, file)), "libsndfile"
            because = f"its {part.kind} stream does not state its length"
        except soundfile.LibsndfileError as error:
            because = f"libsndfile cannot read it ({_one_line(error.error_string)})"
            bare = path.suffix.lower().removeprefix(".")
            if part.kind is None and bare in BARE_FORMATS:  # of these nothing but a name can tell
                input_format = bare
    decoding = decode_with_ffmpeg(source, part, path, because, input_format)
    return stack.enter_context(decoding), "ffmpeg"


def _libsndfile(source: Source, part: Part) -> Any:
    """The recording, opened by libsndfile.

    Raises:
        LibsndfileError: not a format that libsndfile knows.
    """
    import soundfile

    stretched = part.patches or (part.start, part.samples_end) != (0, source.size)
    with _quiet(part.kind):
        if stretched or sys.platform == "win32":  # where libsndfile may have descriptors of its own
            return soundfile.SoundFile(Stretch(source, part.start, part.samples_end, part.patches))
        os.lseek(source.descriptor, 0, os.SEEK_SET)
        return soundfile.SoundFile(source.descriptor, closefd=False)


def _quiet(kind: str | None) -> AbstractContextManager[None]:
    """While libsndfile works: what it may ask libmpg123 to read, that is, MPEG audio and what it is not sure of."""
    return without_mpg123_notes() if kind in (None, "MP3") else nullcontext()


def _read(path: Path, file: Any) -> Iterator[FloatArray]:
    """The samples (n, n_channels) of a file that libsndfile has opened, to where it ends."""
    import soundfile

    # After each read soundfile seeks to where that ended, which at an end that is not stated fails.
    file.seekable = lambda: False
    left, most = int(file.frames), max(1, _BLOCK_VALUES // file.channels)
    try:
        while left > 0:
            with _quiet(file.format):
                block = file.read(min(left, most), dtype="float32", always_2d=True)
            if not len(block):
                break
            left -= len(block)
            yield block
    except soundfile.LibsndfileError as error:
        reason = _one_line(error.error_string)
        raise AudioError(f"{path}: truncated or damaged ({reason}); replace it") from error


def _require_whole(path: Path, part: Part, duration_s: float | None) -> None:
    """Refuse a recording of which more is missing than may be, or after which there is what nobody knows."""
    missing = part.stated_bytes - part.present_bytes
    if missing > 0:
        lost_s = math.inf
        if duration_s is not None and part.present_bytes:
            lost_s = duration_s * missing / part.present_bytes
        if lost_s > allowed_loss_s(lost_s + (duration_s or 0.0)):
            raise AudioError(
                f"{path}: truncated: {part.present_bytes} of {part.stated_bytes} bytes are there; replace it"
            )
    if part.extra_bytes and part.present_bytes and duration_s is not None:
        extra_s = duration_s * part.extra_bytes / part.present_bytes
        if extra_s > allowed_loss_s(duration_s):
            raise AudioError(
                f"{path}: its header states {part.present_bytes} bytes of samples, and {part.extra_bytes} more follow "
                "that are none by it; where they are samples, ffmpeg -ignore_length 1 -i FILE OUT.wav mends a WAV"
            )


def _complete(decoded: Decoded, duration_s: float | None, path: Path, by: str) -> Iterator[FloatArray]:
    """The blocks of a recording, and an error where they end too early."""
    n_samples = 0
    for block in decoded.blocks:
        n_samples += len(block)
        yield block
    got_s = n_samples / decoded.sample_rate_hz
    if _is_short(got_s, duration_s):
        kind = StoppedEarlyError if by == "libsndfile" else AudioError
        raise kind(
            f"{path}: truncated or damaged: {by} reads {got_s:.2f} of {duration_s:.2f} s; replace it, or convert it"
        )


def _is_short(got_s: float, duration_s: float | None) -> bool:
    return duration_s is not None and duration_s - got_s > allowed_loss_s(duration_s)


def _stated_samples(first: Decoded, parts: list[Part]) -> int | None:
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
                    f"{path}: joined of files of {first.sample_rate_hz} and, the {number}th, "
                    f"{decoded.sample_rate_hz} Hz; take it apart"
                )
            yield from decoded.blocks


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
