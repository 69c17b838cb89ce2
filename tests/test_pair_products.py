"""Products in bf16 pairs against float64, on the processors that have them, and the choice of them."""

import numpy as np
import pytest
import torch

from gru_audio.pair_products import can_multiply_pairs, multiply_pairs, pairs_of, tiled_pairs

needs_pairs = pytest.mark.skipif(
    not can_multiply_pairs(torch.bfloat16, 2), reason="for processors with AVX-512 BF16 and without AMX"
)


@needs_pairs
@pytest.mark.parametrize(("n_rows", "n_inputs", "n_outputs"), [(1, 2, 1), (8, 64, 32), (19, 386, 100)])
def test_products_equal_those_in_float64(n_rows: int, n_inputs: int, n_outputs: int) -> None:
    torch.manual_seed(n_rows)
    rows, matrix = (torch.randn(n, n_inputs).bfloat16() for n in (n_rows, n_outputs))
    tiles = tiled_pairs(matrix)
    width = tiles.shape[0] * tiles.shape[2]
    out = np.full((n_rows, width), np.nan, np.float32)
    multiply_pairs(pairs_of(rows), tiles, out)
    np.testing.assert_allclose(
        out[:, :n_outputs], rows.double() @ matrix.double().t(), atol=1e-6 * n_inputs, rtol=1e-5
    )
    assert not out[:, n_outputs:].any()
    alone = np.empty((1, width), np.float32)
    multiply_pairs(pairs_of(rows[-1:]), tiles, alone)
    np.testing.assert_array_equal(alone[0], out[-1])


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("+avx512f,+avx512bf16,-amx-bf16", True),
        ("+avx512f,+avx512bf16,+amx-bf16", False),
        ("+avx512f,-avx512bf16", False),
        ("+neon,+bf16", False),
    ],
)
def test_pairs_are_multiplied_where_that_is_fastest(
    monkeypatch: pytest.MonkeyPatch, features: str, expected: bool
) -> None:
    monkeypatch.setattr("gru_audio.pair_products.processor_features", lambda: features)
    assert can_multiply_pairs(torch.bfloat16, 64) == expected
    assert not can_multiply_pairs(torch.bfloat16, 63)
    assert not can_multiply_pairs(torch.float32, 64)
