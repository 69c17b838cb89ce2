"""The GRU over time on a CPU, with its own backward: what nn.GRU computes, in far less time.

One (B, H) x (H, 3H) product a step remains, in bf16 under autocast; the gates are fused loops; the
weights' gradient is one product over all steps at the end, where nn.GRU adds a full one at every step.

Shapes: see model.py; gates come in PyTorch's order r, z, n.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from gru_audio.mel import FloatArray

_FAST = {"nnan", "ninf", "nsz", "arcp", "contract", "reassoc"}
_LOG2_E, _LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
_LARGEST = np.float32(30.0)  # beyond it sigmoid and tanh are flat in float32
_C2, _C3, _C4, _C5, _C6 = (np.float32(1 / n) for n in (2, 6, 24, 120, 720))
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)


def can_scan(cell: nn.Module, inputs: Tensor) -> bool:
    """Whether `scan` can stand in for a cell: a GRU in float32 or bf16 on the CPU."""
    autocast_to = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    kinds = (torch.float32, torch.bfloat16)
    return (
        isinstance(cell, nn.GRU)
        and inputs.device.type == "cpu"
        and autocast_to in kinds
        and inputs.dtype in kinds
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
    gate_inputs = nn.functional.linear(inputs.transpose(0, 1), weight_ih, bias_ih)  # (K, B, 3H)
    before = inputs.new_zeros(inputs.shape[0], weight_hh.shape[1]) if state is None else state[0]
    hidden = GRUScan.apply(gate_inputs, before.float(), weight_hh, bias_hh)
    return hidden.transpose(0, 1), hidden[-1:]


class GRUScan(torch.autograd.Function):
    """Hidden states (K, B, H) from gate inputs (K, B, 3H), a state (B, H), W_hh (3H, H) and b_hh (3H,).

    Products are in the gate inputs' type, all else in float32. Source: the equations of torch.nn.GRU.
    """

    @staticmethod
    def forward(ctx: Any, gate_inputs: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        n_steps, n_batch, width = gate_inputs.shape
        size, kind = width // 3, gate_inputs.dtype
        multiply = _multiplier(weight.detach().to(kind), n_batch)
        hidden = torch.empty(n_steps + 1, n_batch, size, dtype=kind)
        hidden[0] = state
        reset, update, new, product_new = (torch.empty(n_steps, n_batch, size) for _ in range(4))
        now, gates_in = state.detach().clone(), torch.empty(n_batch, width)
        product = torch.empty(n_batch, width)
        arrays = [reset.numpy(), update.numpy(), new.numpy(), product_new.numpy()]
        now_np, gates_np, product_np, bias_np = (
            now.numpy(),
            gates_in.numpy(),
            product.numpy(),
            bias.detach().numpy(),
        )
        for t in range(n_steps):
            product.copy_(multiply(hidden[t]))
            gates_in.copy_(gate_inputs[t])
            _forward_step(gates_np, product_np, bias_np, now_np, *(array[t] for array in arrays))
            hidden[t + 1] = now
        ctx.save_for_backward(hidden, reset, update, new, product_new, weight)
        return hidden[1:]

    @staticmethod
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        hidden, reset, update, new, product_new, weight = ctx.saved_tensors
        n_steps, n_batch, size = reset.shape
        kind = hidden.dtype
        multiply = _multiplier(weight.to(kind).t().contiguous(), n_batch)
        grad_in = torch.empty(n_steps, n_batch, 3 * size, dtype=kind)
        grad_product = torch.empty_like(grad_in)
        step_in, step_product = torch.empty(n_batch, 3 * size), torch.empty(n_batch, 3 * size)
        above, before = torch.empty(n_batch, size), torch.empty(n_batch, size)
        carried = torch.zeros(n_batch, size)
        gates_np = [reset.numpy(), update.numpy(), new.numpy(), product_new.numpy()]
        above_np, before_np, carried_np = above.numpy(), before.numpy(), carried.numpy()
        in_np, product_np = step_in.numpy(), step_product.numpy()
        for t in range(n_steps - 1, -1, -1):
            above.copy_(grad_hidden[t])
            before.copy_(hidden[t])
            r, z, n, inner = (array[t] for array in gates_np)
            _backward_step(above_np, before_np, r, z, n, inner, in_np, product_np, carried_np)
            grad_in[t] = step_in
            grad_product[t] = step_product
            carried += multiply(grad_product[t])
        flat = grad_product.flatten(0, 1)
        grad_weight = (flat.t() @ hidden[:-1].flatten(0, 1)).float()
        return grad_in, carried, grad_weight, flat.sum(0, dtype=torch.float32)


def _multiplier(weight: Tensor, n_batch: int) -> Callable[[Tensor], Tensor]:
    """The product x -> x weight^T of x (B, in) with a weight (out, in) that is used many times.

    oneDNN rearranges a weight at every product; where torch offers to do it once, a step takes 0.6 of the time.
    """
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, n_batch)
    except (AttributeError, RuntimeError):  # not in this build, or not for this type on this CPU
        return partial(nn.functional.linear, weight=weight)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


@njit(cache=True, nogil=True, fastmath=_FAST, inline="always")
def _exp_parts(x):  # type: ignore[no-untyped-def]
    """e**x as a mantissa and an exponent, relative error under 2e-7: a polynomial that LLVM vectorises."""
    y = min(max(x, -_LARGEST), _LARGEST) * _LOG2_E
    k = np.floor(y + _HALF)
    r = (y - k) * _LN_2
    return _ONE + r * (_ONE + r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * _C6))))), np.int32(k)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _forward_step(
    gates: FloatArray,
    product: FloatArray,
    bias: FloatArray,
    hidden: FloatArray,
    reset: FloatArray,
    update: FloatArray,
    new: FloatArray,
    product_new: FloatArray,
) -> None:
    """One step of B rows: gates and product (B, 3H), bias (3H,), hidden (B, H) in place, the rest (B, H) out."""
    n_batch, size = hidden.shape
    mantissa = np.empty(2 * size, np.float32)
    exponent = np.empty(2 * size, np.int32)
    scale = exponent.view(np.float32)  # 2**k, made from its bits
    for b in range(n_batch):
        for j in range(2 * size):
            mantissa[j], k = _exp_parts(-(gates[b, j] + product[b, j] + bias[j]))
            exponent[j] = (k + 127) << 23
        for j in range(size):
            reset[b, j] = _ONE / (_ONE + mantissa[j] * scale[j])
            update[b, j] = _ONE / (_ONE + mantissa[size + j] * scale[size + j])
        for j in range(size):
            inner = product[b, 2 * size + j] + bias[2 * size + j]
            product_new[b, j] = inner
            mantissa[j], k = _exp_parts(-_TWO * (gates[b, 2 * size + j] + reset[b, j] * inner))
            exponent[j] = (k + 127) << 23
        for j in range(size):
            n = _TWO / (_ONE + mantissa[j] * scale[j]) - _ONE
            new[b, j] = n
            hidden[b, j] = n + update[b, j] * (hidden[b, j] - n)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _backward_step(
    above: FloatArray,
    before: FloatArray,
    reset: FloatArray,
    update: FloatArray,
    new: FloatArray,
    product_new: FloatArray,
    grad_in: FloatArray,
    grad_product: FloatArray,
    carried: FloatArray,
) -> None:
    """One step back: gradients of the gate inputs and the product (B, 3H) out; carried (B, H) in and out."""
    n_batch, size = above.shape
    for b in range(n_batch):
        for j in range(size):
            grad = above[b, j] + carried[b, j]
            r, z, n = reset[b, j], update[b, j], new[b, j]
            grad_z = grad * (before[b, j] - n) * z * (_ONE - z)
            grad_n = grad * (_ONE - z) * (_ONE - n * n)
            grad_r = grad_n * product_new[b, j] * r * (_ONE - r)
            grad_in[b, j] = grad_r
            grad_in[b, size + j] = grad_z
            grad_in[b, 2 * size + j] = grad_n
            grad_product[b, j] = grad_r
            grad_product[b, size + j] = grad_z
            grad_product[b, 2 * size + j] = grad_n * r
            carried[b, j] = grad * z
