"""Batches made on the device, against those of CropSource: every number is the same.

Triton's interpreter runs the kernels; benchmarks/gpu.py makes the same comparison on a GPU.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.trained import make_dataset, small_config

from gru_audio.config import CONTEXT_FRAMES
from gru_audio.data.dataset import Dataset
from gru_audio.data.stored.clips import Clip
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.batches.loader import batches
from gru_audio.training.batches.on_device import BatchMaker, checked_maker, differing_share, why_not

CPU = torch.device("cpu")
QUICK = (  # the interpreter takes 20 ms a sample
    *("mel.n_fft=64", "mel.window_samples=50", "mel.hop_samples=10", "mel.n_mels=8", "signal.lpc_order=2"),
    *(
        "signal.pitch_min_hz=400.0",
        "signal.pitch_max_hz=1000.0",
        "model.samples_per_step=1",
        "train.run_in_s=0.0",
    ),
)


def at_edges(monkeypatch: pytest.MonkeyPatch, source: CropSource) -> None:
    """Make a source draw crops that begin or end where a clip does, and some in between."""
    spot, turn = source.spot, itertools.cycle((0, 10**9, 1, None))

    def moved(rng: np.random.Generator, n_frames: int) -> tuple[Clip, int]:
        clip, first = spot(rng, n_frames)
        place = next(turn)
        return clip, first if place is None else min(place, clip.n_samples // 10 - n_frames)

    monkeypatch.setattr(source, "spot", moved)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("mel.padding=center",),
        ("train.augment_gain_db=[-6, 6]", "train.augment_polarity=true", "train.augment_speed=0.1"),
    ],
)
def test_batches_are_crop_sources(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start and the end of clips, too."""
    pytest.importorskip("triton", minversion="3.9")
    settings = (*QUICK, *overrides)
    dataset = Dataset.open(make_dataset(tmp_path, 110, 140, overrides=settings))
    config = small_config(*settings, "train.batch_size=8", "train.crop_samples=20")
    source = CropSource(dataset, config, "train", CONTEXT_FRAMES)
    at_edges(monkeypatch, source)
    assert why_not(config, source, CPU) is None
    assert source.raw_batch(1).audio.dtype == (np.float32 if len(overrides) > 1 else np.int16)
    maker = BatchMaker(config, CONTEXT_FRAMES, CPU)
    (made,) = batches(source, range(1, 2), 0, CPU, maker=maker)
    for found, expected in zip(made, source.batch(1).to(CPU), strict=True):
        assert torch.equal(found, expected)
    if not overrides:
        assert differing_share(maker, source, CPU) == 0
        other = small_config(
            *settings, "train.batch_size=8", "train.crop_samples=20", "signal.preemphasis=0.5"
        )
        assert differing_share(BatchMaker(other, CONTEXT_FRAMES, CPU), source, CPU) > 0.1


def test_why_the_cpu_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    dataset = Dataset.open(make_dataset(tmp_path, 110, 140))
    config = small_config()
    source = CropSource(dataset, config, "train", CONTEXT_FRAMES)

    def reason(**mel: Any) -> str | None:
        return why_not(
            config.model_copy(update={"mel": config.mel.model_copy(update=mel)}), source, torch.device("meta")
        )

    assert reason() == "meta is no CUDA GPU"
    assert "pre-emphasis" in (reason(preemphasis=0.9) or "")
    assert "transform" in (reason(n_fft=14 * 20) or "")
    assert checked_maker(config, CONTEXT_FRAMES, source, CPU, pytest.fail) is None, "a CPU makes its own"
    told = list[str]()
    assert checked_maker(config, CONTEXT_FRAMES, source, torch.device("cuda"), told.append) is None
    assert len(told) == 1
    assert told[0].startswith("the CPU's processes prepare the batches: ")
