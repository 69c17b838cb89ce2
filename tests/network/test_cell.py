"""The cell multiplies in the numbers that autocast is set to, and its gradients are float32's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.trained import make_dataset, small_config
from torch import Tensor, nn

from gru_audio.config import CONTEXT_FRAMES
from gru_audio.data.dataset import Dataset
from gru_audio.network import cell as cell_room
from gru_audio.network import model as model_room
from gru_audio.network.cell import run_cell
from gru_audio.training.batches.batch import Batch
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.learner import Learner
from gru_audio.training.objective import compute_losses

CPU = torch.device("cpu")
CELLS: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


def parts(state: Any) -> tuple[Tensor, ...]:
    return tuple(state) if isinstance(state, tuple | list) else (state,)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("with_state", [False, True])
def test_bf16_is_bf16(name: str, with_state: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that goes into torch's function, and what comes out; close to float32."""
    torch.manual_seed(0)
    cell = CELLS[name](8, 16, batch_first=True)
    inputs, state = torch.randn(2, 50, 8), None
    if with_state:
        first, second = torch.randn(1, 2, 16), torch.randn(1, 2, 16)
        state = (first, second) if name == "lstm" else first
    types = set[torch.dtype]()
    function: Any = cell_room.FUNCTIONS[CELLS[name]]

    def watched(given: Tensor, before: Any, weights: list[Tensor], *rest: Any) -> Any:
        types.update(tensor.dtype for tensor in (given, *parts(before), *weights))
        return function(given, before, weights, *rest)

    monkeypatch.setitem(cell_room.FUNCTIONS, CELLS[name], watched)
    expected, expected_state = cell(inputs, state)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, last = run_cell(cell, inputs, state)
    assert types == {torch.bfloat16}
    assert hidden.dtype == torch.bfloat16
    assert {part.dtype for part in parts(last)} == {torch.bfloat16}
    torch.testing.assert_close(hidden.float(), expected, rtol=0, atol=0.03)
    for found, wanted in zip(parts(last), parts(expected_state), strict=True):
        torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.05)


def test_without_autocast_it_is_the_cell() -> None:
    cell, inputs = nn.GRU(8, 16, batch_first=True), torch.randn(2, 5, 8)
    assert run_cell(cell, inputs, None)[0].equal(cell(inputs)[0])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("cell"), 90, 110, 130, 150, 170)


def gradient(learner: Learner, batch: Batch[Tensor], dtype: torch.dtype) -> Tensor:
    learner.network.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        compute_losses(learner.network, batch, own_pitch=False).total.backward()  # type: ignore[no-untyped-call]
    return torch.cat(
        [weight.grad.flatten() for weight in learner.network.parameters() if weight.grad is not None]
    )


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_float32s(
    dataset: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 10 % of its norm, at the start and after 40 and 80 steps in bf16, the way that a GPU computes."""
    monkeypatch.setattr(model_room, "can_scan", lambda *_: False)
    config = small_config(
        *(f"model.cell={name}", "train.precision=bf16", "train.steps=80", "train.learning_rate=5e-3"),
        *("train.crop_samples=160", "train.batch_size=2"),
    )
    source = CropSource(Dataset.open(dataset), config, "train", CONTEXT_FRAMES)
    learner = Learner(config, CPU, source)
    for n_steps in (0, 40, 80):
        while learner.step < n_steps:
            learner.train_step(source.batch(learner.step).to(CPU))
        batch = source.batch(learner.step).to(CPU)
        exact, rounded = (gradient(learner, batch, dtype) for dtype in (torch.float32, torch.bfloat16))
        assert (rounded - exact).norm() < 0.1 * exact.norm()
