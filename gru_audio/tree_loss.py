"""The readout and its likelihood on a CPU, forward and backward in one pass over the samples.

A tree's likelihood needs the logits of the nodes on a code's path alone: 8 of 255. Each sample's readout, those
logits and all their gradients are worked out while its numbers are in the first cache.

Shapes: see model.py.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gru_audio.bfloat16 import as_array, as_rows, exponential
from gru_audio.gates import FAST
from gru_audio.jit import compiled
from gru_audio.scan_loops import Stored, add_row, add_to_row, load_row, store_row

_ZERO, _ONE = np.float32(0), np.float32(1)


class Readout(NamedTuple):
    """What the distribution of each sample is made from.

    Attributes:
        hidden: (K, B, S R), the recurrent state's part, in bf16, float32 or float64.
        frames: (B, F, R), the conditioning's part.
        table: (N, R), embeddings of the codes.
        weight: (Q - 1, R) of the tree's nodes.
        bias: (Q - 1,).
    """

    hidden: Tensor
    frames: Tensor
    table: Tensor
    weight: Tensor
    bias: Tensor


def tree_loss(readout: Readout, rows: Tensor, codes: Tensor) -> Tensor:
    """Mean of -ln P(code) over all samples.

    Args:
        readout: on the CPU.
        rows: (B, T, n), the rows of the table that a sample takes.
        codes: (B, T) integers 0 to Q - 1.

    Returns:
        A scalar, in nats.
    """
    return _TreeLoss.apply(rows, codes, *readout)  # type: ignore[no-any-return]


class _TreeLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, codes: Tensor, *parts: Tensor) -> Tensor:
        """The loss, and with it all gradients, which wait for the way back."""
        readout = Readout(*parts)
        kind = readout.weight.dtype
        full = readout._replace(frames=readout.frames.to(kind), table=readout.table.to(kind))
        of_hidden = torch.empty(readout.hidden.shape, dtype=readout.hidden.dtype)
        gradients = Readout(of_hidden, *(torch.zeros(part.shape, dtype=kind) for part in full[1:]))
        size = readout.weight.shape[1]
        scratch = torch.empty(2, size, dtype=kind)
        arrays: list[Any] = [as_array(part) for part in (rows, codes.contiguous(), *scratch)]
        arrays += [as_rows(part, size) for part in (*full[:-1], *gradients[:-1])]
        arrays += map(as_array, (full.bias, gradients.bias))
        loss = _loss_and_gradients(readout.hidden.shape[-1] // size, *arrays)
        ctx.gradients = [gradient.to(part.dtype) for gradient, part in zip(gradients, parts, strict=True)]
        return torch.tensor(loss, dtype=kind)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The loss's gradients times what is above it."""
        return (None, None, *(gradient * grad for gradient in ctx.gradients))


@compiled(fastmath=set(FAST), error_model="numpy")
def _loss_and_gradients(
    stride: int,
    rows: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int64],
    activation: Stored,
    back: Stored,
    hidden: Stored,
    frames: Stored,
    table: Stored,
    weight: Stored,
    grad_hidden: Stored,
    grad_frames: Stored,
    grad_table: Stored,
    grad_weight: Stored,
    bias: Stored,
    grad_bias: Stored,
) -> float:
    """The mean loss; gradients of the tables and weights are added to, that of the hidden part is written.

    Matrices are those of `Readout` as rows of R numbers; `stride` is S; `activation` and `back` are scratch (R,).
    """
    (n_batch, n_samples), size = codes.shape, weight.shape[1]
    n_frames = frames.shape[0] // n_batch
    total, share = 0.0, weight.dtype.type(1 / codes.size)
    for t in range(n_samples):
        for b in range(n_batch):
            place = (t // stride * n_batch + b) * stride + t % stride
            frame = b * n_frames + t * n_frames // n_samples
            load_row(hidden, place, activation)
            add_row(frames, frame, activation)
            for i in range(rows.shape[2]):
                add_row(table, rows[b, t, i], activation)
            for j in range(size):
                activation[j] = max(activation[j], _ZERO)
                back[j] = _ZERO
            total += _follow_path(codes[b, t], share, activation, weight, bias, back, grad_weight, grad_bias)
            for j in range(size):
                back[j] = back[j] if activation[j] > _ZERO else _ZERO
            store_row(back, grad_hidden, place)
            add_to_row(back, grad_frames, frame)
            for i in range(rows.shape[2]):
                add_to_row(back, grad_table, rows[b, t, i])
    return float(total * share)


@compiled(fastmath=set(FAST), error_model="numpy")
def _follow_path(
    code: int,
    share: float,
    activation: Stored,
    weight: Stored,
    bias: Stored,
    back: Stored,
    grad_weight: Stored,
    grad_bias: Stored,
) -> float:
    """-ln P(code), and `share` times its gradients, added up.

    A node's logit is the log odds of bit 1: with e = exp(-|logit|), -ln P(bit) is ln(1 + e), plus |logit| where the
    bit is the unlikely one. The logarithms are taken of the product, which is at most 2**bits.
    """
    n_nodes = weight.shape[0]
    low, width, node = (
        0,
        (n_nodes + 1) // 2,
        0,
    )  # the first code below the node, and half as many as there are
    product, against = share / share, share - share  # 1 and 0 of its type
    while node < n_nodes:
        logit = bias[node]
        for j in range(activation.size):
            logit += activation[j] * weight[node, j]
        is_upper = code >= low + width
        power = exponential(-abs(logit))
        product *= _ONE + power
        sigmoid = (_ONE if logit >= _ZERO else power) / (_ONE + power)
        against += max(-logit if is_upper else logit, _ZERO)
        slope = share * (sigmoid - (_ONE if is_upper else _ZERO))
        grad_bias[node] += slope
        for j in range(activation.size):
            back[j] += slope * weight[node, j]
        for j in range(activation.size):
            grad_weight[node, j] += slope * activation[j]
        low, node = (low + width, 2 * node + 2) if is_upper else (low, 2 * node + 1)
        width //= 2
    return float(math.log(product) + against)
