"""Tensors and one JSON document in one safetensors file: the container of voices and checkpoints.

Nothing is ever unpickled. The JSON stands under a single metadata key, so a file's bytes follow from its
contents alone. It holds a digest of itself and of the tensors, which is compared wherever these are read. Pruned
matrices take the room of what is left of them; see sparse_tensors.py.
"""

import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from gru_audio.documents import Document, DocumentError
from gru_audio.errors import CheckpointError
from gru_audio.files import atomic_path, open_file, why_no_file
from gru_audio.safetensors_file import METADATA_KEY, SafetensorsFile, UnreadableTensorsError
from gru_audio.voice.sparse_tensors import SparseTensorError, is_squeezed, squeezed, whole

Array = npt.NDArray[Any]

_VERSION, _WITH_BLOCKS = 1, 2
"""What all versions read, and what has pruned matrices as their blocks."""

_DIGEST = "digest"
_CHECKSUM = "crc32"
"""In the digest's place in the checkpoints of a version that knew none: CRC-32 of the tensors."""

EXPORTED_MAGIC = b"GRUVOICE"
"""What a voice begins with that was exported for the C interface, which alone reads it."""


class OtherProgramsFileError(CheckpointError):
    """A whole safetensors file, which gru-audio did not write."""


class _Header(Document):
    version: int
    kind: str = "dataset's shard"
    digest: str | None = None
    crc32: int | None = None


def digest_of(*parts: bytes | Array) -> str:
    """Digest of bytes and of arrays' contents, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return digest.hexdigest()


def write_tensor_file(
    path: Path, kind: str, document: Mapping[str, Any], tensors: Mapping[str, Array]
) -> None:
    """Write atomically.

    Args:
        path: the file, replaced where it exists.
        kind: what the file is, `"voice"` or `"checkpoint"`.
        document: anything JSON can hold; its digest is added.
        tensors: name to array.

    Raises:
        OutputError: the file cannot be written; what was there stays.
    """
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in squeezed(tensors).items()}
    version = _WITH_BLOCKS if is_squeezed(contiguous) else _VERSION
    header = json.loads(json.dumps({"kind": kind, "version": version, **document}, allow_nan=False))
    header.pop(_CHECKSUM, None)
    header[_DIGEST] = _digest(header, contiguous)
    data = save(contiguous, {METADATA_KEY: json.dumps(header)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_tensor_file(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """A file's JSON document and all of its tensors, by name, once they match their digest.

    A file that an older version wrote has no digest, and is taken as it is.

    Raises:
        CheckpointError: as `open_tensor_file`, or the file was changed since it was written.
    """
    with open_tensor_file(path, kind) as file:
        return file.document, file.tensors()


class TensorFile:
    """An open file of ours.

    Attributes:
        document: its JSON document, not yet compared with the digest.
    """

    def __init__(self, path: Path, file: SafetensorsFile, document: dict[str, Any]) -> None:
        """See `open_tensor_file`."""
        self.document, self._path, self._file = document, path, file

    def tensors(self) -> dict[str, Array]:
        """All of its tensors, by name, once they and the document match their digest.

        Raises:
            CheckpointError: the file was changed since it was written.
        """
        path, document = self._path, self.document
        try:
            tensors = {name: self._file.tensor(name) for name in self._file.names}
        except UnreadableTensorsError as error:  # bfloat16, for one, is not a type of numpy's
            raise CheckpointError(f"{path}: holds a tensor that cannot be read ({error})") from error
        if document.get(_DIGEST) not in (None, _digest(document, tensors)):
            raise CheckpointError(f"{path}: damaged: its contents do not match their digest; copy it again")
        checksum = document.get(_CHECKSUM)
        if checksum is not None and checksum != _checksum(tensors):
            raise CheckpointError(f"{path}: damaged: its contents do not match their checksum; copy it again")
        try:
            return whole(tensors)
        except SparseTensorError as error:
            raise CheckpointError(f"{path}: damaged: {error}; copy it again") from error


def states_digest(document: Mapping[str, Any]) -> bool:
    """Whether a file could be compared with what its maker wrote."""
    return document.get(_DIGEST) is not None or document.get(_CHECKSUM) is not None


def _digest(document: Mapping[str, Any], tensors: Mapping[str, Array]) -> str:
    """Of all that a file holds, but for the digest itself."""
    told = {name: value for name, value in document.items() if name != _DIGEST}
    parts: list[bytes | Array] = [json.dumps(told, sort_keys=True).encode()]
    for name in sorted(tensors):
        tensor = tensors[name]
        parts += [f"\0{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode(), tensor]
    return digest_of(*parts)


def _checksum(tensors: Mapping[str, Array]) -> int:
    """CRC-32 of all tensors' bytes, in the order of their names."""
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].tobytes(), total)
    return total


def _document(path: Path, file: SafetensorsFile, kind: str | None) -> dict[str, Any]:
    try:
        document = file.document()
        header = _Header.of(document)
    except KeyError as error:
        raise OtherProgramsFileError(
            f"{path}: a safetensors file, but not one that gru-audio wrote; name another"
        ) from error
    except DocumentError as error:
        raise CheckpointError(
            f"{path}: a safetensors file, but not one that gru-audio wrote (its header: {error}); name another"
        ) from error
    if header.version > _WITH_BLOCKS:
        raise CheckpointError(f"{path}: of version {header.version}, newer than this gru-audio; upgrade it")
    if kind is not None and header.kind != kind:
        raise CheckpointError(f"{path}: is a {header.kind}, not a {kind}; name a {kind}")
    return dict(document)


def is_exported(path: Path) -> bool:
    """Whether a file is what `export` makes of a voice; False for one that cannot be read."""
    try:
        with open_file(path) as file:
            return file.read(len(EXPORTED_MAGIC)) == EXPORTED_MAGIC
    except OSError:
        return False


@contextlib.contextmanager
def open_tensor_file(path: Path, kind: str | None = None) -> Iterator[TensorFile]:
    """Open a file for its document, and for its tensors where the document says that they are wanted.

    `kind` is what it must be; None for anything that gru-audio wrote.

    Raises:
        OtherProgramsFileError: a whole file, but another program's.
        CheckpointError: no such file, not a safetensors file, of another kind or of a newer version.
    """
    reason = why_no_file(path)
    if reason is not None:
        raise CheckpointError(f"{path}: {reason}; check the path")
    if is_exported(path):
        raise CheckpointError(
            f"{path}: exported for C and the browser, which alone read it; name the voice that it was made of"
        )
    try:
        opened = SafetensorsFile(path)
    except UnreadableTensorsError as error:
        raise CheckpointError(
            f"{path}: not a safetensors file, or a damaged one ({error}); copy it again, or name another"
        ) from error
    with opened as file:
        yield TensorFile(path, file, _document(path, file, kind))
