"""Vector arithmetic: each operation against numpy, as this processor and lesser ones compute it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from emitted import HOST, EmittedFunction, host_features
from llvmlite import ir
from numba.core import cgutils
from numpy.typing import NDArray

from gru_audio.lanes import I16, join, pick, split, spread
from gru_audio.synthesis.byte_products import activation_offset, byte_product_for
from gru_audio.synthesis.packing import aligned
from gru_audio.synthesis.vectors import TANH_ERROR, TANH_LIMIT, Vectors

Floats = NDArray[np.float32]
Operation = Callable[[Vectors, ir.Value], ir.Value]

LESSER = ["+avx2,+fma", ""] if HOST.startswith("x86_64") else [""]
PROCESSORS = [
    features for features in LESSER if set(features.split(",")) <= {"", *host_features().split(",")}
]
PROCESSORS.append(host_features())
each_processor = pytest.mark.parametrize("features", PROCESSORS, ids=byte_product_for)


def apply(operation: Operation, values: Floats, features: str, out_type: type = np.float32) -> NDArray[Any]:
    """An operation on (n,) floats, 16 by 16."""

    def emit(builder: ir.IRBuilder, arguments: Sequence[ir.Value]) -> None:
        source, target, n_vectors = arguments
        vectors = Vectors(builder, features)
        width = source.type
        with cgutils.for_range(builder, n_vectors) as loop:
            first = builder.mul(loop.index, ir.Constant(width, 64))
            value = operation(vectors, vectors.load(builder.add(source, first)))
            at = builder.mul(loop.index, ir.Constant(width, 16 * np.dtype(out_type).itemsize))
            vectors.store(value, builder.add(target, at), align=1)

    padded = np.pad(values.astype(np.float32), (0, -values.size % 16))
    out: NDArray[Any] = np.empty(padded.size, out_type)
    EmittedFunction(emit, 3, features)(padded.ctypes.data, out.ctypes.data, padded.size // 16)
    return out[: values.size]


def both_signs(least: float, largest: float, n: int) -> Floats:
    size = np.geomspace(least, largest, n)
    return np.concatenate([-size, [-0.0, 0.0], size]).astype(np.float32)


# Functions


@each_processor
def test_tanh(features: str) -> None:
    x = np.concatenate([np.linspace(-20, 20, 400_001), both_signs(1e-30, TANH_LIMIT, 100_000)])
    x = x.astype(np.float32)
    found = apply(Vectors.tanh, x, features)
    error = np.abs(found - np.tanh(x.astype(np.float64)))
    assert error.max() <= TANH_ERROR
    small = np.abs(x) < 0.1
    np.testing.assert_allclose(found[small], np.tanh(x[small]), rtol=1e-3, atol=1e-37)
    np.testing.assert_array_equal(np.sign(found), np.sign(x))


@each_processor
def test_sigmoid(features: str) -> None:
    x = np.linspace(-80, 80, 400_001, dtype=np.float32)
    found = apply(Vectors.sigmoid, x, features)
    relative = np.abs(found / (1 / (1 + np.exp(-x.astype(np.float64)))) - 1)
    assert relative.max() < 4e-6
    assert relative[np.abs(x) < 10].max() < 1e-6
    assert found.max() <= 1.0
    beyond = apply(Vectors.sigmoid, np.array([-np.inf, -1e30, -81, 81, 1e30, np.inf], np.float32), features)
    np.testing.assert_array_equal(beyond, [found[0]] * 3 + [1.0] * 3)


@each_processor
def test_to_bytes_rounds_as_numpy_does(features: str) -> None:
    """Bit for bit: a block's first state is stored by numpy, each next one by this."""
    offset = activation_offset(byte_product_for(features))
    halves = (np.arange(-127, 127) + 0.5).astype(np.float32) / np.float32(127)  # on the edge of two bytes
    around = [halves]
    for _ in range(8):
        around += [np.nextafter(around[-1], np.float32(2)), np.nextafter(around[0], np.float32(-2))]
    x = np.concatenate([*around, np.random.default_rng(0).uniform(-1, 1, 200_000), [-1, -0.0, 0, 1]])
    x = x.astype(np.float32)
    expected = (np.rint(x * np.float32(127)).astype(np.int64) + offset).astype(np.uint8)
    found = apply(lambda v, value: v.to_bytes(value, v.number(127.0), offset), x, features, np.uint8)
    np.testing.assert_array_equal(found, expected)


@each_processor
def test_cut_tails(features: str) -> None:
    share = np.float32(0.05)
    p = np.array([0, 0.01, 0.0499, share, 0.06, 0.5, 0.94, 1 - share, 0.951, 0.99, 1], np.float32)
    expected = np.where(p < share, 0, np.where(p > 1 - share, 1, p))

    def cut(by: np.float32) -> Operation:
        return lambda vectors, x: vectors.cut_tails(x, vectors.number(float(by)))

    np.testing.assert_array_equal(apply(cut(share), p, features), expected)
    np.testing.assert_array_equal(apply(cut(np.float32(0)), p, features), p)


@each_processor
def test_clip_and_maximum(features: str) -> None:
    x = np.array([-np.inf, -3, -2, -0.5, 0, 1.99, 2, 1e30, np.inf, np.nan], np.float32)
    clipped = apply(lambda vectors, value: vectors.clip(value, 2.0), x, features)
    np.testing.assert_array_equal(clipped, [-2, -2, -2, -0.5, 0, np.float32(1.99), 2, 2, 2, -2])
    positive = apply(lambda vectors, value: vectors.maximum(value, vectors.number(0.0)), x, features)
    np.testing.assert_array_equal(positive, np.where(x > 0, x, 0))


@each_processor
def test_largest(features: str) -> None:
    x = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    found = apply(lambda vectors, value: spread(vectors.builder, vectors.largest(value)), x, features)
    np.testing.assert_array_equal(found, x.reshape(4, 16).max(1).repeat(16))


@each_processor
def test_lanes(features: str) -> None:
    """Cut apart, put together, and picked."""
    x = np.arange(32, dtype=np.float32)
    same = apply(lambda v, value: join(v.builder, split(v.builder, value, 4)), x, features)
    np.testing.assert_array_equal(same, x)
    turned = apply(lambda v, value: pick(v.builder, value, range(15, -1, -1)), x, features)
    np.testing.assert_array_equal(turned, x.reshape(2, 16)[:, ::-1].ravel())


@each_processor
def test_widen_and_to_float(features: str) -> None:
    shorts = np.array([-32768, -1, 0, 1, 32767] + [5] * 11, np.int16)
    out = np.empty(16, np.float32)

    def emit(builder: ir.IRBuilder, arguments: Sequence[ir.Value]) -> None:
        vectors = Vectors(builder, features)
        wide = vectors.widen(vectors.load(arguments[0], I16, align=2), 5)
        vectors.store(vectors.to_float(wide), arguments[1])

    EmittedFunction(emit, 2, features)(shorts.ctypes.data, out.ctypes.data)
    np.testing.assert_array_equal(out, 32.0 * shorts)


# Products of blocks


@each_processor
@pytest.mark.parametrize("with_columns", [False, True])
@pytest.mark.parametrize("n_blocks", [0, 1, 2, 3, 32, 65])
def test_block_products(n_blocks: int, with_columns: bool, features: str) -> None:
    random = np.random.default_rng(n_blocks)
    blocks = random.integers(-127, 128, (n_blocks, 16, 4))
    activations = random.integers(-127, 128, 4 * 65)
    columns = random.permutation(65)[:n_blocks] * 4 if with_columns else np.arange(n_blocks) * 4
    start = random.integers(-(1 << 30), 1 << 30, 16)

    def emit(builder: ir.IRBuilder, arguments: Sequence[ir.Value]) -> None:
        start, blocks, activations, columns, out = arguments
        vectors = Vectors(builder, features)
        at = columns if with_columns else None
        total = vectors.block_products(vectors.load_integers(start), blocks, activations, n_blocks, at)
        vectors.store(total, out)

    offset = activation_offset(byte_product_for(features))
    out = np.empty(16, np.int32)
    arrays = (
        start.astype(np.int32),
        aligned(blocks.astype(np.int8)),
        (activations + offset).astype(np.uint8),
        np.pad(columns, (0, 3)).astype(np.uint16),
    )
    at = [array.ctypes.data for array in arrays]
    EmittedFunction(emit, 5, features)(*at, out.ctypes.data)
    expected = start.copy()
    for block, column in zip(blocks, columns, strict=True):
        expected += block @ (activations[column : column + 4] + offset)
    np.testing.assert_array_equal(out, expected)
