"""Tensors as arguments of the C core; for training, which has torch."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gru_audio.native import library


class Numbers(library.Array):
    """bf16 or float32, as another argument tells the function; None for a null pointer."""

    @classmethod
    def from_param(cls, array: Any) -> Any:
        """See `library.Array`."""
        return None if array is None else _kind(array).from_param(array)

    @classmethod
    def address(cls, array: Any) -> int:
        """See `library.Array`."""
        return 0 if array is None else _kind(array).address(array)


def _kind(array: npt.NDArray[Any]) -> type[library.Array]:
    return library.Bf16s if array.dtype == np.uint16 else library.Floats


def as_array(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor's memory as an array, or that of a copy where it is not in one piece; bf16 as uint16."""
    tensor = tensor.detach().contiguous()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def are_bf16(tensor: Tensor) -> int:
    """What C is told of numbers.

    Raises:
        TypeError: they are neither bf16 nor float32: our own mistake.
    """
    if tensor.dtype not in (torch.bfloat16, torch.float32):
        raise TypeError(f"bf16 or float32 was expected, not {tensor.dtype}")
    return int(tensor.dtype == torch.bfloat16)
