"""Tables of the C core that come out the same on every processor, so that a voice speaks the same samples on each.

A BLAS sums in an order that hangs on the processor, and cosines differ in their last bit with what it can do.
"""

import math

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import DoubleArray, FloatArray

_TABLE_BITS = 26  # a million times as coarse as what processors differ by: it is seldom that a number tips
_EXACT_BITS = 53  # of a float64
_ROWS_AT_ONCE = 64  # in float64 all of a voice's would take 20 MB


def rounded(table: npt.NDArray[np.floating]) -> DoubleArray:
    """A table whose numbers have 26 bits of the largest, in place of all those in which processors differ."""
    return _in_steps(table, np.abs(table).max(initial=0), _TABLE_BITS)


def product(left: FloatArray, right: FloatArray) -> FloatArray:
    """(N, K) times the transpose of (M, K), whatever the order of the sums: (N, M) float32.

    The numbers of a row are rounded to so many bits of its largest, 23 for K up to 128, that all sums are exact.
    """
    bits = (_EXACT_BITS - math.ceil(math.log2(max(1, left.shape[1])))) // 2
    columns, found = _rows_in_steps(right, bits).T, np.empty((len(left), len(right)), np.float32)
    for first in range(0, len(left), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        found[part] = _rows_in_steps(left[part], bits) @ columns
    return found


def _rows_in_steps(matrix: FloatArray, bits: int) -> DoubleArray:
    return _in_steps(matrix, np.abs(matrix).max(axis=1, keepdims=True, initial=0), bits)


def _in_steps(numbers: npt.NDArray[np.floating], largest: npt.NDArray[np.floating], bits: int) -> DoubleArray:
    """Numbers rounded to whole steps, of which there are 2^bits up to the power of two above the largest."""
    step = np.ldexp(1.0, np.frexp(largest)[1] - bits)
    return np.asarray(np.rint(numbers / step) * step + 0.0)  # none is -0.0
