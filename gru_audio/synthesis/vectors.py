"""Vectors of 16 lanes for compiled loops: arithmetic written as LLVM's instructions, for any processor.

numba has no vector type, and its automatic vectorising gives neither byte products nor a choice of layout. So
the inner steps of int8_kernels.py are written here in LLVM's own vectors, which become one AVX-512 register, two of
AVX2 or four of NEON. The one operation that LLVM does not find by itself, the product of bytes summed by fours, is
emitted for the instruction set that the code is compiled for: see `byte_product_for`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

LANES = 16

_I8, _I16, _I32, _F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
_ROUND = 12582912.0  # 1.5 * 2**23: a float of this size has no bits after the point

# tanh(x) = sinh(x) / sqrt(1 + sinh(x)^2), which needs no limits; sinh(x) / x in x^2, fitted for the least error of
# tanh, not of sinh.
_SINH = (1.0, 0.1668141077, 0.0081534354, 0.0002462788)
TANH_ERROR = 8e-5
"""Largest absolute error of `Vectors.tanh` where `|x| <= TANH_LIMIT`."""
TANH_LIMIT = 1800.0

# 2**r on [-1/2, 1/2], Taylor's series of e**(r ln 2).
_EXP2 = tuple(0.6931471805599453**n / f for n, f in enumerate((1, 1, 2, 6, 24, 120, 720)))


def _vector(kind: ir.Type, lanes: int = LANES) -> ir.VectorType:
    return ir.VectorType(kind, lanes)


class Vectors:
    """Emits operations on vectors of 16 floats or integers at the place where a builder stands.

    Addresses are integers of pointer width, as numba's `array.ctypes.data` gives them.
    """

    def __init__(self, builder: ir.IRBuilder, features: str) -> None:
        """Emit with a builder, for a processor with LLVM's `features`."""
        self.builder = builder
        self._path = byte_product_for(features)
        self._byte_product, self.offset = BYTE_PRODUCTS[self._path], activation_offset(self._path)

    # Constants, memory

    def number(self, value: float) -> ir.Value:
        """(16,) floats, all alike."""
        return ir.Constant(_vector(_F32), [value] * LANES)

    def integer(self, value: int) -> ir.Value:
        """(16,) int32, all alike."""
        return ir.Constant(_vector(_I32), [value] * LANES)

    def spread(self, scalar: ir.Value, lanes: int = LANES) -> ir.Value:
        """A scalar in every lane."""
        kind = _vector(scalar.type, lanes)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_I32, 0))
        zeros = ir.Constant(_vector(_I32, lanes), [0] * lanes)
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)

    def load(self, address: ir.Value, kind: ir.Type = _F32, lanes: int = LANES, align: int = 4) -> ir.Value:
        """A vector from memory."""
        wide = _vector(kind, lanes) if lanes > 1 else kind
        value = self.builder.load(self.builder.inttoptr(address, wide.as_pointer()))
        value.align = align
        return value

    def load_integers(self, address: ir.Value) -> ir.Value:
        """(16,) int32 from memory."""
        return self.load(address, _I32)

    def load_bfloats(self, address: ir.Value) -> ir.Value:
        """(16,) floats from the upper halves of their bits."""
        upper = self.builder.zext(self.load(address, _I16, align=2), _vector(_I32))
        return self.builder.bitcast(self.builder.shl(upper, self.integer(16)), _vector(_F32))

    def prefetch(self, address: ir.Value) -> None:
        """Ask for a line of memory that will be read soon."""
        pointer = self.builder.inttoptr(address, _I8.as_pointer())
        read, soonest, data = (ir.Constant(_I32, value) for value in (0, 3, 1))
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
        self.call("llvm.prefetch.p0", function_type, pointer, read, soonest, data)

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
        return self._call("llvm.fmuladd", a.type, a, b, c)

    def clip(self, x: ir.Value, limit: float) -> ir.Value:
        """X limited to [-limit, limit]; a NaN becomes -limit."""
        low, high = self.number(-limit), self.number(limit)
        above = self.builder.select(self.builder.fcmp_ordered(">", x, low), x, low)
        return self.builder.select(self.builder.fcmp_ordered("<", above, high), above, high)

    def maximum(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The larger of each lane."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def largest(self, x: ir.Value) -> ir.Value:
        """The largest lane, a scalar."""
        return self._call("llvm.vector.reduce.fmax", x.type, x, result=_F32)

    def to_float(self, x: ir.Value) -> ir.Value:
        """Integers to floats."""
        return self.builder.sitofp(x, _vector(_F32))

    def widen(self, x: ir.Value, shift: int) -> ir.Value:
        """(16,) int16 to int32, times 2**shift."""
        return self.builder.shl(self.builder.sext(x, _vector(_I32)), self.integer(shift))

    def to_bytes(self, x: ir.Value, factor: ir.Value | float, offset: int) -> ir.Value:
        """Floats times a factor, rounded to the nearest integer from -128 to 127, plus an offset, as bytes."""
        scale = factor if isinstance(factor, ir.Value) else self.number(float(factor))
        shifted = self.multiply_add(x, scale, self.number(_ROUND + offset))
        return self.builder.trunc(self.builder.bitcast(shifted, _vector(_I32)), _vector(_I8))

    def tanh(self, x: ir.Value) -> ir.Value:
        """The hyperbolic tangent to `TANH_ERROR`."""
        sinh = self.builder.fmul(x, self._polynomial(_SINH, self.builder.fmul(x, x)))
        return self.builder.fmul(sinh, self._inverse_root(self.multiply_add(sinh, sinh, self.number(1.0))))

    def sigmoid(self, x: ir.Value) -> ir.Value:
        """1 / (1 + e**-x), with a relative error under 1e-6 at both ends."""
        # e**-x = 2**y, y = k + r with an integer k, which stands in the lowest bits of y + _ROUND.
        y = self.builder.fmul(self.clip(x, 80.0), self.number(-1.4426950408889634))
        shifted = self.builder.fadd(y, self.number(_ROUND))
        r = self.builder.fsub(y, self.builder.fsub(shifted, self.number(_ROUND)))
        exponent = self.builder.add(self.builder.bitcast(shifted, _vector(_I32)), self.integer(127))
        power = self.builder.bitcast(self.builder.shl(exponent, self.integer(23)), _vector(_F32))
        one = self.number(1.0)
        return self.builder.fdiv(one, self.multiply_add(self._polynomial(_EXP2, r), power, one))

    def cut_tails(self, p: ir.Value, share: ir.Value) -> ir.Value:
        """Probabilities under a share as 0, those over one less it as 1."""
        builder, one = self.builder, self.number(1.0)
        p = builder.select(builder.fcmp_ordered("<", p, share), self.number(0.0), p)
        return builder.select(builder.fcmp_ordered(">", p, builder.fsub(one, share)), one, p)

    def _inverse_root(self, x: ir.Value) -> ir.Value:
        """1 / sqrt(x), on AVX-512 to 14 bits."""
        if self._path == "avx512-vnni":
            mask = ir.Constant(_I16, 0xFFFF)
            function_type = ir.FunctionType(x.type, [x.type, x.type, mask.type])
            return self.call("llvm.x86.avx512.rsqrt14.ps.512", function_type, x, x, mask)
        return self.builder.fdiv(self.number(1.0), self._call("llvm.sqrt", x.type, x))

    def _polynomial(self, coefficients: Sequence[float], x: ir.Value) -> ir.Value:
        total = self.number(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            total = self.multiply_add(total, x, self.number(coefficient))
        return total

    # Products of bytes

    def block_products(
        self,
        start: ir.Value,
        blocks: ir.Value,
        activations: ir.Value,
        n_blocks: ir.Value,
        columns: ir.Value | None = None,
    ) -> ir.Value:
        """Start plus the sum of blocks (16 rows, 4 columns) of int8 times four activations each.

        Args:
            start: (16,) int32.
            blocks: address of (n_blocks, 16, 4) int8, on a multiple of 64.
            activations: address of the activations' bytes.
            n_blocks: how many.
            columns: address of (n_blocks,) uint16, the first activation of each block; None for block i at 4 i.
        """
        builder, width = self.builder, n_blocks.type
        sums = [cgutils.alloca_once(builder, start.type) for _ in range(2)]
        builder.store(start, sums[0])
        builder.store(self.integer(0), sums[1])

        def add_block(index: ir.Value, total: ir.Value) -> None:
            if columns is None:
                offset = builder.shl(index, ir.Constant(width, 2))
            else:
                column = builder.add(columns, builder.shl(index, ir.Constant(width, 1)))
                offset = builder.zext(self.load(column, _I16, 1, align=2), width)
            four = self.load(builder.add(activations, offset), _I32, 1)
            at = builder.add(blocks, builder.shl(index, ir.Constant(width, 6)))
            block = self.load(at, _I8, 4 * LANES, align=64)
            builder.store(self._byte_product(self, builder.load(total), four, block), total)

        # Two sums, as each product waits for the one before it.
        with cgutils.for_range(builder, builder.lshr(n_blocks, ir.Constant(width, 1))) as loop:
            first = builder.shl(loop.index, ir.Constant(width, 1))
            add_block(first, sums[0])
            add_block(builder.add(first, ir.Constant(width, 1)), sums[1])
        with builder.if_then(builder.trunc(n_blocks, ir.IntType(1))):
            add_block(builder.sub(n_blocks, ir.Constant(width, 1)), sums[0])
        return builder.add(*(builder.load(total) for total in sums))

    def _call(self, name: str, kind: ir.Type, *arguments: ir.Value, result: ir.Type | None = None) -> ir.Value:
        """An overloaded LLVM intrinsic of 16 floats."""
        function_type = ir.FunctionType(result or kind, [argument.type for argument in arguments])
        return self.call(f"{name}.v16f32", function_type, *arguments)

    def call(self, name: str, function_type: ir.FunctionType, *arguments: ir.Value) -> ir.Value:
        """An LLVM intrinsic by its full name."""
        function = cgutils.get_or_insert_function(self.builder.module, function_type, name)
        return self.builder.call(function, arguments)


# The product of 16 x 4 bytes: total (16,) int32 + sum over four of block (64,) int8 times the activations, whose four
# bytes are given as one int32. With AVX-512 and AVX VNNI they are unsigned, else signed: see `activation_offset`.


def _halves(vectors: Vectors, value: ir.Value, n_parts: int) -> list[ir.Value]:
    """A vector cut into equal parts."""
    lanes = value.type.count // n_parts
    undefined = ir.Constant(value.type, ir.Undefined)
    return [
        vectors.builder.shuffle_vector(
            value, undefined, ir.Constant(_vector(_I32, lanes), list(range(part * lanes, (part + 1) * lanes)))
        )
        for part in range(n_parts)
    ]


def _joined(vectors: Vectors, parts: Sequence[ir.Value]) -> ir.Value:
    """Equal parts laid end to end."""
    while len(parts) > 1:
        lanes = parts[0].type.count
        order = ir.Constant(_vector(_I32, 2 * lanes), list(range(2 * lanes)))
        parts = [
            vectors.builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def _avx512_vnni(vectors: Vectors, total: ir.Value, four: ir.Value, block: ir.Value) -> ir.Value:
    words = vectors.builder.bitcast(block, _vector(_I32))
    function_type = ir.FunctionType(words.type, [words.type] * 3)
    return vectors.call("llvm.x86.avx512.vpdpbusd.512", function_type, total, vectors.spread(four), words)


def _avx_vnni(vectors: Vectors, total: ir.Value, four: ir.Value, block: ir.Value) -> ir.Value:
    words = vectors.builder.bitcast(block, _vector(_I32))
    half = _vector(_I32, 8)
    function_type = ir.FunctionType(half, [half] * 3)
    spread = vectors.spread(four, 8)
    parts = [
        vectors.call("llvm.x86.avx512.vpdpbusd.256", function_type, part, spread, weights)
        for part, weights in zip(_halves(vectors, total, 2), _halves(vectors, words, 2), strict=True)
    ]
    return _joined(vectors, parts)


def _avx2(vectors: Vectors, total: ir.Value, four: ir.Value, block: ir.Value) -> ir.Value:
    # vpmaddubsw wants one unsigned factor and adds pairs in 16 bits: |x| times w with x's sign. All are at most
    # 127 in size, so two products are at most 32,258 and fit.
    builder = vectors.builder
    bytes_, shorts, half = _vector(_I8, 32), _vector(_I16, 16), _vector(_I32, 8)
    signed = builder.bitcast(vectors.spread(four, 8), bytes_)
    flag = ir.Constant(ir.IntType(1), 0)
    size = vectors.call(
        "llvm.abs.v32i8", ir.FunctionType(bytes_, [bytes_, flag.type]), signed, flag
    )
    ones = ir.Constant(shorts, [1] * 16)
    parts = []
    for part, weights in zip(_halves(vectors, total, 2), _halves(vectors, block, 2), strict=True):
        turned = vectors.call(
            "llvm.x86.avx2.psign.b", ir.FunctionType(bytes_, [bytes_, bytes_]), weights, signed
        )
        pairs = vectors.call(
            "llvm.x86.avx2.pmadd.ub.sw", ir.FunctionType(shorts, [bytes_, bytes_]), size, turned
        )
        fours = vectors.call("llvm.x86.avx2.pmadd.wd", ir.FunctionType(half, [shorts, shorts]), pairs, ones)
        parts.append(builder.add(part, fours))
    return _joined(vectors, parts)


def _neon_dot(vectors: Vectors, total: ir.Value, four: ir.Value, block: ir.Value) -> ir.Value:
    quarter, bytes_ = _vector(_I32, 4), _vector(_I8, 16)
    function_type = ir.FunctionType(quarter, [quarter, bytes_, bytes_])
    spread = vectors.builder.bitcast(vectors.spread(four, 4), bytes_)
    parts = [
        vectors.call("llvm.aarch64.neon.sdot.v4i32.v16i8", function_type, part, weights, spread)
        for part, weights in zip(_halves(vectors, total, 4), _halves(vectors, block, 4), strict=True)
    ]
    return _joined(vectors, parts)


def _portable(vectors: Vectors, total: ir.Value, four: ir.Value, block: ir.Value) -> ir.Value:
    builder = vectors.builder
    undefined = ir.Constant(block.type, ir.Undefined)
    for column in range(4):
        every_fourth = ir.Constant(_vector(_I32), list(range(column, 4 * LANES, 4)))
        weights = builder.sext(builder.shuffle_vector(block, undefined, every_fourth), _vector(_I32))
        byte = builder.trunc(builder.lshr(four, ir.Constant(_I32, 8 * column)), _I8)
        total = builder.add(total, builder.mul(weights, vectors.spread(builder.sext(byte, _I32))))
    return total


ByteProduct = Callable[[Vectors, ir.Value, ir.Value, ir.Value], Any]

BYTE_PRODUCTS: dict[str, ByteProduct] = {
    "avx512-vnni": _avx512_vnni,
    "avx-vnni": _avx_vnni,
    "avx2": _avx2,
    "neon-dotprod": _neon_dot,
    "portable": _portable,
}
"""Instruction set to what it needs for 16 x 4 bytes; from the fastest down, for each kind of processor."""

_NEEDED = {
    "avx512-vnni": ("+avx512vnni", "+avx512bw", "+avx512vl"),
    "avx-vnni": ("+avxvnni", "+avx2"),
    "avx2": ("+avx2",),
    "neon-dotprod": ("+dotprod", "+neon"),
    "portable": (),
}


def byte_product_for(features: str) -> str:
    """The fastest of `BYTE_PRODUCTS` for LLVM's features, such as `"+avx2,+fma,-avx512f"`."""
    present = set(features.split(","))
    return next(name for name, needed in _NEEDED.items() if present.issuperset(needed))


def activation_offset(byte_product: str) -> int:
    """What is added to signed activations before they are stored as bytes: vpdpbusd wants them unsigned."""
    return 128 if byte_product.endswith("vnni") else 0


def processor_features() -> str:
    """The features of the processor that numba compiles for; its NUMBA_CPU_FEATURES can leave some out."""
    from numba.core.registry import cpu_target

    return str(cpu_target.target_context.codegen().magic_tuple()[2])
