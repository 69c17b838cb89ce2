"""Divergence: what counts as one, going back to a checkpoint with a lower rate, exact resume of that, giving up."""

import dataclasses
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import assert_same_runs, logged, tiny_config

from gru_audio.config import CONTEXT_FRAMES, TrainConfig
from gru_audio.data.dataset import Dataset
from gru_audio.errors import TrainingError
from gru_audio.progress import Progress
from gru_audio.training import learner as learner_room
from gru_audio.training import objective
from gru_audio.training import trainer as trainer_room
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.objective import Losses
from gru_audio.training.recovery import Diverged, Returns, Watch
from gru_audio.training.result import TrainResult
from gru_audio.training.run import train
from gru_audio.training.saved.checkpoint import Checkpoint, load_checkpoint
from gru_audio.training.schedules import learning_rate
from gru_audio.voice.run_folder import checkpoint_paths, checkpoint_steps

CPU = torch.device("cpu")
STEPS = ("train.steps=20", "train.max_bad_steps=3", "train.checkpoints_kept=20")


def run_to_end(dataset: Path, run: Path, *overrides: str, **options: Any) -> TrainResult:
    config = tiny_config(*STEPS, *overrides)
    return train(dataset, run, config, device="cpu", threads=1, **options)


def spoil(monkeypatch: pytest.MonkeyPatch, is_bad: Callable[[int, int], bool], extra: float) -> None:
    """Add to the losses of some steps, by the step's number from 1 and how often the run went back before it."""
    compute, step_of = objective.compute_losses, learner_room.Learner.train_step
    now = [0, 0]

    def noting(learner: Any, *arguments: Any) -> Any:
        now[:] = learner.step + 1, learner.returns.times
        return step_of(learner, *arguments)

    def spoiled(network: Any, batch: Any, *, own_pitch: bool) -> Losses:
        losses = compute(network, batch, own_pitch=own_pitch)
        if network.training and is_bad(*now):
            return losses._replace(nats=losses.nats + extra)
        return losses

    monkeypatch.setattr(learner_room.Learner, "train_step", noting)
    monkeypatch.setattr(learner_room, "compute_losses", spoiled)


# What counts as divergence


def losses_of(bits: float) -> Losses:
    return Losses(torch.tensor(bits * math.log(2)), *(torch.zeros(()) for _ in range(3)))


def watch_of(*bits: float, **settings: Any) -> Watch:
    watch = Watch(TrainConfig(**settings), CPU)
    for value in bits:
        watch.add(losses_of(value), torch.ones(()))
    return watch


def test_the_means() -> None:
    seen = watch_of(4.0, 5.0, 6.0).read()
    assert seen.short_bits == seen.long_bits == pytest.approx(5.0)
    seen = watch_of(*[5.0] * 300, *[6.0] * 10).read()
    assert seen.short_bits == pytest.approx(6 - 0.9**10)
    assert seen.long_bits == pytest.approx(6 - 0.99**10)
    assert not seen.has_diverged
    assert not seen.is_calm, "half way to a spike of one bit"


def test_a_spike_is_noticed_and_kept_until_it_is_looked_at() -> None:
    watch = watch_of(*[5.0] * 300, *[20.0] * 2, spike_bits=2.0)
    assert watch.read().has_diverged
    assert watch.read().reason.startswith("the loss rose from 5.")
    for _ in range(200):
        watch.add(losses_of(5.0), torch.ones(()))
    assert watch.read().has_diverged
    assert not watch_of(*[5.0] * 300, *[20.0] * 2, spike_bits=4.0).read().has_diverged


def test_a_loss_that_falls_is_no_spike() -> None:
    bits = [8 * 0.97**step + 3 for step in range(400)]
    assert not watch_of(*bits, spike_bits=0.01).read().has_diverged


@pytest.mark.parametrize(
    ("bits", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (5.0, math.nan), (5.0, math.inf)]
)
def test_what_is_not_finite_is_counted_in_a_row(bits: float, norm: float) -> None:
    watch = watch_of(5.0, max_bad_steps=3)
    assert not watch.add(losses_of(bits), torch.tensor(norm))
    watch.add(losses_of(bits), torch.tensor(norm))
    seen = watch.read()
    assert (seen.n_bad, seen.has_diverged, seen.is_calm) == (2, False, False)
    assert seen.short_bits == seen.long_bits == pytest.approx(5.0)
    assert watch.add(losses_of(5.0), torch.ones(()))
    assert watch.read().n_bad == 0
    for _ in range(3):
        watch.add(losses_of(bits), torch.tensor(norm))
    assert watch.read().has_diverged
    assert watch.read().reason == "the loss or its gradient was not finite 3 times in a row"


def test_a_watch_goes_on_exactly() -> None:
    one, other = watch_of(5.0, 4.9, 4.7), watch_of()
    other.restore(Checkpoint.of(3, [one.state()]))
    for watch in (one, other):
        watch.add(losses_of(4.1), torch.ones(()))
    assert one.state() == other.state()


def test_returns() -> None:
    returns = Returns(TrainConfig(max_returns=2))
    assert returns.rate_factor == 1
    returns.add(Diverged(10, "it rose"))
    assert (returns.times, returns.diverged_at, returns.rate_factor) == (1, 10, 0.5)
    with pytest.raises(TrainingError, match=r"^step 10: it rose, after 1 returns"):
        returns.add(Diverged(10, "it rose"))
    returns.add(Diverged(12, "it rose"))
    assert (returns.times, returns.rate_factor) == (2, 0.25)
    with pytest.raises(TrainingError, match=r"^step 15: it rose, after 2 returns"):
        returns.add(Diverged(15, "it rose"))
    again = Returns(TrainConfig())
    again.restore(Checkpoint.of(0, [returns.state()]))
    assert (again.times, again.diverged_at) == (2, 12)


def test_other_crops_are_drawn_after_a_return(dataset: Path) -> None:
    source = CropSource(Dataset.open(dataset), tiny_config(), "train", CONTEXT_FRAMES)
    batches = [source.batch(3, n_returns=times).target for times in (0, 1, 2, 1)]
    assert (batches[1] == batches[3]).all()
    assert not (batches[0] == batches[1]).all()
    assert not (batches[1] == batches[2]).all()


# Whole runs


def test_bad_steps_in_a_row_go_back(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda step, times: step in (7, 8, 9) and not times, math.nan)
    reports = list[Progress]()
    result = run_to_end(dataset, tmp_path, progress=reports.append)
    assert (result.step, result.finished, result.returns) == (20, True, 1)
    assert [report.done for report in reports] == [*range(1, 9), *range(7, 21)], (
        "9 was lost; 6 was the last good"
    )
    assert "returns" not in reports[7].figures
    assert reports[-1].figures["returns"] == "1, from step 9"
    lines = logged(tmp_path)
    (told,) = (line for line in lines if line["group"] == "recovery")
    assert told == {
        "step": 6, "group": "recovery", "diverged_at_step": 9, "returns": 1, "rate_factor": 0.5,
    }  # fmt: skip
    trained = {line["step"]: line for line in lines if line["group"] == "train"}
    assert sorted(trained) == list(range(1, 21))
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    scheduled = {step: learning_rate(tiny_config(*STEPS).train, step) for step in trained}
    assert [trained[step]["learning_rate"] / scheduled[step] for step in trained] == [1.0] * 6 + [0.5] * 14
    for path in checkpoint_paths(tmp_path):
        for named in load_checkpoint(path).groups.values():
            assert all(tensor.isfinite().all() for tensor in named.values())


def test_a_spike_goes_back(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no checkpoint is written on the way up to it."""
    spoil(monkeypatch, lambda step, times: step > 13 and not times, 40.0)
    saved = list[int]()
    save = trainer_room.Trainer.save

    def noting(trainer: Any) -> Path:
        saved.append(trainer.step)
        return save(trainer)

    monkeypatch.setattr(trainer_room.Trainer, "save", noting)
    result = run_to_end(dataset, tmp_path, "train.spike_bits=2.0", "train.checkpoint_every=1")
    assert (result.finished, result.returns) == (True, 1)
    assert saved[:14] == [*range(1, 14), 13], "13 once more, with the return in it"
    (told,) = (line for line in logged(tmp_path) if line["group"] == "recovery")
    assert told["step"] == 13
    assert load_checkpoint(checkpoint_paths(tmp_path)[-1]).document["returns"] == {
        "times": 1, "diverged_at": told["diverged_at_step"],
    }  # fmt: skip


def spoil_three(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda step, times: step in (7, 8, 9) and not times, math.nan)


@pytest.fixture(scope="module")
def returned(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went back once, and that nothing stopped."""
    run = tmp_path_factory.mktemp("returned")
    with pytest.MonkeyPatch.context() as monkeypatch:
        spoil_three(monkeypatch)
        run_to_end(dataset, run)
    return run


@pytest.mark.parametrize("stop", [5, 8, 11])
def test_resume_is_exact_round_a_return(
    dataset: Path, returned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Stopped before it, amid the bad steps (it goes on until one is good), and after it."""
    spoil_three(monkeypatch)
    told = list[int]()

    def stopping(report: Progress) -> None:
        if report.done == stop and not told:
            told.append(stop)
            signal.raise_signal(signal.SIGINT)

    first = run_to_end(dataset, tmp_path, progress=stopping)
    assert first.step == (7 if stop == 8 else stop)
    assert run_to_end(dataset, tmp_path, resume=True).returns == 1
    for path in set(checkpoint_paths(tmp_path)):
        if not (returned / "checkpoints" / path.name).exists():
            path.unlink()  # of the stop
    assert_same_runs(returned, tmp_path)


def test_again_at_the_same_place_it_stops(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, lambda step, times: step in (7, 8, 9), math.nan)
    with pytest.raises(TrainingError, match=r"^step 9: .* 3 times in a row, after 1 returns") as caught:
        run_to_end(dataset, tmp_path)
    assert "\n" not in str(caught.value)
    assert checkpoint_steps(tmp_path) == [2, 4, 6]


def test_after_some_returns_it_stops(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda step, times: step >= 7 + 2 * times, math.nan)
    with pytest.raises(TrainingError, match=r"^step 13: .* after 2 returns"):
        run_to_end(dataset, tmp_path, "train.max_returns=2")


def test_before_the_first_checkpoint_it_stops(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, lambda step, times: True, math.nan)
    with pytest.raises(
        TrainingError, match=r"^step 3: .* before the first checkpoint; start again with a lower"
    ):
        run_to_end(dataset, tmp_path)
    assert checkpoint_steps(tmp_path) == []


def test_fp16_keeps_its_lower_scale(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda step, times: step in (7, 8, 9) and not times, math.nan)
    run_to_end(dataset, tmp_path, "train.precision=fp16", "train.checkpoint_every=1")
    scales = {
        path.stem: load_checkpoint(path).document["scaler"]["scale"] for path in checkpoint_paths(tmp_path)
    }
    assert scales["step-000000005"] / scales["step-000000006"] == 2**3


def test_a_result_tells_all(dataset: Path, tmp_path: Path) -> None:
    assert dataclasses.asdict(run_to_end(dataset, tmp_path, "train.steps=2"))["returns"] == 0
