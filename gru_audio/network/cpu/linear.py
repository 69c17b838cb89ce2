"""Products of very many rows on a CPU, as training has them: nn.functional.linear with a faster way back."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gru_audio.network.blocks import BLOCK_ROWS
from gru_audio.network.cpu.block_products import Places, can_use_tiles, sum_outer_products


def product_type(numbers: torch.dtype) -> torch.dtype:
    """The type in which torch multiplies such numbers on the CPU."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else numbers


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What nn.functional.linear gives of inputs (..., I) and a weight (O, I).

    The weight's gradient is a sum over all rows, for which oneDNN takes twice the time that the tiles of AMX take here.
    """
    sizes_fit = not any(size % BLOCK_ROWS for size in weight.shape)
    if product_type(inputs.dtype) == torch.bfloat16 and sizes_fit and can_use_tiles():
        return _apply(inputs, weight, bias)
    return nn.functional.linear(inputs, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """In bf16."""
        low = inputs.bfloat16()
        ctx.save_for_backward(low, weight)
        ctx.numbers, ctx.has_bias = inputs.dtype, bias is not None
        return nn.functional.linear(low, weight.bfloat16(), None if bias is None else bias.bfloat16())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Gradients of the inputs, the weight and the bias."""
        inputs, weight = ctx.saved_tensors
        rows, total = grad.flatten(0, -2), torch.zeros(weight.shape)  # (N, O), (O, I)
        kept = Places.of(weight.shape, None, in_tiles=True)
        sum_outer_products(rows, inputs.flatten(0, -2), kept, True, total)
        grad_inputs = (grad @ weight.bfloat16()).to(ctx.numbers)
        return grad_inputs, total.to(weight.dtype), rows.sum(0) if ctx.has_bias else None


_apply: Callable[..., Tensor] = _Linear.apply  # which torch declares no types for
