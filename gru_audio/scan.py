"""The GRU over time on a CPU, with its own backward: what nn.GRU computes, in less time.

The input layer is folded: a code's embedding times W_ih is a row of a table, so a step adds up rows. One (B, H) x
(H, 3H) product a step remains, in bf16 under autocast; the gates are fused loops; the weights' gradient is one
product over all steps at the end, where nn.GRU adds a full one at every step.

Shapes: see model.py; W is the width of a row; gates come in PyTorch's order: r, z, n.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gru_audio.bfloat16 import as_array, as_rows
from gru_audio.block_products import (
    blocks_of,
    can_multiply_blocks,
    quads_of,
    sum_outer_products,
    transposed_blocks_of,
)
from gru_audio.scan_loops import (
    gates_backward,
    gates_forward,
    scan_backward,
    scan_forward,
    spread_rows,
    sum_rows,
)


def can_scan(cell: nn.Module, inputs: Tensor) -> bool:
    """Whether `scan` can stand in for a cell: a GRU in float32 or bf16 on the CPU."""
    autocast_to = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    kinds = (torch.float32, torch.bfloat16)
    return (
        isinstance(cell, nn.GRU) and inputs.device.type == "cpu" and {autocast_to, inputs.dtype} <= set(kinds)
    )


def scan(
    cell: nn.Module,
    table: Tensor,
    rows: Tensor,
    conditioning: Tensor,
    state: Tensor | None,
    kept: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a one-layer GRU on the sum of table rows and the frame's conditioning.

    Args:
        cell: an nn.GRU that `can_scan` allows.
        table: (N, C), embeddings.
        rows: (B, K, n), the rows that a step takes.
        conditioning: (B, F, C), K a multiple of F.
        state: (1, B, H), zeros if None.
        kept: (3H, H) bool, the recurrent weights that are not pruned; the others are 0, and may get no gradient.

    Returns:
        Hidden states (K, B, H), bf16 under autocast, and the last one (1, B, H).
    """
    weight_ih, weight_hh = cell.get_parameter("weight_ih_l0"), cell.get_parameter("weight_hh_l0")
    bias_ih, bias_hh = cell.get_parameter("bias_ih_l0"), cell.get_parameter("bias_hh_l0")
    frames = nn.functional.linear(conditioning, weight_ih, bias_ih)  # (B, F, 3H)
    gates = RowSum.apply(nn.functional.linear(table, weight_ih), frames, rows)  # (K, B, 3H)
    before = frames.new_zeros(rows.shape[0], weight_hh.shape[1]) if state is None else state[0]
    hidden = GRUScan.apply(gates, before.to(weight_hh.dtype), weight_hh, bias_hh, kept)
    return hidden, hidden[-1:]


class RowSum(torch.autograd.Function):
    """(K, B, W), each step's sum of rows of a table (N, W) and of its frame's row of (B, F, W)."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, frames: Tensor, rows: Tensor) -> Tensor:
        """Add up rows (B, K, n) of the table."""
        n_batch, n_steps, _ = rows.shape
        sums = table.new_empty(n_steps, n_batch, table.shape[1])
        scratch = torch.empty(table.shape[1], dtype=_full_precision(table))
        sum_rows(as_rows(table), as_rows(frames), as_array(rows), as_array(scratch), as_rows(sums))
        ctx.save_for_backward(rows)
        ctx.shapes, ctx.dtype = (table.shape, frames.shape), table.dtype
        return sums

    @staticmethod
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of the table and the frames."""
        (rows,) = ctx.saved_tensors
        full = _full_precision(grad_sums)
        table, frames = (torch.zeros(shape, dtype=full) for shape in ctx.shapes)
        scratch = torch.empty(table.shape[1], dtype=full)
        spread_rows(as_rows(grad_sums), as_array(rows), as_array(scratch), as_rows(table), as_rows(frames))
        return table.to(ctx.dtype), frames.to(ctx.dtype), None


class GRUScan(torch.autograd.Function):
    """Hidden states (K, B, H) from gate inputs (K, B, 3H), a state (B, H), W_hh (3H, H) and b_hh (3H,).

    Products are in the gate inputs' type, sums in the state's. Source: the equations of torch.nn.GRU.
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, state: Tensor, weight: Tensor, bias: Tensor, kept_weights: Tensor | None
    ) -> Tensor:
        """Run all K steps; `kept_weights` as `kept` of `scan`."""
        n_steps, n_batch, width = gates.shape
        hidden = gates.new_empty(n_steps + 1, n_batch, width // 3)
        hidden[0] = state
        kept = gates.new_empty(n_steps, n_batch, 4, width // 3)
        now = state.detach().clone()
        matrix = weight.detach().to(gates.dtype)
        arrays = [as_rows(part, width // 3) for part in (gates, bias, now, kept, hidden)]
        ctx.blocks, ctx.kept_weights = None, kept_weights
        if can_multiply_blocks(gates.dtype, width // 3):
            ctx.blocks = blocks_of(matrix, kept_weights)
            product = as_array(torch.empty(n_batch, width))
            scan_forward(ctx.blocks, quads_of(hidden), product, *arrays)
        else:
            multiply = _multiplier(matrix, n_batch)
            for t in range(n_steps):
                gates_forward(t, arrays[0], as_rows(multiply(hidden[t]), width // 3), *arrays[1:])
        ctx.save_for_backward(hidden, kept, weight)
        return hidden[1:]

    @staticmethod
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        """Gradients of the gate inputs, the state, the weight and the bias."""
        hidden, kept, weight = ctx.saved_tensors
        n_steps, n_batch, _, size = kept.shape
        matrix = weight.to(hidden.dtype)
        grad_gates = hidden.new_empty(n_steps, n_batch, 3 * size)
        grad_product = torch.empty_like(grad_gates)
        grad_bias = torch.zeros(3 * size, dtype=weight.dtype)
        carried = torch.zeros(n_batch, size, dtype=weight.dtype)
        parts = grad_hidden, hidden, kept, grad_gates, grad_product, grad_bias, carried
        arrays = [as_rows(part, size) for part in parts]
        to_product, state = grad_product.flatten(0, 1), hidden[:-1].flatten(0, 1)  # (K B, 3H), (K B, H)
        if ctx.blocks is not None:
            blocks = transposed_blocks_of(matrix, ctx.kept_weights)
            through, grad_weight = torch.zeros(n_batch, size), torch.zeros_like(weight)
            scan_backward(blocks, quads_of(grad_product), as_array(through), *arrays)
            sum_outer_products(as_array(to_product), as_array(state), ctx.blocks, as_array(grad_weight))
        else:
            multiply, through = _multiplier(matrix.t().contiguous(), n_batch), hidden.new_zeros(n_batch, size)
            for t in range(n_steps - 1, -1, -1):
                gates_backward(t, as_array(through), *arrays)
                through = multiply(grad_product[t])
            grad_weight = (to_product.t() @ state).to(weight.dtype)
        return grad_gates, carried + through, grad_weight, grad_bias, None


def _full_precision(tensor: Tensor) -> torch.dtype:
    """The type in which numbers of a tensor are added up."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _multiplier(weight: Tensor, n_batch: int) -> Callable[[Tensor], Tensor]:
    """The product x -> x weight^T of x (B, in) with a weight (out, in) that is used many times.

    oneDNN rearranges a weight at every product; where torch offers to do it once, a product takes 0.6 of the time.
    """
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, n_batch)
    except (AttributeError, RuntimeError):  # not in this build, or not for this type on this CPU
        return partial(nn.functional.linear, weight=weight)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
