"""Processes that prepare batches: whatever happens to them, the same batches come, and every wait ends."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.runs import is_running, wait_for

from gru_audio.errors import DatasetError
from gru_audio.training.batches import workers as workers_module
from gru_audio.training.batches.workers import WorkerLostError, Workers
from gru_audio.training.interrupt import StopRequest, stop_on_signals

# From 3.12 on Python warns of a fork while torch has threads; the workers use none of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.timeout(180),
]
NEVER = StopRequest()


def large(step: int) -> NDArray[np.int64]:
    return np.full(1_000_000, step)


def fail_at_three(step: int) -> int:
    if step == 3:
        raise DatasetError("a.safetensors: damaged; make it again")
    return step


def die_at_three(step: int) -> int:
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step


def run_out_of_memory(step: int) -> int:
    raise MemoryError


def sleep_for_good(step: int) -> int:
    time.sleep(1_000)
    return step


def own_id(step: int) -> int:
    return os.getpid()


@contextmanager
def soon(action: object, seconds: float = 0.3) -> Iterator[None]:
    timer = threading.Timer(seconds, action)  # type: ignore[arg-type]
    timer.start()
    try:
        yield
    finally:
        timer.join()


def children_of(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("n_workers", [1, 3])
def test_results_come_in_order(n_workers: int) -> None:
    with Workers(large, range(5, 12), n_workers) as workers:
        for step in range(5, 12):
            np.testing.assert_array_equal(workers.take(NEVER), large(step))


def test_an_error_of_ours_is_a_result() -> None:
    with Workers(fail_at_three, range(5), 2) as workers:
        assert [workers.take(NEVER) for _ in range(3)] == [0, 1, 2]
        error = workers.take(NEVER)
        assert isinstance(error, DatasetError)
        assert str(error) == "a.safetensors: damaged; make it again"


@pytest.mark.parametrize(("work", "says"), [(die_at_three, "signal 9"), (run_out_of_memory, "exit code 1")])
def test_a_process_that_is_gone_is_noticed(
    work: object, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with Workers(work, range(3, 9), 1) as workers, pytest.raises(WorkerLostError, match=f"ended .{says}"):  # type: ignore[arg-type]
        workers.take(NEVER)
    assert capfd.readouterr() == ("", "")


def test_a_system_that_starts_no_more_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> object:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(multiprocessing, "Pipe", refuse)
    with pytest.raises(WorkerLostError, match=r"cannot be started \(Too many open files\)"):
        Workers(own_id, range(3), 1)


def test_a_request_to_stop_ends_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "GRACE_S", 0.2)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with stop_on_signals() as stopped, Workers(sleep_for_good, range(3), 2) as workers:
            with soon(lambda: os.kill(os.getpid(), signal.SIGTERM)):
                assert workers.take(stopped) is None
            assert stopped.signal_number == signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("work", [own_id, sleep_for_good, large])
def test_none_is_left(work: object) -> None:
    before = children_of(os.getpid())
    workers = Workers(work, range(10**6), 3)  # type: ignore[arg-type] # more than their pipes hold
    pids = children_of(os.getpid()) - before
    assert len(pids) == 3
    workers.close()
    assert not any(map(is_alive, pids))


def test_signals_of_the_terminal_leave_them_alone() -> None:
    with Workers(own_id, range(1_000_000), 1) as workers:
        pid = workers.take(NEVER)
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGHUP)
        time.sleep(0.1)
        assert {workers.take(NEVER) for _ in range(1_000)} == {pid}


def test_none_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "started"
    parent = os.fork()
    if not parent:
        workers = Workers(large, range(1_000_000), 3)
        told.touch()
        time.sleep(1_000)
        workers.close()
        os._exit(0)
    wait_for(told.exists)
    pids = children_of(parent)
    assert len(pids) == 3
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    wait_for(lambda: not any(map(is_running, pids)))
