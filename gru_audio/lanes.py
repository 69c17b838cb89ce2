"""Vectors in LLVM's own terms: their types, parts and intrinsics, emitted where a builder stands."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target

LANES = 16
"""Of a vector, where nothing else is said: one AVX-512 register of 32-bit numbers, two of AVX2, four of NEON."""

I8, I16, I32, I64, F32 = *map(ir.IntType, (8, 16, 32, 64)), ir.FloatType()


def processor_features() -> str:
    """LLVM's features of the processor that numba compiles for, such as `"+avx2,+fma,-avx512f"`.

    numba's NUMBA_CPU_FEATURES can leave some out.
    """
    return str(cpu_target.target_context.codegen().magic_tuple()[2])


def data_of_arrays(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> list[ir.Value]:
    """An intrinsic's arguments, with pointers to their first element for its arrays."""
    return [
        context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
        for kind, value in zip(signature.args, arguments, strict=True)
    ]


def itemsize(number: ir.Type) -> int:
    """Bytes of a number of a type."""
    return int(number.get_abi_size(cpu_target.target_context.target_data))


def load(builder: ir.IRBuilder, data: ir.Value, place: ir.Value, vector: ir.VectorType) -> ir.Value:
    """A vector from any place of an array of its numbers."""
    value = builder.load(_vector_at(builder, data, place, vector))
    value.align = itemsize(vector.element)
    return value


def store(builder: ir.IRBuilder, value: ir.Value, data: ir.Value, place: ir.Value) -> None:
    """A vector to any place of an array of its numbers."""
    builder.store(value, _vector_at(builder, data, place, value.type)).align = itemsize(value.type.element)


def vector_type(kind: ir.Type, lanes: int = LANES) -> ir.VectorType:
    """The type of a vector."""
    return ir.VectorType(kind, lanes)


def spread(builder: ir.IRBuilder, scalar: ir.Value, lanes: int = LANES) -> ir.Value:
    """A scalar in every lane."""
    kind = vector_type(scalar.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, _order([0] * lanes))


def pick(builder: ir.IRBuilder, x: ir.Value, lanes: Sequence[int]) -> ir.Value:
    """Some lanes of a vector, in the order given."""
    return builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), _order(lanes))


def split(builder: ir.IRBuilder, x: ir.Value, lanes: int = LANES) -> list[ir.Value]:
    """A vector cut into parts of so many lanes."""
    return [
        pick(builder, x, range(first, first + lanes)) if lanes < x.type.count else x
        for first in range(0, x.type.count, lanes)
    ]


def join(builder: ir.IRBuilder, parts: Sequence[ir.Value]) -> ir.Value:
    """Vectors of one size laid end to end; one, or an even number of them."""
    while len(parts) > 1:
        order = _order(range(2 * parts[0].type.count))
        parts = [builder.shuffle_vector(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def multiply_add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """A b + c of vectors, in one rounding where the processor has such an instruction."""
    bits = 32 if a.type.element == F32 else 64
    return call(builder, f"llvm.fmuladd.v{a.type.count}f{bits}", a.type, a, b, c)


def call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    """Call an LLVM intrinsic by its full name."""
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def _vector_at(builder: ir.IRBuilder, data: ir.Value, place: ir.Value, vector: ir.VectorType) -> ir.Value:
    return builder.bitcast(builder.gep(data, [place]), vector.as_pointer())


def _order(lanes: Sequence[int]) -> ir.Constant:
    return ir.Constant(vector_type(I32, len(lanes)), list(lanes))
