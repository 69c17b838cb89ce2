"""Divergence: how a run notices that it has lost its way, and how often it may go back to a good checkpoint.

The losses are followed on the device. A GPU is asked for what they came to only where its figures are read
anyway, so no step waits for it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gru_audio.config import TrainConfig
from gru_audio.errors import TrainingError
from gru_audio.training.objective import Losses
from gru_audio.training.saved.checkpoint import Checkpoint, PartState

_SHORT_STEPS, _LONG_STEPS = 10, 100  # over which the two means of the training bits run
_RATE_FACTOR = 0.5  # on the learning rate, for each return


class Diverged(Exception):  # noqa: N818 - no error of the user's: the run mends it itself, or says why it cannot
    """The run has lost its way at a step.

    Attributes:
        step: optimiser steps done.
        reason: what was seen, as a clause.
    """

    def __init__(self, step: int, reason: str) -> None:
        """See the class."""
        super().__init__(f"step {step}: {reason}")
        self.step, self.reason = step, reason


class Watch:
    """Follows the losses of a run's steps, without reading anything back from the device."""

    def __init__(self, settings: TrainConfig, device: torch.device) -> None:
        """Nothing is known yet."""
        self._max_bad_steps, self._spike_bits = settings.max_bad_steps, settings.spike_bits
        # Good steps counted, short mean, long mean, bad steps in a row, 1 once a bound was passed.
        self._state = torch.zeros(5, device=device)

    def add(self, losses: Losses, gradient_norm: Tensor) -> Tensor:
        """Count a step; returns whether its loss and gradient are finite, as a bool on the device."""
        good = torch.isfinite(losses.total.detach()) & torch.isfinite(gradient_norm)
        n_good, short, long, n_bad, passed = self._state.unbind()
        bits = torch.where(good, losses.nats.detach() / math.log(2), short)
        n_good = torch.where(good, n_good + 1, n_good).clamp(max=_LONG_STEPS)
        n_bad = torch.where(good, 0.0, n_bad + 1)
        # Plain means at first, then exponential ones.
        short = short + torch.where(good, bits - short, 0.0) / n_good.clamp(1, _SHORT_STEPS)
        long = long + torch.where(good, bits - long, 0.0) / n_good.clamp(min=1)
        is_past = (n_bad >= self._max_bad_steps) | (short - long > self._spike_bits)
        # In place: a captured step goes on with the same tensor.
        self._state.copy_(torch.stack([n_good, short, long, n_bad, torch.maximum(passed, is_past.float())]))
        return good

    def read(self) -> "Sighting":
        """What was seen so far; waits for the device."""
        _, short, long, n_bad, passed = self._state.tolist()
        return Sighting(
            int(n_bad),
            short,
            long,
            bool(passed),
            is_calm=not n_bad and 2 * (short - long) <= self._spike_bits,
        )

    def state(self) -> PartState:
        """What a checkpoint keeps of it."""
        return PartState({"watch": [float(value) for value in self._state.tolist()]})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over what a checkpoint kept."""
        if "watch" in checkpoint.document:  # not told by versions that did not go back
            self._state.copy_(torch.tensor(checkpoint.document["watch"]))


@dataclass(frozen=True)
class Sighting:
    """What a run's losses look like after a step.

    Attributes:
        n_bad: steps in a row, up to this one, whose loss or gradient was not finite.
        short_bits: mean of the training bits a sample over the last steps.
        long_bits: the same over more steps.
        has_diverged: a bound was passed, now or since it was last looked at.
        is_calm: this step was good, and the loss is not half way to the bound: the state is worth keeping.
    """

    n_bad: int
    short_bits: float
    long_bits: float
    has_diverged: bool
    is_calm: bool

    @property
    def reason(self) -> str:
        """Which bound was passed, as a clause."""
        if self.n_bad:
            return f"the loss or its gradient was not finite {self.n_bad} times in a row"
        return f"the loss rose from {self.long_bits:.2f} to {self.short_bits:.2f} bits a sample"


class Returns:
    """How often a run went back to a checkpoint.

    Attributes:
        times: how often; it is part of the seed of what is drawn since then.
        diverged_at: the step from which it did last.
    """

    def __init__(self, settings: TrainConfig) -> None:
        """None yet."""
        self._max_returns = settings.max_returns
        self.times, self.diverged_at = 0, 0

    @property
    def rate_factor(self) -> float:
        """What the scheduled learning rate is multiplied by."""
        return _RATE_FACTOR**self.times

    def add(self, diverged: Diverged) -> None:
        """Count one more.

        Raises:
            TrainingError: there were as many as are allowed, or the last one did not bring the run any further.
        """
        if self.times >= self._max_returns or diverged.step <= self.diverged_at:
            tried = f"after {self.times} returns to a checkpoint, each with half the learning rate"
            raise TrainingError(
                f"{diverged}{f', {tried}' if self.times else ''}; start again with a lower train.learning_rate, or "
                "resume from the last checkpoint with train.precision=fp32"
            )
        self.times, self.diverged_at = self.times + 1, diverged.step

    def state(self) -> PartState:
        """What a checkpoint keeps of it."""
        return PartState({"returns": {"times": self.times, "diverged_at": self.diverged_at}})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over what a checkpoint kept."""
        if "returns" in checkpoint.document:  # not told by versions that did not go back
            kept = checkpoint.document["returns"]
            self.times, self.diverged_at = kept["times"], kept["diverged_at"]
