"""Programs of the GRU's kernels that run at once and wait for each other, as on a GPU: each in a process of its own."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gru_audio.network import triton_ready
from gru_audio.network.gpu.gru import Meeting, ScanWay, launch

pytest.importorskip("triton", minversion="3.9")

N_STEPS, N_STREAMS, SIZE = 3, 17, 64
GRID = (2, 2)  # of units, of streams


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that share memory are forked")
@pytest.mark.parametrize("meeting", ["data", "first data"])
def test_programs_that_wait_for_each_other_give_torchs_gru(meeting: Meeting) -> None:
    way = ScanWay(rows=16, units=32, ahead=2, meeting=meeting)
    torch.manual_seed(0)
    cell, inputs = nn.GRU(8, SIZE), torch.randn(N_STEPS, N_STREAMS, 8, requires_grad=True)
    above = torch.randn(N_STEPS, N_STREAMS, SIZE) / SIZE
    expected, _ = cell(inputs)
    (expected_gradient,) = torch.autograd.grad(expected, inputs, above)
    w_ih, w_hh, b_ih, b_hh = (weight.detach() for weight in cell.parameters())
    outside = b_ih + torch.cat([b_hh[: 2 * SIZE], torch.zeros(SIZE)])

    gates = shared((inputs.detach() @ w_ih.T + outside).half())
    weight, bias, inner = shared(w_hh.half()), shared(b_hh[2 * SIZE :].clone()), unwritten(N_STEPS, SIZE)
    hidden, state = unwritten(N_STEPS + 1, SIZE), shared(torch.zeros(N_STREAMS, SIZE))
    hidden[0] = 0
    at_once("gru_forward", way, (gates, weight, bias, hidden, inner, state), (), SAVES=True)
    grad_gates, grad_inner = unwritten(N_STEPS, 3 * SIZE), unwritten(N_STEPS, SIZE)
    carried = shared(torch.zeros(N_STREAMS, SIZE))
    arrays = (gates, weight, hidden, inner, shared(above.half()), carried, grad_gates, grad_inner)
    at_once("gru_backward", way, arrays, (N_STEPS,))

    for ours, theirs in ((hidden[1:], expected), (grad_gates.float() @ w_ih, expected_gradient)):
        assert (ours.float() - theirs).norm() < 0.01 * theirs.norm()


def shared(tensor: Tensor) -> Tensor:
    made: Tensor = tensor.share_memory_()  # type: ignore[no-untyped-call]
    return made


def unwritten(n_steps: int, width: int) -> Tensor:
    made = torch.empty(n_steps, N_STREAMS, width, dtype=torch.float16)
    made.view(torch.int16).fill_(-1)
    return shared(made)


def at_once(
    name: Any, way: ScanWay, arrays: tuple[Tensor, ...], numbers: tuple[int, ...], **flags: bool
) -> None:
    """One launch, whose programs are processes; each must end well."""
    children = []
    for x in range(GRID[0]):
        for y in range(GRID[1]):
            if child := os.fork():
                children.append(child)
                continue
            status = 1
            try:
                become_program(x, y)
                launch(name, way, N_STREAMS, SIZE, N_STEPS, arrays, numbers, **flags)
                status = 0
            finally:
                os._exit(status)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)


def become_program(x: int, y: int) -> None:
    """From now on this process's launches are of that program alone, and are waited in as on a GPU."""
    from triton.runtime import interpreter

    builder, one_of = interpreter.interpreter_builder, interpreter.InterpretedFunction.__getitem__
    set_dim, set_index = builder.set_grid_dim, builder.set_grid_idx
    builder.set_grid_dim = lambda *_: set_dim(*GRID, 1)
    builder.set_grid_idx = lambda *_: set_index(x, y, 0)
    interpreter.InterpretedFunction.__getitem__ = lambda self, _: one_of(self, (1, 1))
    # What is copied back would be older than what others wrote since.
    interpreter.GridExecutor._restore_args_dev = lambda *_: None
    triton_ready.is_interpreted = lambda: False
