"""Ctrl-C, SIGTERM and SIGHUP as a request that long work looks at when it can stop cleanly."""

import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_ECHO_S = 5.0  # within which a launcher passes on to its processes what the terminal has told them already

_HANG_UP = getattr(signal, "SIGHUP", None)  # not on Windows

STOP_SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, _HANG_UP) if number is not None)


class StopRequest:
    """True once one of `STOP_SIGNALS` has come."""

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
    """Catch the first of `STOP_SIGNALS` inside the block; a second one acts as it would have outside.

    But for SIGHUP: a terminal that closes may say so several times, and nobody is there to insist. Where it is
    ignored from the start, as under nohup, it stays so. In a thread beside the main one nothing is caught.

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
        if number == _HANG_UP:
            _let_go_of_a_closed_terminal()
        elif not with_echo:
            signal.signal(number, before[number])
        elif time.monotonic() - came_at > _ECHO_S and not request.is_final:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    for number in _stop_signals_here():
        if number != _HANG_UP or signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        for caught, handler in before.items():
            signal.signal(caught, signal.SIG_IGN if request.is_final else handler)


@contextmanager
def end_at_once_on_signals() -> Iterator[None]:
    """Let `STOP_SIGNALS` end the process inside the block, which waits where Python's handlers do not get their turn.

    There must be nothing yet that an end would have to clean up.
    """
    waited_for = [number for number in _stop_signals_here() if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, signal.SIG_DFL) for number in waited_for}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_signals_here() -> tuple[signal.Signals, ...]:
    """`STOP_SIGNALS`, but for a thread beside the main one, to which Python gives none."""
    return STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ()


def leave_signals_to_the_parent() -> None:
    """For a worker process: a terminal's signals reach the whole group, but the parent alone ends its workers."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


def _let_go_of_a_closed_terminal() -> None:
    """Let what is printed from now on go nowhere, where it would be an error that ends the work."""
    for stream in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)
