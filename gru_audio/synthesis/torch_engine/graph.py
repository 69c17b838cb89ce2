"""Work that is done many times over on the same tensors, captured once as a CUDA graph."""

from collections.abc import Callable
from threading import Lock

import torch

_CAPTURING = Lock()  # torch captures on one stream, whichever thread asks


def replayable(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """What does the same as `work`; on a CUDA GPU one launch instead of one for each operation.

    Args:
        work: reads and writes tensors that stay where they are, in place, and does the same operations
            whatever they hold: it asks the device for no value and keeps no count in Python. On a GPU it is
            run once now, as a warm-up, and recorded once; what those runs leave in its tensors is to be
            overwritten before the first replay.
        device: of its tensors.

    Returns:
        `work` itself on any device but a CUDA GPU.
    """
    if device.type != "cuda":
        return work
    with _CAPTURING, torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()  # kernels and workspaces are loaded at their first use, which cannot be recorded
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads work meanwhile
            work()
    return graph.replay
