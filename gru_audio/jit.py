"""How this package compiles its loops with numba."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """A decorator: compile a loop that needs no interpreter's lock, and keep the machine code on disk.

    numba keeps it beside the source or in the user's cache folder; where neither can be written, as for a
    user without a home in a container, the loop is compiled anew in each process.

    Args:
        options: of numba.njit, such as `fastmath`.
    """

    def decorate(function: _Function) -> _Function:
        try:
            return cast("_Function", njit(cache=True, nogil=True, **options)(function))
        except RuntimeError:  # "no locator available for file"
            return cast("_Function", njit(nogil=True, **options)(function))

    return decorate
