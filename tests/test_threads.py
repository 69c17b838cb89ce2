"""Tasks in threads: order, what is reported, and how they end."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.threads import map_in_threads


def ignore(_index: int, _report: Progress) -> None: ...


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n_tasks", [0, 1, 3, 23])
def test_results_are_in_order(threads: int, n_tasks: int) -> None:
    def slow_at_first(task: int, _report: ProgressCallback) -> int:
        time.sleep(0.02 if task == 0 else 0)
        return task * task

    found = list(map_in_threads(slow_at_first, range(n_tasks), threads, ignore))
    assert found == [task * task for task in range(n_tasks)]


def test_so_many_tasks_are_under_way_together() -> None:
    lock, together, most = threading.Lock(), 0, 0
    meeting = threading.Barrier(3)

    def meet(task: int, _report: ProgressCallback) -> None:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        if task < 3:
            meeting.wait(60)  # none goes on before three are there
        with lock:
            together -= 1

    list(map_in_threads(meet, range(20), 3, ignore))
    assert most == 3


def test_a_slow_first_task_holds_no_other_back() -> None:
    """The first ends when the last has begun; were results waited for in order, it never would."""
    last_began = threading.Event()

    def run(task: int, _report: ProgressCallback) -> bool:
        if task == 29:
            last_began.set()
        return last_began.wait(60) if task == 0 else True

    assert all(map_in_threads(run, range(30), 2, ignore))


def test_reports_come_in_the_callers_thread() -> None:
    seen: list[tuple[int, float, bool]] = []

    def run(task: int, report: ProgressCallback) -> None:
        for done in (1, 2):
            report(Progress(done, 2))

    def show(index: int, report: Progress) -> None:
        seen.append((index, report.done, threading.current_thread() is threading.main_thread()))

    list(map_in_threads(run, range(4), 2, show))
    assert sorted(seen) == [(index, done, True) for index in range(4) for done in (1, 2)]


def test_an_error_ends_the_tasks_under_way() -> None:
    ended: list[type[BaseException]] = []
    other_began = threading.Event()

    def run(task: int, report: ProgressCallback) -> None:
        if task == 0:
            assert other_began.wait(60)
            raise ZeroDivisionError
        other_began.set()
        give_up = time.monotonic() + 60
        try:
            while time.monotonic() < give_up:
                report(Progress(0, 1))
                time.sleep(0.001)
        except CancelledError as error:
            ended.append(type(error))
            raise

    with pytest.raises(ZeroDivisionError):
        list(map_in_threads(run, range(50), 2, ignore))
    assert 1 <= len(ended) <= 4, "the other one, and what the free thread took up meanwhile"


def test_closing_ends_the_tasks_under_way() -> None:
    began: list[int] = []

    def run(task: int, report: ProgressCallback) -> int:
        began.append(task)
        give_up = time.monotonic() + 60
        while task and time.monotonic() < give_up:
            report(Progress(0, 1))
            time.sleep(0.001)
        return task

    results = map_in_threads(run, range(100), 2, lambda index, report: ignore_progress(report))
    assert next(results) == 0
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 30
    assert len(began) < 6
