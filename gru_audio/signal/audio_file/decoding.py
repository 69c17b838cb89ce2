"""One recording decoded: by libsndfile where it can, else by ffmpeg; to its end, or refused."""

import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from gru_audio.arrays import FloatArray
from gru_audio.errors import AudioError
from gru_audio.signal.audio_file.ffmpeg import BARE_FORMATS, Decoded, decode_with_ffmpeg
from gru_audio.signal.audio_file.source import FilePart, OpenFile, Stretch
from gru_audio.signal.audio_file.stderr_notes import without_mpg123_notes
from gru_audio.signal.bounds import allowed_loss_s

_UNSTATED_FRAMES = (1 << 63) - 1  # what libsndfile says of a FLAC that was written to a pipe
BLOCK_VALUES = 1 << 20
"""Read at once, of all channels together."""


class StoppedEarlyError(AudioError):
    """libsndfile ended before the recording does; ffmpeg may not."""


def decoder_of(
    path: Path, source: OpenFile, part: FilePart, input_format: str | None, ask_ffmpeg: bool
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
    stack: ExitStack, path: Path, source: OpenFile, part: FilePart, input_format: str | None, ask_ffmpeg: bool
) -> tuple[Decoded, str]:
    """What libsndfile makes of a recording, else what ffmpeg does; and which of them it is."""
    import soundfile

    if input_format is not None:
        because = f"it is to be read as '{input_format}'"
    elif ask_ffmpeg:
        because = "libsndfile stops before its end"
    else:
        try:
            file = stack.enter_context(opened_by_libsndfile(source, part))
            frames, rate_hz = int(file.frames), int(file.samplerate)
            duration_s = None if frames == _UNSTATED_FRAMES or not rate_hz else frames / rate_hz
            if not (part.unstated and _is_short(duration_s or 0.0, part.duration_s)):
                return Decoded(rate_hz, int(file.channels), duration_s, blocks_of(path, file)), "libsndfile"
            because = f"its {part.kind} stream does not state its length"
        except soundfile.LibsndfileError as error:
            because = f"libsndfile cannot read it ({_one_line(error.error_string)})"
            bare = path.suffix.lower().removeprefix(".")
            if part.kind is None and bare in BARE_FORMATS:  # of these nothing but a name can tell
                input_format = bare
    decoding = decode_with_ffmpeg(source, part, path, because, input_format)
    return stack.enter_context(decoding), "ffmpeg"


def opened_by_libsndfile(source: OpenFile, part: FilePart) -> Any:
    """The recording, opened by libsndfile.

    Raises:
        LibsndfileError: not a format that libsndfile knows.
    """
    import soundfile

    stretched = part.patches or (part.start, part.samples_end) != (0, source.size)
    with _quiet(part.kind):
        if stretched or not _takes_descriptors():
            return soundfile.SoundFile(Stretch(source, part.start, part.samples_end, part.patches))
        os.lseek(source.descriptor, 0, os.SEEK_SET)
        return soundfile.SoundFile(source.descriptor, closefd=False)


def _takes_descriptors() -> bool:
    """Whether libsndfile leaves a descriptor open that it was lent: before 1.2.2 it closes one that it cannot read."""
    import soundfile

    if sys.platform == "win32":  # where libsndfile may have descriptors of its own
        return False
    return tuple(map(int, re.findall(r"\d+", soundfile.__libsndfile_version__)[:3])) >= (1, 2, 2)


def _quiet(kind: str | None) -> AbstractContextManager[None]:
    """While libsndfile works: what it may ask libmpg123 to read, that is, MPEG audio and what it is not sure of."""
    return without_mpg123_notes() if kind in (None, "MP3") else nullcontext()


def blocks_of(path: Path, file: Any) -> Iterator[FloatArray]:
    """The samples (n, n_channels) of a file that libsndfile has opened, to where it ends."""
    import soundfile

    # After each read soundfile seeks to where that ended, which at an end that is not stated fails.
    file.seekable = lambda: False
    left, most = int(file.frames), max(1, BLOCK_VALUES // file.channels)
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


def _require_whole(path: Path, part: FilePart, duration_s: float | None) -> None:
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
                f"{path}: its header states {part.present_bytes} bytes of samples, but {part.extra_bytes} more follow; "
                "if these are samples, too, ffmpeg -ignore_length 1 -i FILE OUT.wav mends a WAV"
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


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
