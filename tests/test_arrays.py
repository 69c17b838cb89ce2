"""What callers give as an array."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch")

from gru_audio.arrays import array_of  # noqa: E402 - after what may skip the file
from gru_audio.config import MelConfig  # noqa: E402
from gru_audio.signal.audio import check_audio  # noqa: E402
from gru_audio.signal.mel import check_mel  # noqa: E402

TENSORS: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda tensor: tensor,
    "with a gradient": lambda tensor: tensor.requires_grad_(),
    "of bfloat16": lambda tensor: tensor.bfloat16(),
    "of bfloat16 with a gradient": lambda tensor: tensor.bfloat16().requires_grad_(),
    "of float64": lambda tensor: tensor.double(),
    "sparse": lambda tensor: tensor.to_sparse(),
    "an inner result": lambda tensor: tensor.requires_grad_() * 1,
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_are_taken(kind: str) -> None:
    """Values that bfloat16 holds exactly."""
    mel = np.arange(160, dtype=np.float32).reshape(2, 80) / -16
    make = TENSORS[kind]
    np.testing.assert_array_equal(check_mel(make(torch.from_numpy(mel.copy())), MelConfig()), mel)
    np.testing.assert_array_equal(check_audio(make(torch.from_numpy(mel[0] / 16))), mel[0] / 16)


def test_whole_numbers_stay_so() -> None:
    assert array_of(torch.arange(3, dtype=torch.int16)).dtype == np.int16
    assert array_of([1, 2]).tolist() == [1, 2]


def test_torch_may_be_half_loaded_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    assert array_of([1.5, 2]).tolist() == [1.5, 2]
