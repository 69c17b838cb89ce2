"""How the library tells whoever called it that loops are being compiled. It knows nothing of numba; see jit.py."""

import contextlib
from collections.abc import Callable, Iterator

_told: list[Callable[[bool], None]] = []


@contextlib.contextmanager
def compiling(told: Callable[[bool], None]) -> Iterator[None]:
    """Tell a caller, within this context, when loops are really compiled, not loaded from disk.

    Args:
        told: called with True when compiling begins and with False when it ends, in the thread that compiles;
            other threads that need a loop wait meanwhile.
    """
    _told.append(told)
    try:
        yield
    finally:
        _told.remove(told)


def tell(begins: bool) -> None:
    """Compiling begins, or has ended."""
    for told in tuple(_told):
        told(begins)
