"""Tables of the C core that come out the same on every processor, so that a voice speaks the same samples on each.

A BLAS sums in an order that hangs on the processor, and cosines differ in their last bit with what it can do.
"""

import math

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray

DoubleArray = npt.NDArray[np.float64]

_TABLE_BITS = 26  # a million times as coarse as what processors differ by: it is seldom that a number tips
_EXACT_BITS = 53  # of a float64


def rounded(table: npt.NDArray[np.floating]) -> DoubleArray:
    """A table whose numbers have 26 bits of the largest, in place of all those in which processors differ."""
    return _in_steps(table, np.abs(table).max(initial=0), _TABLE_BITS)


def product(left: FloatArray, right: FloatArray) -> FloatArray:
    """(N, K) times the transpose of (M, K), whatever the order of the sums: (N, M) float32.

    The numbers of a row are rounded to so many bits of its largest, 23 for K up to 128, that all sums are exact.
    """
    bits = (_EXACT_BITS - math.ceil(math.log2(max(1, left.shape[1])))) // 2
    rows, columns = (
        _in_steps(matrix, np.abs(matrix).max(axis=1, keepdims=True, initial=0), bits)
        for matrix in (left, right)
    )
    return np.asarray(rows @ columns.T, np.float32)


def _in_steps(numbers: npt.NDArray[np.floating], largest: npt.NDArray[np.floating], bits: int) -> DoubleArray:
    """Numbers rounded to whole steps, of which there are 2^bits up to the power of two above the largest."""
    step = np.ldexp(1.0, np.frexp(largest)[1] - bits)
    return np.asarray(np.rint(numbers / step) * step + 0.0)  # none is -0.0
