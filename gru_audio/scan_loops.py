"""Compiled loops of the scan: gates forward and backward, whole scans of them, and sums of table rows.

Callers make every buffer, in one of the types of bfloat16.py. Inner loops write one array each, as LLVM then
vectorises them. Shapes: see model.py; W is the width of a row; gates come in PyTorch's order r, z, n.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.bfloat16 import exponential, narrow, widen
from gru_audio.block_products import Blocks, Quads, multiply
from gru_audio.gates import FAST
from gru_audio.jit import compiled

Stored = npt.NDArray[Any]
"""Numbers in bf16 (as uint16), float32 or float64."""

_ONE, _TWO = np.float32(1), np.float32(2)


@compiled(fastmath=set(FAST), error_model="numpy")
def gates_forward(
    t: int, gates: Stored, product: Stored, bias: Stored, now: Stored, kept: Stored, hidden: Stored
) -> None:
    """One step of B streams: r = sigmoid(..), z = sigmoid(..), n = tanh(gates_n + r product_n), h = n + z (h - n).

    Source: torch.nn.GRU's documentation.

    Args:
        t: the step.
        gates: (K, B, 3H), what the inputs add.
        product: (B, 3H), W_hh h.
        bias: (3H,), b_hh.
        now: (B, H), h before and after, at full precision.
        kept: (K, B, 4, H) receives r, z, n and product_n with its bias, which the way back needs.
        hidden: (K + 1, B, H) receives h after the step at t + 1.
    """
    size = now.shape[1]
    r, z, n, inner = (
        np.empty_like(now[0]),
        np.empty_like(now[0]),
        np.empty_like(now[0]),
        np.empty_like(now[0]),
    )
    for b in range(now.shape[0]):
        from_inputs, from_state, h = gates[t, b], product[b], now[b]
        for j in range(size):
            r[j] = _ONE / (_ONE + exponential(-(widen(from_inputs[j]) + widen(from_state[j]) + bias[j])))
        for j in range(size):
            total = widen(from_inputs[size + j]) + widen(from_state[size + j]) + bias[size + j]
            z[j] = _ONE / (_ONE + exponential(-total))
        for j in range(size):
            inner[j] = widen(from_state[2 * size + j]) + bias[2 * size + j]
        for j in range(size):
            total = widen(from_inputs[2 * size + j]) + r[j] * inner[j]
            n[j] = _TWO / (_ONE + exponential(-_TWO * total)) - _ONE
        for j in range(size):
            h[j] = n[j] + z[j] * (h[j] - n[j])
        store_row(h, hidden[t + 1, b])
        store_row(r, kept[t, b, 0])
        store_row(z, kept[t, b, 1])
        store_row(n, kept[t, b, 2])
        store_row(inner, kept[t, b, 3])


@compiled(fastmath=set(FAST), error_model="numpy")
def gates_backward(
    t: int,
    from_product: Stored,
    above: Stored,
    hidden: Stored,
    kept: Stored,
    grad_gates: Stored,
    grad_product: Stored,
    grad_bias: Stored,
    carried: Stored,
) -> None:
    """The way back through `gates_forward`.

    Args:
        t: the step.
        from_product: (B, H), the gradient of h after the step that came through the next step's product.
        above: (K, B, H), the loss's gradient of the outputs.
        hidden: (K + 1, B, H), as `gates_forward` left them.
        kept: (K, B, 4, H), likewise.
        grad_gates: (K, B, 3H) receives the gradient of the gates.
        grad_product: (K, B, 3H) receives the gradient of the product.
        grad_bias: (3H,) at full precision, to which the bias's gradient is added.
        carried: (B, H), the rest of the gradient of h after the step; then that of h before it.
    """
    size = carried.shape[1]
    grad, part = np.empty_like(carried[0]), np.empty_like(carried[0])
    for b in range(carried.shape[0]):
        r, z, n, inner = kept[t, b, 0], kept[t, b, 1], kept[t, b, 2], kept[t, b, 3]
        to_gates, to_product = grad_gates[t, b], grad_product[t, b]
        outer, before, through, rest = above[t, b], hidden[t, b], from_product[b], carried[b]
        for j in range(size):
            grad[j] = rest[j] + widen(outer[j]) + widen(through[j])
        for j in range(size):
            share = widen(z[j])
            part[j] = grad[j] * (widen(before[j]) - widen(n[j])) * share * (_ONE - share)
        store_row(part, to_gates[size : 2 * size])
        store_row(part, to_product[size : 2 * size])
        add_row(part, grad_bias[size : 2 * size])
        for j in range(size):
            new = widen(n[j])
            part[j] = grad[j] * (_ONE - widen(z[j])) * (_ONE - new * new)
        store_row(part, to_gates[2 * size :])
        for j in range(size):
            rest[j] = grad[j] * widen(z[j])
        for j in range(size):
            grad[j] = part[j] * widen(r[j])
        store_row(grad, to_product[2 * size :])
        add_row(grad, grad_bias[2 * size :])
        for j in range(size):
            reset = widen(r[j])
            part[j] = part[j] * widen(inner[j]) * reset * (_ONE - reset)
        store_row(part, to_gates[:size])
        store_row(part, to_product[:size])
        add_row(part, grad_bias[:size])


@compiled()
def scan_forward(
    blocks: Blocks,
    state: Quads,
    product: Stored,
    gates: Stored,
    bias: Stored,
    now: Stored,
    kept: Stored,
    hidden: Stored,
) -> None:
    """All steps of `gates_forward`, each after its product.

    Args:
        blocks: of W_hh.
        state: (K + 1, B, H / 4), the quads of hidden.
        product: (B, 3H) scratch.
        gates: see `gates_forward`, as for the rest.
        bias: likewise.
        now: likewise.
        kept: likewise.
        hidden: likewise; (0,) holds h before the first step.
    """
    for t in range(gates.shape[0]):
        multiply(state[t], blocks, product)
        gates_forward(t, gates, product, bias, now, kept, hidden)


@compiled()
def scan_backward(
    blocks: Blocks,
    quads: Quads,
    through: Stored,
    above: Stored,
    hidden: Stored,
    kept: Stored,
    grad_gates: Stored,
    grad_product: Stored,
    grad_bias: Stored,
    carried: Stored,
) -> None:
    """All steps of `gates_backward`, from the last on, each before the way back through its product.

    Args:
        blocks: of W_hh's transpose.
        quads: (K, B, 3H / 4), those of grad_product.
        through: (B, H), 0; then the gradient of h before the first step that came through its product.
        above: see `gates_backward`, as for the rest.
        hidden: likewise.
        kept: likewise.
        grad_gates: likewise.
        grad_product: likewise.
        grad_bias: likewise.
        carried: likewise.
    """
    for t in range(kept.shape[0] - 1, -1, -1):
        gates_backward(t, through, above, hidden, kept, grad_gates, grad_product, grad_bias, carried)
        multiply(quads[t], blocks, through)


@compiled(fastmath=set(FAST), error_model="numpy")
def sum_rows(table: Stored, frames: Stored, rows: npt.NDArray[np.int64], total: Stored, sums: Stored) -> None:
    """Add up each step's table rows and its frame's row.

    Args:
        table: (N, W).
        frames: (B, F, W).
        rows: (B, K, n), the rows of the table that a step takes; K a multiple of F.
        total: (W,) scratch, float32 or float64.
        sums: (K, B, W) receives the sums.
    """
    steps_per_frame = sums.shape[0] // frames.shape[1]
    for k in range(sums.shape[0]):
        for b in range(sums.shape[1]):
            load_row(frames[b, k // steps_per_frame], total)
            for i in range(rows.shape[2]):
                add_row(table[rows[b, k, i]], total)
            store_row(total, sums[k, b])


@compiled(fastmath=set(FAST), error_model="numpy")
def spread_rows(
    grad_sums: Stored, rows: npt.NDArray[np.int64], grad: Stored, grad_table: Stored, grad_frames: Stored
) -> None:
    """The way back through `sum_rows`.

    Args:
        grad_sums: (K, B, W), the gradient of the sums.
        rows: as in `sum_rows`.
        grad: (W,) scratch, float32 or float64.
        grad_table: (N, W) of the same type, to which the table's gradient is added.
        grad_frames: (B, F, W) of the same type, to which the frames' gradient is added.
    """
    steps_per_frame = grad_sums.shape[0] // grad_frames.shape[1]
    for k in range(grad_sums.shape[0]):
        for b in range(grad_sums.shape[1]):
            load_row(grad_sums[k, b], grad)
            add_row(grad, grad_frames[b, k // steps_per_frame])
            for i in range(rows.shape[2]):
                add_row(grad, grad_table[rows[b, k, i]])


@compiled(fastmath=set(FAST), inline="always")
def load_row(row: Stored, total: Stored) -> None:
    """A row into a buffer of full precision."""
    for j in range(row.size):
        total[j] = widen(row[j])


@compiled(fastmath=set(FAST), inline="always")
def add_row(row: Stored, total: Stored) -> None:
    """A row added to a buffer of full precision."""
    for j in range(row.size):
        total[j] += widen(row[j])


@compiled(fastmath=set(FAST), inline="always")
def store_row(values: Stored, row: Stored) -> None:
    """A buffer into a row."""
    for j in range(row.size):
        row[j] = narrow(values[j], row)
