"""Pruning while training: which recurrent weights are left after each step; see blocks.py for the choice."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gru_audio.config import Config
from gru_audio.network.blocks import RECURRENT_WEIGHT, kept_weights, last_choice, scheduled_densities
from gru_audio.network.model import Network

_GATES = ("reset", "update", "new")  # in the order of the recurrent weights' rows


class Pruning:
    """The kept weights of a run.

    Attributes:
        kept: (3H, H) bool, the recurrent weights that are left; None before the first choice.
        settled: it was chosen before the run's first step, and no step changes it.
    """

    def __init__(self, config: Config) -> None:
        """Nothing is pruned yet."""
        self._config = config
        self.kept: Tensor | None = None
        self.settled = False

    def last_choice(self, step: int) -> int:
        """The newest step, at most this one, after which the kept blocks are chosen; 0 where there is none."""
        return 0 if self.settled else last_choice(self._config, step)

    @torch.no_grad()
    def settle(self, network: Network, average: Network) -> None:
        """Choose the blocks for good, before the first step: those that a pruned voice has are the strongest."""
        self.settled = True
        if self._config.model.is_pruned:
            kept = self._choice(network.get_parameter(RECURRENT_WEIGHT), self._config.model.recurrent_density)
            self.keep(kept, network, average)
            self._set_to_zero(network, average)

    def keep(self, kept: Tensor | None, *networks: Network) -> None:
        """Take these weights as those that are left; None: all."""
        self.kept = kept
        for network in networks:
            network.sample_network.kept_weights = kept

    def mask_gradient(self, network: Network) -> None:
        """Leave out the gradient of what is not kept, which would only count in the gradient's norm.

        Source: Zhu & Gupta, To prune, or not to prune (2017), section 3.
        """
        gradient = network.get_parameter(RECURRENT_WEIGHT).grad
        if self.kept is not None and gradient is not None:
            gradient.masked_fill_(~self.kept, 0.0)

    @torch.no_grad()
    def apply(self, step: int, network: Network, average: Network) -> None:
        """After a step: choose the blocks that are kept where it is time, and set the others to zero in both.

        At every step, since the optimiser's momentum from when they were kept would bring them back.
        """
        self._set_to_zero(network, average)
        if self.last_choice(step) == step:
            weight = network.get_parameter(RECURRENT_WEIGHT)
            self.keep(self._choice(weight, scheduled_densities(self._config, step)), network, average)
            self._set_to_zero(network, average)

    def _set_to_zero(self, *networks: Network) -> None:
        if self.kept is not None:
            for network in networks:
                network.get_parameter(RECURRENT_WEIGHT).masked_fill_(~self.kept, 0.0)

    def densities(self) -> dict[str, float]:
        """Share of each gate's recurrent weights that is left, its diagonal included; empty before pruning."""
        if self.kept is None:
            return {}
        shares = self.kept.view(3, -1).float().mean(1).tolist()
        return {f"density_{gate}": share for gate, share in zip(_GATES, shares, strict=True)}

    def masks(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of it as tensors."""
        return {} if self.kept is None else {RECURRENT_WEIGHT: self.kept}

    def state(self) -> dict[str, bool]:
        """What a checkpoint keeps of it besides."""
        return {"pruning_settled": self.settled}

    def restore(self, state: Mapping[str, Any], masks: Mapping[str, Tensor], *networks: Network) -> None:
        """Take over what a checkpoint kept, in these networks too."""
        kept = masks.get(RECURRENT_WEIGHT)
        self.keep(kept if kept is None else kept.to(next(networks[0].parameters()).device), *networks)
        # Versions that did not tell it settled the pruning of whatever was fine-tuned.
        self.settled = state.get("pruning_settled", state.get("fine_tuned_from") is not None)

    @staticmethod
    def _choice(weight: Tensor, densities: Sequence[float]) -> Tensor:
        kept = kept_weights(weight.detach().cpu().numpy(), densities)
        return torch.from_numpy(kept).to(weight.device)
