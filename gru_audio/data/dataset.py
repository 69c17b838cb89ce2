"""A dataset as `prep` writes it and training reads it: dataset.json, an index and shards of clips.

Nothing is held in memory: the list of clips is mapped, audio and pitch lags are read slice by slice. A clip
is compared with its digest when it is first read.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from gru_audio.config import MelConfig, PrepConfig, SignalConfig, which_preset_has
from gru_audio.data.stored.clips import Clip, Clips
from gru_audio.data.stored.contents import DATASET_FILE, MEND, index_of, read_contents
from gru_audio.data.stored.index import SPLITS, Index
from gru_audio.data.stored.shard_reader import ShardReader
from gru_audio.data.stored.shards import (
    DamagedShardError,
    damaged_shard,
    lags_key,
    mel_key,
    pcm_key,
    read_verified,
)
from gru_audio.errors import DatasetError
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.signal.mel_adapt.conversion import contract_differences

_LAG_MARGIN = 2  # a tracker's fractions go past the longest lag, by far less


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
        self._reader = ShardReader(path, self.mel.hop_samples)

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
            where, message = ".".join(map(str, reason["loc"])), reason["msg"].removeprefix("Value error, ")
            told = f"{where}: {message}" if where else message
            raise DatasetError(f"{path / DATASET_FILE}: damaged ({told}); {MEND}") from error

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
                raise damaged_shard(self.path / shard, str(error)) from error
            if bytes.fromhex(header.content) != bytes(self._index.contents[n_done]):
                raise damaged_shard(self.path / shard, "it is another than the index names")
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
        pcm: NDArray[np.int16] = self._reader.read(
            clip, pcm_key(clip.name), clip.n_samples, slice(start, stop)
        )
        return pcm

    def lags(self, clip: Clip, first_frame: int = 0, last_frame: int | None = None) -> NDArray[np.float32]:
        """Pitch lags in samples of frames [first_frame, last_frame) of a clip; 0 where it is unvoiced.

        Raises:
            DatasetError: the shard cannot be read, or holds a lag that no pitch has.
        """
        n_frames = clip.n_samples // self.mel.hop_samples
        frames = slice(first_frame, last_frame)
        lags: NDArray[np.float32] = self._reader.read(clip, lags_key(clip.name), n_frames, frames)
        longest = self.mel.sample_rate_hz / self.signal.pitch_min_hz
        if not ((lags >= 0) & (lags <= _LAG_MARGIN * longest)).all():
            raise damaged_shard(
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
        mel: NDArray[np.float32] = self._reader.read(clip, mel_key(clip.name), n_frames, frames)
        if not mel.size:
            return mel.reshape(0, self.mel.n_mels)
        if mel.shape[1] != self.mel.n_mels or not np.isfinite(mel).all():
            raise damaged_shard(self.path / clip.shard, f"its clip {clip.name} has a mel of another contract")
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
                f"{which_preset_has(self.mel)}"
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
        return {**self.__dict__, "_index": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._index, _ = index_of(self.path, read_contents(self.path))
