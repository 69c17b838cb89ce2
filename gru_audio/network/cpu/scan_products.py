"""The products of the scan with W_hh (3H, H), and whole scans of them: by torch step by step, or by blocks in C.

Shapes: see model.py.
"""

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from gru_audio.native import library
from gru_audio.native.tensors import Numbers, as_array
from gru_audio.network.cpu.block_products import (
    Blocks,
    Kind,
    Places,
    blocks_of,
    sum_outer_products,
    transposed_blocks_of,
)
from gru_audio.network.cpu.shares import in_shares
from gru_audio.network.torch_private import packed_product

_ALL_STREAMS, _FEW_STREAMS = 2**31, 32


class Scan(library.Struct):
    """See native/training/gru_scan.c."""

    _fields_ = (
        ("n_steps", library.Int),
        ("n_batch", library.Int),
        ("size", library.Int),
        ("are_bf16", library.Int),
        ("gates", Numbers),
        ("inner", Numbers),
        ("hidden", Numbers),
        ("biases", library.Floats),
        ("state", library.Floats),
    )


class ScanBack(library.Struct):
    """See native/training/gru_scan.c."""

    _fields_ = (
        ("scan", Scan),
        ("above", Numbers),
        ("grad_product", Numbers),
        ("grad_biases", library.Floats),
        ("carried", library.Floats),
    )


BackInto = Callable[[Tensor, Tensor], ScanBack]
"""A scan's way back, into memory for a step's gradient of the product (n, 3H), in numbers, and of the biases (4H)."""


class Products(Protocol):
    """What a scan needs of W_hh."""

    def scan_forward(self, scan: Scan, hidden: Tensor) -> None:
        """All steps; `hidden` (K + 1, B, H) is that of the scan."""

    def scan_backward(self, back_into: BackInto, n_batch: int) -> tuple[Tensor, Tensor]:
        """All steps back; returns the gradients of the first state by way of its product (B, H), and of biases (4H)."""

    def weight_gradient(self, of_both: Tensor, of_inner: Tensor, states: Tensor) -> Tensor:
        """(3H, H) in float32 from all steps' gradients of the product, (K B, 2H) and (K B, H), and states (K B, H)."""


class TorchProducts:
    """By torch, one call a step."""

    def __init__(self, weight: Tensor, numbers: torch.dtype) -> None:
        """Of a weight, multiplied in `numbers`."""
        self._weight = weight.detach().to(numbers)

    def scan_forward(self, scan: Scan, hidden: Tensor) -> None:
        """See `Products`."""
        multiply = _multiplier(self._weight, hidden.shape[1])
        for t, before in enumerate(hidden[:-1].unbind()):
            product = multiply(before)
            _gates_forward(scan, t, product.data_ptr())

    def scan_backward(self, back_into: BackInto, n_batch: int) -> tuple[Tensor, Tensor]:
        """See `Products`."""
        rows, size = self._weight.shape
        multiply = _multiplier(self._weight.t().contiguous(), n_batch)
        grad_product, grad_biases = self._weight.new_empty(n_batch, rows), torch.zeros(4 * size)
        back, through = back_into(grad_product, grad_biases), self._weight.new_zeros(n_batch, size)
        for t in range(back.scan.n_steps - 1, -1, -1):
            _gates_backward(back, t, through.data_ptr())
            through = multiply(grad_product)
        return through, grad_biases

    def weight_gradient(self, of_both: Tensor, of_inner: Tensor, states: Tensor) -> Tensor:
        """See `Products`."""
        return torch.cat([of_both.t() @ states, of_inner.t() @ states]).float()


class BlockProducts:
    """In C, what is pruned left out."""

    def __init__(self, weight: Tensor, kept: Tensor | None, kind: Kind) -> None:
        """Of a weight of which some (3H, H) are kept, or all; multiplied in the kind's numbers."""
        self._weight = weight.detach().to(torch.float32 if kind == "floats" else torch.bfloat16)
        self._kept, self._kind = kept, kind
        # Few enough that their products stay in the second cache beside the weights, if those do.
        self._at_once = _ALL_STREAMS if kept is None else _FEW_STREAMS

    def scan_forward(self, scan: Scan, hidden: Tensor) -> None:
        """See `Products`."""
        blocks = blocks_of(self._weight, self._kept, self._kind)

        def run(begin: int, end: int) -> None:
            at_once = min(self._at_once, end - begin)
            product = torch.empty(at_once, len(self._weight))
            _scan_forward(scan, blocks, begin, end, at_once, as_array(product))

        in_shares(run, hidden.shape[1])

    def scan_backward(self, back_into: BackInto, n_batch: int) -> tuple[Tensor, Tensor]:
        """See `Products`."""
        rows, size = self._weight.shape
        blocks = transposed_blocks_of(self._weight, self._kept, self._kind)
        through = torch.zeros(n_batch, size)

        def run(begin: int, end: int) -> Tensor:
            at_once = min(self._at_once, end - begin)
            grad_product, grad_biases = self._weight.new_empty(at_once, rows), torch.zeros(4 * size)
            back = back_into(grad_product, grad_biases)
            _scan_backward(back, blocks, begin, end, at_once, as_array(through))
            return grad_biases

        return through, torch.stack(in_shares(run, n_batch)).sum(0)

    def weight_gradient(self, of_both: Tensor, of_inner: Tensor, states: Tensor) -> Tensor:
        """See `Products`."""
        total = torch.zeros(self._weight.shape)
        kept = Places.of(self._weight.shape, self._kept, self._kind)
        sum_outer_products(of_both, states, kept, self._kind, total)
        sum_outer_products(of_inner, states, kept, self._kind, total, of_both.shape[1])
        return total


def _multiplier(weight: Tensor, n_batch: int) -> Callable[[Tensor], Tensor]:
    """The product x -> x weight^T of x (B, in) with a weight (out, in) that is used many times.

    oneDNN rearranges a weight at every product; where torch offers to do it once, a product takes 0.6 of the time.
    """
    return packed_product(weight, n_batch) or partial(nn.functional.linear, weight=weight)


_gates_forward = library.function("gru_gates_forward", [Scan, library.Int, ctypes.c_void_p])
_gates_backward = library.function("gru_gates_backward", [ScanBack, library.Int, ctypes.c_void_p])
_streams = [library.Int, library.Int, library.Int]  # from one to before another, and how many go together
_scan_forward = library.function("gru_scan_forward", [Scan, Blocks, *_streams, library.Floats])
_scan_backward = library.function("gru_scan_backward", [ScanBack, Blocks, *_streams, library.Floats])
