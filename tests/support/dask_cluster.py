"""A real Dask scheduler and its workers, each a process of this machine."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gru_audio.evaluation.evaluate import ClipMeasured, ClipTask
from gru_audio.evaluation.left_out import LeftOut
from gru_audio.evaluation.results import ClipResult

PATIENCE_S = 60
_DASK = "import runpy, sys; sys.argv[0] = 'dask'; runpy.run_module('dask', run_name='__main__')"


@dataclass
class Cluster:
    """A scheduler, and the workers that were started for it."""

    address: str
    folder: Path
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def living(self) -> list["subprocess.Popen[bytes]"]:
        """Those that have not ended."""
        return [worker for worker in self.workers if worker.poll() is None]

    def add_worker(self, before: str = "") -> "subprocess.Popen[bytes]":
        """Start a worker in an empty folder of its own; `before` is run in it first."""
        work = self.folder / f"worker-{len(self.workers)}"
        work.mkdir()
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
        self.workers.append(_started(before, work, "worker", self.address, *options))
        return self.workers[-1]


@contextmanager
def dask_cluster(folder: Path, n_workers: int) -> Iterator[Cluster]:
    """A scheduler on a free port of the loopback, with workers that have answered it."""
    from distributed import Client

    told = folder / "scheduler.json"
    scheduler = _started(
        "", folder, "scheduler", "--host", "127.0.0.1", "--port", "0",
        "--no-dashboard", "--scheduler-file", str(told),
    )  # fmt: skip
    cluster = Cluster("", folder)
    try:
        cluster.address = _address(told)
        for _ in range(n_workers):
            cluster.add_worker()
        if n_workers:
            with Client(cluster.address, set_as_default=False) as client:
                client.wait_for_workers(n_workers, timeout=PATIENCE_S)
        yield cluster
    finally:
        for process in (*cluster.workers, scheduler):
            process.kill()
            process.wait()


def measured_simply(task: ClipTask) -> ClipMeasured:
    """In place of `evaluate`'s, whose packages take each worker many seconds to import and compile."""
    clip, made = task.original, {"voice": task.made.audio, "network": task.made.raw}
    level = {system: float(np.abs(audio).mean()) for system, audio in made.items()}
    results = [ClipResult(clip.name, clip.speaker, system, {"level": level[system]}, 0.5) for system in made]
    return ClipMeasured(
        results, made if task.keeps_audio else {}, [LeftOut(clip.name, "voice", f"on {socket.gethostname()}")]
    )


def _started(before: str, folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", f"{before}\n{_DASK}", *arguments],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def _address(told: Path) -> str:
    for _ in range(PATIENCE_S * 10):
        try:
            return str(json.loads(told.read_text())["address"])
        except (FileNotFoundError, ValueError):
            time.sleep(0.1)
    raise TimeoutError(f"no scheduler within {PATIENCE_S} s")
