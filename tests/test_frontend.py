"""The front end of synthesis: the frame kernels' parts, any chunking of frames, and streams beside each other.

Against the trained modules it is tested in test_synthesis.py.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small import N_MELS, small_config

from gru_audio.lpc import frame_filters
from gru_audio.model import Network
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.frame_kernels import FRAMES_AT_ONCE, _lag_position, _tanh_row
from gru_audio.synthesis.frontend import ConditioningWeights, FrameBlock, FrontEnd
from gru_audio.voice import Voice

Floats = NDArray[np.float32]
N_FRAMES = 2 * FRAMES_AT_ONCE + 5


def weights_of(lpc_order: int = 8, **model: object) -> ConditioningWeights:
    """Of an untrained network that calls about half of the frames voiced."""
    torch.manual_seed(0)
    network = Network(small_config(lpc_order, **model))  # type: ignore[arg-type]
    voice = Voice(network.config, {name: tensor.numpy() for name, tensor in network.state_dict().items()})
    return ConditioningWeights(voice, fold(voice))


def mel_of(n_frames: int) -> Floats:
    return np.random.default_rng(0).normal(-4, 2, (n_frames, N_MELS)).astype(np.float32)


def arrays_of(block: FrameBlock) -> dict[str, NDArray[Any]]:
    return {**vars(block), **vars(block.filters), "filters": np.zeros(0)}


def blocks(weights: ConditioningWeights, chunks: list[Floats]) -> dict[str, NDArray[Any]]:
    """What a stream gives for chunks, end to end."""
    front_end = FrontEnd(weights)
    parts = [arrays_of(part) for part in (*map(front_end.push, chunks), front_end.finish())]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def same(found: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> None:
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("sizes", [{}, {"conditioning_size": 40, "pitch_size": 33, "readout_size": 32}])
@pytest.mark.parametrize("lpc_order", [0, 8])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 16, 36])
def test_chunks_of_any_size_give_the_same_bits(lpc_order: int, chunk: int, sizes: dict[str, int]) -> None:
    weights, mel = weights_of(lpc_order, **sizes), mel_of(N_FRAMES)
    whole = blocks(weights, [mel])
    assert len(whole["lags"]) == N_FRAMES
    assert bool(lpc_order) == (0 < np.count_nonzero(whole["lags"]) < N_FRAMES)
    same(blocks(weights, [mel[i : i + chunk] for i in range(0, N_FRAMES, chunk)]), whole)


def test_a_block_depends_on_five_frames() -> None:
    """A front end that was given the four frames before goes on as the one that heard all; see stream.py."""
    weights, mel = weights_of(), mel_of(12)
    heard_all, restored = FrontEnd(weights), FrontEnd(weights)
    heard_all.push(mel[:8])
    restored.push(mel[4:8])
    same(arrays_of(restored.push(mel[8:])), arrays_of(heard_all.push(mel[8:])))


def test_no_frames_and_the_first_ones() -> None:
    front_end = FrontEnd(weights_of())
    sizes = [len(front_end.push(mel_of(n))) for n in (0, 1, 0, 1, 1, 0)]
    assert sizes == [0, 0, 0, 0, 1, 0]
    assert len(front_end.finish()) == 2


def test_what_comes_out_is_contiguous_and_belongs_to_the_caller() -> None:
    front_end, mel = FrontEnd(weights_of()), mel_of(20)
    arrays = arrays_of(front_end.push(mel))
    kept = {name: array.copy() for name, array in arrays.items()}
    front_end.push(mel[::-1])
    same(arrays, kept)
    assert all(array.flags.c_contiguous for array in arrays.values())


def test_the_predictors_are_those_of_training() -> None:
    weights, mel = weights_of(), mel_of(N_FRAMES)
    filters = frame_filters(mel, weights.config.mel, weights.config.signal)
    found = blocks(weights, [mel])
    same({name: found[name] for name in vars(filters)}, vars(filters))


def test_threads_share_the_weights() -> None:
    weights, mel = weights_of(), mel_of(200)
    kept = weights.weights.copy(), weights.plan.copy(), weights.prediction.numbers.copy()
    alone = blocks(weights, [mel])
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda _: blocks(weights, np.array_split(mel, 50)), range(6)))
    for found in together:
        same(found, alone)
    for before, after in zip(kept, (weights.weights, weights.plan, weights.prediction.numbers), strict=True):
        np.testing.assert_array_equal(after, before)


def test_tanh_to_a_millionth() -> None:
    x = np.concatenate([np.linspace(-12, 12, 4001), [-1e30, -100, 0, 100, 1e30]]).astype(np.float32)
    found = x.copy()
    _tanh_row(found)
    assert np.abs(found - np.tanh(x.astype(np.float64))).max() < 1e-6  # measured 2e-7
    assert found[x == 0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("best", [0, 1, 20, 39, 40])
def test_the_lag_is_the_mean_of_the_bins_around_the_likeliest(best: int) -> None:
    scores = np.random.default_rng(best).normal(size=41).astype(np.float32)
    scores[best] = 4
    around = np.arange(max(0, best - 2), min(41, best + 3))
    shares = np.exp(scores[around].astype(np.float64))
    assert _lag_position(scores) == pytest.approx(np.sum(around * shares) / np.sum(shares) / 40, rel=1e-9)
