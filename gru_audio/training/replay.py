"""A training step captured once as a CUDA graph, and replayed: one launch in place of thousands.

What is captured reads and writes tensors that stay where they are. Batches are copied into such; whatever else changes
from step to step is a tensor, too, or part of the key under which a capture is kept.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from gru_audio.progress import NoteCallback, ignore_note
from gru_audio.training.batches.batch import Batch

Outcome = tuple[Tensor, ...]
Step = Callable[[Batch[Tensor]], Outcome]
Record = Callable[[Callable[[], Outcome]], Callable[[], Outcome]]
"""Takes work and gives what does it again; it does not do it."""

_WARM_UP_STEPS = 3  # in which kernels are compiled and chosen, and memory is found
_MOST_KEPT = 2  # of captures: each has its own memory


class Replay:
    """Does the steps of a run: the first few as they are, the others by replaying them.

    Where a step cannot be captured, it is told in one line, and all are done as they are.
    """

    def __init__(self, record: Record | None, tell: NoteCallback = ignore_note) -> None:
        """Capture with `record`; None captures nothing."""
        self._record, self.tell = record, tell
        self._n_done: dict[Hashable, int] = {}
        self._kept: dict[Hashable, tuple[Batch[Tensor], Callable[[], Outcome]]] = {}

    def __call__(
        self, key: Hashable, batch: Batch[Tensor], step: Step, after_failure: Callable[[], None]
    ) -> Outcome:
        """Do one step.

        Args:
            key: of steps that do the same operations; the batch's shape is part of it anyway.
            batch: on the device.
            step: what is done; its results are overwritten by the next one.
            after_failure: puts in order what a capture that failed left half done.
        """
        if self._record is None:
            return step(batch)
        key = key, batch.target.shape, batch.mel.shape
        n_done = self._n_done.setdefault(key, 0)
        self._n_done[key] += 1
        if n_done < _WARM_UP_STEPS:
            return step(batch)
        if key not in self._kept:
            held = batch.map(torch.clone)
            try:
                replay = self._record(lambda: step(held))
            except RuntimeError as error:
                self._record = None
                self.tell(f"training steps are not captured as a CUDA graph: {str(error).splitlines()[0]}")
                after_failure()
                return step(batch)
            if len(self._kept) == _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = held, replay
        held, replay = self._kept[key]
        for ours, given in zip(held, batch, strict=True):
            ours.copy_(given)
        return replay()

    def forget(self) -> None:
        """Capture anew: tensors that were captured are no longer those that count."""
        self._n_done.clear()
        self._kept.clear()


def recorder(device: torch.device) -> Record | None:
    """How work is captured on a device; None where nothing is."""
    return record_graph if device.type == "cuda" and torch.version.hip is None else None


def record_graph(work: Callable[[], Outcome]) -> Callable[[], Outcome]:
    """Capture work as a CUDA graph.

    Raises:
        RuntimeError: it waits for the device, or does what else cannot be captured.
    """
    torch.cuda.synchronize()
    graph: Any = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outcome = work()

    def replay() -> Outcome:
        graph.replay()
        return outcome

    return replay
