"""Where torch computes, and with which numbers."""

import torch

from gru_audio.errors import ConfigError, first_line
from gru_audio.network.torch_private import cpu_multiplies_bf16

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The torch device of a name; `"auto"` is a CUDA GPU where there is one, else the CPU.

    Raises:
        ConfigError: torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device '{name}' does not exist; use auto, cpu, cuda, cuda:1, …") from error
    try:
        torch.zeros(1, device=device).item()  # "meta" makes tensors, and holds nothing in them
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error).partition(". ")[0]
        raise ConfigError(f"device '{name}' cannot be used here: {reason}; use auto or cpu") from error
    return device


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type that autocast multiplies in.

    Args:
        precision: `"fp32"`, `"bf16"`, `"fp16"`, or `"auto"`: bf16 where the device has it, else fp16 on a
            GPU and fp32 on a CPU.
        device: as `choose_device` gives it.
    """
    if precision != "auto":
        return _DTYPES[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and cpu_multiplies_bf16() else torch.float32


def is_emulated(precision: str, device: torch.device) -> bool:
    """Whether torch does without what multiplies such numbers, as it does on most CPUs; see `choose_dtype`."""
    chosen = choose_dtype(precision, device)
    return device.type == "cpu" and chosen not in (torch.float32, choose_dtype("auto", device))
