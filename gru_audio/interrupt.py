"""Ctrl-C and SIGTERM as a request that long work looks at when it can stop cleanly."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StopRequest:
    """True once SIGINT or SIGTERM has come."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self.signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Catch the first SIGINT or SIGTERM inside the block; a second one acts as it would have outside."""
    request = StopRequest()
    before: dict[int, Any] = {}

    def note(number: int, _frame: Any) -> None:
        request.signal_number = number
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)


def leave_signals_to_the_parent(_worker: int = 0) -> None:
    """For a worker process: Ctrl-C reaches the whole group, but the parent alone decides when workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
