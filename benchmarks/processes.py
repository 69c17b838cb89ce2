"""Two processes at batch 2 B against one at batch B, taking turns: python benchmarks/processes.py DATASET.

Each process has a core and one thread. The two share their gradients in one flat sum, as training does, and once more
through torch's DistributedDataParallel, for comparison; "apart" they share nothing but the machine, which is the most
that can be had. Medians of samples a second and their ratios are shown.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from gru_audio.config import CONTEXT_FRAMES, Config, load_config
from gru_audio.crops import CropSource, Share
from gru_audio.dataset import Dataset
from gru_audio.launch import Launch
from gru_audio.memory import keep_freed_memory
from gru_audio.model import Network
from gru_audio.objective import TensorBatch, compute_losses
from gru_audio.training import Trainer
from gru_audio.training.distributed import Processes, joined

CPU = torch.device("cpu")


class Loss(torch.nn.Module):
    """A network's loss as a module's forward, which DistributedDataParallel wants."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: TensorBatch) -> torch.Tensor:
        return compute_losses(self.network, batch, own_pitch=False).total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--config", default="voice-16k")
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
    single = load_config(arguments.config, ["train.stages=[]"])
    n_crops = single.train.batch_size
    double = load_config(arguments.config, ["train.stages=[]", f"train.batch_size={2 * n_crops}"])
    dataset = Dataset.open(arguments.dataset)
    alone = _stepper(dataset, single, Processes(), Share())
    together = _stepper(dataset, double, processes, processes.share)
    in_buckets = _stepper(dataset, double, Processes(), processes.share, in_buckets=True)
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
        n_samples = n_crops * single.train.crop_samples
        print(f"{arguments.config}, B = {n_crops}, {n_samples:,} samples a step and process")
        medians = {
            name: (1 + (name != "one")) * n_samples / statistics.median(seconds[name]) for name in kinds
        }
        for name, speed in medians.items():
            print(f"{name:10}{speed:12,.0f} samples/s{speed / medians['one']:8.2f} times one")


def _stepper(
    dataset: Dataset, config: Config, processes: Processes, share: Share, *, in_buckets: bool = False
) -> Callable[[], object]:
    """A training step on a fixed batch."""
    with tempfile.TemporaryDirectory() as run:
        trainer = Trainer(dataset, Path(run), config, CPU, processes)
    batch = TensorBatch.of(CropSource(dataset, config, "train", CONTEXT_FRAMES).batch(0, share), CPU)
    if not in_buckets:
        return lambda: trainer.train_step(batch)
    module = DistributedDataParallel(Loss(trainer.network))

    def step() -> None:
        with torch.autocast("cpu", trainer.dtype, enabled=trainer.dtype != torch.float32):
            loss = module(batch)
        trainer.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainer.network.parameters(), config.train.gradient_clip)
        trainer.optimizer.step()

    return step


if __name__ == "__main__":
    main()
