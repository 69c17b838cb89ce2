"""Work on a GPU captured once as a CUDA graph, and replayed: one launch in place of hundreds or thousands.

What is captured reads and writes tensors that stay where they are. What it is given is copied into such; whatever else
changes from one time to the next is a tensor, too, or part of the key under which a capture is kept.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from gru_audio.errors import first_line
from gru_audio.progress import NoteCallback, ignore_note

Outcome = tuple[Tensor, ...]
Work = Callable[[Sequence[Tensor]], Outcome]
Record = Callable[[Callable[[], Outcome]], Callable[[], Outcome]]
"""Takes work and gives what does it again; it does not do it."""

_WARM_UPS = 3  # in which kernels are compiled and chosen, and memory is found
_MOST_KEPT = 2  # of captures: each has its own memory


def nothing() -> None:
    """For work that leaves nothing half done."""


class Replay:
    """Does some work again and again: the first few times as it is, then by replaying it.

    Where it cannot be captured, that is told in one line, and all of it is done as it is.
    """

    def __init__(self, record: Record | None, what: str, tell: NoteCallback = ignore_note) -> None:
        """Capture with `record`; None captures nothing. `what` is the work's name, in plural."""
        self._record, self._what, self.tell = record, what, tell
        self._n_done: dict[Hashable, int] = {}
        self._kept: dict[Hashable, tuple[list[Tensor], Callable[[], Outcome]]] = {}

    def __call__(
        self, key: Hashable, given: Sequence[Tensor], work: Work, after_failure: Callable[[], None] = nothing
    ) -> Outcome:
        """Do it once.

        Args:
            key: of times that do the same operations; the shapes of what is given are part of it anyway.
            given: what it works on, on the device.
            work: what is done; its results are overwritten the next time.
            after_failure: puts in order what a capture that failed left half done.
        """
        if self._record is None:
            return work(given)
        key = key, *((part.shape, part.dtype) for part in given)
        n_done = self._n_done.setdefault(key, 0)
        self._n_done[key] += 1
        if n_done < _WARM_UPS:
            return work(given)
        if key not in self._kept:
            held = [part.clone() for part in given]
            try:
                replay = self._record(lambda: work(held))
            except RuntimeError as error:
                self._record = None
                self.tell(f"{self._what} are not captured as a CUDA graph: {first_line(error)}")
                after_failure()
                return work(given)
            if len(self._kept) == _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = held, replay
        held, replay = self._kept[key]
        for ours, new in zip(held, given, strict=True):
            ours.copy_(new)
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
