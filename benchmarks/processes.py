"""Two processes at batch 2 B against one at batch B, taking turns: python benchmarks/processes.py DATASET.

Each process has a core and one thread. The two share their gradients in one flat sum, as training does, and once more
through torch's DistributedDataParallel, for comparison; "apart" they share nothing but the machine, which is the most
that can be had. The steps are those after `--step` steps of the config's plan, with that stage's batch and pruning.
Medians of samples a second and their ratios are shown.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from gru_audio.bench.training import stand_at
from gru_audio.config import CONTEXT_FRAMES, Config, Stage, load_config
from gru_audio.data.dataset import Dataset
from gru_audio.network.cpu.memory import keep_freed_memory
from gru_audio.network.model import Network
from gru_audio.training.batches.batch import Batch
from gru_audio.training.batches.crops import CropSource, Share
from gru_audio.training.distributed import Processes, joined
from gru_audio.training.launch import Launch
from gru_audio.training.learner import Learner
from gru_audio.training.objective import compute_losses

CPU = torch.device("cpu")


class Loss(torch.nn.Module):
    """A network's loss as a module's forward, which DistributedDataParallel wants."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch[Tensor]) -> torch.Tensor:
        return compute_losses(self.network, batch, own_pitch=False).total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--config", default="voice-16k")
    parser.add_argument("--step", type=int, help="the last stage's first by default")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="of each kind in a turn")
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        with joined(Launch.of(os.environ), CPU) as processes:
            measure(arguments, processes)
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*command, "--", __file__, *sys.argv[1:]], check=True)


def measure(arguments: argparse.Namespace, processes: Processes) -> None:
    """One of the two processes."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[processes.launch.rank % len(cores)]})
    torch.set_num_threads(1)
    keep_freed_memory()
    config = load_config(arguments.config)
    step_before = config.train.all_stages[-1].from_step if arguments.step is None else arguments.step
    stage = config.train.stage_at(step_before)
    single, double = (
        _with_batch(config, stage, n_crops) for n_crops in (stage.batch_size, 2 * stage.batch_size)
    )
    dataset = Dataset.open(arguments.dataset)
    alone = _stepper(dataset, single, step_before, Processes(), Share())
    together = _stepper(dataset, double, step_before, processes, processes.share)
    in_buckets = _stepper(dataset, double, step_before, Processes(), processes.share, in_buckets=True)
    kinds: dict[str, Callable[[], object]] = {
        "one": alone if processes.leads else lambda: None,
        "two, apart": alone,
        "two": together,
        "two, DDP": in_buckets,
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(arguments.turns + 1):  # the first warms up
        for name, step in kinds.items():
            processes.gather(None)
            began = time.perf_counter()
            for _ in range(arguments.steps):
                step()
            processes.gather(None)
            if turn:
                seconds[name].append((time.perf_counter() - began) / arguments.steps)
    if processes.leads:
        n_samples = stage.batch_size * stage.crop_samples
        print(
            f"{arguments.config} after {step_before:,} steps, B = {stage.batch_size} of {stage.crop_samples} samples"
        )
        medians = {
            name: (1 + (name != "one")) * n_samples / statistics.median(seconds[name]) for name in kinds
        }
        for name, speed in medians.items():
            print(f"{name:10}{speed:12,.0f} samples/s{speed / medians['one']:8.2f} times one")


def _with_batch(config: Config, stage: Stage, n_crops: int) -> Config:
    train = config.train.with_only(stage).model_copy(update={"batch_size": n_crops})
    return config.model_copy(update={"train": train})


def _stepper(
    dataset: Dataset,
    config: Config,
    step_before: int,
    processes: Processes,
    share: Share,
    *,
    in_buckets: bool = False,
) -> Callable[[], object]:
    """A training step on a fixed batch."""
    source = CropSource(dataset, config, "train", CONTEXT_FRAMES)
    learner, batch = Learner(config, CPU, source, processes), source.batch(0, share).to(CPU)
    stand_at(learner, step_before)
    if not in_buckets:
        return lambda: learner.train_step(batch)
    module = DistributedDataParallel(Loss(learner.network))

    def step() -> None:
        with torch.autocast("cpu", learner.dtype, enabled=learner.dtype != torch.float32):
            loss = module(batch)
        learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.network.parameters(), config.train.gradient_clip)
        learner.optimizer.step()

    return step


if __name__ == "__main__":
    main()
