"""Several processes against one: the same run to rounding, one stop, losses of a process, elastic restarts."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from support.runs import kill, logged, tiny_config, wait_for
from support.warm_process import WarmProcess

from gru_audio.config import CONTEXT_FRAMES, to_toml
from gru_audio.data.dataset import Dataset
from gru_audio.errors import TrainingError
from gru_audio.training.batches.crops import CropSource, Share
from gru_audio.training.launch import Launch
from gru_audio.training.run import train
from gru_audio.training.saved.checkpoint import Checkpoint, load_checkpoint
from gru_audio.training.saved.standing import JOB_FILE, is_restart
from gru_audio.voice.run_folder import checkpoint_paths, checkpoint_steps

BATCH = "train.batch_size=5"  # which two processes, or three, cannot share evenly
LONG = "train.steps=100000"
IMPATIENT = "import importlib; importlib.import_module('gru_audio.cli.train')._HEAD_START_S = 0.2\n"


class World:
    """A process to fork from, and a run of one process."""

    def __init__(self, folder: Path, warm: WarmProcess, dataset: Path) -> None:
        self.folder, self.warm, self.dataset = folder, warm, dataset
        train(dataset, folder / "alone", tiny_config(BATCH), device="cpu", threads=1)

    def start(
        self, run: Path, n: int, *overrides: str, patches: tuple[str, ...] = (), resume: bool = False
    ) -> list[int]:
        """Start `n` processes as torchrun would."""
        config = self.folder / "config.toml"
        config.write_text(to_toml(tiny_config(BATCH, *overrides)))
        port = free_port()
        command = ["train", str(self.dataset), "-o", str(run)]
        command += ["--config", str(config), "--device", "cpu"]
        return [
            self.warm.start(
                [*command, *(["--resume"] if resume else [])],
                self.says(run, rank),
                IMPATIENT + (patches[rank] if rank < len(patches) else ""),
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE=str(n),
                LOCAL_WORLD_SIZE=str(n),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
            )
            for rank in range(n)
        ]

    def says(self, run: Path, rank: int) -> Path:
        return run.with_name(f"{run.name}-{rank}")

    def output(self, run: Path, rank: int, suffix: str = ".err") -> str:
        return self.says(run, rank).with_suffix(suffix).read_text()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, warm: WarmProcess, dataset: Path) -> World:
    return World(tmp_path_factory.mktemp("distributed"), warm, dataset)


def free_port() -> int:
    """Below those that the system gives out by itself, one of which others could be given before it is taken."""
    first = 10_000 + os.getpid() % 1_000 * 20  # each process that tests has its own
    for port in range(first, first + 20):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no port from {first} on is free")


def newest(run: Path) -> Checkpoint:
    return load_checkpoint(checkpoint_paths(run)[-1])


def assert_close_runs(one: Path, other: Path) -> None:
    """The same to rounding: weights, averages, optimiser, losses."""
    expected, found = newest(one), newest(other)
    assert expected.step == found.step
    for group, named in expected.groups.items():
        for name, tensor in named.items():
            torch.testing.assert_close(
                found.groups[group][name], tensor, atol=2e-5, rtol=1e-3, msg=f"{group}/{name}"
            )
    for ours, theirs in zip(logged(one), logged(other), strict=True):
        assert (ours["step"], ours["group"]) == (theirs["step"], theirs["group"])
        assert ours["bits"] == pytest.approx(theirs["bits"], abs=1e-4)


def n_trained(run: Path) -> int:
    with contextlib.suppress(OSError):
        return (run / "metrics.jsonl").read_text().count('"train"')
    return 0


# Shares


@pytest.mark.parametrize(("n_crops", "n"), [(5, 2), (7, 3), (3, 3), (32, 5), (1, 1)])
def test_shares_cover_a_batch(n_crops: int, n: int) -> None:
    parts = [list(Share(rank, n).of(n_crops)) for rank in range(n)]
    assert list(chain(*parts)) == list(range(n_crops))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_shares_are_parts_of_the_same_batch(world: World) -> None:
    source = CropSource(Dataset.open(world.dataset), tiny_config(BATCH), "train", CONTEXT_FRAMES)
    whole, parts = source.batch(4), [source.batch(4, Share(rank, 3)) for rank in range(3)]
    for column, *pieces in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(pieces), column)


def test_what_torchrun_tells() -> None:
    assert Launch.of({"RANK": "3"}) == Launch()
    told = {
        "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_RUN_ID": "x",
    }  # fmt: skip
    launch = Launch.of(told)
    assert (launch.rank, launch.n_processes, launch.local_rank, launch.n_local, launch.n_restarts) == (
        3,
        4,
        1,
        2,
        2,
    )
    assert not launch.leads
    assert launch.job == "x", "equal on all machines, whose torchruns are other processes"
    alone = [Launch.of({**told, "TORCHELASTIC_RUN_ID": run_id}).job for run_id in ("none", "")]
    assert all(str(os.getppid()) in job for job in alone)
    names = ("cuda", "cpu", "cuda:5")
    assert [launch.device_name(name, 2) for name in names] == ["cuda:1", "cpu", "cuda:5"]
    assert Launch().device_name("cuda", 1) == "cuda"
    assert launch.device_name("cuda", 0) == "cuda:1", "torch tells why there is none"
    with pytest.raises(
        TrainingError, match=r"2 processes on this machine.* 1 can be used; .*nproc-per-node=1$"
    ):
        launch.device_name("cuda", 1)


def test_a_restart_takes_no_other_run(tmp_path: Path) -> None:
    """One that torchrun had not started stays refused, however often it tries."""
    (tmp_path / "config.toml").write_text("")
    restarted = Launch(n_restarts=1, job="x 7")
    assert not is_restart(tmp_path, restarted)
    (tmp_path / JOB_FILE).write_text("x 7")
    assert is_restart(tmp_path, restarted)
    assert not is_restart(tmp_path, Launch(n_restarts=0, job="x 7"))
    assert not is_restart(tmp_path, Launch(n_restarts=1, job="x 8"))


# Runs


@pytest.mark.parametrize("n", [2, 3])
def test_any_number_of_processes_gives_the_same_run(world: World, n: int) -> None:
    run = world.folder / f"of-{n}"
    assert [world.warm.wait(pid) for pid in world.start(run, n)] == [0] * n, world.output(run, 0)
    assert_close_runs(world.folder / "alone", run)
    assert "step 12 of 12" in world.output(run, 0, ".out")
    for rank in range(1, n):
        assert world.output(run, rank) + world.output(run, rank, ".out") == "", "the others are silent"


def test_fewer_crops_than_processes(world: World) -> None:
    run = world.folder / "few"
    codes = [world.warm.wait(pid) for pid in world.start(run, 2, "train.batch_size=1")]
    assert codes == [1, 1]
    for rank in (0, 1):  # torchrun would have ended the second, which waits for that
        assert "error: train.batch_size is 1, for all of 2 processes; raise it" in world.output(run, rank)


def test_a_signal_to_one_stops_all_at_the_same_step(world: World) -> None:
    """And one process goes on with what two began."""
    run = world.folder / "stopped"
    pids = world.start(run, 2, LONG)
    wait_for(lambda: n_trained(run) > 3)
    kill(pids[1], signal.SIGTERM)
    assert [world.warm.wait(pid) for pid in pids] == [128 + 15] * 2
    assert world.output(run, 1) == ""
    step = newest(run).step
    assert n_trained(run) == step
    result = train(
        world.dataset,
        run,
        tiny_config(BATCH, f"train.steps={step + 1}"),
        resume=True,
        device="cpu",
        threads=1,
    )
    assert (result.step, result.finished) == (step + 1, True)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed(world: World, victim: int) -> None:
    run = world.folder / f"without-{victim}"
    pids = world.start(run, 2, LONG, "train.checkpoint_every=5")
    wait_for(lambda: n_trained(run) > 6)
    kill(pids[victim])
    began = time.monotonic()
    assert [world.warm.wait(pids[rank]) for rank in (victim, 1 - victim)] == [-9, 1]
    assert time.monotonic() - began < 60
    # Torch has its own to say where the store's keeper dies; under torchrun that is torchrun itself.
    (line,) = re.findall("^error: .*$", world.output(run, 1 - victim), re.MULTILINE)
    assert "Traceback" not in world.output(run, 1 - victim)
    assert line.startswith(f"error: {run}: one of the 2 processes ended (killed, or out of memory)")
    if victim:
        step = int(re.findall(r"step ([\d,]+) is saved; go on with --resume$", line)[0].replace(",", ""))
        assert newest(run).step == step == n_trained(run), "the last whole step"


def test_a_process_that_fails_is_named(world: World) -> None:
    run = world.folder / "failed"
    failing = """
from gru_audio.training.batches.crops import CropSource
from gru_audio.errors import DatasetError
draw = CropSource.batch
def fail(source, step, *rest):
    if step == 3:
        raise DatasetError("a.safetensors: damaged; copy it again")
    return draw(source, step, *rest)
CropSource.batch = fail
"""
    pids = world.start(run, 2, "train.valid_crops=5", patches=("", failing))
    assert [world.warm.wait(pid) for pid in pids] == [1, 1]
    (line,) = world.output(run, 0).splitlines()
    assert line == (
        f"error: {run}: process 1 failed: a.safetensors: damaged; copy it again; step 3 is saved; "
        "go on with --resume"
    )
    assert world.output(run, 1) == ""
    assert checkpoint_steps(run) == [2, 3]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_fails_as_soon_as_all_have_met(world: World, victim: int) -> None:
    run = world.folder / f"early-{victim}"
    failing = """
from gru_audio.errors import TrainingError
from gru_audio.training import run
def fail(*_):
    raise TrainingError("no room")
run.Standing = fail
"""
    pids = world.start(run, 2, patches=tuple(failing if rank == victim else "" for rank in (0, 1)))
    assert [world.warm.wait(pid) for pid in pids] == [1, 1]
    (line,) = re.findall("^error: .*$", world.output(run, 0), re.MULTILINE)
    assert line == ("error: process 1 failed: no room" if victim else "error: no room")
    assert "error: " not in world.output(run, 1)


def test_a_leader_that_is_killed_as_soon_as_all_have_met(world: World) -> None:
    run = world.folder / "headless"
    dying = """
import os, signal
from gru_audio.training import run
run.Standing = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""
    pids = world.start(run, 2, patches=(dying, ""))
    assert [world.warm.wait(pid) for pid in pids] == [-9, 1]
    (line,) = re.findall("^error: .*$", world.output(run, 1), re.MULTILINE)
    assert line == "error: one of the 2 processes ended (killed, or out of memory)"


@pytest.mark.parametrize("local_rank", [0, 1])
def test_what_fails_before_they_meet_is_told(world: World, local_rank: int) -> None:
    """As where one machine lacks the dataset, or one process its GPU."""
    run = world.folder / f"apart-{local_rank}"
    elsewhere = f"import os, sys; os.environ['LOCAL_RANK'] = '{local_rank}'; sys.argv[2] = 'nowhere'"
    pids = world.start(run, 2, patches=("", elsewhere))
    assert world.warm.wait(pids[1]) == 1
    assert world.output(run, 1).startswith("error: nowhere: ")
    kill(pids[0])
    world.warm.wait(pids[0])


def test_a_process_that_waits_for_the_others_ends_at_once(world: World) -> None:
    """As where another failed before they met, and torchrun ends this one."""
    run = world.folder / "waiting"
    waits = """
from pathlib import Path
from gru_audio.training import distributed
meet = distributed.rendezvous
def told(*given, **named):
    Path(MARK).touch()
    return meet(*given, **named)
distributed.rendezvous = told
""".replace("MARK", repr(str(run.with_name("waits"))))
    pids = world.start(run, 2, patches=(waits, "raise SystemExit(1)"))
    wait_for(run.with_name("waits").exists)
    time.sleep(0.5)
    kill(pids[0], signal.SIGTERM)
    insists = threading.Timer(10, kill, [pids[0]])
    insists.start()
    assert world.warm.wait(pids[0]) == -signal.SIGTERM
    insists.cancel()
    world.warm.wait(pids[1])


def test_memory_that_one_process_lacks_is_told_once(world: World) -> None:
    run = world.folder / "no-memory"
    failing = """
from gru_audio.training.batches.crops import CropSource
def fail(*given):
    raise MemoryError
CropSource.batch = fail
"""
    pids = world.start(run, 2, patches=("", failing))
    assert [world.warm.wait(pid) for pid in pids] == [1, 1]
    (line,) = re.findall("^error: .*$", world.output(run, 0), re.MULTILINE)
    assert "process 1 failed: not enough memory to train; " in line
    assert world.output(run, 1) == ""


def test_a_return_in_several_processes(world: World) -> None:
    """All go back to the same checkpoint, where one of them met what is not finite."""
    spoiling = """
from gru_audio.training import objective
from gru_audio.training import learner
compute, calls = objective.compute_losses, iter(range(10**6))
def spoiled(network, batch, *, own_pitch):
    losses = compute(network, batch, own_pitch=own_pitch)
    if network.training and next(calls) in (6, 7, 8):
        return losses._replace(nats=losses.nats * float("nan"))
    return losses
learner.compute_losses = spoiled
"""
    run = world.folder / "returned"
    pids = world.start(run, 2, "train.max_bad_steps=3", patches=("", spoiling))
    assert [world.warm.wait(pid) for pid in pids] == [0, 0], world.output(run, 0)
    assert "1 returns to a checkpoint" in world.output(run, 0, ".out")
    (told,) = (line for line in logged(run) if line["group"] == "recovery")
    assert (told["step"], told["diverged_at_step"]) == (6, 9)


DIE_ONCE = """
import os, signal
from gru_audio.__main__ import main
from gru_audio.training.batches.crops import CropSource
draw = CropSource.batch
def die(source, step, *rest):
    if (step, os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]) == (12, "1", "0"):
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(source, step, *rest)
CropSource.batch = die
main()
"""


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@pytest.mark.slow
def test_torchrun_tells_what_is_wrong_with_all_once(world: World) -> None:
    config = world.folder / "one.toml"
    config.write_text(to_toml(tiny_config("train.batch_size=1")))
    command = [
        *TORCHRUN,
        "-m",
        "--",
        "gru_audio",
        "train",
        str(world.dataset),
        "-o",
        str(world.folder / "one"),
    ]
    command += ["--config", str(config), "--device", "cpu"]
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240).stderr
    assert said.count("error: train.batch_size is 1, for all of 2 processes") == 1, said


@pytest.mark.slow
def test_an_elastic_restart_goes_on_exactly(world: World) -> None:
    """The real torchrun; one of its processes is killed, and it starts them again."""
    run, config, script = (world.folder / name for name in ("elastic", "elastic.toml", "elastic.py"))
    script.write_text(DIE_ONCE)
    n_steps = 100
    settings = (BATCH, f"train.steps={n_steps}", "train.valid_every=50", "train.checkpoint_every=10")
    config.write_text(to_toml(tiny_config(*settings)))
    command = [
        *TORCHRUN,
        "--nnodes=1",
        "--max-restarts=3",
        "--",
        str(script),
        "train",
        str(world.dataset),
        "-o",
        str(run),
    ]
    process = subprocess.Popen(
        [*command, "--config", str(config), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert f"step {n_steps} of {n_steps}" in out
    assert err.count("error: ") == 1
    assert "step 12 is saved; go on with --resume" in err
    steps = [line["step"] for line in logged(run) if line["group"] == "train"]
    assert steps == list(range(1, n_steps + 1)), "none twice, none left out"
