"""Training: schedule, precisions, exact resume, signals, logs, refusals, and that it learns."""

import json
import math
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.runs import assert_same_runs, wait_for
from support.trained import run_to_end, small_config, stop_at
from support.warm_process import WarmProcess
from torch import Tensor
from typer.testing import CliRunner

from gru_audio.cli import app
from gru_audio.cli.train import show_result
from gru_audio.config import CONTEXT_FRAMES, TrainConfig, load_config, to_toml
from gru_audio.data.dataset import Dataset
from gru_audio.data.prepare import prepare
from gru_audio.errors import CheckpointError, ConfigError, DatasetError, OutputError, TrainingError
from gru_audio.network.blocks import READOUT_WEIGHT, RECURRENT_WEIGHT, kept_of, model_left
from gru_audio.network.device import choose_device, choose_dtype, is_emulated
from gru_audio.progress import Progress
from gru_audio.signal.mel import silent_frames
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.int8.packing import pack
from gru_audio.synthesis.vocoder import load
from gru_audio.training import learner as learner_room
from gru_audio.training import objective
from gru_audio.training.batches.batch import Batch
from gru_audio.training.batches.crops import ArrayBatch, CropSource
from gru_audio.training.batches.loader import batches
from gru_audio.training.interrupt import stop_on_signals
from gru_audio.training.judging.judge import Judge
from gru_audio.training.judging.validation import Validation
from gru_audio.training.learner import Learner
from gru_audio.training.objective import Losses
from gru_audio.training.result import TrainResult
from gru_audio.training.run import train
from gru_audio.training.saved.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from gru_audio.training.saved.metrics import MetricsLog
from gru_audio.training.schedules import average_decay, learning_rate
from gru_audio.training.trainer import Trainer
from gru_audio.voice.run_folder import checkpoint_paths
from gru_audio.voice.tensor_file import read_tensor_file, write_tensor_file
from gru_audio.voice.voice import load_voice

CPU = torch.device("cpu")
SAMPLES = Path(__file__).parents[2] / "samples"
# torch starts data workers by fork, of which Python 3.12 warns where there are threads.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def logged(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, each of which must be strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


# The learning rate


def test_learning_rate() -> None:
    settings = TrainConfig(steps=1_000, warm_up_steps=100, learning_rate=1e-2, final_learning_rate=1e-4)
    assert learning_rate(settings, 1) == pytest.approx(1e-4)
    assert learning_rate(settings, 50) == pytest.approx(5e-3)
    assert learning_rate(settings, 100) == pytest.approx(1e-2)
    assert learning_rate(settings, 550) == pytest.approx((1e-2 + 1e-4) / 2)
    assert learning_rate(settings, 1_000) == pytest.approx(1e-4)
    rates = [learning_rate(settings, step) for step in range(1, 1_001)]
    assert np.argmax(rates) == 99
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[99:]) < 0).all()


def test_learning_rate_without_warm_up_and_with_nothing_else() -> None:
    settings = TrainConfig(steps=10, warm_up_steps=0, learning_rate=1e-2, final_learning_rate=1e-4)
    assert 9e-3 < learning_rate(settings, 1) < 1e-2
    assert learning_rate(settings, 10) == pytest.approx(1e-4)
    settings = TrainConfig(steps=10, warm_up_steps=20, learning_rate=1e-2)
    assert learning_rate(settings, 10) == pytest.approx(5e-3)
    settings = TrainConfig(steps=10, warm_up_steps=10, learning_rate=1e-2)
    assert learning_rate(settings, 10) == pytest.approx(1e-2)


# Devices and precisions


def test_choose_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == CPU
    for has_gpu, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        assert choose_device("auto") == torch.device(expected)
    with pytest.raises(ConfigError, match="device 'toaster' "):
        choose_device("toaster")
    with pytest.raises(ConfigError, match=r"device 'meta' cannot be used here: .*; use auto or cpu"):
        choose_device("meta")  # whose tensors hold nothing


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="device 'cuda:3' cannot be used here") as caught:
        choose_device("cuda:3")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", [CPU, torch.device("cuda")])
def test_a_stated_precision_is_taken(device: torch.device) -> None:
    names = ("fp32", "bf16", "fp16")
    assert [choose_dtype(name, device) for name in names] == [torch.float32, torch.bfloat16, torch.float16]


def test_auto_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    for has_bf16, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has_bf16, **_: has)
        assert choose_dtype("auto", gpu) == expected
    for has_bf16, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("gru_audio.network.device.cpu_multiplies_bf16", lambda has=has_bf16: has)
        assert choose_dtype("auto", CPU) == expected
    assert choose_dtype("auto", torch.device("mps")) == torch.float32


@pytest.mark.parametrize("has_bf16", [False, True])
def test_numbers_that_the_processor_does_not_multiply(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool
) -> None:
    monkeypatch.setattr("gru_audio.network.device.cpu_multiplies_bf16", lambda: has_bf16)
    found = [is_emulated(name, CPU) for name in ("auto", "fp32", "bf16", "fp16")]
    assert found == [False, False, not has_bf16, True]
    assert not is_emulated("fp16", torch.device("cuda"))


def test_a_slow_precision_is_told(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gru_audio.network.device.cpu_multiplies_bf16", lambda: False)
    result = run_to_end(dataset, tmp_path / "run", "train.precision='bf16'", "train.steps=1")
    assert "train.precision 'bf16': this processor has no such products" in result.notes[0]


def trainer_of(dataset: Path, run: Path, *overrides: str) -> Trainer:
    return Trainer(Dataset.open(dataset), run, small_config(*overrides), CPU)


def source_of(dataset: Path, *overrides: str) -> CropSource:
    return CropSource(Dataset.open(dataset), small_config(*overrides), "train", CONTEXT_FRAMES)


def learner_of(dataset: Path, *overrides: str) -> Learner:
    return Learner(small_config(*overrides), CPU, source_of(dataset, *overrides))


def first_batch(dataset: Path) -> Batch[Tensor]:
    return source_of(dataset).batch(0).to(CPU)


@pytest.mark.parametrize(
    ("cell", "precision"),
    [("gru", "fp32"), ("gru", "bf16"), ("gru", "fp16"), ("lstm", "fp32"), ("lstm", "bf16"), ("rnn", "fp32")],
)
def test_every_precision_reduces_the_loss(dataset: Path, tmp_path: Path, cell: str, precision: str) -> None:
    learner = learner_of(
        dataset, f"train.precision={precision}", f"model.cell={cell}", "train.learning_rate=1e-2",
        "train.steps=100",
    )  # fmt: skip
    assert learner.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert learner.scaler.is_enabled() == (precision == "fp16")
    batch = first_batch(dataset)
    losses = [learner.train_step(batch)[0].nats.item() for _ in range(25)]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0] - 0.5
    assert {parameter.dtype for parameter in learner.network.parameters()} == {torch.float32}


def test_a_precision_that_torch_lacks(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.precision 'fp16': .*use bf16 or fp32"):
        learner_of(dataset, "train.precision=fp16", "model.cell=lstm")


def test_precisions_agree_at_the_first_step(dataset: Path, tmp_path: Path) -> None:
    nats = []
    for precision in ("fp32", "bf16", "fp16"):
        learner = learner_of(dataset, f"train.precision={precision}")
        nats.append(learner.train_step(first_batch(dataset))[0].nats.item())
    assert nats[1:] == pytest.approx([nats[0]] * 2, abs=0.01)
    assert len(set(nats)) == 3, "three precisions, so not quite the same number"


def test_fp16_overflow_is_skipped_and_then_trains(dataset: Path, tmp_path: Path) -> None:
    learner = learner_of(dataset, "train.precision=fp16", "train.learning_rate=1e-2")
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    batch, before = first_batch(dataset), [value.clone() for value in learner.network.parameters()]
    _, norm = learner.train_step(batch)
    assert not torch.isfinite(norm)
    assert learner.watch.read().n_bad == 1
    assert learner.scaler.get_scale() == 2.0**23
    assert all(map(torch.equal, before, learner.network.parameters())), "the step changed nothing"
    for _ in range(9):
        if learner.train_step(batch)[1].isfinite():
            break
    assert learner.watch.read().n_bad == 0
    assert not all(map(torch.equal, before, learner.network.parameters()))
    assert all(value.isfinite().all() for value in learner.network.parameters())


def test_a_checkpoint_before_the_first_good_step(dataset: Path, tmp_path: Path) -> None:
    """With fp16 the first steps may all be skipped; what is saved then must still be of use."""
    trainer = trainer_of(dataset, tmp_path, "train.precision=fp16")
    trainer.learner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    trainer.learner.train_step(first_batch(dataset))
    again = trainer_of(dataset, tmp_path, "train.precision=fp16")
    again.restore(load_checkpoint(trainer.save()))
    learner = again.learner
    assert (learner.step, learner.watch.read().n_bad, learner.scaler.get_scale()) == (1, 1, 2.0**29)
    assert {float(moments["step"]) for moments in learner.optimizer.state.values()} == {0.0}


@pytest.mark.parametrize(("first", "then"), [("fp32", "fp16"), ("fp16", "fp32"), ("bf16", "fp16")])
def test_a_run_may_go_on_with_another_precision(dataset: Path, tmp_path: Path, first: str, then: str) -> None:
    run_to_end(dataset, tmp_path / "run", f"train.precision={first}", progress=stop_at(3))
    result = run_to_end(dataset, tmp_path / "run", f"train.precision={then}", resume=True)
    assert result.finished


def test_only_matrices_decay(dataset: Path, tmp_path: Path) -> None:
    learner = learner_of(dataset)
    decaying, others = learner.optimizer.param_groups
    assert decaying["weight_decay"] == learner.config.train.weight_decay > 0
    assert others["weight_decay"] == 0
    assert {value.ndim for value in others["params"]} == {1}
    assert min(value.ndim for value in decaying["params"]) == 2


def test_the_average_follows_the_weights(dataset: Path, tmp_path: Path) -> None:
    learner = learner_of(dataset, "train.learning_rate=1e-2")
    average = [value.double() for value in learner.average.parameters()]
    batch = first_batch(dataset)
    for step in range(1, 4):
        learner.train_step(batch)
        decay = average_decay(learner.config.train, step)
        average = [
            decay * old + (1 - decay) * new.detach().double()
            for old, new in zip(average, learner.network.parameters(), strict=True)
        ]
    for expected, found in zip(average, learner.average.parameters(), strict=True):
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)
        assert not found.requires_grad


def test_labels_first_and_own_pitch_later(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    compute = objective.compute_losses

    def spying(*arguments: Any, own_pitch: bool) -> Losses:
        seen.append(own_pitch)
        return compute(*arguments, own_pitch=own_pitch)

    monkeypatch.setattr(learner_room, "compute_losses", spying)
    learner = learner_of(dataset, "train.pitch_handover_step=2")
    batch = first_batch(dataset)
    for _ in range(4):
        learner.train_step(batch)
    assert seen == [False, False, True, True]


def test_a_step_does_without_torchs_compiler(warm: WarmProcess, tmp_path: Path) -> None:
    """Loading it takes two seconds of a core, and nothing is compiled; torch's own optimisers load it."""
    loaded = "import sys; print(sorted({'torch._dynamo', 'torch.optim'} & sys.modules.keys())); sys.exit()"
    assert warm.run([], tmp_path / "says", patch=loaded).stdout == b"['torch.optim']\n"


# Whole runs


def test_a_runs_folder(dataset: Path, tmp_path: Path) -> None:
    run, reports = tmp_path / "runs" / "one", list[Progress]()
    result = run_to_end(dataset, run, progress=reports.append)
    assert (result.step, result.finished, result.stopped_by) == (6, True, None)
    assert result.audio_s == pytest.approx(6 * 4 * 240 / 8_000)
    assert result.best_bits == min(result.best_bits, result.last_bits) < result.first_bits

    assert load_config(run / "config.toml") == small_config()
    assert [path.stem for path in checkpoint_paths(run)] == ["step-000000003", "step-000000006"]
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    assert not [path for path in run.rglob("*") if "partial" in path.name]

    lines = logged(run)
    assert [(line["step"], line["group"]) for line in lines] == [
        (0, "valid"), (1, "train"), (2, "train"), (3, "train"), (3, "valid"), (4, "train"), (5, "train"),
        (6, "train"), (6, "valid"),
    ]  # fmt: skip
    valid = [line["bits"] for line in lines if line["group"] == "valid"]
    assert (valid[0], valid[-1], min(valid[1:])) == (result.first_bits, result.last_bits, result.best_bits)
    rates = [line["learning_rate"] for line in lines if line["group"] == "train"]
    assert rates == [learning_rate(small_config().train, step) for step in range(1, 7)]

    assert [(report.done, report.total) for report in reports] == [(step, 6) for step in range(1, 7)]
    assert {"bits", "lr", "speed", "grad"} <= reports[-1].figures.keys()

    voice = load_voice(run)
    best_step = lines[-1]["step"] if valid[-1] == min(valid[1:]) else 3
    assert voice.config == small_config()
    assert (voice.metadata["steps"], voice.metadata["licence"]) == (best_step, "CC0")
    assert voice.metadata["validation"]["bits"] == result.best_bits
    assert voice.metadata["training_hours"] == pytest.approx(
        sum(clip.n_samples for clip in Dataset.open(dataset).clips("train")) / 8_000 / 3_600
    )
    vocoder = load(run)
    assert vocoder.synthesize(silent_frames(3, vocoder.mel_config)).shape == (240,)


def test_the_voice_is_the_average(dataset: Path, tmp_path: Path) -> None:
    run_to_end(dataset, tmp_path, "train.valid_every=6")
    average = load_checkpoint(checkpoint_paths(tmp_path)[-1]).groups["average"]
    tensors = load_voice(tmp_path).tensors
    assert tensors.keys() == average.keys()
    for name, tensor in average.items():
        np.testing.assert_array_equal(tensors[name], tensor.numpy())


@forks
@pytest.mark.parametrize("workers", [0, 1])
def test_resume_is_exact(dataset: Path, tmp_path: Path, workers: int) -> None:
    """Six steps at once, and three, a stop and three more: the same checkpoint and voice, byte for byte."""
    setting = f"train.workers={workers}"
    run_to_end(dataset, tmp_path / "whole", setting)
    first = run_to_end(dataset, tmp_path / "halves", setting, progress=stop_at(3))
    assert (first.step, first.finished, first.stopped_by) == (3, False, signal.SIGINT)
    second = run_to_end(dataset, tmp_path / "halves", setting, resume=True)
    assert (second.step, second.finished) == (6, True)
    assert_same_runs(tmp_path / "whole", tmp_path / "halves")


@forks
def test_workers_change_nothing(dataset: Path, tmp_path: Path) -> None:
    contents = []
    for workers in (0, 2):
        run_to_end(dataset, tmp_path / str(workers), f"train.workers={workers}", "train.steps=2")
        contents.append(load_checkpoint(checkpoint_paths(tmp_path / str(workers))[-1]).groups["network"])
    assert all(torch.equal(contents[0][name], contents[1][name]) for name in contents[0])


def test_the_seed_changes_the_weights(dataset: Path, tmp_path: Path) -> None:
    one, other = (learner_of(dataset, f"train.seed={seed}") for seed in (0, 1))
    assert not torch.equal(
        one.network.sample_network.output.weight, other.network.sample_network.output.weight
    )


def test_steps_stay_in_order_after_a_resume_from_an_older_checkpoint(dataset: Path, tmp_path: Path) -> None:
    """A crash after step 5 left lines that the resumed run will write again, and half a line."""
    run = tmp_path / "run"
    run_to_end(dataset, run, progress=stop_at(5))
    for path in checkpoint_paths(run)[1:]:
        path.unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "gro')
    run_to_end(dataset, run, resume=True)
    steps = [line["step"] for line in logged(run)]
    assert steps == sorted(steps)
    assert [line["step"] for line in logged(run) if line["group"] == "train"] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_whose_header_lacks_something_is_named(dataset: Path, tmp_path: Path) -> None:
    """Its digest fits: another program wrote it."""
    run_to_end(dataset, tmp_path, "train.steps=2")
    path = checkpoint_paths(tmp_path)[-1]
    document, tensors = read_tensor_file(path, "checkpoint")
    for name in ("best_bits", "scaler"):
        kept = {key: value for key, value in document.items() if key not in (name, "digest")}
        write_tensor_file(path, "checkpoint", kept, tensors)
        with pytest.raises(CheckpointError, match=rf"damaged: its header lacks '{name}'; delete it"):
            run_to_end(dataset, tmp_path, "train.steps=4", resume=True)


def test_a_runs_length_may_be_changed(dataset: Path, tmp_path: Path) -> None:
    run_to_end(dataset, tmp_path, "train.steps=2")
    with pytest.raises(TrainingError, match="has done all 2 steps; raise them with --set"):
        run_to_end(dataset, tmp_path, "train.steps=2", resume=True)
    result = run_to_end(dataset, tmp_path, "train.steps=4", "train.learning_rate=1e-4", resume=True)
    assert (result.step, result.finished) == (4, True)
    assert load_config(tmp_path / "config.toml").train.steps == 4


# Pruning

N_COLUMNS, KEPT_COLUMNS = 10, (2, 3, 5)  # blocks of a group of rows, and how many of each gate are kept
PRUNED = (
    "model.gru_size=40",
    "model.recurrent_density=[0.2, 0.3, 0.5]",
    "model.readout_density=0.5",
    "train.steps=11",
    "train.learning_rate=1e-2",
    "train.prune_start_step=2",
    "train.prune_end_step=9",
    "train.prune_every=4",
    "train.valid_every=1",
    "train.checkpoint_every=1",
    "train.checkpoints_kept=20",
)
DENSE = "model.recurrent_density=[1, 1, 1]", "model.readout_density=1"


def recurrent(checkpoint: Checkpoint, group: str) -> torch.Tensor:
    return checkpoint.groups[group][RECURRENT_WEIGHT]


def n_kept_blocks(weight: NDArray[np.float32]) -> list[list[int]]:
    """Blocks with anything beside the diagonal, for each gate and group of rows of (120, 40)."""
    gates = np.where(np.eye(40, dtype=bool), 0, weight.reshape(3, 40, 40))
    padded = np.pad(gates, [(0, 0), (0, 8), (0, 0)])
    counts: list[list[int]] = padded.reshape(3, 3, 16, N_COLUMNS, 4).any((2, 4)).sum(2).tolist()
    return counts


@pytest.fixture(scope="module")
def pruned_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven steps, after 2, 6 and 9 of which the blocks are chosen, and a checkpoint of each."""
    run = tmp_path_factory.mktemp("pruned") / "run"
    run_to_end(dataset, run, *PRUNED)
    return run


def test_what_is_pruned_is_zero_after_every_step(pruned_run: Path) -> None:
    checkpoints = [load_checkpoint(path) for path in checkpoint_paths(pruned_run)]
    assert ["masks" in checkpoint.groups for checkpoint in checkpoints] == [False] + [True] * 10
    before = recurrent(checkpoints[1], "masks")
    assert before.all(), "all are kept at the start"
    for checkpoint in checkpoints[1:]:
        kept = recurrent(checkpoint, "masks")
        assert kept.dtype == torch.bool
        assert torch.equal(kept, before) == (checkpoint.step not in (6, 9)), checkpoint.step
        for name, left in checkpoint.groups["masks"].items():
            for group in ("network", "average"):
                weight = checkpoint.groups[group][name]
                assert torch.equal(weight != 0, left), "all that are kept, and nothing else"
        before = kept
    assert not checkpoints[-1].groups["masks"][READOUT_WEIGHT].all()
    momentum = checkpoints[-1].groups["optimizer"][f"{RECURRENT_WEIGHT}/exp_avg"]
    assert (momentum[~before] != 0).any(), "which would have moved them"


def test_the_strongest_weights_of_that_moment_are_kept(dataset: Path, tmp_path: Path) -> None:
    learner, dense = (learner_of(dataset, *PRUNED, *more) for more in ((), DENSE))
    batch = first_batch(dataset)
    for _ in range(6):
        learner.train_step(batch)
        dense.train_step(batch)
    left = model_left(learner.config, 6)
    densities = [share + (1 - share) * (3 / 7) ** 3 for share in (0.2, 0.3, 0.5)]
    assert left.recurrent_density == pytest.approx(densities)
    assert learner.pruning.kept.keys() == {RECURRENT_WEIGHT, READOUT_WEIGHT}
    for name, kept in learner.pruning.kept.items():
        weights = dense.network.get_parameter(name).detach().numpy()
        expected = torch.from_numpy(kept_of(name, weights, left))
        assert torch.equal(kept, expected) and not expected.all()
        assert torch.equal(learner.network.get_parameter(name), torch.from_numpy(weights) * expected)
    assert not dense.pruning.kept


def test_a_pruned_block_does_not_come_back(dataset: Path, tmp_path: Path) -> None:
    """Even where a single step would give it more than those that were kept have left."""
    learner = learner_of(dataset, *PRUNED)
    batch = first_batch(dataset)
    kept = []
    for step in range(1, 12):
        if step in (9, 10):
            learner.network.get_parameter(RECURRENT_WEIGHT).data *= 1e-6
        learner.train_step(batch)
        if learner.pruning.kept:
            kept.append(learner.pruning.kept[RECURRENT_WEIGHT])
    assert all((before | ~after).all() for before, after in pairwise(kept))
    assert (kept[0] & ~kept[-1]).any()


def test_what_is_pruned_does_not_count_in_the_gradient(dataset: Path, tmp_path: Path) -> None:
    """However the network is run: nn.GRU gives the pruned weights a gradient."""
    learner = learner_of(dataset, *PRUNED)
    batch = first_batch(dataset)
    for _ in range(9):
        learner.train_step(batch)
    kept = learner.pruning.kept
    recurrent_kept = kept[RECURRENT_WEIGHT]
    assert learner.network.sample_network.kept_recurrent is recurrent_kept
    assert learner.average.sample_network.kept_recurrent is recurrent_kept
    with mock.patch("gru_audio.network.model.can_scan", lambda *_: False):
        _, norm = learner.train_step(batch)
    gradients = [parameter.grad for parameter in learner.network.parameters() if parameter.grad is not None]
    for name, left in kept.items():
        assert not learner.network.get_parameter(name).grad[~left].any()  # type: ignore[index]
    clipped = torch.stack([gradient.norm() for gradient in gradients]).norm()
    torch.testing.assert_close(clipped, norm.clamp(max=learner.config.train.gradient_clip), rtol=1e-4, atol=0)


def test_the_voice_holds_only_what_is_kept(pruned_run: Path) -> None:
    """And so does its packed form."""
    voice = load_voice(pruned_run)
    weight, last = voice.tensors[RECURRENT_WEIGHT], load_checkpoint(checkpoint_paths(pruned_run)[-1])
    np.testing.assert_array_equal(weight != 0, recurrent(last, "masks").numpy())
    assert n_kept_blocks(weight) == [[count] * 3 for count in KEPT_COLUMNS]
    packed = pack(fold(voice))
    counts = packed.n_reset_blocks, packed.n_update_blocks, packed.n_new_blocks
    assert sum(counts) == sum(KEPT_COLUMNS)
    assert packed.n_readout_blocks == 6, "of 16 that a part has room for: half of 10, and an even number"


def test_the_densities_are_logged(pruned_run: Path, tmp_path: Path, dataset: Path) -> None:
    names = [f"density_{part}" for part in ("reset", "update", "new", "readout")]
    lines = [line for line in logged(pruned_run) if line["group"] == "train"]
    assert not lines[0].keys() & set(names)
    assert [lines[1][name] for name in names] == [1, 1, 1, 1]
    for earlier, later in pairwise(lines[1:]):
        assert all(later[name] <= earlier[name] for name in names)
    # The blocks, and what of the diagonal lies outside them: at most 40 of a gate's 1600 weights.
    for name, share in zip(names[:3], (0.2, 0.3, 0.5), strict=True):
        assert share <= lines[-1][name] <= share + 40 / 1600
    run_to_end(dataset, tmp_path, "train.steps=1")
    assert not logged(tmp_path)[-2].keys() & set(names), "nothing is said of a dense run"


def test_a_voice_from_before_the_last_choice_is_replaced(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However good it was: it is less sparse than what was asked for."""
    measured, steps = iter(range(1, 20)), list[int]()
    measure, export = Judge.measure, Judge.export
    monkeypatch.setattr(Judge, "measure", lambda judge: {**measure(judge), "bits": float(next(measured))})

    def spying(judge: Judge, step: int, figures: Any) -> None:
        steps.append(step)
        export(judge, step, figures)

    monkeypatch.setattr(Judge, "export", spying)
    run_to_end(dataset, tmp_path, *PRUNED, progress=stop_at(10))
    result = run_to_end(dataset, tmp_path, *PRUNED, resume=True)
    assert steps == [1, 2, 6, 9], "it gets worse all the time"
    assert (result.best_bits, result.last_bits) == (10.0, 13.0), "12 is what the resumed run began with"
    assert load_voice(tmp_path).metadata["steps"] == 9


@pytest.mark.parametrize("stop", [1, 2, 4, 6, 9, 10])
def test_resume_is_exact_while_pruning(dataset: Path, pruned_run: Path, tmp_path: Path, stop: int) -> None:
    """Before the start, at it, between two choices, at one, at the end and after it."""
    run_to_end(dataset, tmp_path, *PRUNED, progress=stop_at(stop))
    assert run_to_end(dataset, tmp_path, *PRUNED, resume=True).finished
    assert_same_runs(pruned_run, tmp_path)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_pruning_in_every_precision(dataset: Path, tmp_path: Path, precision: str) -> None:
    run_to_end(dataset, tmp_path, *PRUNED, f"train.precision={precision}")
    weight = load_voice(tmp_path).tensors[RECURRENT_WEIGHT]
    assert n_kept_blocks(weight) == [[count] * 3 for count in KEPT_COLUMNS]


def without_what_is_new(run: Path) -> None:
    """Make the newest checkpoint one of a version that did not prune."""
    saved = load_checkpoint(checkpoint_paths(run)[-1])
    document = {key: value for key, value in saved.document.items() if key != "best_step"}
    for density in ("recurrent_density", "readout_density"):
        document["config"]["model"].pop(density)
    for key in ("start_step", "end_step", "every"):
        document["config"]["train"].pop(f"prune_{key}")
    save_checkpoint(run, Checkpoint(saved.step, saved.groups, document), 20)


def test_a_dense_run_goes_on_as_before(dataset: Path, tmp_path: Path) -> None:
    """Its checkpoints hold no masks, as those of earlier versions, which resume exactly."""
    for name in ("whole", "halves"):
        run_to_end(dataset, tmp_path / name, progress=stop_at(4) if name == "halves" else lambda _: None)
        assert "masks" not in load_checkpoint(checkpoint_paths(tmp_path / name)[-1]).groups
    without_what_is_new(tmp_path / "halves")
    run_to_end(dataset, tmp_path / "halves", resume=True)
    expected, found = (load_checkpoint(checkpoint_paths(tmp_path / name)[-1]) for name in ("whole", "halves"))
    for group, named in expected.groups.items():
        assert all(torch.equal(tensor, found.groups[group][name]) for name, tensor in named.items())


def test_a_dense_run_can_be_pruned_later(dataset: Path, tmp_path: Path) -> None:
    """Up to its start it is the same as one that was to be pruned from the first; an old checkpoint will do."""
    run_to_end(dataset, tmp_path / "dense", *PRUNED, *DENSE, progress=stop_at(4))
    without_what_is_new(tmp_path / "dense")
    schedule = "train.prune_start_step=5", "train.prune_end_step=8"
    assert run_to_end(dataset, tmp_path / "dense", *PRUNED, *schedule, resume=True).finished
    run_to_end(dataset, tmp_path / "whole", *PRUNED, *schedule)
    for group in ("network", "average", "optimizer", "masks"):
        expected, found = (
            load_checkpoint(checkpoint_paths(tmp_path / name)[-1]).groups[group]
            for name in ("whole", "dense")
        )
        assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert load_config(tmp_path / "dense" / "config.toml").model.recurrent_density == (0.2, 0.3, 0.5)
    weight = load_voice(tmp_path / "dense").tensors[RECURRENT_WEIGHT]
    assert n_kept_blocks(weight) == [[count] * 3 for count in KEPT_COLUMNS]


def test_a_dense_run_past_the_start(dataset: Path, tmp_path: Path) -> None:
    run_to_end(dataset, tmp_path, *PRUNED, *DENSE, "train.steps=4")
    message = (
        r"is dense at step 4, past train\.prune_start_step \(4\); set that to 5 or more, and "
        r"train\.prune_end_step to a later one"
    )
    with pytest.raises(TrainingError, match=message):
        run_to_end(dataset, tmp_path, *PRUNED, "train.prune_start_step=4", resume=True)
    assert load_config(tmp_path / "config.toml").model.recurrent_density == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "overrides",
    [
        DENSE,
        ("model.recurrent_density=[0.1, 0.3, 0.5]",),
        ("model.readout_density=0.25",),
        ("model.readout_size=8",),
    ],
)
def test_a_pruned_run_keeps_its_model(dataset: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    run_to_end(dataset, tmp_path, *PRUNED, progress=stop_at(2))
    with pytest.raises(TrainingError, match=r"started with another \[model\]"):
        run_to_end(dataset, tmp_path, *PRUNED, *overrides, resume=True)


# Refusals


def test_a_run_whose_config_is_gone_goes_on_with_its_checkpoints(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_to_end(dataset, run, "train.steps=4")
    stored = (run / "config.toml").read_text()
    (run / "config.toml").unlink()
    arguments = [
        "train",
        str(dataset),
        "-o",
        str(run),
        "--resume",
        "--set",
        "train.steps=5",
        "--log-to",
        "none",
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert (run / "config.toml").read_text() == stored.replace("steps = 4\n", "steps = 5\n")


def test_what_takes_the_place_of_a_loggers_folder_is_not_told_of_the_log(
    dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(
        OutputError, match=rf"^{re.escape(str(tmp_path))}: cannot be written: a file is in a folder"
    ):
        train(dataset, tmp_path, small_config("train.steps=1"), device="cpu", threads=1)


@pytest.mark.parametrize("name", ["voice.safetensors", "metrics.jsonl", "config.toml"])
def test_what_takes_the_place_of_a_runs_file_is_told_before_the_first_step(
    dataset: Path, tmp_path: Path, name: str
) -> None:
    run_to_end(dataset, tmp_path, "train.steps=1")
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match=rf"{name}: cannot be written: is a folder, not a file"):
        run_to_end(dataset, tmp_path, "train.steps=3", resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == before


@pytest.mark.parametrize("name", ["samples", "checkpoints"])
def test_so_is_what_takes_the_place_of_its_folders(dataset: Path, tmp_path: Path, name: str) -> None:
    """Samples are first written at the first free run, which may be hours later."""
    (tmp_path / name).touch()
    with pytest.raises(OutputError, match=rf"{name}: cannot be written: it is not a folder"):
        run_to_end(dataset, tmp_path, "train.steps=1")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_run_without_a_validation_is_told_no_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where free runs end it before the first; it was told that the best is inf."""
    for best, told in ((math.inf, "8.000 bits a sample, "), (7.5, "8.000 bits a sample (best 7.500), ")):
        result = TrainResult(1, True, 8.0, 8.0, best, audio_s=1.0, wall_s=1.0, steps=3, settled=True)
        show_result(tmp_path, result, json=False, quiet=True)
        assert told in capsys.readouterr().out


def test_a_taken_folder(dataset: Path, tmp_path: Path) -> None:
    run_to_end(dataset, tmp_path, "train.steps=1")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        TrainingError, match=r"holds a run already \(checkpoints/step-0+1\.safetensors\); add --r"
    ):
        run_to_end(dataset, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_nothing_to_resume(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no checkpoint to resume from"):
        run_to_end(dataset, tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_run_that_lost_its_checkpoints_keeps_its_voice(dataset: Path, tmp_path: Path) -> None:
    """One that ended before its first checkpoint starts anew."""
    often = "train.checkpoint_every=2", "train.valid_every=1"
    run_to_end(dataset, tmp_path, *often, "train.steps=3")
    shutil.rmtree(tmp_path / "checkpoints")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        TrainingError,
        match=r"no checkpoint that can be read.* its voice of step 3; train another run with --init",
    ):
        run_to_end(dataset, tmp_path, *often, "train.steps=5", resume=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert run_to_end(dataset, tmp_path, "train.checkpoint_every=3", "train.steps=3", resume=True).finished


def test_a_resumed_run_makes_a_voice_that_was_removed(dataset: Path, tmp_path: Path) -> None:
    """Even one that is no better."""
    run_to_end(dataset, tmp_path, "train.steps=2")
    (tmp_path / "voice.safetensors").unlink()
    worse = "train.learning_rate=10", "train.final_learning_rate=10", "train.average_decay=0"
    result = run_to_end(dataset, tmp_path, *worse, "train.steps=3", resume=True)
    assert load_voice(tmp_path).metadata["steps"] == 3
    assert result.best_bits == result.last_bits


@pytest.mark.parametrize(
    ("override", "table"),
    [("model.gru_size=24", "model"), ("signal.bits=7", "signal"), ("mel.floor=1e-4", "mel")],
)
def test_another_model_cannot_go_on(dataset: Path, tmp_path: Path, override: str, table: str) -> None:
    run_to_end(dataset, tmp_path, "train.steps=1")
    with pytest.raises(TrainingError, match=rf"started with another \[{table}\]"):
        run_to_end(dataset, tmp_path, override, resume=True)
    assert load_config(tmp_path / "config.toml") == small_config("train.steps=1")


def test_another_mel_contract(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"made with another mel contract .*n_mels 20, not 24"):
        run_to_end(dataset, tmp_path / "run", "mel.n_mels=24")


def test_no_clips_to_validate(dataset: Path, tmp_path: Path) -> None:
    audio = dataset.parent / "audio"
    prepare([audio], tmp_path / "data", small_config("prep.valid_fraction=0.0"), jobs=1)
    with pytest.raises(DatasetError, match="split 'valid' is empty"):
        run_to_end(tmp_path / "data", tmp_path / "run")


def test_a_folder_that_cannot_be_written(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        run_to_end(dataset, tmp_path / "file" / "run")


# Losses that are not finite


def spoil(monkeypatch: pytest.MonkeyPatch, bad_calls: range) -> None:
    """Make the training losses of some steps NaN."""
    compute, calls = objective.compute_losses, iter(range(10**6))

    def spoiled(network: Any, batch: Any, *, own_pitch: bool) -> Losses:
        losses = compute(network, batch, own_pitch=own_pitch)
        if network.training and next(calls) in bad_calls:
            return losses._replace(nats=losses.nats * math.nan)
        return losses

    monkeypatch.setattr(learner_room, "compute_losses", spoiled)


def test_a_loss_that_is_not_finite_is_skipped(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, range(1, 3))
    result = run_to_end(dataset, tmp_path)
    assert result.finished
    assert math.isfinite(result.last_bits)
    checkpoint = load_checkpoint(checkpoint_paths(tmp_path)[-1])
    assert all(tensor.isfinite().all() for named in checkpoint.groups.values() for tensor in named.values())
    updates = {
        float(tensor) for name, tensor in checkpoint.groups["optimizer"].items() if name.endswith("/step")
    }
    assert updates == {4.0}, "two of six steps were no updates"
    train_lines = [line for line in logged(tmp_path) if line["group"] == "train"]
    assert ["loss" in line for line in train_lines] == [True, False, False, True, True, True]


def test_nine_in_a_row_do_not_stop_the_run(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, range(2, 11))
    assert run_to_end(dataset, tmp_path, "train.steps=14").returns == 0


# The log


def test_the_log_drops_what_json_cannot_hold(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, 0) as log:
        log.log("train", 1, {"loss": math.nan, "bits": math.inf, "speed": 2.5})
    assert logged(tmp_path) == [{"step": 1, "group": "train", "speed": 2.5}]


def test_the_log_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(OutputError, match="No space left on device"), MetricsLog(tmp_path, 0) as log:
        log.log("train", 1, {"loss": 1.0})


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_and_a_second_one_acts(number: signal.Signals) -> None:
    def end(_number: int, _frame: Any) -> None:
        raise InterruptedError

    outside = signal.signal(number, end)
    try:
        with stop_on_signals() as stopped:
            assert not stopped
            signal.raise_signal(number)
            assert stopped
            assert stopped.signal_number == number
            with pytest.raises(InterruptedError):
                signal.raise_signal(number)
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, outside)


OF_A_SCRIPT = """
import os, signal
os.setsid()
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may have been started by nohup
"""
"""What a shell does for a background job of a script: a group of its own, and SIGINT is ignored."""


@pytest.mark.parametrize(
    ("number", "workers", "to_group"),
    [(signal.SIGINT, 1, True), (signal.SIGTERM, 0, False), (signal.SIGHUP, 1, True)],
)
def test_a_signal_saves_and_stops_the_command(
    warm: WarmProcess, dataset: Path, tmp_path: Path, number: signal.Signals, workers: int, to_group: bool
) -> None:
    """As a terminal's Ctrl-C goes to the whole group, workers included, and a scheduler's SIGTERM to one process."""
    run, config, says = tmp_path / "run", tmp_path / "config.toml", tmp_path / "says"
    settings = small_config(
        "train.steps=1000000", "train.checkpoint_every=1000000", f"train.workers={workers}"
    )
    config.write_text(to_toml(settings))
    command = ["train", str(dataset), "-o", str(run), "--config", str(config)]
    process = warm.start([*command, "--device", "cpu", "--threads", "1"], says, OF_A_SCRIPT)
    log = run / "metrics.jsonl"
    wait_for(lambda: log.is_file() and log.read_text().count("\n") > 5)
    (os.killpg if to_group else os.kill)(process, number)
    code, err = warm.wait(process), says.with_suffix(".err").read_text()
    assert code == 128 + number, err
    assert "Traceback" not in err
    assert "--resume" in err
    (saved,) = checkpoint_paths(run)
    step = load_checkpoint(saved).step
    assert f"step {step:,} of 1,000,000" in says.with_suffix(".out").read_text()
    result = train(
        dataset,
        run,
        load_config(run / "config.toml", [f"train.steps={step + 2}", "train.workers=0"]),
        resume=True,
        device="cpu",
        threads=1,
    )
    assert (result.step, result.finished) == (step + 2, True)
    steps = [line["step"] for line in logged(run) if line["group"] == "train"]
    assert steps == list(range(1, step + 3))


def test_a_closed_terminal_says_so_more_than_once() -> None:
    outside = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with stop_on_signals() as stopped:
            for _ in range(3):
                signal.raise_signal(signal.SIGHUP)
            assert stopped.signal_number == signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, outside)


def test_a_run_in_a_thread(dataset: Path, tmp_path: Path) -> None:
    """As in a notebook or a window of an app: Python lets the main thread alone catch signals."""
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(
            train, dataset, tmp_path / "run", small_config("train.steps=2"), device="cpu"
        ).result()
    assert (result.step, result.finished) == (2, True)


def test_under_nohup_a_run_goes_on() -> None:
    outside = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not stopped
    finally:
        signal.signal(signal.SIGHUP, outside)


ON_A_TERMINAL = """
import os, signal
os.setsid()
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may have been started by nohup
terminal = os.open({name!r}, os.O_RDWR)  # the first that a session's leader opens becomes its own
for stream in range(3):
    os.dup2(terminal, stream)
os.close(terminal)
"""


def test_a_closed_terminal_saves_and_stops_the_command(
    warm: WarmProcess, dataset: Path, tmp_path: Path
) -> None:
    """With a progress bar on a terminal that goes away, as when ssh is cut off."""
    run, config = tmp_path / "run", tmp_path / "config.toml"
    config.write_text(
        to_toml(small_config("train.steps=1000000", "train.checkpoint_every=1000000", "train.workers=1"))
    )
    command = ["train", str(dataset), "-o", str(run), "--config", str(config)]
    terminal, its_end = pty.openpty()
    pid = warm.start(
        [*command, "--device", "cpu", "--threads", "1"],
        tmp_path / "says",
        ON_A_TERMINAL.format(name=os.ttyname(its_end)),
    )
    shown = b""
    while b"training" not in shown or not (run / "metrics.jsonl").is_file():
        shown += os.read(terminal, 65_536)
    os.close(its_end)
    os.close(terminal)
    assert warm.wait(pid) == 128 + signal.SIGHUP
    (saved,) = checkpoint_paths(run)
    assert load_checkpoint(saved).step > 0
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


def test_a_signal_before_the_first_step(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the untrained network is validated: one step, one checkpoint, one voice."""
    validate = Judge.validate

    def interrupted(judge: Judge, log: MetricsLog, step: int) -> float:
        if step == 0:
            signal.raise_signal(signal.SIGTERM)
        return validate(judge, log, step)

    monkeypatch.setattr(Judge, "validate", interrupted)
    result = run_to_end(dataset, tmp_path)
    assert (result.step, result.finished, result.stopped_by) == (1, False, signal.SIGTERM)
    assert len(checkpoint_paths(tmp_path)) == 1
    assert (tmp_path / "voice.safetensors").is_file()


def test_a_stop_before_any_validation_keeps_the_best(dataset: Path, tmp_path: Path) -> None:
    """The voice is measured before the checkpoint is written, so that a later and worse one cannot replace it."""
    settings = "train.steps=9", "train.valid_every=9", "train.log_every=1"
    first = run_to_end(dataset, tmp_path, *settings, progress=stop_at(2))
    assert first.step == 2
    assert math.isfinite(first.best_bits)
    assert load_checkpoint(checkpoint_paths(tmp_path)[-1]).document["best_bits"] == first.best_bits
    second = run_to_end(dataset, tmp_path, *settings, resume=True, progress=stop_at(4))
    assert second.best_bits == first.best_bits
    assert [line["step"] for line in logged(tmp_path) if line["group"] == "valid"] == [0, 2]


@forks
def test_a_lost_data_worker_is_told_and_changes_nothing(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it runs out of memory: the training process draws the same batches, and the run is the same."""
    run_to_end(dataset, tmp_path / "whole", "train.workers=1")
    ours, draw, told = os.getpid(), CropSource.batch, list[str]()

    def draw_or_die(source: CropSource, step: int, *rest: Any, **more: Any) -> ArrayBatch:
        if step == 3 and os.getpid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(source, step, *rest, **more)

    monkeypatch.setattr(CropSource, "batch", draw_or_die)
    result = run_to_end(dataset, tmp_path / "lost", "train.workers=1", tell=told.append)
    assert told == [
        "a process that prepares batches ended (signal 9); they are prepared in the training process from here on; "
        "free memory, or set train.workers=0"
    ]
    assert result.notes == tuple(told)
    assert_same_runs(tmp_path / "whole", tmp_path / "lost")


@forks
def test_a_stop_while_no_batch_can_be_had(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, ours = CropSource.batch, os.getpid()

    def draw_or_hang(source: CropSource, step: int, *rest: Any, **more: Any) -> ArrayBatch:
        if step == 1 and os.getpid() != ours:
            time.sleep(1)
            os.kill(ours, signal.SIGTERM)
            time.sleep(1_000)
        return draw(source, step, *rest, **more)

    monkeypatch.setattr(CropSource, "batch", draw_or_hang)
    result = run_to_end(dataset, tmp_path, "train.workers=1")
    assert (result.step, result.finished, result.stopped_by) == (1, False, signal.SIGTERM)
    assert load_checkpoint(checkpoint_paths(tmp_path)[-1]).step == 1


LOCKED = """
import sys, time
from pathlib import Path
from gru_audio.data.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1]), "train", RuntimeError):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_has_one_run_at_a_time(dataset: Path, tmp_path: Path, resume: bool) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-c", LOCKED, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        before = sorted(run.iterdir())
        with pytest.raises(
            TrainingError, match=rf"another gru-audio train works in it \(process {other.pid}\)"
        ):
            run_to_end(dataset, run, resume=resume)
        assert sorted(run.iterdir()) == before
        other.kill()
    assert run_to_end(dataset, run).finished, "the lock goes with its process"


def test_a_run_that_cannot_begin_leaves_no_folder(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no checkpoint to resume from"):
        run_to_end(dataset, tmp_path / "new" / "run", resume=True)
    assert not (tmp_path / "new" / "run").exists()


def test_an_error_in_a_data_worker_is_one_line(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_source: CropSource, step: int, *_: Any) -> ArrayBatch:
        raise DatasetError(f"the shard went away at {step}")

    source = source_of(dataset)
    monkeypatch.setattr(CropSource, "batch", fail)
    with warnings.catch_warnings(), pytest.raises(DatasetError) as caught:
        warnings.simplefilter("ignore", DeprecationWarning)  # see `forks`
        next(batches(source, range(6), 1, CPU))
    assert str(caught.value) == "the shard went away at 0"


def test_another_pitch_range(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"labels run from 50 to 500 Hz, wanted 100 to 500 Hz; prepare it again"
    ):
        run_to_end(dataset, tmp_path, "signal.pitch_min_hz=100.0")
    assert not (tmp_path / "config.toml").exists()
    run_to_end(dataset, tmp_path, "signal.pitch_min_hz=100.0", "signal.lpc_order=0", "train.steps=1")


def test_other_clips_cannot_go_on(dataset: Path, tmp_path: Path) -> None:
    run_to_end(dataset, tmp_path / "run", "train.steps=1")
    prepare(
        [dataset.parent / "audio" / "0.wav", dataset.parent / "audio" / "1.wav"],
        tmp_path / "other",
        small_config(),
    )
    with pytest.raises(TrainingError, match="was started on other clips than"):
        run_to_end(tmp_path / "other", tmp_path / "run", "train.steps=2", resume=True)


@pytest.mark.parametrize("name", ["voice.safetensors", "metrics.jsonl", "config.toml"])
def test_a_new_run_replaces_nothing(dataset: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(
        TrainingError, match=f"holds a run already \\({name}\\); add --resume, choose another"
    ):
        run_to_end(dataset, tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_a_run_does_not_go_into_a_datasets_folder(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(dataset)
    before = sorted(dataset.iterdir())
    with pytest.raises(
        TrainingError, match="link: holds a dataset; choose another folder for the run, such as"
    ):
        run_to_end(dataset, tmp_path / "link")
    assert sorted(dataset.iterdir()) == before


# It learns


def entropy_bits(codes: NDArray[np.int16]) -> float:
    """Of the histogram of codes: what a model would reach that knows nothing but how often each code comes."""
    share = np.bincount(codes.ravel(), minlength=256) / codes.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


@pytest.mark.slow
def test_the_tiny_config_learns_from_the_samples(tmp_path: Path) -> None:
    """150 steps on the bundled clips: validation goes from over 8 bits a sample to 7.24 on the machine it was
    written on, and well below the 7.50 of the codes' histogram; the pitch head finds the pitch."""
    config = load_config(
        "tiny",
        [
            "train.steps=150",
            "train.pitch_handover_step=100",
            "train.valid_every=150",
            "train.workers=0",
            "train.precision=fp32",
        ],
    )
    prepare([SAMPLES], tmp_path / "data", config, jobs=1)
    result = train(tmp_path / "data", tmp_path / "run", config, device="cpu", threads=1)
    validation = Validation(Dataset.open(tmp_path / "data"), config, CPU).batches
    histogram_bits = entropy_bits(np.concatenate([batch.target for batch in validation]))
    assert result.first_bits > 7.9, "an untrained network knows nothing"
    assert 7.3 < histogram_bits < 7.8
    assert result.last_bits < 7.4, "well below log2 256"
    assert result.last_bits < histogram_bits - 0.1, "more than the codes' histogram"
    before, after = (line for line in logged(tmp_path / "run") if line["group"] == "valid")
    assert before["pitch_cents"] > 500
    assert after["pitch_cents"] < 200
    assert after["voicing_accuracy"] > 0.75
