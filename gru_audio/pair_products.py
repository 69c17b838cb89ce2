"""Products of a few rows with a matrix in bf16, for processors that multiply pairs of bf16 (AVX-512 BF16).

The scan needs one at each step, with the same matrix at every step. A tile of the matrix stays in the first cache
while all rows read it, and eight rows' sums stay in registers: oneDNN takes 1.35 times as long here.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from gru_audio.bfloat16 import as_array
from gru_audio.jit import compiled
from gru_audio.lanes import (
    F32,
    I32,
    LANES,
    call,
    data_of_arrays,
    load,
    processor_features,
    spread,
    store,
    vector_type,
)

_ROWS_AT_ONCE, _VECTORS = 8, 2  # sums of a tile in registers
_TILE_OUTPUTS = _VECTORS * LANES

Pairs = npt.NDArray[np.int32]
"""Two neighbouring bf16 numbers an entry, the first in the lower half."""


def can_multiply_pairs(numbers: torch.dtype, n_inputs: int) -> bool:
    """Whether `multiply_pairs` works on such numbers here, and is the fastest: AMX, which oneDNN uses, is faster."""
    features = set(processor_features().split(","))
    fits = numbers == torch.bfloat16 and n_inputs % 2 == 0
    return fits and "+avx512bf16" in features and "+amx-bf16" not in features


def pairs_of(rows: Tensor) -> Pairs:
    """The memory of bf16 rows (..., n_inputs) as pairs (..., n_inputs / 2)."""
    return as_array(rows).view(np.int32)


def tiled_pairs(matrix: Tensor) -> Pairs:
    """A bf16 matrix (n_outputs, n_inputs) as `multiply_pairs` reads it.

    Returns:
        (n_tiles, n_inputs / 2, 32), the tile's outputs' weights for each pair of inputs; 0 beyond the last output.
    """
    n_outputs, n_inputs = matrix.shape
    rows = np.zeros((-(-n_outputs // _TILE_OUTPUTS) * _TILE_OUTPUTS, n_inputs // 2), np.int32)
    rows[:n_outputs] = pairs_of(matrix.contiguous())
    return np.ascontiguousarray(rows.reshape(-1, _TILE_OUTPUTS, n_inputs // 2).transpose(0, 2, 1))


def _rows_product(n_rows: int) -> Any:
    """The intrinsic that multiplies one tile with some rows; places and strides count an array's numbers."""

    @intrinsic
    def product(
        typingctx: Any,
        inputs: Any,
        row: Any,
        n_pairs: Any,
        tiles: Any,
        tile: Any,
        out: Any,
        place: Any,
        stride: Any,
    ) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            _emit_rows_product(builder, n_rows, *data_of_arrays(context, builder, signature, arguments))
            return context.get_dummy_value()

        index = types.intp
        return types.void(inputs, index, index, tiles, index, out, index, index), codegen

    return product


def _emit_rows_product(
    builder: ir.IRBuilder,
    n_rows: int,
    inputs: ir.Value,
    row: ir.Value,
    n_pairs: ir.Value,
    tiles: ir.Value,
    tile: ir.Value,
    out: ir.Value,
    place: ir.Value,
    stride: ir.Value,
) -> None:
    """Emit the sums of a tile's outputs for some rows."""
    width = tile.type
    numbers, words = vector_type(F32), vector_type(I32)
    zero = ir.Constant(numbers, [0.0] * LANES)

    def places(start: ir.Value) -> list[ir.Value]:
        return [builder.add(start, ir.Constant(width, i * LANES)) for i in range(_VECTORS)]

    sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(_VECTORS)] for _ in range(n_rows)]
    with cgutils.for_range(builder, n_pairs) as loop:
        column = builder.add(tile, builder.mul(loop.index, ir.Constant(width, _TILE_OUTPUTS)))
        weights = [load(builder, tiles, part, words) for part in places(column)]
        pair = builder.add(row, loop.index)
        for totals in sums:
            two = spread(builder, builder.load(builder.gep(inputs, [pair])))
            for total, weight in zip(totals, weights, strict=True):
                name = "llvm.x86.avx512bf16.dpbf16ps.512"
                builder.store(call(builder, name, numbers, builder.load(total), two, weight), total)
            pair = builder.add(pair, n_pairs)
    for totals in sums:
        for total, part in zip(totals, places(place), strict=True):
            store(builder, builder.load(total), out, part)
        place = builder.add(place, stride)


_many_rows, _one_row = _rows_product(_ROWS_AT_ONCE), _rows_product(1)


@compiled()
def multiply_pairs(inputs: Pairs, tiles: Pairs, out: npt.NDArray[np.float32]) -> None:
    """Out = inputs matrix^T. A row's sums do not depend on how many rows there are.

    Args:
        inputs: (B, n_inputs / 2).
        tiles: of `tiled_pairs`.
        out: (B, 32 n_tiles) float32 receives the products.
    """
    n_rows, n_pairs = inputs.shape
    stride = out.shape[1]
    for tile in range(tiles.shape[0]):
        row = 0
        while row < n_rows:
            place, start = row * stride + tile * _TILE_OUTPUTS, tile * n_pairs * _TILE_OUTPUTS
            if row + _ROWS_AT_ONCE <= n_rows:
                _many_rows(inputs, row * n_pairs, n_pairs, tiles, start, out, place, stride)
                row += _ROWS_AT_ONCE
            else:
                _one_row(inputs, row * n_pairs, n_pairs, tiles, start, out, place, stride)
                row += 1
