"""Ctrl-C and SIGTERM as a request that long work looks at when it can stop cleanly."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ECHO_S = 5.0  # within which a launcher passes on to its processes what the terminal has told them already


class StopRequest:
    """True once SIGINT or SIGTERM has come."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.signal_number: int | None = None
        self.is_final = False

    def ignore_more(self) -> None:
        """Let no later signal end this process, which is about to end by itself and has something to say."""
        self.is_final = True

    def __bool__(self) -> bool:
        return self.signal_number is not None


@contextmanager
def stop_on_signals(*, with_echo: bool = False) -> Iterator[StopRequest]:
    """Catch the first SIGINT or SIGTERM inside the block; a second one acts as it would have outside.

    Args:
        with_echo: a launcher repeats what the terminal says: a second one soon after the first is the same one.
    """
    request = StopRequest()
    before: dict[int, Any] = {}
    came_at = 0.0

    def note(number: int, _frame: Any) -> None:
        nonlocal came_at
        if request.signal_number is None:
            request.signal_number, came_at = number, time.monotonic()
        if not with_echo:
            signal.signal(number, before[number])
        elif time.monotonic() - came_at > _ECHO_S and not request.is_final:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        for caught, handler in before.items():
            signal.signal(caught, signal.SIG_IGN if request.is_final else handler)


def leave_signals_to_the_parent(_worker: int = 0) -> None:
    """For a worker process: Ctrl-C reaches the whole group, but the parent alone decides when workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
