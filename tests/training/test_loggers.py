"""Where a run's figures are shown: TensorBoard, Weights & Biases for real and as a fake, several, none."""

import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.trained import logged, run_to_end, small_config
from typer.testing import CliRunner

from gru_audio.cli import app
from gru_audio.cli.train import LogName
from gru_audio.errors import MissingPackageError, TrainingError
from gru_audio.progress import ignore_note
from gru_audio.training.loggers.logger import LOGGERS, open_loggers
from gru_audio.training.loggers.weights_and_biases import ID_FILE


class FakeRun:
    """What `wandb.init` gives."""

    def __init__(self, begun: dict[str, Any]) -> None:
        self.begun, self.offline, self.url = begun, False, "https://example.invalid/r"
        self.lines, self.defined, self.is_finished = list[dict[str, Any]](), dict[str, Any](), False

    def define_metric(self, name: str, **how: Any) -> None:
        self.defined[name] = how

    def log(self, line: dict[str, Any]) -> None:
        self.lines.append(line)

    def finish(self) -> None:
        self.is_finished = True


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> list[FakeRun]:
    """A module in wandb's place; the runs that were begun with it."""
    runs = list[FakeRun]()

    def init(**begun: Any) -> FakeRun:
        runs.append(FakeRun(begun))
        return runs[-1]

    fake = types.ModuleType("wandb")
    fake.__spec__ = types.SimpleNamespace(name="wandb")  # type: ignore[assignment]
    fake.__dict__.update(init=init, Settings=dict, Audio=lambda *a, **k: (a, k), Image=lambda *a, **k: (a, k))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return runs


def test_wandb_has_all_figures_and_a_resumed_run_its_name(
    dataset: Path, tmp_path: Path, wandb: list[FakeRun]
) -> None:
    run, told = tmp_path / "mine", list[str]()
    run_to_end(dataset, run, "train.steps=3", log_to=["wandb"], tell=told.append)
    run_to_end(dataset, run, log_to=["tensorboard", "wandb"], resume=True)
    first, second = wandb
    assert first.begun["id"] == second.begun["id"] == (run / ID_FILE).read_text()
    assert first.begun["name"] == "mine"
    assert first.begun["config"] == small_config("train.steps=3").model_dump()
    assert first.is_finished
    assert first.defined == {"*": {"step_metric": "step"}}
    assert told == ["wandb: https://example.invalid/r"]
    losses = {line["step"]: line["train/loss"] for line in first.lines + second.lines if "train/loss" in line}
    assert losses == {line["step"]: line["loss"] for line in logged(run, "train")}
    assert list(run.glob("tensorboard/events.*"))


def test_a_lost_connection_does_not_end_training(
    dataset: Path, tmp_path: Path, wandb: list[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRun, "log", lambda run, line: (_ for _ in ()).throw(ConnectionError("gone.\nx")))
    told = list[str]()
    assert run_to_end(dataset, tmp_path, log_to=["wandb"], tell=told.append).finished
    assert told == ["wandb: https://example.invalid/r", "wandb: gone; the run goes on without it"]


def test_wandb_that_cannot_begin_is_one_line(
    tmp_path: Path, wandb: list[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("No API key configured. Use it.\nmore")

    monkeypatch.setattr("wandb.init", refuse)
    line = r"^--log-to wandb: No API key configured. Use it; run `wandb login`, or set WANDB_MODE=offline$"
    with (
        pytest.raises(TrainingError, match=line),
        open_loggers(["wandb"], tmp_path, small_config(), ignore_note),
    ):
        raise AssertionError


def test_without_wandb_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    line = r"^--log-to wandb needs wandb, which is not installed; pip install 'gru-audio\[wandb\]'$"
    with (
        pytest.raises(MissingPackageError, match=line),
        open_loggers(["wandb"], tmp_path, small_config(), ignore_note),
    ):
        raise AssertionError


def test_the_command_knows_all_of_them() -> None:
    assert {name.value for name in LogName} == {*LOGGERS, "none"}
    done = CliRunner().invoke(app, ["train", "d", "-o", "r", "--log-to", "none", "--log-to", "wandb"])
    assert (done.exit_code, "none cannot be given with another" in done.output) == (2, True)


def test_none(dataset: Path, tmp_path: Path) -> None:
    run_to_end(dataset, tmp_path, log_to=[])
    assert logged(tmp_path, "train")
    assert not list(tmp_path.glob("tensorboard*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_the_real_wandb_offline(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its binary file holds each figure's name, and the clip and picture lie beside it."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_to_end(dataset, tmp_path, log_to=["wandb", "tensorboard"])
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert written.stem == f"run-{(tmp_path / ID_FILE).read_text()}"
    held = written.read_bytes()
    for key in (b"train/loss", b"valid/bits", b"crop_samples"):
        assert key in held, key
    assert list(tmp_path.glob("tensorboard/events.*"))

    (tmp_path / "clips").mkdir()
    with open_loggers(["wandb"], tmp_path / "clips", small_config(), ignore_note) as (logger,):
        logger.begin(-1)
        logger.clip("ann", 3, np.zeros(800, np.float32), 8_000, np.zeros((3, 4, 5), np.uint8))
    assert len(list(tmp_path.glob("clips/wandb/offline-run-*/files/media/**/*.wav"))) == 1
    assert len(list(tmp_path.glob("clips/wandb/offline-run-*/files/media/**/*.png"))) == 1
