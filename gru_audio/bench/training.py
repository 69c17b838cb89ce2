"""How fast a network trains: whole optimiser steps on one batch."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gru_audio.bench.cases import Case
from gru_audio.bench.turns import Speed, Task
from gru_audio.config import CONTEXT_FRAMES, Config
from gru_audio.data.dataset import Dataset
from gru_audio.data.prepare import prepare
from gru_audio.network.blocks import RECURRENT_WEIGHT
from gru_audio.network.cpu.memory import keep_freed_memory
from gru_audio.network.device import choose_device
from gru_audio.signal.audio_file.writing import write_audio
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.learner import Learner

_N_CLIPS, _CLIP_S = 4, 2
_SAMPLES_A_STEP = 51_200  # the batch of voice-16k; larger ones are cut
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class TrainingSpeed:
    """The speed of one case's training steps on one core or a GPU, in samples trained on.

    Attributes:
        case: its name.
        precision: what is multiplied in, such as `"bfloat16"`.
        crops_per_step: how many crops of `crop_samples` a step took.
        crop_samples: of the last stage.
        speed: of whole steps.
    """

    case: str
    precision: str
    crops_per_step: int
    crop_samples: int
    speed: Speed


class StepTimer:
    """One learner and one batch, stepped again and again from where it would stand after some steps.

    Attributes:
        n_samples: of the batch.
        density: share of the recurrent weights that are kept.
        precision: what is multiplied in, such as `"bfloat16"`.
    """

    def __init__(
        self, dataset: Dataset, config: Config, step: int | None = None, device: torch.device = _CPU
    ) -> None:
        """Start from random weights; torch's threads are the caller's to set.

        Args:
            dataset: where the batch comes from.
            config: of the run.
            step: done before: the batch is of its stage, and weights are pruned as they would be; the last stage's
                first by default.
            device: where it is trained.

        Raises:
            DatasetError: the dataset does not fit the config.
        """
        keep_freed_memory()
        self._device = device
        source = CropSource(dataset, config, "train", CONTEXT_FRAMES)
        learner = self._learner = Learner(config, device, source)
        stand_at(learner, config.train.all_stages[-1].from_step if step is None else step)
        kept = learner.pruning.kept.get(RECURRENT_WEIGHT)
        self.density = 1.0 if kept is None else kept.float().mean().item()
        self._batch = source.batch(learner.step).to(learner.device)
        self.n_samples = self._batch.target.numel()
        self.precision = str(learner.dtype).removeprefix("torch.")

    def step(self) -> int:
        """One step; returns the samples trained on."""
        self._learner.train_step(self._batch)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self.n_samples


def stand_at(learner: Learner, step: int) -> None:
    """Let a new learner's next step cost what one after so many steps would: weights are pruned as they would be."""
    learner.step = step
    if chosen_at := learner.pruning.last_choice(step):
        learner.pruning.apply(chosen_at)


class TrainingSubject:
    """A case whose training is to be timed, on made-up audio."""

    def __init__(self, case: Case, seconds: float, device_name: str = "cpu") -> None:
        """Prepare audio, a learner and a batch: the last stage's, or fewer crops where a step takes too long.

        Args:
            case: what to train.
            seconds: how long a step may take.
            device_name: where it is trained; a GPU always takes the stage's whole batch.
        """
        device = choose_device(device_name)
        self._case, self._name = case, f"training {case.name}"
        stage = case.config.train.all_stages[-1]
        self._step = stage.from_step
        self._crop_samples = stage.crop_samples
        n_crops = min(stage.batch_size, max(1, _SAMPLES_A_STEP // stage.crop_samples))
        n_crops = n_crops if device.type == "cpu" else stage.batch_size
        with tempfile.TemporaryDirectory() as folder:
            dataset = _made_up_dataset(Path(folder), case.config)
            self._timer = StepTimer(dataset, _with_batch(case.config, n_crops), self._step, device)
            self._timer.step()  # compiles, or loads what was compiled
            began = time.perf_counter()
            self._timer.step()
            share = seconds / (time.perf_counter() - began)
            self._n_crops = n_crops if share >= 1 else max(1, round(share * n_crops))
            if self._n_crops < n_crops:
                self._timer = StepTimer(dataset, _with_batch(case.config, self._n_crops), self._step, device)

    def task(self) -> Task:
        """A step."""
        return Task(self._name, "step", self._timer.step)

    def result(self, speeds: Mapping[tuple[str, str], float]) -> TrainingSpeed:
        """What `take_turns` found."""
        return TrainingSpeed(
            case=self._case.name,
            precision=self._timer.precision,
            crops_per_step=self._n_crops,
            crop_samples=self._crop_samples,
            speed=Speed.of(speeds[self._name, "step"], self._case.config.mel.sample_rate_hz),
        )


def _with_batch(config: Config, n_crops: int) -> Config:
    """The config with another batch of the last stage's crops, and no more validation than a trainer must have."""
    last = config.train.with_only(config.train.all_stages[-1])
    train = last.model_copy(update={"batch_size": n_crops, "valid_crops": 1})
    return config.model_copy(update={"train": train})


def _made_up_dataset(folder: Path, config: Config) -> Dataset:
    """A few clips of a buzz in noise."""
    rate, rng = config.mel.sample_rate_hz, np.random.default_rng(0)
    (folder / "audio").mkdir()
    for clip in range(_N_CLIPS):
        t = np.arange(_CLIP_S * rate) / rate
        buzz = sum(np.sin(2 * np.pi * (100 + 20 * clip) * k * t) / k for k in range(1, 20))
        audio = 0.2 * buzz + 0.02 * rng.standard_normal(t.size)
        write_audio(folder / "audio" / f"{clip}.wav", audio.astype(np.float32), rate)
    prepare([folder / "audio"], folder / "dataset", config, jobs=1)
    return Dataset.open(folder / "dataset")
