"""Products of many rows, and their way back, against torch's own."""

import pytest
import torch
from torch import nn

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
    for mine, reference in zip(*found, strict=True):
        assert mine.dtype == reference.dtype
        assert (mine - reference).float().norm() <= (0.005 if in_bf16 else 1e-6) * reference.float().norm()
