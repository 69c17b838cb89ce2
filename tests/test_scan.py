"""The CPU's GRU scan and its gates against nn.GRU and against equations written out."""

from typing import Any

import numpy as np
import pytest
import torch
from naive import gru_step as naive_gru_step
from torch import nn

from gru_audio.gates import exp_parts, gru_step
from gru_audio.scan import can_scan, scan

SHAPES = [(1, 1, 3, 4), (3, 7, 5, 16), (8, 40, 32, 48)]  # B, K, C, H


def results(
    run: object, cell: nn.GRU, inputs: torch.Tensor, state: torch.Tensor | None
) -> list[torch.Tensor]:
    """Outputs, last state and every gradient of a weighted sum of both."""
    leaves = [inputs.detach().clone().requires_grad_()]
    if state is not None:
        leaves.append(state.detach().clone().requires_grad_())
    cell.zero_grad()
    hidden, last = run(leaves[0], leaves[1] if state is not None else None)  # type: ignore[operator]
    weights = torch.linspace(-1, 1, hidden.numel()).view_as(hidden)
    ((hidden * weights).sum() + last.pow(2).sum()).backward()
    gradients = [*(leaf.grad for leaf in leaves), *(parameter.grad for parameter in cell.parameters())]
    return [
        hidden.detach(),
        last.detach(),
        *(gradient.clone() for gradient in gradients if gradient is not None),
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_state", [False, True])
def test_scan_equals_nn_gru_forward_and_backward(shape: tuple[int, int, int, int], with_state: bool) -> None:
    torch.manual_seed(0)
    n_batch, n_steps, n_inputs, size = shape
    cell, inputs = nn.GRU(n_inputs, size, batch_first=True), torch.randn(n_batch, n_steps, n_inputs)
    state = torch.randn(1, n_batch, size) if with_state else None
    ours = results(lambda x, h: scan(cell, x, h), cell, inputs, state)
    theirs = results(cell, cell, inputs, state)
    assert len(ours) == 2 + 1 + with_state + 4
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            mine, reference, rtol=1e-5, atol=2e-6 * max(1, reference.abs().max().item())
        )


def test_scan_under_bf16_autocast_is_near_float32() -> None:
    torch.manual_seed(1)
    cell, inputs = nn.GRU(32, 64, batch_first=True), torch.randn(4, 50, 32)

    def in_bf16(x: torch.Tensor, h: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            hidden, last = scan(cell, x, h)
        assert hidden.dtype == torch.bfloat16
        return hidden.float(), last.float()

    for low, full in zip(
        results(in_bf16, cell, inputs, None), results(cell, cell, inputs, None), strict=True
    ):
        assert (low - full).norm() < 0.02 * full.norm()


def test_scan_in_two_halves_equals_one() -> None:
    torch.manual_seed(2)
    cell, inputs = nn.GRU(8, 16, batch_first=True), torch.randn(2, 20, 8)
    whole, end = scan(cell, inputs, None)
    first, middle = scan(cell, inputs[:, :10], None)
    second, last = scan(cell, inputs[:, 10:], middle)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
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


def test_exponential_is_accurate_to_a_few_ulps() -> None:
    x = np.linspace(-29.9, 29.9, 20_001, dtype=np.float32)
    compiled: Any = exp_parts
    values = np.array([mantissa * 2.0**exponent for mantissa, exponent in map(compiled.py_func, x)])
    np.testing.assert_allclose(values, np.exp(x.astype(np.float64)), rtol=5e-6)
