"""A run's folder: what counts as a checkpoint, a sample or a line of the log, among whatever else lies there."""

import os
from pathlib import Path

import pytest

from gru_audio.voice.run_folder import (
    METRICS_FILE,
    checkpoint_path,
    checkpoint_paths,
    checkpoint_steps,
    reference_path,
    sample_path,
    sample_paths,
)
from gru_audio.voice.run_log import read_log


def test_checkpoints_go_by_their_steps(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    steps = [0, 7, 999_999_999, 1_000_000_000, 20_000_000_000]
    for step in reversed(steps):
        checkpoint_path(tmp_path, step).touch()
    for name in ("step-².safetensors", "step-١.safetensors", "step--1.safetensors", "step-1.safetensors.txt"):
        (tmp_path / "checkpoints" / name).touch()
    (tmp_path / "checkpoints" / f"step-{'9' * 200}.safetensors").touch()
    (tmp_path / "checkpoints" / ".gru-audio-0123456789ab.partial.safetensors").touch()
    assert checkpoint_steps(tmp_path) == steps
    assert checkpoint_paths(tmp_path) == [checkpoint_path(tmp_path, step) for step in steps]


@pytest.mark.parametrize(
    "clip", ["0-a", "0-" + "ü" * 200, "1-a/../../b", "2-\x1b[31m\n", "3-caf\udce9", "4-", "5-a\0b"]
)
def test_samples_are_found_again_whatever_the_clips_name(tmp_path: Path, clip: str) -> None:
    path = sample_path(tmp_path, 12, clip)
    path.parent.mkdir()
    path.touch()
    assert path.parent == reference_path(tmp_path, clip).parent
    assert len(os.fsencode(path.name)) < 130
    assert path.name.isprintable()
    assert sample_paths(tmp_path) == {12: [path]}


def test_a_line_of_the_log_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    assert list(read_log(tmp_path)) == []
    lines = [
        b'{"step": 1, "group": "train", "loss": 2.5}',
        b'{"step": 2, "group": "train", "loss": 1e999}',
        b'{"step": 3, "group": "tr\xffain"}',
        b"\xff",
        b"[" * 100_000,
        b'{"step": ' + b"9" * 5_000 + b', "group": "train"}',
        b'{"step": "4", "group": "train"}',
        b'{"step": 1e999, "group": "train"}',
        b'{"step": -1, "group": "train"}',
        b'{"group": "train"}',
        b"[1, 2]",
        b"null",
        b"",
        b'{"step": 5, "group": "valid", "bits": 7}',
        b'{"step": 6, "group": "va',
    ]
    (tmp_path / METRICS_FILE).write_bytes(b"\n".join(lines))
    assert list(read_log(tmp_path)) == [
        {"step": 1, "group": "train", "loss": 2.5},
        {"step": 5, "group": "valid", "bits": 7},
    ]


@pytest.mark.timeout(60)
def test_a_pipe_in_the_logs_place_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / METRICS_FILE)
    with pytest.raises(OSError, match="is a pipe, not a file"):
        list(read_log(tmp_path))
