"""Pruning while training: which recurrent weights are left after each step; see blocks.py for the choice."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gru_audio.config import Config
from gru_audio.network.blocks import RECURRENT_WEIGHT, kept_weights, last_choice, scheduled_densities
from gru_audio.network.model import Network
from gru_audio.training.saved.checkpoint import Checkpoint, PartState

_GATES = ("reset", "update", "new")  # in the order of the recurrent weights' rows


class Pruning:
    """The kept weights of a run's network, and of its moving average.

    Attributes:
        kept: (3H, H) bool, the recurrent weights that are left; None before the first choice.
        settled: it was chosen before the run's first step, and no step changes it.
    """

    def __init__(self, config: Config, network: Network, average: Network) -> None:
        """Nothing is pruned yet."""
        self._config, self._network, self._both = config, network, (network, average)
        self.kept: Tensor | None = None
        self.settled = False

    def last_choice(self, step: int) -> int:
        """The newest step, at most this one, after which the kept blocks are chosen; 0 where there is none."""
        return 0 if self.settled else last_choice(self._config, step)

    @torch.no_grad()
    def settle(self) -> None:
        """Choose the blocks for good, before the first step: those that a pruned voice has are the strongest."""
        self.settled = True
        if self._config.model.is_pruned:
            self._keep(self._choice(self._config.model.recurrent_density))
            self._set_to_zero()

    def mask_gradient(self) -> None:
        """Leave out the gradient of what is not kept, which would only count in the gradient's norm.

        Source: Zhu & Gupta, To prune, or not to prune (2017), section 3.
        """
        gradient = self._weight.grad
        if self.kept is not None and gradient is not None:
            gradient.masked_fill_(~self.kept, 0.0)

    @torch.no_grad()
    def apply(self, step: int) -> None:
        """After a step: choose the blocks that are kept where it is time, and set the others to zero in both.

        At every step, since the optimiser's momentum from when they were kept would bring them back.
        """
        self._set_to_zero()
        if self.last_choice(step) == step:
            self._keep(self._choice(scheduled_densities(self._config, step)))
            self._set_to_zero()

    def densities(self) -> dict[str, float]:
        """Share of each gate's recurrent weights that is left, its diagonal included; empty before pruning."""
        if self.kept is None:
            return {}
        shares = self.kept.view(len(_GATES), -1).float().mean(1).tolist()
        return {f"density_{gate}": share for gate, share in zip(_GATES, shares, strict=True)}

    def state(self) -> PartState:
        """What a checkpoint keeps of it."""
        masks = {} if self.kept is None else {RECURRENT_WEIGHT: self.kept}
        return PartState({"pruning_settled": self.settled}, {"masks": masks})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over what a checkpoint kept, in both networks too."""
        kept, document = checkpoint.groups.get("masks", {}).get(RECURRENT_WEIGHT), checkpoint.document
        self._keep(None if kept is None else kept.to(self._weight.device))
        # Versions that did not tell it settled the pruning of whatever was fine-tuned.
        self.settled = document.get("pruning_settled", document.get("fine_tuned_from") is not None)

    @property
    def _weight(self) -> Tensor:
        return self._network.get_parameter(RECURRENT_WEIGHT)

    def _choice(self, densities: Sequence[float]) -> Tensor:
        kept = kept_weights(self._weight.detach().cpu().numpy(), densities)
        return torch.from_numpy(kept).to(self._weight.device)

    def _keep(self, kept: Tensor | None) -> None:
        if kept is not None and self.kept is not None and kept.is_cuda:
            self.kept.copy_(kept)  # a captured step goes on with the same tensor
            return
        self.kept = kept
        for network in self._both:
            network.sample_network.kept_weights = kept

    def _set_to_zero(self) -> None:
        if self.kept is not None:
            for network in self._both:
                network.get_parameter(RECURRENT_WEIGHT).masked_fill_(~self.kept, 0.0)
