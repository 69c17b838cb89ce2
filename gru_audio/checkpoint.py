"""Training checkpoints: everything that a run needs to go on exactly where it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gru_audio.errors import CheckpointError
from gru_audio.run_folder import checkpoint_path, checkpoint_paths
from gru_audio.tensorfile import read_document, read_tensors, write_tensor_file


@dataclass(frozen=True)
class Checkpoint:
    """State after a step.

    Attributes:
        step: optimiser steps done.
        groups: `"network"`, `"average"` and `"optimizer"`: names to tensors. From where a run prunes also
            `"masks"`: for each pruned tensor which of its weights are kept, bool.
        document: the run's config and counters, as JSON can hold them.
    """

    step: int
    groups: Mapping[str, Mapping[str, Tensor]]
    document: Mapping[str, Any]


def save_checkpoint(run: Path, checkpoint: Checkpoint, n_kept: int) -> Path:
    """Write a checkpoint atomically into a run's folder, then remove all but the newest `n_kept`.

    Raises:
        OutputError: it cannot be written; the ones before stay.
    """
    path = checkpoint_path(run, checkpoint.step)
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().numpy()
        for group, named in checkpoint.groups.items()
        for name, tensor in named.items()
    }
    write_tensor_file(path, "checkpoint", {"step": checkpoint.step, **checkpoint.document}, tensors)
    for old in checkpoint_paths(run)[:-n_kept]:
        old.unlink()
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: not a checkpoint, or a damaged one.
    """
    document = read_document(path, "checkpoint")
    groups: dict[str, dict[str, Tensor]] = {"optimizer": {}}  # empty until a first good step
    for full_name, array in read_tensors(path).items():
        group, _, name = full_name.partition("/")
        groups.setdefault(group, {})[name] = torch.from_numpy(array)
    if set(groups) - {"masks"} != {"network", "average", "optimizer"}:
        raise CheckpointError(
            f"{path}: lacks a part of the training state; delete it, and resume from the one before"
        )
    return Checkpoint(document["step"], groups, document)
