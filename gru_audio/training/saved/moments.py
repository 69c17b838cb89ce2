"""What a checkpoint holds against the network that is to go on from it, and the optimiser's moments by weight."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gru_audio.errors import CheckpointError
from gru_audio.training.saved.checkpoint import Checkpoint

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def moments_of(network: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """What a checkpoint keeps of an Adam: `<weight>/<moment>` to tensor; empty before the first step."""
    return {
        f"{name}/{key}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def restore_moments(network: nn.Module, optimizer: Optimizer, moments: Mapping[str, Tensor]) -> None:
    """Take over what a checkpoint kept."""
    optimizer.state.clear()
    for name, parameter in network.named_parameters() if moments else ():
        optimizer.state[parameter] = {key: moments[f"{name}/{key}"].to(parameter.device) for key in _MOMENTS}


def require_fit(checkpoint: Checkpoint, network: nn.Module, pruned: Sequence[str] = ()) -> None:
    """Make sure, before any is taken over, that a checkpoint's tensors are possible and of a network's shapes.

    Args:
        checkpoint: with masks, once its run prunes.
        network: that is to go on from it.
        pruned: the names of the weights that have masks then.

    Raises:
        CheckpointError: one is not, or is missing; it is named.
    """
    weights, moments = network.state_dict(), checkpoint.groups["optimizer"]
    wanted = {(group, name): like for group in ("network", "average") for name, like in weights.items()}
    for name, parameter in network.named_parameters() if moments else ():
        likes = (torch.zeros(()), parameter, parameter)
        wanted |= {("optimizer", f"{name}/{key}"): like for key, like in zip(_MOMENTS, likes, strict=True)}
    masks = checkpoint.groups.get("masks", {})
    if masks:
        wanted |= {("masks", name): weights[name].bool() for name in pruned}
    for (group, name), like in wanted.items():
        got = checkpoint.groups[group].get(name)
        if got is None or (got.shape, got.dtype) != (like.shape, like.dtype) or not _is_possible(name, got):
            what = (
                "is missing"
                if got is None
                else f"has {tuple(got.shape)} of {got.dtype}, or impossible values"
            )
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step}: damaged: {group}/{name} {what}; delete it"
            )
    for name in masks.keys() - set(pruned):
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step}: damaged: masks/{name} is of nothing that is pruned; delete it"
        )


def _is_possible(name: str, tensor: Tensor) -> bool:
    """Whether all is finite, and no mean of squares below 0."""
    return bool(torch.isfinite(tensor).all()) and not (name.endswith("/exp_avg_sq") and (tensor < 0).any())
