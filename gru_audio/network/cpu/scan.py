"""The GRU over time on a CPU, with its own backward: what nn.GRU computes, in less time.

What a step reads are sums of table rows, by a loop in C: of embeddings, multiplied once for all steps, or of embeddings
times W_ih where products cost more. One (B, H) x (H, 3H) product a step remains, in bf16 under autocast; the gates are
loops in C; the weights' gradient is one product over all steps at the end, where nn.GRU adds a full one at every step.

Shapes: see model.py; gates come in PyTorch's order: r, z, n.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gru_audio.native import library
from gru_audio.native.tensors import Numbers, are_bf16, as_array
from gru_audio.network.cpu.block_products import Way, best_way
from gru_audio.network.cpu.linear import linear, product_type
from gru_audio.network.cpu.scan_products import BlockProducts, Products, Scan, ScanBack, TorchProducts
from gru_audio.network.cpu.shares import in_shares

_LANES = 16  # of a vector in C


def can_scan(cell: nn.Module, inputs: Tensor) -> bool:
    """Whether `scan` can stand in for a cell: a GRU in float32 or bf16 on the CPU."""
    kinds = {torch.float32, torch.bfloat16}
    is_gru = isinstance(cell, nn.GRU) and inputs.device.type == "cpu"
    return is_gru and {product_type(inputs.dtype), inputs.dtype} <= kinds


def scan(
    cell: nn.Module,
    table: Tensor,
    rows: Tensor,
    conditioning: Tensor,
    state: Tensor | None,
    kept: Tensor | None = None,
    way: Way | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a one-layer GRU on the sum of table rows and the frame's conditioning.

    Args:
        cell: an nn.GRU that `can_scan` allows.
        table: (N, C), embeddings.
        rows: (B, K, n), the rows that a step takes.
        conditioning: (B, F, C), K a multiple of F.
        state: (1, B, H), zeros if None.
        kept: (3H, H) bool, the recurrent weights that are not pruned; the others are 0, and may get no gradient.
        way: how to multiply, of those that `best_way` chooses from; by default the fastest.

    Returns:
        Hidden states (K, B, H), bf16 under autocast, and the last one (1, B, H).
    """
    weight_ih, weight_hh = cell.get_parameter("weight_ih_l0"), cell.get_parameter("weight_hh_l0")
    bias_ih, bias_hh = cell.get_parameter("bias_ih_l0"), cell.get_parameter("bias_hh_l0")
    numbers = product_type(table.dtype)
    way = way or best_way(numbers, weight_hh.shape[1])
    if way == "tiles":
        inputs = row_sum(table, conditioning, rows, numbers)  # (K, B, C)
        gates = linear(inputs, weight_ih)  # (K, B, 3H)
    else:  # a product of all steps would cost more than summing wide rows
        folded, frames = (nn.functional.linear(part, weight_ih) for part in (table, conditioning))
        gates = row_sum(folded, frames, rows, numbers)
    products: Products = TorchProducts(weight_hh, numbers)
    if way != "torch":
        products = BlockProducts(weight_hh, kept, way)
    before = table.new_zeros(len(rows), weight_hh.shape[1]) if state is None else state[0]
    goes_back = torch.is_grad_enabled()
    hidden = gru_scan(gates, before, weight_hh, bias_ih, bias_hh, products, goes_back)
    return hidden, hidden[-1:]


class RowSum(torch.autograd.Function):
    """(K, B, W), each step's sum of rows of a table (N, W) and of its frame's row of (B, F, W)."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, frames: Tensor, rows: Tensor, numbers: torch.dtype) -> Tensor:
        """Add up rows (B, K, n) of the table; `numbers` is the type of the sums."""
        n_batch, n_steps, _ = rows.shape
        sums = torch.empty(n_steps, n_batch, table.shape[1], dtype=numbers)
        ctx.save_for_backward(rows)
        ctx.parts = [(part.shape, part.dtype) for part in (table, frames)]
        if not table.dtype == frames.dtype == numbers:
            table, frames = table.float(), frames.float()
        in_shares(_with_rows(_sum_rows, table, frames, rows, sums), sums.shape[2], _LANES)
        return sums

    @staticmethod
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of the table and the frames."""
        (rows,) = ctx.saved_tensors
        table, frames = (torch.zeros(shape) for shape, _ in ctx.parts)
        in_shares(_with_rows(_spread_rows, table, frames, rows, grad_sums), table.shape[1], _LANES)
        (_, of_table), (_, of_frames) = ctx.parts
        return table.to(of_table), frames.to(of_frames), None, None


class GRUScan(torch.autograd.Function):
    """Hidden states (K, B, H) from what the inputs add to the gates (K, B, 3H), a state (B, H), W_hh, b_ih and b_hh.

    Products and what is kept for the way back are in the gates' type, bf16 or float32; the state is in float32. The
    memory of the gates is used again: nothing else may need it. Source: the equations of torch.nn.GRU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        state: Tensor,
        weight: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        products: Products,
        goes_back: bool,
    ) -> Tensor:
        """Run all K steps, with products of this weight; `goes_back` says whether gradients will be wanted."""
        n_steps, n_batch, size = len(gates), len(state), weight.shape[1]
        gates = gates.contiguous()
        hidden = gates.new_empty(n_steps + 1, n_batch, size)
        hidden[0] = state
        now = torch.empty(n_batch, size).copy_(state)
        inner = gates.new_empty(n_steps, n_batch, size) if goes_back else None
        biases = torch.cat([(bias_ih + bias_hh)[: 2 * size], bias_ih[2 * size :], bias_hh[2 * size :]])
        products.scan_forward(_scan_of(gates, inner, hidden, biases.float(), now), hidden)
        if inner is not None:
            ctx.save_for_backward(gates, inner, hidden)
            ctx.products, ctx.weight_type = products, weight.dtype
        return hidden[1:]

    @staticmethod
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the gates, the state, the weight and the biases."""
        gates, inner, hidden = ctx.saved_tensors
        assert not hasattr(ctx, "is_spent"), "the first way back used up what it needs"
        ctx.is_spent = True
        _, n_batch, size = inner.shape
        carried, above = torch.zeros(n_batch, size), as_array(grad_hidden)

        def back_into(grad_product: Tensor, grad_biases: Tensor) -> ScanBack:
            return ScanBack(
                scan=_scan_of(gates, inner, hidden, grad_biases, carried),
                above=above,
                grad_product=as_array(grad_product),
                grad_biases=as_array(grad_biases),
                carried=as_array(carried),
            )

        through, grad_biases = ctx.products.scan_backward(back_into, n_batch)
        of_both, of_inner = gates.flatten(0, 1)[:, : 2 * size], inner.flatten(0, 1)
        grad_weight = ctx.products.weight_gradient(of_both, of_inner, hidden[:-1].flatten(0, 1))
        biases = grad_biases[: 3 * size], torch.cat([grad_biases[: 2 * size], grad_biases[3 * size :]])
        return gates, carried + through, grad_weight.to(ctx.weight_type), *biases, None, None


class _Rows(library.Struct):
    """See native/training/rows.c."""

    _fields_ = (
        ("n_steps", library.Int),
        ("n_batch", library.Int),
        ("n_frames", library.Int),
        ("n_rows", library.Int),
        ("width", library.Int),
        ("begin", library.Int),
        ("end", library.Int),
        ("sums_are_bf16", library.Int),
        ("tables_are_bf16", library.Int),
        ("rows", library.Int64s),
        ("table", Numbers),
        ("frames", Numbers),
        ("sums", Numbers),
    )


def _with_rows(
    function: Callable[[_Rows], None], table: Tensor, frames: Tensor, rows: Tensor, sums: Tensor
) -> Callable[[int, int], None]:
    """A function in C of the columns from one to before another."""
    n_batch, n_steps, n_rows = rows.shape
    make = partial(
        _Rows,
        n_steps=n_steps,
        n_batch=n_batch,
        n_frames=frames.shape[1],
        n_rows=n_rows,
        width=table.shape[1],
        sums_are_bf16=are_bf16(sums),
        tables_are_bf16=are_bf16(table),
        rows=as_array(rows),
        table=as_array(table),
        frames=as_array(frames),
        sums=as_array(sums),
    )
    return lambda begin, end: function(make(begin=begin, end=end))


def _scan_of(gates: Tensor, inner: Tensor | None, hidden: Tensor, biases: Tensor, state: Tensor) -> Scan:
    n_steps, n_batch, width = gates.shape
    return Scan(
        n_steps=n_steps,
        n_batch=n_batch,
        size=width // 3,
        are_bf16=are_bf16(gates),
        gates=as_array(gates),
        inner=None if inner is None else as_array(inner),
        hidden=as_array(hidden),
        biases=as_array(biases),
        state=as_array(state),
    )


_sum_rows = library.function("gru_sum_rows", [_Rows])
_spread_rows = library.function("gru_spread_rows", [_Rows])
row_sum: Callable[..., Tensor] = RowSum.apply  # which torch declares no types for
gru_scan: Callable[..., Tensor] = GRUScan.apply
