"""A folded network in the layouts of the int8 engine's C loop: quantised, in groups of 16 rows, without empty blocks.

Each row has a unit: its products with the state's bytes, its table rows and its frame inputs are whole numbers in that
unit. See native/int8/int8.h for where everything lies. Shapes: see model.py; N groups of 16 units, an even number.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import DoubleArray, FloatArray
from gru_audio.config import GATES, SignalConfig
from gru_audio.errors import ConfigError
from gru_audio.native import library
from gru_audio.native.library import Bytes, Float, Floats, Int, Int16s, Int32s, SignedBytes, Uint16s
from gru_audio.network.blocks import BLOCK_COLUMNS, BLOCK_ROWS
from gru_audio.signal.mulaw import expansion_table, thresholds
from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.int8.layout import (
    QUAD_ROWS,
    aligned,
    in_blocks,
    in_pairs,
    in_quads,
    padded,
    reach_of,
    table_bytes,
    whole_quads,
    widened,
)
from gru_audio.synthesis.int8.units import FULL_ACTIVATION, LEAST_UNIT, unit_of_blocks, unit_of_tables

QUAD_BLOCKS = QUAD_ROWS // BLOCK_COLUMNS
"""Blocks of a quad's columns."""

STATE_ONE = 1 << 14
"""What a state of 1 is stored as, in 16 bits."""

SUBTREE_BITS = 4
"""Levels of the output tree whose nodes are computed together."""

_GATES = GATES["gru"]
_READOUT_STEPS = (1 << 14) - 1  # of the readout's values, which are two times 7 bits
_PAIR_ROWS = 2 * BLOCK_ROWS
_LARGEST_FIXED = (1 << 15) - 1
_GATE_STEPS = (1 << 15) / 12
"""Of the fixed-point numbers that gates are computed in, in 1: they go from -12 to 12, see native/int8/int8_gru.h."""
_LARGEST_GATE = 1e4
"""What a gate's inputs may add up to, so that no sum of units overflows."""
_BITS_OF_BUCKET = 18
"""Bits of a float that the companding table leaves out for codes of 8 bits: 32 buckets an octave, none with more than
one threshold; a bit more or less for codes of another size."""
_NO_NODE = np.float32(-1e4)  # logit of what is no node

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]


class Int8Network(library.Struct):
    """C's `struct gru_int8_network`; see native/int8/int8.h."""

    _fields_ = (
        ("gru_size", Int),
        ("readout_size", Int),
        ("samples_per_step", Int),
        ("order", Int),
        ("bits", Int),
        ("n_pairs", Int),
        ("n_readout_groups", Int),
        ("n_reset_blocks", Int),
        ("n_update_blocks", Int),
        ("n_new_blocks", Int),
        ("n_readout_blocks", Int),
        ("blocks", SignedBytes),
        ("columns", Uint16s),
        ("gate_units", Floats),
        ("own_weights", Int16s),
        ("step_tables", SignedBytes),
        ("gate_factors", Floats),
        ("gate_sums", Int32s),
        ("new_bias", Int32s),
        ("readout_blocks", SignedBytes),
        ("readout_columns", Bytes),
        ("readout_units", Floats),
        ("readout_tables", SignedBytes),
        ("readout_factors", Floats),
        ("readout_sums", Int32s),
        ("readout_bias", Int32s),
        ("readout_input_limit", Float),
        ("tree_blocks", SignedBytes),
        ("tree_units", Floats),
        ("tree_bias", Floats),
        ("edges", Floats),
        ("expansion", Floats),
        ("first_codes", Int16s),
        ("n_buckets", Int),
        ("bucket_bits", Int),
        ("preemphasis", Float),
    )


def pack(network: FoldedNetwork) -> Int8Network:
    """Quantise and lay out a network.

    Args:
        network: see `folding.fold`; its cell is a GRU and its output a tree.

    Raises:
        ConfigError: its gates may reach more than the loop computes up to.
    """
    reach = reach_of(network.step_tables)  # (n, 3 H)
    _require_moderate(network, reach)
    model, signal = network.config.model, network.config.signal
    readout, readout_unit = _pack_readout(network)
    return Int8Network(
        gru_size=model.gru_size,
        readout_size=model.readout_size,
        samples_per_step=model.samples_per_step,
        order=signal.lpc_order,
        bits=signal.bits,
        **_pack_gru(network, reach),
        **readout,
        **_pack_tree(network, readout_unit),
        **_signal_tables(signal),
        preemphasis=signal.preemphasis,
    )


class _Kept(NamedTuple):
    """The blocks of each gate and group that are not empty; where there are fewer than of another, some empty ones.

    Attributes:
        blocks: by gate (N, count, 16, 4).
        columns: by gate (N, count), numbers of columns of blocks.
    """

    blocks: list[DoubleArray]
    columns: list[Int64Array]


def _pack_gru(network: FoldedNetwork, reach: FloatArray) -> dict[str, Any]:
    size = network.config.model.gru_size
    weight = padded(network.recurrent.reshape(_GATES, size, size), _PAIR_ROWS, _PAIR_ROWS)  # (3, H', H')
    own = np.einsum("gii->gi", weight).copy()  # (3, H'), the diagonal
    np.einsum("gii->gi", weight)[...] = 0
    n_groups = weight.shape[1] // BLOCK_ROWS
    kept = _kept_blocks(weight)
    by_gate = network.step_tables.reshape(*network.step_tables.shape[:2], _GATES, size)
    tables = widened(by_gate, _PAIR_ROWS)  # (n, Q, 3, H')
    of_tables = widened(reach.max(0).reshape(_GATES, size), _PAIR_ROWS)  # (3, H')
    units = _gate_units(kept, of_tables)  # (3, N, 16); the new gate's product has twice its unit
    of_product = units * np.array([1, 1, 2])[:, None, None]
    blocks = [
        np.rint(part / (unit[:, None, :, None] * FULL_ACTIVATION))
        for part, unit in zip(kept.blocks, of_product, strict=True)
    ]
    sums = np.stack([part.sum((1, 3)) for part in blocks]).reshape(_GATES, -1)  # (3, H')
    bias = padded(network.recurrent_bias.reshape(_GATES, size), _PAIR_ROWS)[2]
    # A product of fixed-point numbers is divided by 2^15; of the new gate's own part the loop takes half.
    own_factors = np.array([1, 1, 0.5])[:, None, None] * _GATE_STEPS * (1 << 15) / STATE_ONE
    diagonal = np.rint(own.reshape(_GATES, n_groups, BLOCK_ROWS) * own_factors)
    inside = np.arange(weight.shape[1]) < size
    counts = dict(zip(("reset", "update", "new"), (part.shape[1] for part in blocks), strict=True))
    return {
        "n_pairs": n_groups // 2,
        **{f"n_{gate}_blocks": count for gate, count in counts.items()},
        "blocks": aligned(in_pairs(blocks, (BLOCK_ROWS, BLOCK_COLUMNS)), np.int8),
        # Four are fetched at a time.
        "columns": aligned(np.append(BLOCK_COLUMNS * in_pairs(kept.columns, ()), [0] * 4), np.uint16),
        "gate_units": aligned(in_quads(units * _GATE_STEPS), np.float32),
        "own_weights": aligned(in_quads(diagonal.clip(-_LARGEST_FIXED, _LARGEST_FIXED)), np.int16),
        "step_tables": table_bytes(tables, units.reshape(_GATES, -1)),
        "gate_factors": whole_quads(np.where(inside, 1 / units.reshape(_GATES, -1), 0), np.float32),
        "gate_sums": whole_quads(sums, np.int32),
        "new_bias": whole_quads(np.rint(bias / of_product[2].ravel()), np.int32),
    }


def _kept_blocks(weight: DoubleArray) -> _Kept:
    """Of (3, H', H'), all groups of a gate with as many blocks."""
    cut = in_blocks(weight)  # (3, N, H' / 4, 16, 4)
    kept = _hold_weights(weight)  # (3, N, H' / 4)
    chosen = [_first_kept(part, int(count)) for part, count in zip(kept, kept.sum(2).max(1), strict=True)]
    blocks = [
        np.take_along_axis(part, which[..., None, None], 1) for part, which in zip(cut, chosen, strict=True)
    ]
    return _Kept(blocks, chosen)


def _hold_weights(weight: DoubleArray) -> BoolArray:
    """Which blocks of (..., rows, columns) are not empty: (..., rows / 16, columns / 4)."""
    fours = (weight != 0).view(np.int32)  # four truth values as one number
    return np.asarray(fours.reshape(*weight.shape[:-2], -1, BLOCK_ROWS, fours.shape[-1]).any(-2))


def _first_kept(kept: BoolArray, count: int) -> Int64Array:
    """Of blocks (..., n) the places (..., count) of those that are kept, in order; where there are fewer, of others."""
    return np.sort(np.argsort(~kept, axis=-1, kind="stable")[..., :count], axis=-1)


def _gate_units(kept: _Kept, of_tables: FloatArray) -> DoubleArray:
    """(3, N, 16) float32 numbers: weights, and table rows up to (3, H'), fit into bytes.

    The new gate's product counts half.
    """
    for_tables = unit_of_tables(of_tables)
    units = [
        np.maximum(unit_of_blocks(part) / part_of_unit, rows.reshape(-1, BLOCK_ROWS))
        for part, rows, part_of_unit in zip(kept.blocks, for_tables, (1, 1, 2), strict=True)
    ]
    return np.asarray(np.maximum(np.stack(units), LEAST_UNIT).astype(np.float32), np.float64)


def _pack_readout(network: FoldedNetwork) -> tuple[dict[str, Any], float]:
    """The layer, and what one step of its values is."""
    model = network.config.model
    shape = (model.samples_per_step, model.readout_size, model.gru_size)
    weight = padded(network.readout_hidden.reshape(shape), BLOCK_ROWS, _PAIR_ROWS)  # (S, R', H')
    tables = widened(network.readout_tables, BLOCK_ROWS)  # (n, Q, R')
    bias = padded(network.readout_hidden_bias.reshape(shape[:2]), BLOCK_ROWS)  # (S, R')
    stride, width = bias.shape
    n_blocks, blocks, columns = _kept_of_parts(weight)  # (S, R' / 16, parts, n, …)
    by_sample = blocks.reshape(stride, width // BLOCK_ROWS, -1, BLOCK_ROWS, BLOCK_COLUMNS)
    units = np.maximum(
        unit_of_blocks(by_sample).max(0).ravel(), unit_of_tables(reach_of(tables).max(0))
    )  # (R',)
    units = np.maximum(units, LEAST_UNIT).astype(np.float32).astype(np.float64)
    quantised = np.rint(blocks / (units.reshape(-1, 1, 1, BLOCK_ROWS, 1) * FULL_ACTIVATION))
    limit = float(np.abs(network.readout_conditioning).sum(1).max())
    largest = np.abs(weight).sum(2).max(0) + np.abs(tables).max(1).sum(0, dtype=np.float64)
    unit = (float(largest.max()) + float(np.abs(bias).max()) + limit) / _READOUT_STEPS
    inside = np.arange(width) < model.readout_size
    return {
        "n_readout_groups": width // BLOCK_ROWS,
        "n_readout_blocks": n_blocks,
        "readout_blocks": aligned(np.moveaxis(quantised, 2, 0), np.int8),
        "readout_columns": aligned(BLOCK_COLUMNS * np.moveaxis(columns, 2, 0), np.uint8),
        "readout_units": whole_quads(units / unit, np.float32),
        "readout_tables": table_bytes(tables[:, :, None], units),
        "readout_factors": whole_quads(np.where(inside, 1 / units, 0), np.float32),
        "readout_sums": whole_quads(quantised.sum((2, 3, 5)).reshape(stride, width), np.int32),
        "readout_bias": whole_quads(np.rint(bias / units), np.int32),
        "readout_input_limit": limit,
    }, unit


def _kept_of_parts(weight: DoubleArray) -> tuple[int, DoubleArray, Int64Array]:
    """Of (S, R', H') the blocks that are not empty, of each quad of the state as many, an even number.

    Returns:
        Their number, n; blocks (S, R' / 16, parts, n, 16, 4) of the quads, or with all 16 of the pairs, 8 each;
        and which of a part's they are, (S, R' / 16, parts, n).
    """
    whole = widened(weight, QUAD_ROWS)
    of_quads = _hold_weights(whole).reshape(len(whole), -1, whole.shape[2] // QUAD_ROWS, QUAD_BLOCKS)
    n_blocks = max(2, -(-int(of_quads.sum(-1).max()) // 2) * 2)
    if n_blocks < QUAD_BLOCKS:
        chosen, cut = _first_kept(of_quads, n_blocks), in_blocks(whole)
    else:
        cut = in_blocks(weight)
        chosen = np.tile(np.arange(QUAD_BLOCKS // 2), (*cut.shape[:2], weight.shape[2] // _PAIR_ROWS, 1))
    blocks = cut.reshape(*chosen.shape[:3], -1, BLOCK_ROWS, BLOCK_COLUMNS)
    return n_blocks, np.take_along_axis(blocks, chosen[..., None, None], 3), chosen


def _pack_tree(network: FoldedNetwork, readout_unit: float) -> dict[str, Any]:
    """The tree cut into subtrees of four levels: 15 nodes in heap order and an empty one."""
    bits, output = network.config.signal.bits, padded(network.output, BLOCK_ROWS)  # (Q - 1, R')
    rows, biases = [], []
    for top in range(0, bits, SUBTREE_BITS):
        for root in range((1 << top) - 1, (2 << top) - 1):
            weight, bias = (
                np.zeros((1 << SUBTREE_BITS, output.shape[1])),
                np.full(1 << SUBTREE_BITS, _NO_NODE),
            )
            for level in range(min(SUBTREE_BITS, bits - top)):
                first, count = ((root + 1) << level) - 1, 1 << level
                weight[count - 1 : 2 * count - 1] = output[first : first + count]
                bias[count - 1 : 2 * count - 1] = network.output_bias[first : first + count]
            rows.append(weight)
            biases.append(bias)
    blocks = in_blocks(np.stack(rows))[:, 0]  # (subtrees, R' / 4, 16, 4)
    units = np.maximum(unit_of_blocks(blocks) * FULL_ACTIVATION, 1e-20)  # (subtrees, 16)
    return {
        "tree_blocks": aligned(np.rint(blocks / units[:, None, :, None]), np.int8),
        "tree_units": aligned(units * readout_unit, np.float32),
        "tree_bias": aligned(np.stack(biases), np.float32),
    }


def _signal_tables(signal: SignalConfig) -> dict[str, Any]:
    """Mu-law's tables, and for each bucket of floats the code of its least; see native/int8/int8_loop.c."""
    edges = np.append(thresholds(signal.n_classes), np.float32(np.nan))  # NaN: not even infinity reaches it
    bucket_bits = _BITS_OF_BUCKET + 8 - signal.bits
    half = (int(np.float32(1).view(np.int32)) >> bucket_bits) + 1
    ordered = np.arange(-half, half, dtype=np.int32) << bucket_bits
    least = np.where(ordered >= 0, ordered, ordered ^ 0x7FFFFFFF).astype(np.int32).view(np.float32)
    first_codes = np.searchsorted(edges, least, side="right").astype(np.int16)
    first_codes[0] = 0
    return {
        "edges": edges,
        "expansion": expansion_table(signal.n_classes),
        "first_codes": first_codes,
        "bucket_bits": bucket_bits,
        "n_buckets": first_codes.size,
    }


def _require_moderate(network: FoldedNetwork, reach: FloatArray) -> None:
    """Refuse a voice whose gates could get too much; activations and conditioning are within ±1."""
    most = np.abs(network.recurrent).sum(1) + np.abs(network.recurrent_bias)
    most += np.abs(network.gate_conditioning).sum(1) + np.abs(network.gate_bias)
    most += reach.sum(0)
    if most.max() > _LARGEST_GATE:
        raise ConfigError(
            f"engine 'int8': this voice's gates may reach {most.max():.3g}, beyond its limit of {_LARGEST_GATE:g}; "
            "use the engine float32"
        )
