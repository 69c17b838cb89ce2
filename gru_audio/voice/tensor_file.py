"""Tensors and one JSON document in one safetensors file: the container of voices and checkpoints.

Nothing is ever unpickled. The JSON stands under a single metadata key, so a file's bytes follow from its
contents alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gru_audio.errors import CheckpointError
from gru_audio.files import atomic_path

Array = npt.NDArray[Any]

METADATA_KEY = "gru_audio"
"""Where every safetensors file of ours, a dataset's shards included, keeps its JSON."""

_VERSION = 1


def write_tensor_file(
    path: Path, kind: str, document: Mapping[str, Any], tensors: Mapping[str, Array]
) -> None:
    """Write atomically.

    Args:
        path: the file, replaced where it exists.
        kind: what the file is, `"voice"` or `"checkpoint"`.
        document: anything JSON can hold.
        tensors: name to array.

    Raises:
        OutputError: the file cannot be written; what was there stays.
    """
    header = {"kind": kind, "version": _VERSION, **document}
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    data = save(contiguous, {METADATA_KEY: json.dumps(header, allow_nan=False)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def read_document(path: Path, kind: str | None = None) -> dict[str, Any]:
    """The JSON document of a file, without reading its tensors.

    Args:
        path: the file.
        kind: what it must be; None for anything that gru-audio wrote.

    Raises:
        CheckpointError: no such file, not a safetensors file, of another kind or of a newer version.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
    try:
        document: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        found, version = document.get("kind", "dataset's shard"), int(document["version"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: a safetensors file, but not one that gru-audio wrote; name another"
        ) from error
    if version > _VERSION:
        raise CheckpointError(f"{path}: of version {version}, newer than this gru-audio; upgrade it")
    if kind is not None and found != kind:
        raise CheckpointError(f"{path}: is a {found}, not a {kind}; name a {kind}")
    return document


def read_tensors(path: Path) -> dict[str, Array]:
    """All tensors of a file, by name.

    Raises:
        CheckpointError: as `read_document`.
    """
    with _opened(path) as file:
        try:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, TypeError) as error:  # bfloat16, for one, is not a type of numpy's
            raise CheckpointError(f"{path}: holds a tensor that cannot be read ({error})") from error


def _opened(path: Path) -> Any:
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {what}; check the path")
    try:
        return safe_open(str(path), framework="numpy")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a safetensors file, or a damaged one ({error}); copy it again, or name another"
        ) from error
