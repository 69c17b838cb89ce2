"""Products block by block against float64, of each kind with each instruction set, with AMX where there is one."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support.threads import torch_threads
from support.ways import using_way, with_all_sets
from torch import Tensor

from gru_audio.network.cpu.block_products import (
    Kind,
    Places,
    blocks_of,
    multiply,
    sum_outer_products,
    transposed_blocks_of,
)

SHAPES = [(1, 16, 48), (8, 64, 32), (19, 368, 1104), (70, 96, 288)]  # rows, inputs, outputs


@pytest.fixture(params=with_all_sets("floats", "pairs"))
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """Each kind with each instruction set."""
    with using_way(*request.param):
        yield request.param[1]


def numbers(kind: Kind, *shape: int) -> Tensor:
    """Random ones, in the kind's type."""
    return torch.randn(shape).to(torch.float32 if kind == "floats" else torch.bfloat16)


def kept_weights(n_outputs: int, n_inputs: int) -> Tensor:
    """About a third of the blocks, none of the first band, and a diagonal in blocks that are not whole."""
    blocks = torch.rand(n_outputs // 16, n_inputs // 4) < 0.3
    blocks[0] = False
    kept = blocks.repeat_interleave(16, 0).repeat_interleave(4, 1)
    kept[16:].fill_diagonal_(True)
    return kept


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize(("n_rows", "n_inputs", "n_outputs"), SHAPES)
def test_products_equal_those_in_float64(
    n_rows: int, n_inputs: int, n_outputs: int, pruned: bool, kind: Kind
) -> None:
    torch.manual_seed(n_rows)
    rows, back = (numbers(kind, n_rows, n) for n in (n_inputs, n_outputs))
    kept = kept_weights(n_outputs, n_inputs) if pruned else None
    matrix = numbers(kind, n_outputs, n_inputs) * (1 if kept is None else kept)
    forth, through = blocks_of(matrix, kept, kind), transposed_blocks_of(matrix, kept, kind)
    for inputs, blocks, expected in (
        (rows, forth, rows.double() @ matrix.double().t()),
        (back, through, back.double() @ matrix.double()),
    ):
        found = multiply(inputs, blocks)
        np.testing.assert_allclose(found, expected, atol=1e-6 * inputs.shape[1], rtol=1e-5)
        alone = multiply(inputs[-1:], blocks)
        assert torch.equal(alone[0], found[-1]), "a row's sums do not depend on the others"


def test_pruned_blocks_are_left_out() -> None:
    torch.manual_seed(0)
    kept = kept_weights(96, 32)
    matrix = torch.randn(96, 32).bfloat16()
    whole = kept.view(6, 16, 8, 4).any(3).any(1)
    for blocks in (blocks_of(matrix, kept, "pairs"), transposed_blocks_of(matrix, kept, "pairs")):
        assert (
            len(blocks.held["weights"])
            == len(blocks.held["places"])
            == blocks.held["starts"][-1]
            == whole.sum()
        )
    assert len(blocks_of(matrix, None, "pairs").held["weights"]) == 6 * 8
    one = torch.zeros(96, 64, dtype=torch.bool)
    one[40, 50] = True
    assert blocks_of(matrix.repeat(1, 2), one, "tiles").held["places"].tolist() == [48]
    assert blocks_of(matrix, None, "tiles").block_inputs == 32, "whole tiles where all are kept"


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("n_rows", [1, 256, 515])  # parts of a quad, whole chunks of 256, and both
def test_sums_of_outer_products_equal_those_in_float64(n_rows: int, pruned: bool, kind: Kind) -> None:
    torch.manual_seed(n_rows)
    outputs, inputs = (numbers(kind, n_rows, n) for n in (144, 48))
    kept = kept_weights(144, 48) if pruned else None
    places = Places.of((144, 48), kept, kind)
    total = torch.zeros(144, 48)
    with torch_threads(2):
        sum_outer_products(outputs[:, :96], inputs, places, kind, total)  # rows of a wider array
        sum_outer_products(outputs[:, 96:].contiguous(), inputs, places, kind, total, first=96)
    expected = outputs.double().t() @ inputs.double()
    if kept is not None:
        whole = kept.view(9, 16, 12, 4).any(3, keepdim=True).any(1, keepdim=True)
        expected *= whole.expand(9, 16, 12, 4).reshape(144, 48)
    np.testing.assert_allclose(total, expected, atol=1e-6 * n_rows**0.5, rtol=1e-4)
