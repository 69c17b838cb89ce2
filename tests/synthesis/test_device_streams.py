"""The stages of a device, here a CPU, against the C core's: front end, and streams through all of them."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import small

from gru_audio.arrays import Made
from gru_audio.config import CONTEXT_FRAMES
from gru_audio.network.model import Network
from gru_audio.signal.mel import MelFrames, silent_frames
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.frontend import whole_block
from gru_audio.synthesis.in_step import InStep, StreamsInStep
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.stream import ReadyVoice
from gru_audio.synthesis.torch_engine import frontend
from gru_audio.synthesis.torch_engine.engine import TorchEngine
from gru_audio.synthesis.torch_engine.frontend import DeviceConditioner, tried_conditioner
from gru_audio.synthesis.torch_engine.in_step import DeviceStreams
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.voice import Voice

pytest.importorskip("triton", minversion="3.9")

CPU = torch.device("cpu")
Floats = NDArray[np.float32]
small_config = partial(small.small_config, hop_samples=40)


def vocoder_of(corrections: int = 2, **settings: Any) -> Vocoder:
    torch.manual_seed(0)
    config = small_config(**settings)
    network = Network(config)
    network.set_normalisation(torch.full((small.N_MELS,), -3.0), torch.ones(small.N_MELS))
    tensors = {name: 2 * tensor.numpy() for name, tensor in network.state_dict().items()}
    return Vocoder(Voice(config, tensors), "torch", "cpu", corrections)


def ready_of(vocoder: Vocoder) -> tuple[ReadyVoice, TorchEngine, DeviceConditioner]:
    ready, engine = vocoder.ready, vocoder.engine
    assert isinstance(engine, TorchEngine)
    return ready, engine, DeviceConditioner(ready.voice, fold(ready.voice), CPU)


def mels_of(lengths: list[int]) -> list[Floats]:
    random = np.random.default_rng(0)
    return [(random.standard_normal((n, small.N_MELS)) - 4).astype(np.float32) for n in lengths]


@pytest.mark.parametrize("settings", [{}, {"lpc_order": 0}], ids=str)
@torch.inference_mode()
def test_the_front_end_makes_what_the_cores_does(settings: dict[str, Any]) -> None:
    ready, _, conditioner = ready_of(vocoder_of(**settings))
    (mel,), silence = mels_of([20]), silent_frames(CONTEXT_FRAMES, ready.voice.config.mel)
    inputs, linear = conditioner.inputs(torch.from_numpy(np.concatenate([silence, mel, silence])[None]))
    expected = whole_block(ready.weights, mel)
    np.testing.assert_allclose(inputs.gate_inputs[0], expected.gate_inputs, atol=1e-4)
    np.testing.assert_allclose(inputs.readout_inputs[0], expected.readout_inputs, atol=1e-4)
    np.testing.assert_array_equal(inputs.coefficients[0].flip(1), expected.filters.coefficients)
    np.testing.assert_array_equal(inputs.excitation_scale[0], expected.filters.excitation_scale)
    np.testing.assert_array_equal(inputs.signal_scale[0], expected.filters.signal_scale)
    np.testing.assert_array_equal(inputs.lags[0], expected.lags)
    np.testing.assert_array_equal(linear[0], expected.linear)
    assert settings or (expected.lags > 0).sum() > 0, "some frames are voiced"


def driven(streams: InStep, mels: list[Floats], size: int, given_up: int | None = None) -> list[Made]:
    """What streams make of mels in chunks of a size, pushed while they work; one may be given up after its first."""
    chunks = [[mel[i : i + size] for i in range(0, len(mel), size)] for mel in mels]
    parts: list[list[Made]] = [[] for _ in mels]
    ended = set[int]()
    while True:
        are_working = any(map(streams.is_waiting, range(len(mels))))
        made_of_all = streams.launch()
        for number, left in enumerate(chunks):
            while number not in ended and not streams.is_waiting(number):
                if left and not (number == given_up and len(left) < len(mels[number]) / size):
                    streams.push(number, MelFrames(left.pop(0)))
                else:
                    (streams.give_up if number == given_up else streams.end)(number)
                    ended.add(number)
        if not (are_working or any(map(streams.is_waiting, range(len(mels))))):
            return [Made.joined(own) for own in parts]
        for own, made in zip(parts, made_of_all(), strict=True):
            own.append(made)


@pytest.mark.parametrize("corrections", [0, 2])
@pytest.mark.parametrize("size", [1, 4, 64])
def test_streams_make_what_they_do_by_the_cpu(
    corrections: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gru_audio.synthesis.torch_engine.in_step.FRAMES_TOGETHER", 20)
    ready, engine, conditioner = ready_of(vocoder_of(corrections))
    mels, sampling = mels_of([9, 2, 0, 14]), Sampling(seed=3, tail_cut=0.01)
    expected = driven(StreamsInStep(ready, 4, sampling), mels, size)
    streams = DeviceStreams(engine, conditioner, corrections, 4, sampling)
    for ours, theirs, mel in zip(driven(streams, mels, size), expected, mels, strict=True):
        assert len(ours.audio) == len(ours.raw) == len(mel) * ready.voice.config.mel.hop_samples
        np.testing.assert_allclose(ours.raw, theirs.raw, atol=1e-5)
        np.testing.assert_allclose(ours.audio, theirs.audio, atol=1e-4)
    assert np.abs(expected[3].raw).max() > 1e-3


def test_a_stream_that_is_given_up_changes_no_other() -> None:
    ready, engine, conditioner = ready_of(vocoder_of())
    mels, sampling = mels_of([12, 12]), Sampling()
    expected = driven(StreamsInStep(ready, 2, sampling), mels, 4)[0]
    found = driven(DeviceStreams(engine, conditioner, 2, 2, sampling), mels, 4, given_up=1)[0]
    np.testing.assert_allclose(found.audio, expected.audio, atol=1e-4)


# The choice


def test_a_front_end_that_fails_or_is_off_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ready, _, _ = ready_of(vocoder_of())
    network, inputs = fold(ready.voice), DeviceConditioner.inputs

    def tried() -> DeviceConditioner | str:
        return tried_conditioner(ready.voice, network, ready.weights, CPU)

    assert isinstance(tried(), DeviceConditioner)

    def off(conditioner: DeviceConditioner, mel: torch.Tensor) -> Any:
        made, linear = inputs(conditioner, mel)
        made.gate_inputs += 0.1
        return made, linear

    monkeypatch.setattr(frontend.DeviceConditioner, "inputs", off)
    assert tried() == "it is off by 1.0e-01"

    def broken(conditioner: DeviceConditioner, mel: torch.Tensor) -> Any:
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(frontend.DeviceConditioner, "inputs", broken)
    assert tried() == "RuntimeError: no kernel image"
