"""Text as people save it: with or without a byte order mark, of any line end, in UTF-8 or UTF-16, gzipped or not."""

import codecs
import gzip
import io
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from gru_audio.files import open_file

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GZIP = b"\x1f\x8b"
_HEAD_BYTES = 256
LARGEST_BYTES = 256 << 20
"""Of a file that is read whole: the list of a million clips has a fifth of it."""
_LONGEST_LINE = 1 << 20


def read_text(path: Path, largest_bytes: int = LARGEST_BYTES) -> str:
    """A whole file as text.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is larger than that, or not text.
    """
    with open_file(path) as file:
        data = file.read(largest_bytes + 1)
    if len(data) > largest_bytes:
        raise ValueError(f"has more than {largest_bytes:,} bytes")
    return data.decode(_encoding(data[:_HEAD_BYTES])).replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file, one by one and without their ends; bytes that are no UTF-8 are kept as in file names.

    Raises:
        OSError: it cannot be read, or is gzipped and damaged.
        ValueError: it is not text: a line of more than a million characters, or a broken UTF-16.
    """
    with open_file(path) as file, ExitStack() as stack:
        stream: IO[bytes] = file
        if file.read(len(_GZIP)) == _GZIP:
            stream = cast(IO[bytes], stack.enter_context(gzip.open(path)))
        stream.seek(0)
        encoding = _encoding(stream.read(_HEAD_BYTES))
        stream.seek(0)
        errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
        try:
            with io.TextIOWrapper(stream, encoding, errors) as text:
                while line := text.readline(_LONGEST_LINE):
                    if len(line) == _LONGEST_LINE:
                        raise ValueError(f"a line has more than {_LONGEST_LINE} characters")
                    yield line.rstrip("\r\n")
        except EOFError as error:  # gzip's word for a file that was cut short
            raise OSError(f"damaged: {error}") from error


def _encoding(head: bytes) -> str:
    """The encoding by the first bytes: a mark, or every other byte zero as UTF-16 has it for Latin letters."""
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is not None:
        return marked
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = head[first::2]
        if zeros and zeros.count(0) > len(zeros) / 2 and not head[1 - first :: 2].count(0):
            return name
    return "utf-8"
