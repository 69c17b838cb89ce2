"""A run from its folder: started anew or resumed, once it is certain that it can be."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import joblib
import torch

from gru_audio.config import Config
from gru_audio.data.dataset import Dataset
from gru_audio.data.folder_lock import folder_lock
from gru_audio.errors import TrainingError
from gru_audio.network.cpu.memory import keep_freed_memory
from gru_audio.network.device import choose_device, is_emulated
from gru_audio.progress import NoteCallback, ProgressCallback, ignore_note, ignore_progress
from gru_audio.training.distributed import joined
from gru_audio.training.fine_tuning import StartingVoice
from gru_audio.training.interrupt import StopRequest, stop_on_signals
from gru_audio.training.judging.free_running import FreeRunning, Synthesizer
from gru_audio.training.launch import Launch, ProcessLostError
from gru_audio.training.loggers.logger import DEFAULT_LOGGERS, Logger, open_loggers
from gru_audio.training.memory import memory_errors, require_memory
from gru_audio.training.recovery import Diverged
from gru_audio.training.result import TrainResult
from gru_audio.training.saved.checkpoint import load_checkpoint
from gru_audio.training.saved.metrics import MetricsLog
from gru_audio.training.saved.standing import Standing, is_restart, put_in_order, standing_of
from gru_audio.training.trainer import Trainer
from gru_audio.voice.run_folder import checkpoint_path, require_places


def train(
    dataset_path: Path,
    run: Path,
    config: Config,
    *,
    resume: bool = False,
    start: StartingVoice | None = None,
    synthesize: Synthesizer | None = None,
    device: str = "auto",
    threads: int | None = None,
    log_to: Sequence[str] = DEFAULT_LOGGERS,
    progress: ProgressCallback = ignore_progress,
    tell: NoteCallback = ignore_note,
) -> TrainResult:
    """Train until the config's last step, or until SIGINT, SIGTERM or SIGHUP, which save a checkpoint and stop.

    Under torchrun each of its processes calls this, and they train together: `train.batch_size` is that of all of
    them. Where torchrun starts them again after a failure, they go on from the newest checkpoint.

    Args:
        dataset_path: folder that `prep` wrote.
        run: folder for the run's config, metrics, checkpoints and voice.
        config: all settings; with `resume`, only its `prep` and `train` tables may differ from the run's, and
            as long as nothing is pruned yet its densities, so that a dense run can be pruned later.
        resume: go on from the run's newest checkpoint that can be read; from the start, where a run ended before
            its first.
        start: the voice whose weights a new run starts from; None starts from random ones.
        synthesize: makes the audio of free-running validation; without it there is none.
        device: `"auto"`, `"cpu"`, `"cuda"` or another torch device.
        threads: torch's threads on the CPU; None shares the cores among the processes, and leaves one to each data
            worker.
        log_to: names in `LOGGERS` of what shows the figures, beside the run's metrics.jsonl.
        progress: called after each step that is logged.
        tell: told in one line what the user should know at once; the result's notes have it, too.

    Raises:
        DatasetError: the dataset does not fit the config.
        TrainingError: the run's folder is taken, another process trains in it, there is nothing to resume, the run
            diverges whatever is tried, takes more memory than there is, or another process of it failed.
        CheckpointError: all checkpoints are damaged.
        OutputError: the run's folder cannot be written.
    """
    dataset, given = Dataset.open(dataset_path), config
    if start is not None:
        start.require_fit(config, dataset)
        config = start.with_pruning(config)
    launch = Launch.of(os.environ)
    wanted = choose_device(device).type if device == "auto" else device
    chosen = choose_device(launch.device_name(wanted, torch.cuda.device_count()))
    if chosen.type == "cpu":
        keep_freed_memory()
        free_cores = joblib.cpu_count() // launch.n_local - config.train.workers
        torch.set_num_threads(threads or max(1, free_cores))
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        tell(line)

    if config != given:
        note(
            f"blocks are pruned anew from step {config.train.prune_start_step:,} to {config.train.prune_end_step:,}; "
            "for others set train.prune_start_step and train.prune_end_step"
        )
    if is_emulated(config.train.precision, chosen):
        note(
            f"train.precision {config.train.precision!r}: this processor has no such products, and a step takes many "
            "times as long as in fp32; set it to 'auto'"
        )
    require_memory(config, chosen, launch.n_processes)
    _require_enough_crops(config, launch)
    # Within `joined` as well, which leaves word of what is raised.
    with (
        memory_errors(),
        joined(launch, chosen) as processes,
        memory_errors(),
        contextlib.ExitStack() as stack,
    ):
        found = Standing(None)
        if processes.leads:
            stack.enter_context(folder_lock(run, "train", TrainingError))
            found = standing_of(run, config, dataset, resume=resume or is_restart(run, launch))
            require_places(run)
        step = processes.gather(found.checkpoint and found.checkpoint.step)[0]
        is_new = start is None and step is None
        trainer = Trainer(dataset, run, config, chosen, processes, is_new=is_new)
        if start is not None:
            trainer.start_from(start)
        for line in _start(trainer, found, step):
            note(line)
        if synthesize is not None and config.train.free_running_every and processes.leads:
            trainer.judge.free_running = FreeRunning(dataset, config, synthesize)
        if start is not None and not trainer.step and processes.leads:
            trainer.save()  # so that the run can be resumed from its first step on without the voice
        names = log_to if processes.leads else ()
        with (
            stop_on_signals(with_echo=launch.n_processes > 1) as stopped,
            open_loggers(names, run, config, note) as loggers,
        ):
            result = _fit(trainer, stopped, loggers, progress, note)
    return dataclasses.replace(result, notes=tuple(notes))


def _start(trainer: Trainer, found: Standing, step: int | None) -> tuple[str, ...]:
    """Put a trainer where its run stands, and the run's folder in order; returns what the user should know.

    The first process alone looks what is there and writes; the others go on from the `step` that it says.
    """
    processes, checkpoint, notes = trainer.processes, found.checkpoint, tuple[str, ...]()
    if processes.leads:
        notes = put_in_order(trainer.run, trainer.config, processes.launch.job, found)
    if step is not None:
        trainer.restore(checkpoint or load_checkpoint(checkpoint_path(trainer.run, step)))
    weights = hashlib.sha256()
    for tensor in trainer.learner.network.state_dict().values():
        weights.update(tensor.cpu().numpy().tobytes())
    if len(set(processes.gather(weights.hexdigest()))) > 1:
        raise TrainingError(
            f"{trainer.run}: the processes start from different weights; give all the same dataset, run and versions"
        )
    return notes


def _fit(
    trainer: Trainer,
    stopped: StopRequest,
    loggers: Sequence[Logger],
    progress: ProgressCallback,
    tell: NoteCallback,
) -> TrainResult:
    """Train to the end, over as many returns to a checkpoint as it takes."""
    processes, returned = trainer.processes, dict[str, float]()
    while True:
        with contextlib.ExitStack() as stack:
            log = None
            if processes.leads:
                log = stack.enter_context(MetricsLog(trainer.run, trainer.step or -1, loggers))
                if returned:
                    log.log("recovery", trainer.step, returned)
            try:
                return trainer.fit(log, stopped, progress, tell)
            except Diverged as diverged:
                returned = trainer.go_back(diverged)
            except ProcessLostError as lost:
                stopped.ignore_more()
                raise _farewell(trainer, lost) from lost


def _farewell(trainer: Trainer, lost: ProcessLostError) -> TrainingError:
    """Save what was reached, and say so."""
    saved = ""
    if trainer.processes.leads and trainer.step and trainer.learner.watch.read().is_calm:
        trainer.save()
        saved = f"; step {trainer.step:,} is saved"
    farewell = ProcessLostError(f"{trainer.run}: {lost}{saved}; go on with --resume")
    farewell.told = lost.told
    return farewell


def _require_enough_crops(config: Config, launch: Launch) -> None:
    """Make sure that each process has a share of every batch."""
    smallest = min(stage.batch_size for stage in config.train.all_stages)
    if smallest < launch.n_processes:
        raise TrainingError(
            f"train.batch_size is {smallest}, for all of {launch.n_processes} processes; raise it, or start fewer"
        )
