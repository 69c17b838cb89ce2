"""The CPU's GRU scan, forward and back, against nn.GRU and torch's autograd, with each instruction set."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from support.naive import gru_step as naive_gru_step
from support.threads import torch_threads
from support.ways import using_way, with_all_sets
from torch import Tensor, nn

from gru_audio.native import library
from gru_audio.network.blocks import kept_weights
from gru_audio.network.cpu import block_products
from gru_audio.network.cpu.block_products import Way, best_way
from gru_audio.network.cpu.scan import can_scan, gru_scan, row_sum, scan
from gru_audio.network.cpu.scan_products import TorchProducts

SHAPES = [(1, 1, 1, 3, 4), (3, 8, 4, 5, 16), (8, 40, 2, 32, 48)]  # B, K, F, C, H
Run = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def sums(table: Tensor, rows: Tensor, conditioning: Tensor) -> Tensor:
    """(B, K, C), what a step reads, as plain torch has it."""
    return table[rows].sum(2) + conditioning.repeat_interleave(rows.shape[1] // conditioning.shape[1], 1)


def inputs_of(shape: tuple[int, int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    n_batch, n_steps, n_frames, n_inputs, _ = shape
    rows = torch.randint(0, 12, (n_batch, n_steps, 3))
    return torch.randn(12, n_inputs), rows, torch.randn(n_batch, n_frames, n_inputs)


def results(
    run: Run, cell: nn.GRU, table: Tensor, conditioning: Tensor, state: Tensor | None
) -> list[Tensor]:
    """Outputs (B, K, H), last state and every gradient of a weighted sum of both."""
    leaves = [part.detach().clone().requires_grad_() for part in (table, conditioning)]
    if state is not None:
        leaves.append(state.detach().clone().requires_grad_())
    cell.zero_grad()
    hidden, last = run(leaves[0], leaves[1], leaves[2] if state is not None else None)
    weights = torch.linspace(-1, 1, hidden.numel()).view_as(hidden)
    torch.autograd.backward((hidden * weights).sum() + last.pow(2).sum())
    gradients = [*(leaf.grad for leaf in leaves), *(parameter.grad for parameter in cell.parameters())]
    return [
        hidden.detach(),
        last.detach(),
        *(gradient.clone() for gradient in gradients if gradient is not None),
    ]


def both(
    shape: tuple[int, int, int, int, int], with_state: bool, in_bf16: bool = False, way: Way | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Results of the scan and of nn.GRU in float32."""
    cell = nn.GRU(shape[3], shape[4], batch_first=True)
    table, rows, conditioning = inputs_of(shape)
    state = torch.randn(1, shape[0], shape[4]) if with_state else None

    def ours(table: Tensor, conditioning: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
            hidden, last = scan(cell, table, rows, conditioning, state, way=way)
        assert hidden.dtype == (torch.bfloat16 if in_bf16 else torch.float32)
        return hidden.transpose(0, 1).float(), last.float()

    def theirs(table: Tensor, conditioning: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        hidden, last = cell(sums(table, rows, conditioning), state)
        return hidden, last

    return tuple(results(run, cell, table, conditioning, state) for run in (ours, theirs))  # type: ignore[return-value]


@pytest.fixture(params=with_all_sets("torch", "pairs"))
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """Each way to multiply in bf16 with each instruction set."""
    with using_way(*request.param):
        yield request.param[1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.usefixtures("instructions")
def test_scan_equals_nn_gru_forward_and_backward(
    shape: tuple[int, int, int, int, int], with_state: bool
) -> None:
    torch.manual_seed(0)
    ours, theirs = both(shape, with_state)
    assert len(ours) == 2 + 2 + with_state + 4
    for mine, reference in zip(ours, theirs, strict=True):
        atol = 4e-6 * max(1, reference.abs().max().item())
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("in_bf16", [False, True])
@pytest.mark.parametrize("n_threads", [2, 3, 8])  # more than there are streams, too
def test_threads_change_no_more_than_the_order_of_sums(n_threads: int, in_bf16: bool) -> None:
    torch.manual_seed(2)
    state, found = torch.get_rng_state(), []
    for threads in (1, n_threads):
        torch.set_rng_state(state)
        with torch_threads(threads):
            found.append(both((5, 24, 3, 32, 48), with_state=True, in_bf16=in_bf16)[0])
    for alone, shared in zip(*found, strict=True):
        torch.testing.assert_close(alone, shared, rtol=1e-5, atol=1e-5 * alone.abs().max().item())


@pytest.mark.parametrize("n_batch", [11, 37])  # fewer rows than are multiplied at once, and more
def test_scan_under_bf16_autocast_is_near_float32(way: Way, n_batch: int) -> None:
    torch.manual_seed(1)
    shape = (n_batch, 50, 5, 32, 48)
    for low, full in zip(*both(shape, with_state=True, in_bf16=True, way=way), strict=True):
        assert (low - full).norm() < 0.01 * full.norm()


def test_sizes_that_are_no_multiples_of_vectors_in_bf16() -> None:
    torch.manual_seed(1)
    for low, full in zip(*both((11, 50, 5, 30, 62), with_state=True, in_bf16=True), strict=True):
        assert (low - full).norm() < 0.01 * full.norm()


@pytest.mark.parametrize("density", [(0.25, 0.25, 0.5), (0.02, 0.02, 0.02)])
def test_what_is_pruned_changes_nothing_of_the_rest(way: Way, density: tuple[float, ...]) -> None:
    """With the zeros left out, the outputs and gradients are those of a scan that multiplies them."""
    torch.manual_seed(5)
    shape, size = (11, 50, 5, 32, 96), 96
    cell = nn.GRU(shape[3], size, batch_first=True)
    weight = cell.get_parameter("weight_hh_l0")
    kept = torch.from_numpy(kept_weights(weight.detach().numpy(), density))
    weight.data *= kept
    table, rows, conditioning = inputs_of(shape)

    def scanned(known: Tensor | None) -> list[Tensor]:
        def run(table: Tensor, conditioning: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
            with torch.autocast("cpu", torch.bfloat16):
                hidden, last = scan(cell, table, rows, conditioning, state, known, way)
            return hidden.float(), last.float()

        return results(run, cell, table, conditioning, None)

    found = scanned(None), scanned(kept)
    of_weight = next(i for i, part in enumerate(found[0]) if part.shape == weight.shape)
    for part in found:
        part[of_weight] = part[of_weight] * kept
    for dense, sparse in zip(*found, strict=True):
        assert (dense - sparse).norm() < 0.005 * dense.norm()


@pytest.mark.parametrize("numbers", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("of_tables", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("instructions")
def test_sums_of_rows_and_their_gradients(numbers: torch.dtype, of_tables: torch.dtype) -> None:
    torch.manual_seed(6)
    table, frames = torch.randn(5, 37).to(of_tables), torch.randn(3, 2, 37).to(of_tables)
    leaves = [part.requires_grad_() for part in (table, frames)]
    rows = torch.randint(0, 5, (3, 4, 6))
    ours = row_sum(*leaves, rows, numbers)
    theirs = sums(*(leaves[0].float(), rows, leaves[1].float())).transpose(0, 1)
    torch.testing.assert_close(ours, theirs.to(numbers))
    above = torch.randn_like(theirs).to(numbers)
    for mine, reference in zip(
        torch.autograd.grad(ours, leaves, above),
        torch.autograd.grad(theirs, leaves, above.float()),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference)


@pytest.mark.usefixtures("instructions")
def test_one_step_equals_the_equations() -> None:
    rng = np.random.default_rng(0)
    n_batch, size = 3, 24
    gates, state = rng.normal(0, 3, (n_batch, 3 * size)), rng.uniform(-1, 1, (n_batch, size))
    weights = {
        "weight_ih_l0": np.eye(3 * size),
        "weight_hh_l0": rng.normal(size=(3 * size, size)),
        "bias_ih_l0": rng.normal(size=3 * size),
        "bias_hh_l0": rng.normal(size=3 * size),
    }
    expected = [naive_gru_step(*of_stream, weights) for of_stream in zip(gates, state, strict=True)]
    as_floats = [torch.tensor(part, dtype=torch.float32) for part in (gates[None], state, *weights.values())]
    products = TorchProducts(as_floats[3], torch.float32)
    found = gru_scan(*as_floats[:2], *as_floats[3:], products, False)
    np.testing.assert_allclose(found[0], expected, atol=2e-6)


def test_without_gradients_the_outputs_are_the_same(way: Way) -> None:
    torch.manual_seed(7)
    cell, given = nn.GRU(16, 32, batch_first=True), inputs_of((4, 20, 2, 16, 32))
    with torch.autocast("cpu", torch.bfloat16):
        hidden, _ = scan(cell, *given, None, way=way)
        with torch.no_grad():
            again, _ = scan(cell, *given, None, way=way)
    assert hidden.requires_grad
    assert not again.requires_grad
    assert torch.equal(hidden, again)


def test_one_way_back_is_all() -> None:
    cell = nn.GRU(8, 16, batch_first=True)
    hidden, _ = scan(cell, *inputs_of((2, 20, 2, 8, 16)), None)
    loss = hidden.sum()
    torch.autograd.grad(loss, [cell.get_parameter("weight_hh_l0")], retain_graph=True)
    with pytest.raises(AssertionError, match="used up"):
        torch.autograd.grad(loss, [cell.get_parameter("weight_hh_l0")])


def test_what_is_not_a_number_stays_visible(way: Way) -> None:
    """As training watches for it."""
    cell = nn.GRU(16, 32, batch_first=True)
    cell.get_parameter("weight_hh_l0").data[5] = torch.nan
    with torch.autocast("cpu", torch.bfloat16):
        hidden, _ = scan(cell, *inputs_of((4, 20, 2, 16, 32)), None, way=way)
    assert hidden[-1, :, 5].isnan().all()


def test_scan_in_two_halves_equals_one() -> None:
    torch.manual_seed(3)
    cell = nn.GRU(8, 16, batch_first=True)
    table, rows, conditioning = inputs_of((2, 20, 2, 8, 16))
    whole, end = scan(cell, table, rows, conditioning, None)
    first, middle = scan(cell, table, rows[:, :10], conditioning[:, :1], None)
    second, last = scan(cell, table, rows[:, 10:], conditioning[:, 1:], middle)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(last, end)


def test_only_a_gru_in_float32_or_bf16_on_the_cpu_is_scanned() -> None:
    inputs = torch.zeros(1, 1, 4)
    gru = nn.GRU(4, 4, batch_first=True)
    assert can_scan(gru, inputs)
    assert not can_scan(nn.LSTM(4, 4, batch_first=True), inputs)
    assert not can_scan(gru, inputs.double())
    with torch.autocast("cpu", torch.float16):
        assert not can_scan(gru, inputs)
    assert not can_scan(gru, inputs.to("meta"))


def test_the_way_to_multiply_is_the_processors(instructions: str, monkeypatch: pytest.MonkeyPatch) -> None:
    has_pairs = library.instructions() == instructions == "avx512bf16"
    for has_amx in (False, True):
        monkeypatch.setattr(block_products, "can_use_amx", lambda has_amx=has_amx: has_amx)
        expected = ("tiles" if has_amx else "pairs") if has_pairs else "torch"
        assert best_way(torch.bfloat16, 64) == expected
        assert best_way(torch.bfloat16, 72) == "torch", "no whole blocks"
        assert best_way(torch.float32, 64) == "floats"
        assert best_way(torch.float32, 72) == "torch"
