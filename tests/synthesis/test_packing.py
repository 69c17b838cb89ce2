"""The int8 layouts: what fits where; test_int8.py compares the numbers with naive.py."""

import numpy as np
import numpy.typing as npt
import pytest
from support.folded import random_network, voiceless_config

from gru_audio.errors import ConfigError
from gru_audio.network.blocks import BLOCK_COLUMNS, BLOCK_ROWS
from gru_audio.synthesis.int8.layout import QUAD_ROWS
from gru_audio.synthesis.int8.packing import pack

CONFIG = voiceless_config(2, 8, 8, 96, 40)


def test_only_blocks_that_are_kept_are_stored() -> None:
    densities = (0.25, 0.5, 0.75)
    packed = pack(random_network(CONFIG, densities=densities))
    n_columns, n_groups = 96 // BLOCK_COLUMNS, 96 // BLOCK_ROWS
    counts = [packed.n_reset_blocks, packed.n_update_blocks, packed.n_new_blocks]
    for count, density in zip(counts, densities, strict=True):
        # The diagonal has a place of its own, and a group's band of it may keep a block or four more.
        assert round(density * n_columns) <= count <= round(density * n_columns) + BLOCK_ROWS // BLOCK_COLUMNS
    assert packed.held["blocks"].size == n_groups * sum(counts) * BLOCK_ROWS * BLOCK_COLUMNS
    columns = packed.held["columns"][: n_groups * sum(counts)]
    assert (columns % BLOCK_COLUMNS == 0).all() and columns.max() < 96


def test_two_products_fit_into_16_bits() -> None:
    """With activations of up to 128: what processors without VNNI need."""
    network = random_network(CONFIG, densities=(0.3, 0.5, 0.8))
    network.step_tables[...] = 0  # the weights alone decide how fine the units are
    packed = pack(network)
    blocks, runs, at = packed.held["blocks"], list[npt.NDArray[np.int8]](), 0
    for count in [packed.n_reset_blocks, packed.n_update_blocks, packed.n_new_blocks] * packed.n_pairs:
        of_gate = blocks[at : at + 2 * count].reshape(count, 2, -1)  # of two groups, in turn
        runs.append(of_gate[: count // 2 * 2].reshape(-1, 2, 2, of_gate.shape[-1]).swapaxes(1, 2))
        at += 2 * count
    assert at == len(blocks)
    runs += [packed.held[name] for name in ("readout_blocks", "tree_blocks")]
    of_two = np.concatenate([run.reshape(-1, 2, BLOCK_ROWS, BLOCK_COLUMNS // 2, 2) for run in runs])
    sums = [np.maximum(sign * of_two.astype(np.int64), 0).sum((1, 4)) for sign in (1, -1)]
    assert 250 < np.max(sums) <= 255


def test_arrays_begin_on_lines_of_the_cache_and_fill_whole_quads() -> None:
    held = pack(random_network(voiceless_config(1, 8, 6, 40, 20))).held
    for name in ("blocks", "step_tables", "readout_blocks", "tree_blocks", "gate_units", "own_weights"):
        assert held[name].ctypes.data % 64 == 0, name
    for name in ("gate_factors", "gate_sums", "new_bias", "readout_sums", "readout_bias", "readout_units"):
        assert held[name].shape[-1] % QUAD_ROWS == 0, name


def test_a_network_without_weights_is_packed() -> None:
    network = random_network(CONFIG)
    for array in (network.recurrent, network.step_tables, network.readout_hidden, network.output):
        array[...] = 0
    packed = pack(network)
    assert np.isfinite(packed.held["gate_factors"]).all() and np.isfinite(packed.held["readout_units"]).all()
    assert not packed.held["step_tables"].any()


def test_gates_out_of_proportion_are_refused() -> None:
    network = random_network(CONFIG)
    network.recurrent[3] = 1e6
    with pytest.raises(
        ConfigError, match=r"engine 'int8': this voice's gates may reach .*; use the engine float32"
    ):
        pack(network)
