"""Maps over tasks in several processes."""

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gru_audio.errors import GruAudioError

_LOOK_S = 1.0

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def map_in_order(
    function: Callable[[_Task], _Result], tasks: Iterable[_Task], jobs: int | None = None
) -> Generator[_Result, None, None]:
    """Results of a function of each task, in order, as soon as they are there.

    Close the generator where you stop early; the tasks under way are then ended.

    Args:
        function: a module's function, so that it can be sent to a process; likewise the tasks.
        tasks: what to do; of a generator only as many are taken as can be under way, from a thread of joblib's. One
            that names files has a method `absolute`, which gives it for a process that works in another folder.
        jobs: processes; by default one for each CPU core. With 1 the work is done in this process. Within
            `cluster.on_cluster` its workers do it.

    Raises:
        GruAudioError: a process died; what the function raises is raised here as it is.
    """
    import joblib

    # joblib divides the cores' threads among its processes, so that one for each core has one thread.
    n_jobs = jobs or joblib.cpu_count()
    if isinstance(tasks, Sized):
        n_jobs = max(1, min(n_jobs, len(tasks)))
    called = function if n_jobs == 1 else _Here(function, _folder())
    pool = joblib.Parallel(
        n_jobs=n_jobs,
        prefer="processes",
        return_as="generator",
        batch_size=1,
        initializer=_end_with_the_parent,
        initargs=(os.getpid(),),
    )
    with _interrupts_held() if n_jobs > 1 else nullcontext():
        results = pool(joblib.delayed(called)(task) for task in tasks)
    try:
        for result in results:  # noqa: UP028 - `yield from` would close `results` outside the filter below
            yield result
    except BrokenProcessPool as error:
        raise GruAudioError(
            f"a worker process died, most likely for lack of memory (there were {n_jobs}); "
            "run again with fewer --jobs"
        ) from error
    finally:
        with warnings.catch_warnings():  # joblib deplores the tasks that a caller who stops early leaves
            warnings.simplefilter("ignore")
            results.close()


@dataclass(frozen=True)
class _Here(Generic[_Task, _Result]):
    """A function that is called in this process's folder: joblib's processes outlive a call, and keep the first's."""

    function: Callable[[_Task], _Result]
    folder: str

    def __call__(self, task: _Task) -> _Result:
        if self.folder != _folder():
            with suppress(OSError):
                os.chdir(self.folder)
        return self.function(task)


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - as the system gives it
    except OSError:
        return ""  # it is gone; absolute paths can still be followed


def without_folder(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a task's function is on another machine, which need not have this process's folder."""
    return function.function if isinstance(function, _Here) else function


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C in this thread, and for good in the processes and threads that it starts.

    A terminal's Ctrl-C goes to all processes. A worker that still imports what it needs would answer with a traceback;
    the parent, which learns of it at the end of this, ends it.
    """
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    # The helpers that are started with the first process let interrupts through again, so they are started before:
    # Python's, and joblib's own, which may move.
    resource_tracker.ensure_running()
    with suppress(ImportError):
        from joblib.externals.loky.backend.resource_tracker import ensure_running

        ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_the_parent(parent: int) -> None:
    """In a process of joblib's: end it where the parent is killed. It would wait five minutes for more to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `_interrupts_held`; Windows has no masks

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
