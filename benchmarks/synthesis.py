"""How fast each engine generates with each preset: python benchmarks/synthesis.py [--seconds 2].

Weights are random: speed does not depend on them. One stream, one thread. The engines take turns, and the
median of the turns is shown.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from gru_audio.config import load_config, preset_names
from gru_audio.mel import silent_frames
from gru_audio.model import Network
from gru_audio.synthesis.engines import ENGINES
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice import Voice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="audio that a compiled engine makes a turn"
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--presets", nargs="*", default=preset_names())
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'preset':16}{'engine':10}{'samples/s':>12}{'x real time':>13}{'us a sample':>13}")
    for preset in arguments.presets:
        config = load_config(preset)
        tensors = {name: tensor.numpy() for name, tensor in Network(config).state_dict().items()}
        vocoders = {name: Vocoder(Voice(config, tensors), name, "cpu") for name in ENGINES}
        speeds: dict[str, list[float]] = {name: [] for name in ENGINES}
        for vocoder in vocoders.values():
            vocoder.synthesize(silent_frames(1, config.mel))  # compiles, or loads what was compiled
        for _ in range(arguments.turns):
            for name, vocoder in vocoders.items():
                seconds = 0.05 if name == "torch" else arguments.seconds
                n_frames = max(1, round(seconds * config.mel.frame_rate_hz))
                mel = np.random.default_rng(0).normal(-5, 2, (n_frames, config.mel.n_mels))
                began = time.perf_counter()
                n_samples = vocoder.synthesize(mel).size
                speeds[name].append(n_samples / (time.perf_counter() - began))
        for name, figures in speeds.items():
            speed = statistics.median(figures)
            times = speed / config.mel.sample_rate_hz
            print(f"{preset:16}{name:10}{speed:12,.0f}{times:13.2f}{1e6 / speed:13.2f}")


if __name__ == "__main__":
    main()
