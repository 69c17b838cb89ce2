"""The front end of synthesis: any chunking of frames, streams beside each other, and the same bits everywhere.

Against the trained modules it is tested in test_synthesis.py.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.small import N_MELS, small_config

from gru_audio.native import instruction_sets, library
from gru_audio.network.model import Network
from gru_audio.signal.lpc import frame_filters
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.frontend import ConditioningWeights, FrameBlock, FrontEnd
from gru_audio.voice.voice import Voice

Floats = NDArray[np.float32]
N_FRAMES = 37  # 16 go through a layer together


def voice_of(lpc_order: int = 8, **model: object) -> Voice:
    """An untrained network that calls about half of the frames voiced."""
    torch.manual_seed(0)
    network = Network(small_config(lpc_order, **model))  # type: ignore[arg-type]
    return Voice(network.config, {name: tensor.numpy() for name, tensor in network.state_dict().items()})


def weights_of(lpc_order: int = 8, **model: object) -> ConditioningWeights:
    voice = voice_of(lpc_order, **model)
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


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("sizes", [{}, {"conditioning_size": 40, "pitch_size": 33, "readout_size": 32}])
@pytest.mark.parametrize("lpc_order", [0, 8])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 16, 36])
def test_chunks_of_any_size_give_the_same_bits(lpc_order: int, chunk: int, sizes: dict[str, int]) -> None:
    weights, mel = weights_of(lpc_order, **sizes), mel_of(N_FRAMES)
    whole = blocks(weights, [mel])
    assert len(whole["lags"]) == N_FRAMES
    assert bool(lpc_order) == (0 < np.count_nonzero(whole["lags"]) < N_FRAMES)
    same(blocks(weights, [mel[i : i + chunk] for i in range(0, N_FRAMES, chunk)]), whole)


@pytest.mark.parametrize("sizes", [{}, {"conditioning_size": 40, "pitch_size": 33, "readout_size": 32}])
@pytest.mark.parametrize("lpc_order", [0, 8])
def test_every_instruction_set_gives_the_same_bits(lpc_order: int, sizes: dict[str, int]) -> None:
    weights, mel = weights_of(lpc_order, **sizes), mel_of(N_FRAMES)
    least, *others = instruction_sets.supported()
    with library.using(least):
        expected = blocks(weights, [mel])
    for name in others:
        with library.using(name):
            same(blocks(weights, [mel]), expected)


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
    shared = {**weights.conditioner.held, **weights.prediction.held}
    kept = {name: array.copy() for name, array in shared.items()}
    alone = blocks(weights, [mel])
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda _: blocks(weights, np.array_split(mel, 50)), range(6)))
    for found in together:
        same(found, alone)
    same(shared, kept)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("place", ["first", "second", "middle", "last but one", "last"])
def test_the_lag_is_the_mean_of_the_bins_around_the_likeliest(place: str) -> None:
    """Of a pitch head that gives every frame the same scores."""
    voice = voice_of()
    n_bins = voice.config.n_lag_bins
    best = {"first": 0, "second": 1, "middle": n_bins // 2, "last but one": n_bins - 2, "last": n_bins - 1}[
        place
    ]
    scores = np.random.default_rng(best).normal(size=n_bins + 1).astype(np.float32)
    scores[best], scores[n_bins] = 4, 0.1
    weight = np.zeros_like(voice.tensors["pitch_head.output.weight"])
    tensors = {**voice.tensors, "pitch_head.output.weight": weight, "pitch_head.output.bias": scores}
    voice = Voice(voice.config, tensors)
    lags = blocks(ConditioningWeights(voice, fold(voice)), [mel_of(3)])["lags"]
    around = np.arange(max(0, best - 2), min(n_bins, best + 3))
    shares = np.exp(scores[around].astype(np.float64))
    position = np.sum(around * shares) / np.sum(shares) / (n_bins - 1)
    first, last = voice.config.lag_min_samples, voice.config.lag_max_samples
    assert lags.tolist() == [round(first * (last / first) ** position)] * 3


def test_numbers_too_large_for_the_layers_give_lags_that_are_some() -> None:
    """A foreign mel may hold any finite number, and the sample loop reads its past at the lag."""
    weights, mel = weights_of(), mel_of(N_FRAMES)
    mel[5], mel[20:22] = 3e38, -3e38
    lags = blocks(weights, [mel])["lags"]
    assert ((lags == 0) | (lags >= weights.config.lag_min_samples)).all()
    assert lags.max() <= weights.config.lag_max_samples
