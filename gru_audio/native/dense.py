"""How a matrix lies in memory for the products of native/dense.h, and for loops over whole vectors."""

import numpy as np

from gru_audio.arrays import FloatArray

WIDTH = 16
"""Outputs of a tile: `DENSE_WIDTH`."""


def padded(n_outputs: int) -> int:
    """A number of outputs, rounded up to whole tiles."""
    return -(-n_outputs // WIDTH) * WIDTH


def in_whole_vectors(array: FloatArray, n_axes: int = 1) -> FloatArray:
    """With zeros behind, so that each of the last axes is a multiple of 16."""
    behind = [(0, padded(size) - size) for size in array.shape[array.ndim - n_axes :]]
    return np.ascontiguousarray(np.pad(array, [(0, 0)] * (array.ndim - n_axes) + behind), np.float32)


def tiled(matrix: FloatArray, bias: FloatArray | None = None) -> FloatArray:
    """A matrix (n_outputs, n_inputs) as `dense` reads it.

    Returns:
        (n_tiles, n_inputs + 1, WIDTH): a tile has its outputs' weights for each input and then their bias; outputs
        beyond the matrix's are 0.
    """
    n_outputs, n_inputs = matrix.shape
    rows = np.zeros((padded(n_outputs), n_inputs + 1), np.float32)
    rows[:n_outputs, :n_inputs] = matrix
    if bias is not None:
        rows[:n_outputs, n_inputs] = bias
    return np.ascontiguousarray(rows.reshape(-1, WIDTH, n_inputs + 1).transpose(0, 2, 1))
