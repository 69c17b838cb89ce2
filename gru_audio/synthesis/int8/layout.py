"""How matrices and tables lie in memory for the int8 engine's C loop; see native/int8/int8.h. N groups of 16 rows."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import DoubleArray, FloatArray
from gru_audio.native import library
from gru_audio.network.blocks import BLOCK_COLUMNS, BLOCK_ROWS

QUAD_ROWS = 4 * BLOCK_ROWS
TABLE_FACTOR = 127
"""A table row's byte counts so many units."""

Int8Array = npt.NDArray[np.int8]


def aligned(numbers: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A copy of a type that begins where a line of the cache does."""
    copy = library.aligned(numbers.size, dtype).reshape(numbers.shape)
    copy[...] = numbers
    return copy


def padded(array: FloatArray, *multiples: int) -> DoubleArray:
    """In doubles, with zeros behind, so that each of the last axes is such a multiple."""
    before = [(0, 0)] * (array.ndim - len(multiples))
    last = array.shape[array.ndim - len(multiples) :]
    behind = [(0, -size % multiple) for size, multiple in zip(last, multiples, strict=True)]
    doubles = array.astype(np.float64)
    return np.pad(doubles, before + behind) if np.any(behind) else doubles


def widened(tables: npt.NDArray[Any], multiple: int) -> npt.NDArray[Any]:
    """With zeros behind, so that the last axis is such a multiple; the tables themselves where it is one already."""
    behind = -tables.shape[-1] % multiple
    return np.pad(tables, [(0, 0)] * (tables.ndim - 1) + [(0, behind)]) if behind else tables


def reach_of(tables: FloatArray) -> FloatArray:
    """(n, …): the largest magnitude of each row of each of the tables (n, Q, …)."""
    return np.asarray(np.maximum(tables.max(1), -tables.min(1)), np.float32)


def in_blocks(weight: DoubleArray) -> DoubleArray:
    """(..., rows, columns) to (..., rows / 16, columns / 4, 16, 4)."""
    *before, n_rows, n_columns = weight.shape
    cut = weight.reshape(*before, n_rows // BLOCK_ROWS, BLOCK_ROWS, n_columns // BLOCK_COLUMNS, BLOCK_COLUMNS)
    return np.swapaxes(cut, -3, -2)


def in_pairs(by_gate: list[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """By gate (N, count, …) to end to end: pair by pair, gate by gate, the two groups' in turn."""
    n_pairs = len(by_gate[0]) // 2
    turns = [
        part.reshape(n_pairs, 2, -1, *shape).swapaxes(1, 2).reshape(n_pairs, 2 * part.shape[1], *shape)
        for part in by_gate
    ]
    return np.concatenate(turns, 1).reshape(-1, *shape)


def in_quads(constants: DoubleArray) -> DoubleArray:
    """(3, N, 16) to (N / 4, 3, 64), with zeros behind."""
    whole = np.pad(constants, [(0, 0), (0, -constants.shape[1] % 4), (0, 0)])
    return np.asarray(whole.reshape(len(constants), -1, QUAD_ROWS).swapaxes(0, 1))


def table_bytes(tables: FloatArray, units: DoubleArray) -> Int8Array:
    """(n, Q, G, 16 N) to (n, Q, N / 4, G, 64) bytes in units (G, 16 N), laid out as native/int8/int8.h shows."""
    n_tables, n_codes, n_gates, size = tables.shape
    shape = (n_tables, n_codes, -(-size // QUAD_ROWS), n_gates, QUAD_ROWS)
    rows = library.aligned(math.prod(shape), np.int8).reshape(shape)
    steps = (units * TABLE_FACTOR).astype(np.float32)
    numbers = np.empty(tables.shape[1:], np.float32)
    for table, out in zip(tables, rows, strict=True):  # one by one, as all of them take room and time
        np.rint(np.divide(table, steps, out=numbers), out=numbers)
        fours = widened(numbers.astype(np.int8), QUAD_ROWS).view(np.int32)  # four bytes move as one number
        turned = fours.reshape(n_codes, n_gates, -1, 4, 4).transpose(0, 2, 1, 4, 3)  # (Q, N / 4, G, L, group)
        out.view(np.int32).reshape(turned.shape)[...] = turned
    return rows


def whole_quads(numbers: DoubleArray, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """With zeros behind, up to whole quads along the last axis."""
    short = [(0, 0)] * (numbers.ndim - 1) + [(0, -numbers.shape[-1] % QUAD_ROWS)]
    return aligned(np.pad(numbers, short), dtype)
