"""A larger network that begins as a smaller voice: the same sound at first, and room to learn more.

The voice's units come first and keep their weights. A new unit starts with random weights from all that it hears, and
with zeros to all that hears it: to the voice's units and to the readout. So the first output is the voice's, and the
gradient wakes the new units.

Source: Chen et al., Net2Net (2016), for growth that keeps the function; there units are copied, here they are silent.
"""

from torch import Tensor

from gru_audio.config import GATES
from gru_audio.network.blocks import READOUT_WEIGHT, RECURRENT_WEIGHT

_GATES = GATES["gru"]


def grown(name: str, weights: Tensor, own: Tensor, old_size: int) -> Tensor:
    """A tensor of the larger network: the voice's, with new units after its own.

    Args:
        name: of the tensor in the network.
        weights: the voice's.
        own: the larger network's, with random weights; where the shapes are the same, only its shape counts.
        old_size: H of the voice, where the larger network's H is more.
    """
    if weights.shape == own.shape:
        return weights
    if name == READOUT_WEIGHT:  # (S R, H)
        wide = own.new_zeros(own.shape)
        wide[:, :old_size] = weights
        return wide
    gates = own.clone().view(_GATES, -1, *own.shape[1:])  # (3, H, …)
    old = weights.reshape(_GATES, -1, *weights.shape[1:])
    if name == RECURRENT_WEIGHT:
        gates[:, :old_size] = 0
        gates[:, :old_size, :old_size] = old
    else:
        gates[:, :old_size] = old
    return gates.view(own.shape)
