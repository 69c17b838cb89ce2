"""The training loop: each round steps, measures, saves and tells.

Every batch follows from the seed and its step's number (see crops.py), so a resumed run goes on exactly
as the interrupted one would have.
"""

import contextlib
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gru_audio.config import CONTEXT_FRAMES, Config
from gru_audio.data.dataset import Dataset
from gru_audio.errors import TrainingError
from gru_audio.progress import NoteCallback, Progress, ProgressCallback, ignore_note, ignore_progress
from gru_audio.training.batches.batch import Batch
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.batches.loader import batches
from gru_audio.training.batches.on_device import checked_maker
from gru_audio.training.distributed import Processes
from gru_audio.training.fine_tuning import StartingVoice
from gru_audio.training.interrupt import StopRequest
from gru_audio.training.judging.judge import Judge
from gru_audio.training.judging.measuring import Measuring
from gru_audio.training.learner import Learner
from gru_audio.training.recovery import Diverged
from gru_audio.training.result import TrainResult
from gru_audio.training.saved.checkpoint import Checkpoint, SavedPart, newest_checkpoint
from gru_audio.training.saved.metrics import MetricsLog, TrainingMeter
from gru_audio.training.saved.saver import Saver
from gru_audio.training.schedules import samples_of_steps


class Trainer:
    """A run: what learns, who judges it, and what is saved of both.

    Attributes:
        dataset: where the crops come from.
        run: the folder.
        config: all settings.
        device: where the network is.
        processes: of which this is one.
        learner: the network and what an optimiser step changes.
        judge: which voice is the best so far.
    """

    def __init__(
        self,
        dataset: Dataset,
        run: Path,
        config: Config,
        device: torch.device,
        processes: Processes | None = None,
        *,
        is_new: bool = True,
    ) -> None:
        """Start from random weights, normalised to the dataset.

        Args:
            dataset: where the crops come from.
            run: the folder.
            config: all settings.
            device: where the network is.
            processes: of which this is one; None for this one alone.
            is_new: False where `start_from` or `restore` follows and brings the weights and the mels' statistics.

        Raises:
            DatasetError: the dataset does not fit the config.
            ConfigError: torch cannot train the cell in this precision on this device.
        """
        self.dataset, self.run, self.config, self.device = dataset, run, config, device
        self.processes = processes or Processes()
        self._source = CropSource(dataset, config, "train", CONTEXT_FRAMES)
        self.learner = Learner(config, device, self._source if is_new else None, self.processes)
        self.judge = Judge(dataset, run, config, device, self.learner.average, self.learner.pruning)
        self._measuring = Measuring(config, self.learner, self.judge)
        learner = self.learner
        parts: list[SavedPart] = [learner, learner.pruning, learner.watch, learner.returns, self.judge]
        self._saver = Saver(run, config, dataset.fingerprint, parts)
        self._audio_s, self._began = 0.0, time.perf_counter()

    def start_from(self, start: StartingVoice) -> None:
        """Take a voice's weights and statistics in place of random ones; settle its pruning where that is over.

        Raises:
            CheckpointError: they do not fit the config.
        """
        self.learner.start_from(start)
        self.judge.origin = start.provenance

    def fit(
        self,
        log: MetricsLog | None,
        stopped: StopRequest,
        progress: ProgressCallback = ignore_progress,
        tell: NoteCallback = ignore_note,
    ) -> TrainResult:
        """Run the remaining steps; `log` is None in a process that does not lead.

        Raises:
            Diverged: a bound was passed; `go_back` may mend it.
            ProcessLostError: another process of the run failed; this one stands after its last whole step.
        """
        stop, meter = None, TrainingMeter(self.config)
        self._measuring.measure_the_start(log)
        steps = self._steps_to_do()
        with contextlib.closing(self._batches(steps, stopped, tell)) as supply:
            for batch in supply:
                self._step(batch, meter, stopped)
                seen = self._measure(meter, log, stopped)
                self._save_where_due(seen, meter, log)
                self._tell(seen, progress)
                stop = self.processes.stop_signal(stopped) if seen.is_sound else None
                if seen.is_last or stop is not None:
                    break
            else:  # there are no more; or it waited for one in vain, and was asked to stop
                stop = stopped.signal_number if self.step < steps.stop else None
        if stop is not None and log is not None:
            self._save_at_a_stop(log)
        self.processes.gather(None)  # none ends while the first still writes
        return self._result(stop)

    def go_back(self, diverged: Diverged) -> dict[str, float]:
        """Take up the last checkpoint again, with other crops and a lower rate; returns what is to be logged.

        Raises:
            TrainingError: there is none, or it was tried often enough.
        """
        learner, returns = self.learner, self.learner.returns
        returns.add(diverged)
        checkpoint = newest_checkpoint(self.run)[0]
        if checkpoint is None:
            raise TrainingError(
                f"{diverged}, before the first checkpoint; start again with a lower train.learning_rate"
            )
        scale = learner.scaler.get_scale()
        self._saver.restore(checkpoint, but=returns)
        learner.limit_scale(scale)
        self.processes.gather(None)  # all have read it
        if self.processes.leads:
            self.save()
        return {
            "diverged_at_step": diverged.step,
            "returns": returns.times,
            "rate_factor": returns.rate_factor,
        }

    def save(self) -> Path:
        """Write a checkpoint: all that the run needs to go on exactly from here."""
        return self._saver.save(self.step)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put the run where the checkpoint's was, whatever it has done since.

        Raises:
            CheckpointError: its tensors are not the network's, or its header lacks what a part keeps.
        """
        self._saver.restore(checkpoint)

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return self.learner.step

    # Before the first step

    def _steps_to_do(self) -> range:
        return range(self.step, self.step if self._is_settled() else self.config.train.steps)

    def _batches(
        self, steps: range, stopped: StopRequest, tell: NoteCallback
    ) -> Generator[Batch[Tensor], None, None]:
        workers, share = self.config.train.workers, self.processes.share
        returns = self.learner.returns.times
        self.learner.replay.tell = tell
        maker = checked_maker(
            self.config, CONTEXT_FRAMES, self._source, self.device, tell, captures=self.processes.alone
        )
        return batches(self._source, steps, workers, self.device, share, returns, stopped, tell, maker)

    # The four phases of a round

    def _step(self, batch: Batch[Tensor], meter: TrainingMeter, stopped: StopRequest) -> None:
        """Let the network learn, and count it."""
        losses, gradient_norm = self.learner.train_step(batch, stopped)
        n_samples = samples_of_steps(self.config.train, self.step - 1, self.step)
        meter.add(losses, gradient_norm, n_samples)
        self._audio_s += n_samples / self.config.mel.sample_rate_hz

    def _measure(self, meter: TrainingMeter, log: MetricsLog | None, stopped: StopRequest) -> "_Seen":
        """Look at what is due, and log it.

        Raises:
            Diverged: a bound was passed.
        """
        is_last, is_sound, is_calm = self.step == self.config.train.steps, False, False
        if is_last or self._saver.is_due(self.step) or self._may_look(stopped):
            sighting = self.learner.watch.read()
            if sighting.has_diverged:
                raise Diverged(self.step, sighting.reason)
            is_sound, is_calm = not sighting.n_bad, sighting.is_calm
        figures = {} if log is None else self._measuring.log_what_is_due(meter, log)
        return _Seen(figures, is_sound, is_calm, is_last or self._is_settled())

    def _save_where_due(self, seen: "_Seen", meter: TrainingMeter, log: MetricsLog | None) -> None:
        """Write a checkpoint, at a later step than is due where the losses are not calm."""
        if seen.is_last or (self._saver.is_due(self.step) and seen.is_calm):
            self._saver.saved_step = self.step
            if log is not None:
                with meter.paused():
                    self.save()

    def _tell(self, seen: "_Seen", progress: ProgressCallback) -> None:
        """Show the user what was logged."""
        if seen.figures:
            progress(Progress(self.step, self.config.train.steps, self._measuring.shown(seen.figures)))

    # What they ask

    def _may_look(self, stopped: StopRequest) -> bool:
        """Whether to read the device: a CPU at every step, a GPU only where its figures are logged."""
        is_logged = self.step % self.config.train.log_every == 0
        return self.device.type == "cpu" or is_logged or (self.processes.alone and bool(stopped))

    def _is_settled(self) -> bool:
        """Whether further steps are not worth it; the first process, which runs free, decides for all."""
        settings = self.config.train
        if not (settings.patience and settings.free_running_every) or self.step % settings.free_running_every:
            return False
        return bool(self.processes.gather(self.judge.is_settled(self.step))[0])

    # At the end

    def _save_at_a_stop(self, log: MetricsLog) -> None:
        """Save where it stands, if that is worth anything, and see to it that there is a voice."""
        if not self.step or self.learner.watch.read().n_bad:
            return
        self._measuring.make_sure_of_a_voice(log)
        self.save()

    def _result(self, stop: int | None) -> TrainResult:
        settled = stop is None and self.step < self.config.train.steps
        finished = settled or self.step >= self.config.train.steps
        wall_s = time.perf_counter() - self._began
        return TrainResult(
            self.step, finished, self._measuring.first_bits, self._measuring.last_bits, self.judge.best_bits,
            self._audio_s, wall_s, stop, self.learner.returns.times, steps=self.config.train.steps, settled=settled,
            keeps_the_start=self.judge.keeps_the_start(self.step),
        )  # fmt: skip


class _Seen(NamedTuple):
    """What was measured after a step.

    Attributes:
        figures: of training since they were last logged; empty where they are not due.
        is_sound: the device was looked at, and this step's loss and gradient were finite; else a few more steps
            tell what the weights are worth.
        is_calm: and the losses are far from a bound.
        is_last: there are no more steps to do.
    """

    figures: Mapping[str, float]
    is_sound: bool
    is_calm: bool
    is_last: bool
