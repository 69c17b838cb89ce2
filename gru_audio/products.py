"""Products of one matrix with the rows of another, whose bits for a row do not depend on how many rows there are.

numba, its LLVM and numpy alone. Each sum has one accumulator and runs over the inputs in order, with the same
instructions for four rows at once and for one alone, and every row reads a tile of the matrix while the cache has it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gru_audio.jit import compiled
from gru_audio.lanes import F32, data_of_arrays, itemsize, load, multiply_add, spread, store, vector_type

Floats = npt.NDArray[Any]
"""float32 or float64; one product's arrays have the same type."""

_VECTOR_BYTES = 64
_FLOAT_VECTORS, _DOUBLE_VECTORS = 2, 3  # of a tile: the sums of four rows fit the registers
_ROWS_AT_ONCE = 4


@compiled()
def padded(n_outputs: int, itemsize: int) -> int:
    """A number of outputs, rounded up to whole tiles of numbers of some bytes."""
    n_vectors = _FLOAT_VECTORS if itemsize == 4 else _DOUBLE_VECTORS
    width = n_vectors * _VECTOR_BYTES // itemsize
    return -(-n_outputs // width) * width


def tiled(matrix: Floats, bias: Floats | None = None) -> Floats:
    """A matrix (n_outputs, n_inputs) as `multiply` reads it.

    Returns:
        (n_tiles, n_inputs + 1, width): a tile has its outputs' weights for each input and then their bias;
        outputs beyond the matrix's are 0.
    """
    n_outputs, n_inputs = matrix.shape
    width = padded(1, matrix.itemsize)
    rows = np.zeros((padded(n_outputs, matrix.itemsize), n_inputs + 1), matrix.dtype)
    rows[:n_outputs, :n_inputs] = matrix
    if bias is not None:
        rows[:n_outputs, n_inputs] = bias
    return np.ascontiguousarray(rows.reshape(-1, width, n_inputs + 1).transpose(0, 2, 1))


def _rows_product(n_rows: int) -> Any:
    """The intrinsic that multiplies one tile with some rows."""

    @intrinsic
    def product(
        typingctx: Any,
        inputs: Any,
        first_input: Any,
        row_stride: Any,
        step: Any,
        tiles: Any,
        tile: Any,
        n_inputs: Any,
        out: Any,
        first_out: Any,
        out_stride: Any,
    ) -> Any:
        if not inputs.dtype == tiles.dtype == out.dtype:
            return None  # numba refuses the call

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            _emit_rows_product(builder, n_rows, *data_of_arrays(context, builder, signature, arguments))
            return context.get_dummy_value()

        index = types.intp
        return types.void(inputs, index, index, index, tiles, index, index, out, index, index), codegen

    return product


def _emit_rows_product(
    builder: ir.IRBuilder,
    n_rows: int,
    inputs: ir.Value,
    first_input: ir.Value,
    row_stride: ir.Value,
    step: ir.Value,
    tiles: ir.Value,
    tile: ir.Value,
    n_inputs: ir.Value,
    out: ir.Value,
    first_out: ir.Value,
    out_stride: ir.Value,
) -> None:
    """Emit the sums of a tile's outputs for some rows, in registers; places and strides count numbers."""
    number, width = tiles.type.pointee, tile.type
    vector = _vector_of(number)
    n_vectors = _FLOAT_VECTORS if number == F32 else _DOUBLE_VECTORS
    tile_row = ir.Constant(width, n_vectors * vector.count)

    def places(start: ir.Value) -> list[ir.Value]:
        return [builder.add(start, ir.Constant(width, i * vector.count)) for i in range(n_vectors)]

    bias = places(builder.add(tile, builder.mul(n_inputs, tile_row)))
    sums = [
        [cgutils.alloca_once_value(builder, load(builder, tiles, place, vector)) for place in bias]
        for _ in range(n_rows)
    ]
    with cgutils.for_range(builder, n_inputs) as loop:
        weights = places(builder.add(tile, builder.mul(loop.index, tile_row)))
        columns = [load(builder, tiles, place, vector) for place in weights]
        place = builder.add(first_input, builder.mul(loop.index, step))
        for totals in sums:
            value = spread(builder, builder.load(builder.gep(inputs, [place])), vector.count)
            for total, column in zip(totals, columns, strict=True):
                builder.store(multiply_add(builder, value, column, builder.load(total)), total)
            place = builder.add(place, row_stride)
    for totals in sums:
        for total, place in zip(totals, places(first_out), strict=True):
            store(builder, builder.load(total), out, place)
        first_out = builder.add(first_out, out_stride)


def _blend_intrinsic(
    typingctx: Any, band: Any, lower: Any, upper: Any, floor: Any, bands: Any, n_out: Any, out: Any
) -> Any:
    """See `blend`; the values of a row are one vector."""
    if not lower.dtype == upper.dtype == bands.dtype == out.dtype == floor:
        return None  # numba refuses the call

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        band, lower, upper, floor, bands, n_out, out = data_of_arrays(context, builder, signature, arguments)
        vector = _vector_of(bands.type.pointee)
        lanes, lowest = ir.Constant(n_out.type, vector.count), spread(builder, floor, vector.count)
        with cgutils.for_range(builder, n_out) as loop:
            below = builder.mul(builder.load(builder.gep(band, [loop.index])), lanes)
            share, other = (
                spread(builder, builder.load(builder.gep(weight, [loop.index])), vector.count)
                for weight in (lower, upper)
            )
            value = builder.fmul(other, load(builder, bands, builder.add(below, lanes), vector))
            value = multiply_add(builder, share, load(builder, bands, below, vector), value)
            value = builder.select(builder.fcmp_ordered(">", value, lowest), value, lowest)
            store(builder, value, out, builder.mul(loop.index, lanes))
        return context.get_dummy_value()

    return types.void(band, lower, upper, floor, bands, types.intp, out), codegen


def _vector_of(number: ir.Type) -> ir.VectorType:
    return vector_type(number, _VECTOR_BYTES // itemsize(number))


_four_rows, _one_row = _rows_product(_ROWS_AT_ONCE), _rows_product(1)
_blend_lanes: Any = intrinsic(_blend_intrinsic)  # called without its first argument, numba's context


@compiled()
def multiply(
    inputs: Floats,
    row_stride: int,
    step: int,
    n_rows: int,
    tiles: Floats,
    n_inputs: int,
    out: Floats,
    out_stride: int,
) -> None:
    """Out = inputs matrix^T + bias, on flat arrays.

    Args:
        inputs: value i of row f is at `row_stride * f + step * i`; rows may overlap, as frames laid end to end do.
        row_stride: see inputs.
        step: see inputs.
        n_rows: how many.
        tiles: of `tiled`, flattened.
        n_inputs: of the matrix.
        out: receives row f, the outputs of all tiles, from `out_stride * f` on.
        out_stride: at least the outputs of all tiles.
    """
    width = padded(1, inputs.itemsize)
    tile_size = (n_inputs + 1) * width
    for tile in range(tiles.size // tile_size):
        column, row = tile * width, 0
        while row < n_rows:
            place, out_place = row * row_stride, row * out_stride + column
            if row + _ROWS_AT_ONCE <= n_rows:
                _four_rows(
                    inputs,
                    place,
                    row_stride,
                    step,
                    tiles,
                    tile * tile_size,
                    n_inputs,
                    out,
                    out_place,
                    out_stride,
                )
                row += _ROWS_AT_ONCE
            else:
                _one_row(
                    inputs,
                    place,
                    row_stride,
                    step,
                    tiles,
                    tile * tile_size,
                    n_inputs,
                    out,
                    out_place,
                    out_stride,
                )
                row += 1


@compiled()
def blend(
    band: npt.NDArray[np.int64],
    lower: npt.NDArray[np.float64],
    upper: npt.NDArray[np.float64],
    floor: float,
    bands: npt.NDArray[np.float64],
    out: npt.NDArray[np.float64],
) -> None:
    """Rows of 8 as blends of two neighbouring rows: out[k] = max(floor, lower[k] bands[b] + upper[k] bands[b + 1]).

    Args:
        band: (K,), the b of each row.
        lower: (K,).
        upper: (K,).
        floor: the least value.
        bands: (M, 8), flattened.
        out: (K, 8), flattened.
    """
    _blend_lanes(band, lower, upper, floor, bands, band.size, out)
