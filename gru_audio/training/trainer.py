"""The training loop: steps in mixed precision, the moving average, and when to validate and save.

Every batch follows from the seed and its step's number (see crops.py), so a resumed run goes on exactly
as the interrupted one would have.
"""

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gru_audio.checkpoint import Checkpoint, save_checkpoint
from gru_audio.config import CONTEXT_FRAMES, Config, TrainConfig
from gru_audio.crops import CropSource
from gru_audio.dataset import Dataset
from gru_audio.device import choose_dtype
from gru_audio.errors import ConfigError, TrainingError
from gru_audio.interrupt import StopRequest
from gru_audio.metrics import MetricsLog, TrainingMeter
from gru_audio.model import Network
from gru_audio.objective import Losses, TensorBatch, compute_losses
from gru_audio.progress import Progress, ProgressCallback
from gru_audio.run_folder import VOICE_FILE
from gru_audio.sparsity import RECURRENT_WEIGHT, last_choice
from gru_audio.training.loader import batches
from gru_audio.training.pruning import Pruning
from gru_audio.training.schedules import learning_rate
from gru_audio.training.validation import Validation
from gru_audio.voice import Voice, save_voice

_BAD_STEPS_IN_A_ROW = 10  # non-finite losses or gradients after which a run gives up


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: optimiser steps done in all.
        finished: all steps of the config were done.
        first_bits: validation bits a sample before the first step of this run.
        last_bits: validation bits a sample at the last validation.
        best_bits: the lowest so far, of those since blocks were last pruned; its weights are the run's voice.
        audio_s: seconds of audio trained on by this call.
        wall_s: seconds that this call took.
        stopped_by: the signal that stopped it, if one did.
    """

    step: int
    finished: bool
    first_bits: float
    last_bits: float
    best_bits: float
    audio_s: float
    wall_s: float
    stopped_by: int | None = None


class Trainer:
    """One run's state: network, moving average, optimiser, kept weights and counters."""

    def __init__(self, dataset: Dataset, run: Path, config: Config, device: torch.device) -> None:
        """Start from random weights, normalised to the dataset.

        Raises:
            DatasetError: the dataset does not fit the config.
            ConfigError: torch cannot train the cell in this precision on this device.
        """
        self.dataset, self.run, self.config, self.device = dataset, run, config, device
        settings = config.train
        self._source = CropSource(dataset, config, "train", CONTEXT_FRAMES)
        self._validation = Validation(dataset, config, device)
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
        self.step, self.best_bits, self.best_step, self.skipped = 0, math.inf, 0, 0

    def fit(self, log: MetricsLog, stopped: StopRequest, progress: ProgressCallback) -> TrainResult:
        """Run the remaining steps."""
        settings = self.config.train
        began, first_step = time.perf_counter(), self.step
        # A resumed run measures where it stands, but logs and exports no more than an uninterrupted one.
        first_bits = last_bits = self.measure()["bits"] if self.step else self.validate(log)
        meter = TrainingMeter(self.config)
        steps = range(self.step, settings.steps)
        for batch in batches(self._source, steps, settings.workers, self.device):
            losses, gradient_norm = self.train_step(TensorBatch.of(batch, self.device))
            meter.add(losses, gradient_norm)
            if self.step % settings.log_every == 0 or self.step == settings.steps:
                rate = learning_rate(settings, self.step)
                figures = {**meter.figures(), **self.pruning.densities(), "learning_rate": rate}
                log.log("train", self.step, figures)
                progress(Progress(self.step, settings.steps, _shown(figures, last_bits)))
            paused = time.perf_counter()
            has_voice = (self.run / VOICE_FILE).exists()
            if (
                self.step % settings.valid_every == 0
                or self.step == settings.steps
                or (stopped and not has_voice)
            ):
                last_bits = self.validate(log)
            if self.step % settings.checkpoint_every == 0 or self.step == settings.steps or stopped:
                self.save()
            meter.leave_out(time.perf_counter() - paused)
            if stopped:
                break
        audio_s = (self.step - first_step) * settings.batch_size * settings.crop_samples / self._rate
        wall_s = time.perf_counter() - began
        finished = self.step >= settings.steps
        return TrainResult(
            self.step, finished, first_bits, last_bits, self.best_bits, audio_s, wall_s, stopped.signal_number
        )

    def train_step(self, batch: TensorBatch) -> tuple[Losses, Tensor]:
        """One optimiser step; returns the losses and the gradient's norm before clipping.

        A step whose gradient is not finite changes no weight.

        Raises:
            TrainingError: it happened too often in a row.
        """
        settings = self.config.train
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step + 1)
        self.network.train()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            losses = compute_losses(self.network, batch, own_pitch=self.step >= settings.pitch_handover_step)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # skips by itself, and lowers its scale
            self.scaler.update()
        elif torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        self._count_skipped(bool(torch.isfinite(norm)))
        self._update_average()
        self.pruning.apply(self.step, self.network, self.average)
        return losses, norm

    def measure(self) -> dict[str, float]:
        """Teacher-forced figures of the moving average on the validation crops."""
        return self._validation.measure(self.average)

    def validate(self, log: MetricsLog) -> float:
        """Measure and log; the best voice so far is written to the run's folder. Returns the bits a sample.

        A voice from before the last pruning has weights that are gone since, so that any later one takes its place.
        """
        figures = self.measure()
        log.log("valid", self.step, figures)
        has_best = self.best_step >= last_choice(self.config, self.step)
        if self.step and figures["bits"] < (self.best_bits if has_best else math.inf):
            self.best_bits, self.best_step = figures["bits"], self.step
            self.export(figures)
        return figures["bits"]

    def export(self, figures: Mapping[str, float]) -> None:
        """Write the moving average as the run's voice."""
        clips = self.dataset.clips("train")
        metadata = {
            "steps": self.step,
            "validation": dict(figures),
            "dataset": str(self.dataset.path.resolve().name),
            "training_hours": sum(clip.n_samples for clip in clips) / self._rate / 3600,
            "speakers": sorted({clip.speaker for clip in clips}),
            "licence": self.dataset.licence,
            "source_note": self.dataset.source_note,
        }
        tensors = {name: tensor.cpu().numpy() for name, tensor in self.average.state_dict().items()}
        save_voice(self.run / VOICE_FILE, Voice(self.config, tensors, metadata))

    def save(self) -> Path:
        """Write a checkpoint."""
        named = dict(self.network.named_parameters())
        moments = {
            f"{name}/{key}": value
            for name, parameter in named.items()
            for key, value in self.optimizer.state[parameter].items()
        }
        document = {
            "config": self.config.model_dump(),
            "best_bits": self.best_bits if math.isfinite(self.best_bits) else None,
            "best_step": self.best_step,
            "skipped": self.skipped,
            "dataset": self.dataset.fingerprint,
            "scaler": self.scaler.state_dict(),
        }
        groups = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": moments,
            "masks": self.pruning.masks(),
        }
        return save_checkpoint(
            self.run, Checkpoint(self.step, groups, document), self.config.train.checkpoints_kept
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over a checkpoint's state."""
        self.network.load_state_dict(checkpoint.groups["network"])
        self.average.load_state_dict(checkpoint.groups["average"])
        moments = checkpoint.groups["optimizer"]
        for name, parameter in self.network.named_parameters() if moments else ():
            self.optimizer.state[parameter] = {
                key: moments[f"{name}/{key}"].to("cpu" if key == "step" else self.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
        if masks := checkpoint.groups.get("masks"):
            self.pruning.kept = masks[RECURRENT_WEIGHT].to(self.device)
        self.step = checkpoint.step
        best = checkpoint.document["best_bits"]
        self.best_bits = math.inf if best is None else best
        self.best_step = checkpoint.document.get("best_step", 0)  # not told by versions that did not prune
        self.skipped = checkpoint.document["skipped"]
        if checkpoint.document["scaler"]:  # empty where it was not in use: the precision may have changed
            self.scaler.load_state_dict(checkpoint.document["scaler"])

    @property
    def _rate(self) -> int:
        return self.config.mel.sample_rate_hz

    def _count_skipped(self, step_was_good: bool) -> None:
        self.skipped = 0 if step_was_good else self.skipped + 1
        if self.skipped >= _BAD_STEPS_IN_A_ROW:
            raise TrainingError(
                f"step {self.step}: the gradient was not finite {self.skipped} times in a row; resume from the last "
                "checkpoint with a lower train.learning_rate, or with train.precision=fp32"
            )

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
    return torch.optim.AdamW(groups, settings.learning_rate, weight_decay=settings.weight_decay)
