"""Products block by block in bf16 against float64, on the processors that have them, and the choice of them."""

import numpy as np
import pytest
import torch

from gru_audio.bfloat16 import as_array
from gru_audio.block_products import (
    blocks_of,
    can_multiply_blocks,
    multiply,
    quads_of,
    sum_outer_products,
    transposed_blocks_of,
)

needs_blocks = pytest.mark.skipif(
    not can_multiply_blocks(torch.bfloat16, 16), reason="for processors with AVX-512 BF16 and without AMX"
)


def kept_weights(n_outputs: int, n_inputs: int) -> torch.Tensor:
    """About a third of the blocks, none of the first band, and a diagonal in blocks that are not whole."""
    blocks = torch.rand(n_outputs // 16, n_inputs // 4) < 0.3
    blocks[0] = False
    kept = blocks.repeat_interleave(16, 0).repeat_interleave(4, 1)
    kept[16:].fill_diagonal_(True)
    return kept


@needs_blocks
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize(("n_rows", "n_inputs", "n_outputs"), [(1, 16, 48), (8, 64, 32), (19, 368, 1104)])
def test_products_equal_those_in_float64(n_rows: int, n_inputs: int, n_outputs: int, pruned: bool) -> None:
    torch.manual_seed(n_rows)
    rows, back = (torch.randn(n_rows, n).bfloat16() for n in (n_inputs, n_outputs))
    kept = kept_weights(n_outputs, n_inputs) if pruned else None
    matrix = torch.randn(n_outputs, n_inputs).bfloat16() * (1 if kept is None else kept)
    expected = rows.double() @ matrix.double().t(), back.double() @ matrix.double()
    for inputs, blocks, reference in zip(
        (rows, back), (blocks_of(matrix, kept), transposed_blocks_of(matrix, kept)), expected, strict=True
    ):
        out = np.full(reference.shape, np.nan, np.float32)
        multiply(quads_of(inputs), blocks, out)
        np.testing.assert_allclose(out, reference, atol=1e-6 * inputs.shape[1], rtol=1e-5)
        alone = np.empty_like(out[:1])
        multiply(quads_of(inputs[-1:]), blocks, alone)
        np.testing.assert_array_equal(alone[0], out[-1], "a row's sums do not depend on the others")


@needs_blocks
def test_pruned_blocks_are_left_out() -> None:
    torch.manual_seed(0)
    kept = kept_weights(96, 32)
    matrix = torch.randn(96, 32).bfloat16()
    whole = kept.view(6, 16, 8, 4).any(3).any(1)
    for blocks in (blocks_of(matrix, kept), transposed_blocks_of(matrix, kept)):
        assert len(blocks.weights) == len(blocks.places) == blocks.starts[-1] == whole.sum()
    assert len(blocks_of(matrix, None).weights) == 6 * 8


@needs_blocks
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("n_rows", [1, 256, 515])  # parts of a quad, whole chunks of 256, and both
def test_sums_of_outer_products_equal_those_in_float64(n_rows: int, pruned: bool) -> None:
    torch.manual_seed(n_rows)
    outputs, inputs = (torch.randn(n_rows, n).bfloat16() for n in (144, 48))
    kept = kept_weights(144, 48) if pruned else torch.ones(144, 48, dtype=torch.bool)
    total = np.zeros((144, 48), np.float32)
    blocks = blocks_of(torch.zeros(144, 48).bfloat16(), kept)
    sum_outer_products(as_array(outputs), as_array(inputs), blocks, total)
    whole = kept.view(9, 16, 12, 4).any(3, keepdim=True).any(1, keepdim=True).expand(9, 16, 12, 4)
    expected = (outputs.double().t() @ inputs.double()) * whole.reshape(144, 48)
    np.testing.assert_allclose(total, expected, atol=1e-6 * n_rows**0.5, rtol=1e-4)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("+avx512f,+avx512bf16,-amx-bf16", True),
        ("+avx512f,+avx512bf16,+amx-bf16", False),
        ("+avx512f,-avx512bf16", False),
        ("+neon,+bf16", False),
    ],
)
def test_blocks_are_multiplied_where_that_is_fastest(
    monkeypatch: pytest.MonkeyPatch, features: str, expected: bool
) -> None:
    monkeypatch.setattr("gru_audio.block_products.processor_features", lambda: features)
    assert can_multiply_blocks(torch.bfloat16, 64) == expected
    assert not can_multiply_blocks(torch.bfloat16, 72), "no whole bands of outputs"
    assert not can_multiply_blocks(torch.float32, 64)
