"""Numbers as training's loops meet them: bf16, which numpy lacks, as uint16; float32; float64 for exact checks.

A loop written with `widen`, `narrow` and `exponential` is compiled for each of the three.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy.typing as npt
import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic as untyped_intrinsic
from torch import Tensor

from gru_audio.lanes import F32, I16, I32, call

# Called without its first argument, numba's context; its type therefore does not say how many there are.
intrinsic: Callable[[Callable[..., Any]], Callable[..., Any]] = untyped_intrinsic

_LARGEST = 80.0  # beyond it sigmoid and tanh are flat in float32
_EXP2 = tuple(math.log(2) ** n / math.factorial(n) for n in range(7))  # Taylor's series of 2**r


def as_array(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor's memory as an array; bf16 as uint16."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def as_rows(tensor: Tensor, width: int | None = None) -> npt.NDArray[Any]:
    """A tensor's memory, or a copy where it is not in one piece, as rows (N, width), by default of its last size."""
    return as_array(tensor.contiguous()).reshape(-1, width or tensor.shape[-1])


@intrinsic
def widen(_context: Any, x: Any) -> Any:
    """A bf16 number as float32; others as they are."""
    if x != types.uint16:
        return x(x), lambda _context, _builder, _signature, arguments: arguments[0]

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        bits = builder.shl(builder.zext(arguments[0], I32), ir.Constant(I32, 16))
        return builder.bitcast(bits, F32)

    return types.float32(x), emit


@intrinsic
def narrow(context: Any, x: Any, array: Any) -> Any:
    """A number as an array holds it: to bf16 rounded to the nearest, ties to even. It must be finite."""
    if array.dtype != types.uint16:
        return array.dtype(x, array), lambda context, builder, signature, arguments: context.cast(
            builder, arguments[0], signature.args[0], signature.return_type
        )

    def emit(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
        bits, sixteen = builder.bitcast(arguments[0], I32), ir.Constant(I32, 16)
        is_odd = builder.and_(builder.lshr(bits, sixteen), ir.Constant(I32, 1))
        rounded = builder.add(builder.add(bits, ir.Constant(I32, 0x7FFF)), is_odd)
        return builder.trunc(builder.lshr(rounded, sixteen), I16)

    return types.uint16(types.float32, array), emit


@intrinsic
def exponential(_context: Any, x: Any) -> Any:
    """e**x; of float32 by a polynomial, with a relative error under 3e-6, as the library's does not vectorise."""
    return x(x), _emit_library_exp if x == types.float64 else _emit_exp


def _emit_library_exp(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
    return call(builder, "llvm.exp.f64", arguments[0].type, arguments[0])


def _emit_exp(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> ir.Value:
    """2**(k + r), where k is an integer and |r| at most a half. numba lets fast-math reorder every sum in here."""
    low, high = (ir.Constant(F32, limit) for limit in (-_LARGEST, _LARGEST))
    x = builder.select(builder.fcmp_ordered("<", arguments[0], low), low, arguments[0])
    x = builder.select(builder.fcmp_ordered(">", x, high), high, x)
    y = builder.fmul(x, ir.Constant(F32, math.log2(math.e)))
    k = call(builder, "llvm.rint.f32", F32, y)
    r = builder.fsub(y, k)
    mantissa = ir.Constant(F32, _EXP2[-1])
    for coefficient in reversed(_EXP2[:-1]):
        mantissa = call(builder, "llvm.fmuladd.f32", F32, mantissa, r, ir.Constant(F32, coefficient))
    exponent = builder.shl(builder.add(builder.fptosi(k, I32), ir.Constant(I32, 127)), ir.Constant(I32, 23))
    return builder.fmul(mantissa, builder.bitcast(exponent, F32))
