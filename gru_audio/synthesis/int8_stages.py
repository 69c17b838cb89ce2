"""The steps of the int8 sample loop, each on groups of 16 rows, in vectors.py's terms.

`multiply_gru` and `step_gru` are the recurrent layer and the readout's products with its state, `read_out` and
`to_activations` the rest of the readout, `weigh_nodes` and `walk_subtree` the draw. All arguments that hold arrays are
addresses of packing.py's layouts: array views cost the loop more than its arithmetic. Shapes: see model.py; N is the
number of groups of 16 units, and H' and R' are H and R rounded up to a multiple of 16.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as untyped_intrinsic

from gru_audio.jit import compiled
from gru_audio.lanes import F32, I8, I16, LANES, join, split, spread, vector_type
from gru_audio.sparsity import BLOCK_COLUMNS
from gru_audio.synthesis.packing import LARGEST_ACTIVATION, ROW_SHIFT, PackedGRU, PackedReadout, PackedTree
from gru_audio.synthesis.vectors import Vectors

# numba's types count the typing context among a call's arguments.
intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = untyped_intrinsic

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

GATES = 3
VECTOR_BYTES = 4 * LANES
"""Of 16 int32 or float32."""

Counts = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""For each gate the numbers from 0 on of the blocks of a group's rows: the compiler knows the tuples' lengths."""

_QUARTERS = LANES // BLOCK_COLUMNS
"""Blocks as wide as a group of activations."""

_ADDRESS = types.intp


class GRUAddresses(NamedTuple):
    """Where a `packing.PackedGRU` lies: array views cost the loop more than its arithmetic.

    Attributes are addresses, and:
        n_groups: N.
        table_bytes: the size of a table.
        row_bytes: the size of one of its rows.
    """

    blocks: int
    columns: int
    constants: int
    product_start: int
    tables: int
    n_groups: int
    table_bytes: int
    row_bytes: int


class ReadoutAddresses(NamedTuple):
    """Where a `packing.PackedReadout` lies; as `GRUAddresses`."""

    blocks: int
    units: int
    tables: int
    table_bytes: int
    row_bytes: int


class TreeAddresses(NamedTuple):
    """Where a `packing.PackedTree` lies."""

    blocks: int
    units: int
    bias: int


def gru_addresses(layer: PackedGRU) -> GRUAddresses:
    """The addresses of a layer, good while it lives."""
    return GRUAddresses(
        layer.blocks.ctypes.data,
        layer.columns.ctypes.data,
        layer.constants.ctypes.data,
        layer.product_start.ctypes.data,
        layer.tables.ctypes.data,
        len(layer.product_start),
        layer.tables[0].nbytes,
        layer.tables[0, 0].nbytes,
    )


def readout_addresses(layer: PackedReadout) -> ReadoutAddresses:
    """As `gru_addresses`."""
    return ReadoutAddresses(
        layer.blocks.ctypes.data,
        layer.units.ctypes.data,
        layer.tables.ctypes.data,
        layer.tables[0].nbytes,
        layer.tables[0, 0].nbytes,
    )


def tree_addresses(tree: PackedTree) -> TreeAddresses:
    """As `gru_addresses`."""
    return TreeAddresses(tree.blocks.ctypes.data, tree.units.ctypes.data, tree.bias.ctypes.data)


def numbered(counts: Sequence[int]) -> Counts:
    """A layer's counts of blocks, in the form that the compiler knows."""
    reset, update, new = (tuple(range(count)) for count in counts)
    return reset, update, new


def _emit(context: Any, builder: ir.IRBuilder) -> Vectors:
    return Vectors(builder, context.codegen().magic_tuple()[2])


def _row_sums(
    vectors: Vectors, rows: ir.Value, n_rows: ir.Value, offset: ir.Value, n_vectors: int
) -> list[ir.Value]:
    """The sums of int8 table rows: n_rows addresses at `rows`; n_vectors * 16 values from `offset` bytes on."""
    builder = vectors.builder
    # Two vectors side by side: no processor has narrower steps for bytes.
    widths = [2 * LANES] * (n_vectors // 2) + [LANES] * (n_vectors % 2)
    sums = [cgutils.alloca_once(builder, vector_type(I16, width)) for width in widths]
    for total in sums:
        kind = total.type.pointee
        builder.store(ir.Constant(kind, [0] * kind.count), total)
    with cgutils.for_range(builder, n_rows) as loop:
        eight = builder.shl(loop.index, ir.Constant(loop.index.type, 3))
        row = builder.add(vectors.load(builder.add(rows, eight), rows.type, 1, align=8), offset)
        for total in sums:
            kind = total.type.pointee
            part = builder.sext(vectors.load(row, I8, kind.count, align=1), kind)
            builder.store(builder.add(builder.load(total), part), total)
            row = vectors.at(row, kind.count)
    parts = [part for total in sums for part in split(builder, builder.load(total))]
    return [vectors.widen(part, ROW_SHIFT) for part in parts]


def _products(
    vectors: Vectors,
    gru_blocks: ir.Value,
    columns: ir.Value,
    counts: Sequence[int],
    group: ir.Value,
    activations: ir.Value,
) -> list[ir.Value]:
    """The products of a group's 16 rows, (16,) int32, for each gate."""
    builder, width = vectors.builder, group.type
    first, products = builder.mul(group, ir.Constant(width, sum(counts))), []
    for n_blocks in counts:
        blocks = builder.add(gru_blocks, builder.shl(first, ir.Constant(width, 6)))
        places = builder.add(columns, builder.shl(first, ir.Constant(width, 1)))
        products.append(vectors.block_products(vectors.integer(0), blocks, activations, n_blocks, places))
        first = builder.add(first, ir.Constant(width, n_blocks))
    return products


@intrinsic
def _group_products(
    typingctx: Any, counts: Any, blocks: Any, columns: Any, group: Any, activations: Any, out: Any
) -> Any:
    """`_products` of a group to `out` (3, 16) int32."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, blocks, columns, group, activations, out = arguments
        vectors = _emit(context, builder)
        products = _products(vectors, blocks, columns, _lengths(signature.args[0]), group, activations)
        for i, product in enumerate(products):
            vectors.store(product, vectors.at(out, i * VECTOR_BYTES))
        return context.get_dummy_value()

    return types.void(counts, *[_ADDRESS] * 5), codegen


def _lengths(tuples: Any) -> list[int]:
    """Of the tuples in a tuple, from its type."""
    return [kind.count for kind in tuples.types]


@intrinsic
def _gru_gates(
    typingctx: Any,
    counts: Any,
    turns: Any,
    readout_groups: Any,
    n_groups: Any,
    n_ready: Any,
    blocks: Any,
    columns: Any,
    products: Any,
    constants: Any,
    product_start: Any,
    rows: Any,
    n_rows: Any,
    frame: Any,
    hidden: Any,
    before: Any,
    after: Any,
    readout_blocks: Any,
    readout_sums: Any,
) -> Any:
    """The gates of all groups, the new state, and the readout's products with it.

    r = sigmoid(gates_r + product_r), z likewise, n = tanh(gates_n + r product_n), h = n + z (h - n). What a group
    computes waits for itself at every turn, so two go side by side. The readout's products fill the waits that are
    left: those with the state of the two groups before, as that is ready.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, _, _, n_groups, n_ready, *addresses = arguments
        counts, turns, readout_groups = signature.args[:3]
        n_readout_groups = turns.count * readout_groups.count
        layer = _Gates(_emit(context, builder), n_readout_groups, _lengths(counts), *addresses)
        one = ir.Constant(n_groups.type, 1)

        def pair(index: ir.Value) -> list[ir.Value]:
            first = builder.shl(index, one)
            return [first, builder.add(first, one)]

        n_pairs, n_ready_pairs = builder.lshr(n_groups, one), builder.lshr(n_ready, one)
        none = ir.Constant(one.type, 0)
        for first, last, ready in ((none, n_ready_pairs, True), (n_ready_pairs, n_pairs, False)):
            with cgutils.for_range_slice(builder, first, last, one, inc=True) as (index, _):
                layer.emit(pair(index), ready=ready)
                with builder.if_then(cgutils.is_not_null(builder, index), likely=True):
                    layer.add_readout_products(pair(builder.sub(index, one)))
        with builder.if_then(cgutils.is_not_null(builder, n_pairs)):
            layer.add_readout_products(pair(builder.sub(n_pairs, one)))
        with builder.if_then(builder.trunc(n_groups, ir.IntType(1))):
            last = [builder.sub(n_groups, one)]
            layer.emit(last, ready=False)
            layer.add_readout_products(last)
        return context.get_dummy_value()

    return types.void(counts, turns, readout_groups, *[_ADDRESS] * 15), codegen


class _Gates:
    """Emits `_gru_gates`; the values are its arguments, and the readout has S R' / 16 groups of sums."""

    def __init__(
        self,
        vectors: Vectors,
        n_readout_groups: int,
        counts: Sequence[int],
        blocks: ir.Value,
        columns: ir.Value,
        products: ir.Value,
        constants: ir.Value,
        product_start: ir.Value,
        rows: ir.Value,
        n_rows: ir.Value,
        frame: ir.Value,
        hidden: ir.Value,
        before: ir.Value,
        after: ir.Value,
        readout_blocks: ir.Value,
        readout_sums: ir.Value,
    ) -> None:
        self._vectors, self._builder = vectors, vectors.builder
        self._counts, self._blocks, self._columns = counts, blocks, columns
        self._products, self._constants, self._product_start = products, constants, product_start
        self._rows, self._n_rows, self._frame = rows, n_rows, frame
        self._hidden, self._before, self._after = hidden, before, after
        self._readout_blocks, self._readout_sums = readout_blocks, readout_sums
        self._n_readout_groups = n_readout_groups

    def emit(self, groups: Sequence[ir.Value], *, ready: bool) -> None:
        """The gates of some groups, side by side; their recurrent products may be ready in memory."""
        vectors, builder = self._vectors, self._builder
        sums = [self._sums(group, ready=ready) for group in groups]
        r, z, n, product = (vectors.to_float(join(builder, parts)) for parts in zip(*sums, strict=True))
        unit_r, unit_z, unit_n, own_r, own_z, own_n = (
            join(builder, [vectors.load(self._constant(group, i)) for group in groups])
            for i in range(2 * GATES)
        )
        h = join(builder, [vectors.load(self._at(self._hidden, group, VECTOR_BYTES)) for group in groups])
        half = vectors.number(0.5, h)
        # sigmoid(x) = 1/2 + tanh(x / 2) / 2; the halving of x is in the constants.
        reset_input = vectors.multiply_add(r, unit_r, builder.fmul(own_r, h))
        update_input = vectors.multiply_add(z, unit_z, builder.fmul(own_z, h))
        both = vectors.tanh(join(builder, [reset_input, update_input]))
        reset, update = split(
            builder,
            vectors.multiply_add(both, join(builder, [half, half]), join(builder, [half, half])),
            h.type.count,
        )
        inner = vectors.multiply_add(product, unit_n, builder.fmul(own_n, h))
        new = vectors.tanh(vectors.multiply_add(n, unit_n, builder.fmul(reset, inner)))
        # The gates overshoot 1 by their error: unlimited, a state that is held would grow out of its byte.
        h = vectors.clip(vectors.multiply_add(update, builder.fsub(h, new), new), 1.0)
        for group, part in zip(groups, split(builder, h), strict=True):
            vectors.store(part, self._at(self._hidden, group, VECTOR_BYTES))
            byte_values = vectors.to_bytes(part, vectors.number(LARGEST_ACTIVATION), vectors.offset)
            vectors.store(byte_values, self._at(self._after, group, LANES), align=1)

    def add_readout_products(self, groups: Sequence[ir.Value]) -> None:
        """Add to all sums of the readout the products with some groups of the new state."""
        vectors, builder = self._vectors, self._builder
        group_bytes = self._n_readout_groups * _QUARTERS * VECTOR_BYTES
        fours = [
            [vectors.four(self._at(self._after, group, LANES, k * BLOCK_COLUMNS)) for k in range(_QUARTERS)]
            for group in groups
        ]
        for i in range(self._n_readout_groups):
            place = vectors.at(self._readout_sums, i * VECTOR_BYTES)
            total = vectors.load_integers(place)
            for group, its_fours in zip(groups, fours, strict=True):
                part = vectors.integer(0)
                blocks = self._at(self._readout_blocks, group, group_bytes, i * _QUARTERS * VECTOR_BYTES)
                for k, four in enumerate(its_fours):
                    part = vectors.block_product(part, vectors.at(blocks, k * VECTOR_BYTES), four)
                total = builder.add(total, part)
            vectors.store(total, place)

    def _sums(self, group: ir.Value, *, ready: bool) -> list[ir.Value]:
        """A group's integer sums: r and z with all that adds to them, n's inputs, n's recurrent product."""
        vectors, builder = self._vectors, self._builder
        offset = builder.mul(group, ir.Constant(group.type, GATES * LANES))
        tables = _row_sums(vectors, self._rows, self._n_rows, offset, GATES)
        r, z, n = (
            builder.add(
                part,
                vectors.load_integers(self._at(self._frame, group, GATES * VECTOR_BYTES, i * VECTOR_BYTES)),
            )
            for i, part in enumerate(tables)
        )
        layer = self._blocks, self._columns, self._counts
        product_r, product_z, product_n = (
            self._ready_products(group) if ready else _products(vectors, *layer, group, self._before)
        )
        start = vectors.load_integers(self._at(self._product_start, group, VECTOR_BYTES))
        return [builder.add(r, product_r), builder.add(z, product_z), n, builder.add(start, product_n)]

    def _ready_products(self, group: ir.Value) -> list[ir.Value]:
        return [
            self._vectors.load_integers(
                self._at(self._products, group, GATES * VECTOR_BYTES, i * VECTOR_BYTES)
            )
            for i in range(GATES)
        ]

    def _constant(self, group: ir.Value, i: int) -> ir.Value:
        return self._at(self._constants, group, 2 * GATES * VECTOR_BYTES, i * VECTOR_BYTES)

    def _at(self, array: ir.Value, group: ir.Value, group_bytes: int, offset: int = 0) -> ir.Value:
        """The address of a place in a group's part of an array."""
        first = self._builder.mul(group, ir.Constant(group.type, group_bytes))
        return self._vectors.at(self._builder.add(array, first), offset)


@intrinsic
def _readout_group(
    typingctx: Any, group: Any, sums: Any, scale: Any, rows: Any, n_rows: Any, out: Any
) -> Any:
    """16 units of the readout: out (16,) float32 = relu(scale (sums + table rows))."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        group, sums, scale, rows, n_rows, out = arguments
        vectors = _emit(context, builder)
        (total,) = _row_sums(vectors, rows, n_rows, builder.mul(group, ir.Constant(group.type, LANES)), 1)
        offset = builder.mul(group, ir.Constant(group.type, VECTOR_BYTES))
        total = builder.add(total, vectors.load_integers(builder.add(sums, offset)))
        value = builder.fmul(vectors.to_float(total), vectors.load(builder.add(scale, offset)))
        vectors.store(vectors.maximum(value, vectors.number(0.0)), builder.add(out, offset))
        return context.get_dummy_value()

    return types.void(*[_ADDRESS] * 6), codegen


@intrinsic
def _copy_group(typingctx: Any, source: Any, target: Any) -> Any:
    """Copy (16,) int32."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, target = arguments
        vectors = _emit(context, builder)
        vectors.store(vectors.load_integers(source), target)
        return context.get_dummy_value()

    return types.void(_ADDRESS, _ADDRESS), codegen


@intrinsic
def _to_bytes(typingctx: Any, values: Any, n_groups: Any, out: Any) -> Any:
    """Non-negative floats (16 n_groups,) to bytes from 0 to 127; gives the value of one step."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values, n_groups, out = arguments
        vectors, width = _emit(context, builder), values.type
        most = cgutils.alloca_once(builder, vectors.number(0.0).type)
        builder.store(vectors.number(1e-20), most)
        with cgutils.for_range(builder, n_groups) as loop:
            at = builder.add(values, builder.mul(loop.index, ir.Constant(width, VECTOR_BYTES)))
            builder.store(vectors.maximum(builder.load(most), vectors.load(at)), most)
        largest = vectors.largest(builder.load(most))
        full = ir.Constant(F32, float(LARGEST_ACTIVATION))
        factor = spread(builder, builder.fdiv(full, largest))
        with cgutils.for_range(builder, n_groups) as loop:
            at = builder.add(values, builder.mul(loop.index, ir.Constant(width, VECTOR_BYTES)))
            byte_values = vectors.to_bytes(vectors.load(at), factor, 0)
            vectors.store(
                byte_values, builder.add(out, builder.mul(loop.index, ir.Constant(width, LANES))), align=1
            )
        return builder.fmul(largest, ir.Constant(F32, 1.0 / LARGEST_ACTIVATION))

    return types.float32(*[_ADDRESS] * 3), codegen


@intrinsic
def _node_probabilities(
    typingctx: Any,
    readout_groups: Any,
    blocks: Any,
    scale: Any,
    bias: Any,
    activations: Any,
    step: Any,
    inverse_temperature: Any,
    tail_cut: Any,
    out: Any,
) -> Any:
    """P of bit 0 at the 15 nodes of a subtree of four levels: out (16,) float32."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, blocks, scale, bias, activations, step, inverse_temperature, tail_cut, out = arguments
        vectors, n_blocks = _emit(context, builder), _QUARTERS * signature.args[0].count
        total = vectors.block_products(vectors.integer(0), blocks, activations, n_blocks)
        unit = builder.fmul(vectors.load(scale), spread(builder, step))
        logits = vectors.multiply_add(vectors.to_float(total), unit, vectors.load(bias))
        left = vectors.sigmoid(builder.fmul(logits, spread(builder, builder.fneg(inverse_temperature))))
        vectors.store(vectors.cut_tails(left, spread(builder, tail_cut)), out)
        return context.get_dummy_value()

    addresses = [_ADDRESS] * 4
    return types.void(readout_groups, *addresses, *[types.float32] * 3, _ADDRESS), codegen


@compiled(inline="always")
def find_rows(
    layer: GRUAddresses | ReadoutAddresses, n_tables: int, codes: IntArray, first: int, rows: IntArray
) -> None:
    """The addresses of the rows that codes have in a layer's tables; `codes[first]` is the first table's."""
    for k in range(n_tables):
        rows[k] = layer.tables + k * layer.table_bytes + codes[first + k] * layer.row_bytes


@compiled(inline="always")
def multiply_gru(
    gru: GRUAddresses, counts: Counts, first: int, last: int, activations: int, products: int
) -> None:
    """The recurrent products of the groups from `first` to before `last`.

    Args:
        gru: the layer.
        counts: of the blocks of a group's rows.
        first: a group.
        last: a group.
        activations: address of (H',) bytes of the state.
        products: address of (N, 3, 16) int32 out.
    """
    for group in range(first, last):
        out = products + group * (GATES * VECTOR_BYTES)
        _group_products(counts, gru.blocks, gru.columns, group, activations, out)


@compiled(inline="always")
def step_gru(
    gru: GRUAddresses,
    counts: Counts,
    readout: ReadoutAddresses,
    turns: tuple[int, ...],
    readout_groups: tuple[int, ...],
    n_ready: int,
    products: int,
    rows: int,
    n_rows: int,
    frame: int,
    readout_frame: int,
    hidden: int,
    before: int,
    after: int,
    readout_sums: int,
) -> None:
    """The gates, the new state, and what that and the frame give the readout; the numbers but n_rows are addresses.

    Args:
        gru: the layer.
        counts: see `multiply_gru`.
        readout: the next layer.
        turns: as many numbers as a step has samples.
        readout_groups: as many numbers as the readout has groups of units.
        n_ready: how many groups `multiply_gru` has done, an even number; the others are done here.
        products: of what it gave.
        rows: of the addresses of a row in each of the layer's tables.
        n_rows: how many tables there are.
        frame: of (N, 3, 16) int32, the frame's part of the gates.
        readout_frame: of (S, R') int32, the frame's part of the readout.
        hidden: of (H',) float32, the state, in place.
        before: of (H',) bytes of the state.
        after: of (H',) bytes that become the new state's.
        readout_sums: of (S, R') int32 out.
    """
    for i in range(len(turns) * len(readout_groups)):
        _copy_group(readout_frame + i * VECTOR_BYTES, readout_sums + i * VECTOR_BYTES)
    _gru_gates(
        counts,
        turns,
        readout_groups,
        gru.n_groups,
        n_ready,
        gru.blocks,
        gru.columns,
        products,
        gru.constants,
        gru.product_start,
        rows,
        n_rows,
        frame,
        hidden,
        before,
        after,
        readout.blocks,
        readout_sums,
    )


@compiled(inline="always")
def read_out(
    readout: ReadoutAddresses, i: int, n_groups: int, rows: int, n_rows: int, sums: int, values: int
) -> None:
    """The readout for the i-th sample of a step: (R',) float32 at `values`. `sums` are `step_gru`'s."""
    for group in range(n_groups):
        _readout_group(group, sums + i * n_groups * VECTOR_BYTES, readout.units, rows, n_rows, values)


@compiled(inline="always")
def to_activations(values: int, n_groups: int, row: int) -> np.float32:
    """The readout's values as bytes from 0 to 127 at `row`; gives the value of one step."""
    unit: np.float32 = _to_bytes(values, n_groups, row)
    return unit


@compiled(inline="always")
def weigh_nodes(
    tree: TreeAddresses,
    subtree: int,
    readout_groups: tuple[int, ...],
    row: int,
    unit: np.float32,
    inverse_temperature: np.float32,
    tail_cut: np.float32,
    probabilities: int,
) -> None:
    """P of bit 0 at a subtree's nodes, (16,) at `probabilities`, from the readout's bytes at `row` and their unit."""
    _node_probabilities(
        readout_groups,
        tree.blocks + subtree * len(readout_groups) * (_QUARTERS * VECTOR_BYTES),
        tree.units + subtree * VECTOR_BYTES,
        tree.bias + subtree * VECTOR_BYTES,
        row,
        unit,
        inverse_temperature,
        tail_cut,
        probabilities,
    )


@compiled(inline="always")
def walk_subtree(
    probabilities: FloatArray, depth: int, interval: np.float32, uniform: np.float32, leaf: int
) -> tuple[int, np.float32, np.float32]:
    """Go down a subtree, to a given leaf if that is not negative. See distribution.draw.

    Gives the leaf, its interval and the uniform number within that.

    In place of bringing `uniform` back to [0, 1) at each node, which takes a division, the interval that is left
    to it shrinks.
    """
    node = 0
    for level in range(depth):
        left = interval * probabilities[node]
        right = interval - left
        # Never where nothing is left: rounding may have put the number at the interval's very end. And without a
        # branch, as half of them would be guessed wrong.
        goes_right = (uniform >= left) & (right > 0)
        if leaf >= 0:
            goes_right = (leaf >> (depth - 1 - level)) & 1 == 1
        uniform = uniform - left if goes_right else uniform
        interval = right if goes_right else left
        node = 2 * node + 1 + goes_right
    return node - ((1 << depth) - 1), interval, uniform
