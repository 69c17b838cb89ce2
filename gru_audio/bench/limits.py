"""What one core of this machine can do at most: bytes read a second, and multiply-adds a second.

Each figure is the best of several runs, as a limit is what nothing else slows down. The multiply-adds are of
registers only, in the instructions that the engines use; see synthesis/byte_products.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gru_audio.jit import compiled
from gru_audio.lanes import I8, I32, LANES, processor_features, vector_type
from gru_audio.synthesis.byte_products import BYTE_PRODUCTS, byte_product_for
from gru_audio.synthesis.vectors import Vectors

_WORKING_SETS = tuple(1 << power for power in range(13, 27))  # 8 KiB, half the smallest L1, to 64 MiB
_RUNS = 9
_RUN_S = 0.003
_N_CHAINS = 10  # latency times throughput: 5 cycles, two multiply-adds a cycle at most
_BYTES_A_LANE = 4


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
        int8_instructions: the instruction set that the latter use, a name in `byte_products.BYTE_PRODUCTS`.
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
    speeds = [read_bytes_per_s(size) for size in _WORKING_SETS]
    # What a larger set can, a smaller one can too; only something else that ran at the time can have hidden it.
    reached = np.maximum.accumulate(speeds[::-1])[::-1]
    return Limits(
        tuple(ReadSpeed(size, float(speed)) for size, speed in zip(_WORKING_SETS, reached, strict=True)),
        _best_rate(_float_chains, _N_CHAINS * LANES),
        _best_rate(_byte_chains, _N_CHAINS * LANES * _BYTES_A_LANE),
        byte_product_for(processor_features()),
    )


def read_bytes_per_s(working_set_bytes: int) -> float:
    """How fast one core reads an array of this size again and again."""
    numbers = np.ones(working_set_bytes // 8, np.int64)
    return _best_rate(lambda n_times: _read(numbers, n_times), numbers.nbytes)


def _best_rate(work: Callable[[int], Any], amount: int) -> float:
    """The best amount a second of `work(n_times)`, which does `amount` each time."""
    work(1)  # compiles, or loads what was compiled
    n_times = 1
    while _timed(work, n_times) < _RUN_S:
        n_times *= 2
    return n_times * amount / min(_timed(work, n_times) for _ in range(_RUNS))


def _timed(work: Callable[[int], Any], n_times: int) -> float:
    began = time.perf_counter()
    work(n_times)
    return time.perf_counter() - began


@compiled()
def _read(numbers: npt.NDArray[np.int64], n_times: int) -> int:
    """Sums of integers, whose additions wait for nothing but the data."""
    total = 0
    for _ in range(n_times):
        for i in range(numbers.size):
            total += numbers[i]
    return total


def _float_code(typingctx: Any, n_times: Any) -> Any:
    """`_N_CHAINS` independent chains of 16 multiply-adds, n_times long."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        vectors = Vectors(builder, context.codegen().magic_tuple()[2])
        factor = vectors.number(0.5)

        def step(chain: int, total: ir.Value, turn: ir.Value) -> ir.Value:
            return vectors.multiply_add(total, factor, vectors.number(float(chain)))

        total = _chains(vectors, vectors.number(1.0), arguments[0], step)
        return builder.extract_element(total, ir.Constant(I32, 0))

    return types.float32(types.int64), codegen


def _byte_code(typingctx: Any, n_times: Any) -> Any:
    """`_N_CHAINS` independent chains of 16 x 4 multiply-adds, n_times long."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        features = context.codegen().magic_tuple()[2]
        vectors, product = Vectors(builder, features), BYTE_PRODUCTS[byte_product_for(features)]
        kind = vector_type(I8, _BYTES_A_LANE * LANES)

        def step(chain: int, total: ir.Value, turn: ir.Value) -> ir.Value:
            weights = ir.Constant(kind, [chain + 1] * kind.count)
            return product(builder, total, builder.trunc(turn, I32), weights)

        total = _chains(vectors, vectors.integer(0), arguments[0], step)
        return builder.extract_element(total, ir.Constant(I32, 0))

    return types.int32(types.int64), codegen


def _chains(
    vectors: Vectors,
    start: ir.Value,
    n_times: ir.Value,
    step: Callable[[int, ir.Value, ir.Value], ir.Value],
) -> ir.Value:
    """Emit chains of `step(chain, total, turn)` from `start`; the sum of their ends, so that all are needed."""
    builder = vectors.builder
    totals = [cgutils.alloca_once_value(builder, start) for _ in range(_N_CHAINS)]
    with cgutils.for_range(builder, n_times) as loop:
        for chain, total in enumerate(totals):
            builder.store(step(chain, builder.load(total), loop.index), total)
    is_float = isinstance(start.type.element, ir.FloatType)
    add = builder.fadd if is_float else builder.add
    result = builder.load(totals[0])
    for total in totals[1:]:
        result = add(result, builder.load(total))
    return result


# numba types an intrinsic as if it were called with the context that it is given when compiled.
_multiply_floats: Any = intrinsic(_float_code)
_multiply_bytes: Any = intrinsic(_byte_code)


@compiled()
def _float_chains(n_times: int) -> Any:
    return _multiply_floats(n_times)


@compiled()
def _byte_chains(n_times: int) -> Any:
    return _multiply_bytes(n_times)
