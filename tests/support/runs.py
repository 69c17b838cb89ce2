"""Runs to compare, and real `gru-audio` processes without the seconds that torch's import takes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from gru_audio.config import Config, load_config
from gru_audio.data.prepare import prepare
from gru_audio.training.saved.checkpoint import load_checkpoint
from gru_audio.voice.run_folder import checkpoint_paths
from support.trained import SMALL

TINY = (*SMALL, "train.steps=12", "train.checkpoint_every=2", "train.precision=fp32")


def tiny_config(*overrides: str) -> Config:
    return load_config("tiny", [*TINY, *overrides])


def make_dataset(folder: Path, licence: str = "", source_note: str = "") -> Path:
    """Six seconds of gliding buzzes in noise."""
    rng, t = np.random.default_rng(0), np.arange(12_000) / 8_000
    (folder / "audio").mkdir()
    for name in range(4):
        phase = 2 * np.pi * ((100 + 20 * name) * t + 30 * t**2)
        buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
        audio = 0.1 * buzz + 0.01 * rng.standard_normal(t.size)
        soundfile.write(folder / "audio" / f"{name}.wav", audio, 8_000)
    prepare(
        [folder / "audio"],
        folder / "dataset",
        tiny_config(),
        jobs=1,
        licence=licence,
        source_note=source_note,
    )
    return folder / "dataset"


def logged(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_runs(one: Path, other: Path) -> None:
    """The same checkpoints and voice, bit for bit."""
    paths = checkpoint_paths(one), checkpoint_paths(other)
    assert [path.name for path in paths[0]] == [path.name for path in paths[1]]
    for expected_path, found_path in zip(*paths, strict=True):
        expected, found = load_checkpoint(expected_path), load_checkpoint(found_path)
        assert expected.document == found.document
        assert expected.groups.keys() == found.groups.keys()
        for group, named in expected.groups.items():
            assert named.keys() == found.groups[group].keys()
            for name, tensor in named.items():
                assert torch.equal(tensor, found.groups[group][name]), f"{group}/{name}"
    assert (one / "voice.safetensors").read_bytes() == (other / "voice.safetensors").read_bytes()


class WarmProcess:
    """A Python process that has imported all of training, and forks a `gru-audio` process whenever it is asked to."""

    def __init__(self, dataset: Path) -> None:
        """Start it; `dataset` warms the compiled loops up."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.runs", str(dataset)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask({})

    def start(self, arguments: Sequence[str], output: Path, patch: str = "", **environment: str) -> int:
        """Start `gru-audio` and give its process id; stdout and stderr go to `output`.out and .err.

        `patch` is Python to run in it first.
        """
        request = {"argv": list(arguments), "output": str(output), "patch": patch, "environment": environment}
        return self._ask(request)

    def wait(self, pid: int) -> int:
        """Its exit code when it has ended, negative for a signal."""
        return self._ask({"wait": pid})

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, request: Mapping[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def warm_process(dataset: Path) -> Iterator[WarmProcess]:
    process = WarmProcess(dataset)
    try:
        yield process
    finally:
        process.close()


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until a condition holds, and fail where it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)


def _become(request: Mapping[str, Any]) -> None:
    """In a forked process: run a command as the shell would."""
    from gru_audio.cli import main

    for stream, suffix in ((1, ".out"), (2, ".err")):
        file = os.open(request["output"] + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
    os.environ.update(request["environment"])
    sys.argv = ["gru-audio", *request["argv"]]
    code = 1
    try:
        exec(request["patch"], {})
        main()
        code = 0
    except SystemExit as ending:
        code = int(ending.code or 0)
    finally:
        if sys.exc_info()[0] not in (None, SystemExit):
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve(dataset: Path) -> None:
    from gru_audio.training.run import train

    with tempfile.TemporaryDirectory() as run:
        config = tiny_config("train.steps=1", "train.valid_every=9")
        train(dataset, Path(run), config, device="cpu", threads=1)
    answers = os.dup(1)
    for line in sys.stdin:
        request = json.loads(line)
        answer = 0
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        elif request and not (answer := os.fork()):
            _become(request)
        os.write(answers, f"{answer}\n".encode())


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
