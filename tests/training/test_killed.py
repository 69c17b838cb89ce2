"""Runs that are killed at any moment, or whose disk is full or damaged, against a run that nothing disturbed."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
from support.runs import assert_same_runs, is_running, kill, logged, tiny_config, wait_for
from support.warm_process import WarmProcess

from gru_audio.config import to_toml
from gru_audio.training.saved.checkpoint import load_checkpoint
from gru_audio.voice.run_folder import checkpoint_paths, checkpoint_steps

N_KILLS = 12
HALF = "checkpoints/.gru-audio-*.partial.*"
STOP_HALF_WAY = """
import time
from pathlib import Path
write = Path.write_bytes
def half(path, data):
    if b'\\\\"step\\\\": 6,' in data:
        write(path, data[: len(data) // 2])
        time.sleep(60)
    return write(path, data)
Path.write_bytes = half
"""
DIE_WITH_THE_LAST = """
import os, signal
from pathlib import Path
unlink = Path.unlink
def die(path, missing_ok=False):
    if path.name.startswith("step-") and path.with_name("step-000000012.safetensors").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    unlink(path, missing_ok=missing_ok)
Path.unlink = die
"""
FULL_DISK = """
import errno
from pathlib import Path
write = Path.write_bytes
def full(path, data):
    if b'\\\\"step\\\\": 6,' in data:
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")
    return write(path, data)
Path.write_bytes = full
"""


class World:
    """A config, a process to fork from, and a run that nothing disturbed."""

    def __init__(self, folder: Path, warm: WarmProcess, dataset: Path) -> None:
        self.folder, self.warm, self.dataset = folder, warm, dataset
        self.config = folder / "config.toml"
        self.config.write_text(to_toml(tiny_config()))
        self.whole = folder / "whole"
        began = time.monotonic()
        assert warm.wait(self.start(self.whole)) == 0, self.stderr(self.whole)
        self.seconds = time.monotonic() - began

    def start(self, run: Path, patch: str = "", *options: str) -> int:
        command = ["train", str(self.dataset), "-o", str(run), "--device", "cpu", "--threads", "1"]
        # Nothing to go on from: it was killed before it had put anything there.
        more = ["--resume"] if (run / "config.toml").exists() else ["--config", str(self.config)]
        return self.warm.start([*command, *more, *options], run.with_name(run.name + "-says"), patch)

    def stderr(self, run: Path) -> str:
        return run.with_name(run.name + "-says.err").read_text()

    def finish(self, run: Path, *options: str) -> None:
        assert self.warm.wait(self.start(run, "", *options)) == 0, self.stderr(run)


def is_half_way(run: Path) -> bool:
    """Whether the process is in the middle of its third checkpoint."""
    return checkpoint_steps(run) == [2, 4] and any(path.stat().st_size for path in run.glob(HALF))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, warm: WarmProcess, dataset: Path) -> World:
    return World(tmp_path_factory.mktemp("killed"), warm, dataset)


def without_clock(run: Path) -> list[dict[str, Any]]:
    """The log but for what a clock says."""
    lines = logged(run)
    return [
        {key: value for key, value in line.items() if key not in ("samples_per_s", "times_real_time")}
        for line in lines
    ]


def assert_undisturbed(world: World, run: Path) -> None:
    assert_same_runs(world.whole, run)
    assert without_clock(run) == without_clock(world.whole)
    assert not list(run.rglob("*.partial*"))


def wait_for_another_checkpoint(run: Path, pid: int) -> None:
    """Or until the process has ended: a run that has all of its checkpoints makes no more."""
    before = checkpoint_steps(run)[-1:]
    while checkpoint_steps(run)[-1:] == before and is_running(pid):
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_any_moment(world: World) -> None:
    """Again and again, and resumed each time: the same run, bit for bit.

    Half of the moments are within the whole run, most of which is its start; the others are soon after a checkpoint.
    """
    rng, n_killed, n_runs, reached = random.Random(0), 0, 0, set[int]()
    while n_killed < N_KILLS:
        run = world.folder / f"killed-{n_runs}"
        n_runs += 1
        while True:
            pid = world.start(run)
            if n_killed < N_KILLS:
                if n_killed % 2:
                    wait_for_another_checkpoint(run, pid)
                time.sleep(rng.uniform(0, world.seconds / (20 if n_killed % 2 else 1)))
                kill(pid)
            code = world.warm.wait(pid)
            n_killed += code == -9
            reached.update(checkpoint_steps(run)[-1:])
            had_ended = "has done all 12 steps" in world.stderr(run)  # when it was killed
            if code == 0 or had_ended:
                break
            assert code == -9, world.stderr(run)
        assert_undisturbed(world, run)
    assert len(reached) > 2, "at several steps"


def test_killed_before_it_does_anything(world: World) -> None:
    """Before it has even opened where it says something."""
    run = world.folder / "at-once"
    pid = world.start(run)
    kill(pid)
    assert world.warm.wait(pid) == -9
    assert world.stderr(run) == ""
    world.finish(run)
    assert_undisturbed(world, run)


def test_killed_while_a_checkpoint_is_written(world: World) -> None:
    run = world.folder / "half"
    pid = world.start(run, STOP_HALF_WAY)
    wait_for(lambda: is_half_way(run))
    time.sleep(0.1)
    kill(pid)
    world.warm.wait(pid)
    assert list(run.glob(HALF)), "what was half written"
    assert checkpoint_steps(run) == [2, 4], "those before"
    world.finish(run)
    assert_undisturbed(world, run)


def test_killed_when_its_last_checkpoint_was_safe(world: World) -> None:
    """All is done but that the checkpoints before are still there: --resume says so, and removes them."""
    run = world.folder / "last"
    assert world.warm.wait(world.start(run, DIE_WITH_THE_LAST)) == -9
    assert len(checkpoint_steps(run)) == len(checkpoint_steps(world.whole)) + 1
    (run / "checkpoints" / ".gru-audio-0.partial.safetensors").touch()
    assert world.warm.wait(world.start(run)) == 1
    assert "has done all 12 steps" in world.stderr(run)
    assert_undisturbed(world, run)


def test_a_full_disk_keeps_the_last_good_checkpoint(world: World) -> None:
    run = world.folder / "full"
    assert world.warm.wait(world.start(run, FULL_DISK)) == 1
    (line,) = world.stderr(run).splitlines()
    assert "step-000000006.safetensors: cannot be written: No space left on device; free space" in line
    assert checkpoint_steps(run) == [2, 4]
    assert not list(run.rglob("*.partial*"))
    world.finish(run)
    assert_undisturbed(world, run)


@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_damaged_checkpoint(world: World, damage: str) -> None:
    """The one before is taken, with a note that --quiet does not hide; what is damaged stays under another name."""
    run = world.folder / damage
    pid = world.start(run, STOP_HALF_WAY)
    wait_for(lambda: is_half_way(run))
    kill(pid)
    world.warm.wait(pid)
    newest = checkpoint_paths(run)[-1]
    contents = bytearray(newest.read_bytes())
    if damage == "truncated":
        contents = contents[: len(contents) // 2]
    else:
        contents[-5] ^= 1
    newest.write_bytes(contents)
    world.finish(run, "--quiet")
    damaged = newest.with_name(f"damaged-{newest.name}")
    assert f"{newest}: damaged, set aside as {damaged.name}; went on from step 2\n" in world.stderr(run)
    assert damaged.read_bytes() == contents
    assert_undisturbed(world, run)


def test_all_checkpoints_damaged(world: World) -> None:
    run = world.folder / "ruined"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.toml").write_bytes(world.config.read_bytes())
    newest = run / "checkpoints" / "step-000000004.safetensors"
    newest.write_bytes(b"ruined")
    assert world.warm.wait(world.start(run)) == 1
    (line,) = world.stderr(run).splitlines()
    assert f"{newest}: not a safetensors file, or a damaged one" in line


def test_old_checkpoints_go_only_when_the_new_one_is_safe(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File and folder are flushed before the first is removed."""
    import os

    from gru_audio.training.saved.checkpoint import save_checkpoint

    checkpoint, events = load_checkpoint(checkpoint_paths(world.whole)[-1]), list[str]()
    save_checkpoint(tmp_path, checkpoint, 1)
    flush, unlink, replace = os.fsync, Path.unlink, Path.replace

    def spying_flush(descriptor: int) -> None:
        events.append("flush " + Path(f"/proc/self/fd/{descriptor}").readlink().name.split(".")[0])
        flush(descriptor)

    def spying_replace(path: Path, target: Path) -> Path:
        events.append("rename")
        return replace(path, target)

    def spying_unlink(path: Path, missing_ok: bool = False) -> None:
        if not path.name.startswith("."):
            events.append(f"remove {path.stem}")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(os, "fsync", spying_flush)
    monkeypatch.setattr(Path, "replace", spying_replace)
    monkeypatch.setattr(Path, "unlink", spying_unlink)
    later = type(checkpoint)(13, checkpoint.groups, {"config": {}})
    save_checkpoint(tmp_path, later, 1)
    assert events == ["flush ", "rename", "flush checkpoints", "remove step-000000012"]
