"""Products of the recurrent matrix block by block, see native/training/blocks.h; and when to use which.

The scan needs one at each step, with the same matrix at every step, and the sum of outer products over all steps at
the end. Blocks are those of blocks.py, 16 outputs by 4 inputs: what is pruned costs nothing.

Shapes: N rows, O outputs, I inputs.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gru_audio.native import library
from gru_audio.native.tensors import Numbers, as_array
from gru_audio.network.blocks import BLOCK_COLUMNS, BLOCK_ROWS
from gru_audio.network.cpu.shares import in_shares
from gru_audio.network.torch_private import can_use_amx


class Blocks(library.Struct):
    """The kept blocks of a matrix, in the order in which they are multiplied; see native/training/blocks.h."""

    _fields_ = (
        ("n_inputs", library.Int),
        ("n_outputs", library.Int),
        ("kind", library.Int),
        ("block_outputs", library.Int),
        ("block_inputs", library.Int),
        ("starts", library.Int64s),
        ("places", library.Int64s),
        ("weights", Numbers),
    )


Kind = Literal["floats", "pairs", "tiles"]
"""Of blocks: float32, bf16 by pairs, or bf16 with AMX; in the order of C's block_kind."""
KINDS: tuple[Kind, ...] = get_args(Kind)
Way = Literal[Kind, "torch"]


def best_way(numbers: torch.dtype, n_inputs: int) -> Way:
    """How a recurrent matrix of such numbers is multiplied fastest: by a kind of blocks, or by torch."""
    if n_inputs % BLOCK_ROWS:
        return "torch"
    if numbers == torch.float32:
        return "floats"
    if numbers != torch.bfloat16 or library.instructions() != "avx512bf16":
        return "torch"
    return "tiles" if can_use_tiles() else "pairs"


def can_use_tiles() -> bool:
    """Whether this processor has AMX, and the operating system lets this process use it."""
    return library.instructions() == "avx512bf16" and can_use_amx()


def blocks_of(matrix: Tensor, kept: Tensor | None, kind: Kind) -> Blocks:
    """A matrix (O, I), in the kind's numbers, for `multiply` with its inputs; weights outside `kept` must be 0."""
    return _blocks(matrix, kept, (BLOCK_ROWS, BLOCK_COLUMNS), kind)


def transposed_blocks_of(matrix: Tensor, kept: Tensor | None, kind: Kind) -> Blocks:
    """A matrix (O, I) for `multiply` of its transpose with its outputs; see `blocks_of`."""
    return _blocks(matrix.t(), None if kept is None else kept.t(), (BLOCK_COLUMNS, BLOCK_ROWS), kind)


def multiply(inputs: Tensor, blocks: Blocks) -> Tensor:
    """Inputs (N, I) in the blocks' numbers times the transpose of a matrix (O, I): (N, O) in float32."""
    rows, out = as_array(inputs), torch.empty(len(inputs), blocks.n_outputs)
    products = as_array(out)

    def run(begin: int, end: int) -> None:
        _multiply(blocks, rows[begin:end], end - begin, products[begin:end])

    in_shares(run, len(inputs))
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
    def of(cls, shape: Sequence[int], kept: Tensor | None, kind: Kind) -> "Places":
        """Of a matrix of which some weights (O, I) are kept; None: all."""
        n_bands = shape[0] // BLOCK_ROWS
        block_inputs = BLOCK_ROWS if kept is None and kind == "tiles" else BLOCK_COLUMNS
        bands, columns = np.nonzero(_kept_blocks(shape, kept, (BLOCK_ROWS, block_inputs)))
        return cls(block_inputs, _starts(bands, n_bands), columns * block_inputs)


def sum_outer_products(
    outputs: Tensor, inputs: Tensor, kept: Places, kind: Kind, total: Tensor, first: int = 0
) -> None:
    """Total = outputs^T inputs, in the kept blocks alone.

    Args:
        outputs: (N, some of O) in the kind's numbers, the matrix's outputs from the first one on; rows may be apart.
        inputs: (N, I), likewise.
        kept: where the blocks are.
        kind: of the blocks; all but tiles must have 4 inputs.
        total: (O, I) float32; blocks that are not kept stay as they are.
        first: the first output, a multiple of 16.
    """

    def run(begin: int, end: int) -> None:
        _sum_share(outputs[:, begin:end], inputs, kept, kind, total, first + begin)

    in_shares(run, outputs.shape[1], BLOCK_ROWS)


def _sum_share(outputs: Tensor, inputs: Tensor, kept: Places, kind: Kind, total: Tensor, first: int) -> None:
    """What `sum_outer_products` does, in this thread."""
    (n_rows, n_outputs), n_inputs = outputs.shape, inputs.shape[1]
    band, n_bands = first // BLOCK_ROWS, n_outputs // BLOCK_ROWS
    begin, end = kept.starts[band], kept.starts[band + n_bands]
    sums = torch.zeros(end - begin, kept.block_inputs, BLOCK_ROWS, 2 if kind == "pairs" else 1)
    _sum_outer_products(
        _OuterProducts(
            n_rows=n_rows,
            n_outputs=n_outputs,
            n_inputs=n_inputs,
            stride=outputs.stride(0),
            kind=KINDS.index(kind),
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
    if not kept.is_contiguous():  # of a transpose
        return np.transpose(_kept_blocks(shape[::-1], kept.t().contiguous(), block[::-1]))
    fours = kept.numpy().view(np.uint32) != 0  # (O, I / 4), a quarter of the work
    of_lines = fours.reshape(n_lines, block[0], -1).any(1)
    return np.asarray(of_lines.reshape(n_lines, n_columns, -1).any(2))


def _starts(lines: npt.NDArray[np.int64], n_lines: int) -> npt.NDArray[np.int64]:
    """(n_lines + 1,), where each line begins in a sorted list of lines."""
    return np.searchsorted(lines, np.arange(n_lines + 1))


def _scratch(*shape: int, numbers: torch.dtype = torch.int32) -> npt.NDArray[Any]:
    """Memory where tiles are read fast: torch aligns it to lines of the cache, numpy does not."""
    return as_array(torch.empty(shape, dtype=numbers))


def _blocks(matrix: Tensor, kept: Tensor | None, block: tuple[int, int], kind: Kind) -> Blocks:
    """A matrix (O, I) by blocks of so many outputs and inputs, or of as many as tiles take."""
    n_outputs, n_inputs = matrix.shape
    if kind == "tiles":
        block = _tile_block(matrix.shape, kept)
    lines, columns = np.nonzero(_kept_blocks(matrix.shape, kept, block))
    cut = as_array(matrix).reshape(n_outputs // block[0], block[0], n_inputs // block[1], block[1])
    weights = cut[lines, :, columns]  # (n_blocks, *block)
    if kind == "tiles":  # by pairs of inputs
        weights = weights.view(np.uint32).swapaxes(1, 2)
    elif kind == "floats" and block[1] == BLOCK_COLUMNS:  # by inputs
        weights = weights.swapaxes(1, 2)
    laid_out = _scratch(len(lines), block[0] * block[1], numbers=matrix.dtype)
    laid_out.view(weights.dtype)[:] = weights.reshape(len(lines), -1)
    return Blocks(
        n_inputs=n_inputs,
        n_outputs=n_outputs,
        kind=KINDS.index(kind),
        block_outputs=block[0],
        block_inputs=block[1],
        starts=_starts(lines, n_outputs // block[0]),
        places=columns * block[1],
        weights=laid_out,
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
        ("kind", library.Int),
        ("block_inputs", library.Int),
        ("starts", library.Int64s),
        ("places", library.Int64s),
        ("outputs", library.Int),
        ("inputs", Numbers),
        ("of_outputs", library.Int32s),
        ("of_inputs", library.Int32s),
        ("sums", library.Floats),
        ("total", library.Floats),
    )


_multiply = library.function("gru_multiply_blocks", [Blocks, Numbers, library.Int, library.Floats])
_sum_outer_products = library.function("gru_sum_outer_products", [_OuterProducts])
