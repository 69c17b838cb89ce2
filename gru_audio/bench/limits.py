"""What one core of this machine can do at most: bytes read a second, and multiply-adds a second.

Each figure is the best of several runs, as a limit is what nothing else slows down. The multiply-adds are of
registers and the nearest cache only, in the instructions that the engines use; see native/bench/limits.c.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gru_audio.native import library

_WORKING_SETS = tuple(1 << power for power in range(13, 27))  # 8 KiB, half the smallest L1, to 64 MiB
_RUNS = 9
_RUN_S = 0.003
_FOURS_BYTES = 256  # activations that native/bench/limits.c takes in turn

float_products = library.function("gru_limit_float_products", [], library.Int)
byte_products = library.function("gru_limit_byte_products", [], library.Int)
read = library.function("gru_limit_read", [library.Int64s, library.Int, library.Int], library.Int)
multiply_floats = library.function("gru_limit_multiply_floats", [library.Int], library.Float)
multiply_bytes = library.function(
    "gru_limit_multiply_bytes", [library.SignedBytes, library.SignedBytes, library.Int], library.Int
)


@dataclass(frozen=True)
class ReadSpeed:
    """How fast data of a size is read over and over."""

    working_set_bytes: int
    bytes_per_s: float


@dataclass(frozen=True)
class Limits:
    """The measured limits of one core.

    Attributes:
        read: by rising size of the working set; the caches show as steps.
        float32_macs_per_s: multiply-adds of float32.
        int8_macs_per_s: multiply-adds of int8 into int32.
        int8_instructions: the instruction set that these were measured with; see native/instruction_sets.py.
    """

    read: tuple[ReadSpeed, ...]
    float32_macs_per_s: float
    int8_macs_per_s: float
    int8_instructions: str

    def read_bytes_per_s(self, working_set_bytes: float) -> float:
        """The speed for a working set between or beyond the measured ones."""
        sizes = [np.log2(point.working_set_bytes) for point in self.read]
        return float(np.interp(np.log2(working_set_bytes), sizes, [point.bytes_per_s for point in self.read]))


def measure_limits() -> Limits:
    """Measure this machine, in about a second."""
    n_floats, n_bytes = float_products(), byte_products()
    weights, activations = library.aligned(n_bytes, np.int8), library.aligned(_FOURS_BYTES, np.int8)
    weights[:] = activations[:] = 1
    speeds = [read_bytes_per_s(size) for size in _WORKING_SETS]
    # What a larger set can, a smaller one can too; only something else that ran at the time can have hidden it.
    reached = np.maximum.accumulate(speeds[::-1])[::-1]
    return Limits(
        tuple(ReadSpeed(size, float(speed)) for size, speed in zip(_WORKING_SETS, reached, strict=True)),
        _best_rate(multiply_floats, n_floats),
        _best_rate(lambda n_times: multiply_bytes(weights, activations, n_times), n_bytes),
        library.instructions(),
    )


def read_bytes_per_s(working_set_bytes: int) -> float:
    """How fast one core reads an array of this size, a multiple of 512 bytes, again and again."""
    numbers = library.aligned(working_set_bytes // 8, np.int64)
    numbers[:] = 1
    return _best_rate(lambda n_times: read(numbers, numbers.size, n_times), numbers.nbytes)


def _best_rate(work: Callable[[int], Any], amount: int) -> float:
    """The best amount a second of `work(n_times)`, which does `amount` each time."""
    work(1)  # the first call loads the library
    n_times = 1
    while _timed(work, n_times) < _RUN_S:
        n_times *= 2
    return n_times * amount / min(_timed(work, n_times) for _ in range(_RUNS))


def _timed(work: Callable[[int], Any], n_times: int) -> float:
    began = time.perf_counter()
    work(n_times)
    return time.perf_counter() - began
