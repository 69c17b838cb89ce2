"""Loops in C in shares, on as many threads as torch has; ctypes lets go of the interpreter's lock meanwhile."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

_Result = TypeVar("_Result")
_MOST_THREADS = 1024


def in_shares(work: Callable[[int, int], _Result], size: int, whole: int = 1) -> list[_Result]:
    """Results of the parts of a work, side by side, one for each of torch's threads, as even as can be; in order.

    Args:
        work: does what lies from one place to before another.
        size: where the last part ends; the first begins at 0.
        whole: parts end at multiples of it, and at the end.
    """
    n_wholes = -(-size // whole)
    n_parts = max(1, min(torch.get_num_threads(), n_wholes))
    ends = [min(size, (i + 1) * n_wholes // n_parts * whole) for i in range(n_parts)]
    parts = list(zip([0, *ends], ends, strict=False))
    others = [_pool().submit(work, *part) for part in parts[1:]]
    return [work(*parts[0]), *(other.result() for other in others)]


@cache
def _pool() -> ThreadPoolExecutor:
    """Its threads begin as they are needed, and stay."""
    return ThreadPoolExecutor(_MOST_THREADS, "gru-audio-share")
