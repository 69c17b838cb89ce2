"""The GRU over time on a CPU, with its own backward: what nn.GRU computes, in less time.

One (B, H) x (H, 3H) product a step remains, in bf16 under autocast; the gates are fused loops; the
weights' gradient is one product over all steps at the end, where nn.GRU adds a full one at every step.

Shapes: see model.py; gates come in PyTorch's order r, z, n.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gru_audio.gates import gru_steps, gru_steps_backward


def can_scan(cell: nn.Module, inputs: Tensor) -> bool:
    """Whether `scan` can stand in for a cell: a GRU in float32 or bf16 on the CPU."""
    autocast_to = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    kinds = (torch.float32, torch.bfloat16)
    return (
        isinstance(cell, nn.GRU) and inputs.device.type == "cpu" and {autocast_to, inputs.dtype} <= set(kinds)
    )


def scan(cell: nn.Module, inputs: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run a one-layer batch-first GRU.

    Args:
        cell: an nn.GRU that `can_scan` allows.
        inputs: (B, K, C).
        state: (1, B, H), zeros if None.

    Returns:
        Hidden states (B, K, H), bf16 under autocast, and the last one (1, B, H), as the cell itself gives them.
    """
    weight_ih, weight_hh = cell.get_parameter("weight_ih_l0"), cell.get_parameter("weight_hh_l0")
    bias_ih, bias_hh = cell.get_parameter("bias_ih_l0"), cell.get_parameter("bias_hh_l0")
    gates = nn.functional.linear(inputs.transpose(0, 1), weight_ih, bias_ih)  # (K, B, 3H)
    before = inputs.new_zeros(inputs.shape[0], weight_hh.shape[1]) if state is None else state[0]
    hidden = GRUScan.apply(gates, before.float(), weight_hh, bias_hh)
    return hidden.transpose(0, 1), hidden[-1:]


class GRUScan(torch.autograd.Function):
    """Hidden states (K, B, H) from gate inputs (K, B, 3H), a state (B, H), W_hh (3H, H) and b_hh (3H,).

    Products are in the gate inputs' type, all else in float32. Source: the equations of torch.nn.GRU.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Run all K steps."""
        n_steps, n_batch, width = gates.shape
        multiply = _multiplier(weight.detach().to(gates.dtype), n_batch)
        hidden = torch.empty(n_steps + 1, n_batch, width // 3, dtype=gates.dtype)
        hidden[0] = state
        kept = torch.empty(n_steps, n_batch, 4, width // 3)
        now, step_gates, product = (
            state.detach().clone(),
            torch.empty(n_batch, width),
            torch.empty(n_batch, width),
        )
        arrays = step_gates.numpy(), product.numpy(), bias.detach().numpy(), now.numpy()
        kept_array = kept.numpy()
        for t in range(n_steps):
            product.copy_(multiply(hidden[t]))
            step_gates.copy_(gates[t])
            gru_steps(*arrays, kept_array[t])
            hidden[t + 1] = now
        ctx.save_for_backward(hidden, kept, weight)
        return hidden[1:]

    @staticmethod
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of the gate inputs, the state, the weight and the bias."""
        hidden, kept, weight = ctx.saved_tensors
        n_steps, n_batch, _, size = kept.shape
        multiply = _multiplier(weight.to(hidden.dtype).t().contiguous(), n_batch)
        grad_gates = torch.empty(n_steps, n_batch, 3 * size, dtype=hidden.dtype)
        grad_product = torch.empty_like(grad_gates)
        above, before, carried = (torch.zeros(n_batch, size) for _ in range(3))
        step_gates, step_product = torch.empty(n_batch, 3 * size), torch.empty(n_batch, 3 * size)
        inputs = above.numpy(), before.numpy()
        outputs = step_gates.numpy(), step_product.numpy(), carried.numpy()
        kept_array = kept.numpy()
        for t in range(n_steps - 1, -1, -1):
            above.copy_(grad_hidden[t])
            before.copy_(hidden[t])
            gru_steps_backward(*inputs, kept_array[t], *outputs)
            grad_gates[t] = step_gates
            grad_product[t] = step_product
            carried += multiply(grad_product[t])
        flat = grad_product.flatten(0, 1)  # (K B, 3H)
        grad_weight = (flat.t() @ hidden[:-1].flatten(0, 1)).float()
        return grad_gates, carried, grad_weight, flat.sum(0, dtype=torch.float32)


def _multiplier(weight: Tensor, n_batch: int) -> Callable[[Tensor], Tensor]:
    """The product x -> x weight^T of x (B, in) with a weight (out, in) that is used many times.

    oneDNN rearranges a weight at every product; where torch offers to do it once, a product takes 0.6 of the time.
    """
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, n_batch)
    except (AttributeError, RuntimeError):  # not in this build, or not for this type on this CPU
        return partial(nn.functional.linear, weight=weight)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
