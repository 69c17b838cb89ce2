"""The sample loop as one compiled function with int8 weights, for a GRU with a tree output.

The loop and its scalar parts are numba's; the three steps that take the time (the recurrent layer, the readout and
the tree) work on groups of 16 rows and are written in vectors.py's terms. Nothing is allocated inside and the
interpreter's lock is not held. The caller makes and checks every array; see packing.PackedNetwork for the layouts.
Shapes: see model.py; N is the number of groups of 16 units, H / 16 rounded up.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gru_audio.config import SignalConfig
from gru_audio.jit import compiled
from gru_audio.mulaw import expansion_table, thresholds
from gru_audio.synthesis.packing import (
    LARGEST_ACTIVATION,
    ROW_SHIFT,
    SUBTREE_BITS,
    PackedGRU,
    PackedReadout,
    PackedTree,
)
from gru_audio.synthesis.vectors import LANES, Vectors

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

_BUCKET_SHIFT = 18
"""Bits of a float that the companding table leaves out: 32 buckets an octave, under two codes of 8 bits."""

_ZERO, _ONE = np.float32(0), np.float32(1)
_ADDRESS = types.intp
_GATES = 3
_INT16, _INT32, _FLOAT32 = 2 * LANES, 4 * LANES, 4 * LANES  # bytes of a vector


def _emit(context: Any, builder: ir.IRBuilder) -> Vectors:
    return Vectors(builder, context.codegen().magic_tuple()[2])


def _row_sums(
    vectors: Vectors, rows: ir.Value, n_rows: ir.Value, offset: ir.Value, n_vectors: int
) -> list[ir.Value]:
    """The sums of int16 table rows: n_rows addresses at `rows`; n_vectors * 16 values from `offset` bytes on."""
    builder, short = vectors.builder, ir.VectorType(ir.IntType(16), LANES)
    sums = [cgutils.alloca_once(builder, short) for _ in range(n_vectors)]
    for total in sums:
        builder.store(ir.Constant(short, [0] * LANES), total)
    with cgutils.for_range(builder, n_rows) as loop:
        eight = builder.shl(loop.index, ir.Constant(loop.index.type, 3))
        row = builder.add(vectors.load(builder.add(rows, eight), rows.type, 1, align=8), offset)
        for i, total in enumerate(sums):
            part = vectors.load(vectors.at(row, i * _INT16), short.element, LANES, align=2)
            builder.store(builder.add(builder.load(total), part), total)
    return [vectors.widen(builder.load(total), ROW_SHIFT) for total in sums]


@intrinsic
def _gru_layer(
    typingctx: Any,
    n_groups: Any,
    blocks: Any,
    columns: Any,
    starts: Any,
    constants: Any,
    product_start: Any,
    rows: Any,
    n_rows: Any,
    frame: Any,
    activations: Any,
    hidden: Any,
    next_activations: Any,
) -> Any:
    """`step_gru`: r = sigmoid(gates_r + product_r), z likewise, n = tanh(gates_n + r product_n), h = n + z (h - n).

    The sums of one group of units are begun before the gates of the group before it: the processor, which looks
    some 300 instructions ahead, then waits for memory and computes at the same time.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        n_groups, *rest = arguments
        layer = _GRULayer(_emit(context, builder), *rest)
        one = ir.Constant(n_groups.type, 1)
        pending = [cgutils.alloca_once_value(builder, part) for part in layer.sums(ir.Constant(one.type, 0))]
        with cgutils.for_range(builder, builder.sub(n_groups, one)) as loop:
            following = layer.sums(builder.add(loop.index, one))
            layer.finish(loop.index, [builder.load(place) for place in pending])
            for part, place in zip(following, pending, strict=True):
                builder.store(part, place)
        layer.finish(builder.sub(n_groups, one), [builder.load(place) for place in pending])
        return context.get_dummy_value()

    return types.void(*[_ADDRESS] * 12), codegen


class _GRULayer:
    """Emits the parts of `_gru_layer`; the values are its arguments."""

    def __init__(
        self,
        vectors: Vectors,
        blocks: ir.Value,
        columns: ir.Value,
        starts: ir.Value,
        constants: ir.Value,
        product_start: ir.Value,
        rows: ir.Value,
        n_rows: ir.Value,
        frame: ir.Value,
        activations: ir.Value,
        hidden: ir.Value,
        next_activations: ir.Value,
    ) -> None:
        self._vectors, self._builder = vectors, vectors.builder
        self._blocks, self._columns, self._starts = blocks, columns, starts
        self._constants, self._product_start = constants, product_start
        self._rows, self._n_rows, self._frame = rows, n_rows, frame
        self._activations, self._hidden, self._next_activations = activations, hidden, next_activations

    def sums(self, group: ir.Value) -> list[ir.Value]:
        """A group's integer sums: r and z with all that adds to them, n's inputs, n's recurrent product."""
        vectors, builder, width = self._vectors, self._builder, group.type
        offset = builder.mul(group, ir.Constant(width, _GATES * _INT16))
        tables = _row_sums(vectors, self._rows, self._n_rows, offset, _GATES)
        frame = [vectors.load_integers(self._at(self._frame, group, _GATES * _INT32, i * _INT32)) for i in range(3)]
        r, z, n = (builder.add(part, inputs) for part, inputs in zip(tables, frame, strict=True))
        at = builder.add(self._starts, builder.mul(group, ir.Constant(width, _GATES * 8)))
        bounds = [vectors.load(vectors.at(at, 8 * i), width, 1, align=8) for i in range(_GATES + 1)]
        product_start = vectors.load_integers(self._at(self._product_start, group, _INT32))
        r, z, product = (
            vectors.block_products(
                start,
                builder.add(self._blocks, builder.shl(first, ir.Constant(width, 6))),
                self._activations,
                builder.sub(last, first),
                builder.add(self._columns, builder.shl(first, ir.Constant(width, 1))),
            )
            for start, first, last in zip((r, z, product_start), bounds, bounds[1:], strict=False)
        )
        return [r, z, n, product]

    def finish(self, group: ir.Value, sums: Sequence[ir.Value]) -> None:
        """The gates of a group and its new state."""
        vectors, builder = self._vectors, self._builder
        r, z, n, product = (vectors.to_float(part) for part in sums)
        unit_r, unit_z, unit_n, own_r, own_z, own_n = (
            vectors.load_bfloats(self._at(self._constants, group, 2 * _GATES * _INT16, i * _INT16))
            for i in range(2 * _GATES)
        )
        h = vectors.load(self._at(self._hidden, group, _FLOAT32))
        half = vectors.number(0.5)
        # sigmoid(x) = 1/2 + tanh(x / 2) / 2; the halving of x is in the constants.
        reset = vectors.tanh(vectors.multiply_add(r, unit_r, builder.fmul(own_r, h)))
        reset = vectors.multiply_add(reset, half, half)
        update = vectors.tanh(vectors.multiply_add(z, unit_z, builder.fmul(own_z, h)))
        update = vectors.multiply_add(update, half, half)
        inner = vectors.multiply_add(product, unit_n, builder.fmul(own_n, h))
        new = vectors.tanh(vectors.multiply_add(n, unit_n, builder.fmul(reset, inner)))
        h = vectors.multiply_add(update, builder.fsub(h, new), new)
        vectors.store(h, self._at(self._hidden, group, _FLOAT32))
        byte_values = vectors.to_bytes(h, LARGEST_ACTIVATION, vectors.offset)
        vectors.store(byte_values, self._at(self._next_activations, group, LANES), align=1)

    def _at(self, array: ir.Value, group: ir.Value, group_bytes: int, offset: int = 0) -> ir.Value:
        """The address of a place in a group's part of an array."""
        first = self._builder.mul(group, ir.Constant(group.type, group_bytes))
        return self._vectors.at(self._builder.add(array, first), offset)


@intrinsic
def _readout_group(
    typingctx: Any,
    group: Any,
    blocks: Any,
    n_blocks: Any,
    scale: Any,
    rows: Any,
    n_rows: Any,
    frame: Any,
    activations: Any,
    out: Any,
) -> Any:
    """16 units of the readout: out (16,) float32 = relu(scale (blocks h + table rows + frame))."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        group, blocks, n_blocks, scale, rows, n_rows, frame, activations, out = arguments
        vectors, width = _emit(context, builder), group.type

        def times(n: int) -> ir.Value:
            return builder.mul(group, ir.Constant(width, n))

        (start,) = _row_sums(vectors, rows, n_rows, times(_INT16), 1)
        start = builder.add(start, vectors.load_integers(builder.add(frame, times(_INT32))))
        first = builder.add(blocks, builder.mul(times(4 * LANES), n_blocks))
        total = vectors.block_products(start, first, activations, n_blocks)
        value = builder.fmul(
            vectors.to_float(total), vectors.load(builder.add(scale, times(_FLOAT32)))
        )
        vectors.store(vectors.maximum(value, vectors.number(0.0)), builder.add(out, times(_FLOAT32)))
        return context.get_dummy_value()

    return types.void(*[_ADDRESS] * 9), codegen


@intrinsic
def _to_activations(typingctx: Any, values: Any, n_groups: Any, out: Any) -> Any:
    """Non-negative floats (16 n_groups,) to bytes from 0 to 127; gives the value of one step."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values, n_groups, out = arguments
        vectors, width = _emit(context, builder), values.type
        most = cgutils.alloca_once(builder, vectors.number(0.0).type)
        builder.store(vectors.number(1e-20), most)
        with cgutils.for_range(builder, n_groups) as loop:
            at = builder.add(values, builder.mul(loop.index, ir.Constant(width, _FLOAT32)))
            builder.store(vectors.maximum(builder.load(most), vectors.load(at)), most)
        largest = vectors.largest(builder.load(most))
        full = ir.Constant(ir.FloatType(), float(LARGEST_ACTIVATION))
        factor = vectors.spread(builder.fdiv(full, largest))
        with cgutils.for_range(builder, n_groups) as loop:
            at = builder.add(values, builder.mul(loop.index, ir.Constant(width, _FLOAT32)))
            byte_values = vectors.to_bytes(vectors.load(at), factor, 0)
            vectors.store(
                byte_values, builder.add(out, builder.mul(loop.index, ir.Constant(width, LANES))), align=1
            )
        return builder.fmul(largest, ir.Constant(ir.FloatType(), 1.0 / LARGEST_ACTIVATION))

    return types.float32(*[_ADDRESS] * 3), codegen


@intrinsic
def _node_probabilities(
    typingctx: Any,
    blocks: Any,
    n_blocks: Any,
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
        blocks, n_blocks, scale, bias, activations, step, inverse_temperature, tail_cut, out = arguments
        vectors = _emit(context, builder)
        total = vectors.block_products(vectors.integer(0), blocks, activations, n_blocks)
        unit = builder.fmul(vectors.load(scale), vectors.spread(step))
        logits = vectors.multiply_add(vectors.to_float(total), unit, vectors.load(bias))
        left = vectors.sigmoid(builder.fmul(logits, vectors.spread(builder.fneg(inverse_temperature))))
        vectors.store(vectors.cut_tails(left, vectors.spread(tail_cut)), out)
        return context.get_dummy_value()

    addresses = [_ADDRESS] * 5
    return types.void(*addresses, *[types.float32] * 3, _ADDRESS), codegen


class SignalTables(NamedTuple):
    """The signal model's constants.

    Attributes:
        edges: (Q,) mu-law's ascending thresholds, and infinity behind them.
        expansion: (Q,) the amplitude of each code.
        first_codes: for each bucket of floats the code of its least; see `_code_of`.
        preemphasis: (1,).
    """

    edges: FloatArray
    expansion: FloatArray
    first_codes: npt.NDArray[np.int16]
    preemphasis: FloatArray


def signal_tables(config: SignalConfig) -> SignalTables:
    """The constants of a signal model."""
    edges = np.append(thresholds(config.n_classes), np.float32(np.inf))
    half = (np.float32(1).view(np.int32) >> _BUCKET_SHIFT) + 1
    ordered = np.arange(-half, half, dtype=np.int32) << _BUCKET_SHIFT
    least = np.where(ordered >= 0, ordered, ordered ^ 0x7FFFFFFF).astype(np.int32).view(np.float32)
    first_codes = np.searchsorted(edges, least, side="right").astype(np.int16)
    first_codes[0] = 0
    preemphasis = np.array([config.preemphasis], np.float32)
    return SignalTables(edges, expansion_table(config.n_classes).copy(), first_codes, preemphasis)


class GRUAddresses(NamedTuple):
    """Where a `packing.PackedGRU` lies: array views cost the loop more than its arithmetic.

    Attributes are addresses, and:
        n_groups: N.
        n_tables: how many tables there are.
        table_bytes: the size of a table.
        row_bytes: the size of one of its rows.
    """

    blocks: int
    columns: int
    starts: int
    constants: int
    product_start: int
    tables: int
    n_groups: int
    n_tables: int
    table_bytes: int
    row_bytes: int


class ReadoutAddresses(NamedTuple):
    """Where a `packing.PackedReadout` lies; as `GRUAddresses`, and:

    Attributes:
        n_groups: R' / 16.
        n_blocks: H' / 4.
    """

    blocks: int
    units: int
    tables: int
    n_groups: int
    n_blocks: int
    n_tables: int
    table_bytes: int
    row_bytes: int


class TreeAddresses(NamedTuple):
    """Where a `packing.PackedTree` lies, and:

    Attributes:
        n_blocks: R' / 4.
        n_bits: levels of the tree.
    """

    blocks: int
    units: int
    bias: int
    n_blocks: int
    n_bits: int


def gru_addresses(layer: PackedGRU) -> GRUAddresses:
    """The addresses of a layer, good while it lives."""
    return GRUAddresses(
        layer.blocks.ctypes.data,
        layer.columns.ctypes.data,
        layer.starts.ctypes.data,
        layer.constants.ctypes.data,
        layer.product_start.ctypes.data,
        layer.tables.ctypes.data,
        len(layer.product_start),
        len(layer.tables),
        layer.tables[0].nbytes,
        layer.tables[0, 0].nbytes,
    )


def readout_addresses(layer: PackedReadout) -> ReadoutAddresses:
    """As `gru_addresses`."""
    return ReadoutAddresses(
        layer.blocks.ctypes.data,
        layer.units.ctypes.data,
        layer.tables.ctypes.data,
        layer.blocks.shape[1],
        layer.blocks.shape[2],
        len(layer.tables),
        layer.tables[0].nbytes,
        layer.tables[0, 0].nbytes,
    )


def tree_addresses(tree: PackedTree, n_bits: int) -> TreeAddresses:
    """As `gru_addresses`."""
    return TreeAddresses(
        tree.blocks.ctypes.data, tree.units.ctypes.data, tree.bias.ctypes.data, tree.blocks.shape[1], n_bits
    )


class Frames(NamedTuple):
    """What the loop needs of F frames; see frontend.FrameBlock.

    Attributes:
        gates: (F, N, 3, 16) int32, in the units of the GRU's rows.
        readout: (F, S, R') int32, in the units of the readout's rows.
        coefficients: (F, P).
        excitation_scale: (F,).
        signal_scale: (F,).
        lags: (F,), 0 where unvoiced.
    """

    gates: npt.NDArray[np.int32]
    readout: npt.NDArray[np.int32]
    coefficients: FloatArray
    excitation_scale: FloatArray
    signal_scale: FloatArray
    lags: IntArray


@compiled()
def generate(
    gru: GRUAddresses,
    readout: ReadoutAddresses,
    tree: TreeAddresses,
    turns: tuple[int, ...],
    signal: SignalTables,
    frames: Frames,
    uniforms: FloatArray,
    inverse_temperature: np.float32,
    tail_cut: np.float32,
    hidden: FloatArray,
    activations: npt.NDArray[np.uint8],
    history: IntArray,
    past: FloatArray,
    last_audio: FloatArray,
    audio: FloatArray,
) -> None:
    """Generate the samples of F frames.

    Args:
        gru: the recurrent layer.
        readout: the readout layer.
        tree: the output.
        turns: 0 to S - 1, a tuple so that the compiler knows how many.
        signal: the signal model's constants.
        frames: the frames.
        uniforms: (T,) in [0, 1).
        inverse_temperature: multiplies the logits.
        tail_cut: branches less likely are never taken.
        hidden: (H',) state, in place.
        activations: (2, H') bytes; the first row holds those of `hidden`.
        history: (L + T,) excitation codes, the first L given.
        past: (P + T,) rebuilt signal, the first P given.
        last_audio: (1,) the sample before, in place.
        audio: (T,) out.
    """
    stride, n_tables = len(turns), gru.n_tables
    n_frames, order = frames.coefficients.shape
    n_past, hop = history.size - audio.size, audio.size // n_frames
    codes, rows = np.empty(n_tables, np.int64), np.empty(n_tables, np.int64)
    values, row = np.empty(readout.n_groups * LANES, np.float32), np.empty(readout.n_groups * LANES, np.uint8)
    probabilities = np.empty(LANES, np.float32)
    now, following = activations.ctypes.data, activations[1:].ctypes.data
    before, audio_before = _ZERO, last_audio[0]
    if order:
        before = past[order - 1]
    for frame in range(n_frames):
        lag, inverse_scale = frames.lags[frame], _ONE / frames.signal_scale[frame]
        gates = frames.gates.ctypes.data + frame * gru.n_groups * (_GATES * _INT32)
        inputs = frames.readout.ctypes.data + frame * stride * readout.n_groups * _INT32
        for t in range(frame * hop, (frame + 1) * hop, stride):
            for i in turns:
                at = n_past + t + i
                prediction = _ZERO
                for k in range(stride):
                    codes[k] = history[at - 1 - k]
                if order:
                    # The last sample comes last, so that the rest can be summed while it is being drawn.
                    for k in range(order - 1, 0, -1):
                        prediction += frames.coefficients[frame, k] * past[order + t + i - 1 - k]
                    prediction += frames.coefficients[frame, 0] * before
                    codes[stride] = _code_of(before * inverse_scale, signal.edges, signal.first_codes)
                    codes[stride + 1] = _code_of(prediction * inverse_scale, signal.edges, signal.first_codes)
                    for k in range(stride):
                        codes[stride + 2 + k] = signal.expansion.size // 2
                        if lag:
                            codes[stride + 2 + k] = history[at + k - lag]
                if i == 0:
                    for k in range(n_tables):
                        rows[k] = gru.tables + k * gru.table_bytes + codes[k] * gru.row_bytes
                    step_gru(gru, rows.ctypes.data, gates, now, hidden.ctypes.data, following)
                    now, following = following, now
                for k in range(readout.n_tables):
                    rows[k] = readout.tables + k * readout.table_bytes + codes[k] * readout.row_bytes
                unit = read_out(
                    readout,
                    i,
                    rows.ctypes.data,
                    inputs + i * readout.n_groups * _INT32,
                    now,
                    values.ctypes.data,
                    row.ctypes.data,
                )
                code = draw_code(
                    tree, row.ctypes.data, unit, uniforms[t + i], inverse_temperature, tail_cut, probabilities
                )
                history[at] = code
                before = prediction + frames.excitation_scale[frame] * signal.expansion[code]
                past[order + t + i] = before
                audio_before = before + signal.preemphasis[0] * audio_before
                audio[t + i] = audio_before
    last_audio[0] = audio_before


@compiled(inline="always")
def step_gru(
    gru: GRUAddresses, rows: int, frame: int, activations: int, hidden: int, next_activations: int
) -> None:
    """One step of the recurrent layer; all arguments are addresses.

    Args:
        gru: the layer.
        rows: of the addresses of a row in each of the layer's tables.
        frame: of (N, 3, 16) int32, the frame's part of the gates.
        activations: of (H',) bytes of the state.
        hidden: of (H',) float32, the state, in place.
        next_activations: of (H',) bytes that become the new state's.
    """
    _gru_layer(
        gru.n_groups,
        gru.blocks,
        gru.columns,
        gru.starts,
        gru.constants,
        gru.product_start,
        rows,
        gru.n_tables,
        frame,
        activations,
        hidden,
        next_activations,
    )


@compiled(inline="always")
def read_out(
    readout: ReadoutAddresses, i: int, rows: int, frame: int, activations: int, values: int, row: int
) -> np.float32:
    """The readout's activations for the i-th sample of a step, as bytes at `row`; gives their unit.

    For the other arguments see `step_gru`; `values`, of (R',) float32, is scratch.
    """
    blocks = readout.blocks + i * readout.n_groups * readout.n_blocks * (4 * LANES)
    for group in range(readout.n_groups):
        _readout_group(
            group,
            blocks,
            readout.n_blocks,
            readout.units,
            rows,
            readout.n_tables,
            frame,
            activations,
            values,
        )
    return _to_activations(values, readout.n_groups, row)  # type: ignore[no-any-return]


@compiled(inline="always")
def draw_code(
    tree: TreeAddresses,
    row: int,
    unit: np.float32,
    uniform: np.float32,
    inverse_temperature: np.float32,
    tail_cut: np.float32,
    probabilities: FloatArray,
) -> int:
    """Draw a code from the tree over a row of the readout; see distribution.draw.

    In place of bringing `uniform` back to [0, 1) at each node, which takes a division, the interval that is left
    to it shrinks.
    """
    code, first_subtree, interval = 0, 0, _ONE
    for level in range(0, tree.n_bits, SUBTREE_BITS):
        subtree = first_subtree + code
        _node_probabilities(
            tree.blocks + subtree * tree.n_blocks * (4 * LANES),
            tree.n_blocks,
            tree.units + subtree * _FLOAT32,
            tree.bias + subtree * _FLOAT32,
            row,
            unit,
            inverse_temperature,
            tail_cut,
            probabilities.ctypes.data,
        )
        first_subtree += 1 << level
        depth = min(SUBTREE_BITS, tree.n_bits - level)
        node = 0
        for _ in range(depth):
            left = interval * probabilities[node]
            # Without a branch, as half of them would be guessed wrong.
            goes_right = uniform >= left
            share = np.float32(goes_right)
            uniform -= share * left
            interval = left + share * (interval - left - left)
            node = 2 * node + 1 + goes_right
        code = (code << depth) + node - ((1 << depth) - 1)
    return code


@compiled(inline="always")
def _code_of(value: np.float32, edges: FloatArray, first_codes: npt.NDArray[np.int16]) -> int:
    """mulaw.code_of by table: equal steps of a float's bit pattern give the first code to try."""
    bits = np.int64(np.float32(value).view(np.int32))
    ordered = bits if bits >= 0 else bits ^ 0x7FFFFFFF
    bucket = min(max((ordered >> _BUCKET_SHIFT) + first_codes.size // 2, 0), first_codes.size - 1)
    code = np.int64(first_codes[bucket])
    return code + (edges[code] <= value)
