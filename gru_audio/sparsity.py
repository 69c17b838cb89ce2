"""Block sparsity of the recurrent weights: which blocks of W_hh are kept.

Each gate's (H, H) part is cut into blocks of 16 rows by 4 columns, which the int8 engine multiplies with one
instruction each; the blocks of least energy go. The diagonal, a unit's own memory, always stays.
Source: Kalchbrenner et al., Efficient Neural Audio Synthesis (2018), section 3.1; Valin & Skoglund, LPCNet
(2019), section 3.3, for the diagonal.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

BLOCK_ROWS, BLOCK_COLUMNS = 16, 4


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
