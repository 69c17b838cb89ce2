"""The optimiser's moments by the names of the weights that they belong to."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer


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
        optimizer.state[parameter] = {
            key: moments[f"{name}/{key}"].to(parameter.device) for key in ("step", "exp_avg", "exp_avg_sq")
        }
