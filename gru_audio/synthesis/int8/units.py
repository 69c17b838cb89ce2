"""The unit of a row of weights: so large that the row fits into bytes, and sums of its products into 16 bits."""

import numpy as np

from gru_audio.arrays import DoubleArray, FloatArray
from gru_audio.network.blocks import BLOCK_COLUMNS, BLOCK_ROWS
from gru_audio.synthesis.int8.layout import TABLE_FACTOR

FULL_ACTIVATION = 64
"""What an activation of 1 is stored as: 7 bits, so that two products fit into 16 bits where a processor needs that."""

LEAST_UNIT = 2.0**-20
"""A row without weights has frame inputs all the same."""

_LARGEST_BYTE = 127
_LARGEST_PAIRS = 253
"""Of four neighbouring weights of two blocks, those of one sign sum up to no more, and to 255 once they are rounded:
times 128, the largest activation, that fits into 16 bits."""


def unit_of_tables(reach: FloatArray) -> DoubleArray:
    """Of rows of tables whose numbers reach so far; see `layout.reach_of`."""
    return np.asarray(reach.astype(np.float64) / (_LARGEST_BYTE * TABLE_FACTOR))


def unit_of_blocks(blocks: DoubleArray) -> DoubleArray:
    """(..., 16), of blocks (..., n, 16, 4) that are multiplied two by two with activations of 7 bits."""
    if not blocks.shape[-3]:
        return np.zeros((*blocks.shape[:-3], BLOCK_ROWS))
    largest = np.abs(blocks).max((-3, -1)) / _LARGEST_BYTE
    return np.asarray(np.maximum(largest, _largest_pairs(blocks) / _LARGEST_PAIRS) / FULL_ACTIVATION)


def _largest_pairs(blocks: DoubleArray) -> DoubleArray:
    """(..., 16), the most that weights of one sign sum up to in two columns of two blocks; (..., n, 16, 4) blocks."""
    n_odd = blocks.shape[-3] % 2
    even = np.pad(blocks, [(0, 0)] * (blocks.ndim - 3) + [(0, n_odd), (0, 0), (0, 0)])
    pairs = even.reshape(*even.shape[:-3], -1, 2, BLOCK_ROWS, BLOCK_COLUMNS // 2, 2)
    largest = np.zeros(())
    for sign in (1, -1):
        part = np.maximum(sign * pairs, 0)
        of_two_blocks = part[..., 0, :, :, :] + part[..., 1, :, :, :]
        largest = np.maximum(largest, of_two_blocks[..., 0] + of_two_blocks[..., 1])  # (..., n / 2, 16, 2)
    return np.asarray(largest.max((-3, -1)), np.float64)
