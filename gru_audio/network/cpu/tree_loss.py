"""The readout and its likelihood on a CPU, forward and backward in one pass over the samples.

A tree's likelihood needs the logits of the nodes on a code's path alone: 8 of 255. Each sample's readout, those
logits and all their gradients are worked out while its numbers are in the first cache.

Shapes: see model.py.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gru_audio.native import library
from gru_audio.native.tensors import Numbers, are_bf16, as_array
from gru_audio.network.cpu.shares import in_shares


class Readout(NamedTuple):
    """What the distribution of each sample is made from.

    Attributes:
        hidden: (K, B, S R), the recurrent state's part, in bf16 or float32.
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
    goes_back = torch.is_grad_enabled() and any(part.requires_grad for part in readout)
    return _apply(goes_back, rows, codes, *readout)


class _TreeLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, goes_back: bool, rows: Tensor, codes: Tensor, *parts: Tensor) -> Tensor:
        """The loss, and with it all gradients where they are wanted, which wait for the way back."""
        hidden, *others = parts
        others = [part.float() for part in others]
        of_hidden = torch.empty_like(hidden) if goes_back else None

        def run(begin: int, end: int) -> tuple[float, list[Tensor]]:
            own = [torch.zeros_like(part) for part in others] if goes_back else []
            gradients = [of_hidden, *own] if goes_back else [None] * len(parts)
            arguments = _arguments(rows, codes, (begin, end), Readout(hidden, *others), gradients)
            return _tree_loss(arguments), own

        losses, owns = zip(*in_shares(run, len(codes)), strict=True)
        if of_hidden is not None:
            sums = [of_hidden, *(sum(own[1:], own[0]) for own in zip(*owns, strict=True))]
            ctx.gradients = [gradient.to(part.dtype) for gradient, part in zip(sums, parts, strict=True)]
        return torch.tensor(sum(losses), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The loss's gradients times what is above it."""
        return (None, None, None, *(gradient * grad for gradient in ctx.gradients))


def _arguments(
    rows: Tensor,
    codes: Tensor,
    streams: tuple[int, int],
    readout: Readout,
    gradients: Sequence[Tensor | None],
) -> "_Arguments":
    (n_batch, n_samples), n_rows = codes.shape, rows.shape[-1]
    size = readout.weight.shape[1]
    names = ("hidden", "frames", "table", "weight", "bias")
    return _Arguments(
        n_samples=n_samples,
        n_batch=n_batch,
        begin=streams[0],
        end=streams[1],
        n_frames=readout.frames.shape[1],
        n_rows=n_rows,
        stride=readout.hidden.shape[-1] // size,
        size=size,
        n_bits=len(readout.bias).bit_length(),
        are_bf16=are_bf16(readout.hidden),
        rows=as_array(rows),
        codes=as_array(codes),
        activation=as_array(torch.empty(size)),
        **{name: as_array(part) for name, part in zip(names, readout, strict=True)},
        **{
            f"grad_{name}": None if gradient is None else as_array(gradient)
            for name, gradient in zip(names, gradients, strict=True)
        },
    )


class _Arguments(library.Struct):
    """See native/training/tree_loss.c."""

    _fields_ = (
        ("n_samples", library.Int),
        ("n_batch", library.Int),
        ("begin", library.Int),
        ("end", library.Int),
        ("n_frames", library.Int),
        ("n_rows", library.Int),
        ("stride", library.Int),
        ("size", library.Int),
        ("n_bits", library.Int),
        ("are_bf16", library.Int),
        ("rows", library.Int64s),
        ("codes", library.Int64s),
        ("hidden", Numbers),
        ("frames", library.Floats),
        ("table", library.Floats),
        ("weight", library.Floats),
        ("bias", library.Floats),
        ("grad_hidden", Numbers),
        ("grad_frames", Numbers),
        ("grad_table", Numbers),
        ("grad_weight", Numbers),
        ("grad_bias", Numbers),
        ("activation", library.Floats),
    )


_tree_loss = library.function("gru_tree_loss", [_Arguments], library.Double)
_apply: Callable[..., Tensor] = _TreeLoss.apply  # which torch declares no types for
