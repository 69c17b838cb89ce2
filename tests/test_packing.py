"""The int8 layouts: what they stand for is the network's weights, to half a unit."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from folded import random_network, voiceless_config
from numpy.typing import NDArray

from gru_audio.synthesis.folding import FoldedNetwork
from gru_audio.synthesis.packing import (
    LARGEST_ACTIVATION,
    ROW_SHIFT,
    SUBTREE_BITS,
    FrameScale,
    PackedGRU,
    aligned,
    pack_gru,
    pack_readout,
    pack_tree,
)

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

# The GRU's size, the readout's; sizes with a remainder, and whole ones.
SIZES = [(40, 20), (32, 16), (7, 5)]


def network_of(size: int = 40, readout_size: int = 20, *, bits: int = 6, stride: int = 2) -> FoldedNetwork:
    return random_network(voiceless_config(stride, 8, bits, size, readout_size))


def sparse_network() -> FoldedNetwork:
    return random_network(voiceless_config(1, 8, 6, 40, 20), densities=(0.3, 0.2, 0.5))


def rounded_up(size: int) -> int:
    return -(-size // 16) * 16


def by_gate(array: NDArray[np.generic], size: int) -> Doubles:
    """(..., N, G, 16) as (..., G, H), without the padding."""
    turned = np.moveaxis(array.astype(np.float64), -2, -3)
    return turned.reshape(*turned.shape[:-2], -1)[..., :size]


def recurrent_weights(layer: PackedGRU, size: int) -> Doubles:
    """(3, H, H): the blocks at their columns, in weights."""
    units = by_gate(layer.constants, size)[:3] / np.array([[0.5], [0.5], [1.0]])
    padded = rounded_up(size)
    weight = np.zeros((3, padded, padded))
    index = 0
    for group in range(padded // 16):
        for gate, count in enumerate(layer.counts):
            for _ in range(count):
                column = layer.columns[index]
                weight[gate, group * 16 : group * 16 + 16, column : column + 4] += layer.blocks[index]
                index += 1
    assert index == len(layer.blocks) == len(layer.columns) - 3
    assert not weight[:, size:].any()
    assert not weight[:, :, size:].any()
    return np.asarray(weight[:, :size, :size] * units[..., None] * LARGEST_ACTIVATION)


# The recurrent layer


@pytest.mark.parametrize(("size", "readout_size"), SIZES)
def test_recurrent_weights(size: int, readout_size: int) -> None:
    network = network_of(size, readout_size)
    layer, _ = pack_gru(network, 128)
    weight = network.recurrent.reshape(3, size, size).astype(np.float64)
    units, diagonal = np.split(by_gate(layer.constants, size), 2)
    halved = np.array([[0.5], [0.5], [1.0]])
    np.testing.assert_array_equal(diagonal, np.einsum("gii->gi", weight) * halved)
    expected = weight * (1 - np.eye(size))
    step = units / halved * LARGEST_ACTIVATION  # of a weight
    error = np.abs(recurrent_weights(layer, size) - expected)
    assert (error <= (0.5 + 1e-4) * step[..., None]).all()
    assert np.abs(layer.blocks.astype(int)).max() <= 127


@pytest.mark.parametrize(("size", "readout_size"), SIZES)
def test_recurrent_tables(size: int, readout_size: int) -> None:
    network = network_of(size, readout_size)
    layer, _ = pack_gru(network, 128)
    n_tables, n_classes = network.step_tables.shape[:2]
    units = by_gate(layer.constants, size)[:3] / np.array([[0.5], [0.5], [1.0]]) * 2**ROW_SHIFT
    found = by_gate(layer.tables, size) * units
    expected = network.step_tables.reshape(n_tables, n_classes, 3, size)
    assert (np.abs(found - expected) <= (0.5 + 1e-2) * units).all()


def test_loud_tables_set_the_unit() -> None:
    network = network_of()
    loud = replace(
        network, step_tables=1000 * network.step_tables, readout_tables=1000 * network.readout_tables
    )
    for tables in (pack_gru(loud, 0)[0].tables, pack_readout(loud, 0)[0].tables):
        assert np.abs(tables.astype(int)).max() == 127


def test_empty_blocks_are_left_out() -> None:
    network = sparse_network()
    layer, _ = pack_gru(network, 128)
    off = network.recurrent.reshape(3, 40, 40) * (1 - np.eye(40))
    n_blocks = np.zeros((3, 3), int)
    for gate, group, column in itertools.product(range(3), range(3), range(10)):
        n_blocks[gate, group] += off[gate, 16 * group :, 4 * column :][:16, :4].any()
    np.testing.assert_array_equal(layer.counts, n_blocks.max(1))
    assert layer.counts == (3, 2, 5)
    assert layer.blocks.shape == (3 * (3 + 2 + 5), 16, 4)
    assert (layer.columns % 4 == 0).all()
    step = by_gate(layer.constants, 40)[:3] / np.array([[0.5], [0.5], [1.0]]) * LARGEST_ACTIVATION
    assert (np.abs(recurrent_weights(layer, 40) - off) <= (0.5 + 1e-4) * step[..., None]).all()


def test_no_recurrent_weights_but_the_diagonal() -> None:
    network = network_of(size=16)
    diagonal = np.tile(np.eye(16, dtype=np.float32), (3, 1)) * network.recurrent
    layer, _ = pack_gru(replace(network, recurrent=diagonal), 128)
    assert layer.counts == (0, 0, 0)
    assert layer.blocks.shape == (0, 16, 4)


# The readout


@pytest.mark.parametrize(("size", "readout_size"), SIZES)
@pytest.mark.parametrize("stride", [1, 4])
def test_readout(size: int, readout_size: int, stride: int) -> None:
    network = network_of(size, readout_size, stride=stride)
    layer, _ = pack_readout(network, 128)
    units = layer.units.astype(np.float64)
    rows = np.moveaxis(layer.blocks.astype(np.float64), (0, 3), (3, 4))  # (S, R' / 16, 16, N, 4, 4)
    assert rows.shape == (stride, rounded_up(readout_size) // 16, 16, rounded_up(size) // 16, 4, 4)
    found = rows.reshape(stride, units.size, -1) * units[:, None] * LARGEST_ACTIVATION
    expected = np.zeros_like(found)
    expected[:, :readout_size, :size] = network.readout_hidden.reshape(stride, readout_size, size)
    assert (np.abs(found - expected) <= (0.5 + 1e-4) * units[:, None] * LARGEST_ACTIVATION).all()
    table_units = units * 2**ROW_SHIFT
    tables = (layer.tables * table_units)[..., :readout_size]
    assert (np.abs(tables - network.readout_tables) <= (0.5 + 1e-2) * table_units[:readout_size]).all()


# The frames' inputs


@pytest.mark.parametrize("offset", [0, 128])
def test_scales_of_the_frames(offset: int) -> None:
    """An input comes out in its row's units, and what the offset of the activations adds is taken off."""
    network = network_of()
    layer, scale = pack_gru(network, offset)
    size, padded = 40, 48
    units = np.moveaxis(layer.constants[:, :3].astype(np.float64), 1, 0).reshape(3, padded)
    units /= np.array([[0.5], [0.5], [1.0]])
    inputs = np.random.default_rng(0).standard_normal((2, 3, size)).astype(np.float32)
    scaled = scale(inputs.reshape(2, -1))
    found = by_gate(scaled, size)  # (2, 3, H)
    assert not scaled.reshape(2, -1, 3, 16)[:, 2, :, size - 32 :].any(), "padding"
    weight = recurrent_weights(layer, size) / (units[:, :size, None] * LARGEST_ACTIVATION)
    shift = -offset * np.rint(weight).sum(2)  # (3, H)
    start = layer.product_start.reshape(-1)[:size] - shift[2]
    np.testing.assert_allclose(start * units[2, :size], network.recurrent_bias[80:], atol=units.max())
    shift[2] = 0  # it is in the new gate's product
    error = (found - shift) * units[:, :size] - inputs
    assert (np.abs(error) <= 0.51 * units[:, :size] + 1e-6).all()


@pytest.mark.parametrize("offset", [0, 128])
def test_scales_of_the_readouts_frames(offset: int) -> None:
    network = network_of()
    layer, scale = pack_readout(network, offset)
    rows = layer.blocks.astype(np.int64).sum((0, 3, 5)).reshape(2, 32)  # (S, R')
    found = (scale(np.zeros((1, 20), np.float32))[0] + offset * rows) * layer.units
    np.testing.assert_allclose(
        found[:, :20], network.readout_hidden_bias.reshape(2, 20), atol=0.51 * layer.units.max()
    )
    assert not found[:, 20:].any()


def test_frames_far_out_of_range_are_limited() -> None:
    source, shift = np.array([0, 1], np.int32), np.array([3, -3], np.int32)
    scale = FrameScale(source, np.array([1.0, 1e20], np.float32), shift)
    found = scale(np.array([[2.4, 0.0], [-3e38, 1.0], [3e38, -1.0]], np.float32))
    np.testing.assert_array_equal(
        found, [[5, -3], [-(1 << 30) + 3, (1 << 30) - 3], [(1 << 30) + 3, -(1 << 30) - 3]]
    )


def test_a_row_without_weights_keeps_its_inputs() -> None:
    """Such a row has nothing to take a unit from, and its frames' inputs need one."""
    network = network_of()
    recurrent, tables = network.recurrent.copy(), network.step_tables.copy()
    recurrent[5], tables[..., 5] = 0, 0
    layer, scale = pack_gru(replace(network, recurrent=recurrent, step_tables=tables), 128)
    unit = layer.constants[0, 0, 5] / 0.5
    inputs = np.full((1, 3 * 40), 2.5, np.float32)
    assert scale(inputs)[0, 0, 0, 5] * unit == pytest.approx(2.5, rel=1e-3)


# The tree


@pytest.mark.parametrize("bits", [6, 7, 8, 9, 10])
def test_subtrees_hold_their_nodes(bits: int) -> None:
    network = network_of(bits=bits)
    tree = pack_tree(network)
    depths = [4, bits - 4] if bits <= 8 else [4, 4, bits - 8]
    np.testing.assert_array_equal(tree.depths, depths)
    assert sum(depths) == bits
    assert max(depths) <= SUBTREE_BITS
    rows = tree.blocks.astype(np.float64).swapaxes(1, 2).reshape(len(tree.blocks), 16, -1)
    weight = rows * tree.units[..., None]  # (n_subtrees, 16, R')
    seen = set()
    for code in range(1 << bits):
        first_subtree, level = 0, 0
        for depth in depths:
            subtree, node_of_subtree = first_subtree + (code >> (bits - level)), 0
            for i in range(depth):
                node = (1 << (level + i)) - 1 + (code >> (bits - level - i))  # in the whole tree's heap
                seen.add(node)
                unit = tree.units[subtree, node_of_subtree]
                error = np.abs(weight[subtree, node_of_subtree, :20] - network.output[node])
                assert error.max() <= (0.5 + 1e-4) * unit
                assert tree.bias[subtree, node_of_subtree] == network.output_bias[node]
                node_of_subtree = 2 * node_of_subtree + 1 + (code >> (bits - level - i - 1) & 1)
            first_subtree, level = first_subtree + (1 << level), level + depth
    assert seen == set(range((1 << bits) - 1))
    assert not weight[..., 20:].any()
    assert np.abs(tree.blocks.astype(int)).max() <= 127


def test_alignment() -> None:
    for shape in ((1,), (3, 5), (16, 4)):
        array = np.random.default_rng(0).integers(-100, 100, shape).astype(np.int16)
        copy = aligned(array)
        assert copy.ctypes.data % 64 == 0
        assert copy.dtype == array.dtype
        np.testing.assert_array_equal(copy, array)
    assert not np.shares_memory(aligned(copy), copy)
