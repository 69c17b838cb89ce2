"""What one training step reads: arrays as they are drawn, tensors as they are computed with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

Part = TypeVar("Part", npt.NDArray[Any], Tensor)
Other = TypeVar("Other", npt.NDArray[Any], Tensor)


@dataclass(frozen=True)
class Batch(Generic[Part]):
    """Crops with the same number of frames. Shapes: see model.py; W is the run-in before a crop, in samples.

    Attributes:
        mel: (B, F + 2 * context, M) float32, the crop's frames and the conditioner's context.
        lags: (B, F) float32, pitch labels in samples, 0 where unvoiced.
        target: (B, T), codes to be predicted; codes are int16 in arrays, int64 in tensors on a device.
        history: (B, W + T), noisy excitation codes from the run-in on.
        previous_signal: (B, T), codes of s[t - 1].
        prediction: (B, T), codes of the prediction of s[t].
    """

    mel: Part
    lags: Part
    target: Part
    history: Part
    previous_signal: Part
    prediction: Part

    def __iter__(self) -> Iterator[Part]:
        return (getattr(self, field.name) for field in fields(self))

    def map(self, change: Callable[[Part], Other]) -> "Batch[Other]":
        """The batch with each of its parts changed."""
        return Batch(*(change(part) for part in self))

    def to(self, device: torch.device) -> "Batch[Tensor]":
        """Move it to a device; codes become int64."""
        return self.map(lambda part: _moved(part, device))


def pinned(part: npt.NDArray[Any], device: torch.device) -> Tensor:
    """An array as a tensor; where a GPU is the goal, in memory that moves to it by itself."""
    tensor = torch.from_numpy(part)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _moved(part: npt.NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    tensor = torch.as_tensor(part).to(device, non_blocking=True)
    return tensor if tensor.is_floating_point() else tensor.long()
