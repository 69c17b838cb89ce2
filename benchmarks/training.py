"""Training steps with the CPU's GRU scan against the same steps with nn.GRU: python benchmarks/training.py DATASET.

Steps are taken where the config's plan changes: at each stage's first batch, and from pruning's start to its end.
Both sides take turns on the same batch, with one thread where no more are asked for; medians and their ratio are
shown, and the time of the whole plan, with that of a step between two of those taken on the straight line between
them in its stage.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from gru_audio.bench.training import StepTimer
from gru_audio.config import Config, TrainConfig, load_config
from gru_audio.data.dataset import Dataset
from gru_audio.network.cpu.scan import can_scan

_SIDES = ("scan", "nn.GRU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--config", default="voice-16k")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the config")
    parser.add_argument(
        "--step", action="append", type=int, help="done before; not the plan's, and no plan's time"
    )
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    dataset, config = Dataset.open(arguments.dataset), load_config(arguments.config, arguments.set)
    steps = sorted(arguments.step or places_of(config))
    print(f"{'step':>8}{'batch':>12}{'kept':>8}{'scan':>10}{'nn.GRU':>10}  samples/s{'ratio':>16}")
    found = {}
    for step in steps:
        timer = StepTimer(dataset, config, step)
        found[step] = medians(timer, arguments.turns)
        ours, theirs = found[step]
        stage, speeds = config.train.stage_at(step), [timer.n_samples / seconds for seconds in found[step]]
        batch = f"{stage.batch_size} x {stage.crop_samples}"
        print(
            f"{step:8,}{batch:>12}{timer.density:8.0%}{ours:8.3f} s{theirs:8.3f} s"
            f"{speeds[0]:11,.0f} /{speeds[1]:8,.0f}{theirs / ours:6.2f}"
        )
    if not arguments.step:
        ours, theirs = (
            hours(config.train, steps, [found[step][side] for step in steps]) for side in range(2)
        )
        print(
            f"{config.train.steps:,} steps, {timer.precision}: {ours:.1f} h against {theirs:.1f} h{theirs / ours:8.2f}"
        )


def places_of(config: Config) -> set[int]:
    """Where a step's cost changes: the stages' first steps, and four of pruning's."""
    train = config.train
    start, end = train.prune_start_step, train.prune_end_step
    pruning = np.linspace(start, end, 5, dtype=int).tolist() if config.model.is_pruned else []
    last = {min(step, train.steps) for stage in train.all_stages for step in (stage.from_step, *pruning)}
    return last - {train.steps}


def medians(timer: StepTimer, turns: int) -> tuple[float, float]:
    """Seconds a step of each side."""
    times: dict[str, list[float]] = {side: [] for side in _SIDES}
    for turn in range(turns + 1):  # the first warms up
        for side, figures in times.items():
            chosen = can_scan if side == "scan" else lambda *_: False
            with mock.patch("gru_audio.network.model.can_scan", chosen):
                began = time.perf_counter()
                timer.step()
                if turn:
                    figures.append(time.perf_counter() - began)
    return statistics.median(times["scan"]), statistics.median(times["nn.GRU"])


def hours(train: TrainConfig, steps: Sequence[int], seconds: Sequence[float]) -> float:
    """Of the whole plan: a stage's steps after the last one taken cost what that one did."""
    total = 0.0
    ends = [*(stage.from_step for stage in train.all_stages[1:]), train.steps]
    for stage, end in zip(train.all_stages, ends, strict=True):
        taken = [i for i, step in enumerate(steps) if train.stage_at(step) == stage]
        every = np.arange(stage.from_step, end)
        total += float(np.interp(every, [steps[i] for i in taken], [seconds[i] for i in taken]).sum())
    return total / 3600


if __name__ == "__main__":
    main()
