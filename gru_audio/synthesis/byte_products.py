"""The product of 16 x 4 bytes, for each instruction set that has one, and the choice among them.

A product is `total` (16,) int32 plus, for each of 16 rows, four int8 weights of `block` (64,) times the four
activations whose bytes `four` (one int32) holds. The sums are exact, and the same on every processor. AVX-512 and
AVX VNNI take the activations as unsigned bytes, the others as signed ones: see `activation_offset`.
"""

from collections.abc import Callable

from llvmlite import ir

from gru_audio.lanes import I8, I16, I32, LANES, call, join, pick, split, spread, vector_type


def _avx512_vnni(builder: ir.IRBuilder, total: ir.Value, four: ir.Value, block: ir.Value) -> ir.Value:
    words = builder.bitcast(block, total.type)
    return call(builder, "llvm.x86.avx512.vpdpbusd.512", total.type, total, spread(builder, four), words)


def _avx_vnni(builder: ir.IRBuilder, total: ir.Value, four: ir.Value, block: ir.Value) -> ir.Value:
    halves = split(builder, total, 8), split(builder, builder.bitcast(block, total.type), 8)
    activations = spread(builder, four, 8)
    name = "llvm.x86.avx512.vpdpbusd.256"  # LLVM writes AVX VNNI's instruction where there is no AVX-512
    return join(
        builder,
        [
            call(builder, name, part.type, part, activations, words)
            for part, words in zip(*halves, strict=True)
        ],
    )


def _avx2(builder: ir.IRBuilder, total: ir.Value, four: ir.Value, block: ir.Value) -> ir.Value:
    # vpmaddubsw wants one unsigned factor and adds pairs in 16 bits: |x| times w with x's sign. All are at most
    # 127 in size, so two products are at most 32,258 and fit.
    bytes_, shorts = vector_type(I8, 32), vector_type(I16)
    signed = builder.bitcast(spread(builder, four, 8), bytes_)
    size = call(builder, "llvm.abs.v32i8", bytes_, signed, ir.Constant(ir.IntType(1), 0))
    ones = ir.Constant(shorts, [1] * LANES)
    parts = []
    for part, weights in zip(split(builder, total, 8), split(builder, block, 32), strict=True):
        turned = call(builder, "llvm.x86.avx2.psign.b", bytes_, weights, signed)
        pairs = call(builder, "llvm.x86.avx2.pmadd.ub.sw", shorts, size, turned)
        parts.append(builder.add(part, call(builder, "llvm.x86.avx2.pmadd.wd", part.type, pairs, ones)))
    return join(builder, parts)


def _neon_dot(builder: ir.IRBuilder, total: ir.Value, four: ir.Value, block: ir.Value) -> ir.Value:
    activations = builder.bitcast(spread(builder, four, 4), vector_type(I8, 16))
    quarters = split(builder, total, 4), split(builder, block, 16)
    name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
    return join(
        builder,
        [
            call(builder, name, part.type, part, weights, activations)
            for part, weights in zip(*quarters, strict=True)
        ],
    )


def _portable(builder: ir.IRBuilder, total: ir.Value, four: ir.Value, block: ir.Value) -> ir.Value:
    for column in range(4):
        weights = builder.sext(pick(builder, block, range(column, 4 * LANES, 4)), total.type)
        byte = builder.trunc(builder.lshr(four, ir.Constant(I32, 8 * column)), I8)
        total = builder.add(total, builder.mul(weights, spread(builder, builder.sext(byte, I32))))
    return total


BYTE_PRODUCTS: dict[str, Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]] = {
    "avx512-vnni": _avx512_vnni,
    "avx-vnni": _avx_vnni,
    "avx2": _avx2,
    "neon-dotprod": _neon_dot,
    "portable": _portable,
}
"""Instruction set to how it multiplies; for each kind of processor the fastest comes first."""

_NEEDED = {
    "avx512-vnni": {"+avx512vnni", "+avx512bw", "+avx512vl"},
    "avx-vnni": {"+avxvnni", "+avx2"},
    "avx2": {"+avx2"},
    "neon-dotprod": {"+dotprod", "+neon"},
    "portable": set(),
}


def byte_product_for(features: str) -> str:
    """The fastest of `BYTE_PRODUCTS` for LLVM's features, such as `"+avx2,+fma,-avx512f"`."""
    present = set(features.split(","))
    return next(name for name, needed in _NEEDED.items() if needed <= present)


def activation_offset(byte_product: str) -> int:
    """What is added to signed activations before they are stored as bytes: vpdpbusd wants them unsigned."""
    return 128 if byte_product.endswith("vnni") else 0
