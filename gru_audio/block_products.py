"""Products of the recurrent matrix in bf16, block by block, for processors that multiply pairs of bf16 (AVX-512 BF16).

The scan needs one at each step, with the same matrix at every step, and the sum of outer products over all steps at
the end. Blocks are those of sparsity.py, 16 outputs by 4 inputs: what is pruned costs nothing. Eight rows' sums stay in
registers while a block's weights are read once; four neighbouring numbers, a quad, are spread over a vector at once, as
loads would otherwise be the bottleneck. Of a dense matrix oneDNN's products take 1.35 times as long here.

Shapes: N rows, O outputs, I inputs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    I64,
    LANES,
    call,
    data_of_arrays,
    join,
    load,
    pick,
    processor_features,
    split,
    spread,
    store,
    vector_type,
)
from gru_audio.sparsity import BLOCK_COLUMNS, BLOCK_ROWS

_QUAD = 4
_QUADS_OF_VECTOR = LANES // 2
_BLOCK = BLOCK_ROWS * BLOCK_COLUMNS // _QUAD  # in quads: two vectors
_BLOCK_VECTORS = _BLOCK // _QUADS_OF_VECTOR
_ROWS_AT_ONCE = 8
_BLOCKS_AT_ONCE = 3  # of the sum of outer products: the sums of three fit the registers
_CHUNK = 64  # quads of rows whose outer products are summed at once; a band's outputs stay in the first cache

Quads = npt.NDArray[np.int64]
"""Four neighbouring bf16 numbers an entry, the first in the lowest bits."""


class Blocks(NamedTuple):
    """The kept blocks of a matrix, in the order in which they are multiplied.

    Attributes:
        width: outputs of a line of blocks: 16 of the matrix, 4 of its transpose.
        starts: (n_lines + 1,), each line's first block.
        places: (n_blocks,), the block's first input, in quads of the line's inputs.
        weights: (n_blocks, 16), quads: the line's outputs one after the other in each half.
    """

    width: int
    starts: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    weights: Quads


def can_multiply_blocks(numbers: torch.dtype, n_inputs: int) -> bool:
    """Whether a recurrent matrix of such numbers is multiplied here, and fastest: AMX, which oneDNN uses, is faster."""
    features = set(processor_features().split(","))
    fits = numbers == torch.bfloat16 and n_inputs % BLOCK_ROWS == 0
    return fits and "+avx512bf16" in features and "+amx-bf16" not in features


def quads_of(rows: Tensor) -> Quads:
    """The memory of bf16 rows (..., I) as quads (..., I / 4)."""
    return as_array(rows).view(np.int64)


def blocks_of(matrix: Tensor, kept: Tensor | None) -> Blocks:
    """A bf16 matrix (O, I) for `multiply` with its inputs; weights outside `kept` (O, I) must be 0."""
    n_outputs, n_inputs = matrix.shape
    shape = n_outputs // BLOCK_ROWS, BLOCK_ROWS, n_inputs // BLOCK_COLUMNS
    bands, columns = np.nonzero(_kept_blocks(matrix, kept))
    weights = quads_of(matrix.contiguous()).reshape(shape)[bands, :, columns]
    return Blocks(BLOCK_ROWS, _starts(bands, shape[0]), columns.copy(), np.ascontiguousarray(weights))


def transposed_blocks_of(matrix: Tensor, kept: Tensor | None) -> Blocks:
    """A bf16 matrix (O, I) for `multiply` of its transpose with its outputs; see `blocks_of`."""
    n_outputs, n_inputs = matrix.shape
    quads = BLOCK_ROWS // _QUAD
    shape = n_inputs // BLOCK_COLUMNS, BLOCK_COLUMNS, n_outputs // BLOCK_ROWS, quads
    columns, bands = np.nonzero(_kept_blocks(matrix, kept).T)
    weights = quads_of(matrix.t().contiguous()).reshape(shape)[columns, :, bands].reshape(-1, _BLOCK)
    return Blocks(BLOCK_COLUMNS, _starts(columns, shape[0]), bands * quads, np.ascontiguousarray(weights))


def _kept_blocks(matrix: Tensor, kept: Tensor | None) -> npt.NDArray[np.bool_]:
    """(O / 16, I / 4), which blocks have a kept weight."""
    shape = matrix.shape[0] // BLOCK_ROWS, BLOCK_ROWS, matrix.shape[1] // BLOCK_COLUMNS, BLOCK_COLUMNS
    if kept is None:
        return np.ones((shape[0], shape[2]), bool)
    return np.asarray(kept.numpy().reshape(shape).any((1, 3)))


def _starts(lines: npt.NDArray[np.int64], n_lines: int) -> npt.NDArray[np.int64]:
    """(n_lines + 1,), where each line begins in a sorted list of lines."""
    return np.searchsorted(lines, np.arange(n_lines + 1))


def _rows_product(n_rows: int, width: int) -> Any:
    """The intrinsic that multiplies one line of blocks with some rows; places count an array's numbers."""

    @intrinsic
    def product(
        typingctx: Any,
        inputs: Any,
        row: Any,
        n_quads: Any,
        places: Any,
        weights: Any,
        first: Any,
        end: Any,
        out: Any,
        place: Any,
        stride: Any,
    ) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            _emit_rows_product(
                builder, n_rows, width, *data_of_arrays(context, builder, signature, arguments)
            )
            return context.get_dummy_value()

        index = types.intp
        return types.void(inputs, index, index, places, weights, index, index, out, index, index), codegen

    return product


def _emit_rows_product(
    builder: ir.IRBuilder,
    n_rows: int,
    width: int,
    inputs: ir.Value,
    row: ir.Value,
    n_quads: ir.Value,
    places: ir.Value,
    weights: ir.Value,
    first: ir.Value,
    end: ir.Value,
    out: ir.Value,
    place: ir.Value,
    stride: ir.Value,
) -> None:
    """Emit a line's outputs for some rows: a lane sums two of an output's inputs, and lanes are added at the end."""
    index, block_inputs = row.type, _BLOCK // width
    sums = [_zero_sums(builder, _BLOCK_VECTORS) for _ in range(n_rows)]
    with cgutils.for_range_slice(builder, first, end, ir.Constant(index, 1)) as (block, _):
        start = builder.mul(block, ir.Constant(index, _BLOCK))
        parts = [
            _quads_at(builder, weights, start, i * _QUADS_OF_VECTOR, _QUADS_OF_VECTOR)
            for i in range(_BLOCK_VECTORS)
        ]
        quad = builder.add(row, builder.load(builder.gep(places, [block])))
        for totals in sums:
            quads = _quads_at(builder, inputs, quad, 0, block_inputs)
            _add_products(builder, totals, quads, parts)
            quad = builder.add(quad, n_quads)
    group = LANES * _BLOCK_VECTORS // width
    totals = [_half_as_many(builder, [builder.load(total) for total in row], group) for row in sums]
    vectors = [vector for row in totals for vector in row]
    while (group := group // 2) > 1:
        vectors = _half_as_many(builder, vectors * (1 + len(vectors) % 2), group)
    outputs = [part for vector in vectors for part in split(builder, vector, width)]
    for part in outputs[:n_rows]:
        store(builder, part, out, place)
        place = builder.add(place, stride)


def _half_as_many(builder: ir.IRBuilder, vectors: Sequence[ir.Value], group: int) -> list[ir.Value]:
    """An even number of vectors of groups of lanes, halved: each group's second half is added to its first."""
    lower = [first + lane for first in range(0, 2 * LANES, group) for lane in range(group // 2)]
    upper = [lane + group // 2 for lane in lower]
    pairs = [join(builder, vectors[i : i + 2]) for i in range(0, len(vectors), 2)]
    return [builder.fadd(pick(builder, pair, lower), pick(builder, pair, upper)) for pair in pairs]


def _outer_products(n_blocks: int) -> Any:
    """The intrinsic that adds to some blocks of a line the outer products of a chunk of rows."""

    @intrinsic
    def add(typingctx: Any, outputs: Any, line: Any, inputs: Any, columns: Any, first: Any, sums: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            _emit_outer_products(builder, n_blocks, *data_of_arrays(context, builder, signature, arguments))
            return context.get_dummy_value()

        return types.void(outputs, types.intp, inputs, columns, types.intp, sums), codegen

    return add


def _emit_outer_products(
    builder: ir.IRBuilder,
    n_blocks: int,
    outputs: ir.Value,
    line: ir.Value,
    inputs: ir.Value,
    columns: ir.Value,
    first: ir.Value,
    sums: ir.Value,
) -> None:
    """Emit the sums over a chunk's quads of rows: a lane sums two rows of each quad."""
    index = line.type

    def scaled(value: ir.Value, factor: int) -> ir.Value:
        return builder.mul(value, ir.Constant(index, factor))

    block_sums = BLOCK_COLUMNS * _BLOCK_VECTORS
    places = [
        builder.add(scaled(first, block_sums * LANES), ir.Constant(index, i * LANES))
        for i in range(n_blocks * block_sums)
    ]
    totals = [
        cgutils.alloca_once_value(builder, load(builder, sums, place, vector_type(F32))) for place in places
    ]
    of_line = builder.gep(outputs, [scaled(line, _CHUNK * BLOCK_ROWS)])
    of_blocks = []
    for i in range(n_blocks):
        column = builder.load(builder.gep(columns, [builder.add(first, ir.Constant(index, i))]))
        of_blocks.append(builder.gep(inputs, [scaled(column, _CHUNK * BLOCK_COLUMNS)]))
    with cgutils.for_range(builder, ir.Constant(index, _CHUNK)) as loop:
        start = scaled(loop.index, BLOCK_ROWS)
        parts = [
            _quads_at(builder, of_line, start, i * _QUADS_OF_VECTOR, _QUADS_OF_VECTOR)
            for i in range(_BLOCK_VECTORS)
        ]
        quad, waiting = scaled(loop.index, BLOCK_COLUMNS), totals
        for of_block in of_blocks:
            for i in range(BLOCK_COLUMNS):
                _add_products(
                    builder, waiting[:_BLOCK_VECTORS], _quads_at(builder, of_block, quad, i, 1), parts
                )
                waiting = waiting[_BLOCK_VECTORS:]
    for total, place in zip(totals, places, strict=True):
        store(builder, builder.load(total), sums, place)


def _zero_sums(builder: ir.IRBuilder, n: int) -> list[ir.Value]:
    zero = ir.Constant(vector_type(F32), [0.0] * LANES)
    return [cgutils.alloca_once_value(builder, zero) for _ in range(n)]


def _quads_at(builder: ir.IRBuilder, data: ir.Value, place: ir.Value, offset: int, n: int) -> ir.Value:
    """Some quads from a place on, repeated to fill a vector."""
    place = builder.add(place, ir.Constant(place.type, offset))
    if n == 1:
        quads = spread(builder, builder.load(builder.gep(data, [place])), _QUADS_OF_VECTOR)
    else:
        quads = load(builder, data, place, vector_type(I64, n))
        quads = pick(builder, quads, list(range(n)) * (_QUADS_OF_VECTOR // n))
    return builder.bitcast(quads, vector_type(I32))


def _add_products(
    builder: ir.IRBuilder, totals: Sequence[ir.Value], quads: ir.Value, parts: Sequence[ir.Value]
) -> None:
    """Add to each sum the products of quads with one part, two to a lane."""
    for total, part in zip(totals, parts, strict=True):
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        builder.store(call(builder, name, vector_type(F32), builder.load(total), quads, part), total)


_many_rows, _one_row = (_rows_product(n, BLOCK_ROWS) for n in (_ROWS_AT_ONCE, 1))
_many_rows_back, _one_row_back = (_rows_product(n, BLOCK_COLUMNS) for n in (_ROWS_AT_ONCE, 1))
_many_blocks, _one_block = _outer_products(_BLOCKS_AT_ONCE), _outer_products(1)


@compiled()
def multiply(inputs: Quads, blocks: Blocks, out: npt.NDArray[np.float32]) -> None:
    """Out = inputs matrix^T. A row's sums do not depend on how many rows there are.

    Args:
        inputs: (N, I / 4).
        blocks: of `blocks_of`, or of `transposed_blocks_of` where O and I change places.
        out: (N, O) receives the products.
    """
    width, starts, places, weights = blocks
    (n_rows, n_quads), stride = inputs.shape, out.shape[1]
    row = 0
    while row < n_rows:
        place, are_many = row * n_quads, row + _ROWS_AT_ONCE <= n_rows
        for line in range(starts.size - 1):
            at, first, end = row * stride + line * width, starts[line], starts[line + 1]
            if width == BLOCK_ROWS and are_many:
                _many_rows(inputs, place, n_quads, places, weights, first, end, out, at, stride)
            elif width == BLOCK_ROWS:
                _one_row(inputs, place, n_quads, places, weights, first, end, out, at, stride)
            elif are_many:
                _many_rows_back(inputs, place, n_quads, places, weights, first, end, out, at, stride)
            else:
                _one_row_back(inputs, place, n_quads, places, weights, first, end, out, at, stride)
        row += _ROWS_AT_ONCE if are_many else 1


@compiled()
def sum_outer_products(
    outputs: npt.NDArray[np.uint16],
    inputs: npt.NDArray[np.uint16],
    blocks: Blocks,
    total: npt.NDArray[np.float32],
) -> None:
    """Total = outputs^T inputs, in the kept blocks alone.

    Args:
        outputs: (N, O) bf16.
        inputs: (N, I) bf16.
        blocks: of `blocks_of`, for where they are.
        total: (O, I); blocks that are not kept stay as they are.
    """
    _, starts, columns, _ = blocks
    n_bands = starts.size - 1
    of_outputs = np.empty((n_bands, _CHUNK, BLOCK_ROWS), np.uint64)
    of_inputs = np.empty((inputs.shape[1] // BLOCK_COLUMNS, _CHUNK, BLOCK_COLUMNS), np.uint64)
    sums = np.zeros((columns.size, BLOCK_COLUMNS, BLOCK_ROWS, 2), np.float32)
    for first in range(0, outputs.shape[0], _QUAD * _CHUNK):
        _weave(outputs, first, of_outputs)
        _weave(inputs, first, of_inputs)
        for band in range(n_bands):
            block, end = starts[band], starts[band + 1]
            while block + _BLOCKS_AT_ONCE <= end:
                _many_blocks(of_outputs, band, of_inputs, columns, block, sums)
                block += _BLOCKS_AT_ONCE
            while block < end:
                _one_block(of_outputs, band, of_inputs, columns, block, sums)
                block += 1
    for band in range(n_bands):
        for block in range(starts[band], starts[band + 1]):
            for i in range(BLOCK_ROWS):
                for j in range(BLOCK_COLUMNS):
                    value = sums[block, j, i, 0] + sums[block, j, i, 1]
                    total[band * BLOCK_ROWS + i, columns[block] * BLOCK_COLUMNS + j] = value


@compiled()
def _weave(rows: npt.NDArray[np.uint16], first: int, out: npt.NDArray[np.uint64]) -> None:
    """Quads of rows: each column's numbers in four rows, one above the other; 0 beyond the last row.

    Args:
        rows: (N, W).
        first: the first row.
        out: (W / width, 64, width) receives the quads, `width` columns together.
    """
    n_rows, n_columns = rows.shape
    line, width = np.empty(n_columns, np.uint64), out.shape[2]
    for quad in range(out.shape[1]):
        row = first + _QUAD * quad
        if row + _QUAD <= n_rows:
            a, b, c, d = rows[row], rows[row + 1], rows[row + 2], rows[row + 3]
            for j in range(n_columns):
                lower = np.uint64(a[j]) | np.uint64(b[j]) << np.uint64(16)
                line[j] = lower | np.uint64(c[j]) << np.uint64(32) | np.uint64(d[j]) << np.uint64(48)
        else:
            line[:] = 0
            for i in range(max(0, n_rows - row)):
                for j in range(n_columns):
                    line[j] |= np.uint64(rows[row + i, j]) << np.uint64(16 * i)
        if width == BLOCK_ROWS:  # loops of fixed length are a few instructions
            for part in range(out.shape[0]):
                for j in range(BLOCK_ROWS):
                    out[part, quad, j] = line[part * BLOCK_ROWS + j]
        else:
            for part in range(out.shape[0]):
                for j in range(BLOCK_COLUMNS):
                    out[part, quad, j] = line[part * BLOCK_COLUMNS + j]
