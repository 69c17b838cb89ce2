"""How a GRU goes over time on a GPU: by the kernels here, or by cuDNN. What is faster is tried once for each size.

The kernels must first give what cuDNN gives in float32. Where they do not, or do not compile, cuDNN it is.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gru_audio.network import triton_ready
from gru_audio.network.cell import run_cell
from gru_audio.network.gpu.gru import TYPES, ScanWay, run_gru

WAYS = (
    ScanWay(16, 32, 9, 4, "data"),
    ScanWay(16, 32, 9, 4, "first data"),
    ScanWay(16, 32, 3, 4, "data"),
    ScanWay(16, 32, 3, 4, "counter"),
    ScanWay(64, 16, 1, 4, "counter"),
)
_AT_ONCE = 2  # programs of a multiprocessor, where its shared memory has room for both
_INPUTS = 64  # of a trial
_LARGEST_ERROR = 0.03  # of the norm, of bf16 against float32


class ScanChoice(NamedTuple):
    """What was tried.

    Attributes:
        way: the fastest of the kernels' ways; None: cuDNN.
        milliseconds: of each that gave the right result, forward and back; `"cuDNN"` is one.
        refused: why the others were not taken, each as a clause.
    """

    way: ScanWay | None
    milliseconds: dict[str, float]
    refused: dict[str, str]


def way_of(cell: nn.Module, inputs: Tensor) -> ScanWay | None:
    """How to run a cell on inputs (B, ..) on a GPU; None: as on any device."""
    if inputs.device.type != "cuda" or not isinstance(cell, nn.GRU) or not torch.is_autocast_enabled("cuda"):
        return None
    numbers = torch.get_autocast_dtype("cuda")
    if numbers not in TYPES:
        return None
    return choose(len(inputs), cell.hidden_size, numbers, inputs.device).way


@functools.cache
def choose(n_batch: int, size: int, numbers: torch.dtype, device: torch.device) -> ScanChoice:
    """Try all ways for a batch B and a size H; takes some seconds, in which Triton compiles."""
    if reason := triton_ready.why_not(device):
        return ScanChoice(None, {}, {"all": reason})
    n_places = _AT_ONCE * torch.cuda.get_device_properties(device).multi_processor_count
    return tried(WAYS, n_batch, size, numbers, device, n_places)


def tried(
    ways: tuple[ScanWay, ...],
    n_batch: int,
    size: int,
    numbers: torch.dtype,
    device: torch.device,
    n_places: int,
    n_steps: int = 100,
    n_runs: int = 3,
) -> ScanChoice:
    """Try ways, each in the best of some runs over some steps.

    No more than `n_places` programs can run at once, or fewer: a launch of too many is refused.
    """
    milliseconds, refused = dict[str, float](), dict[str, str]()
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng([]):
        trial = _Trial(n_batch, size, numbers, device, n_steps, n_runs)
        milliseconds["cuDNN"] = trial.milliseconds(lambda: run_cell(trial.cell, trial.inputs, None)[0])
        for way in ways:
            if not way.fits(size) or way.n_programs(n_batch, size) > n_places:
                n_programs = way.n_programs(n_batch, size)
                refused[str(way)] = (
                    f"{n_programs} programs do not run at once" if way.fits(size) else "H is not cut"
                )
                continue
            run = functools.partial(_run, way, trial)
            try:
                if (error := trial.error(run)) > _LARGEST_ERROR:
                    refused[str(way)] = f"its result is off by {error:.1%}"
                else:
                    milliseconds[str(way)] = trial.milliseconds(run)
            except Exception as error:  # whatever a compiler or a driver of another version may raise
                refused[str(way)] = triton_ready.failure(error)
    fastest = min(milliseconds, key=milliseconds.__getitem__)
    return ScanChoice(next((way for way in ways if str(way) == fastest), None), milliseconds, refused)


def _run(way: ScanWay, trial: "_Trial") -> Tensor:
    return run_gru(trial.cell, trial.inputs.transpose(0, 1), None, way)[0].transpose(0, 1)


class _Trial:
    """A GRU, what it reads, and what is to come out."""

    def __init__(
        self, n_batch: int, size: int, numbers: torch.dtype, device: torch.device, n_steps: int, n_runs: int
    ) -> None:
        self.numbers, self._device, self._n_runs = numbers, device, n_runs
        self.cell = nn.GRU(_INPUTS, size, batch_first=True).to(device)
        self.inputs = torch.randn(n_batch, n_steps, _INPUTS).to(device)
        self._above = (torch.randn(n_batch, n_steps, size) / size).to(device)
        hidden = self.cell(self.inputs)[0]
        self._expected = hidden.detach(), *self._gradients(hidden)

    def error(self, run: Callable[[], Tensor]) -> float:
        """The largest distance of states and gradients from float32's, as a share of their norm."""
        with torch.autocast(self._device.type, self.numbers):
            hidden = run()
        found = hidden.detach(), *self._gradients(hidden)
        shares = [
            float((ours.float() - theirs).norm() / theirs.norm())
            for ours, theirs in zip(found, self._expected, strict=True)
        ]
        return float("inf") if any(map(math.isnan, shares)) else max(shares)

    def milliseconds(self, run: Callable[[], Tensor]) -> float:
        """Of a run forward and back; the best of some."""
        best = float("inf")
        for _ in range(self._n_runs):
            self._wait()
            began = time.perf_counter()
            with torch.autocast(self._device.type, self.numbers):
                hidden = run()
            self._gradients(hidden)
            self._wait()
            best = min(best, time.perf_counter() - began)
        return best * 1e3

    def _gradients(self, hidden: Tensor) -> Any:
        return torch.autograd.grad(hidden, list(self.cell.parameters()), self._above.to(hidden.dtype))

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
