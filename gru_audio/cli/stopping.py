"""Signals that end a command: each as Ctrl-C does, so that no file is left half written and no process alone."""

import signal
from typing import Any, NoReturn

_BY_SIGNAL = 128  # and its number is what a shell reports


def catch_signals() -> None:
    """Let SIGTERM and SIGHUP raise `KeyboardInterrupt`, and SIGINT where it was ignored.

    SIGHUP that is ignored from the start, as under nohup, stays so.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts the background jobs of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _stop)


def stop_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The signal that ended a command: the error, or its cause.

    Others' C code that goes on in spite of a signal, such as numba's, is told of by a SystemError.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error


def stop_code(stop: KeyboardInterrupt) -> int:
    """The exit code of a command that a signal ended."""
    return _BY_SIGNAL + (stop.args[0] if stop.args else signal.SIGINT)


def _stop(number: int, _frame: Any) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # `timeout`, for one, sends it twice
    raise KeyboardInterrupt(number)
