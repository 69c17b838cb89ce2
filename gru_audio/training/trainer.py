"""The training loop: steps in mixed precision, the moving average, and when to validate and save.

Every batch follows from the seed and its step's number (see crops.py), so a resumed run goes on exactly
as the interrupted one would have.
"""

import contextlib
import copy
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gru_audio.config import CONTEXT_FRAMES, Config, TrainConfig
from gru_audio.data.dataset import Dataset
from gru_audio.errors import ConfigError, TrainingError
from gru_audio.network.device import choose_dtype
from gru_audio.network.model import Network
from gru_audio.network.torch_private import step_unless_bad
from gru_audio.progress import NoteCallback, Progress, ProgressCallback, ignore_note, ignore_progress
from gru_audio.training.batches.crops import Batch, CropSource
from gru_audio.training.batches.loader import batches
from gru_audio.training.distributed import Processes
from gru_audio.training.fine_tuning import StartingVoice
from gru_audio.training.interrupt import StopRequest
from gru_audio.training.judging.judge import Judge
from gru_audio.training.objective import Losses, TensorBatch, compute_losses
from gru_audio.training.pruning import Pruning
from gru_audio.training.recovery import Diverged, Returns, Watch
from gru_audio.training.result import TrainResult
from gru_audio.training.saved.checkpoint import Checkpoint, newest_checkpoint, save_checkpoint
from gru_audio.training.saved.metrics import MetricsLog, TrainingMeter
from gru_audio.training.saved.moments import moments_of, require_fit, restore_moments
from gru_audio.training.schedules import learning_rate, samples_of_steps


class Trainer:
    """One run's state: network, moving average, optimiser, kept weights and counters."""

    def __init__(
        self,
        dataset: Dataset,
        run: Path,
        config: Config,
        device: torch.device,
        processes: Processes | None = None,
    ) -> None:
        """Start from random weights, normalised to the dataset.

        Raises:
            DatasetError: the dataset does not fit the config.
            ConfigError: torch cannot train the cell in this precision on this device.
        """
        self.dataset, self.run, self.config, self.device = dataset, run, config, device
        settings = config.train
        self._source = CropSource(dataset, config, "train", CONTEXT_FRAMES)
        torch.manual_seed(settings.seed)
        self.network = Network(config).to(device)
        mean, std = self._source.mel_statistics()
        self.network.set_normalisation(torch.from_numpy(mean), torch.from_numpy(std))
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = _optimizer(self.network, settings)
        self.dtype = choose_dtype(settings.precision, device)
        if (self.dtype, device.type, config.model.cell) == (torch.float16, "cpu", "lstm"):
            raise ConfigError("train.precision 'fp16': torch has no such lstm for a CPU; use bf16 or fp32")
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.pruning = Pruning(config)
        self.processes = processes or Processes()
        self.watch, self.returns = Watch(settings, device), Returns()
        self.judge = Judge(dataset, run, config, device, self.average, self.pruning)
        self.step = 0
        self._first_bits: float | None = None
        self._last_bits = math.nan
        self._audio_s, self._began = 0.0, time.perf_counter()

    def start_from(self, start: StartingVoice) -> None:
        """Take a voice's weights and statistics in place of random ones; settle its pruning, unless it grows.

        Raises:
            CheckpointError: they do not fit the config.
        """
        start.load_into(self.network)
        self.average.load_state_dict(self.network.state_dict())
        if not start.grows_into(self.config):
            self.pruning.settle(self.network, self.average)
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
        if log is not None:
            self._measure_the_start(log)
        share, n_returns = self.processes.share, self.returns.times
        steps = range(self.step, self.step if self._is_settled() else self.config.train.steps)
        workers = self.config.train.workers
        supply = batches(self._source, steps, workers, self.device, share, n_returns, stopped, tell)
        with contextlib.closing(supply):
            stop = self._go(supply, log, stopped, progress)
        if (
            stop is None and self.step < steps.stop
        ):  # the supply ended: it waited in vain, and was asked to stop
            stop = stopped.signal_number
            if log is not None and self.step and self.watch.read().is_calm:
                self.save()
        self.processes.gather(None)  # none ends while the first still writes
        return self._result(stop)

    def _go(
        self,
        supply: Iterable[Batch],
        log: MetricsLog | None,
        stopped: StopRequest,
        progress: ProgressCallback,
    ) -> int | None:
        """Train on batches, until there are no more, or until the signal that this gives."""
        settings, meter = self.config.train, TrainingMeter(self.config)
        save_due, stop = False, None
        for batch in supply:
            losses, gradient_norm = self.train_step(TensorBatch.of(batch, self.device), stopped)
            n_samples = samples_of_steps(settings, self.step - 1, self.step)
            meter.add(losses, gradient_norm, n_samples)
            self._audio_s += n_samples / self._rate
            is_last = self.step == settings.steps
            save_due |= self.step % settings.checkpoint_every == 0
            sighting = None
            if save_due or is_last or self._may_look(stopped):
                sighting = self.watch.read()
                if sighting.has_diverged:
                    raise Diverged(self.step, sighting.reason)
            if log is not None:
                self._tell(meter, log, progress)
            if (
                sighting is not None and not sighting.n_bad
            ):  # else a few more steps tell what the weights are worth
                stop = self.processes.stop_signal(stopped)
            if log is not None:
                self._validate_where_due(meter, log, stop)
            is_last |= self._is_settled()
            is_calm = sighting is not None and sighting.is_calm
            if (save_due and is_calm) or is_last or stop is not None:
                save_due = False
                if log is not None:
                    self._save_off_the_clock(meter)
            if is_last or stop is not None:
                break
        return stop

    def train_step(self, batch: TensorBatch, stopped: StopRequest | None = None) -> tuple[Losses, Tensor]:
        """One optimiser step; returns the losses and the gradient's norm before clipping.

        A step whose loss or gradient is not finite changes no weight; nothing waits for the device to tell.
        """
        settings = self.config.train
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.step + 1)
        self.network.train()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            losses = compute_losses(self.network, batch, own_pitch=self.step >= settings.pitch_handover_step)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
        losses = self.processes.combine(
            self.network.parameters(), losses, len(batch.target), stopped or StopRequest()
        )
        # A loss that is not finite counts as a gradient that is not, whatever that came to.
        self._last_gradient().add_(losses.total.detach() * 0)
        self.scaler.unscale_(self.optimizer)
        self.pruning.mask_gradient(self.network)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        is_good = self.watch.add(losses, norm)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # skips by itself, and lowers its scale
            self.scaler.update()
        else:
            step_unless_bad(self.optimizer, is_good)
        self.step += 1
        self._update_average()
        self.pruning.apply(self.step, self.network, self.average)
        return losses, norm

    def _last_gradient(self) -> Tensor:
        gradient = next(reversed(list(self.network.parameters()))).grad
        assert gradient is not None
        return gradient

    def learning_rate(self, step: int) -> float:
        """The rate of step 1, 2, …: the schedule's, less what the returns took off it."""
        return learning_rate(self.config.train, step) * self.returns.rate_factor

    def go_back(self, diverged: Diverged) -> dict[str, float]:
        """Take up the last checkpoint again, with other crops and a lower rate; returns what is to be logged.

        Raises:
            TrainingError: there is none, or it was tried often enough.
        """
        returns = self.returns.after(diverged, self.config.train)
        checkpoint = newest_checkpoint(self.run)[0]
        if checkpoint is None:
            raise TrainingError(
                f"{diverged}, before the first checkpoint; start again with a lower train.learning_rate"
            )
        scale = self.scaler.get_scale()
        self.restore(checkpoint)
        self.returns = returns
        if self.scaler.is_enabled():  # what overflowed at the higher scale would do so again
            self.scaler.update(min(scale, self.scaler.get_scale()))
        self.processes.gather(None)  # all have read it
        if self.processes.leads:
            self.save()
        return {
            "diverged_at_step": diverged.step,
            "returns": returns.times,
            "rate_factor": returns.rate_factor,
        }

    def save(self) -> Path:
        """Write a checkpoint."""
        return save_checkpoint(self.run, self._checkpoint(), self.config.train.checkpoints_kept)

    def _checkpoint(self) -> Checkpoint:
        """All that the run needs to go on exactly from here."""
        document = {
            "config": self.config.model_dump(),
            "dataset": self.dataset.fingerprint,
            **self.judge.state(),
            **self.pruning.state(),
            "watch": self.watch.state(),
            "returns": self.returns.state(),
            "scaler": self.scaler.state_dict(),
        }
        groups = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": moments_of(self.network, self.optimizer),
            "masks": self.pruning.masks(),
        }
        return Checkpoint(self.step, groups, document)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put the run where the checkpoint's was, whatever it has done since.

        Raises:
            CheckpointError: its tensors are not the network's.
        """
        require_fit(checkpoint, self.network)
        groups, document = checkpoint.groups, checkpoint.document
        self.network.load_state_dict(groups["network"])
        self.average.load_state_dict(groups["average"])
        restore_moments(self.network, self.optimizer, groups["optimizer"])
        self.pruning.restore(document, groups.get("masks", {}), self.network, self.average)
        self.step = checkpoint.step
        self.judge.restore(document)
        if "watch" in document:  # not told by versions that did not go back
            self.watch.restore(document["watch"])
            self.returns = Returns.restored(document["returns"])
        if document["scaler"]:  # empty where it was not in use: the precision may have changed
            self.scaler.load_state_dict(document["scaler"])

    @property
    def _rate(self) -> int:
        return self.config.mel.sample_rate_hz

    def _may_look(self, stopped: StopRequest) -> bool:
        """Whether to read the device: a CPU at every step, a GPU only where its figures are logged."""
        is_logged = self.step % self.config.train.log_every == 0
        return self.device.type == "cpu" or is_logged or (self.processes.alone and bool(stopped))

    def _measure_the_start(self, log: MetricsLog) -> None:
        # A resumed run measures where it stands, but logs and exports no more than an uninterrupted one.
        self._last_bits = self.judge.measure()["bits"] if self.step else self.judge.validate(log, 0)
        if self._first_bits is None:
            self._first_bits = self._last_bits

    def _is_settled(self) -> bool:
        """Whether further steps are not worth it; the first process, which runs free, decides for all."""
        settings = self.config.train
        if not (settings.patience and settings.free_running_every) or self.step % settings.free_running_every:
            return False
        return bool(self.processes.gather(self.judge.is_settled(self.step))[0])

    def _tell(self, meter: TrainingMeter, log: MetricsLog, progress: ProgressCallback) -> None:
        """Log and show, where it is time."""
        settings = self.config.train
        if self.step % settings.log_every and self.step != settings.steps:
            return
        rate = self.learning_rate(self.step)
        figures = {**meter.figures(), **self.pruning.densities(), "learning_rate": rate}
        log.log("train", self.step, figures)
        shown = _shown(figures, self._last_bits)
        if self.returns.times:
            shown["returns"] = f"{self.returns.times}, from step {self.returns.diverged_at:,}"
        progress(Progress(self.step, settings.steps, shown))

    def _validate_where_due(self, meter: TrainingMeter, log: MetricsLog, stop: int | None) -> None:
        """Measure the moving average, where it is time, off the meter's clock."""
        paused, is_stop = time.perf_counter(), stop is not None
        if self.judge.is_due(self.step) or (is_stop and not self.judge.has_voice):
            self._last_bits = self.judge.validate(log, self.step)
        if self.judge.is_free_run_due(self.step):
            self.judge.free_run(log, self.step)
        meter.leave_out(time.perf_counter() - paused)

    def _save_off_the_clock(self, meter: TrainingMeter) -> None:
        paused = time.perf_counter()
        self.save()
        meter.leave_out(time.perf_counter() - paused)

    def _result(self, stop: int | None) -> TrainResult:
        first_bits = self._last_bits if self._first_bits is None else self._first_bits
        settled = stop is None and self.step < self.config.train.steps
        finished = settled or self.step >= self.config.train.steps
        wall_s = time.perf_counter() - self._began
        return TrainResult(
            self.step, finished, first_bits, self._last_bits, self.judge.best_bits, self._audio_s, wall_s, stop,
            self.returns.times, steps=self.config.train.steps, settled=settled,
        )  # fmt: skip

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.train.average_decay, (1 + self.step) / (10 + self.step))
        averages: list[Tensor] = list(self.average.parameters())
        weights: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)


def _shown(figures: Mapping[str, float], valid_bits: float) -> dict[str, str]:
    return {
        "loss": f"{figures['loss']:.3f}",
        "bits": f"{figures['bits']:.3f}",
        "valid": f"{valid_bits:.3f}",
        "lr": f"{figures['learning_rate']:.1e}",
        "grad": f"{figures['gradient_norm']:.2f}",
        "speed": f"{figures['samples_per_s']:,.0f}/s ({figures['times_real_time']:.1f} x real time)",
    }


def _optimizer(network: Network, settings: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; only matrices decay, not biases."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    # Fused, it leaves out a step by itself where it is told that a gradient is not finite.
    return torch.optim.AdamW(groups, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
