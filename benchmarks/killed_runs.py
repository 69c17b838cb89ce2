"""Runs of `prep`, `synthesize` and `train` that are killed at random times, for `damaged_inputs.py`.

Times are of the processor, so that a busy machine kills at the same places, and takes none for one that hangs.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from gru_audio.data.dataset import Dataset

TINY = "train.steps=6 train.batch_size=4 train.checkpoint_every=2 train.valid_every=3 train.valid_crops=4"
SIZES = "model.gru_size=32 model.conditioning_size=32 model.readout_size=32"
MOST_S = 120.0  # of the processor, that a run may take
STILL_S = 60.0  # that all processes of a run may sleep at a stretch before it hangs
LOOK_S = 0.05


def kill_runs(folder: Path, samples: Path, n_kills: int, seed: int) -> None:
    """Kill each of the commands in turn, and print a table of what came of it."""
    dice = random.Random(seed)
    clips, data, temporary = folder / "clips", folder / "data", folder / "temporary"
    for path in (clips, temporary):
        path.mkdir()
    for path in sorted(samples.glob("*.flac"))[:6]:
        shutil.copy(path, clips)
    settings = [word for one in f"{TINY} {SIZES}".split() for word in ("--set", one)]
    commands = {
        "prep": ["prep", str(clips), "-j", "2", "-o"],
        "synthesize": ["synthesize", str(clips), "-j", "2", "-o"],
        "train": ["train", str(data), "-c", "tiny", "--device", "cpu", *settings, "-o"],
    }
    wholes: dict[str, tuple[Path, float]] = {}
    counts = {name: Counter[str]() for name in commands}
    for name, command in commands.items():
        whole = data if name == "prep" else folder / f"whole-{name}"
        before_s = children_s()
        if (said := finish([*command, str(whole)], temporary)) is not None:
            raise SystemExit(f"{name}: {said}")
        wholes[name] = whole, children_s() - before_s
    try:
        for turn in range(n_kills):
            name = list(commands)[turn % len(commands)]
            whole, lasts_s = wholes[name]
            out = folder / "out"
            after_s = dice.uniform(0.1, 1) * lasts_s
            fault = kill_one([*commands[name], str(out)], out, temporary, after_s) or difference(
                name, whole, out
            )
            counts[name]["fault" if fault else "went on"] += 1
            if fault:
                print(f"FAULT {name} killed after {after_s:.2f} s: {fault}", file=sys.stderr, flush=True)
            shutil.rmtree(out, ignore_errors=True)
    finally:  # what was found so far, where it is stopped
        print("| killed | times | went on, nothing left | faults |\n|---|---|---|---|")
        for name, count in counts.items():
            print(f"| `{name}` | {count.total()} | {count['went on']} | {count['fault']} |", flush=True)
        print()


def kill_one(command: list[str], out: Path, temporary: Path, after_s: float) -> str | None:
    """Kill a command, then run it to its end; what is wrong, if anything."""
    process = start(command, temporary)
    watch(process.pid, after_s)
    process.kill()
    process.communicate()
    if watch(process.pid, MOST_S) is not None:
        os.killpg(process.pid, signal.SIGKILL)
        return "a worker lived on"
    again = [*command, "--resume"] if command[0] == "train" and (out / "config.toml").exists() else command
    if command[0] == "train" and process.returncode == 0:
        return None  # it was done before it could be killed
    said = finish(again, temporary)
    if said is not None and "has done all" not in said:  # killed after its last step, it had ended
        return said
    left = [path for place in (out, temporary) for path in place.rglob("*") if is_left(path, temporary)]
    for path in temporary.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return f"left: {', '.join(map(str, left))}" if left else None


def is_left(path: Path, temporary: Path) -> bool:
    """Whether a path is a temporary file or a lock; the folder of torch's compiler is its cache."""
    return (
        (path.is_relative_to(temporary) and "torchinductor" not in str(path))
        or path.name.startswith(".")
        or ".partial" in path.name
    )


def start(command: list[str], temporary: Path) -> "subprocess.Popen[str]":
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gru_audio", *command],
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(command: list[str], temporary: Path) -> str | None:
    """Run a command to its end; what it said, if that was an error."""
    process = start(command, temporary)
    why = watch(process.pid, MOST_S)
    if why is not None:
        os.killpg(process.pid, signal.SIGKILL)
    said = process.communicate()[1]
    if why is not None:
        return f"it did not end: {why}"
    return None if process.returncode == 0 else f"exit code {process.returncode}: {said[-400:]}"


def watch(group: int, most_s: float) -> str | None:
    """Wait until no process of a group is alive; None then, else which limit was passed."""
    still_since_s = time.monotonic()
    while states := living(group):
        if sum(processor_s for _, processor_s in states) > most_s:
            return f"{most_s:.1f} s of the processor"
        if any(state != "S" for state, _ in states):
            still_since_s = time.monotonic()
        if time.monotonic() - still_since_s > STILL_S:
            return f"it slept for {STILL_S:.0f} s"
        time.sleep(LOOK_S)
    return None


def living(group: int) -> list[tuple[str, float]]:
    """State and seconds of the processor of each process of a group that is no zombie, its dead children's included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append((fields[0], sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")))
    return found


def children_s() -> float:
    """Seconds of the processor that this process's dead children took."""
    used = os.times()
    return used.children_user + used.children_system


def difference(name: str, whole: Path, out: Path) -> str | None:
    """How what a command wrote in the end differs from what it writes undisturbed."""
    if name == "prep":
        dataset = Dataset.open(out)
        dataset.verify()
        return None if dataset.fingerprint == Dataset.open(whole).fingerprint else "another dataset"
    pattern = "*.wav" if name == "synthesize" else "checkpoints/*.safetensors"
    written, expected = ({path.name: path for path in place.glob(pattern)} for place in (out, whole))
    if max(written, default="") != max(expected) or (name == "synthesize" and len(written) != len(expected)):
        return f"{len(written)} files, {len(expected)} undisturbed"
    if name == "synthesize" and any(written[n].read_bytes() != expected[n].read_bytes() for n in expected):
        return "other audio"
    return None
