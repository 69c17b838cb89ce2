"""A file's bytes at any place, and a stretch of it as a file of its own."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass

from gru_audio.errors import AudioError

_BLOCK_BYTES = 1 << 16


class OpenFile:
    """An open regular file, read at any place.

    Attributes:
        descriptor: of the file, which the caller opened and closes.
        size: in bytes, as it was when it was opened.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        """Of a descriptor; `name` begins messages."""
        self.descriptor, self.size, self._name = descriptor, os.fstat(descriptor).st_size, name
        self._block, self._block_at = b"", 0

    def read(self, place: int, n_bytes: int) -> bytes:
        """So many bytes from a place, fewer where the file ends, none beyond it.

        Raises:
            AudioError: the disk does not give them.
        """
        if not 0 <= place < self.size:
            return b""
        try:
            os.lseek(self.descriptor, place, os.SEEK_SET)
            return os.read(self.descriptor, n_bytes)
        except OSError as error:
            raise AudioError(f"{self._name}: cannot be read: {error.strerror}; check the disk") from error

    def at(self, place: int, n_bytes: int) -> bytes:
        """As `read`, for many small reads near each other."""
        first = place - self._block_at
        if first < 0 or first + n_bytes > len(self._block):
            self._block, self._block_at = self.read(place, max(n_bytes, _BLOCK_BYTES)), place
            first = 0
        return self._block[first : first + n_bytes]

    def find(self, pattern: bytes, start: int) -> int:
        """Where a pattern stands next, from a place on; the file's size where it does not."""
        place = start
        while place < self.size:
            block = self.read(place, _BLOCK_BYTES + len(pattern) - 1)
            if not block:
                break
            if (found := block.find(pattern)) >= 0:
                return place + found
            place += _BLOCK_BYTES
        return self.size


class Stretch(io.RawIOBase):
    """A stretch of a file, as a file to read, with some of its bytes corrected."""

    def __init__(
        self, source: OpenFile, start: int, end: int, patches: Sequence[tuple[int, bytes]] = ()
    ) -> None:
        """Of the bytes `start` to `end`; a patch is a place in the file and what shall stand there."""
        self._source, self._start, self._end, self._patches = source, start, end, patches
        self._place = start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place - self._start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._place, os.SEEK_END: self._end}[whence]
        self._place = max(self._start, base + offset)
        return self.tell()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._end - self._place))
        data = bytearray(self._source.read(self._place, wanted))
        for place, patch in self._patches:
            for index, byte in enumerate(patch):
                if 0 <= (inner := place + index - self._place) < len(data):
                    data[inner] = byte
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


@dataclass(frozen=True)
class FilePart:
    """One recording in a file; there are several where files were joined.

    Attributes:
        kind: as `kinds.kind_of` has it; None where it is not known.
        start: where it begins in the file, in bytes.
        end: where it ends.
        stated_bytes: what its header says that its samples take.
        present_bytes: how many of these are there.
        read_to: where its samples end, if a reader must not see what follows.
        extra_bytes: how many follow that are neither samples nor anything known.
        duration_s: at least so many seconds are in it, by its own structure; None where that tells nothing.
        fault: what is missing from it for sure, in words; "" for nothing.
        unstated: it does not state its length, so that what libsndfile says of it is a guess.
        patches: what its header should say; see `Stretch`.
    """

    kind: str | None
    start: int
    end: int
    stated_bytes: int = 0
    present_bytes: int = 0
    read_to: int | None = None
    extra_bytes: int = 0
    duration_s: float | None = None
    fault: str = ""
    unstated: bool = False
    patches: tuple[tuple[int, bytes], ...] = ()

    @property
    def samples_end(self) -> int:
        """Where a reader shall see the file end."""
        return self.end if self.read_to is None else self.read_to
