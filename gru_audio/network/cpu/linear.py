"""Products of very many rows on a CPU, as training has them: nn.functional.linear with a faster way back."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gru_audio.network.blocks import BLOCK_ROWS
from gru_audio.network.cpu.block_products import (
    Places,
    blocks_of,
    can_use_tiles,
    multiply,
    sum_outer_products,
    transposed_blocks_of,
)


def product_type(numbers: torch.dtype) -> torch.dtype:
    """The type in which torch multiplies such numbers on the CPU."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else numbers


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
    """What nn.functional.linear gives of inputs (..., I) and a weight (O, I), in less time where that can be had.

    In bf16 with AMX the weight's gradient, a sum over all rows, takes half of oneDNN's time in tiles. In float32 what
    is pruned costs nothing.

    Args:
        inputs: (..., I).
        weight: (O, I).
        bias: (O,).
        kept: (O, I) bool, the weights that are not pruned; the others are 0, and may get no gradient. None: all.
    """
    numbers = product_type(inputs.dtype)
    if not any(size % BLOCK_ROWS for size in weight.shape):
        if numbers == torch.bfloat16 and can_use_tiles():
            return _in_tiles(inputs, weight, bias)
        if numbers == weight.dtype == torch.float32 and kept is not None:
            product: Tensor = _in_blocks(inputs, weight, kept)
            return product if bias is None else product + bias
    return nn.functional.linear(inputs, weight, bias)


class _TileLinear(torch.autograd.Function):
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
        kept = Places.of(weight.shape, None, "tiles")
        sum_outer_products(rows, inputs.flatten(0, -2), kept, "tiles", total)
        grad_inputs = (grad @ weight.bfloat16()).to(ctx.numbers)
        return grad_inputs, total.to(weight.dtype), rows.sum(0) if ctx.has_bias else None


class _BlockLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, kept: Tensor) -> Tensor:
        """In float32."""
        ctx.save_for_backward(inputs, weight)
        ctx.kept = kept
        product = multiply(inputs.flatten(0, -2), blocks_of(weight.detach(), kept, "floats"))
        return product.view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of the inputs and the weight."""
        inputs, weight = ctx.saved_tensors
        rows, total = grad.flatten(0, -2).contiguous(), torch.zeros(weight.shape)  # (N, O), (O, I)
        places = Places.of(weight.shape, ctx.kept, "floats")
        sum_outer_products(rows, inputs.flatten(0, -2), places, "floats", total)
        through = multiply(rows, transposed_blocks_of(weight.detach(), ctx.kept, "floats"))
        return through.view(inputs.shape), total, None


_in_tiles: Callable[..., Tensor] = _TileLinear.apply  # which torch declares no types for
_in_blocks: Callable[..., Tensor] = _BlockLinear.apply
