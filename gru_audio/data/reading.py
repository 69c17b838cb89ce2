"""A source's audio, wherever it is stored: a file, a part of an archive, a stretch of either."""

import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from gru_audio.data.inputs.archives import TAR_SUFFIXES, read_member
from gru_audio.data.inputs.arrow_files import read_row
from gru_audio.data.inputs.catalogue import Source
from gru_audio.errors import AudioError, MelError
from gru_audio.names import readable
from gru_audio.signal.audio_file.reading import read_audio


def read_source(source: Source, input_format: str | None) -> tuple[NDArray[np.float32], int]:
    """Read a source as `read_audio` does, and refuse one from which nothing can be learnt.

    Of an archive only this part is read, and is a file of its own for as long as that takes.

    Raises:
        AudioError: as `read_audio`, or it has only zeros; begins with the source's path.
    """
    is_stretch = source.start_s > 0 or source.stop_s is not None
    read = _read_kept if is_stretch else _read
    audio, sample_rate_hz = read(source.path, source.member, source.place, source.size_bytes, input_format)
    if is_stretch:
        stop = None if source.stop_s is None else round(source.stop_s * sample_rate_hz)
        whole_s = audio.size / sample_rate_hz
        audio = audio[round(source.start_s * sample_rate_hz) : stop]
        if not audio.size:
            raise AudioError(
                f"{source.path}: ends at {whole_s:.3f} s, before the stretch from {source.start_s:.3f} s"
            )
    if not audio.any():
        raise AudioError(f"{source.path}: has digital silence throughout; leave it out")
    return audio, sample_rate_hz


def shown_path(source: Source) -> str:
    """A source's path as it is shown, with its name in an archive."""
    return ": ".join(filter(None, [readable(source.path), source.member]))


def why_unusable(source: Source, error: AudioError | MelError | MemoryError) -> str:
    """Why a source cannot be used, as a clause without its path."""
    if isinstance(error, MemoryError):
        return "takes more memory than there is; cut it in pieces, or use fewer --jobs"
    return str(error).removeprefix(f"{source.path}: ").removeprefix(f"{source.member}: ")


def _read(
    path: Path, member: str, place: int, size_bytes: int, input_format: str | None
) -> tuple[NDArray[np.float32], int]:
    if not member:
        return read_audio(path, input_format=input_format)
    try:
        if path.name.lower().endswith(TAR_SUFFIXES):
            data = read_member(path, place, size_bytes)
        else:
            data = read_row(path, place)
    except (OSError, EOFError, ValueError) as error:
        raise AudioError(f"{path}: {member}: cannot be read ({error}); was the file changed?") from error
    with tempfile.NamedTemporaryFile(suffix=PurePosixPath(member).suffix) as file:
        file.write(data)
        file.flush()
        try:
            return read_audio(Path(file.name), input_format=input_format)
        except AudioError as error:
            reason = str(error).removeprefix(f"{file.name}: ")
            raise AudioError(f"{path}: {member}: {reason}") from error


_read_kept: Callable[..., tuple[NDArray[np.float32], int]] = lru_cache(maxsize=1)(_read)
"""The stretches of one recording follow one another."""
