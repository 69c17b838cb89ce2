"""`--cluster`: a real Dask scheduler and workers do what this machine's processes would, with equal results."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.dask_cluster import PATIENCE_S, Cluster, dask_cluster, measured_simply
from support.small import small_config
from typer.testing import CliRunner, Result

from gru_audio import cluster as seam
from gru_audio.bench.cases import random_voice
from gru_audio.cli import app
from gru_audio.config import Config, PrepConfig
from gru_audio.data import shard_making
from gru_audio.data.prepare import prepare
from gru_audio.errors import ClusterError, OutputError
from gru_audio.parallel import map_in_order
from gru_audio.progress import Progress
from gru_audio.voice.voice import save_voice

CONFIG = Config(prep=PrepConfig(min_duration_s=0.25))
N_SHARDS = 24


N_WORKERS = 3


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask"), N_WORKERS) as started:
        yield started


@pytest.fixture
def dask(started: Cluster) -> Cluster:
    """With its three workers, whichever tests came before: where they are stolen, they come in any order."""
    while len(started.living) < N_WORKERS:
        started.add_worker()
    wait_for_workers(started, len(started.living))
    return started


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two clips a shard, one file that is no audio; named by a relative path."""
    monkeypatch.setattr(shard_making, "GROUP_FILES", 2)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("corpus/ann").mkdir(parents=True)
    for number in range(2 * N_SHARDS - 1):
        soundfile.write(f"corpus/ann/{number:02}.wav", 0.1 * rng.standard_normal(5_000), 16_000)
    Path("corpus/ann/bad.wav").write_text("words")
    return Path("corpus")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_nothing_is_lost(dask: Cluster, corpus: Path, tmp_path: Path) -> None:
    reports, victim = list[float](), dask.living[0]

    def kill_one(report: Progress) -> None:
        reports.append(report.done)
        if len(reports) == 4:
            victim.kill()
            dask.add_worker()

    with seam.on_cluster(dask.address):
        summary = prepare([corpus], Path("there"), CONFIG, progress=kill_one)
    assert prepare([corpus], Path("here"), CONFIG, jobs=1).skipped == summary.skipped
    assert victim.wait() == -signal.SIGKILL
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert len(list(Path("there").glob("*.safetensors"))) == N_SHARDS + 1
    assert reports == sorted(reports)
    assert reports[-1] == 2 * N_SHARDS
    with seam.on_cluster(dask.address):
        again = prepare([corpus], Path("there"), CONFIG)
    assert (again.kept_shards, again.made_shards) == (N_SHARDS, 0)


@pytest.mark.slow
def test_the_commands(dask: Cluster, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(corpus)
    config, t = small_config(), np.arange(4_000) / 8_000
    save_voice(tmp_path / "voice.safetensors", random_voice(config))
    for number in range(5):
        Path("clips").mkdir(exist_ok=True)
        soundfile.write(f"clips/{number}.wav", 0.2 * np.sin(2 * np.pi * (200 + 50 * number) * t), 8_000)
    Path("clips/x.wav").write_text("no audio")
    to = ("--cluster", dask.address)

    speak = ("synthesize", "clips", "--voice", "voice.safetensors", "--seed", "3", "--force")
    here, there = typed(*speak, "-o", "here"), typed(*speak, "-o", "there", *to)
    assert (here.exit_code, there.exit_code) == (1, 1)  # for x.wav
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert len(contents(tmp_path / "there")) == 5
    assert there.stderr.count("error: ") == 1
    assert there.stdout.startswith("5 files: ")

    dry = ("prep", "clips", "--dry-run", "--json")
    surveys = [json.loads(typed(*dry, *more).stdout) for more in ((), to)]
    assert surveys[0] | {"unusable": surveys[1]["unusable"]} == surveys[1]

    monkeypatch.setattr("gru_audio.evaluation.evaluate.measure_clip", measured_simply)
    judge = ("evaluate", "clips", "--voice", "voice.safetensors", "--clips", "3", "--json")
    here, there = typed(*judge, "--jobs", "1"), typed(*judge, *to)
    assert (here.exit_code, there.exit_code) == (0, 0)
    assert json.loads(there.stdout)["clips"] == json.loads(here.stdout)["clips"]
    assert len(json.loads(there.stdout)["clips"]) == 6


@pytest.mark.slow
def test_ctrl_c_stops_and_the_same_command_goes_on(dask: Cluster, corpus: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-c",
        "import time; from gru_audio.data import shard_making; shard_making.GROUP_FILES = 2;"
        "from gru_audio.data import prepare as p; size = p.size_when_there;"
        "p.size_when_there = lambda path: time.sleep(0.2) or size(path);"
        "from gru_audio.cli import main; main()",
        "prep", "corpus", "-o", "there", "--set", "prep.min_duration_s=0.25", "--cluster", dask.address,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as started:
        for _ in range(PATIENCE_S * 10):
            if len(list(tmp_path.glob("there/shard-*"))) >= 4:
                break
            time.sleep(0.1)
        started.send_signal(signal.SIGINT)
        assert started.stderr is not None
        told = started.stderr.read()
        assert (started.wait(PATIENCE_S), told) == (130, "stopped; the same command goes on from here\n")
    assert not Path("there/dataset.json").exists()
    with seam.on_cluster(dask.address):
        summary = prepare([corpus], Path("there"), CONFIG)
    assert summary.kept_shards >= 4
    prepare([corpus], Path("here"), CONFIG, jobs=1)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


@pytest.mark.slow
def test_what_is_wrong_with_a_cluster_is_one_line(
    dask: Cluster, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for before, line in (
        (
            "import soxr; soxr.__version__ = '0.0.1'",
            r"the worker tcp://\S+ has soxr 0\.0\.1, not [\d.]+; install",
        ),
        (
            "import sys; sys.modules['gru_audio'] = None",
            r"the worker tcp://\S+ cannot run gru-audio \(.*; install",
        ),
    ):
        n_before, odd = len(dask.living), dask.add_worker(before)
        wait_for_workers(dask, n_before + 1)
        with pytest.raises(ClusterError, match=line), seam.on_cluster(dask.address):
            raise AssertionError
        odd.kill()
        odd.wait()
        wait_for_workers(dask, n_before)

    monkeypatch.setattr(seam, "LOOK_S", 0.2)
    notes = list[str]()
    with (
        pytest.raises(ClusterError, match="a task was given up when 4 workers had died of it"),
        seam.on_cluster(dask.address, notes.append),
    ):
        for _ in range(2):
            dask.add_worker()
        list(map_in_order(os._exit, [1]))

    monkeypatch.setattr(seam, "WORKERS_S", 1)
    with (
        dask_cluster(tmp_path, 0) as empty,
        pytest.raises(ClusterError, match="has no workers after 1 s"),
        seam.on_cluster(empty.address),
    ):
        raise AssertionError


def wait_for_workers(dask: Cluster, n_workers: int) -> None:
    from distributed import Client

    with Client(dask.address, set_as_default=False) as client:
        for _ in range(PATIENCE_S * 10):
            if len(client.ncores()) == n_workers:
                return
            time.sleep(0.1)
    raise TimeoutError(f"not {n_workers} workers")


@pytest.mark.slow
def test_a_folder_that_only_the_workers_see_is_told(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gru_audio.files.PATIENCE_S", 1)
    monkeypatch.setattr("gru_audio.data.prepare.make_shard", elsewhere)
    with pytest.raises(
        OutputError, match=r"there.shard-00000.* was made, but is not seen here; let all machines"
    ):
        prepare([corpus], Path("there"), CONFIG, jobs=1)


def elsewhere(task: shard_making.ShardTask) -> shard_making.MadeShard:
    made = shard_making.make_shard(task)
    task.path.unlink()
    return made


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("prep a.wav -o d --cluster http://h:8786", "'http://h:8786' is no scheduler's address; give what"),
        ("prep a.wav -o d --cluster 10.0.0.1:8786", "'10.0.0.1:8786' is no scheduler's address; give what"),
        ("prep a.wav --dry-run --cluster tcp://h", "'tcp://h' is no scheduler's address"),
        ("evaluate a.wav --cluster tcp://h:1/x", "'tcp://h:1/x' is no scheduler's address"),
        (
            "synthesize a.wav --cluster ADDRESS",
            r"ADDRESS: no scheduler answers \(.*; start one with `dask scheduler`",
        ),
        ("synthesize a.wav --cluster ADDRESS --jobs 2", r"--jobs: a cluster has workers of its own"),
        (
            "synthesize - --cluster ADDRESS",
            "--cluster: a cluster cannot work on a stream; name files",
        ),
    ],
)
def test_a_wrong_address_is_one_line(
    command: str, line: str, corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gru_audio.cli import main

    monkeypatch.setattr(seam, "ANSWER_S", 1)
    shutil.copy(corpus / "ann/00.wav", "a.wav")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(sys, "argv", ["gru-audio", *command.replace("ADDRESS", address).split()])
        with pytest.raises(SystemExit):
            main()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(line.replace("ADDRESS", re.escape(address)), told), told


def test_without_dask_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from gru_audio.errors import MissingPackageError

    monkeypatch.setitem(sys.modules, "distributed", None)
    line = r"^--cluster needs distributed, which is not installed; pip install 'gru-audio\[cluster\]'$"
    with pytest.raises(MissingPackageError, match=line), seam.on_cluster("tcp://127.0.0.1:1"):
        raise AssertionError
