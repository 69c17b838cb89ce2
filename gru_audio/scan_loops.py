"""Compiled loops of the scan: gates forward and backward, whole scans of them, and sums of table rows.

Callers make every buffer, in one of the types of bfloat16.py, as rows (N, W) of which a loop takes one by its number:
views of rows, or arrays made by the function that has the loop, have their references counted at every use, which took
half of tree_loss.py's time. Inner loops write one array each, as LLVM then vectorises them.

Shapes: see model.py; W is the width of a row. Gates come in PyTorch's order r, z, n, in three rows of H numbers: gate
g of stream b at step t is row 3 (t B + b) + g of (3 K B, H).
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
        gates: (3 K B, H), what the inputs add.
        product: (3 B, H), W_hh h.
        bias: (3, H), b_hh.
        now: (B, H), h before and after, at full precision.
        kept: (4 K B, H) receives r, z, n and product_n with its bias, which the way back needs.
        hidden: ((K + 1) B, H) receives h after the step.
    """
    n_batch, size = now.shape
    r, z = np.empty_like(now[0]), np.empty_like(now[0])
    n, inner = np.empty_like(now[0]), np.empty_like(now[0])
    for b in range(n_batch):
        row = t * n_batch + b
        at, to = 3 * row, 3 * b
        for j in range(size):
            total = widen(gates[at, j]) + widen(product[to, j]) + bias[0, j]
            r[j] = _ONE / (_ONE + exponential(-total))
        for j in range(size):
            total = widen(gates[at + 1, j]) + widen(product[to + 1, j]) + bias[1, j]
            z[j] = _ONE / (_ONE + exponential(-total))
        for j in range(size):
            inner[j] = widen(product[to + 2, j]) + bias[2, j]
        for j in range(size):
            total = widen(gates[at + 2, j]) + r[j] * inner[j]
            n[j] = _TWO / (_ONE + exponential(-_TWO * total)) - _ONE
        for j in range(size):
            now[b, j] = n[j] + z[j] * (now[b, j] - n[j])
        for j in range(size):
            hidden[row + n_batch, j] = narrow(now[b, j], hidden)
        store_row(r, kept, 4 * row)
        store_row(z, kept, 4 * row + 1)
        store_row(n, kept, 4 * row + 2)
        store_row(inner, kept, 4 * row + 3)


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
        above: (K B, H), the loss's gradient of the outputs.
        hidden: ((K + 1) B, H), as `gates_forward` left them.
        kept: (4 K B, H), likewise.
        grad_gates: (3 K B, H) receives the gradient of the gates.
        grad_product: (3 K B, H) receives the gradient of the product.
        grad_bias: (3, H) at full precision, to which the bias's gradient is added.
        carried: (B, H), the rest of the gradient of h after the step; then that of h before it.
    """
    n_batch, size = carried.shape
    grad, part = np.empty_like(carried[0]), np.empty_like(carried[0])
    for b in range(n_batch):
        row = t * n_batch + b
        at = 3 * row
        r, z, n, inner = 4 * row, 4 * row + 1, 4 * row + 2, 4 * row + 3
        for j in range(size):
            grad[j] = carried[b, j] + widen(above[row, j]) + widen(from_product[b, j])
        for j in range(size):
            share = widen(kept[z, j])
            change = widen(hidden[row, j]) - widen(kept[n, j])
            part[j] = grad[j] * change * share * (_ONE - share)
        store_row(part, grad_gates, at + 1)
        store_row(part, grad_product, at + 1)
        add_to_row(part, grad_bias, 1)
        for j in range(size):
            new = widen(kept[n, j])
            part[j] = grad[j] * (_ONE - widen(kept[z, j])) * (_ONE - new * new)
        store_row(part, grad_gates, at + 2)
        for j in range(size):
            carried[b, j] = grad[j] * widen(kept[z, j])
        for j in range(size):
            grad[j] = part[j] * widen(kept[r, j])
        store_row(grad, grad_product, at + 2)
        add_to_row(grad, grad_bias, 2)
        for j in range(size):
            reset = widen(kept[r, j])
            part[j] = part[j] * widen(kept[inner, j]) * reset * (_ONE - reset)
        store_row(part, grad_gates, at)
        store_row(part, grad_product, at)
        add_to_row(part, grad_bias, 0)


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
        hidden: likewise; its first B rows hold h before the first step.
    """
    product_rows = product.reshape(-1, now.shape[1])
    for t in range(state.shape[0] - 1):
        multiply(state[t], blocks, product)
        gates_forward(t, gates, product_rows, bias, now, kept, hidden)


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
    for t in range(quads.shape[0] - 1, -1, -1):
        gates_backward(t, through, above, hidden, kept, grad_gates, grad_product, grad_bias, carried)
        multiply(quads[t], blocks, through)


@compiled(fastmath=set(FAST), error_model="numpy")
def sum_rows(table: Stored, frames: Stored, rows: npt.NDArray[np.int64], total: Stored, sums: Stored) -> None:
    """Add up each step's table rows and its frame's row.

    Args:
        table: (N, W).
        frames: (B F, W).
        rows: (B, K, n), the rows of the table that a step takes; K a multiple of F.
        total: (W,) scratch, float32 or float64.
        sums: (K B, W) receives the sums.
    """
    n_batch, n_steps, n_rows = rows.shape
    n_frames = frames.shape[0] // n_batch
    for k in range(n_steps):
        frame = k * n_frames // n_steps
        for b in range(n_batch):
            load_row(frames, b * n_frames + frame, total)
            for i in range(n_rows):
                add_row(table, rows[b, k, i], total)
            store_row(total, sums, k * n_batch + b)


@compiled(fastmath=set(FAST), error_model="numpy")
def spread_rows(
    grad_sums: Stored, rows: npt.NDArray[np.int64], grad: Stored, grad_table: Stored, grad_frames: Stored
) -> None:
    """The way back through `sum_rows`.

    Args:
        grad_sums: (K B, W), the gradient of the sums.
        rows: as in `sum_rows`.
        grad: (W,) scratch, float32 or float64.
        grad_table: (N, W) of the same type, to which the table's gradient is added.
        grad_frames: (B F, W) of the same type, to which the frames' gradient is added.
    """
    n_batch, n_steps, n_rows = rows.shape
    n_frames = grad_frames.shape[0] // n_batch
    for k in range(n_steps):
        frame = k * n_frames // n_steps
        for b in range(n_batch):
            load_row(grad_sums, k * n_batch + b, grad)
            add_to_row(grad, grad_frames, b * n_frames + frame)
            for i in range(n_rows):
                add_to_row(grad, grad_table, rows[b, k, i])


@compiled(fastmath=set(FAST), inline="always")
def load_row(rows: Stored, row: int, values: Stored) -> None:
    """A row of (N, W) into a buffer (W,) of full precision."""
    for j in range(values.size):
        values[j] = widen(rows[row, j])


@compiled(fastmath=set(FAST), inline="always")
def add_row(rows: Stored, row: int, values: Stored) -> None:
    """A row of (N, W) added to a buffer (W,) of full precision."""
    for j in range(values.size):
        values[j] += widen(rows[row, j])


@compiled(fastmath=set(FAST), inline="always")
def add_to_row(values: Stored, rows: Stored, row: int) -> None:
    """A buffer (W,) added to a row of (N, W), both of full precision."""
    for j in range(values.size):
        rows[row, j] += values[j]


@compiled(fastmath=set(FAST), inline="always")
def store_row(values: Stored, rows: Stored, row: int) -> None:
    """A buffer (W,) into a row of (N, W)."""
    for j in range(values.size):
        rows[row, j] = narrow(values[j], rows)
