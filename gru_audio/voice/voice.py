"""A voice: trained weights with all that is needed to use them, in one file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gru_audio.config import Config, config_from_dict
from gru_audio.errors import CheckpointError
from gru_audio.voice.bundled import voice_path
from gru_audio.voice.tensor_file import Array, read_document, read_tensors, write_tensor_file


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
    path = voice_path(voice)
    document = read_document(path, "voice")
    if not {"config", "metadata"} <= document.keys():
        raise CheckpointError(f"{path}: damaged: its header lacks the config or the metadata; copy it again")
    config = config_from_dict(document["config"], str(path))
    tensors = {name: _widened(tensor) for name, tensor in read_tensors(path).items()}
    return Voice(config, tensors, document["metadata"])


def in_half_precision(voice: Voice) -> Voice:
    """A voice whose file takes half the room: weights rounded to float16, which `load_voice` widens again."""
    tensors = {
        name: tensor.astype(np.float16) if tensor.dtype == np.float32 else tensor
        for name, tensor in voice.tensors.items()
    }
    return Voice(voice.config, tensors, voice.metadata)


def _widened(tensor: Array) -> Array:
    return tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
