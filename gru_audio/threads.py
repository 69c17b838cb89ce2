"""Maps over tasks in several threads, for work whose loops need no interpreter's lock."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from gru_audio.progress import Progress, ProgressCallback

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def map_in_threads(
    function: Callable[[_Task, ProgressCallback], _Result],
    tasks: Sequence[_Task],
    threads: int,
    progress: Callable[[int, Progress], None],
) -> Generator[_Result, None, None]:
    """Results of a function of each task, in order, as soon as they are there.

    Close the generator where you stop early. Then, after Ctrl-C and after an error, the tasks under way end
    at their next report.

    Args:
        function: what to do with a task; it reports its progress through the callback, now and then.
        tasks: what to do; a single one is done in the caller's thread.
        threads: how many tasks are under way together.
        progress: called in the caller's thread with a task's index and its report.

    Raises:
        Exception: what the function raises is raised here as it is.
    """
    if len(tasks) == 1:  # which may be shorter than the import of what a pool needs
        yield function(tasks[0], partial(progress, 0))
        return
    from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
    from queue import SimpleQueue
    from threading import Event

    events: SimpleQueue[tuple[int, Progress | Future[_Result]]] = SimpleQueue()
    stop, finished, waiting = Event(), dict[int, _Result](), iter(range(len(tasks)))

    def run(index: int) -> _Result:
        def report(inner: Progress) -> None:
            if stop.is_set():
                raise CancelledError
            events.put((index, inner))

        return function(tasks[index], report)

    def end(index: int, future: Future[_Result]) -> None:
        events.put((index, future))

    with ThreadPoolExecutor(threads) as pool:

        def begin(n_tasks: int) -> None:
            for index in islice(waiting, n_tasks):
                pool.submit(run, index).add_done_callback(partial(end, index))

        try:
            begin(2 * threads)  # so that no thread waits for the caller
            for wanted in range(len(tasks)):
                while wanted not in finished:
                    index, event = events.get()
                    if isinstance(event, Progress):
                        progress(index, event)
                    else:
                        finished[index] = event.result()
                        begin(1)
                yield finished.pop(wanted)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
