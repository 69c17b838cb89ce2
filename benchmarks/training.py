"""A training step with the CPU's GRU scan against the same step with nn.GRU: python benchmarks/training.py DATASET.

Both take turns on the same batch, one thread each; medians and their ratio are shown.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch

from gru_audio.config import CONTEXT_FRAMES, load_config
from gru_audio.crops import CropSource
from gru_audio.dataset import Dataset
from gru_audio.memory import keep_freed_memory
from gru_audio.objective import TensorBatch
from gru_audio.scan import can_scan
from gru_audio.training import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--config", default="voice-16k")
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    config = load_config(arguments.config)
    dataset = Dataset.open(arguments.dataset)
    with tempfile.TemporaryDirectory() as run:
        trainer = Trainer(dataset, Path(run), config, torch.device("cpu"))
    batch = TensorBatch.of(CropSource(dataset, config, "train", CONTEXT_FRAMES).batch(0), trainer.device)
    times: dict[str, list[float]] = {"scan": [], "nn.GRU": []}
    for turn in range(arguments.turns + 1):  # the first warms up
        for name, figures in times.items():
            chosen = can_scan if name == "scan" else lambda *_: False
            with mock.patch("gru_audio.model.can_scan", chosen):
                began = time.perf_counter()
                trainer.train_step(batch)
                if turn:
                    figures.append(time.perf_counter() - began)
    n_samples = config.train.batch_size * config.train.crop_samples
    print(f"{arguments.config}, {trainer.dtype}, {n_samples:,} samples a step")
    medians = {name: statistics.median(figures) for name, figures in times.items()}
    for name, median in medians.items():
        print(f"{name:8}{median:8.3f} s a step{n_samples / median:12,.0f} samples/s")
    print(f"ratio   {medians['nn.GRU'] / medians['scan']:8.2f}")


if __name__ == "__main__":
    main()
