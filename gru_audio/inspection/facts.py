"""What is told of a voice, a checkpoint, a run, a dataset, a mel and audio; fit for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.audio import FULL_SCALE, finite, peak_dbfs, rms_dbfs


@dataclass(frozen=True)
class ContractFacts:
    """A mel contract, the config's table [mel]; `preset` is its name where it equals one of `MEL_PRESETS`."""

    preset: str | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class NetworkFacts:
    """The network's shape, and how many numbers it learned."""

    settings: Mapping[str, Any]
    """Of the config's table [model]."""
    lpc_order: int
    bits: int
    parameters: int


@dataclass(frozen=True)
class VoiceFacts:
    """A voice, or what a run has of one; what its maker left out is empty or None.

    Attributes:
        has_digest: it states one, and matches it; files of older versions state none.
        card: what else its maker says of it, by heading, such as its metrics, its limits and its attribution.
        engine: the one that synthesis takes on this machine.
        engine_reason: why.
    """

    path: str
    file_bytes: int
    version: int
    has_digest: bool
    network: NetworkFacts
    mel: ContractFacts
    steps: int | None
    validation: Mapping[str, float | None]
    dataset: str
    training_hours: float | None
    speakers: Sequence[str]
    licence: str
    source_note: str
    card: Mapping[str, str]
    engine: str
    engine_reason: str
    kind: str = "voice"


@dataclass(frozen=True)
class CheckpointFacts:
    """A training checkpoint; `parts` are the groups of tensors that it holds, `has_digest` is as for a voice."""

    path: str
    file_bytes: int
    version: int
    has_digest: bool
    step: int
    steps: int
    best_bits: float | None
    parts: Sequence[str]
    network: NetworkFacts
    mel: ContractFacts
    kind: str = "checkpoint"


@dataclass(frozen=True)
class RunFacts:
    """A training run's folder.

    Attributes:
        step: the last step in its log or its checkpoints.
        steps: how many its config asks for.
        last_bits: validation bits a sample at `last_bits_step`.
        best_bits: the lowest validation bits a sample after step 0, at `best_bits_step`.
        checkpoints: the steps that can be resumed from.
        voice: its voice, None before the first validation.
        verified: its checkpoints were compared with their digests, and match.
    """

    path: str
    step: int
    steps: int
    last_bits: float | None
    last_bits_step: int | None
    best_bits: float | None
    best_bits_step: int | None
    checkpoints: Sequence[int]
    voice: VoiceFacts | None
    mel: ContractFacts
    verified: bool
    kind: str = "run"


@dataclass(frozen=True)
class SplitFacts:
    """Clips of a split or of a speaker."""

    clips: int
    hours: float


@dataclass(frozen=True)
class DatasetFacts:
    """A dataset; `prep` are the settings that its audio was treated with.

    Attributes:
        shards: how many files hold the clips.
        verified: they were all compared with their digests, and match.
    """

    path: str
    disk_bytes: int
    version: int
    total: SplitFacts
    splits: Mapping[str, SplitFacts]
    speakers: Mapping[str, SplitFacts]
    mel: ContractFacts
    licence: str
    source_note: str
    prep: Mapping[str, Any]
    shards: int
    verified: bool
    kind: str = "dataset"


@dataclass(frozen=True, kw_only=True)
class MelFacts:
    """A mel (F, M); its levels are in the unit that it stores, None where it has no frames."""

    n_frames: int
    n_mels: int
    level_min: float | None
    level_mean: float | None
    level_max: float | None
    duration_s: float | None
    """None where its contract is not known."""

    @classmethod
    def of(cls, mel: FloatArray, contract: MelConfig | None) -> "MelFacts":
        """Look at its numbers."""
        return MelFacts(
            n_frames=len(mel),
            n_mels=mel.shape[1],
            level_min=float(mel.min()) if mel.size else None,
            level_mean=float(mel.mean(dtype=np.float64)) if mel.size else None,
            level_max=float(mel.max()) if mel.size else None,
            duration_s=len(mel) / contract.frame_rate_hz if contract else None,
        )


@dataclass(frozen=True, kw_only=True)
class MelFileFacts(MelFacts):
    """A mel in a file; `mel` is the contract that it states, None for none."""

    path: str
    file_bytes: int
    mel: ContractFacts | None
    layout: str | None
    """What had to be guessed of the array's axes, in words."""
    kind: str = "mel"


@dataclass(frozen=True, kw_only=True)
class AudioFacts:
    """Audio of one channel; a level is None for silence."""

    sample_rate_hz: int
    n_channels: int | None
    """In its file, of which this is the mean; None where that is not known."""
    duration_s: float
    peak_dbfs: float | None
    rms_dbfs: float | None
    clipped_samples: int
    """Samples at full scale."""

    @classmethod
    def of(cls, audio: FloatArray, sample_rate_hz: int, n_channels: int | None) -> "AudioFacts":
        """Look at its samples (n,)."""
        return AudioFacts(
            sample_rate_hz=sample_rate_hz,
            n_channels=n_channels,
            duration_s=audio.size / sample_rate_hz,
            peak_dbfs=finite(peak_dbfs(audio)) if audio.size else None,
            rms_dbfs=finite(rms_dbfs(audio)) if audio.size else None,
            clipped_samples=int(np.count_nonzero(np.abs(audio) >= FULL_SCALE)),
        )


@dataclass(frozen=True, kw_only=True)
class AudioFileFacts(AudioFacts):
    """An audio file; `format` is libsndfile's name, None for what only ffmpeg reads, as are the channels."""

    path: str
    file_bytes: int
    format: str | None
    kind: str = "audio"


Facts = VoiceFacts | CheckpointFacts | RunFacts | DatasetFacts | MelFileFacts | AudioFileFacts
