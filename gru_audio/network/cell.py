"""The recurrent cell over time, in the numbers that autocast is set to."""

from typing import Any

import torch
from torch import Tensor, nn

from gru_audio.network.torch_private import put_end_to_end, weights_of

State = Tensor | tuple[Tensor, Tensor]
"""(1, B, H); of an LSTM the hidden and the cell state."""

FUNCTIONS: dict[type[nn.RNNBase], Any] = {nn.GRU: torch.gru, nn.LSTM: torch.lstm, nn.RNN: torch.rnn_tanh}
"""What computes each cell."""


def run_cell(cell: nn.RNNBase, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
    """Hidden states (B, K, H) of inputs (B, K, C), and the state after the last.

    Under bf16 it multiplies in bf16. Torch's autocast does not: on a GPU it gives every cell float16, whose gradients
    vanish without a loss scale, and on a CPU it leaves a GRU in float32.
    """
    device = inputs.device.type
    if not torch.is_autocast_enabled(device) or torch.get_autocast_dtype(device) != torch.bfloat16:
        return cell(inputs, state)  # type: ignore[no-any-return]
    size = (1, inputs.shape[0], cell.hidden_size)
    given: Any
    if isinstance(state, tuple):
        given = tuple(part.bfloat16() for part in state)
    elif state is not None:
        given = state.bfloat16()
    else:
        zeros = inputs.new_zeros(size, dtype=torch.bfloat16)
        given = (zeros, zeros) if isinstance(cell, nn.LSTM) else zeros
    weights = [weight.bfloat16() for weight in weights_of(cell)]
    put_end_to_end(cell, weights)
    with torch.autocast(device, enabled=False):
        hidden, *last = FUNCTIONS[type(cell)](
            inputs.bfloat16(), given, weights, cell.bias, 1, 0.0, cell.training, False, True
        )
    return hidden, (last[0], last[1]) if len(last) == 2 else last[0]
