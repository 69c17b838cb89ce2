"""Sparsity: when blocks of the recurrent weights go, and which."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.small import small_config

from gru_audio.config import Config, ModelConfig, TrainConfig
from gru_audio.network.blocks import (
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    READOUT_WEIGHT,
    RECURRENT_WEIGHT,
    kept_of,
    kept_readout,
    kept_weights,
    last_choice,
    model_left,
    pruned,
    pruned_weights,
)
from gru_audio.network.model import Network

Weights = NDArray[np.float32]


def schedule(start: int, end: int, every: int, *densities: float, readout: float = 1.0) -> Config:
    return Config(
        model=ModelConfig.model_validate({"recurrent_density": densities, "readout_density": readout}),
        train=TrainConfig(steps=end, prune_start_step=start, prune_end_step=end, prune_every=every),
    )


def weights_of(size: int, seed: int = 0) -> Weights:
    return np.random.default_rng(seed).standard_normal((3 * size, size)).astype(np.float32)


# The schedule


def test_the_densities_fall_along_a_cubic() -> None:
    config = schedule(100, 500, 10, 0.25, 0.2, 1.0, readout=0.5)
    left = {step: model_left(config, step) for step in (1, 100, 200, 300, 400, 500, 9_999)}
    found = {step: (*model.recurrent_density, model.readout_density) for step, model in left.items()}
    assert found[1] == found[100] == (1, 1, 1, 1)
    # (1 - 1/4)^3 = 27/64, (1 - 2/4)^3 = 1/8 and (1 - 3/4)^3 = 1/64 of the way back from the end.
    for step, share in ((200, 27 / 64), (300, 1 / 8), (400, 1 / 64)):
        assert found[step] == pytest.approx((0.25 + 0.75 * share, 0.2 + 0.8 * share, 1, 0.5 + 0.5 * share))
    assert found[500] == found[9_999] == (0.25, 0.2, 1, 0.5)


def test_blocks_are_chosen_from_the_start_to_the_end_itself() -> None:
    config = schedule(5, 13, 3, 0.5, 1.0, 1.0)
    for pruning in (config, schedule(5, 13, 3, 1.0, 1.0, 1.0, readout=0.5)):
        chosen = [step for step in range(1, 20) if last_choice(pruning, step) == step]
        assert chosen == [5, 8, 11, 13], "the end too, though it is no whole number of choices away"
    assert [last_choice(config, step) for step in (0, 4, 5, 7, 10, 12, 13, 10_000)] == [
        0, 0, 5, 5, 8, 11, 13, 13,
    ]  # fmt: skip


def test_a_dense_config_chooses_nothing() -> None:
    config = schedule(5, 13, 3, 1.0, 1.0, 1.0)
    assert {last_choice(config, step) for step in range(20)} == {0}


# The blocks


def naively_kept(weight: Weights, density: float) -> NDArray[np.bool_]:
    """What of a gate (H, H) is kept, block by block."""
    size = len(weight)
    kept = np.eye(size, dtype=bool)
    n_columns = -(-size // 4)
    for top in range(0, size, 16):
        energies = []
        for left in range(0, size, 4):
            energies.append(
                sum(
                    float(weight[i, j]) ** 2
                    for i in range(top, min(top + 16, size))
                    for j in range(left, min(left + 4, size))
                    if i != j
                )
            )
        for column in sorted(range(n_columns), key=lambda c: -energies[c])[
            : max(1, round(density * n_columns))
        ]:
            kept[top : top + 16, 4 * column : 4 * column + 4] = True
    return kept


@pytest.mark.parametrize("size", [4, 16, 24, 30, 64])
def test_the_strongest_blocks_stay(size: int) -> None:
    weight, densities = weights_of(size), (0.25, 0.6, 1.0)
    expected = [naively_kept(*part) for part in zip(np.split(weight, 3), densities, strict=True)]
    kept = kept_weights(weight, densities)
    np.testing.assert_array_equal(kept, np.concatenate(expected))


@given(size=st.integers(1, 70), densities=st.tuples(*[st.floats(0.01, 1)] * 3), seed=st.integers(0, 99))
def test_groups_of_rows_are_balanced_and_the_diagonal_stays(
    size: int, densities: tuple[float, float, float], seed: int
) -> None:
    weight = weights_of(size, seed)
    before = weight.copy()
    n_columns = -(-size // BLOCK_COLUMNS)
    for kept, density in zip(np.split(kept_weights(weight, densities), 3), densities, strict=True):
        assert kept.diagonal().all()
        padded = np.pad(kept, [(0, -size % BLOCK_ROWS), (0, -size % BLOCK_COLUMNS)], constant_values=True)
        full = padded.reshape(-1, BLOCK_ROWS, n_columns, BLOCK_COLUMNS).all((1, 3))
        assert (full.sum(1) >= max(1, round(density * n_columns))).all()
        if (
            size >= 2 * BLOCK_ROWS and size % BLOCK_ROWS == 0
        ):  # a block is more than its share of the diagonal
            assert (full.sum(1) == max(1, round(density * n_columns))).all()
    np.testing.assert_array_equal(weight, before)


def test_a_strong_diagonal_does_not_hold_its_block() -> None:
    weight = np.ones((96, 32), np.float32)
    weight[:, 4:8] = 2.0
    weight[np.arange(96), np.arange(96) % 32] = 100.0
    for kept in np.split(kept_weights(weight, (0.125, 0.125, 0.125)), 3):
        off_diagonal = kept & ~np.eye(32, dtype=bool)
        assert set(np.flatnonzero(off_diagonal.any(0))) == {4, 5, 6, 7}
        assert kept.diagonal().all()


# The readout's


def naively_kept_readout(weight: Weights, density: float) -> NDArray[np.bool_]:
    """What of one sample's readout (R, H) is kept, block by block."""
    n_rows, n_columns = weight.shape
    kept = np.zeros(weight.shape, bool)
    for top in range(0, n_rows, 16):
        for first in range(0, n_columns, 64):
            lefts = range(first, min(first + 64, n_columns), 4)
            energies = {
                left: float(np.square(weight[top : top + 16, left : left + 4]).sum()) for left in lefts
            }
            for left in sorted(lefts, key=lambda left: -energies[left])[
                : max(1, round(len(lefts) * density))
            ]:
                kept[top : top + 16, left : left + 4] = True
    return kept


@pytest.mark.parametrize(("n_readout", "size"), [(16, 32), (20, 40), (33, 70), (8, 12)])
@pytest.mark.parametrize("density", [0.01, 0.25, 0.6, 0.75, 1.0])
def test_the_strongest_blocks_of_each_quad_of_the_state_stay(
    n_readout: int, size: int, density: float
) -> None:
    """Those of one sample's rows never stand in one block with another's."""
    weight = np.random.default_rng(1).standard_normal((4 * n_readout, size)).astype(np.float32)
    expected = [naively_kept_readout(part, density) for part in np.split(weight, 4)]
    np.testing.assert_array_equal(kept_readout(weight, 4, density), np.concatenate(expected))


@pytest.mark.parametrize("density", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("size", [32, 40, 96, 100, 128])
def test_a_readout_of_any_size_loses_its_share(size: int, density: float) -> None:
    weight = np.random.default_rng(2).standard_normal((32, size)).astype(np.float32)
    off = abs(kept_readout(weight, 1, density).mean() - density)
    assert off * size < 2.001 * -(-size // 64), "half a block of each part"


# Both


def test_a_model_loses_what_its_densities_say() -> None:
    network = Network(small_config(gru_size=40, samples_per_step=2))
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    model = network.config.model
    sparse = {
        RECURRENT_WEIGHT: model.model_copy(update={"recurrent_density": (0.5, 1.0, 1.0)}),
        READOUT_WEIGHT: model.model_copy(update={"readout_density": 0.5}),
    }
    assert not pruned_weights(model) and pruned(model, weights) == weights
    for name, of_one in sparse.items():
        assert pruned_weights(of_one) == [name]
        kept, left = kept_of(name, weights[name], of_one), pruned(of_one, weights)
        assert 0.4 < kept.mean() < 0.9
        np.testing.assert_array_equal(left[name], np.where(kept, weights[name], 0))
        assert all(left[other] is weights[other] for other in weights if other != name)


def test_the_names_are_those_of_a_networks_weights() -> None:
    network = Network(small_config(gru_size=24, samples_per_step=2))
    assert network.get_parameter(RECURRENT_WEIGHT).shape == (72, 24)
    assert network.get_parameter(READOUT_WEIGHT).shape[1] == 24
