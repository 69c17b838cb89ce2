"""Sums of table rows on a GPU, whose way back is a product: no sorting, no atomic sums, nothing that waits.

    grad of a table (Q, C) = one-hot codes (Q, N)  x  grad of the sums (N, C)

of which the one-hot matrix has one 1 a column; the kernel makes it as it goes (see kernels/embedding.py). Where there
is no Triton, torch writes it out, which took 7.1 of a step's 18.6 ms on an H200.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gru_audio.network import triton_ready

_CLASSES, _COLUMNS, _ROWS = 256, 64, 64  # of a table, of its rows' entries, and rows at once, of a program
_MOST_PARTS = 32  # into which the rows are cut
_LARGEST_ERROR = 0.01  # of the norm, of sums in bf16 against others in another order


class RowSums(torch.autograd.Function):
    """(N, C), sums of one row of each of some tables (n, Q, C); which, codes (N, n) say."""

    @staticmethod
    def forward(ctx: Any, tables: Tensor, codes: Tensor) -> Tensor:
        """Add up rows."""
        ctx.save_for_backward(codes)
        ctx.n_classes, ctx.numbers = tables.shape[1], product_type(codes.device.type)
        first = torch.arange(tables.shape[0], device=codes.device) * tables.shape[1]
        return torch.nn.functional.embedding_bag(codes + first, tables.flatten(0, 1), mode="sum")

    @staticmethod
    def backward(ctx: Any, grad_sums: Tensor) -> tuple[Tensor, None]:
        """The gradient of the tables."""
        (codes,) = ctx.saved_tensors
        by = by_kernel if kernel_works(codes.device, ctx.numbers) else by_products
        return by(grad_sums, codes, ctx.n_classes, ctx.numbers).to(grad_sums.dtype), None


def by_products(grad: Tensor, codes: Tensor, n_classes: int, numbers: torch.dtype) -> Tensor:
    """The tables' gradient (n, Q, C) of grad (N, C) and codes (N, n), with the one-hot matrices written out."""
    classes = torch.arange(n_classes, device=codes.device, dtype=codes.dtype)[:, None]
    low = grad.to(numbers)
    return torch.stack([(column == classes).to(numbers) @ low for column in codes.unbind(1)])


def by_kernel(grad: Tensor, codes: Tensor, n_classes: int, numbers: torch.dtype) -> Tensor:
    """The same in float32, by the kernel."""
    import triton.language as tl

    from gru_audio.network.gpu.kernels.embedding import table_gradient

    (n_rows, size), n_tables = grad.shape, codes.shape[1]
    per_part = -(-n_rows // (_MOST_PARTS * _ROWS)) * _ROWS
    n_parts = -(-n_rows // per_part)
    n_blocks = -(-n_classes // _CLASSES) * -(-size // _COLUMNS)
    parts = torch.empty(n_parts, n_tables, n_classes, size, device=grad.device)
    kinds = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
    table_gradient[(n_parts, n_tables, n_blocks)](
        grad.contiguous(), codes.contiguous(), parts, n_rows, per_part, n_tables, n_classes, size,
        CLASSES=_CLASSES, COLUMNS=_COLUMNS, ROWS=_ROWS, KIND=kinds[numbers], num_warps=8,
    )  # fmt: skip
    return parts.sum(0)


@functools.cache
def kernel_works(device: torch.device, numbers: torch.dtype) -> bool:
    """Whether the kernel runs there, and gives what the products give; tried once."""
    if triton_ready.why_not(device):
        return False
    generator = torch.Generator().manual_seed(0)
    grad = torch.randn(1000, 80, generator=generator).to(device)
    codes = torch.randint(256, (1000, 3), generator=generator).to(device)
    expected = by_products(grad, codes, 256, numbers).float()
    try:
        found = by_kernel(grad, codes, 256, numbers)
    except Exception:  # whatever a compiler or a driver of another version may raise
        return False
    return float((found - expected).norm() / expected.norm()) < _LARGEST_ERROR


def product_type(device: str) -> torch.dtype:
    """In which the way back multiplies: what autocast is set to, as the gradients come from such products."""
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32


row_sums: Callable[[Tensor, Tensor], Tensor] = RowSums.apply  # which torch declares no types for
