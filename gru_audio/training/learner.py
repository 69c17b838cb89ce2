"""One optimiser step in mixed precision, and all that it reads and changes; no device is waited for."""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gru_audio.config import Config, TrainConfig
from gru_audio.errors import ConfigError
from gru_audio.network.blocks import pruned_weights
from gru_audio.network.device import choose_dtype
from gru_audio.network.model import Network
from gru_audio.network.torch_private import AdamW, forget_half_step, move_towards, step_unless_bad
from gru_audio.training.batches.batch import Batch
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.distributed import Processes
from gru_audio.training.fine_tuning import StartingVoice
from gru_audio.training.interrupt import StopRequest
from gru_audio.training.objective import Losses, compute_losses
from gru_audio.training.pruning import Pruning
from gru_audio.training.recovery import Returns, Watch
from gru_audio.training.replay import Replay, recorder
from gru_audio.training.saved.checkpoint import Checkpoint, PartState
from gru_audio.training.saved.moments import moments_of, require_fit, restore_moments
from gru_audio.training.schedules import average_decay, learning_rate


class Learner:
    """A network that learns.

    Attributes:
        step: optimiser steps done.
        network: the weights.
        average: their moving average, which becomes the voice.
        optimizer: its moments are part of the state, its settings are the config's.
        dtype: what is multiplied in.
        scaler: of the loss; in use with float16 alone.
        pruning: which weights are left of the matrices that are pruned.
        watch: whether the steps go well.
        returns: how often the run went back to a checkpoint, which lowers the learning rate.
        replay: does a step, on a GPU by replaying a captured one.
        processes: among which the batch is divided.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        source: CropSource | None,
        processes: Processes | None = None,
    ) -> None:
        """Start from random weights.

        Args:
            config: all settings.
            device: where the network is.
            source: to whose mels it is normalised; None where a checkpoint or a voice will bring the statistics.
            processes: among which the batch is divided; None for this one alone.

        Raises:
            ConfigError: torch cannot train the cell in this precision on this device.
        """
        settings = config.train
        self.config, self.device, self.processes = config, device, processes or Processes()
        self.step = 0
        self.dtype = choose_dtype(settings.precision, device)
        if (self.dtype, device.type, config.model.cell) == (torch.float16, "cpu", "lstm"):
            raise ConfigError("train.precision 'fp16': torch has no such lstm for a CPU; use bf16 or fp32")
        torch.manual_seed(settings.seed)
        self.network = Network(config).to(device)
        if source is not None:
            mean, std = source.mel_statistics()
            self.network.set_normalisation(torch.from_numpy(mean), torch.from_numpy(std))
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.average.sample_network.cell.flatten_parameters()  # a copy is not laid out as cuDNN wants it
        self.optimizer = _optimizer(self.network, settings, device)
        # Several processes add up their gradients, and tell of a stop, outside of any capture.
        self.replay = Replay(recorder(device) if self.processes.alone else None, "training steps")
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.pruning = Pruning(config, self.network, self.average)
        self.watch, self.returns = Watch(settings, device), Returns(settings)

    def start_from(self, start: StartingVoice) -> None:
        """Take a voice's weights and statistics in place of random ones; settle its pruning where that is over.

        Raises:
            CheckpointError: they do not fit the config.
        """
        start.load_into(self.network)
        self.average.load_state_dict(self.network.state_dict())
        if start.is_settled_in(self.config):
            self.pruning.settle()

    def train_step(self, batch: Batch[Tensor], stopped: StopRequest | None = None) -> tuple[Losses, Tensor]:
        """One optimiser step; returns the losses and the gradient's norm before clipping.

        A step whose loss or gradient is not finite changes no weight; nothing waits for the device to tell.

        Raises:
            ProcessLostError: another process of the run failed; no weight was changed.
        """
        self._set_rate(self.learning_rate(self.step + 1))
        key = self.step >= self.config.train.pitch_handover_step, not self.pruning.kept
        step = partial(self._update, stopped or StopRequest())
        *losses, norm = self.replay(key, list(batch), step, partial(forget_half_step, self.scaler))
        self.step += 1
        self._update_average()
        self.pruning.apply(self.step)
        return Losses(*losses), norm

    def _update(self, stopped: StopRequest, batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What of a step can be captured: the losses, the gradient's norm, and with them the weights change."""
        losses = self._gradients(Batch(*batch), stopped)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.train.gradient_clip)
        is_good = self.watch.add(losses, norm)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # skips by itself, and lowers its scale
            self.scaler.update()
        else:
            step_unless_bad(self.optimizer, is_good)
        return *(part.detach() for part in losses), norm

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def learning_rate(self, step: int) -> float:
        """The rate of step 1, 2, …: the schedule's, less what the returns took off it."""
        return learning_rate(self.config.train, step) * self.returns.rate_factor

    def state(self) -> PartState:
        """What a checkpoint keeps of it; `pruning`, `watch` and `returns` have their own."""
        groups = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": moments_of(self.network, self.optimizer),
        }
        return PartState({"scaler": self.scaler.state_dict()}, groups)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over what a checkpoint kept.

        Raises:
            CheckpointError: its tensors are not the network's; nothing was taken over.
        """
        require_fit(checkpoint, self.network, pruned_weights(self.config.model))
        self.step = checkpoint.step
        self.network.load_state_dict(checkpoint.groups["network"])
        self.average.load_state_dict(checkpoint.groups["average"])
        restore_moments(self.network, self.optimizer, checkpoint.groups["optimizer"])
        self.replay.forget()
        if checkpoint.document["scaler"]:  # empty where it was not in use: the precision may have changed
            self.scaler.load_state_dict(checkpoint.document["scaler"])

    def limit_scale(self, highest: float) -> None:
        """Scale the loss by no more than this from here on: what overflowed at a higher scale would do so again."""
        if self.scaler.is_enabled():
            self.scaler.update(min(highest, self.scaler.get_scale()))

    def _gradients(self, batch: Batch[Tensor], stopped: StopRequest) -> Losses:
        """Compute those of the whole batch, of which this process has its share; not clipped yet."""
        own_pitch = self.step >= self.config.train.pitch_handover_step
        self.network.train()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            losses = compute_losses(self.network, batch, own_pitch=own_pitch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
        losses = self.processes.combine(self.network.parameters(), losses, len(batch.target), stopped)
        # A loss that is not finite counts as a gradient that is not, whatever that came to.
        self._last_gradient().add_(losses.total.detach() * 0)
        self.scaler.unscale_(self.optimizer)
        self.pruning.mask_gradient()
        return losses

    def _last_gradient(self) -> Tensor:
        gradient = next(reversed(list(self.network.parameters()))).grad
        assert gradient is not None
        return gradient

    @torch.no_grad()
    def _update_average(self) -> None:
        averages: list[Tensor] = list(self.average.parameters())
        weights: list[Tensor] = list(self.network.parameters())
        move_towards(averages, weights, 1 - average_decay(self.config.train, self.step))


def _optimizer(network: Network, settings: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """AdamW; only matrices decay, not biases."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    # Fused, it leaves out a step by itself where it is told that a gradient is not finite.
    # What is captured reads its rate from the device.
    captured = device.type == "cuda"
    rate = torch.tensor(settings.learning_rate, device=device) if captured else settings.learning_rate
    return AdamW(groups, rate, weight_decay=settings.weight_decay, fused=True, capturable=captured)
