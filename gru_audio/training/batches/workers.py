"""Processes that work ahead, and hand over their results in order, each through a pipe of its own.

Nothing lies in shared memory, so that none can run out; a process that is gone is noticed at once, and none outlives
the one that started it: at its end the pipes break, and whoever writes into one ends as well.
"""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from gru_audio.errors import GruAudioError
from gru_audio.training.interrupt import StopRequest, leave_signals_to_the_parent

if sys.platform == "linux":
    import fcntl

_SET_PIPE_SIZE = 1031  # Linux's F_SETPIPE_SZ
_PIPE_BYTES = 1 << 20  # as much as Linux grants any user: a batch or two wait in it
_LOOK_S = 0.2  # how often a wait looks at a request to stop
GRACE_S = 3.0
"""In which what was waited for may still come, after a request to stop."""

_END_S = 2.0  # that a process has to end when it is asked to


class WorkerLostError(Exception):
    """A process is gone, or could not be started; the text is a clause that says how."""


class Workers:
    """Processes of which each computes every n-th result; use it as a context manager."""

    def __init__(self, work: Callable[[int], Any], tasks: range, n_workers: int) -> None:
        """Start them.

        Args:
            work: what is computed of each task; a `GruAudioError` that it raises becomes the result.
            tasks: numbers, in the order in which results are wanted.
            n_workers: how many processes.

        Raises:
            WorkerLostError: the system starts no more processes.
        """
        self._ends: list[Any] = []  # what Windows has for a Connection is another class
        self._processes: list[Any] = []
        self._n_taken = 0
        try:
            for rank in range(n_workers):
                self._start(work, tasks[rank::n_workers])
        except OSError as error:
            self.close()
            raise WorkerLostError(f"cannot be started ({error.strerror})") from error

    def take(self, stopped: StopRequest) -> Any:
        """The next result; None where a request to stop ended the wait for it.

        Raises:
            WorkerLostError: the process that computes it is gone.
        """
        turn = self._n_taken % len(self._ends)
        end, give_up_at = self._ends[turn], float("inf")
        while not end.poll(_LOOK_S):  # True at the end of a pipe, too
            if stopped:
                give_up_at = min(give_up_at, time.monotonic() + GRACE_S)
            if time.monotonic() > give_up_at:
                return None
        try:
            result = end.recv()
        except (EOFError, OSError) as error:
            self._processes[turn].join(_END_S)
            code = self._processes[turn].exitcode
            raise WorkerLostError(
                f"ended ({f'signal {-code}' if code and code < 0 else f'exit code {code}'})"
            ) from error
        self._n_taken += 1
        return result

    def close(self) -> None:
        """End the processes."""
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(_END_S)
            if process.is_alive():
                process.kill()
                process.join()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, work: Callable[[int], Any], tasks: range) -> None:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        self._ends.append(ours)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                fcntl.fcntl(theirs.fileno(), _SET_PIPE_SIZE, _PIPE_BYTES)
        try:
            process = multiprocessing.Process(target=_run, args=(work, tasks, ours, theirs), daemon=True)
            process.start()
        finally:
            theirs.close()
        self._processes.append(process)


def _run(work: Callable[[int], Any], tasks: range, ours: Connection, theirs: Connection) -> None:
    """In a process: compute results and hand them over."""
    leave_signals_to_the_parent()
    ours.close()  # or this process would keep its own pipe from breaking
    try:
        for task in tasks:
            try:
                result = work(task)
            except GruAudioError as error:
                result = error
            theirs.send(result)
    except BrokenPipeError:
        pass  # whoever wanted them is gone
    except Exception:  # the parent meets it when it computes the result itself, and tells
        os._exit(1)
