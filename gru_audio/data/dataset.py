"""A dataset as `prep` writes it and training reads it: dataset.json, an index and shards of clips.

Nothing is held in memory: the list of clips is mapped, audio and pitch lags are read slice by slice. A clip
is compared with its digest when it is first read.
"""

import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from gru_audio.config import MelConfig, PrepConfig, SignalConfig
from gru_audio.data.index import SPLITS, DamagedIndexError, Index, read_index
from gru_audio.data.index_writer import index_writer
from gru_audio.data.shards import (
    ClipRecord,
    DamagedShardError,
    keys_of,
    lags_key,
    mel_key,
    pcm_key,
    read_header,
    read_verified,
    shard_name,
)
from gru_audio.documents import Document, DocumentError, parse_json, read_text
from gru_audio.errors import DatasetError
from gru_audio.files import is_folder
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.signal.mel import contract_differences
from gru_audio.voice.tensor_file import digest_of

DATASET_FILE = "dataset.json"
DATASET_FORMAT = "gru-audio dataset"
DATASET_VERSION = 2

INDEX_NAME = re.compile(r"index-[0-9a-f]{12}\.safetensors")

_MEND = "delete this file and run the same gru-audio prep again, it redoes only what is missing"
_OPEN_SHARDS = 64  # far below the usual limit of 1024 open files, workers included
_LAG_MARGIN = 2  # a tracker's fractions go past the longest lag, by far less


@dataclass(frozen=True)
class Clip:
    """One clip of a dataset.

    Attributes:
        name: unique in the dataset.
        speaker: who speaks, as far as the source's folders tell.
        shard: file name of the shard that holds it.
        n_samples: its length, a whole number of hops.
        split: "train", "valid" or "test".
        has_mel: a mel was given for it.
    """

    name: str
    speaker: str
    shard: str
    n_samples: int
    split: str
    has_mel: bool = False


class _Splits(Document):
    valid: list[str]
    test: list[str]


class _Contents(Document):
    """What dataset.json holds, of any version."""

    licence: str
    source_note: str
    mel: dict[str, Any]
    signal: dict[str, Any]
    prep: dict[str, Any]


class _Version1(_Contents):
    splits: _Splits
    shards: list[str]


class _Version2(_Contents):
    index: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


@dataclass
class _OpenShard:
    """A shard's open file, and what its header says of its clips, once it was asked for: record and digest."""

    file: Any
    clips: dict[str, tuple[ClipRecord, str]] | None = None


class Clips(Sequence[Clip]):
    """Some clips of a dataset, each made when it is asked for; a million take no memory.

    Attributes:
        n_samples: (n,), the length of each.
        speaker: (n,), the number of each one's speaker.
    """

    def __init__(self, index: Index, rows: NDArray[np.int64], shards: Sequence[str]) -> None:
        self._index, self._rows, self._shards = index, rows, shards
        self.n_samples: NDArray[np.int64] = index.samples[rows]
        self.speaker: NDArray[np.int32] = index.speaker[rows]

    @property
    def speakers(self) -> dict[int, str]:
        """Who speaks in them, by number."""
        return {int(number): self._index.speakers[int(number)] for number in np.unique(self.speaker)}

    @property
    def have_mels(self) -> bool:
        """Whether a mel was given for any of them."""
        return bool(self._index.given[self._rows].any())

    def chosen(self, places: NDArray[np.int64]) -> "Clips":
        """Some of them, by place, each as often as it is named."""
        return Clips(self._index, self._rows[places], self._shards)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        row, of = int(self._rows[index]), self._index
        return Clip(
            of.names[row],
            of.speakers[int(of.speaker[row])],
            self._shards[int(of.shard[row])],
            int(of.samples[row]),
            SPLITS[of.split[row]],
            bool(of.given[row]),
        )


class Dataset:
    """A dataset's clips; make one with `Dataset.open`.

    It can be pickled and used after a fork: files are opened when they are first read, in each process, and so are
    clips compared with their digests.

    Attributes:
        path: the dataset's folder.
        mel: the mel contract that its hops and lags follow.
        signal: the signal settings, of which the pitch range shaped the lags.
        prep: how the audio was treated.
        licence: the audio's licence, as its maker stated it; may be empty.
        source_note: where the audio comes from, as its maker stated it; may be empty.
    """

    def __init__(self, path: Path, contents: Mapping[str, Any], index: Index, shards: Sequence[str]) -> None:
        self.path = path
        self.mel = MelConfig.model_validate(contents["mel"])
        self.signal = SignalConfig.model_validate(contents["signal"])
        self.prep = PrepConfig.model_validate(contents["prep"])
        self.licence = str(contents["licence"])
        self.source_note = str(contents["source_note"])
        self._index, self._shards = index, shards
        self._open_shards: OrderedDict[str, _OpenShard] = OrderedDict()
        self._compared: set[int] = set()

    @classmethod
    def open(cls, path: str | Path) -> "Dataset":
        """Open a dataset's folder.

        Raises:
            DatasetError: missing, not a dataset, made by a newer version, or a shard is missing or damaged.
        """
        path = Path(path)
        contents = read_contents(path)
        try:
            return cls(path, contents, *index_of(path, contents))
        except ValidationError as error:
            reason = error.errors()[0]
            where = ".".join(map(str, reason["loc"]))
            raise DatasetError(
                f"{path / DATASET_FILE}: damaged ({where}: {reason['msg']}); {_MEND}"
            ) from error

    def verify(self, progress: ProgressCallback = ignore_progress) -> None:
        """Compare all shards with their digests, which takes as long as reading them.

        Args:
            progress: told after every shard, in shards.

        Raises:
            DatasetError: one is damaged; it is named.
        """
        for n_done, shard in enumerate(self._shards):
            progress(Progress(n_done, len(self._shards)))
            try:
                header, _ = read_verified(self.path / shard)
            except DamagedShardError as error:
                raise _damaged(self.path / shard, str(error)) from error
            if bytes.fromhex(header.content) != bytes(self._index.contents[n_done]):
                raise _damaged(self.path / shard, "it is another than the index names")
        progress(Progress(len(self._shards), len(self._shards)))

    @property
    def n_shards(self) -> int:
        """Files that hold the clips."""
        return len(self._shards)

    @property
    def n_clips(self) -> int:
        """Clips of all splits."""
        return len(self._index)

    @cached_property
    def n_samples(self) -> int:
        """Samples of all splits."""
        return int(self._index.samples.sum())

    @property
    def duration_s(self) -> float:
        """Seconds of audio in all splits."""
        return self.n_samples / self.mel.sample_rate_hz

    @cached_property
    def fingerprint(self) -> str:
        """Tells whether two datasets hold the same clips in the same splits."""
        digest = hashlib.blake2b(digest_size=16)
        for name, samples, split in zip(
            self._index.names, self._index.samples, self._index.split, strict=True
        ):
            digest.update(f"{name}\0{samples}\0{SPLITS[split]}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def clips(self, split: str | None = None) -> Clips:
        """The clips of one split, or of all, in the dataset's order."""
        if split is not None and split not in SPLITS:
            raise DatasetError(f"split '{split}' does not exist; choose one of {', '.join(SPLITS)}")
        chosen = np.arange(len(self._index))
        if split is not None:
            chosen = np.flatnonzero(self._index.split == SPLITS.index(split))
        return Clips(self._index, chosen, self._shards)

    def audio(self, clip: Clip, start: int = 0, stop: int | None = None) -> NDArray[np.int16]:
        """Samples [start, stop) of a clip as 16-bit PCM; only they are read. Bounds are a slice's.

        Raises:
            DatasetError: the shard cannot be read.
        """
        pcm: NDArray[np.int16] = self._read(clip, pcm_key(clip.name), clip.n_samples, slice(start, stop))
        return pcm

    def lags(self, clip: Clip, first_frame: int = 0, last_frame: int | None = None) -> NDArray[np.float32]:
        """Pitch lags in samples of frames [first_frame, last_frame) of a clip; 0 where it is unvoiced.

        Raises:
            DatasetError: the shard cannot be read, or holds a lag that no pitch has.
        """
        n_frames = clip.n_samples // self.mel.hop_samples
        frames = slice(first_frame, last_frame)
        lags: NDArray[np.float32] = self._read(clip, lags_key(clip.name), n_frames, frames)
        longest = self.mel.sample_rate_hz / self.signal.pitch_min_hz
        if not ((lags >= 0) & (lags <= _LAG_MARGIN * longest)).all():
            raise _damaged(
                self.path / clip.shard, f"its clip {clip.name} has lags past {longest:.0f} samples"
            )
        return lags

    def given_mel(
        self, clip: Clip, first_frame: int = 0, last_frame: int | None = None
    ) -> NDArray[np.float32]:
        """Frames [first_frame, last_frame) of the mel that was given for a clip, (n, n_mels).

        With padding "center" it has one frame more than the clip has hops.

        Raises:
            DatasetError: the shard cannot be read.
        """
        assert clip.has_mel
        n_frames = clip.n_samples // self.mel.hop_samples + (self.mel.padding == "center")
        frames = slice(first_frame, last_frame)
        mel: NDArray[np.float32] = self._read(clip, mel_key(clip.name), n_frames, frames)
        if not mel.size:
            return mel.reshape(0, self.mel.n_mels)
        if mel.shape[1] != self.mel.n_mels or not np.isfinite(mel).all():
            raise _damaged(self.path / clip.shard, f"its clip {clip.name} has a mel of another contract")
        return mel

    def require_mel(self, mel: MelConfig) -> None:
        """Make sure that the dataset was made for a mel contract.

        Raises:
            DatasetError: it was not; names what differs.
        """
        differing = contract_differences(self.mel, mel)
        if differing:
            raise DatasetError(
                f"{self.path}: made with another mel contract ({'; '.join(differing)}); "
                "prepare it again with this config, or train with the dataset's [mel]"
            )

    def require_pitch_range(self, signal: SignalConfig) -> None:
        """Make sure that the pitch labels were sought where a network will look for the pitch.

        Raises:
            DatasetError: they were not; names both ranges.
        """
        have, want = ((table.pitch_min_hz, table.pitch_max_hz) for table in (self.signal, signal))
        if signal.lpc_order and have != want:
            raise DatasetError(
                f"{self.path}: its pitch labels run from {have[0]:g} to {have[1]:g} Hz, wanted {want[0]:g} to "
                f"{want[1]:g} Hz; prepare it again with this config, or train with the dataset's pitch range"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open_shards": OrderedDict(), "_compared": set(), "_index": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._index, _ = index_of(self.path, read_contents(self.path))

    def _read(self, clip: Clip, key: str, size: int, wanted: slice) -> Any:
        import safetensors

        start, stop, _ = wanted.indices(size)
        if start >= stop:
            return np.zeros(0, np.int16 if key == pcm_key(clip.name) else np.float32)
        try:
            shard = self._shard(clip.shard)
            if hash((clip.shard, clip.name)) not in self._compared:
                self._compare(clip, shard)
            return shard.file.get_slice(key)[start:stop]
        except (OSError, TypeError, safetensors.SafetensorError, DamagedShardError) as error:
            raise _damaged(self.path / clip.shard, str(error)) from error

    def _compare(self, clip: Clip, shard: _OpenShard) -> None:
        """Compare a clip with its digest, the first time that it is read.

        Raises:
            DamagedShardError: it differs; or the shard's header does not fit its tensors.
        """
        if shard.clips is None:
            header = read_header(self.path / clip.shard, self.mel.hop_samples)
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
        if digest_of(*map(shard.file.get_tensor, keys)) != (digest or record.digest):
            raise DamagedShardError(f"its clip {clip.name} does not match its digest")
        self._compared.add(hash((clip.shard, clip.name)))

    def _shard(self, name: str) -> _OpenShard:
        """The open file of a shard; the least recently used is closed when there are many."""
        import safetensors

        if name not in self._open_shards:
            self._open_shards[name] = _OpenShard(safetensors.safe_open(self.path / name, framework="numpy"))
            if len(self._open_shards) > _OPEN_SHARDS:
                self._open_shards.popitem(last=False)
        self._open_shards.move_to_end(name)
        return self._open_shards[name]


def index_name(digest: str) -> str:
    """The file name of the index with this digest: a new one takes an old one's place once dataset.json names it.

    Raises:
        TypeError: that is no digest.
    """
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{32}", digest):
        raise TypeError("its index has no digest")
    return f"index-{digest[:12]}.safetensors"


def read_contents(path: Path) -> dict[str, Any]:
    """What a dataset's dataset.json says.

    Raises:
        DatasetError: missing, not a dataset, or made by a newer version.
    """
    file = path / DATASET_FILE
    try:
        contents = parse_json(read_text(file))
    except (FileNotFoundError, NotADirectoryError) as error:
        what = f"has no {DATASET_FILE}" if is_folder(path) else "no such folder"
        raise DatasetError(f"{path}: not a dataset ({what}); make one with gru-audio prep") from error
    except OSError as error:
        raise DatasetError(f"{file}: {error.strerror}; check the path, and who may read it") from error
    except DocumentError as error:
        raise DatasetError(f"{file}: damaged ({error}); {_MEND}") from error
    if not isinstance(contents, dict) or contents.get("format") != DATASET_FORMAT:
        raise DatasetError(f"{file}: not gru-audio's; choose another folder")
    version = contents.get("version")
    if not isinstance(version, int) or not 1 <= version <= DATASET_VERSION:
        raise DatasetError(
            f"{path}: dataset version {version}, this program reads up to {DATASET_VERSION}; update gru-audio"
        )
    try:
        (_Version1 if version == 1 else _Version2).of(contents)
    except DocumentError as error:
        raise DatasetError(f"{file}: damaged ({error}); {_MEND}") from error
    for shard in contents["shards"] if version == 1 else ():
        if not shard or Path(shard).name != shard or shard.startswith("."):
            raise DatasetError(f"{file}: names {shard}, which is no file of its folder; {_MEND}")
    return contents


def index_of(path: Path, contents: Mapping[str, Any]) -> tuple[Index, Sequence[str]]:
    """The list of a dataset's clips, and its shards' file names.

    Args:
        path: the dataset's folder.
        contents: as `read_contents` gives it.

    Raises:
        DatasetError: the index or a shard is missing or damaged.
    """
    if contents["version"] == 1:
        splits = {name: SPLITS.index(split) for split in SPLITS[1:] for name in contents["splits"][split]}
        return index_from_shards(path, contents["shards"], splits), contents["shards"]
    index = stored_index(path, contents)
    with os.scandir(path) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.startswith("shard-")}
    shards = [shard_name(number) for number in range(len(index.shard_bytes))]
    for shard, n_bytes in zip(shards, index.shard_bytes, strict=True):
        if sizes.get(shard) != n_bytes:
            raise _damaged(path / shard, f"it has {sizes.get(shard, 0)} bytes in place of {n_bytes}")
    return index, shards


def stored_index(path: Path, contents: Mapping[str, Any]) -> Index:
    """The index file that a dataset.json names, whatever its shards are.

    Raises:
        DatasetError: missing or damaged.
    """
    file = path / index_name(contents["index"])
    try:
        return read_index(file, contents["index"])
    except DamagedIndexError as error:
        raise DatasetError(f"{file}: missing or damaged ({error}); {_MEND}") from error


def index_from_shards(path: Path, shards: Sequence[str], splits: Mapping[str, int]) -> Index:
    """The list of a dataset's clips as its shards' headers tell it.

    Args:
        path: the dataset's folder.
        shards: file names.
        splits: the number in SPLITS of each clip's split, by name; what it leaves out is train.

    Raises:
        DatasetError: a shard is missing or damaged.
    """
    with index_writer() as writer:
        for shard in shards:
            try:
                writer.add(read_header(path / shard), (path / shard).stat().st_size)
            except DamagedShardError as error:
                raise _damaged(path / shard, str(error)) from error
        places = [splits.get(name, 0) for name in writer.view().names]
        writer.set_splits(np.array(places, np.uint8))
        return writer.view()


def _damaged(shard: Path, reason: str) -> DatasetError:
    return DatasetError(
        f"{shard}: missing or damaged ({reason}); run the same gru-audio prep again, it redoes this shard alone"
    )
