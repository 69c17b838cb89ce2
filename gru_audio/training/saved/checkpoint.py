"""Training checkpoints: everything that a run needs to go on exactly where it was."""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor

from gru_audio.config import Config, config_from_dict
from gru_audio.documents import Document, DocumentError
from gru_audio.errors import CheckpointError
from gru_audio.files import output_errors
from gru_audio.voice.run_folder import checkpoint_path, checkpoint_paths
from gru_audio.voice.tensor_file import read_tensor_file, write_tensor_file

_Count = Annotated[int, Field(ge=0)]


class _Returns(Document):
    times: _Count
    diverged_at: _Count


class _State(Document):
    """A checkpoint's document; older versions told less."""

    step: _Count
    config: dict[str, Any] = Field(default={})
    dataset: str = ""
    best_bits: float | None = None
    best_step: _Count = 0
    best_score: tuple[str, float, int] | None = Field(None, strict=False)
    fine_tuned_from: dict[str, Any] | None = None
    pruning_settled: bool = False
    watch: Annotated[list[float], Field(min_length=5, max_length=5)] | None = None
    returns: _Returns | None = None
    scaler: dict[str, float] = Field(default={})


class PartState(NamedTuple):
    """What a checkpoint keeps of one part of training.

    Attributes:
        document: as JSON can hold it; no two parts have an entry of the same name.
        groups: as `Checkpoint.groups`; no two parts have a group of the same name.
    """

    document: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Tensor]] = {}


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

    @classmethod
    def of(cls, step: int, states: Iterable[PartState]) -> "Checkpoint":
        """All parts' states after a step."""
        groups: dict[str, Mapping[str, Tensor]] = {}
        document: dict[str, Any] = {}
        for state in states:
            document |= state.document
            groups |= state.groups
        return cls(step, groups, document)


class SavedPart(Protocol):
    """A part of training that a run needs to go on exactly."""

    def state(self) -> PartState:
        """What a checkpoint keeps of it."""
        ...

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over what a checkpoint kept, whatever was done since."""
        ...


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
    with output_errors(path):
        flush_folder(path.parent)
    remove_older(path, n_kept)
    return path


def remove_older(newest: Path, n_kept: int) -> None:
    """Remove all checkpoints up to a run's newest but the last `n_kept`.

    Raises:
        OutputError: the folder cannot be written.
    """
    for old in [path for path in checkpoint_paths(newest.parents[1]) if path <= newest][:-n_kept]:
        with output_errors(old):
            old.unlink()


def newest_checkpoint(run: Path) -> tuple[Checkpoint | None, list[Path]]:
    """The newest checkpoint of a run that can be read, and those after it, which cannot; None where there is none.

    Raises:
        CheckpointError: there are some, and none can be read.
    """
    damaged: list[Path] = []
    for path in reversed(checkpoint_paths(run)):
        try:
            return load_checkpoint(path), damaged
        except CheckpointError as error:
            damaged.append(path)
            last = error
    if damaged:
        raise last
    return None, []


def config_of(run: Path, checkpoint: Checkpoint) -> Config:
    """The settings with which a run's checkpoint was saved.

    Raises:
        ConfigError: they are none.
    """
    return config_from_dict(checkpoint.document.get("config", {}), str(checkpoint_path(run, checkpoint.step)))


def newest_config(run: Path) -> Config | None:
    """The settings of a run's newest checkpoint; None where there is none.

    Raises:
        CheckpointError: there are some, and none can be read.
        ConfigError: its settings are none.
    """
    checkpoint, _ = newest_checkpoint(run)
    return None if checkpoint is None else config_of(run, checkpoint)


def set_aside(damaged: Iterable[Path]) -> None:
    """Rename checkpoints that cannot be read, so that they are not taken for any.

    Raises:
        OutputError: the folder cannot be written.
    """
    for path in damaged:
        with output_errors(path):
            path.replace(path.with_name(f"damaged-{path.name}"))


def remove_half_written(run: Path) -> None:
    """Remove what a process that was killed while it wrote has left; no other may be writing to the run.

    Raises:
        OutputError: the folder cannot be written.
    """
    for folder in (run, checkpoint_path(run, 0).parent):
        for path in folder.glob(".*.partial.*"):  # whatever version wrote it
            with output_errors(path):
                path.unlink()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: not a checkpoint, or a damaged one.
    """
    document, tensors = read_tensor_file(path, "checkpoint")
    try:
        state = _State.of(document)
    except DocumentError as error:
        raise CheckpointError(f"{path}: damaged: its header has no valid {error}; delete it") from error
    groups: dict[str, dict[str, Tensor]] = {"optimizer": {}}  # empty until a first good step
    for full_name, array in tensors.items():
        group, _, name = full_name.partition("/")
        groups.setdefault(group, {})[name] = torch.from_numpy(array)
    if set(groups) - {"masks"} != {"network", "average", "optimizer"}:
        raise CheckpointError(
            f"{path}: lacks a part of the training state; delete it, and resume from the one before"
        )
    return Checkpoint(state.step, groups, document)


def flush_folder(folder: Path) -> None:
    """Have the disk keep a folder's names, a rename among them; Windows does so unasked, and opens no folders."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
