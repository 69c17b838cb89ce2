"""The torch engine's frame as something to capture and replay; its states as arrays.

That its samples are right is in test_synthesis.py.
"""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import small
from support.pretended_gpu import PretendedGpu, Recording, pretend_gpu
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from gru_audio.config import Config
from gru_audio.errors import ConfigError
from gru_audio.network.model import Network
from gru_audio.signal.lpc import FrameFilters
from gru_audio.synthesis.engines import make_engine
from gru_audio.synthesis.folding import FoldedNetwork, can_compile, fold
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.sampling import Sampling, VoicedDraws, VoiceSampling
from gru_audio.synthesis.torch_engine import graph, sample_loop
from gru_audio.synthesis.torch_engine.engine import TorchEngine
from gru_audio.synthesis.torch_engine.sample_loop import DeviceNetwork, SampleLoop, TorchState
from gru_audio.voice.voice import Voice

Floats = NDArray[np.float32]

HOP = 20
COLDER = Sampling(temperature=0.8, tail_cut=0.02)
CPU = torch.device("cpu")
small_config = partial(small.small_config, hop_samples=HOP)
MODELS: list[dict[str, Any]] = [
    {},
    {"samples_per_step": 2},
    {"cell": "lstm", "samples_per_step": 4},
    {"cell": "rnn", "output": "softmax"},
    {"lpc_order": 0},
    {"lpc_order": 0, "cell": "lstm", "output": "softmax", "samples_per_step": 2},
]
every_model = pytest.mark.parametrize("model", MODELS, ids=str)


def folded(**settings: Any) -> FoldedNetwork:
    torch.manual_seed(0)
    config = small_config(**settings)
    tensors = {name: 2 * tensor.numpy() for name, tensor in Network(config).state_dict().items()}
    return fold(Voice(config, tensors))


def random_block(config: Config, n_frames: int, seed: int = 0) -> FrameBlock:
    """Frames of no particular voice; half of them voiced, as far as there is a lag."""
    random, model, order = np.random.default_rng(seed), config.model, config.signal.lpc_order
    width = {"gru": 3, "lstm": 4, "rnn": 1}[model.cell] * model.gru_size
    coefficients = np.zeros((n_frames, order), np.float32)
    coefficients[:, :2] = random.uniform(-0.4, 0.5, (n_frames, min(order, 2)))
    excitation_scale, signal_scale = random.uniform(0.1, 1, (2, n_frames)).astype(np.float32)
    lags = random.integers(config.lag_min_samples, config.lag_max_samples + 1, n_frames)
    lags *= (np.arange(n_frames) + seed) % 2 * (order > 0)
    return FrameBlock(
        random.standard_normal((n_frames, width), np.float32),
        random.standard_normal((n_frames, model.readout_size), np.float32),
        FrameFilters(coefficients, excitation_scale, signal_scale),
        lags,
        random.random((n_frames, config.mel.n_mels), np.float32),
    )


def uniforms_of(n_streams: int, n_frames: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).random((n_streams, n_frames * HOP), np.float32)


def generate(
    engine: TorchEngine, blocks: Sequence[FrameBlock], uniforms: Floats, sizes: Sequence[int]
) -> Floats:
    """The audio of streams that begin here, in pieces of some numbers of frames."""
    state, parts, first = engine.start(len(blocks)), [], 0
    for size in sizes:
        piece = [block[first : first + size] for block in blocks]
        draws = uniforms[:, first * HOP : (first + size) * HOP]
        parts.append(engine.generate(state, piece, draws, COLDER))
        first += size
    return np.concatenate(parts, 1)


# Capture and replay


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGpu:
    """From here on a frame is captured as on a GPU, in CPU tensors."""
    return pretend_gpu(monkeypatch, sample_loop)


def test_a_capture_comes_after_a_warm_up_on_a_side_stream(gpu: PretendedGpu) -> None:
    total = torch.zeros(1)

    def work() -> None:
        gpu.log.append("work")
        total.add_(1)

    assert graph.replayable(work, CPU) == work
    assert not gpu.log
    replay = graph.replayable(work, torch.device("cuda"))
    assert gpu.log == ["side waits", "on side", "work", "main waits", "capture", "work"]
    total.zero_()
    for _ in range(3):
        replay()
    assert total.item() == 3
    assert gpu.log.count("work") == 2


@every_model
def test_a_replayed_frame_is_the_frame_itself(
    monkeypatch: pytest.MonkeyPatch, model: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    network = folded(**model)
    blocks = [random_block(network.config, 9, seed) for seed in range(2)]
    uniforms = uniforms_of(2, 9)
    expected = generate(TorchEngine(network, CPU), blocks, uniforms, [9])
    assert len(np.unique(expected)) > 2 * 9 * HOP - 20, "samples that hang on what was drawn before"
    gpu, ran = request.getfixturevalue("gpu"), []
    run = SampleLoop.run_frame
    monkeypatch.setattr(SampleLoop, "run_frame", lambda loop: ran.append(1) or run(loop))  # type: ignore[func-returns-value]
    found = generate(TorchEngine(network, CPU), blocks, uniforms, [1, 4, 0, 2, 2])
    np.testing.assert_array_equal(found, expected)
    assert len(gpu.graphs) == 1
    assert len(ran) == 2, "the warm-up and the capture"


def test_captures_are_kept_for_each_number_of_streams_and_setting(gpu: PretendedGpu) -> None:
    network = folded()
    engine, block = TorchEngine(network, CPU), random_block(network.config, 3)

    def captured(n_streams: int, temperature: float, tail_cut: float, n_frames: int = 1) -> int:
        before, blocks = len(gpu.graphs), [block[:n_frames]] * n_streams
        uniforms = uniforms_of(n_streams, n_frames)
        engine.generate(engine.start(n_streams), blocks, uniforms, Sampling(0, temperature, tail_cut))
        return len(gpu.graphs) - before

    settings = [(1, 1.0, 0.0), (3, 1.0, 0.0), (1, 0.8, 0.0), (1, 1.0, 0.1)]
    assert [captured(*each) for each in settings] == [1, 1, 1, 1]
    assert [captured(*each, n_frames=3) for each in settings] == [0, 0, 0, 0]
    assert captured(5, 1.0, 0.0) == 1
    assert captured(*settings[0]) == 1, "old ones make room"


def test_streams_that_take_turns_share_a_graph(gpu: PretendedGpu) -> None:
    network = folded(cell="lstm")
    blocks, uniforms = [random_block(network.config, 6, seed) for seed in range(2)], uniforms_of(2, 6)
    engine = TorchEngine(network, CPU)
    alone = [generate(engine, [blocks[i]], uniforms[i : i + 1], [6]) for i in range(2)]
    states, parts = [engine.start(1), engine.start(1)], [list[Floats](), list[Floats]()]
    for frame in range(6):
        for i in range(2):
            draws = uniforms[i : i + 1, frame * HOP : (frame + 1) * HOP]
            parts[i].append(engine.generate(states[i], [blocks[i][frame : frame + 1]], draws, COLDER))
    for i in range(2):
        np.testing.assert_array_equal(np.concatenate(parts[i], 1), alone[i])
    assert len(gpu.graphs) == 1


@every_model
def test_a_frame_does_the_same_whatever_its_tensors_hold(model: dict[str, Any]) -> None:
    """The same operations, on tensors of the same form, in the same places."""
    network = folded(**model)
    engine, config = TorchEngine(network, CPU), network.config
    shapes, places = [], []
    with torch.inference_mode():
        loop = SampleLoop(engine.network, 2, 0.8, 0.02)
        for seed in range(2):  # an unvoiced frame, then a voiced one
            blocks = [random_block(config, 1, seed)] * 2
            loop.inputs.take(engine.inputs_of(blocks, uniforms_of(2, 1, seed)), 0)
            with Recording() as recording:
                loop.run()
            shapes.append(recording.shape())
            tensors = [*vars(loop.inputs).values(), *vars(loop.state).values(), loop.audio]
            places.append([tensor.data_ptr() for tensor in tensors])
    assert loop.inputs.lags.all() == (config.signal.lpc_order > 0)
    assert shapes[0] == shapes[1]
    assert places[0] == places[1]


@pytest.mark.skipif(
    torch.version.cuda is None, reason="this torch knows no CUDA device, not even a made-up one"
)
@every_model
def test_a_frame_stays_on_the_gpu(monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]) -> None:
    """On torch's fake tensors, which have a device but no values: none is asked for, and devices never mix."""
    monkeypatch.setattr(sample_loop, "replayable", lambda work, device: work)
    network = folded(**model)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        loop = SampleLoop(DeviceNetwork(network, torch.device("cuda")), 3, 0.8, 0.02)
        loop.run()
        assert {tensor.device.type for tensor in vars(loop.state).values()} == {"cuda"}
        with pytest.raises(DataDependentOutputException):
            loop.audio[0, 0].item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU, and there is none here")
@every_model
def test_a_gpu_generates_what_the_cpu_does(model: dict[str, Any]) -> None:
    """Up to the first draw that rounding tips; pieces of any size are the same bits."""
    network = folded(**model)
    blocks, uniforms = [random_block(network.config, 9, seed) for seed in range(3)], uniforms_of(3, 9)
    expected = generate(TorchEngine(network, CPU), blocks, uniforms, [9])
    engine = TorchEngine(network, torch.device("cuda"))
    found = generate(engine, blocks, uniforms, [9])
    np.testing.assert_array_equal(generate(engine, blocks, uniforms, [1, 4, 2, 2]), found)
    differs = np.abs(found - expected) > 1e-3 * np.abs(expected).max()
    assert np.mean([row.argmax() if row.any() else row.size for row in differs]) > 0.5 * 9 * HOP


# One engine, several users


def test_threads_may_share_an_engine() -> None:
    network = folded()
    blocks, uniforms = [random_block(network.config, 8, seed) for seed in range(4)], uniforms_of(4, 8)
    engine = TorchEngine(network, CPU)

    def one(i: int) -> Floats:
        return generate(engine, [blocks[i]], uniforms[i : i + 1], [1] * 8)

    alone = [one(i) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(one, range(4)), alone, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_inference_mode_around_one_call_does_not_spoil_the_next() -> None:
    network = folded()
    blocks, uniforms = [random_block(network.config, 2)], uniforms_of(1, 2)
    engine = TorchEngine(network, CPU)
    with torch.inference_mode():
        expected = generate(engine, blocks, uniforms, [2])
    np.testing.assert_array_equal(generate(engine, blocks, uniforms, [2]), expected)


@contextlib.contextmanager
def defaults(dtype: torch.dtype, device: str) -> Iterator[None]:
    """A program around the engine that has torch make its tensors otherwise."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


@every_model
@pytest.mark.parametrize(
    ("dtype", "device"), [(torch.float64, "cpu"), (torch.bfloat16, "cpu"), (torch.float32, "meta")]
)
def test_defaults_of_a_program_around_it_change_nothing(
    model: dict[str, Any], dtype: torch.dtype, device: str
) -> None:
    network = folded(**model)
    blocks, uniforms = [random_block(network.config, 3)], uniforms_of(1, 3)
    own = VoiceSampling(1.0, VoicedDraws(0.7, (0.4, 0.2, 0.1)))
    before = TorchEngine(network, CPU, own)
    expected = generate(before, blocks, uniforms, [3])
    with defaults(dtype, device):
        for engine in (before, TorchEngine(network, CPU, own)):
            np.testing.assert_array_equal(generate(engine, blocks, uniforms, [1, 2]), expected)


# States as arrays


@every_model
def test_a_state_goes_through_arrays(model: dict[str, Any]) -> None:
    network = folded(**model)
    config, engine = network.config, TorchEngine(network, CPU)
    block, uniforms = random_block(config, 5), uniforms_of(1, 5)
    state = engine.start(1)
    engine.generate(state, [block[:3]], uniforms[:, : 3 * HOP])
    arrays = engine.export_state(state)
    size = config.model.gru_size
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "hidden": ("float32", (size,)),
        "cell": ("float32", (size,)),
        "codes": ("int64", (config.lag_max_samples,)),
        "rebuilt": ("float32", (config.signal.lpc_order,)),
        "audio": ("float32", (1,)),
        "noise": ("float32", (3,)),
    }
    imported = engine.import_state(arrays)
    kept = {name: array.copy() for name, array in arrays.items()}
    expected = engine.generate(state, [block[3:]], uniforms[:, 3 * HOP :])
    np.testing.assert_array_equal(engine.generate(imported, [block[3:]], uniforms[:, 3 * HOP :]), expected)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, kept[name], "a copy, which going on does not change")


def test_an_exported_state_has_its_newest_last() -> None:
    network = folded()
    engine, block = TorchEngine(network, CPU), random_block(network.config, 1)
    state = engine.start(1)
    audio = engine.generate(state, [block], uniforms_of(1, 1))[0]
    arrays = engine.export_state(state)
    rebuilt = audio[1:] - network.config.signal.preemphasis * audio[:-1]
    np.testing.assert_allclose(arrays["rebuilt"], rebuilt[-8:], atol=1e-6)
    assert arrays["audio"] == audio[-1]
    assert (arrays["codes"][:-HOP] == 128).all()
    assert len(set(arrays["codes"][-HOP:].tolist())) > HOP / 2


@pytest.mark.parametrize("model", [model for model in MODELS if can_compile(small_config(**model))], ids=str)
@pytest.mark.parametrize("names", [("torch", "float32"), ("float32", "torch")])
def test_a_stream_goes_on_in_another_engine(model: dict[str, Any], names: tuple[str, str]) -> None:
    network = folded(**model)
    first, second = (make_engine(name, network, "cpu")[1] for name in names)
    shares = []
    for seed in range(4):
        block, uniforms = random_block(network.config, 4, seed), uniforms_of(1, 4, seed)
        state = first.start(1)
        first.generate(state, [block[:3]], uniforms[:, : 3 * HOP])
        moved = second.import_state(first.export_state(state))
        expected = first.generate(state, [block[3:]], uniforms[:, 3 * HOP :])[0]
        found = second.generate(moved, [block[3:]], uniforms[:, 3 * HOP :])[0]
        differs = np.abs(found - expected) > 1e-3 * np.abs(expected).max()
        shares.append((differs.argmax() if differs.any() else HOP) / HOP)
    assert np.mean(shares) > 0.7, "the same samples, until rounding tips a draw"


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("hidden", None, "'hidden' is missing, not float32 .16,."),
        ("cell", None, "'cell' is missing"),
        ("codes", np.zeros(3, np.int64), r"'codes' is int64 .3,., not int64 .160,."),
        ("codes", np.zeros(160, np.float32), "'codes' is float32"),
        ("audio", np.zeros(()), "'audio' is float64"),
    ],
)
def test_a_state_that_does_not_fit(name: str, array: NDArray[Any] | None, reason: str) -> None:
    engine = TorchEngine(folded(cell="lstm"), CPU)
    arrays = engine.export_state(engine.start(1))
    del arrays[name]
    if array is not None:
        arrays[name] = array
    with pytest.raises(ConfigError, match=f"saved stream: {reason}"):
        engine.import_state(arrays)


def test_streams_of_a_batch_begin_apart() -> None:
    """No tensor of a fresh state is another's: an LSTM's cell is not its hidden state."""
    state: TorchState = TorchEngine(folded(cell="lstm"), CPU).start(2)
    assert len({tensor.data_ptr() for tensor in vars(state).values()}) == len(vars(state))
