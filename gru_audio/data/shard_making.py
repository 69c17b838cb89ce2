"""Recordings in groups, and the shard that is made of each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from gru_audio.config import Config
from gru_audio.data.inputs.catalogue import Source
from gru_audio.data.reading import shown_path, why_unusable
from gru_audio.data.stored.shards import (
    ClipRecord,
    DamagedShardError,
    ShardHeader,
    encode_shard,
    read_verified,
)
from gru_audio.data.treatment import make_clips
from gru_audio.errors import AudioError, MelError
from gru_audio.files import atomic_path

GROUP_FILES, GROUP_BYTES = 64, 64 << 20
"""At most so much is read by one task."""

_PCM_SUFFIXES = frozenset({".wav", ".aiff", ".aif", ".au", ".w64", ".caf", ".rf64"})
_COMPRESSION = 8
"""Bytes of PCM in a byte of other formats, roughly; a two-hour podcast is a group of its own."""


@dataclass(frozen=True)
class ShardTask:
    """One shard to make.

    Attributes:
        path: where it goes.
        sources: the files that it is made of, in order.
        config: of which [mel], [signal] and [prep] matter.
        input_format: ffmpeg's name of the files' format, or None.
        n_recordings: how many the dataset has; see `longest_piece_s`. Where there are enough, it says just that.
        fingerprint: of all this.
    """

    path: Path
    sources: tuple[Source, ...]
    config: Config
    input_format: str | None
    n_recordings: int
    fingerprint: str

    def absolute(self) -> "ShardTask":
        """The same for a process that works in another folder."""
        sources = tuple(source.absolute() for source in self.sources)
        return replace(self, path=self.path.absolute(), sources=sources)


@dataclass(frozen=True)
class MadeShard:
    """What became of one shard's task.

    Attributes:
        header: the shard's.
        was_kept: the file that was there still held.
        n_sources: how many recordings it was to be made of.
        skipped: those that could not be used, by their path, each with the reason.
    """

    header: ShardHeader
    was_kept: bool
    n_sources: int
    skipped: tuple[tuple[str, str], ...]


def group(sources: Iterable[Source]) -> Iterator[tuple[Source, ...]]:
    """Sources in groups, in order, by number and by the memory that their audio takes."""
    gathered: list[Source] = []
    weight = 0
    for source in sources:
        stored = PurePosixPath(source.relative if source.member else source.path)
        expansion = 1 if stored.suffix.lower() in _PCM_SUFFIXES else _COMPRESSION
        size = max(0, source.size_bytes) * expansion
        if gathered and (len(gathered) == GROUP_FILES or weight + size > GROUP_BYTES):
            yield tuple(gathered)
            gathered, weight = [], 0
        gathered.append(source)
        weight += size
    if gathered:
        yield tuple(gathered)


def make_shard(task: ShardTask) -> MadeShard:
    """Make one shard, or keep the one that is there.

    What a shard had to skip is tried again: the file may have been mended, or ffmpeg installed. Its clips stay,
    whether or not their sources can be read now.

    Raises:
        OutputError: the shard cannot be written.
    """
    have: dict[str, list[ClipRecord]] = {}
    tensors: dict[str, NDArray[Any]] = {}
    try:
        old, old_tensors = read_verified(task.path)
        if old.fingerprint == task.fingerprint:
            if not old.skipped:
                return MadeShard(old, True, len(task.sources), ())
            tensors = old_tensors
            for record in old.clips:
                have.setdefault(record.key, []).append(record)
    except DamagedShardError:
        pass  # missing, cut short or altered: made below
    clips: list[ClipRecord] = []
    skipped: list[tuple[str, str]] = []
    paths: list[tuple[str, str]] = []
    for source in task.sources:
        if source.key in have:
            clips += have[source.key]
            continue
        try:
            made = list(make_clips(source, task.config, task.n_recordings, task.input_format))
        except (AudioError, MelError, MemoryError) as error:
            reason = why_unusable(source, error)
            skipped.append((source.name, reason))
            paths.append((shown_path(source), reason))
            continue
        for clip in made:
            clips.append(clip.record)
            tensors |= clip.tensors
    if have and len(clips) == sum(map(len, have.values())):
        header = replace(old, skipped=tuple(skipped))  # of this time
        return MadeShard(header, True, len(task.sources), tuple(paths))
    header, encoded = encode_shard(task.fingerprint, clips, skipped, tensors)
    with atomic_path(task.path) as temporary:
        temporary.write_bytes(encoded)
    return MadeShard(header, False, len(task.sources), tuple(paths))
