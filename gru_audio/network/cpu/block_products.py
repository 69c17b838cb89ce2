"""Products of the recurrent matrix in bf16, block by block; see native/training/block_products.h; and when to use them.

The scan needs one at each step, with the same matrix at every step, and the sum of outer products over all steps at
the end. Blocks are those of blocks.py, 16 outputs by 4 inputs: what is pruned costs nothing.

Shapes: N rows, O outputs, I inputs.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gru_audio.native import library
from gru_audio.native.tensors import as_array
from gru_audio.network.blocks import BLOCK_COLUMNS, BLOCK_ROWS
from gru_audio.network.torch_private import can_use_amx


class Blocks(library.Struct):
    """The kept blocks of a matrix, in the order in which they are multiplied; see native/training/block_products.h."""

    _fields_ = (
        ("n_inputs", library.Int),
        ("n_outputs", library.Int),
        ("in_tiles", library.Int),
        ("block_outputs", library.Int),
        ("block_inputs", library.Int),
        ("starts", library.Int64s),
        ("places", library.Int64s),
        ("weights", library.Bf16s),
    )


Way = Literal["torch", "blocks", "tiles"]


def best_way(numbers: torch.dtype, n_inputs: int) -> Way:
    """How a recurrent matrix of such numbers is multiplied fastest: with AMX, by blocks of bf16 pairs, or by torch."""
    if numbers != torch.bfloat16 or n_inputs % BLOCK_ROWS or library.instructions() != "avx512bf16":
        return "torch"
    return "tiles" if can_use_tiles() else "blocks"


def can_use_tiles() -> bool:
    """Whether this processor has AMX, and the operating system lets this process use it."""
    return library.instructions() == "avx512bf16" and can_use_amx()


def blocks_of(matrix: Tensor, kept: Tensor | None, in_tiles: bool) -> Blocks:
    """A bf16 matrix (O, I) for `multiply` with its inputs; weights outside `kept` (O, I) must be 0."""
    return _blocks(matrix, kept, (BLOCK_ROWS, BLOCK_COLUMNS), in_tiles)


def transposed_blocks_of(matrix: Tensor, kept: Tensor | None, in_tiles: bool) -> Blocks:
    """A bf16 matrix (O, I) for `multiply` of its transpose with its outputs; see `blocks_of`."""
    return _blocks(matrix.t(), None if kept is None else kept.t(), (BLOCK_COLUMNS, BLOCK_ROWS), in_tiles)


def multiply(inputs: Tensor, blocks: Blocks) -> Tensor:
    """Inputs (N, I) in bf16 times the transpose of a matrix (O, I): (N, O) in float32."""
    out = torch.empty(len(inputs), blocks.n_outputs)
    _multiply(blocks, as_array(inputs), len(inputs), as_array(out))
    return out


class Places(NamedTuple):
    """Where the kept blocks of a matrix (O, I) are, band by band of 16 outputs.

    Attributes:
        block_inputs: of a block: 4, or 16.
        starts: (O / 16 + 1,), each band's first block.
        places: (n_blocks,), the block's first input.
    """

    block_inputs: int
    starts: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]

    @classmethod
    def of(cls, shape: Sequence[int], kept: Tensor | None, in_tiles: bool) -> "Places":
        """Of a matrix of which some weights (O, I) are kept; None: all."""
        n_bands = shape[0] // BLOCK_ROWS
        block_inputs = BLOCK_ROWS if kept is None and in_tiles else BLOCK_COLUMNS
        bands, columns = np.nonzero(_kept_blocks(shape, kept, (BLOCK_ROWS, block_inputs)))
        return cls(block_inputs, _starts(bands, n_bands), columns * block_inputs)


def sum_outer_products(
    outputs: Tensor, inputs: Tensor, kept: Places, in_tiles: bool, total: Tensor, first: int = 0
) -> None:
    """Total = outputs^T inputs, in the kept blocks alone.

    Args:
        outputs: (N, some of O) bf16, the matrix's outputs from the first one on; rows may be apart.
        inputs: (N, I) bf16.
        kept: where the blocks are.
        in_tiles: with AMX; without, blocks must have 4 inputs.
        total: (O, I) float32; blocks that are not kept stay as they are.
        first: the first output, a multiple of 16.
    """
    (n_rows, n_outputs), n_inputs = outputs.shape, inputs.shape[1]
    band, n_bands = first // BLOCK_ROWS, n_outputs // BLOCK_ROWS
    begin, end = kept.starts[band], kept.starts[band + n_bands]
    sums = torch.zeros(end - begin, kept.block_inputs, BLOCK_ROWS, 1 if in_tiles else 2)
    _sum_outer_products(
        _OuterProducts(
            n_rows=n_rows,
            n_outputs=n_outputs,
            n_inputs=n_inputs,
            stride=outputs.stride(0),
            in_tiles=in_tiles,
            block_inputs=kept.block_inputs,
            starts=kept.starts[band : band + n_bands + 1] - begin,
            places=kept.places[begin:end],
            outputs=outputs.data_ptr(),
            inputs=as_array(inputs),
            of_outputs=_scratch(max(n_outputs, 32), 128),
            of_inputs=_scratch(n_inputs, 128),
            sums=as_array(sums),
            total=as_array(total[first : first + n_outputs]),
        )
    )


def _kept_blocks(shape: Sequence[int], kept: Tensor | None, block: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(O / block's outputs, I / block's inputs), which blocks of a matrix (O, I) have a kept weight."""
    n_lines, n_columns = shape[0] // block[0], shape[1] // block[1]
    if kept is None:
        return np.ones((n_lines, n_columns), bool)
    return np.asarray(kept.numpy().reshape(n_lines, block[0], n_columns, block[1]).any((1, 3)))


def _starts(lines: npt.NDArray[np.int64], n_lines: int) -> npt.NDArray[np.int64]:
    """(n_lines + 1,), where each line begins in a sorted list of lines."""
    return np.searchsorted(lines, np.arange(n_lines + 1))


def _scratch(*shape: int) -> npt.NDArray[Any]:
    """Memory where tiles are read fast: torch aligns it to lines of the cache, numpy does not."""
    return as_array(torch.empty(shape, dtype=torch.int32))


def _blocks(matrix: Tensor, kept: Tensor | None, block: tuple[int, int], in_tiles: bool) -> Blocks:
    """A matrix (O, I) by blocks of so many outputs and inputs, or of as many as tiles take."""
    n_outputs, n_inputs = matrix.shape
    if in_tiles:
        block = _tile_block(matrix.shape, kept)
    lines, columns = np.nonzero(_kept_blocks(matrix.shape, kept, block))
    cut = as_array(matrix).reshape(n_outputs // block[0], block[0], n_inputs // block[1], block[1])
    weights = cut[lines, :, columns]  # (n_blocks, *block)
    if in_tiles:  # by pairs of inputs
        weights = weights.view(np.uint32).swapaxes(1, 2)
    laid_out = _scratch(len(lines), block[0] * block[1] // 2)
    laid_out[:] = np.ascontiguousarray(weights).view(np.int32).reshape(laid_out.shape)
    return Blocks(
        n_inputs=n_inputs,
        n_outputs=n_outputs,
        in_tiles=in_tiles,
        block_outputs=block[0],
        block_inputs=block[1],
        starts=_starts(lines, n_outputs // block[0]),
        places=columns * block[1],
        weights=laid_out.view(np.uint16),
    )


def _tile_block(shape: Sequence[int], kept: Tensor | None) -> tuple[int, int]:
    """16 outputs by 16 inputs, or by 32 where that makes fewer products by a quarter, as each takes the same time."""
    narrow, wide = (BLOCK_ROWS, BLOCK_ROWS), (BLOCK_ROWS, 2 * BLOCK_ROWS)
    if shape[1] % wide[1]:
        return narrow
    n_narrow, n_wide = (int(_kept_blocks(shape, kept, block).sum()) for block in (narrow, wide))
    return wide if n_wide <= 0.75 * n_narrow else narrow


class _OuterProducts(library.Struct):
    """See native/training/block_products.c."""

    _fields_ = (
        ("n_rows", library.Int),
        ("n_outputs", library.Int),
        ("n_inputs", library.Int),
        ("stride", library.Int),
        ("in_tiles", library.Int),
        ("block_inputs", library.Int),
        ("starts", library.Int64s),
        ("places", library.Int64s),
        ("outputs", library.Int),
        ("inputs", library.Bf16s),
        ("of_outputs", library.Int32s),
        ("of_inputs", library.Int32s),
        ("sums", library.Floats),
        ("total", library.Floats),
    )


_multiply = library.function("gru_multiply_blocks", [Blocks, library.Bf16s, library.Int, library.Floats])
_sum_outer_products = library.function("gru_sum_outer_products", [_OuterProducts])
