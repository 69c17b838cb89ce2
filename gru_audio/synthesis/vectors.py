"""Arithmetic on vectors of 16 lanes for compiled loops, written as LLVM's instructions, for any processor.

numba has no vector type, and its automatic vectorising gives neither byte products nor a choice of layout. So
the steps of int8_stages.py that take the time are written here in LLVM's own vectors.
"""

from collections.abc import Sequence

from llvmlite import ir
from numba.core import cgutils

from gru_audio.lanes import F32, I8, I16, I32, I64, LANES, call, join, multiply_add, split, vector_type
from gru_audio.synthesis.byte_products import BYTE_PRODUCTS, activation_offset, byte_product_for

_ROUND = 12582912.0  # 1.5 * 2**23: a float of this size has no bits after the point

# tanh(x) = sinh(x) / sqrt(1 + sinh(x)^2), which needs no limits; sinh(x) / x in x^2, fitted for the least error of
# tanh, not of sinh.
_SINH = (1.0, 0.16488913, 0.0098516770)
TANH_ERROR = 2.5e-4
"""Largest absolute error of `Vectors.tanh` where `|x| <= TANH_LIMIT`; beyond it squares overflow."""
TANH_LIMIT = 10_000.0

# 2**r on [-1/2, 1/2], Taylor's series of e**(r ln 2).
_EXP2 = tuple(0.6931471805599453**n / f for n, f in enumerate((1, 1, 2, 6, 24, 120, 720)))


_UNROLLED = 32
"""Block products in a row without a branch."""

_COLUMNS_AT_ONCE = 4
"""Columns that one load fetches: a core can load fewer numbers at a time than it can multiply."""


class Vectors:
    """Emits operations on vectors of 16 floats or integers, or on several of them, where a builder stands.

    Addresses are integers of pointer width, as numba's `array.ctypes.data` gives them.
    """

    def __init__(self, builder: ir.IRBuilder, features: str) -> None:
        """Emit with a builder, for a processor with LLVM's `features`."""
        self.builder = builder
        self._path = byte_product_for(features)
        self._byte_product, self.offset = BYTE_PRODUCTS[self._path], activation_offset(self._path)

    # Constants, memory

    def number(self, value: float, like: ir.Value | None = None) -> ir.Value:
        """Floats, all alike; 16, or as many as `like` has."""
        kind = vector_type(F32, LANES if like is None else like.type.count)
        return ir.Constant(kind, [value] * kind.count)

    def integer(self, value: int) -> ir.Value:
        """(16,) int32, all alike."""
        return ir.Constant(vector_type(I32), [value] * LANES)

    def load(self, address: ir.Value, kind: ir.Type = F32, lanes: int = LANES, align: int = 4) -> ir.Value:
        """A vector from memory, or a scalar where `lanes` is 1."""
        wide = vector_type(kind, lanes) if lanes > 1 else kind
        value = self.builder.load(self.builder.inttoptr(address, wide.as_pointer()))
        value.align = align
        return value

    def load_integers(self, address: ir.Value) -> ir.Value:
        """(16,) int32 from memory."""
        return self.load(address, I32)

    def store(self, value: ir.Value, address: ir.Value, align: int = 4) -> None:
        """A vector to memory."""
        pointer = self.builder.inttoptr(address, value.type.as_pointer())
        self.builder.store(value, pointer).align = align

    def at(self, address: ir.Value, n_bytes: int) -> ir.Value:
        """An address that many bytes on."""
        return self.builder.add(address, ir.Constant(address.type, n_bytes))

    # Arithmetic

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """A b + c, in one rounding where the processor has such an instruction."""
        return multiply_add(self.builder, a, b, c)

    def clip(self, x: ir.Value, limit: float) -> ir.Value:
        """X limited to [-limit, limit]; a NaN becomes -limit."""
        low, high = self.number(-limit, x), self.number(limit, x)
        above = self.maximum(x, low)
        return self.builder.select(self.builder.fcmp_ordered("<", above, high), above, high)

    def maximum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The larger of each lane; b where a is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def largest(self, x: ir.Value) -> ir.Value:
        """The largest lane, a scalar."""
        return self._call("llvm.vector.reduce.fmax", F32, x)

    def to_float(self, x: ir.Value) -> ir.Value:
        """Integers to floats."""
        return self.builder.sitofp(x, vector_type(F32, x.type.count))

    def widen(self, x: ir.Value, shift: int) -> ir.Value:
        """(16,) int16 to int32, times 2**shift."""
        return self.builder.shl(self.builder.sext(x, vector_type(I32)), self.integer(shift))

    def to_bytes(self, x: ir.Value, factor: ir.Value, offset: int) -> ir.Value:
        """(16,) floats times a factor, rounded to the nearest integer from -128 to 127, plus an offset, as bytes.

        The product is rounded to float32 first, as numpy does it, and not with the sum in one rounding.
        """
        shifted = self.builder.fadd(self.builder.fmul(x, factor), self.number(_ROUND + offset))
        return self.builder.trunc(self.builder.bitcast(shifted, vector_type(I32)), vector_type(I8))

    def tanh(self, x: ir.Value) -> ir.Value:
        """The hyperbolic tangent to `TANH_ERROR`."""
        sinh = self.builder.fmul(x, self._polynomial(_SINH, self.builder.fmul(x, x)))
        return self.builder.fmul(sinh, self._inverse_root(self.multiply_add(sinh, sinh, self.number(1.0, x))))

    def sigmoid(self, x: ir.Value) -> ir.Value:
        """1 / (1 + e**-x) of (16,), with a relative error under 4e-6, and under 1e-6 where `|x| < 10`."""
        # e**-x = 2**y, y = k + r with an integer k, which stands in the lowest bits of y + _ROUND.
        y = self.builder.fmul(self.clip(x, 80.0), self.number(-1.4426950408889634))
        shifted = self.builder.fadd(y, self.number(_ROUND))
        r = self.builder.fsub(y, self.builder.fsub(shifted, self.number(_ROUND)))
        exponent = self.builder.add(self.builder.bitcast(shifted, vector_type(I32)), self.integer(127))
        power = self.builder.bitcast(self.builder.shl(exponent, self.integer(23)), vector_type(F32))
        one = self.number(1.0)
        return self.builder.fdiv(one, self.multiply_add(self._polynomial(_EXP2, r), power, one))

    def cut_tails(self, p: ir.Value, share: ir.Value) -> ir.Value:
        """Probabilities (16,) under a share as 0, those over one less it as 1."""
        builder, one = self.builder, self.number(1.0)
        p = builder.select(builder.fcmp_ordered("<", p, share), self.number(0.0), p)
        return builder.select(builder.fcmp_ordered(">", p, builder.fsub(one, share)), one, p)

    def _inverse_root(self, x: ir.Value) -> ir.Value:
        """1 / sqrt(x), on AVX-512 to 14 bits."""
        if self._path != "avx512-vnni":
            return self.builder.fdiv(self.number(1.0, x), self._call("llvm.sqrt", x.type, x))
        all_lanes, kind = ir.Constant(I16, 0xFFFF), vector_type(F32)
        parts = [
            call(self.builder, "llvm.x86.avx512.rsqrt14.ps.512", kind, part, part, all_lanes)
            for part in split(self.builder, x)
        ]
        return join(self.builder, parts)

    def _polynomial(self, coefficients: Sequence[float], x: ir.Value) -> ir.Value:
        total = self.number(coefficients[-1], x)
        for coefficient in reversed(coefficients[:-1]):
            total = self.multiply_add(total, x, self.number(coefficient, x))
        return total

    # Products of bytes

    def block_products(
        self,
        start: ir.Value,
        blocks: ir.Value,
        activations: ir.Value,
        n_blocks: int,
        columns: ir.Value | None = None,
    ) -> ir.Value:
        """Start plus the sum of blocks (16 rows, 4 columns) of int8 times four activations each.

        Args:
            start: (16,) int32.
            blocks: address of (n_blocks, 16, 4) int8, on a multiple of 64.
            activations: address of the activations' bytes.
            n_blocks: how many.
            columns: address of (n_blocks,) uint16, the first activation of each block, and 6 more bytes; None for
                block i at 4 i.
        """
        builder, width = self.builder, blocks.type
        sums = [cgutils.alloca_once(builder, start.type) for _ in range(2)]
        builder.store(start, sums[0])
        builder.store(self.integer(0), sums[1])

        def add_blocks(first: ir.Value, n: int) -> None:
            """Add n blocks from number `first` on."""
            for i in range(n):
                index = builder.add(first, ir.Constant(width, i))
                offset = builder.shl(index, ir.Constant(width, 2))
                if columns is not None:
                    if i % _COLUMNS_AT_ONCE == 0:
                        some = builder.add(columns, builder.shl(index, ir.Constant(width, 1)))
                        packed = self.load(some, I64, 1, align=2)
                    shifted = builder.lshr(packed, ir.Constant(I64, 16 * (i % _COLUMNS_AT_ONCE)))
                    offset = builder.zext(builder.trunc(shifted, I16), width)
                block = builder.add(blocks, builder.shl(index, ir.Constant(width, 6)))
                total = sums[i % 2]  # two sums, as each product waits for the one before it
                four = self.four(builder.add(activations, offset))
                builder.store(self.block_product(builder.load(total), block, four), total)

        # Without branches as far as code does not get long: there are none to guess wrong.
        n_turns = n_blocks // _UNROLLED if n_blocks >= 2 * _UNROLLED else 0
        if n_turns:
            with cgutils.for_range(builder, ir.Constant(width, n_turns)) as loop:
                add_blocks(builder.mul(loop.index, ir.Constant(width, _UNROLLED)), _UNROLLED)
        add_blocks(ir.Constant(width, n_turns * _UNROLLED), n_blocks - n_turns * _UNROLLED)
        return builder.add(*(builder.load(total) for total in sums))

    def four(self, activations: ir.Value) -> ir.Value:
        """The bytes of four activations from an address on."""
        return self.load(activations, I32, 1)

    def block_product(self, total: ir.Value, block: ir.Value, four: ir.Value) -> ir.Value:
        """Total (16,) int32 plus the product of the block at an address with `four` activations."""
        weights = self.load(block, I8, 4 * LANES, align=64)
        return self._byte_product(self.builder, total, four, weights)

    def _call(self, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        """An overloaded LLVM intrinsic of vectors of floats."""
        return call(self.builder, f"{name}.v{arguments[0].type.count}f32", result, *arguments)
