"""A voice: trained weights with all that is needed to use them, in one file."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from gru_audio.config import Config, config_from_dict
from gru_audio.documents import Document, DocumentError
from gru_audio.errors import CheckpointError
from gru_audio.names import shown
from gru_audio.voice.bundled import voice_path
from gru_audio.voice.tensor_file import Array, read_tensor_file, write_tensor_file

SAMPLING = "sampling"
"""The key of a voice's metadata that says how it is drawn: see synthesis/sampling.py."""


@dataclass(frozen=True)
class Voice:
    """Weights and what is known of them.

    Attributes:
        config: as training resolved it.
        tensors: the network's weights and buffers, by their names in `model.Network`.
        metadata: provenance: dataset, speakers, licence, steps, metrics.
    """

    config: Config
    tensors: Mapping[str, Array]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def save_voice(path: Path, voice: Voice) -> None:
    """Write a voice atomically.

    Raises:
        OutputError: it cannot be written.
    """
    document = {"config": voice.config.model_dump(), "metadata": dict(voice.metadata)}
    write_tensor_file(path, "voice", document, voice.tensors)


def load_voice(voice: str | Path) -> Voice:
    """Read a voice.

    Args:
        voice: a bundled voice's name, a voice file, or a run's folder, which holds one.

    Raises:
        CheckpointError: not a voice, or a damaged one.
        ConfigError: its config is not one of this version's.
    """
    if not isinstance(voice, str | os.PathLike):
        raise CheckpointError(
            f"voice {shown(repr(voice))}: neither a name nor a path; give a bundled voice's name, a voice file or a run"
        )
    path = voice_path(voice)
    return voice_of_file(path, *read_tensor_file(path, "voice"))


def voice_of_file(path: Path, document: Mapping[str, Any], stored: Mapping[str, Array]) -> Voice:
    """The voice of a file's document and tensors.

    Raises:
        CheckpointError: they are no voice's.
        ConfigError: its config is not one of this version's.
    """
    checked = check_voice_document(path, document)
    tensors = {name: _widened(tensor) for name, tensor in stored.items()}
    _require_usable(path, tensors)
    return Voice(config_from_dict(checked.config, str(path)), tensors, document["metadata"])


class _Metadata(Document):
    """What of a voice's metadata is read; all of it may be absent, and there may be more."""

    steps: Annotated[int, Field(ge=0)] | None = None
    training_hours: Annotated[float, Field(ge=0)] | None = None
    dataset: str = ""
    speakers: list[str] = Field(default=[])
    licence: str = ""
    source_note: str = ""
    validation: dict[str, float] = Field(default={})
    card: dict[str, Any] = Field(default={})
    sampling: dict[str, Any] | None = None


class VoiceDocument(Document):
    """A voice's document."""

    config: dict[str, Any]
    metadata: _Metadata


def check_voice_document(path: Path, document: Mapping[str, Any]) -> VoiceDocument:
    """A voice's document by its types.

    Raises:
        CheckpointError: a part of it is missing, or of another type.
    """
    try:
        return VoiceDocument.of(document)
    except DocumentError as error:
        raise CheckpointError(f"{path}: damaged: its header has no valid {error}; copy it again") from error


def _require_usable(path: Path, tensors: Mapping[str, Array]) -> None:
    """Make sure that a network can compute with a voice's numbers.

    Raises:
        CheckpointError: one is not finite, or a mel band is said never to change.
    """
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise CheckpointError(
                f"{path}: damaged: its tensor {name} holds values that are not finite; copy it again"
            )
    if "mel_std" in tensors and not (tensors["mel_std"] > 0).all():
        raise CheckpointError(
            f"{path}: damaged: its mel_std holds values that are not above 0; copy it again"
        )


def in_half_precision(voice: Voice) -> Voice:
    """A voice whose file takes half the room: weights rounded to float16, which `load_voice` widens again."""
    tensors = {
        name: tensor.astype(np.float16) if tensor.dtype == np.float32 else tensor
        for name, tensor in voice.tensors.items()
    }
    return Voice(voice.config, tensors, voice.metadata)


def _widened(tensor: Array) -> Array:
    return tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
