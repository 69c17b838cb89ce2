"""Writing audio as it comes, as 16-bit WAV or FLAC: memory stays flat however long it is."""

import contextlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gru_audio.arrays import FloatArray, Int16Array
from gru_audio.errors import AudioError, OutputError
from gru_audio.files import atomic_path
from gru_audio.signal.audio import to_int16

WRITTEN_SUFFIXES = {".wav": "WAV", ".flac": "FLAC"}
"""Suffixes that are written, with their formats."""

_WAV_HEADER = "<4sI4s4sIHHIIHH4sI"
_WAV_HEADER_BYTES = struct.calcsize(_WAV_HEADER)
LARGEST_WAV = 0xFFFF_FFFF - _WAV_HEADER_BYTES
"""Bytes of samples: the header has 32 bits for them."""

_PIECE = 1 << 20  # samples that are made integers at a time


class AudioWriter:
    """A file that audio is added to; from `open_writer`.

    Attributes:
        n_samples: how many were written.
        n_clipped: how many of them were over full scale and were clipped.
    """

    def __init__(self, file: BinaryIO, sample_rate_hz: int, container: str, name: str) -> None:
        """Begin in an open file; `container` is "WAV" or "FLAC", and `name` begins messages."""
        self.n_samples = self.n_clipped = 0
        self._file, self._rate_hz, self._name = file, sample_rate_hz, name
        self._flac = _Flac(file, sample_rate_hz) if container == "FLAC" else None
        if self._flac is None:
            file.write(bytes(_WAV_HEADER_BYTES))

    def write(self, audio: FloatArray) -> None:
        """Add audio (n,), full scale 1.

        Raises:
            AudioError: it has samples that are NaN or infinite.
            OutputError: it is more than a WAV can hold.
            OSError: the file cannot be written.
        """
        for first in range(0, audio.size, _PIECE):
            pcm, n_clipped = finite_int16(
                audio[first : first + _PIECE], self.n_samples, self._rate_hz, self._name
            )
            self.n_samples, self.n_clipped = self.n_samples + pcm.size, self.n_clipped + n_clipped
            if self._flac is not None:
                self._flac.write(pcm)
            elif 2 * self.n_samples > LARGEST_WAV:
                raise OutputError(f"{self._name}: longer than the 4 GiB that a WAV can hold; write .flac")
            else:
                self._file.write(pcm.astype("<i2").tobytes())

    def finish(self) -> None:
        """End the file.

        Raises:
            OutputError: nothing was written to it.
            OSError: the file cannot be written.
        """
        if not self.n_samples:
            raise OutputError(
                f"{self._name}: 0 samples, there is nothing to write; check what they come from"
            )
        if self._flac is not None:
            self._flac.finish()
            return
        n_bytes = 2 * self.n_samples
        self._file.seek(0)
        self._file.write(
            struct.pack(
                _WAV_HEADER,
                *(b"RIFF", _WAV_HEADER_BYTES - 8 + n_bytes, b"WAVE"),
                *(b"fmt ", 16, 1, 1, self._rate_hz, 2 * self._rate_hz, 2, 16),
                *(b"data", n_bytes),
            )
        )

    def give_up(self) -> None:
        """Let go of the file; nothing happens where it was finished."""
        if self._flac is not None:
            self._flac.give_up()


@contextlib.contextmanager
def open_writer(path: Path, sample_rate_hz: int) -> Iterator[AudioWriter]:
    """Write audio as it comes to a 16-bit WAV or FLAC, which stands at its place when the block ends well.

    Args:
        path: its suffix, .wav or .flac, says the format.
        sample_rate_hz: the audio's rate.

    Raises:
        OutputError: another suffix, nothing was written, or the file cannot be written.
    """
    path = Path(path)
    container = WRITTEN_SUFFIXES.get(path.suffix.lower())
    if container is None:
        raise OutputError(
            f"{path}: suffix '{path.suffix}' is not written; use {' or '.join(WRITTEN_SUFFIXES)}"
        )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        writer = AudioWriter(file, sample_rate_hz, container, str(path))
        try:
            yield writer
            writer.finish()
        finally:
            writer.give_up()


def write_audio(path: Path, audio: FloatArray, sample_rate_hz: int) -> int:
    """Write audio (n_samples,), full scale at 1, as 16-bit WAV or FLAC, atomically; see `open_writer`.

    Returns:
        How many samples were over full scale and were clipped.

    Raises:
        AudioError: samples that are NaN or infinite.
        OutputError: another suffix, no samples, or the file cannot be written.
    """
    with open_writer(path, sample_rate_hz) as writer:
        writer.write(audio)
    return writer.n_clipped


def encode_audio(audio: FloatArray, sample_rate_hz: int, container: str) -> bytes:
    """Audio (n_samples,) as the contents of a 16-bit file, clipped at full scale; `container` is "WAV" or "FLAC"."""
    encoded = io.BytesIO()
    writer = AudioWriter(encoded, sample_rate_hz, container, "audio")
    writer.write(audio)
    writer.finish()
    return encoded.getvalue()


def finite_int16(audio: FloatArray, n_before: int, sample_rate_hz: int, name: str) -> tuple[Int16Array, int]:
    """Audio (n,) that follows `n_before` samples as 16-bit PCM, and how many of its samples were clipped.

    Raises:
        AudioError: samples that are NaN or infinite; `name` begins the message, which says where they are.
    """
    finite = np.isfinite(audio)
    if not finite.all():
        sample = n_before + int(np.argmin(finite))
        raise AudioError(
            f"{name}: the audio's sample {sample}, at {sample / sample_rate_hz:.3f} s, is NaN or infinite; look at "
            "what it was made from there"
        )
    return to_int16(audio), int(np.count_nonzero(np.abs(audio) > 1.0))


class _Flac:
    """A FLAC encoder that writes to an open file."""

    def __init__(self, file: BinaryIO, sample_rate_hz: int) -> None:
        import soundfile

        self._target = _Target(file)
        self._encoder: Any = soundfile.SoundFile(
            self._target, "w", sample_rate_hz, 1, format="FLAC", subtype="PCM_16"
        )

    def write(self, pcm: Int16Array) -> None:
        with self._target.errors():
            self._encoder.write(pcm)

    def finish(self) -> None:
        with self._target.errors():
            self._encoder.close()

    def give_up(self) -> None:
        """End without an error, whatever the file's state."""
        self._target.closed = True
        with contextlib.suppress(Exception):
            self._encoder.close()


class _Target:
    """An open file as libsndfile writes to it, which reports a full disk as an error without a reason."""

    def __init__(self, file: BinaryIO) -> None:
        self.closed, self._file, self._failed = False, file, list[OSError]()

    def write(self, data: bytes) -> int:
        try:
            return len(data) if self.closed else self._file.write(data)
        except OSError as error:
            self._failed.append(error)
            return 0

    def seek(self, offset: int, whence: int) -> int:
        return 0 if self.closed else self._file.seek(offset, whence)

    def tell(self) -> int:
        return 0 if self.closed else self._file.tell()

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Raise what writing met in place of what libsndfile made of it."""
        try:
            yield
        except Exception:
            if not self._failed:
                raise
        if self._failed:
            raise self._failed[0]
