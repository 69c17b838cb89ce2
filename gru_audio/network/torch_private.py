"""What we use of torch that it does not promise to keep, in one place; each has a way round, or fails in a test."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn


def cpu_multiplies_bf16() -> bool:
    """Whether this processor multiplies pairs of bf16 numbers, and torch makes use of it."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported())
    except AttributeError:
        return False


def can_use_amx() -> bool:
    """Whether this processor has AMX, and the operating system lets this process use it, which is asked for here."""
    return all(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_init_amx"))


def weights_of(cell: nn.RNNBase) -> list[Tensor]:
    """A cell's weights in the order in which torch's functions want them."""
    return [weight for weight in cell._flat_weights if weight is not None]


@torch.no_grad()
def put_end_to_end(cell: nn.RNNBase, weights: list[Tensor]) -> None:
    """Lay a cell's weights out as cuDNN wants them, which would otherwise copy them, and warn, at every call."""
    # Of float32, as torch does not count bf16 among cuDNN's types, which it is.
    if not torch.backends.cudnn.is_acceptable(cell.weight_hh_l0.data):  # type: ignore[no-untyped-call]
        return
    mode = torch.backends.cudnn.rnn.get_cudnn_mode(cell.mode)  # type: ignore[no-untyped-call]
    torch._cudnn_rnn_flatten_weight(
        weights, 4 if cell.bias else 2, cell.input_size, mode, cell.hidden_size, 0, 1, True, False
    )


def move_towards(tensors: list[Tensor], goals: list[Tensor], share: float) -> None:
    """Move each tensor a share of the way to its goal, in place, all in few launches."""
    torch._foreach_lerp_(tensors, goals, share)


def copy_each(tensors: list[Tensor], sources: list[Tensor]) -> None:
    """Write to each tensor what its source holds, all in few launches."""
    torch._foreach_copy_(tensors, sources)


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


class AdamW(torch.optim.AdamW):
    """torch's, which asks torch's compiler to leave it alone, and so loads it, which takes two seconds of a core.

    Here nothing is compiled: these are the same methods without that, or torch's own where it has none to leave out.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def step_unless_bad(optimizer: torch.optim.Optimizer, is_good: Tensor) -> None:
    """A fused optimiser's step that changes nothing where `is_good` is not; nothing waits for the device to tell.

    GradScaler tells the optimiser in this way.
    """
    optimizer.found_inf = 1 - is_good.float()  # type: ignore[attr-defined]
    optimizer.grad_scale = None  # type: ignore[attr-defined]
    optimizer.step()
