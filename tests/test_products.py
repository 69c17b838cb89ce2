"""Products that go row by row: against numpy, at every remainder of rows and outputs; the same bits for any rows."""

from typing import Any

import numpy as np
import pytest
from numba.core.errors import TypingError
from numpy.typing import NDArray

from gru_audio.products import blend, multiply, padded, tiled

Floats = NDArray[Any]


def product(inputs: Floats, matrix: Floats, bias: Floats | None = None) -> Floats:
    """(n_rows, n_outputs) by `multiply`."""
    n_rows, n_inputs = inputs.shape
    width = padded(len(matrix), matrix.itemsize)
    out = np.full(n_rows * width, np.nan, matrix.dtype)
    multiply(inputs.ravel(), n_inputs, 1, n_rows, tiled(matrix, bias).ravel(), n_inputs, out, width)
    padding = out.reshape(n_rows, width)[:, len(matrix) :]
    np.testing.assert_array_equal(padding, np.zeros_like(padding))
    return out.reshape(n_rows, width)[:, : len(matrix)]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("n_rows", [0, 1, 3, 4, 5, 9])
@pytest.mark.parametrize(("n_inputs", "n_outputs"), [(1, 1), (7, 24), (5, 33), (40, 65), (0, 3), (3, 0)])
def test_a_product_is_numpys(kind: Any, n_rows: int, n_inputs: int, n_outputs: int) -> None:
    rng = np.random.default_rng(0)
    inputs, matrix = rng.normal(size=(n_rows, n_inputs)), rng.normal(size=(n_outputs, n_inputs))
    bias = rng.normal(size=n_outputs)
    found = product(inputs.astype(kind), matrix.astype(kind), bias.astype(kind))
    np.testing.assert_allclose(found, inputs @ matrix.T + bias, atol=1e-5 if kind is np.float32 else 1e-13)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_rows_bits_do_not_depend_on_its_neighbours(kind: Any) -> None:
    rng = np.random.default_rng(1)
    inputs, matrix = rng.normal(size=(11, 63)).astype(kind), rng.normal(size=(70, 63)).astype(kind)
    together = product(inputs, matrix)
    for n_rows in (1, 2, 3, 5):
        apart = [product(inputs[first : first + n_rows], matrix) for first in range(0, 11, n_rows)]
        np.testing.assert_array_equal(np.concatenate(apart), together)


def test_rows_may_overlap_and_lie_in_columns() -> None:
    rng = np.random.default_rng(2)
    frames, matrix = rng.normal(size=(6, 4)), rng.normal(size=(24, 12))
    out, tiles = np.empty(4 * 24), tiled(matrix).ravel()
    multiply(frames.ravel(), 4, 1, 4, tiles, 12, out, 24)
    windows = np.stack([frames[i : i + 3].ravel() for i in range(4)])
    np.testing.assert_allclose(out.reshape(4, 24), windows @ matrix.T, atol=1e-13)
    columns = np.ascontiguousarray(windows.T).ravel()
    turned = np.empty(4 * 24)
    multiply(columns, 1, 4, 4, tiles, 12, turned, 24)
    np.testing.assert_array_equal(turned, out)


def test_numbers_of_two_kinds_are_refused() -> None:
    with pytest.raises(TypingError):
        multiply(np.zeros(4, np.float32), 4, 1, 1, tiled(np.zeros((24, 4))).ravel(), 4, np.zeros(24), 24)


def test_a_blend_is_of_two_neighbours_and_at_least_the_floor() -> None:
    rng = np.random.default_rng(3)
    band, lower, upper = np.array([0, 2, 2, 4]), rng.normal(size=4), rng.normal(size=4)
    bands, out = rng.normal(size=(6, 8)), np.empty((4, 8))
    blend(band, lower, upper, -0.1, bands.ravel(), out.ravel())
    expected = lower[:, None] * bands[band] + upper[:, None] * bands[band + 1]
    assert (expected < -0.1).any()
    np.testing.assert_allclose(out, np.maximum(expected, -0.1), atol=1e-15)
