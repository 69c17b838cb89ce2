"""The sample loop's kernel, in Triton's interpreter, against torch's own operations; see torch_engine/fused.py.

benchmarks/gpu.py compares them on a GPU, with a voice's sizes.
"""

from functools import partial
from typing import Any

import pytest
import torch
from support import small
from torch import Tensor

from gru_audio.network.model import Network
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.sampling import PLAIN, VoicedDraws, VoiceSampling
from gru_audio.synthesis.torch_engine import fused
from gru_audio.synthesis.torch_engine.engine import TorchEngine
from gru_audio.synthesis.torch_engine.fused import FusedLoop, LoopWay
from gru_audio.synthesis.torch_engine.sample_loop import FrameInputs, SampleLoop, TorchState
from gru_audio.voice.voice import Voice

pytest.importorskip("triton", minversion="3.9")

CPU = torch.device("cpu")
WAY = LoopWay(rows=16, units=16, chunk=16, stages=1, warps=4)
SHAPED = VoicedDraws(0.7, (0.6, 0.3, 0.1))
TEMPERATURE, TAIL_CUT = 0.8, 0.02
small_config = partial(small.small_config, hop_samples=4)


def engine_of(voiced: VoicedDraws, in_halves: bool = False, **settings: Any) -> TorchEngine:
    torch.manual_seed(0)
    config = small_config(**settings)
    weights = {name: 2 * tensor for name, tensor in Network(config).state_dict().items()}
    tensors = {name: (w.half().float() if in_halves else w).numpy() for name, w in weights.items()}
    return TorchEngine(fold(Voice(config, tensors)), CPU, VoiceSampling(1.0, voiced))


def by_torch(engine: TorchEngine, voiced: VoicedDraws, frames: FrameInputs) -> tuple[Tensor, TorchState]:
    n_streams, n_frames, _ = frames.uniforms.shape
    loop, parts = SampleLoop(engine.network, n_streams, TEMPERATURE, TAIL_CUT, voiced), []
    for frame in range(n_frames):
        loop.inputs.take(frames, frame)
        loop.run()
        parts.append(loop.audio.clone())
    return torch.cat(parts, 1), loop.state


@pytest.mark.parametrize(
    ("voiced", "settings"),
    [
        (PLAIN, {}),
        (SHAPED, {"samples_per_step": 2}),
        (SHAPED, {"samples_per_step": 4, "bits": 6, "gru_size": 24}),
        (SHAPED, {"lpc_order": 0}),
        (SHAPED, {"samples_per_step": 2, "in_halves": True}),
    ],
    ids=str,
)
@torch.inference_mode()
def test_it_makes_what_torchs_operations_make(voiced: VoicedDraws, settings: dict[str, Any]) -> None:
    engine = engine_of(voiced, **settings)
    frames = fused.trial_frames(engine.network, n_streams=3, n_frames=2)
    expected, after = by_torch(engine, voiced, frames)
    loop, state, parts = FusedLoop(engine.network, voiced, WAY), engine.start(3), []
    assert loop.is_exact == ("in_halves" in settings)
    for frame in range(2):  # so that the second goes on from a state
        piece = FrameInputs(**{name: part[:, frame : frame + 1] for name, part in vars(frames).items()})
        parts.append(loop.run(state, piece, TEMPERATURE, TAIL_CUT))
    torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=0, atol=1e-5)
    assert len(set(expected.flatten().tolist())) > 12, "samples that hang on what was drawn before"
    for name, tensor in vars(state).items():
        if name != "noise" or voiced.are_shaped:
            torch.testing.assert_close(tensor, getattr(after, name), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_streams_may_share_a_row_of_uniform_numbers() -> None:
    engine = engine_of(PLAIN)
    frames = fused.trial_frames(engine.network, n_streams=2, n_frames=1)
    frames.uniforms = frames.uniforms[:1].expand(2, -1, -1)
    expected, _ = by_torch(engine, PLAIN, frames)
    found = FusedLoop(engine.network, PLAIN, WAY).run(engine.start(2), frames, TEMPERATURE, TAIL_CUT)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


# The choice


def chosen(
    engine: TorchEngine, ways: tuple[LoopWay, ...], monkeypatch: pytest.MonkeyPatch
) -> fused.LoopChoice:
    monkeypatch.setattr(fused, "TRIAL_FRAMES", 1)
    with torch.inference_mode():
        return fused.choose(engine.network, PLAIN, engine.start, engine.in_torch_alone, ways)


def test_the_first_way_that_is_right_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, run = engine_of(PLAIN), FusedLoop.run
    broken, wrong = WAY._replace(warps=1), WAY._replace(warps=2)

    def sometimes(loop: FusedLoop, *arguments: Any) -> Tensor:
        if loop.way == broken:
            raise RuntimeError("out of shared memory\nand more")
        return run(loop, *arguments) * (-1 if loop.way == wrong else 1)

    monkeypatch.setattr(FusedLoop, "run", sometimes)
    choice = chosen(engine, (broken, wrong, WAY), monkeypatch)
    assert choice.loop is not None
    assert choice.loop.way == WAY
    assert choice.refused[str(broken)] == "RuntimeError: out of shared memory"
    assert "of the samples it makes others" in choice.refused[str(wrong)]
    assert chosen(engine, (broken,), monkeypatch).loop is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"cell": "lstm"}, "a gru with a tree"), ({"output": "softmax"}, "a gru with a tree")],
)
def test_other_voices_have_no_kernel(
    settings: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = chosen(engine_of(PLAIN, **settings), (WAY,), monkeypatch)
    assert choice.loop is None
    assert reason in choice.refused["all"]


def test_without_triton_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gru_audio.network.triton_ready.why_not", lambda device: "the package triton is not installed"
    )
    assert chosen(engine_of(PLAIN), (WAY,), monkeypatch).refused == {
        "all": "the package triton is not installed"
    }


def test_nan_is_not_equal() -> None:
    expected = torch.ones(2, 4)
    found = expected.clone()
    found[0, 2] = float("nan")
    assert fused.equal_share(found, expected) == 0.75
    assert fused.equal_share(expected, expected) == 1
