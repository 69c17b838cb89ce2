"""Pruning while training: which weights are left after each step; see blocks.py for the choice."""

import torch
from torch import Tensor

from gru_audio.config import Config, ModelConfig
from gru_audio.network.blocks import (
    READOUT_WEIGHT,
    RECURRENT_WEIGHT,
    kept_of,
    last_choice,
    model_left,
    pruned_weights,
)
from gru_audio.network.model import Network
from gru_audio.training.saved.checkpoint import Checkpoint, PartState

_GATES = ("reset", "update", "new")  # in the order of the recurrent weights' rows


class Pruning:
    """The kept weights of a run's network, and of its moving average.

    Attributes:
        kept: by the name of a matrix, the weights that are left, bool of its shape; empty before the first choice.
        settled: it was chosen before the run's first step, and no step changes it.
    """

    def __init__(self, config: Config, network: Network, average: Network) -> None:
        """Nothing is pruned yet."""
        self._config, self._network, self._both = config, network, (network, average)
        self.kept: dict[str, Tensor] = {}
        self.settled = False

    def last_choice(self, step: int) -> int:
        """The newest step, at most this one, after which the kept blocks are chosen; 0 where there is none."""
        return 0 if self.settled else last_choice(self._config, step)

    @torch.no_grad()
    def settle(self) -> None:
        """Choose the blocks for good, before the first step: those that a pruned voice has are the strongest.

        Of a dense network there are none, and it may be resumed with densities.
        """
        self.settled = self._config.model.is_pruned
        if self.settled:
            self._choose(self._config.model)
            self._set_to_zero()

    def mask_gradient(self) -> None:
        """Leave out the gradient of what is not kept, which would only count in the gradient's norm.

        Source: Zhu & Gupta, To prune, or not to prune (2017), section 3.
        """
        for name, kept in self.kept.items():
            gradient = self._network.get_parameter(name).grad
            if gradient is not None:
                gradient.masked_fill_(~kept, 0.0)

    @torch.no_grad()
    def apply(self, step: int) -> None:
        """After a step: choose the blocks that are kept where it is time, and set the others to zero in both.

        At every step, since the optimiser's momentum from when they were kept would bring them back.
        """
        self._set_to_zero()
        if self.last_choice(step) == step:
            self._choose(model_left(self._config, step))
            self._set_to_zero()

    def densities(self) -> dict[str, float]:
        """Share of the weights that is left of each gate, its diagonal included, and of the readout's.

        Of what is not pruned, or not yet, there is none.
        """
        shares = {}
        if RECURRENT_WEIGHT in self.kept:
            gates = self.kept[RECURRENT_WEIGHT].view(len(_GATES), -1).float().mean(1).tolist()
            shares = {f"density_{gate}": share for gate, share in zip(_GATES, gates, strict=True)}
        if READOUT_WEIGHT in self.kept:
            shares["density_readout"] = self.kept[READOUT_WEIGHT].float().mean().item()
        return shares

    def state(self) -> PartState:
        """What a checkpoint keeps of it."""
        return PartState({"pruning_settled": self.settled}, {"masks": self.kept})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over what a checkpoint kept, in both networks too."""
        kept, document = checkpoint.groups.get("masks", {}), checkpoint.document
        devices = {name: parameter.device for name, parameter in self._network.named_parameters()}
        self._keep({name: kept[name].to(devices[name]) for name in kept})
        # Versions before settled the pruning of whatever was fine-tuned, or of dense voices, too.
        told = document.get("pruning_settled", document.get("fine_tuned_from") is not None)
        self.settled = told and bool(kept)

    def _choose(self, model: ModelConfig) -> None:
        kept = dict[str, Tensor]()
        for name in pruned_weights(self._config.model):
            weight = self._network.get_parameter(name)
            chosen = kept_of(name, weight.detach().cpu().numpy(), model)
            kept[name] = torch.from_numpy(chosen).to(weight.device)
        self._keep(kept)

    def _keep(self, kept: dict[str, Tensor]) -> None:
        if kept.keys() == self.kept.keys() and all(mask.is_cuda for mask in kept.values()):
            for name, mask in kept.items():
                self.kept[name].copy_(mask)  # a captured step goes on with the same tensor
            return
        self.kept = kept
        for network in self._both:
            network.sample_network.kept_recurrent = kept.get(RECURRENT_WEIGHT)
            network.sample_network.kept_readout = kept.get(READOUT_WEIGHT)

    def _set_to_zero(self) -> None:
        for name, kept in self.kept.items():
            for network in self._both:
                network.get_parameter(name).masked_fill_(~kept, 0.0)
