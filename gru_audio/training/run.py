"""A run from its folder: started anew or resumed, once it is certain that it can be."""

from pathlib import Path

import joblib
import torch

from gru_audio.checkpoint import Checkpoint, load_checkpoint
from gru_audio.config import Config, config_from_dict, to_toml
from gru_audio.dataset import Dataset
from gru_audio.device import choose_device
from gru_audio.errors import TrainingError
from gru_audio.files import atomic_path
from gru_audio.interrupt import stop_on_signals
from gru_audio.memory import keep_freed_memory
from gru_audio.metrics import MetricsLog
from gru_audio.progress import ProgressCallback, ignore_progress
from gru_audio.run_folder import CONFIG_FILE, METRICS_FILE, VOICE_FILE, checkpoint_paths
from gru_audio.training.trainer import Trainer, TrainResult


def train(
    dataset_path: Path,
    run: Path,
    config: Config,
    *,
    resume: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: ProgressCallback = ignore_progress,
) -> TrainResult:
    """Train until the config's last step, or until SIGINT or SIGTERM, which save a checkpoint and stop.

    Args:
        dataset_path: folder that `prep` wrote.
        run: folder for the run's config, metrics, checkpoints and voice.
        config: all settings; with `resume`, only its `prep` and `train` tables may differ from the run's, and
            as long as nothing is pruned yet `model.recurrent_density`, so that a dense run can be pruned later.
        resume: go on from the run's newest checkpoint.
        device: `"auto"`, `"cpu"`, `"cuda"` or another torch device.
        threads: torch's threads on the CPU; None leaves one core to each data worker.
        progress: called after each step that is logged.

    Raises:
        DatasetError: the dataset does not fit the config.
        TrainingError: the run's folder is taken, there is nothing to resume, or the loss is not finite.
        CheckpointError: the checkpoint is damaged.
        OutputError: the run's folder cannot be written.
    """
    dataset = Dataset.open(dataset_path)
    chosen = choose_device(device)
    previous = _previous_checkpoint(run, config, dataset) if resume else None
    if previous is None:
        _require_new(run)
    if chosen.type == "cpu":
        keep_freed_memory()
        free_cores = joblib.cpu_count() - config.train.workers
        torch.set_num_threads(threads or max(1, free_cores))
    trainer = Trainer(dataset, run, config, chosen)
    with atomic_path(run / CONFIG_FILE) as temporary:
        temporary.write_text(to_toml(config), encoding="utf-8")
    if previous is not None:
        trainer.restore(previous)
    with stop_on_signals() as stopped, MetricsLog(run, trainer.step) as log:
        return trainer.fit(log, stopped, progress)


def _require_new(run: Path) -> None:
    """Make sure that a new run replaces nothing."""
    files = *checkpoint_paths(run)[-1:], run / VOICE_FILE, run / METRICS_FILE, run / CONFIG_FILE
    taken = [path for path in files if path.exists()]
    if taken:
        raise TrainingError(
            f"{run}: holds a run already ({taken[0].relative_to(run)}); add --resume, choose another, or remove it"
        )


def _previous_checkpoint(run: Path, config: Config, dataset: Dataset) -> Checkpoint:
    """The run's newest checkpoint, once it is certain that this dataset and config can go on from it."""
    existing = checkpoint_paths(run)
    if not existing:
        raise TrainingError(f"{run}: holds no checkpoint to resume from; start without --resume")
    checkpoint = load_checkpoint(existing[-1])
    stored = config_from_dict(checkpoint.document["config"], str(existing[-1]))
    _require_same_network(run, checkpoint, stored, config)
    if checkpoint.document.get("dataset", dataset.fingerprint) != dataset.fingerprint:
        raise TrainingError(
            f"{run}: was started on other clips than {dataset.path} holds; name its own dataset"
        )
    if checkpoint.step >= config.train.steps:
        raise TrainingError(
            f"{run}: has done all {checkpoint.step} steps; raise them with --set train.steps=N"
        )
    return checkpoint


def _require_same_network(run: Path, checkpoint: Checkpoint, stored: Config, config: Config) -> None:
    """Make sure that the run's weights fit the config, and that what is to be pruned is pruned from the start."""
    is_pruned, model = "masks" in checkpoint.groups, stored.model
    if not is_pruned:
        model = model.model_copy(update={"recurrent_density": config.model.recurrent_density})
    for table, found in (("mel", stored.mel), ("signal", stored.signal), ("model", model)):
        if found != getattr(config, table):
            raise TrainingError(f"{run}: was started with another [{table}]; resume with its {CONFIG_FILE}")
    start, step = config.train.sparsify_start_step, checkpoint.step
    if config.model.is_pruned and not is_pruned and step >= start:
        raise TrainingError(
            f"{run}: is dense at step {step}, past train.sparsify_start_step ({start}); set that to {step + 1} or "
            "more, and train.sparsify_end_step to a later one"
        )
