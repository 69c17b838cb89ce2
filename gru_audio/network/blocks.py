"""The blocks of recurrent weights: which blocks of W_hh are kept, and when in training the others go.

Each gate's (H, H) part is cut into blocks of 16 rows by 4 columns, which the int8 engine multiplies with one
instruction each; the blocks of least energy go. The diagonal, a unit's own memory, always stays.
Source: Kalchbrenner et al., Efficient Neural Audio Synthesis (2018), section 3.1; Valin & Skoglund, LPCNet
(2019), section 3.3, for the diagonal.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gru_audio.config import Config

FloatArray = npt.NDArray[np.float32]

BLOCK_ROWS, BLOCK_COLUMNS = 16, 4

RECURRENT_WEIGHT = "sample_network.cell.weight_hh_l0"
"""What is pruned, (3H, H): its name in a network and in a voice."""


def scheduled_densities(config: Config, step: int) -> list[float]:
    """The share of blocks that each gate has left after a step: from all of them down a cubic to the config's.

    Source: Zhu & Gupta, To prune, or not to prune (2017), eq. 1, for the share that is left.
    """
    start, end = config.train.prune_start_step, config.train.prune_end_step
    left_to_do = 1 - min(1.0, max(0.0, (step - start) / (end - start)))
    return [final + (1 - final) * left_to_do**3 for final in config.model.recurrent_density]


def last_choice(config: Config, step: int) -> int:
    """The newest step, at most this one, after which the kept blocks are chosen; 0 where there is none."""
    settings = config.train
    start, end = settings.prune_start_step, settings.prune_end_step
    if not config.model.is_pruned or step < start:
        return 0
    return end if step >= end else step - (step - start) % settings.prune_every


def prune_blocks(weight: FloatArray, densities: Sequence[float]) -> FloatArray:
    """A copy of the recurrent weights in which each gate has only its strongest blocks, and the diagonal.

    Args:
        weight: (G H, H).
        densities: for each of the G gates the share of blocks that is kept; at least one is.
    """
    return np.asarray(weight * kept_weights(weight, densities), np.float32)


def kept_weights(weight: FloatArray, densities: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Which recurrent weights (G H, H) stay; see `prune_blocks`."""
    size = weight.shape[1]
    kept = [
        _kept_of_gate(weight[gate * size : (gate + 1) * size], density)
        for gate, density in enumerate(densities)
    ]
    return np.concatenate(kept)


def _kept_of_gate(weight: FloatArray, density: float) -> npt.NDArray[np.bool_]:
    size = len(weight)
    n_rows, n_columns = -(-size // BLOCK_ROWS), -(-size // BLOCK_COLUMNS)
    off_diagonal = np.where(np.eye(size, dtype=bool), np.float32(0), weight)
    padded = np.zeros((n_rows * BLOCK_ROWS, n_columns * BLOCK_COLUMNS), np.float32)
    padded[:size, :size] = off_diagonal
    energy = np.square(padded.reshape(n_rows, BLOCK_ROWS, n_columns, BLOCK_COLUMNS)).sum((1, 3))
    n_kept = max(1, round(density * n_columns))
    strongest = np.argsort(-energy, axis=1, kind="stable")[:, :n_kept]
    blocks = np.zeros(energy.shape, bool)
    np.put_along_axis(blocks, strongest, True, 1)
    spread = blocks.repeat(BLOCK_ROWS, 0).repeat(BLOCK_COLUMNS, 1)[:size, :size]
    return np.asarray(spread | np.eye(size, dtype=bool))
