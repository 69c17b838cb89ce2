"""Where a run's folder stands: whether a run may begin there or go on, from what, and the folder put in order."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gru_audio.config import Config, to_toml
from gru_audio.data.dataset import Dataset
from gru_audio.data.stored.contents import DATASET_FILE
from gru_audio.errors import CheckpointError, ConfigError, TrainingError
from gru_audio.files import atomic_path
from gru_audio.network.blocks import DENSITIES
from gru_audio.training.launch import Launch
from gru_audio.training.saved.checkpoint import (
    Checkpoint,
    config_of,
    newest_checkpoint,
    remove_half_written,
    remove_older,
    set_aside,
)
from gru_audio.voice.run_folder import (
    CONFIG_FILE,
    METRICS_FILE,
    VOICE_FILE,
    checkpoint_path,
    checkpoint_paths,
)
from gru_audio.voice.voice import load_voice

JOB_FILE = ".torchrun"
"""In a run's folder: which call of torchrun it belongs to."""


class Standing(NamedTuple):
    """Where a run stands: the checkpoint to go on from, None at the start, and the damaged ones after it."""

    checkpoint: Checkpoint | None
    damaged: Sequence[Path] = ()


def standing_of(run: Path, config: Config, dataset: Dataset, *, resume: bool) -> Standing:
    """What there is to go on from, once it is certain that the run may."""
    if not resume:
        _require_new(run)
        return Standing(None)
    found = _previous_checkpoint(run, config, dataset)
    if found.checkpoint and found.checkpoint.step >= config.train.steps:
        _remove_leftovers(run, config, found.checkpoint)
        raise TrainingError(
            f"{run}: has done all {found.checkpoint.step} steps; raise them with --set train.steps=N"
        )
    return found


def put_in_order(run: Path, config: Config, job: str, found: Standing) -> tuple[str, ...]:
    """Rid a run's folder of what a crash left in it, and write the config; returns what the user should know."""
    _remove_leftovers(run, config, found.checkpoint)
    set_aside(found.damaged)
    with atomic_path(run / CONFIG_FILE) as temporary:
        temporary.write_text(to_toml(config), encoding="utf-8")
    if job:
        with atomic_path(run / JOB_FILE) as temporary:
            temporary.write_text(job, encoding="utf-8")
    where = f"step {found.checkpoint.step:,}" if found.checkpoint else "the start"
    return tuple(
        f"{path}: damaged, set aside as damaged-{path.name}; went on from {where}" for path in found.damaged
    )


def is_restart(run: Path, launch: Launch) -> bool:
    """Whether torchrun starts again what it had started: another's run stays refused."""
    job = run / JOB_FILE
    return launch.n_restarts > 0 and job.is_file() and job.read_text(encoding="utf-8") == launch.job


def nothing_to_resume(run: Path) -> TrainingError:
    """What a run is told that has neither settings nor checkpoints."""
    return TrainingError(f"{run}: holds no checkpoint to resume from; start without --resume")


def _remove_leftovers(run: Path, config: Config, newest: Checkpoint | None) -> None:
    """Remove what a process that was killed while it saved a checkpoint has left, before and after its new name."""
    remove_half_written(run)
    if newest is not None:
        remove_older(checkpoint_path(run, newest.step), config.train.checkpoints_kept)


def _require_new(run: Path) -> None:
    """Make sure that a new run replaces nothing, and lies in no dataset's folder."""
    if (run / DATASET_FILE).exists():
        raise TrainingError(
            f"{run}: holds a dataset; choose another folder for the run, such as {run / 'run'}"
        )
    files = *checkpoint_paths(run)[-1:], run / VOICE_FILE, run / METRICS_FILE, run / CONFIG_FILE
    taken = [path for path in files if path.exists()]
    if taken:
        raise TrainingError(
            f"{run}: holds a run already ({taken[0].relative_to(run)}); add --resume, choose another, or remove it"
        )


def _previous_checkpoint(run: Path, config: Config, dataset: Dataset) -> Standing:
    """The run's newest checkpoint that can be read, once it is certain that this dataset and config can go on from it.

    And those after it, which cannot be read. None of a run that ended before its first.
    """
    checkpoint, damaged = newest_checkpoint(run)
    if checkpoint is None:
        if not (run / CONFIG_FILE).is_file():
            raise nothing_to_resume(run)
        _require_early(run, config)
        return Standing(None, damaged)
    stored = config_of(run, checkpoint)
    _require_same_network(run, checkpoint, stored, config)
    if checkpoint.document.get("dataset", dataset.fingerprint) != dataset.fingerprint:
        raise TrainingError(
            f"{run}: was started on other clips than {dataset.path} holds; name its own dataset"
        )
    return Standing(checkpoint, damaged)


def _require_early(run: Path, config: Config) -> None:
    """Make sure that a run without checkpoints ended before its first, and did not lose them: its voice would go."""
    voice = None
    with contextlib.suppress(CheckpointError, ConfigError):
        voice = load_voice(run / VOICE_FILE).metadata
    told = voice.get("steps") if voice else None
    steps = told if isinstance(told, int) else 0
    if voice and (steps > config.train.checkpoint_every or voice.get("fine_tuned_from")):
        raise TrainingError(
            f"{run}: has no checkpoint that can be read, and a start anew would replace its voice of step {steps}; "
            f"train another run with --init {run}, or remove {VOICE_FILE}"
        )


def _require_same_network(run: Path, checkpoint: Checkpoint, stored: Config, config: Config) -> None:
    """Make sure that the run's weights fit the config, and that what is to be pruned is pruned from the start."""
    is_pruned, model = "masks" in checkpoint.groups, stored.model
    if not is_pruned:
        model = model.model_copy(update={name: getattr(config.model, name) for name in DENSITIES})
    for table, found in (("mel", stored.mel), ("signal", stored.signal), ("model", model)):
        if found != getattr(config, table):
            raise TrainingError(f"{run}: was started with another [{table}]; resume with its {CONFIG_FILE}")
    start, step = config.train.prune_start_step, checkpoint.step
    if config.model.is_pruned and not is_pruned and step >= start:
        raise TrainingError(
            f"{run}: is dense at step {step}, past train.prune_start_step ({start}); set that to {step + 1} or "
            "more, and train.prune_end_step to a later one"
        )
