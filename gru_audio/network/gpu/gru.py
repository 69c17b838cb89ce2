"""The GRU over time on a GPU as one kernel each way, with its own backward; see kernels/gru.py.

Shapes: see model.py; gates come in PyTorch's order: r, z, n.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from gru_audio.network import triton_ready

TYPES = (torch.bfloat16, torch.float16)
"""In which it multiplies."""


Meeting = Literal["counter", "data", "first data"]
"""Where programs of the same streams meet at each step: at a counter of what is written; or in the data, which hold
another number before: at all that they read, or first at one pair of each program's part. See kernels/gru.py."""


class ScanWay(NamedTuple):
    """How the work is cut up.

    Attributes:
        rows: streams of a program.
        units: recurrent units of a program.
        ahead: parts of the state that are fetched at once.
        warps: of a program.
        meeting: where programs meet.
    """

    rows: int = 64
    units: int = 16
    ahead: int = 2
    warps: int = 4
    meeting: Meeting = "counter"

    def n_programs(self, n_batch: int, size: int) -> int:
        """All must run at once."""
        return size // self.units * -(-n_batch // self.rows)

    @property
    def n_sums(self) -> int:
        """Of a product, which are added up at its end, as each part of one waits for the part before."""
        return max(1, _SUMS_OF_A_WARP * self.warps // (self.rows * self.units))

    def fits(self, size: int) -> bool:
        """Whether H can be cut so."""
        return size % self.units == 0 and size % _SMALLEST_CHUNK == 0


_SUMS_OF_A_WARP = 512  # numbers: 16 registers a thread
_SMALLEST_CHUNK, _LARGEST_CHUNK = 32, 128  # columns of the state in a part


def run_gru(cell: nn.GRU, inputs: Tensor, state: Tensor | None, way: ScanWay) -> tuple[Tensor, Tensor]:
    """Run a one-layer GRU.

    W_ih goes over all steps at once. To fold it into the embeddings, as on a CPU, saves little here: for universal-16k
    that product is 0.3 Tflop forward, under a millisecond, and the folded rows' gradients would be ten times the bytes.

    Args:
        cell: the weights.
        inputs: (K, B, C); with the cell's W_ih they make the gates, in the type that autocast is set to.
        state: (B, H) before the first step, zeros if None; it gets no gradient.
        way: how the work is cut up.

    Returns:
        Hidden states (K, B, H) in the gates' type, and the last (B, H) in float32.
    """
    weight, bias = cell.get_parameter("weight_hh_l0"), cell.get_parameter("bias_hh_l0")
    size = cell.hidden_size
    # Only the new gate's part of b_hh stays with the product, as the reset gate multiplies it.
    outside = nn.functional.pad(bias[: 2 * size], (0, size)) + cell.get_parameter("bias_ih_l0")
    gates = nn.functional.linear(inputs, cell.get_parameter("weight_ih_l0"), outside)
    hidden, last = gru_scan(gates, state, weight, bias[2 * size :], way, torch.is_grad_enabled())
    return hidden, last


class GRUScan(torch.autograd.Function):
    """Hidden states from gates (K, B, 3H), a state (B, H), W_hh and b_hn.

    The gates' memory is used again, for r, z and n; and on the way back, where programs meet at a counter, for the
    gradients.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        state: Tensor | None,
        weight: Tensor,
        inner_bias: Tensor,
        way: ScanWay,
        saves: bool,
    ) -> tuple[Tensor, Tensor]:
        """Run all steps; `saves` says whether a gradient will be wanted: the gates then become r, z and n."""
        (n_steps, n_batch, _), size = gates.shape, weight.shape[1]
        gates, low = gates.contiguous(), weight.to(gates.dtype)
        hidden = _for_what_comes(way, gates, n_steps + 1, n_batch, size)
        now = torch.zeros(n_batch, size, device=gates.device) if state is None else state.float().clone()
        hidden[0] = now
        inner = gates.new_empty(n_steps if saves else 0, n_batch, size)
        launch(
            "gru_forward", way, n_batch, size, n_steps,
            (gates, low, inner_bias.float().contiguous(), hidden, inner, now), (), SAVES=saves,
        )  # fmt: skip
        ctx.save_for_backward(gates, inner, hidden, low)
        ctx.way, ctx.types = way, (weight.dtype, inner_bias.dtype)
        ctx.mark_non_differentiable(now)
        return hidden[1:], now

    @staticmethod
    def backward(ctx: Any, grad_hidden: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the gates, the weight and the bias."""
        gates, inner, hidden, low = ctx.saved_tensors
        assert not hasattr(ctx, "is_spent"), "the first way back used up what it needs"
        ctx.is_spent = True
        n_steps, n_batch, size = inner.shape
        carried = torch.zeros(n_batch, size, device=gates.device)
        grad_gates, grad_inner = gates, inner
        if ctx.way.meeting != "counter":
            grad_gates = _for_what_comes(ctx.way, gates, *gates.shape)
            grad_inner = _for_what_comes(ctx.way, gates, *inner.shape)
        above = grad_hidden.to(gates.dtype).contiguous()
        launch(
            "gru_backward", ctx.way, n_batch, size, n_steps,
            (gates, low, hidden, inner, above, carried, grad_gates, grad_inner), (n_steps,),
        )  # fmt: skip
        before = hidden[:-1].flatten(0, 1)  # (K B, H)
        of_both, of_inner = grad_gates.flatten(0, 1)[:, : 2 * size], grad_inner.flatten(0, 1)
        weight_type, bias_type = ctx.types
        grad_weight = torch.cat([of_both.t() @ before, of_inner.t() @ before]).to(weight_type)
        grad_bias = of_inner.sum(0, dtype=torch.float32).to(bias_type)
        return grad_gates, None, grad_weight, grad_bias, None, None


def _for_what_comes(way: ScanWay, like: Tensor, *shape: int) -> Tensor:
    """Memory that programs write and read; where they meet in it, it says that nothing is written yet."""
    made = like.new_empty(shape)
    if way.meeting != "counter":
        made.view(torch.int16).fill_(-1)  # `UNWRITTEN`
    return made


def launch(
    name: Literal["gru_forward", "gru_backward"],
    way: ScanWay,
    n_batch: int,
    size: int,
    n_steps: int,
    arrays: tuple[Tensor, ...],
    numbers: tuple[int, ...],
    **flags: bool,
) -> None:
    """Run all steps of a kernel in one launch; in Triton's interpreter one a step, as programs take turns there."""
    from gru_audio.network.gpu.kernels import gru

    kernel, chunk = getattr(gru, name), _LARGEST_CHUNK
    while size % chunk:
        chunk //= 2
    grid = (size // way.units, -(-n_batch // way.rows))
    counters = torch.zeros(grid[1], dtype=torch.int32, device=arrays[0].device)
    n_parts = size // chunk * (1 if name == "gru_forward" else 3)
    shape = {"SIZE": size, "ROWS": way.rows, "UNITS": way.units, "CHUNK": chunk}
    shape |= {"AHEAD": min(way.ahead, n_parts), "SUMS": way.n_sums, **flags}
    shape |= {"IN_DATA": way.meeting != "counter", "FIRSTS": way.meeting == "first data"}

    def steps(first: int, last: int, **options: Any) -> None:
        kernel[grid](
            *arrays, counters, n_batch, *numbers, first, last, **shape, **options, num_warps=way.warps
        )

    if not triton_ready.is_interpreted() or grid == (1, 1):
        steps(0, n_steps, WAITS=True, launch_cooperative_grid=True)
        return
    for step in range(n_steps) if name == "gru_forward" else reversed(range(n_steps)):
        steps(step, step + 1, WAITS=False)


gru_scan: Callable[..., tuple[Tensor, Tensor]] = GRUScan.apply  # which torch declares no types for
