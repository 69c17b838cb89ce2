"""A folded network in the layouts of the int8 kernels: quantised, in groups of 16 rows, without empty blocks.

Each row has a unit: its sums of int8 products, its table rows and its frame inputs are integers in that unit. Sizes
with a dash, as H', are rounded up to a multiple of 16. Shapes: see model.py; N = H' / 16, the groups of units.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.errors import ConfigError
from gru_audio.jit import compiled
from gru_audio.mel import FloatArray
from gru_audio.sparsity import BLOCK_COLUMNS, BLOCK_ROWS
from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.vectors import TANH_LIMIT

LARGEST_ACTIVATION = 127
"""What an activation of 1 is stored as."""

ROW_SHIFT = 8
"""Table rows are stored in 2**ROW_SHIFT units, so that they fit into bytes. Of 6 to 10 the best for the bundled voice
(+0.0004 bits a sample, 6 and 10 +0.004 and +0.003): with less, large rows coarsen their weights, with more
themselves."""

SUBTREE_BITS = 4
"""Levels of the output tree whose nodes are computed together."""

_LARGEST_WEIGHT = 127
_LARGEST_INPUT = np.float32(2.0**30)
_LEAST_UNIT = float(128 / _LARGEST_INPUT)  # a row without weights has frame inputs all the same
_LINE = 64

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


class FrameScale(NamedTuple):
    """Brings what the front end gives of a frame to a layer's layout and units: round(inputs * factor) + shift.

    Attributes:
        source: int32, which of a frame's inputs each place takes.
        factor: float32, of the same shape; one over the unit, 0 for padding.
        shift: int32, of the same shape; makes good for the offset with which activations are stored.
    """

    source: Int32Array
    factor: FloatArray
    shift: Int32Array

    def __call__(self, inputs: FloatArray) -> Int32Array:
        """(F, n) float32 to (F, ...) int32."""
        out = empty_aligned((len(inputs), *self.source.shape), np.int32)
        flat = (self.source.ravel(), self.factor.ravel(), self.shift.ravel())
        _scale_frames(np.ascontiguousarray(inputs, np.float32), *flat, out.reshape(len(inputs), -1))
        return out


class PackedGRU(NamedTuple):
    """The recurrent layer.

    Attributes:
        tables: (n, Q, N, 3, 16) int8, what each code adds to the gates.
        blocks: (n_blocks, 16, 4) int8, the blocks of W_hh that are not empty, by group, then gate, then column.
        columns: (n_blocks + 3,) uint16, each block's first column; the last three are none's.
        counts: how many blocks each group has for r, z and n.
        constants: (N, 6, 16) float32: the units of r, z and n, the diagonal of r, z and n. What belongs
            to r and z is halved, for sigmoid(x) = 1/2 + tanh(x / 2) / 2.
        product_start: (N, 16) int32, from which the new gate's product is summed: its bias.
    """

    tables: Int8Array
    blocks: Int8Array
    columns: npt.NDArray[np.uint16]
    counts: tuple[int, ...]
    constants: FloatArray
    product_start: Int32Array


class PackedReadout(NamedTuple):
    """The readout layer.

    Attributes:
        tables: (n, Q, R') int8.
        blocks: (N, S, R' / 16, 4, 16, 4) int8, by the group of activations that they are multiplied with.
        units: (R',) float32.
    """

    tables: Int8Array
    blocks: Int8Array
    units: FloatArray


class PackedTree(NamedTuple):
    """The output tree, cut into subtrees of four levels: 15 nodes in heap order and an empty one.

    Attributes:
        blocks: (n_subtrees, R' / 4, 16, 4) int8, from the top down.
        units: (n_subtrees, 16) float32.
        bias: (n_subtrees, 16) float32.
        depths: (n,) int64, the levels of each subtree on the way down.
    """

    blocks: Int8Array
    units: FloatArray
    bias: FloatArray
    depths: Int64Array


def pack_gru(network: FoldedNetwork, offset: int) -> tuple[PackedGRU, FrameScale]:
    """Quantise the recurrent layer.

    Args:
        network: see `folding.fold`; its cell is a GRU.
        offset: see `vectors.activation_offset`.

    Returns:
        The layer and the scale of its frame inputs, which brings (F, 3 H) to (F, N, 3, 16).

    Raises:
        ConfigError: weights so large that the gates' approximate functions could overflow.
    """
    _require_moderate(network)
    size = network.config.model.gru_size
    weight = _padded(network.recurrent.reshape(3, size, size), 2)  # (3, H', H')
    diagonal = np.einsum("gii->gi", weight).copy()  # (3, H'), kept in float32
    np.einsum("gii->gi", weight)[...] = 0.0
    tables = _padded(network.step_tables.reshape(*network.step_tables.shape[:2], 3, size), 1)  # (n, Q, 3, H')
    units = _row_units(np.abs(weight).max(2), tables)  # (3, H')
    quantised = _quantised(weight, units)
    blocks, columns, counts = _kept_blocks(quantised)
    shift = -offset * quantised.sum(2, dtype=np.int32)  # (3, H')
    bias = _padded(network.recurrent_bias.reshape(3, size), 1)[2]
    product_start, shift[2] = shift[2] + np.rint(bias / units[2]).astype(np.int32), 0
    halved = np.array([[0.5], [0.5], [1.0]], np.float32)
    constants = np.concatenate([units * halved, diagonal * halved])  # (6, H')
    layer = PackedGRU(
        aligned(_by_group(_table_rows(tables, units))),
        aligned(blocks),
        columns,
        counts,
        aligned(_by_group(constants)),
        aligned(product_start.reshape(-1, BLOCK_ROWS)),
    )
    source, is_kept = _sources(3, size)
    return layer, FrameScale(_by_group(source), _by_group(is_kept / units), _by_group(shift))


def pack_readout(network: FoldedNetwork, offset: int) -> tuple[PackedReadout, FrameScale]:
    """Quantise the readout; see `pack_gru`. Its frame inputs go from (F, R) to (F, S, R')."""
    model = network.config.model
    shape = model.samples_per_step, model.readout_size
    weight = _padded(network.readout_hidden.reshape(*shape, model.gru_size), 2)  # (S, R', H')
    tables = _padded(network.readout_tables, 1)  # (n, Q, R')
    units = _row_units(np.abs(weight).max((0, 2)), tables)
    quantised = _quantised(weight, units)
    shift = -offset * quantised.sum(2, dtype=np.int32)  # (S, R')
    bias = _padded(network.readout_hidden_bias.reshape(shape), 1) / units
    cut = _blocks(quantised)  # (S, R' / 16, H' / 4, 16, 4)
    cut = cut.reshape(*cut.shape[:2], -1, BLOCK_ROWS // BLOCK_COLUMNS, BLOCK_ROWS, BLOCK_COLUMNS)
    blocks = np.moveaxis(cut, 2, 0)
    layer = PackedReadout(aligned(_table_rows(tables, units)), aligned(blocks), aligned(units))
    source, is_kept = _sources(1, model.readout_size)
    source, factor = np.broadcast_to(source, shift.shape).copy(), np.repeat(is_kept / units, len(shift), 0)
    return layer, FrameScale(source, factor, shift + np.rint(bias).astype(np.int32))


def pack_tree(network: FoldedNetwork) -> PackedTree:
    """Quantise the output tree. Its activations are never negative, so they have no offset."""
    bits = network.config.signal.bits
    weight = _padded(network.output[:, None], 1)[:, 0]  # (Q - 1, R')
    depths = [min(SUBTREE_BITS, bits - level) for level in range(0, bits, SUBTREE_BITS)]
    n_subtrees = sum(1 << (SUBTREE_BITS * i) for i in range(len(depths)))
    rows = np.zeros((n_subtrees, BLOCK_ROWS, weight.shape[1]), np.float32)
    bias = np.zeros((n_subtrees, BLOCK_ROWS), np.float32)
    subtree = 0
    for i, depth in enumerate(depths):
        for root in range((1 << (SUBTREE_BITS * i)) - 1, (2 << (SUBTREE_BITS * i)) - 1):
            for level in range(depth):
                # The nodes a level down from a node of a heap are (node + 1) * 2**level - 1 and those after it.
                first, count = ((root + 1) << level) - 1, 1 << level
                rows[subtree, count - 1 : 2 * count - 1] = weight[first : first + count]
                bias[subtree, count - 1 : 2 * count - 1] = network.output_bias[first : first + count]
            subtree += 1
    units = np.maximum(np.abs(rows).max(2), 1e-20) / np.float32(_LARGEST_WEIGHT)
    blocks = _blocks(np.rint(rows / units[..., None]).astype(np.int8))[:, 0]
    return PackedTree(aligned(blocks), aligned(units), aligned(bias), np.array(depths, np.int64))


def state_bytes(hidden: FloatArray, offset: int) -> npt.NDArray[np.uint8]:
    """The state (H',) as the bytes that the kernels multiply; for `offset` see `pack_gru`."""
    integers = np.rint(hidden * np.float32(LARGEST_ACTIVATION)).astype(np.int16) + offset
    return np.asarray(integers, np.uint8)


def _require_moderate(network: FoldedNetwork) -> None:
    """Refuse a voice whose gates could get more than `TANH_LIMIT`; activations and conditioning are within ±1."""
    most = np.abs(network.recurrent).sum(1) + np.abs(network.recurrent_bias)
    most += np.abs(network.gate_conditioning).sum(1) + np.abs(network.gate_bias)
    most += np.abs(network.step_tables).max(1).sum(0)
    if most.max() > TANH_LIMIT:
        raise ConfigError(
            f"engine 'int8': gates may get up to {most.max():.3g}, it computes to {TANH_LIMIT:g}; "
            "use the engine float32"
        )


def _padded(array: FloatArray, n_axes: int) -> FloatArray:
    """A copy with zeros behind, so that each of the last `n_axes` is a multiple of 16."""
    before = [(0, 0)] * (array.ndim - n_axes)
    return np.pad(array, before + [(0, -size % BLOCK_ROWS) for size in array.shape[array.ndim - n_axes :]])


def _row_units(largest_weight: FloatArray, tables: FloatArray) -> FloatArray:
    """The unit of each row: weights and table rows fit into int8."""
    for_weights = largest_weight / (_LARGEST_WEIGHT * LARGEST_ACTIVATION)
    for_tables = np.abs(tables).max((0, 1)) / (_LARGEST_WEIGHT << ROW_SHIFT)
    return np.asarray(np.maximum(np.maximum(for_weights, for_tables), _LEAST_UNIT), np.float32)


def _quantised(weight: FloatArray, units: FloatArray) -> Int8Array:
    return np.asarray(np.rint(weight / (units[..., None] * LARGEST_ACTIVATION)), np.int8)


def _table_rows(tables: FloatArray, units: FloatArray) -> Int8Array:
    return np.asarray(np.rint(tables / (units * (1 << ROW_SHIFT))), np.int8)


def _sources(n_parts: int, size: int) -> tuple[Int32Array, FloatArray]:
    """For parts laid end to end, where each of their padded numbers comes from, and 0 for padding, else 1."""
    width = size + -size % BLOCK_ROWS
    places = np.arange(width)
    source = np.where(places < size, places + size * np.arange(n_parts)[:, None], 0)
    return source.astype(np.int32), np.broadcast_to(places < size, source.shape).astype(np.float32)


def _by_group(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(..., G, H') to (..., N, G, 16): what belongs to a group of units lies together."""
    cut = rows.reshape(*rows.shape[:-1], -1, BLOCK_ROWS)
    return np.ascontiguousarray(np.moveaxis(cut, -2, -3))


def _blocks(weight: Int8Array) -> Int8Array:
    """(..., rows, columns) to (..., rows / 16, columns / 4, 16, 4)."""
    *before, n_rows, n_columns = weight.shape
    cut = weight.reshape(*before, n_rows // BLOCK_ROWS, BLOCK_ROWS, n_columns // BLOCK_COLUMNS, BLOCK_COLUMNS)
    return np.ascontiguousarray(np.swapaxes(cut, -3, -2))


def _kept_blocks(weight: Int8Array) -> tuple[Int8Array, npt.NDArray[np.uint16], tuple[int, ...]]:
    """The blocks, columns and counts of `PackedGRU` from (3, H', H')."""
    cut = _blocks(weight)  # (3, N, H' / 4, 16, 4)
    kept = np.asarray(cut.any((3, 4)))
    counts = kept.sum(2).max(1)  # (3,)
    blocks, columns = [], []
    for group in range(cut.shape[1]):
        for gate, count in enumerate(counts):
            # The kept ones in their order; where there are fewer, some of the empty ones.
            chosen = np.sort(np.argsort(~kept[gate, group], kind="stable")[:count])
            blocks.append(cut[gate, group, chosen])
            columns.append(chosen * BLOCK_COLUMNS)
    counts_of_gates = tuple(int(count) for count in counts)
    columns.append(np.zeros(3, np.int64))  # four are fetched at a time
    return np.concatenate(blocks), np.concatenate(columns).astype(np.uint16), counts_of_gates


def aligned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy that begins at a multiple of 64 bytes, the size of a block and of a line of the cache."""
    copy = empty_aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


def empty_aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """As `aligned`, of anything."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(n_bytes + _LINE, np.uint8)
    first = -buffer.__array_interface__["data"][0] % _LINE
    return buffer[first : first + n_bytes].view(dtype).reshape(shape)


@compiled()
def _scale_frames(
    inputs: FloatArray, source: Int32Array, factor: FloatArray, shift: Int32Array, out: Int32Array
) -> None:
    """Fill (F, m); for the other arguments see `FrameScale`."""
    for f in range(len(out)):
        for i in range(source.size):
            scaled = np.rint(inputs[f, source[i]] * factor[i])
            out[f, i] = np.int32(min(max(scaled, -_LARGEST_INPUT), _LARGEST_INPUT)) + shift[i]
