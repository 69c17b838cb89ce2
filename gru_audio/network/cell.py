"""The recurrent cell over time, in the numbers that autocast is set to."""

from typing import Any

import torch
from torch import Tensor, nn

State = Tensor | tuple[Tensor, Tensor]
"""(1, B, H); of an LSTM the hidden and the cell state."""

_FUNCTIONS: dict[type[nn.RNNBase], Any] = {nn.GRU: torch.gru, nn.LSTM: torch.lstm, nn.RNN: torch.rnn_tanh}


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
    weights = [weight.bfloat16() for weight in cell._flat_weights if weight is not None]
    _put_end_to_end(cell, weights)
    with torch.autocast(device, enabled=False):
        hidden, *last = _FUNCTIONS[type(cell)](
            inputs.bfloat16(), given, weights, cell.bias, 1, 0.0, cell.training, False, True
        )
    return hidden, (last[0], last[1]) if len(last) == 2 else last[0]


@torch.no_grad()
def _put_end_to_end(cell: nn.RNNBase, weights: list[Tensor]) -> None:
    """Lay the weights out as cuDNN wants them, which would otherwise copy them, and warn, at every call."""
    # Of float32, as torch does not count bf16 among cuDNN's types, which it is.
    if not torch.backends.cudnn.is_acceptable(cell.weight_hh_l0.data):  # type: ignore[no-untyped-call]
        return
    mode = torch.backends.cudnn.rnn.get_cudnn_mode(cell.mode)  # type: ignore[no-untyped-call]
    torch._cudnn_rnn_flatten_weight(
        weights, 4 if cell.bias else 2, cell.input_size, mode, cell.hidden_size, 0, 1, True, False
    )
