"""The list of a dataset's clips as columns in one file that is mapped into memory.

    index-….safetensors     N clips, P speakers, S shards
    samples      int64      (N,)     length of each clip
    name_ends    int64      (N + 1,) clip i's name is names[name_ends[i] : name_ends[i + 1]]; likewise the sources
    source_ends  int64      (N + 1,)
    speaker_ends int64      (P + 1,)
    shard_bytes  int64      (S,)     size of each shard's file
    speaker      int32      (N,)     which of the speakers
    shard        int32      (N,)     number of the shard that holds the clip
    clipped      int32      (N,)     samples of the source at full scale
    split        uint8      (N,)     which of SPLITS
    given        uint8      (N,)     whether it has a given mel
    digest, key  uint8      (N, 16)  of the PCM; of the source
    contents     uint8      (S, 16)  digest of each shard's tensors
    names, sources, speakers uint8   text in UTF-8, one behind the other

Opening maps the file and reads none of it; a million clips take 150 MB on disk and none in memory.
"""

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gru_audio.files import open_file
from gru_audio.safetensors_file import read_header

SPLITS = ("train", "valid", "test")
MOST_SAMPLES = 1 << 40
"""Of a clip: a longer one is damage."""

_TYPES: dict[str, np.dtype[Any]] = {"I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "U8": np.dtype("u1")}
_COLUMNS = {
    "samples": "I64", "name_ends": "I64", "source_ends": "I64", "speaker_ends": "I64", "shard_bytes": "I64",
    "speaker": "I32", "shard": "I32", "clipped": "I32", "split": "U8", "given": "U8", "digest": "U8", "key": "U8",
    "contents": "U8", "names": "U8", "sources": "U8", "speakers": "U8",
}  # fmt: skip
"""In the file's order: the wide ones first, so that all are aligned."""
_WIDTH = {"digest": 16, "key": 16, "contents": 16}
_MOST_HEADER_BYTES = 1 << 16
_DIGEST_CHUNK = 1 << 24


class DamagedIndexError(Exception):
    """A file is not a whole index; the caller says what that means for its user."""


class Texts(Sequence[str]):
    """Texts that lie one behind the other."""

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        self._text, self._ends = text, ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return bytes(self._text[self._ends[at] : self._ends[at + 1]]).decode(errors="replace")


class Index:
    """The columns of an index; see the drawing above.

    Attributes:
        names: of the clips.
        sources: the file that each was made from.
        speakers: of the dataset, by the number that `speaker` has.
        samples, speaker, shard, clipped, split, given, digest, key: a row for each clip.
        shard_bytes, contents: a row for each shard.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Take columns as they are.

        Raises:
            DamagedIndexError: they do not fit together.
        """
        _check(columns)
        self.names = Texts(columns["names"], columns["name_ends"])
        self.sources = Texts(columns["sources"], columns["source_ends"])
        self.speakers = Texts(columns["speakers"], columns["speaker_ends"])
        self.samples: NDArray[np.int64] = columns["samples"]
        self.speaker: NDArray[np.int32] = columns["speaker"]
        self.shard: NDArray[np.int32] = columns["shard"]
        self.clipped: NDArray[np.int32] = columns["clipped"]
        self.split: NDArray[np.uint8] = columns["split"]
        self.given: NDArray[np.uint8] = columns["given"]
        self.digest: NDArray[np.uint8] = columns["digest"]
        self.key: NDArray[np.uint8] = columns["key"]
        self.shard_bytes: NDArray[np.int64] = columns["shard_bytes"]
        self.contents: NDArray[np.uint8] = columns["contents"]

    def __len__(self) -> int:
        return len(self.samples)

    def sources_known(self, before_shard: int) -> Iterator[tuple[bytes, str]]:
        """The source's key and the clip's name of each clip in the shards before one."""
        for at in np.flatnonzero(self.shard < before_shard):
            yield bytes(self.key[at]), self.names[at]


def read_index(path: Path, digest: str) -> Index:
    """Map an index into memory.

    Args:
        path: the file.
        digest: of its contents, as `digest_of_file` has it.

    Raises:
        DamagedIndexError: missing, truncated or altered.
    """
    try:
        with open_file(path) as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if digest_of_file(mapped) != digest:
            raise DamagedIndexError("its contents do not match their digest")
        header, base = read_header(mapped, _MOST_HEADER_BYTES)
        columns = {name: _column(mapped, base, header[name], name) for name in _COLUMNS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedIndexError(str(error) or type(error).__name__) from error
    return Index(columns)


def equal_rows(digests: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """The rows (n, 16) that are equal, as groups of their numbers, in the order of each one's first."""
    if not len(digests):
        return []
    whole = np.ascontiguousarray(digests).view("V16").ravel()
    order = np.lexsort(np.ascontiguousarray(digests).view(np.uint64).T)
    starts = np.flatnonzero(np.concatenate([[True], whole[order][1:] != whole[order][:-1]]))
    sizes = np.diff(starts, append=len(order))
    groups = [
        np.sort(order[start : start + size]) for start, size in zip(starts, sizes, strict=True) if size > 1
    ]
    return sorted(groups, key=lambda group: int(group[0]))


def digest_of_file(data: Any) -> str:
    """Digest of an index's bytes."""
    digest = hashlib.blake2b(digest_size=16)
    with memoryview(data) as view:
        for start in range(0, len(view), _DIGEST_CHUNK):
            digest.update(view[start : start + _DIGEST_CHUNK])
    return digest.hexdigest()


def header_of(sizes: Mapping[str, int]) -> bytes:
    """The bytes before the columns of an index, in safetensors' form.

    Args:
        sizes: of each column, in bytes.
    """
    header, start = dict[str, Any](), 0
    for name, kind in _COLUMNS.items():
        width = _WIDTH.get(name)
        count = sizes[name] // (_TYPES[kind].itemsize * (width or 1))
        shape = [count, width] if width else [count]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, start + sizes[name]]}
        start += sizes[name]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def columns_of_index() -> Mapping[str, np.dtype[Any]]:
    """The columns in the file's order, each with its type."""
    return {name: _TYPES[kind] for name, kind in _COLUMNS.items()}


def shaped(column: NDArray[Any], name: str) -> NDArray[Any]:
    """A flat column in its shape."""
    return column.reshape(-1, _WIDTH[name]) if name in _WIDTH else column


def _column(mapped: mmap.mmap, base: int, entry: Mapping[str, Any], name: str) -> NDArray[Any]:
    start, stop = entry["data_offsets"]
    kind = _TYPES[_COLUMNS[name]]
    if entry["dtype"] != _COLUMNS[name] or not 0 <= start <= stop <= len(mapped) - base:
        raise DamagedIndexError(f"its column '{name}' lies outside of it")
    return shaped(np.frombuffer(mapped, kind, (stop - start) // kind.itemsize, base + start), name)


def _check(columns: Mapping[str, NDArray[Any]]) -> None:
    n_clips = len(columns["samples"])
    for name in ("speaker", "shard", "clipped", "split", "given", "digest", "key"):
        if len(columns[name]) != n_clips:
            raise DamagedIndexError(f"its column '{name}' has {len(columns[name])} rows for {n_clips} clips")
    for name, count in (
        ("speaker", len(columns["speaker_ends"]) - 1), ("shard", len(columns["shard_bytes"])), ("split", len(SPLITS)),
    ):  # fmt: skip
        if n_clips and not 0 <= columns[name].min() <= columns[name].max() < count:
            raise DamagedIndexError(f"its column '{name}' names more than there are")
    if n_clips and not 0 < columns["samples"].min() <= columns["samples"].max() <= MOST_SAMPLES:
        raise DamagedIndexError("its column 'samples' holds lengths that no clip has")
    if len(columns["shard_bytes"]) != len(columns["contents"]):
        raise DamagedIndexError("its shards' sizes and digests differ in number")
    for text, ends, count in (
        ("names", "name_ends", n_clips),
        ("sources", "source_ends", n_clips),
        ("speakers", "speaker_ends", len(columns["speaker_ends"]) - 1),
    ):
        bounds = columns[ends]
        fits = len(bounds) == count + 1 and bounds[0] == 0 and bounds[-1] == len(columns[text])
        if not fits or (np.diff(bounds) < 0).any():
            raise DamagedIndexError(f"its column '{ends}' does not fit '{text}'")
