"""A dataset of a few seconds and the settings of a network that learns from it in a second or two."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from gru_audio.config import Config, load_config
from gru_audio.data.prepare import prepare
from gru_audio.progress import Progress
from gru_audio.training.result import TrainResult
from gru_audio.training.run import train

RATE_HZ = 8_000
SMALL = (
    "mel.sample_rate_hz=8000",
    "mel.n_fft=256",
    "mel.window_samples=200",
    "mel.hop_samples=80",
    "mel.n_mels=20",
    "mel.f_max_hz=4000.0",
    "signal.lpc_order=8",
    "model.gru_size=16",
    "model.conditioning_size=16",
    "model.readout_size=16",
    "model.pitch_size=16",
    "model.samples_per_step=4",
    "train.steps=6",
    "train.batch_size=4",
    "train.crop_samples=240",
    "train.warm_up_steps=2",
    "train.pitch_handover_step=4",
    "train.workers=0",
    "train.log_every=1",
    "train.valid_every=3",
    "train.valid_crops=4",
    "train.checkpoint_every=3",
)


def small_config(*overrides: str) -> Config:
    return load_config("tiny", [*SMALL, *overrides])


def make_dataset(
    folder: Path,
    *pitches_hz: float,
    n_speakers: int = 1,
    licence: str = "CC0",
    overrides: tuple[str, ...] = (),
) -> Path:
    """A dataset of buzzes of 1.5 s in noise, one for each pitch, that glide upwards."""
    rng, t = np.random.default_rng(0), np.arange(3 * RATE_HZ // 2) / RATE_HZ
    for index, pitch_hz in enumerate(pitches_hz):
        phase = 2 * np.pi * (pitch_hz * t + 30 * t**2)
        buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
        path = folder / "audio" / f"speaker{index % n_speakers}" / f"{pitch_hz:g}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * buzz + 0.01 * rng.standard_normal(t.size), RATE_HZ)
    config = small_config("prep.valid_fraction=0.3", *overrides)
    prepare([folder / "audio"], folder / "dataset", config, jobs=1, licence=licence, source_note="made up")
    return folder / "dataset"


def run_to_end(dataset: Path, run: Path, *overrides: str, **options: Any) -> TrainResult:
    return train(dataset, run, small_config(*overrides), device="cpu", threads=1, **options)


def stop_at(step: int, number: signal.Signals = signal.SIGINT) -> Callable[[Progress], None]:
    """A progress callback that sends this process a signal after a step."""

    def callback(report: Progress) -> None:
        if report.done == step:
            signal.raise_signal(number)

    return callback


def logged(run: Path, group: str) -> list[dict[str, Any]]:
    """What metrics.jsonl says of a group, without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clocked = {"samples_per_s", "times_real_time"}
    return [
        {name: value for name, value in line.items() if name not in clocked}
        for line in lines
        if line["group"] == group
    ]
