"""Products of many rows, and their way back, against torch's own."""

import pytest
import torch
from support.threads import torch_threads
from torch import Tensor, nn

from gru_audio.network.cpu.linear import linear


@pytest.mark.parametrize("in_bf16", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("size", [48, 40])  # whole tiles, and not
def test_values_and_gradients_equal_torchs(in_bf16: bool, with_bias: bool, size: int) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(32, size, bias=with_bias)
    inputs = torch.randn(30, 20, 32, requires_grad=True)
    above = torch.randn(30, 20, size)
    leaves = [inputs, *layer.parameters()]
    found = []
    for way in (linear, nn.functional.linear):
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
            out = way(inputs, layer.weight, layer.bias)
        found.append([out, *torch.autograd.grad(out, leaves, above.to(out.dtype))])
    require_near(found, 0.005 if in_bf16 else 1e-6)


@pytest.mark.parametrize("in_bf16", [False, True])
@pytest.mark.usefixtures("instructions")
def test_what_is_pruned_changes_nothing_of_the_rest(in_bf16: bool) -> None:
    torch.manual_seed(1)
    layer, kept = nn.Linear(32, 48), (torch.rand(3, 1, 8, 1) < 0.4).expand(3, 16, 8, 4).reshape(48, 32)
    layer.weight.data *= kept
    inputs, above = torch.randn(130, 2, 32, requires_grad=True), torch.randn(130, 2, 48)
    found = []
    for known in (kept, None):
        with torch_threads(2), torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
            out = linear(inputs, layer.weight, layer.bias, known)
        of_inputs, of_weight, of_bias = torch.autograd.grad(
            out, [inputs, *layer.parameters()], above.to(out.dtype)
        )
        found.append([out, of_inputs, of_weight * kept, of_bias])
    require_near(found, 0.005 if in_bf16 else 1e-6)


def require_near(found: list[list[Tensor]], tolerance: float) -> None:
    for mine, reference in zip(*found, strict=True):
        assert mine.dtype == reference.dtype
        assert (mine - reference).float().norm() <= tolerance * reference.float().norm()
