"""What we use of torch that it does not promise to keep, in one place; each has a way round, or fails in a test.

`torch._foreach_lerp_` apart, which torch's own optimisers are made of.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def cpu_multiplies_bf16() -> bool:
    """Whether this processor multiplies pairs of bf16 numbers, and torch makes use of it."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported())
    except AttributeError:
        return False


def packed_product(weight: Tensor, n_rows: int) -> Callable[[Tensor], Tensor] | None:
    """The product x -> x weight^T of x (B, in) with a weight (out, in) that oneDNN rearranges once.

    None where this build does not offer it, or not for this type on this processor.
    """
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, n_rows)
    except (AttributeError, RuntimeError):
        return None
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


def forget_half_step(scaler: torch.amp.GradScaler) -> None:
    """Let a scaler's next step begin anew, where the last one was broken off between two of its calls."""
    if scaler.is_enabled():
        scaler._per_optimizer_states.clear()


def step_unless_bad(optimizer: torch.optim.Optimizer, is_good: Tensor) -> None:
    """A fused optimiser's step that changes nothing where `is_good` is not; nothing waits for the device to tell.

    GradScaler tells the optimiser in this way.
    """
    optimizer.found_inf = 1 - is_good.float()  # type: ignore[attr-defined]
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.step()
