"""The spectral correction of a device, here a CPU, against the C core's."""

from typing import Any

import numpy as np
import pytest
import torch
from support.pretended_gpu import pretend_gpu
from support.small import small_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gru_audio.config import MelConfig
from gru_audio.synthesis.correction import Corrections
from gru_audio.synthesis.torch_engine import correction
from gru_audio.synthesis.torch_engine.correction import DeviceCorrections


@pytest.mark.parametrize("n_rounds", [0, 1, 3])
@pytest.mark.parametrize(
    "contract",
    [
        {},
        {"spectrum": "power", "log": "db"},
        {"n_mels": 200},
        {"n_mels": 8, "floor": 0.2},
        {"n_fft": 250, "preemphasis": 0.9},
        {"hop_samples": 20, "window_samples": 400, "n_fft": 512},
    ],
    ids=[
        "plain",
        "power",
        "more bands than bins",
        "heard floor",
        "no low end",
        "many windows over one another",
    ],
)
@torch.inference_mode()
def test_the_correction_makes_what_the_cores_does(contract: dict[str, Any], n_rounds: int) -> None:
    """In pieces, and for streams of several lengths, one of which ends early; with silence in frames and in bands."""
    compare(MelConfig(**{**small_config(hop_samples=40).mel.model_dump(), **contract}), n_rounds)


@torch.inference_mode()
def test_a_replayed_frame_is_the_frame_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = pretend_gpu(monkeypatch, correction)
    compare(small_config(hop_samples=40).mel, 1)
    assert len(gpu.graphs) == 1


@torch.inference_mode()
def test_windows_that_overlap_take_no_memory_of_their_square() -> None:
    """64 windows over each sample; their low end's overlaps as a matrix had 17 million numbers."""
    sizes = [0]

    class Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            sizes.extend(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
            return result

    config = MelConfig(hop_samples=16, window_samples=1024)
    with Sizes():  # type: ignore[no-untyped-call]
        corrections = DeviceCorrections(config, 1, 1, torch.device("cpu"))
        corrections.push(torch.ones(1, 16), torch.ones(1, 1, config.n_mels), torch.ones(1, 1))
    assert max(sizes) < 1_000_000


def compare(config: MelConfig, n_rounds: int) -> None:
    random, lengths = np.random.default_rng(0), (9, 3)
    ours, parts = DeviceCorrections(config, n_rounds, 2, torch.device("cpu")), []
    hop, n_all = config.hop_samples, max(16, 9 + ours.delay)
    audio = random.standard_normal((2, n_all * hop)).astype(np.float32) * 0.1
    linear = random.random((2, n_all, config.n_mels)).astype(np.float32)
    linear[0, 4:6] = linear[:, ::5, :7] = 0
    valid = np.arange(n_all) < np.array(lengths)[:, None]
    audio *= valid.repeat(hop, 1)
    for first, last in ((0, 2), (2, 7), (7, n_all)):
        piece = audio[:, first * hop : last * hop], linear[:, first:last], valid[:, first:last]
        parts.append(ours.push(*map(torch.tensor, piece)).numpy())
    made = np.concatenate(parts, 1)
    for row, n, own_audio, own_linear in zip(made, lengths, audio, linear, strict=True):
        corrections = Corrections(config, n_rounds)
        assert ours.delay == corrections.delay
        pushed = corrections.push(own_audio[: n * hop], own_linear[:n])
        expected = np.concatenate([pushed, corrections.finish()])
        # Rounds magnify rounding: numbers that come in off by their last bit move the core's own output by up to 2e-5.
        np.testing.assert_allclose(
            row[ours.delay * hop :][: n * hop], expected, atol=1e-4 * np.abs(expected).max()
        )
