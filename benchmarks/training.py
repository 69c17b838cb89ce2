"""A training step with the CPU's GRU scan against the same step with nn.GRU: python benchmarks/training.py DATASET.

Both take turns on the same batch, one thread each; medians and their ratio are shown.
"""

import argparse
import statistics
import time
from pathlib import Path
from unittest import mock

import torch

from gru_audio.bench.training import StepTimer
from gru_audio.config import load_config
from gru_audio.dataset import Dataset
from gru_audio.scan import can_scan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--config", default="voice-16k")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the config")
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    timer = StepTimer(Dataset.open(arguments.dataset), load_config(arguments.config, arguments.set))
    times: dict[str, list[float]] = {"scan": [], "nn.GRU": []}
    for turn in range(arguments.turns + 1):  # the first warms up
        for name, figures in times.items():
            chosen = can_scan if name == "scan" else lambda *_: False
            with mock.patch("gru_audio.model.can_scan", chosen):
                began = time.perf_counter()
                timer.step()
                if turn:
                    figures.append(time.perf_counter() - began)
    print(f"{arguments.config}, {timer.precision}, {timer.n_samples:,} samples a step")
    medians = {name: statistics.median(figures) for name, figures in times.items()}
    for name, median in medians.items():
        print(f"{name:8}{median:8.3f} s a step{timer.n_samples / median:12,.0f} samples/s")
    print(f"ratio   {medians['nn.GRU'] / medians['scan']:8.2f}")


if __name__ == "__main__":
    main()
