"""Writing an index clip by clip: its columns grow in temporary files, and not in memory."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gru_audio.data.stored.index import Index, columns_of_index, header_of, shaped
from gru_audio.data.stored.shards import ShardHeader
from gru_audio.files import atomic_path

_BYTES = {"names": "name_ends", "sources": "source_ends", "speakers": "speaker_ends"}
_NO_KEY = bytes(16)
_COPIED_ROWS = 1 << 14
_COPIED_BYTES = 1 << 20


class IndexWriter:
    """Gathers the clips of a dataset; make one with `index_writer`.

    Attributes:
        n_clips, n_shards: gathered so far.
    """

    def __init__(self, files: Mapping[str, IO[bytes]]) -> None:
        self._files = files
        self._ends = dict.fromkeys(_BYTES, 0)
        self._speakers: dict[str, int] = {}
        self.n_clips = self.n_shards = 0
        for ends in _BYTES.values():
            self._files[ends].write(np.int64(0).tobytes())

    def add(self, shard: ShardHeader, n_bytes: int) -> None:
        """Add the next shard and its clips, which have no split yet; its file has `n_bytes`."""
        for clip in shard.clips:
            row = {
                "samples": clip.n_samples,
                "shard": self.n_shards,
                "clipped": min(clip.full_scale_samples, np.iinfo(np.int32).max),
                "speaker": self._speaker(clip.speaker),
                "split": 0,
                "given": int(clip.mel_shift is not None),
            }
            digest, key = bytes.fromhex(clip.digest), bytes.fromhex(clip.key) or _NO_KEY
            self._add(row, clip.name.encode(), clip.source.encode(), digest, key)
        self._files["shard_bytes"].write(n_bytes.to_bytes(8, "little"))
        self._files["contents"].write(bytes.fromhex(shard.content))
        self.n_shards += 1

    def copy(self, index: Index, first_shard: int, stop_shard: int) -> None:
        """Add some shards, with the same numbers, and their clips as another index has them, with their splits."""
        assert self.n_shards == first_shard
        first, stop = (int(at) for at in np.searchsorted(index.shard, [first_shard, stop_shard]))
        speakers = np.array([self._speaker(name) for name in index.speakers], np.int32)
        for low in range(first, stop, _COPIED_ROWS):
            rows = slice(low, min(low + _COPIED_ROWS, stop))
            for column in ("samples", "shard", "clipped", "split", "given", "digest", "key"):
                self._files[column].write(getattr(index, column)[rows].tobytes())
            self._files["speaker"].write(speakers[index.speaker[rows]].tobytes())
            for text, texts in (("names", index.names), ("sources", index.sources)):
                for one in texts[rows]:
                    self._text(text, one.encode())
        self.n_clips += stop - first
        for column in ("shard_bytes", "contents"):
            self._files[column].write(getattr(index, column)[first_shard:stop_shard].tobytes())
        self.n_shards = stop_shard

    def view(self) -> Index:
        """What was gathered, mapped into memory; good until more is added."""
        for file in self._files.values():
            file.flush()
        return Index(
            {name: _mapped(self._files[name], name, kind) for name, kind in columns_of_index().items()}
        )

    def set_splits(self, splits: NDArray[np.uint8]) -> None:
        """Put every clip into a split: (n_clips,), numbers of SPLITS."""
        file = self._files["split"]
        file.seek(0)
        file.write(splits.astype(np.uint8).tobytes())

    def digest(self) -> str:
        """The digest of what `save` will write."""
        digest = hashlib.blake2b(digest_size=16)
        for part in self._parts():
            digest.update(part)
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the index, atomically.

        Raises:
            OutputError: it cannot be written.
        """
        with atomic_path(path) as temporary, temporary.open("wb") as whole:
            for part in self._parts():
                whole.write(part)

    def _parts(self) -> Iterator[bytes]:
        yield header_of({name: file.seek(0, 2) for name, file in self._files.items()})
        for name in columns_of_index():
            self._files[name].seek(0)
            while part := self._files[name].read(_COPIED_BYTES):
                yield part

    def _speaker(self, name: str) -> int:
        if name not in self._speakers:
            self._speakers[name] = len(self._speakers)
            self._text("speakers", name.encode())
        return self._speakers[name]

    def _add(self, row: dict[str, int], name: bytes, source: bytes, digest: bytes, key: bytes) -> None:
        kinds = columns_of_index()
        for column, value in row.items():
            self._files[column].write(value.to_bytes(kinds[column].itemsize, "little"))
        self._text("names", name)
        self._text("sources", source)
        self._files["digest"].write(digest)
        self._files["key"].write(key)
        self.n_clips += 1

    def _text(self, column: str, text: bytes) -> None:
        self._files[column].write(text)
        self._ends[column] += len(text)
        self._files[_BYTES[column]].write(self._ends[column].to_bytes(8, "little"))


@contextmanager
def index_writer(folder: Path | None = None) -> Iterator[IndexWriter]:
    """A writer whose temporary files lie without names in a folder, by default the system's, and go with it."""
    with ExitStack() as stack:
        files = {name: stack.enter_context(tempfile.TemporaryFile(dir=folder)) for name in columns_of_index()}
        yield IndexWriter(files)


def _mapped(file: IO[bytes], name: str, kind: np.dtype[Any]) -> NDArray[Any]:
    size = file.seek(0, 2)
    column: NDArray[Any] = np.memmap(file, kind, "r") if size else np.zeros(0, kind)
    return shaped(column, name)
