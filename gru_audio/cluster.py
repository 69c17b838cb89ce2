"""The workers of a Dask cluster in the place of this machine's processes: `map_in_order` within `on_cluster`.

joblib's Dask backend sends the tasks. Dask gives a dead worker's task to another; a task's files are written
atomically and depend on nothing but the task, so that it does no harm if one is done again.
"""

import contextlib
import functools
import importlib
import logging
import platform
import re
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

import joblib
from joblib._dask import DaskDistributedBackend  # where it has been since 2018; joblib names no other place

from gru_audio.errors import ClusterError, first_line
from gru_audio.extras import require
from gru_audio.parallel import without_folder
from gru_audio.progress import NoteCallback, ignore_note

if TYPE_CHECKING:
    from distributed import Client

_PATTERN = re.compile(r"tcp://[^\s/]+:\d{1,5}")
ANSWER_S, WORKERS_S, LOOK_S = 10, 60, 5
"""How long a cluster is waited for, and its workers; how often it is looked at while it works."""

_AHEAD = 256
_PACKAGES = ("gru_audio", "numpy", "soxr", "soundfile", "joblib", "distributed")
"""Whose versions a result depends on, or whether it arrives."""


@contextlib.contextmanager
def on_cluster(address: str, note: NoteCallback = ignore_note) -> Iterator[None]:
    """Let the workers of a cluster do what is mapped by `map_in_order` in this block.

    Whatever files the tasks name must lie where all of them see them, under the same absolute path.

    Args:
        address: the scheduler's, as in `tcp://10.0.0.1:8786`.
        note: told when all workers are gone, and when there are some again.

    Raises:
        ClusterError: the address is none, nobody answers there, the scheduler or a worker has other versions than this
            process, no worker comes within a minute, or the cluster is lost.
        MissingPackageError: the extra `cluster` is not installed.
    """
    require("cluster", "--cluster")
    if not _PATTERN.fullmatch(address):
        raise ClusterError(
            f"{address!r} is no scheduler's address; give what `dask scheduler` prints, as in tcp://10.0.0.1:8786"
        )
    import dask
    import distributed
    from distributed.comm import CommClosedError

    quiet = {
        "distributed.admin.large-graph-warning-threshold": "1 TiB"
    }  # a clip's samples are no large graph
    with _without_dasks_own_words(), dask.config.set(quiet):
        try:
            client = distributed.Client(address, timeout=ANSWER_S, set_as_default=False)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise ClusterError(
                f"{address}: no scheduler answers ({first_line(error)}); start one with `dask scheduler`, and check "
                "the address and the firewall"
            ) from error
        with client:
            try:
                _require_workers(client, address)
                watch = _Watch(client, note)
                with joblib.parallel_config(backend=_Backend(client=client)), watch:
                    yield
            except distributed.KilledWorker as error:
                raise ClusterError(
                    f"{address}: a task was given up when {_deaths(error)} workers had died of it, most likely for "
                    "lack of memory; start workers with more memory or fewer threads, then run again"
                ) from error
            except (CancelledError, CommClosedError, TimeoutError) as error:
                raise ClusterError(
                    f"{address}: the scheduler was lost ({first_line(error)}); start it again, then run again"
                ) from error


class _Backend(DaskDistributedBackend):  # type: ignore[misc]
    """joblib's, which waits for ever for a task that Dask gave up, and sends ahead by the workers of the beginning."""

    def submit(self, func: Any, callback: Callable[[Any], Any]) -> "Future[Any]":
        func.items = [
            (_run, (_versions(), without_folder(function), *map(_absolute, arguments)), named)
            for function, arguments, named in func.items
        ]
        future: Future[Any] = super().submit(func, callback)

        def tell(done: "Future[Any]") -> None:
            if (error := done.exception()) is not None:
                callback(error)

        future.add_done_callback(tell)
        return future

    def retrieve_result_callback(self, out: Any) -> Any:
        if isinstance(out, BaseException):
            raise out
        return super().retrieve_result_callback(out)

    def effective_n_jobs(self, n_jobs: int) -> int:
        return max(_AHEAD, int(super().effective_n_jobs(n_jobs)))  # more workers may come


class _Watch:
    """Tells when all workers are gone; what is under way then waits for new ones."""

    def __init__(self, client: "Client", note: NoteCallback) -> None:
        from tornado.ioloop import PeriodicCallback

        self._client, self._note, self._are_gone = client, note, False
        self._timer = PeriodicCallback(self._look, LOOK_S * 1000)

    def __enter__(self) -> None:
        self._client.loop.add_callback(self._timer.start)

    def __exit__(self, *_: object) -> None:
        self._client.loop.add_callback(self._timer.stop)

    async def _look(self) -> None:
        are_gone = not await self._client.scheduler.ncores()
        if are_gone != self._are_gone:
            self._note("no worker is left; waiting for new ones" if are_gone else "there are workers again")
        self._are_gone = are_gone


def _require_workers(client: "Client", address: str) -> None:
    """Wait for a first worker, and compare everybody's versions with ours.

    Raises:
        ClusterError: there is none, or one differs.
    """
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError as error:
        raise ClusterError(
            f"{address}: has no workers after {WORKERS_S} s; start some with `dask worker {address}`"
        ) from error
    told = {"the scheduler": _asked(functools.partial(client.run_on_scheduler, _versions))}
    answers = client.run(_versions, on_error="return")
    told |= {f"the worker {worker}": answer for worker, answer in answers.items()}
    for who, answer in told.items():
        if isinstance(answer, BaseException):
            raise ClusterError(
                f"{who} cannot run gru-audio ({first_line(answer)}); {_same_everywhere()}"
            ) from answer
        _require_equal(answer, who, _versions())


def _asked(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # whatever is wrong there
        return error


def _absolute(task: Any) -> Any:
    return task.absolute() if hasattr(task, "absolute") else task


def _run(versions: Mapping[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task on a worker, which may have come after the others were asked for their versions.

    Raises:
        ClusterError: it has others than `versions`, or lacks a package.
    """
    us = f"a worker on {socket.gethostname()}"
    _require_equal(_versions(), us, versions)
    try:
        return function(*arguments)
    except ModuleNotFoundError as error:
        raise ClusterError(f"{us} has no {error.name}; {_same_everywhere()}") from error


def _require_equal(theirs: Mapping[str, str], who: str, ours: Mapping[str, str]) -> None:
    """Make sure that versions are equal.

    Raises:
        ClusterError: names the first that differs.
    """
    for name, version in ours.items():
        if theirs[name] != version:
            raise ClusterError(f"{who} has {name} {theirs[name]}, not {version}; {_same_everywhere()}")


@functools.cache
def _versions() -> Mapping[str, str]:
    modules = {name: importlib.import_module(name) for name in _PACKAGES}
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, **{name: module.__version__ for name, module in modules.items()}}


def _same_everywhere() -> str:
    return "install the same versions on all machines: pip install 'gru-audio[cluster]'"


def _deaths(error: Exception) -> int:
    return 1 + int(getattr(error, "allowed_failures", 0))


@contextlib.contextmanager
def _without_dasks_own_words() -> Iterator[None]:
    """Dask logs what it does on stderr, many lines of it; here errors are raised and the rest is told in a line."""
    names = ("distributed", "distributed.client", "tornado", "tornado.application", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="distributed")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
