"""The runs that compare_cells.py compares: what is trained, for how long, and what is measured on it."""

import contextlib
import statistics
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import torch
from cells_measures import (
    bits_a_sample,
    gradient_norms,
    hold_gate,
    memory_divergence,
    time_constants,
)
from torch import Tensor

from gru_audio.config import CONTEXT_FRAMES, Config
from gru_audio.data.dataset import Dataset
from gru_audio.training.batches.batch import Batch
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.learner import Learner

CPU = torch.device("cpu")
# The rate is constant, so that a learning curve may be read at any time. No run reaches the last step, nor the
# one at which the pitch head takes over from the labels.
SETTINGS = (
    "model.gru_size=128",
    "model.recurrent_density=[1.0, 1.0, 1.0]",
    "train.steps=1_000_000_000",
    "train.batch_size=16",
    "train.crop_samples=800",
    "train.stages=[]",
    "train.learning_rate=2e-3",
    "train.final_learning_rate=2e-3",
    "train.warm_up_steps=50",
    "train.average_decay=0.99",
    "train.pitch_handover_step=1_000_000_000",
    "train.precision=fp32",
    "train.valid_crops=1",
)
HELD_OUT_CROPS, HELD_OUT_FRAMES = 64, 16
CURVE_POINTS = 16
TIMED_STEPS = 7


@dataclass(frozen=True)
class Variant:
    """What is trained in one run.

    Attributes:
        name: of the run and its file.
        cell: "gru", "lstm" or "rnn".
        size: H.
        held_gate: a GRU's gate that is held still, "reset" at 1 or "update" at 0; "" for none.
    """

    name: str
    cell: str
    size: int
    held_gate: str = ""


@dataclass(frozen=True)
class Curve:
    """How a run learned: at each point the CPU time and steps spent, and the bits a held-out sample."""

    cpu_s: list[float]
    steps: list[int]
    bits: list[float]


@dataclass(frozen=True)
class Run:
    """A run's figures, but for the curve of the moving average that it ended with.

    Attributes:
        variant: what was trained.
        n_parameters: of the whole network.
        n_recurrent: of the cell.
        step_ms: CPU time of a training step, the median over the run.
        fused_step_ms: the same with the GRU's scan or oneDNN's LSTM; None for the RNN, which has neither.
        curve: how it learned.
        gradient_before: `gradient_norms` of the untrained network; entry k is k steps back.
        gradient: `gradient_norms`.
        memory: `memory_divergence`; entry k is k samples later.
        constants: `time_constants`.
    """

    variant: Variant
    n_parameters: int
    n_recurrent: int
    step_ms: float
    fused_step_ms: float | None
    curve: Curve
    gradient_before: list[float]
    gradient: list[float]
    memory: list[float]
    constants: dict[str, list[float]]


def variants(config: Config) -> list[Variant]:
    """All runs: at equal hidden size, at equal recurrent parameters, and GRUs with a gate held."""
    size = config.model.gru_size
    wanted = n_recurrent("gru", size, config)
    return [
        Variant("gru", "gru", size),
        Variant("lstm", "lstm", size),
        Variant("rnn", "rnn", size),
        Variant("lstm-matched", "lstm", matching_size("lstm", wanted, config)),
        Variant("rnn-matched", "rnn", matching_size("rnn", wanted, config)),
        Variant("gru-no-reset", "gru", size, "reset"),
        Variant("gru-no-update", "gru", size, "update"),
    ]


def n_recurrent(cell: str, size: int, config: Config) -> int:
    """Parameters of a cell, as torch counts them: with two biases for each gate."""
    n_gates = {"gru": 3, "lstm": 4, "rnn": 1}[cell]
    return n_gates * size * (config.model.conditioning_size + size + 2)


def matching_size(cell: str, wanted: int, config: Config) -> int:
    """The multiple of 4 whose cell comes nearest to a number of parameters."""
    return min(range(4, 4096, 4), key=lambda size: abs(n_recurrent(cell, size, config) - wanted))


def train_variant(dataset: Dataset, variant: Variant, config: Config, minutes: float) -> Run:
    """Train for some minutes of CPU time within steps, then measure.

    Raises:
        DatasetError: the dataset does not fit the config.
        TrainingError: the gradient was not finite too often.
    """
    model = config.model.model_copy(update={"cell": variant.cell, "gru_size": variant.size})
    config = config.model_copy(update={"model": model})
    held_out, source = held_out_crops(dataset, config), CropSource(dataset, config, "train", CONTEXT_FRAMES)
    learner = Learner(config, CPU, source)
    if variant.held_gate:
        for network in (learner.network, learner.average):
            hold_gate(network.sample_network.cell, variant.held_gate)
    with step_by_step():
        gradient_before = gradient_norms(learner.average, held_out)
        step_s, curve = _learn(learner, source, held_out, 60 * minutes)
        measured = {
            "gradient": gradient_norms(learner.average, held_out),
            "memory": memory_divergence(learner.average, held_out),
        }
        constants = time_constants(learner.average, held_out)
    return Run(
        variant=variant,
        n_parameters=learner.network.n_parameters,
        n_recurrent=sum(parameter.numel() for parameter in learner.network.sample_network.cell.parameters()),
        step_ms=1000 * statistics.median(step_s),
        fused_step_ms=None if variant.cell == "rnn" else _fused_step_ms(learner, source),
        curve=curve,
        gradient_before=gradient_before,
        constants=constants,
        **measured,
    )


def held_out_crops(dataset: Dataset, config: Config) -> Batch[Tensor]:
    """Crops of the validation split, longer than those trained on."""
    n_samples = HELD_OUT_FRAMES * config.mel.hop_samples
    sizes = {"batch_size": HELD_OUT_CROPS, "crop_samples": n_samples, "stages": ()}
    train = config.train.model_copy(update=sizes)
    source = CropSource(dataset, config.model_copy(update={"train": train}), "valid", CONTEXT_FRAMES)
    return source.batch(0).to(CPU)


@contextlib.contextmanager
def step_by_step() -> Iterator[None]:
    """All cells in torch's own loop of small operations: no scan for the GRU, no fused oneDNN for the LSTM."""
    with warnings.catch_warnings(), mock.patch("gru_audio.network.model.can_scan", lambda *_: False):
        warnings.filterwarnings("ignore", "TF32 acceleration")  # the switch sets oneDNN's other flags too
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def _learn(
    learner: Learner, source: CropSource, held_out: Batch[Tensor], budget_s: float
) -> tuple[list[float], Curve]:
    """Train for `budget_s` CPU seconds; returns those of each step, and the curve."""
    step_s: list[float] = []
    curve = Curve([], [], [])
    for point in range(CURVE_POINTS + 1):
        while sum(step_s) < budget_s * point / CURVE_POINTS:
            step_s.append(_step_s(learner, source.batch(len(step_s)).to(CPU)))
        curve.cpu_s.append(sum(step_s))
        curve.steps.append(len(step_s))
        curve.bits.append(bits_a_sample(learner.average, held_out))
    return step_s, curve


def _step_s(learner: Learner, batch: Batch[Tensor]) -> float:
    """A training step's CPU seconds."""
    began = time.process_time()
    learner.train_step(batch)
    return time.process_time() - began


def _fused_step_ms(learner: Learner, source: CropSource) -> float:
    """The median of a few more steps, after one that warms up, with all that speeds up a cell."""
    batch = source.batch(0).to(CPU)
    return 1000 * statistics.median([_step_s(learner, batch) for _ in range(TIMED_STEPS + 1)][1:])
