"""The GRU's kernels, step by step in Triton's interpreter, against nn.GRU in float32.

benchmarks/gpu.py compares them on a GPU, where all steps are one launch.
"""

from functools import partial
from typing import Any

import pytest
import torch
from support.trained import small_config
from torch import Tensor, nn

from gru_audio.network import model
from gru_audio.network.gpu import choice
from gru_audio.network.gpu.gru import ScanWay, launch, run_gru
from gru_audio.network.model import CodeInputs, SampleNetwork

pytest.importorskip("triton", minversion="3.9")

Parts = tuple[Tensor, ...]


def of_torch(cell: nn.GRU, inputs: Tensor, state: Tensor, above: Tensor) -> Parts:
    """Hidden states (K, B, H) and the gradients of inputs and weights."""
    hidden, _ = cell(inputs, state[None])
    weights = [cell.get_parameter(name) for name in WEIGHTS]
    return hidden.detach(), *torch.autograd.grad(hidden, [inputs, *weights], above)


WEIGHTS = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")


@pytest.mark.parametrize(
    ("n_batch", "size", "way"),
    [
        (3, 32, ScanWay(rows=16, units=32, ahead=1)),  # one program: all steps in one launch, with its looks
        (3, 32, ScanWay(rows=16, units=32, ahead=1, meeting="data")),
        (16, 32, ScanWay(rows=16, units=32, ahead=2, meeting="first data")),
        (17, 64, ScanWay(rows=16, units=16)),  # two programs of streams, and four of units
        (17, 96, ScanWay(rows=16, units=32, ahead=2, meeting="first data")),  # of three parts
    ],
)
def test_it_is_torchs_gru(n_batch: int, size: int, way: ScanWay) -> None:
    numbers = torch.float16  # the interpreter multiplies the bits of bf16 as whole numbers
    torch.manual_seed(size)
    cell = nn.GRU(8, size)
    inputs, state = torch.randn(3, n_batch, 8, requires_grad=True), 0.5 * torch.randn(n_batch, size)
    above = torch.randn(3, n_batch, size) / size
    expected = of_torch(cell, inputs, state, above)

    with torch.autocast("cpu", numbers):
        hidden, last = run_gru(cell, inputs, state, way)
    assert hidden.dtype == numbers
    weights = [cell.get_parameter(name) for name in WEIGHTS]
    torch.testing.assert_close(last, hidden[-1].float(), rtol=0, atol=0.01)
    found = (
        hidden,
        *torch.autograd.grad(hidden, [inputs, *weights], above.to(numbers)),
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.float() - theirs).norm() < 0.01 * theirs.norm()


def test_without_gradients_nothing_is_kept_and_the_result_is_the_same() -> None:
    torch.manual_seed(1)
    cell, inputs, way = nn.GRU(8, 32), torch.randn(3, 2, 8), ScanWay(rows=16)
    with torch.autocast("cpu", torch.float16):
        kept, _ = run_gru(cell, inputs, None, way)
        with torch.no_grad():
            alone, _ = run_gru(cell, inputs, None, way)
    assert torch.equal(alone, kept)


def test_what_is_not_written_yet_is_waited_for_and_nobody_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The state before the first step is missing for good, as if another program never ran: the result is NaN."""
    kernels = pytest.importorskip("gru_audio.network.gpu.kernels.gru")
    monkeypatch.setattr(kernels, "LOOKS", 3)
    way = ScanWay(rows=16, units=32, meeting="first data")
    gates = torch.randn(2, 3, 96, dtype=torch.float16)
    hidden = torch.empty(3, 3, 32, dtype=torch.float16)
    hidden.view(torch.int16).fill_(-1)
    inner, state = torch.empty(2, 3, 32, dtype=torch.float16), torch.zeros(3, 32)
    weight, bias = torch.randn(96, 32, dtype=torch.float16), torch.zeros(32)
    launch("gru_forward", way, 3, 32, 2, (gates, weight, bias, hidden, inner, state), (), SAVES=True)
    assert hidden[1:].isnan().all()


def test_what_is_cut_where() -> None:
    assert ScanWay(rows=64, units=16).n_programs(n_batch=65, size=896) == 112
    assert ScanWay(units=16).fits(96)
    assert not ScanWay(units=64).fits(96)
    assert not ScanWay(units=16).fits(48), "halves of parts are too small to be multiplied"


def test_a_way_is_taken_where_its_result_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, in the interpreter: there cuDNN's place is torch's own cell, which is faster."""
    tried = partial(choice.tried, n_steps=2, n_runs=1)
    right, too_many, odd = ScanWay(rows=16, units=32), ScanWay(rows=1, units=32), ScanWay(units=13)
    found = tried((right, too_many, odd), 3, 32, torch.float16, torch.device("cpu"), n_places=1)
    assert found.way is None
    assert found.milliseconds.keys() == {"cuDNN", str(right)}, found.refused
    assert found.refused[str(too_many)] == "3 programs do not run at once"
    assert found.refused.keys() == {str(too_many), str(odd)}

    def wrong(*arguments: Any) -> Any:
        hidden, last = run_gru(*arguments)
        return hidden * 1.1, last

    monkeypatch.setattr(choice, "run_gru", wrong)
    found = tried((right,), 3, 32, torch.float16, torch.device("cpu"), n_places=1)
    assert "off by 10" in found.refused[str(right)]


def test_the_network_gives_what_it_gives_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a GPU, with a way that is chosen, against the cell of torch."""
    torch.manual_seed(0)
    config = small_config(
        "model.gru_size=32", "mel.hop_samples=8", "mel.window_samples=16", "signal.pitch_min_hz=100.0"
    )
    network = SampleNetwork(config)
    conditioning = torch.randn(2, 1, config.model.conditioning_size)
    codes = CodeInputs(*(torch.randint(256, (2, 8 + extra)) for extra in (3, 0, 0, 0)))
    monkeypatch.setattr(model, "can_scan", lambda *_: False)
    expected, expected_state = network(conditioning, codes)
    monkeypatch.setattr(model, "way_of", lambda *_: ScanWay(rows=16))
    with torch.autocast("cpu", torch.float16):
        found, state = network(conditioning, codes)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.02)
    torch.testing.assert_close(state, expected_state, rtol=0, atol=0.02)
