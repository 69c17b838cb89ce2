"""Runs to compare, and what the tests of runs that are disturbed share."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from gru_audio.config import Config, load_config
from gru_audio.data.prepare import prepare
from gru_audio.training.run import train
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


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until a condition holds, and fail where it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether a process that is not our child is there, and not but a name in the system's table."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)


def train_a_step(dataset: str) -> None:
    """What a warm process does first, so that all is imported and loaded that a run needs."""
    with tempfile.TemporaryDirectory() as run:
        config = tiny_config("train.steps=1", "train.valid_every=9")
        train(Path(dataset), Path(run), config, device="cpu", threads=1)
