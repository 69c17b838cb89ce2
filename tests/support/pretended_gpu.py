"""A GPU that captures and replays, in CPU tensors."""

from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from gru_audio.synthesis.torch_engine import graph


class Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Stands in for a CUDA graph: `replay` does again what ran in its context, on the very same tensors.

    As on a GPU no Python runs in a replay, so that what Python decided at the capture stays decided.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():  # else a view, or done in place
                    old.copy_(new)

    def shape(self) -> list[Any]:
        """All that was done but for what the tensors held."""

        def form(leaf: Any) -> Any:
            return (leaf.dtype, tuple(leaf.shape), leaf.stride()) if isinstance(leaf, Tensor) else leaf

        return [(func, tree_map(form, args), tree_map(form, kwargs)) for func, args, kwargs, _ in self.calls]


class PretendedGpu:
    """Stands in for what graph.py takes from torch.cuda, and says in which order it was used."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.graphs: list[Recording] = []
        self.main, self.side = self._stream("main"), self._stream("side")

    def _stream(self, name: str) -> Any:
        return SimpleNamespace(wait_stream=lambda other: self.log.append(f"{name} waits"))

    def graph(self, recording: Recording, capture_error_mode: str) -> Recording:
        assert capture_error_mode == "thread_local", "other threads work meanwhile"
        self.log.append("capture")
        self.graphs.append(recording)
        return recording

    def stream(self, stream: Any) -> Any:
        assert stream is self.side
        self.log.append("on side")
        return nullcontext()


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> PretendedGpu:
    """From here on what these modules want replayed is captured as on a GPU."""
    pretended, replayable = PretendedGpu(), graph.replayable
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda: pretended.side)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: pretended.main)
    monkeypatch.setattr(torch.cuda, "stream", pretended.stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", pretended.graph)
    for module in modules:
        monkeypatch.setattr(module, "replayable", lambda work, device: replayable(work, torch.device("cuda")))
    return pretended
