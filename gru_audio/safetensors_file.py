"""Safetensors files, whoever wrote them: how they are opened, what their headers say, and our JSON in them.

Source: https://huggingface.co/docs/safetensors, format: eight bytes with the header's length, the header in JSON, data.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, cast

import numpy.typing as npt

from gru_audio.documents import DocumentError, parse_json

METADATA_KEY = "gru_audio"
"""Where every safetensors file of ours, a dataset's shards included, keeps its JSON."""

_LONGEST_DOCUMENT = 32 << 20  # letters; a shard's has some hundred thousand
_MOST_HEADER_BYTES = 100_000_000  # safetensors' own bound


class UnreadableTensorsError(ValueError):
    """A file is not whole, or holds what cannot be read; the text is a clause, and the caller says of which file."""


class SafetensorsFile:
    """An open file, of which no more is read than is asked for; a context manager.

    Attributes:
        names: of its tensors.
        metadata: texts by name, as its header has them.
    """

    def __init__(self, path: Path) -> None:
        """Open it; its header is read, and compared with the file's length.

        Raises:
            UnreadableTensorsError: missing, no safetensors file, or a damaged one.
        """
        import safetensors

        self._errors = OSError, TypeError, ValueError, safetensors.SafetensorError
        try:
            self._file = cast(Any, safetensors.safe_open(str(path), framework="numpy"))
        except self._errors as error:
            raise UnreadableTensorsError(str(error)) from error
        self.names: list[str] = list(self._file.keys())
        self.metadata: dict[str, str] = self._file.metadata() or {}

    def document(self) -> Any:
        """Our JSON in it.

        Raises:
            KeyError: another program wrote it.
            DocumentError: it is damaged.
        """
        text = self.metadata[METADATA_KEY]
        if len(text) > _LONGEST_DOCUMENT:
            raise DocumentError(f"has {len(text)} letters")
        return parse_json(text)

    def layout(self, name: str) -> tuple[str, list[int]]:
        """A tensor's type, such as "F32", and shape.

        Raises:
            UnreadableTensorsError: there is none of this name.
        """
        try:
            part = self._file.get_slice(name)
            return part.get_dtype(), part.get_shape()
        except self._errors as error:
            raise UnreadableTensorsError(str(error)) from error

    def tensor(self, name: str) -> npt.NDArray[Any]:
        """A tensor, copied into memory.

        Raises:
            UnreadableTensorsError: there is none of this name, or it is of a type that NumPy does not have.
        """
        try:
            tensor: npt.NDArray[Any] = self._file.get_tensor(name)
            return tensor
        except self._errors as error:
            raise UnreadableTensorsError(str(error)) from error

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Some of a tensor's rows, alone read.

        Raises:
            UnreadableTensorsError: as `tensor`.
        """
        try:
            part: npt.NDArray[Any] = self._file.get_slice(name)[start:stop]
            return part
        except self._errors as error:
            raise UnreadableTensorsError(str(error)) from error

    def __enter__(self) -> "SafetensorsFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)


class _Bytes(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_header(data: _Bytes, most_bytes: int = _MOST_HEADER_BYTES) -> tuple[dict[str, Any], int]:
    """The header alone, of a file that may be damaged behind it, and at which byte the data begins.

    Args:
        data: an open file, or one that is mapped into memory, at its first byte.
        most_bytes: that a header may have.

    Raises:
        DocumentError: that is no JSON.
        UnreadableTensorsError: it is longer, or no object.
    """
    size = int.from_bytes(data.read(8), "little")
    if size > most_bytes:
        raise UnreadableTensorsError(f"its header has {size} bytes")
    header = parse_json(data.read(size))
    if not isinstance(header, dict):
        raise UnreadableTensorsError("its header is no object")
    return header, 8 + size
