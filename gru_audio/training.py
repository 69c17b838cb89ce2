"""The training loop: mixed precision, moving average, validation, checkpoints and resume.

Every batch follows from the seed and its step's number (see crops.py), so a resumed run goes on exactly
as the interrupted one would have.
"""

import copy
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from gru_audio.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from gru_audio.config import CONTEXT_FRAMES, Config, TrainConfig, config_from_dict, to_toml
from gru_audio.crops import Batch, CropSource
from gru_audio.dataset import Dataset
from gru_audio.device import choose_device, choose_dtype
from gru_audio.errors import ConfigError, GruAudioError, TrainingError
from gru_audio.files import atomic_path
from gru_audio.interrupt import StopRequest, leave_signals_to_the_parent, stop_on_signals
from gru_audio.memory import keep_freed_memory
from gru_audio.metrics import MetricsLog, TrainingMeter
from gru_audio.model import Network
from gru_audio.objective import Losses, TensorBatch, bits, compute_losses
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.run_folder import CONFIG_FILE, METRICS_FILE, VOICE_FILE, checkpoint_paths
from gru_audio.sparsity import RECURRENT_WEIGHT, kept_weights, last_choice, scheduled_densities
from gru_audio.voice import Voice, save_voice

_BAD_STEPS_IN_A_ROW = 10  # non-finite losses or gradients after which a run gives up
_GATES = ("reset", "update", "new")  # in the order of the recurrent weights' rows


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
        self._validation = _validation_batches(dataset, config)
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
        self.kept: Tensor | None = None  # (3H, H) bool: recurrent weights that are left
        self.step, self.best_bits, self.best_step, self.skipped = 0, math.inf, 0, 0

    def fit(self, log: MetricsLog, stopped: StopRequest, progress: ProgressCallback) -> TrainResult:
        """Run the remaining steps."""
        settings = self.config.train
        began, first_step = time.perf_counter(), self.step
        # A resumed run measures where it stands, but logs and exports no more than an uninterrupted one.
        first_bits = last_bits = self.measure()["bits"] if self.step else self.validate(log)
        meter = TrainingMeter(self.config)
        for batch in self._batches():
            losses, gradient_norm = self.train_step(TensorBatch.of(batch, self.device))
            meter.add(losses, gradient_norm)
            if self.step % settings.log_every == 0 or self.step == settings.steps:
                rate = learning_rate(settings, self.step)
                figures = {**meter.figures(), **self.densities(), "learning_rate": rate}
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
        self._prune()
        return losses, norm

    def densities(self) -> dict[str, float]:
        """Share of each gate's recurrent weights that is left, its diagonal included; empty before pruning."""
        if self.kept is None:
            return {}
        shares = self.kept.view(3, -1).float().mean(1).tolist()
        return {f"density_{gate}": share for gate, share in zip(_GATES, shares, strict=True)}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Figures of the moving average on the validation crops, with the pitch head's own estimates."""
        totals = torch.zeros(4, dtype=torch.float64)
        for batch in self._validation:
            losses = compute_losses(self.average, TensorBatch.of(batch, self.device), own_pitch=True)
            totals += torch.stack(losses).double().cpu() / len(self._validation)
        return {
            "bits": bits(float(totals[0])),
            "pitch_loss": float(totals[1]),
            "voicing_accuracy": float(totals[2]),
            "pitch_cents": float(totals[3]),
        }

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
            "masks": {} if self.kept is None else {RECURRENT_WEIGHT: self.kept},
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
            self.kept = masks[RECURRENT_WEIGHT].to(self.device)
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

    def _batches(self) -> Iterator[Batch]:
        settings = self.config.train
        steps = range(self.step, settings.steps)
        loader = DataLoader(
            _BatchesByStep(self._source),
            batch_size=None,
            sampler=steps,
            num_workers=settings.workers,
            worker_init_fn=leave_signals_to_the_parent if settings.workers else None,
            pin_memory=self.device.type == "cuda",
        )
        for batch in loader:
            if isinstance(batch, GruAudioError):
                raise batch
            yield batch

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

    @torch.no_grad()
    def _prune(self) -> None:
        """Choose the blocks that are kept where it is time, and set the others to zero, here and in the average.

        At every step, since the optimiser's momentum would bring them back.
        """
        weight = self.network.get_parameter(RECURRENT_WEIGHT)
        if last_choice(self.config, self.step) == self.step:
            kept = kept_weights(weight.detach().cpu().numpy(), scheduled_densities(self.config, self.step))
            self.kept = torch.from_numpy(kept).to(self.device)
        if self.kept is not None:
            for tensor in (weight, self.average.get_parameter(RECURRENT_WEIGHT)):
                tensor.masked_fill_(~self.kept, 0.0)


def learning_rate(settings: TrainConfig, step: int) -> float:
    """The rate of step 1, 2, …: a linear warm-up, then half a cosine down to the final rate at the last step.

    Source: Loshchilov & Hutter, SGDR (2017), eq. 5, one period.
    """
    if step <= settings.warm_up_steps:
        return settings.learning_rate * step / settings.warm_up_steps
    done = (step - settings.warm_up_steps) / max(1, settings.steps - settings.warm_up_steps)
    swing = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return settings.final_learning_rate + (settings.learning_rate - settings.final_learning_rate) * swing


class _BatchesByStep(TorchDataset["Batch | GruAudioError"]):
    def __init__(self, source: CropSource) -> None:
        self._source = source

    def __getitem__(self, step: int) -> Batch | GruAudioError:
        try:
            return self._source.batch(step)
        except GruAudioError as error:  # raised in a worker it would come with a traceback in its text
            return error


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


def _validation_batches(dataset: Dataset, config: Config) -> list[Batch]:
    """The same crops at every validation."""
    n_batches = -(-config.train.valid_crops // config.train.batch_size)
    source = CropSource(dataset, config, "valid", CONTEXT_FRAMES)
    return [source.batch(index) for index in range(n_batches)]


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
