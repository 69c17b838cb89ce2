"""Whether kernels written in Triton can run: the package, the card, and Triton's interpreter, which tests use."""

import functools
import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_OLDEST_CARD = (8, 0)
"""Compute capability: the first with bf16 and 164 KB of shared memory a block."""


def why_not(device: "torch.device") -> str | None:
    """Why no kernel of Triton's runs on a device, as a clause; None where one does."""
    if device.type != "cuda":
        return None if is_interpreted() else f"{device.type} is no CUDA GPU"
    return _why_no_card(device.index or 0)


def failure(error: Exception) -> str:
    """What a compiler or a driver raised, as one line."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def is_interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, in NumPy and on any device: slow, and made for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None


@functools.cache
def _why_no_card(index: int) -> str | None:
    import torch

    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    capability = torch.cuda.get_device_capability(index)
    if torch.version.hip is None and capability < _OLDEST_CARD:
        return f"the card's compute capability is {capability[0]}.{capability[1]}, not 8.0 or later"
    return "it is no NVIDIA card" if torch.version.hip is not None else None
