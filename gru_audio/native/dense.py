"""How a matrix lies in memory for the products of native/loops/dense.h, and for loops over whole vectors."""

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


def eleven_bits(matrix: FloatArray) -> FloatArray:
    """The nearest numbers with 11 significant bits, as float16 has: what `dense` multiplies exactly.

    What is smaller than 2^-60 is 0, so that no product is too small for a float.
    """
    bits = np.ascontiguousarray(matrix, np.float32).view(np.uint32)
    dropped = 24 - 11
    rounded = ((bits + np.uint32(1 << (dropped - 1))) & np.uint32((1 << 32) - (1 << dropped))).view(
        np.float32
    )
    return np.asarray(np.where(np.abs(rounded) < 2.0**-60, 0, rounded), np.float32)


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
