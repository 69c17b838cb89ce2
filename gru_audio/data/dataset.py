"""A dataset as `prep` writes it and training reads it: dataset.json and shards of clips.

Nothing is held in memory but the list of clips; audio and pitch lags are read slice by slice.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from gru_audio.config import MelConfig, PrepConfig, SignalConfig
from gru_audio.data.shards import DamagedShardError, lags_key, pcm_key, read_header
from gru_audio.errors import DatasetError
from gru_audio.signal.mel import contract_differences

DATASET_FILE = "dataset.json"
DATASET_FORMAT = "gru-audio dataset"
DATASET_VERSION = 1
SPLITS = ("train", "valid", "test")

_MEND = "delete this file and run the same gru-audio prep again, it redoes only what is missing"
_OPEN_SHARDS = 64  # far below the usual limit of 1024 open files, workers included


@dataclass(frozen=True)
class Clip:
    """One clip of a dataset.

    Attributes:
        name: unique in the dataset.
        speaker: who speaks, as far as the source's folders tell.
        shard: file name of the shard that holds it.
        n_samples: its length, a whole number of hops.
        split: "train", "valid" or "test".
    """

    name: str
    speaker: str
    shard: str
    n_samples: int
    split: str


class Dataset:
    """A dataset's clips; make one with `Dataset.open`.

    It can be pickled and used after a fork: files are opened when they are first read, in each process.

    Attributes:
        path: the dataset's folder.
        mel: the mel contract that its hops and lags follow.
        signal: the signal settings, of which the pitch range shaped the lags.
        prep: how the audio was treated.
        licence: the audio's licence, as its maker stated it; may be empty.
        source_note: where the audio comes from, as its maker stated it; may be empty.
    """

    def __init__(self, path: Path, contents: Mapping[str, Any], clips: list[Clip]) -> None:
        self.path = path
        self.mel = MelConfig.model_validate(contents["mel"])
        self.signal = SignalConfig.model_validate(contents["signal"])
        self.prep = PrepConfig.model_validate(contents["prep"])
        self.licence = str(contents["licence"])
        self.source_note = str(contents["source_note"])
        self._clips = clips
        self._open_shards: OrderedDict[str, Any] = OrderedDict()

    @classmethod
    def open(cls, path: str | Path) -> "Dataset":
        """Open a dataset's folder.

        Raises:
            DatasetError: missing, not a dataset, made by a newer version, or a shard is missing or damaged.
        """
        path = Path(path)
        contents = read_contents(path)
        try:
            return cls(path, contents, _read_clips(path, contents))
        except (KeyError, TypeError, ValidationError) as error:
            raise DatasetError(f"{path / DATASET_FILE}: damaged ({type(error).__name__}); {_MEND}") from error

    @property
    def n_clips(self) -> int:
        """Clips of all splits."""
        return len(self._clips)

    @cached_property
    def n_samples(self) -> int:
        """Samples of all splits."""
        return sum(clip.n_samples for clip in self._clips)

    @property
    def duration_s(self) -> float:
        """Seconds of audio in all splits."""
        return self.n_samples / self.mel.sample_rate_hz

    @cached_property
    def fingerprint(self) -> str:
        """Tells whether two datasets hold the same clips in the same splits."""
        digest = hashlib.blake2b(digest_size=16)
        for clip in self._clips:
            digest.update(f"{clip.name}\0{clip.n_samples}\0{clip.split}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def clips(self, split: str | None = None) -> list[Clip]:
        """The clips of one split, or of all, in the dataset's order."""
        if split is not None and split not in SPLITS:
            raise DatasetError(f"split '{split}' does not exist; choose one of {', '.join(SPLITS)}")
        return [clip for clip in self._clips if split in (None, clip.split)]

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
            DatasetError: the shard cannot be read.
        """
        n_frames = clip.n_samples // self.mel.hop_samples
        frames = slice(first_frame, last_frame)
        lags: NDArray[np.float32] = self._read(clip, lags_key(clip.name), n_frames, frames)
        return lags

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
        return {**self.__dict__, "_open_shards": OrderedDict()}

    def _read(self, clip: Clip, key: str, size: int, wanted: slice) -> Any:
        import safetensors

        start, stop, _ = wanted.indices(size)
        if start >= stop:
            return np.zeros(0, np.int16 if key == pcm_key(clip.name) else np.float32)
        try:
            return self._shard(clip.shard).get_slice(key)[start:stop]
        except (OSError, safetensors.SafetensorError) as error:
            raise _damaged(self.path / clip.shard, str(error)) from error

    def _shard(self, name: str) -> Any:
        """The open file of a shard; the least recently used is closed when there are many."""
        import safetensors

        if name not in self._open_shards:
            self._open_shards[name] = safetensors.safe_open(self.path / name, framework="numpy")
            if len(self._open_shards) > _OPEN_SHARDS:
                self._open_shards.popitem(last=False)
        self._open_shards.move_to_end(name)
        return self._open_shards[name]


def read_contents(path: Path) -> dict[str, Any]:
    """What a dataset's dataset.json says.

    Raises:
        DatasetError: missing, not a dataset, or made by a newer version.
    """
    file = path / DATASET_FILE
    try:
        contents = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        what = f"has no {DATASET_FILE}" if path.is_dir() else "no such folder"
        raise DatasetError(f"{path}: not a dataset ({what}); make one with gru-audio prep") from error
    except OSError as error:
        raise DatasetError(f"{file}: {error.strerror}; check who may read it") from error
    except ValueError as error:
        raise DatasetError(f"{file}: damaged ({error}); {_MEND}") from error
    if not isinstance(contents, dict) or contents.get("format") != DATASET_FORMAT:
        raise DatasetError(f"{file}: not gru-audio's; choose another folder")
    version = contents.get("version")
    if not isinstance(version, int) or version > DATASET_VERSION:
        raise DatasetError(
            f"{path}: dataset version {version}, this program reads up to {DATASET_VERSION}; update gru-audio"
        )
    return contents


def _read_clips(path: Path, contents: Mapping[str, Any]) -> list[Clip]:
    """Every clip, from the shards' headers, with its split from dataset.json (what it leaves out is train)."""
    split = {name: split for split in ("valid", "test") for name in contents["splits"][split]}
    clips = []
    for shard in contents["shards"]:
        try:
            header = read_header(path / shard)
        except DamagedShardError as error:
            raise _damaged(path / shard, str(error)) from error
        clips += [
            Clip(clip.name, clip.speaker, shard, clip.n_samples, split.get(clip.name, "train"))
            for clip in header.clips
        ]
    return clips


def _damaged(shard: Path, reason: str) -> DatasetError:
    return DatasetError(
        f"{shard}: missing or damaged ({reason}); run the same gru-audio prep again, it redoes this shard alone"
    )
