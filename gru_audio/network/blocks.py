"""The blocks of weights: which are kept, and when in training the others go.

A matrix is cut into blocks of 16 rows by 4 columns, which the int8 engine multiplies with one instruction each; the
blocks of least energy go. Of each gate's (H, H) part of W_hh, each 16 rows keep as many blocks, anywhere in them, and
the diagonal, a unit's own memory, always stays. Of the readout's weights, each 16 rows keep as many blocks of every 64
columns, as the engine multiplies these while the next 64 units of the state are still being computed.
Source: Kalchbrenner et al., Efficient Neural Audio Synthesis (2018), section 3.1; Valin & Skoglund, LPCNet
(2019), section 3.3, for the diagonal.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gru_audio.config import Config, ModelConfig

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

BLOCK_ROWS, BLOCK_COLUMNS = 16, 4
READOUT_COLUMNS = 64
"""Of the readout's weights, whose blocks compete with one another."""

RECURRENT_WEIGHT = "sample_network.cell.weight_hh_l0"
"""Of the gates, (3H, H): its name in a network and in a voice."""
READOUT_WEIGHT = "sample_network.readout_hidden.weight"
"""Of the state in the readouts, (S R, H)."""
DENSITIES = "recurrent_density", "readout_density"
"""The settings of [model] that say how much of these is left."""


def pruned_weights(model: ModelConfig) -> list[str]:
    """The names of the matrices that a network loses blocks of."""
    is_pruned = {RECURRENT_WEIGHT: model.has_pruned_gates, READOUT_WEIGHT: model.readout_density < 1}
    return [name for name, loses in is_pruned.items() if loses]


def _density_left(config: Config, final: float, step: int) -> float:
    """The share of blocks that is left after a step: from all of them down a cubic to the final one.

    Source: Zhu & Gupta, To prune, or not to prune (2017), eq. 1, for the share that is left.
    """
    start, end = config.train.prune_start_step, config.train.prune_end_step
    left_to_do = 1 - min(1.0, max(0.0, (step - start) / (end - start)))
    return final + (1 - final) * left_to_do**3


def model_left(config: Config, step: int) -> ModelConfig:
    """The model with the densities that it has after a step."""
    model = config.model
    reset, update, new = (_density_left(config, final, step) for final in model.recurrent_density)
    readout = _density_left(config, model.readout_density, step)
    # Not validated: on the way, the readout may have any share.
    return model.model_copy(update={"recurrent_density": (reset, update, new), "readout_density": readout})


def last_choice(config: Config, step: int) -> int:
    """The newest step, at most this one, after which the kept blocks are chosen; 0 where there is none."""
    settings = config.train
    start, end = settings.prune_start_step, settings.prune_end_step
    if not config.model.is_pruned or step < start:
        return 0
    return end if step >= end else step - (step - start) % settings.prune_every


def kept_of(name: str, weight: FloatArray, model: ModelConfig) -> BoolArray:
    """Which weights of a matrix stay: the strongest blocks.

    Args:
        name: `RECURRENT_WEIGHT` or `READOUT_WEIGHT`.
        weight: (3H, H) or (S R, H).
        model: its sizes and densities.

    Returns:
        Of the weight's shape.
    """
    if name == RECURRENT_WEIGHT:
        return kept_weights(weight, model.recurrent_density)
    return kept_readout(weight, model.samples_per_step, model.readout_density)


def pruned(model: ModelConfig, weights: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """All of a network's weights, by name, with only the strongest blocks of what the model prunes."""
    strongest = {name: weights[name] * kept_of(name, weights[name], model) for name in pruned_weights(model)}
    return {**weights, **strongest}


def kept_weights(weight: FloatArray, densities: Sequence[float]) -> BoolArray:
    """Which recurrent weights stay.

    Args:
        weight: (G H, H).
        densities: for each of the G gates the share of the blocks of 16 rows that is kept; at least one is.

    Returns:
        (G H, H).
    """
    size = weight.shape[1]
    kept = [
        _kept_of_gate(weight[gate * size : (gate + 1) * size], density)
        for gate, density in enumerate(densities)
    ]
    return np.concatenate(kept)


def kept_readout(weight: FloatArray, samples_per_step: int, density: float) -> BoolArray:
    """Which of the readout's weights stay.

    Args:
        weight: (S R, H).
        samples_per_step: S.
        density: share of the blocks that is kept of 16 rows and 64 columns, or of the last columns where they are
            fewer; at least one is.

    Returns:
        (S R, H).
    """
    of_samples = [
        _strongest(part, READOUT_COLUMNS // BLOCK_COLUMNS, density)
        for part in np.split(weight, samples_per_step)
    ]
    return np.concatenate(of_samples)


def _kept_of_gate(weight: FloatArray, density: float) -> BoolArray:
    diagonal = np.eye(len(weight), dtype=bool)
    n_columns = -(-len(weight) // BLOCK_COLUMNS)
    return _strongest(np.where(diagonal, np.float32(0), weight), n_columns, density) | diagonal


def _strongest(weight: FloatArray, n_together: int, density: float) -> BoolArray:
    """Which of (rows, columns) stay when each 16 rows keep this share of every so many blocks; at least one."""
    n_blocks = -(-weight.shape[1] // BLOCK_COLUMNS)
    n_rows, n_columns = -(-len(weight) // BLOCK_ROWS), -(-n_blocks // n_together)
    padded = np.zeros((n_rows * BLOCK_ROWS, n_columns * n_together * BLOCK_COLUMNS), np.float32)
    padded[: len(weight), : weight.shape[1]] = weight
    cut = np.square(padded).reshape(n_rows, BLOCK_ROWS, n_columns, n_together, BLOCK_COLUMNS)
    energy = cut.sum((1, 4))  # (rows / 16, n_columns, n_together)
    # Of the last columns there may be fewer.
    n_present = np.minimum(n_blocks - n_together * np.arange(n_columns), n_together)
    n_kept = np.maximum(1, np.rint(density * n_present))
    place = np.argsort(np.argsort(-energy, axis=2, kind="stable"), axis=2)  # the strongest block's is 0
    blocks = place < n_kept[:, None]
    spread = blocks.reshape(n_rows, -1).repeat(BLOCK_ROWS, 0).repeat(BLOCK_COLUMNS, 1)
    return np.asarray(spread[: len(weight), : weight.shape[1]])
