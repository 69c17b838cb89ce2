"""The CPU's GRU scan against nn.GRU, its gradients against finite differences, and its gates against equations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from naive import gru_step as naive_gru_step
from torch import Tensor, nn

from gru_audio.bfloat16 import as_array, exponential, narrow, widen
from gru_audio.gates import FAST, exp_parts, gru_step
from gru_audio.jit import compiled
from gru_audio.scan import GRUScan, RowSum, can_scan, scan
from gru_audio.sparsity import kept_weights

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
    shape: tuple[int, int, int, int, int], with_state: bool, in_bf16: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Results of the scan and of nn.GRU in float32."""
    cell = nn.GRU(shape[3], shape[4], batch_first=True)
    table, rows, conditioning = inputs_of(shape)
    state = torch.randn(1, shape[0], shape[4]) if with_state else None

    def ours(table: Tensor, conditioning: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
            hidden, last = scan(cell, table, rows, conditioning, state)
        assert hidden.dtype == (torch.bfloat16 if in_bf16 else torch.float32)
        return hidden.transpose(0, 1).float(), last.float()

    def theirs(table: Tensor, conditioning: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        hidden, last = cell(sums(table, rows, conditioning), state)
        return hidden, last

    return tuple(results(run, cell, table, conditioning, state) for run in (ours, theirs))  # type: ignore[return-value]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_state", [False, True])
def test_scan_equals_nn_gru_forward_and_backward(
    shape: tuple[int, int, int, int, int], with_state: bool
) -> None:
    torch.manual_seed(0)
    ours, theirs = both(shape, with_state)
    assert len(ours) == 2 + 2 + with_state + 4
    for mine, reference in zip(ours, theirs, strict=True):
        atol = 4e-6 * max(1, reference.abs().max().item())
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("size", [64, 62])  # whole blocks, and not
@pytest.mark.parametrize("in_blocks", [True, False])
def test_scan_under_bf16_autocast_is_near_float32(
    monkeypatch: pytest.MonkeyPatch, in_blocks: bool, size: int
) -> None:
    torch.manual_seed(1)
    if not in_blocks:  # as on other processors
        monkeypatch.setattr("gru_audio.scan.can_multiply_blocks", lambda *_: False)
    for low, full in zip(*both((11, 50, 5, 32, size), with_state=True, in_bf16=True), strict=True):
        assert (low - full).norm() < 0.02 * full.norm()


def test_what_is_pruned_changes_nothing_of_the_rest() -> None:
    """With the zeros left out, the outputs and gradients are those of a scan that multiplies them."""
    torch.manual_seed(5)
    shape, size = (11, 50, 5, 32, 48), 48
    cell = nn.GRU(shape[3], size, batch_first=True)
    weight = cell.get_parameter("weight_hh_l0")
    kept = torch.from_numpy(kept_weights(weight.detach().numpy(), (0.25, 0.25, 0.5)))
    weight.data *= kept
    table, rows, conditioning = inputs_of(shape)

    def scanned(known: Tensor | None) -> list[Tensor]:
        def run(table: Tensor, conditioning: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
            with torch.autocast("cpu", torch.bfloat16):
                hidden, last = scan(cell, table, rows, conditioning, state, known)
            return hidden.float(), last.float()

        return results(run, cell, table, conditioning, None)

    found = scanned(None), scanned(kept)
    of_weight = next(i for i, part in enumerate(found[0]) if part.shape == weight.shape)
    for part in found:
        part[of_weight] = part[of_weight] * kept
    for dense, sparse in zip(*found, strict=True):
        assert (dense - sparse).norm() < 0.005 * dense.norm()


def test_gradients_equal_finite_differences_in_float64() -> None:
    torch.manual_seed(2)
    n_batch, n_steps, size = 2, 4, 3
    gates = torch.randn(n_steps, n_batch, 3 * size, dtype=torch.float64, requires_grad=True)
    state, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((n_batch, size), (3 * size, size), (3 * size,))
    )
    assert torch.autograd.gradcheck(lambda *parts: GRUScan.apply(*parts, None), (gates, state, weight, bias))
    table, frames = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 6), (2, 2, 6))
    )
    assert torch.autograd.gradcheck(RowSum.apply, (table, frames, torch.randint(0, 5, (2, 4, 3))))


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


def test_one_step_equals_the_equations() -> None:
    rng = np.random.default_rng(0)
    size = 24
    gates, bias = rng.normal(0, 3, (2, 3 * size)).astype(np.float32)
    recurrent, hidden = rng.normal(size=(3 * size, size)), rng.uniform(-1, 1, size).astype(np.float32)
    product = (recurrent @ hidden).astype(np.float32)
    weights = {"weight_ih_l0": np.eye(3 * size), "weight_hh_l0": recurrent}
    biases = {"bias_ih_l0": np.zeros(3 * size), "bias_hh_l0": bias.astype(np.float64)}
    expected = naive_gru_step(gates.astype(np.float64), hidden.astype(np.float64), {**weights, **biases})
    kept, scratch = np.empty((4, size), np.float32), np.empty(2 * size, np.float32)
    gru_step(gates, product, bias, hidden, kept, scratch, np.empty(2 * size, np.int32))
    np.testing.assert_allclose(hidden, expected, atol=2e-6)


def test_exponential_of_synthesis_is_accurate_to_a_few_ulps() -> None:
    x = np.linspace(-29.9, 29.9, 20_001, dtype=np.float32)
    loop: Any = exp_parts
    values = np.array([mantissa * 2.0**exponent for mantissa, exponent in map(loop.py_func, x)])
    np.testing.assert_allclose(values, np.exp(x.astype(np.float64)), rtol=5e-6)


@compiled(fastmath=set(FAST))
def exponentials(x: Any, result: Any) -> None:
    for j in range(x.size):
        result[j] = exponential(x[j])


@compiled(fastmath=set(FAST))
def there_and_back(x: Any, stored: Any, result: Any) -> None:
    for j in range(x.size):
        stored[j] = narrow(x[j], stored)
        result[j] = widen(stored[j])


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 5e-6), (np.float64, 1e-15)])
def test_exponential_of_training(dtype: Any, rtol: float) -> None:
    x = np.linspace(-79.9, 79.9, 20_001, dtype=dtype)
    found = np.empty_like(x)
    exponentials(x, found)
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=rtol)
    if dtype == np.float32:  # beyond its limits it stays finite, and small where it should be
        exponentials(np.array([-1e30, 1e30], np.float32), found)
        assert 0 < found[0] < 1e-34
        assert 1e34 < found[1] < np.inf


def test_bf16_is_rounded_as_torch_rounds_it() -> None:
    torch.manual_seed(4)
    x = torch.cat(
        [torch.randn(10_000) * 10.0 ** torch.randint(-20, 20, (10_000,)), torch.tensor([0.0, -0.0])]
    )
    bits = torch.arange(4096, dtype=torch.int32) << 15  # each second one lies half way between two
    x = torch.cat([x, bits.view(torch.float32)])
    stored, back = torch.empty_like(x, dtype=torch.bfloat16), torch.empty_like(x)
    there_and_back(as_array(x), as_array(stored), as_array(back))
    assert torch.equal(stored.view(torch.int16), x.bfloat16().view(torch.int16))
    assert torch.equal(back, stored.float())
