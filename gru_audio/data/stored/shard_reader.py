"""Parts of clips out of a dataset's shards, each clip compared with its digest when it is first read."""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gru_audio.data.stored.clips import Clip
from gru_audio.data.stored.shards import (
    ClipRecord,
    DamagedShardError,
    damaged_shard,
    keys_of,
    pcm_key,
    read_shard_header,
)
from gru_audio.safetensors_file import SafetensorsFile, UnreadableTensorsError
from gru_audio.voice.tensor_file import digest_of

MOST_OPEN = 64
"""Far below the usual limit of 1024 open files, workers included."""


@dataclass
class _OpenShard:
    """A shard's open file, and what its header says of its clips, once it was asked for: record and digest."""

    file: SafetensorsFile
    clips: dict[str, tuple[ClipRecord, str]] | None = None


class ShardReader:
    """A dataset's shards; it can be pickled and used after a fork, as each process opens the files for itself."""

    def __init__(self, path: Path, hop_samples: int, most_open: int = MOST_OPEN) -> None:
        """Of the shards in a folder, whose clips have whole hops; none is opened yet."""
        self._path, self._hop_samples, self._most_open = path, hop_samples, most_open
        self._open_shards: OrderedDict[str, _OpenShard] = OrderedDict()
        self._compared: set[int] = set()

    def read(self, clip: Clip, key: str, size: int, wanted: slice) -> NDArray[Any]:
        """Some rows of one of a clip's tensors.

        Args:
            clip: whose.
            key: the tensor's name.
            size: rows that it has in all.
            wanted: as in a list of so many.

        Raises:
            DatasetError: the shard is missing or damaged.
        """
        start, stop, _ = wanted.indices(size)
        if start >= stop:
            return np.zeros(0, np.int16 if key == pcm_key(clip.name) else np.float32)
        try:
            shard = self._shard(clip.shard)
            if hash((clip.shard, clip.name)) not in self._compared:
                self._compare(clip, shard)
            return shard.file.rows(key, start, stop)
        except (OSError, UnreadableTensorsError, DamagedShardError) as error:
            raise damaged_shard(self._path / clip.shard, str(error)) from error

    @property
    def n_open(self) -> int:
        """How many shards are open."""
        return len(self._open_shards)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open_shards": OrderedDict(), "_compared": set()}

    def _compare(self, clip: Clip, shard: _OpenShard) -> None:
        """Compare a clip with its digest, the first time that it is read.

        Raises:
            DamagedShardError: it differs; or the shard's header does not fit its tensors.
        """
        if shard.clips is None:
            header = read_shard_header(self._path / clip.shard, self._hop_samples)
            both = header.clip_digests or [""] * len(header.clips)
            shard.clips = {told.name: (told, digest) for told, digest in zip(header.clips, both, strict=True)}
        record, digest = shard.clips.get(clip.name, (None, ""))
        if (
            record is None
            or record.n_samples != clip.n_samples
            or (record.mel_shift is not None) != clip.has_mel
        ):
            raise DamagedShardError(f"it has no clip {clip.name} of {clip.n_samples} samples")
        keys = keys_of(record) if digest else [pcm_key(clip.name)]
        if digest_of(*map(shard.file.tensor, keys)) != (digest or record.digest):
            raise DamagedShardError(f"its clip {clip.name} does not match its digest")
        self._compared.add(hash((clip.shard, clip.name)))

    def _shard(self, name: str) -> _OpenShard:
        """The open file of a shard; the least recently used is closed when there are many."""
        if name not in self._open_shards:
            self._open_shards[name] = _OpenShard(SafetensorsFile(self._path / name))
            if len(self._open_shards) > self._most_open:
                self._open_shards.popitem(last=False)
        self._open_shards.move_to_end(name)
        return self._open_shards[name]
