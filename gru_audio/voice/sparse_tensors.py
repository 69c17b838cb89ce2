"""Pruned matrices in a file: of each only the blocks of 16 x 4 numbers that are not all zero.

A matrix W (rows, columns) of which less than half of the blocks are left, and more than next to none, is three
tensors in the file:

    W:shape   (2,) int64            rows and columns
    W:places  (K,) int32            of the blocks that are left, counted along each 16 rows
    W:blocks  (K, 16, 4)            their numbers, zeros beyond the matrix's edges
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_SHAPE, _PLACES, _BLOCKS = ":shape", ":places", ":blocks"
_ROWS, _COLUMNS = 16, 4  # of a block, as network/blocks.py prunes
_MOST_EMPTY = 256
"""A matrix has at most so many times the blocks that are left of it: a small file cannot ask for much memory."""


class SparseTensorError(ValueError):
    """What stands for a matrix is none; the text is a clause, and the caller says of which file."""


def squeezed(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """All tensors, by name, those that are mostly empty as their blocks."""
    found = dict[str, Array]()
    for name, tensor in tensors.items():
        cut = _in_blocks(tensor) if tensor.ndim == 2 and tensor.size else np.ones((1, 1, 1, 1))
        places = np.flatnonzero(cut.any((2, 3)))
        if not 2 * len(places) < cut.shape[0] * cut.shape[1] <= _MOST_EMPTY * len(places):
            found[name] = tensor
            continue
        found[name + _SHAPE] = np.array(tensor.shape, np.int64)
        found[name + _PLACES] = places.astype(np.int32)
        found[name + _BLOCKS] = cut.reshape(-1, _ROWS, _COLUMNS)[places]
    return found


def is_squeezed(stored: Mapping[str, Array]) -> bool:
    """Whether some tensors of a file are blocks."""
    return any(name.endswith(_BLOCKS) for name in stored)


def whole(stored: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors that `squeezed` was given.

    Raises:
        SparseTensorError: a part of a matrix is missing, or the parts do not fit together.
    """
    found = dict[str, Array]()
    for name, tensor in stored.items():
        if name.endswith(_BLOCKS):
            matrix = name.removesuffix(_BLOCKS)
            shape, places = (stored.get(matrix + part) for part in (_SHAPE, _PLACES))
            if shape is None or places is None or matrix in stored:
                raise SparseTensorError(f"{matrix} is not there as one matrix")
            found[matrix] = _matrix(matrix, shape, places, tensor)
        elif not (name.endswith((_SHAPE, _PLACES)) and name.rpartition(":")[0] + _BLOCKS in stored):
            found[name] = tensor
    return found


def _in_blocks(matrix: Array) -> Array:
    """(rows, columns) to (rows / 16, columns / 4, 16, 4), zeros behind."""
    n_rows, n_columns = matrix.shape
    padded = np.pad(matrix, [(0, -n_rows % _ROWS), (0, -n_columns % _COLUMNS)])
    cut = padded.reshape(-1, _ROWS, padded.shape[1] // _COLUMNS, _COLUMNS)
    return np.asarray(cut.swapaxes(1, 2))


def _matrix(name: str, shape: Array, places: Array, blocks: Array) -> Array:
    """(rows, columns), of the three tensors in a file; any of them may be anything."""
    if shape.dtype != np.int64 or shape.shape != (2,) or (shape < 1).any():
        raise SparseTensorError(f"{name} has no valid shape")
    n_rows, n_columns = (int(size) for size in shape)
    tall, wide = -(-n_rows // _ROWS), -(-n_columns // _COLUMNS)
    if (blocks.shape, places.shape) != ((places.size, _ROWS, _COLUMNS), (places.size,)):
        raise SparseTensorError(f"{name} has other blocks than places")
    if tall * wide > _MOST_EMPTY * places.size:
        raise SparseTensorError(f"{name} is too large for so few blocks")
    if places.dtype != np.int32:
        raise SparseTensorError(f"{name} has places that are no int32")
    if (places < 0).any() or (places >= tall * wide).any() or (np.diff(places) < 1).any():
        raise SparseTensorError(f"{name} has a block outside of it, or two in one place")
    cut = np.zeros((tall * wide, _ROWS, _COLUMNS), blocks.dtype)
    cut[places] = blocks
    padded = cut.reshape(tall, wide, _ROWS, _COLUMNS).swapaxes(1, 2)
    padded = padded.reshape(tall * _ROWS, wide * _COLUMNS)
    return np.ascontiguousarray(padded[:n_rows, :n_columns])
