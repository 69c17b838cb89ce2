"""The int8 engine's loop against its naive version, float32's and torch's; its states, and its limits."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import naive, small
from support.folded import HOP, block_of, random_block, random_network, voiceless_config
from torch import Tensor

from gru_audio.config import Config, ModelConfig
from gru_audio.native import instruction_sets, library
from gru_audio.network import distribution
from gru_audio.network.model import CodeInputs, Network
from gru_audio.signal.audio import resample
from gru_audio.signal.codec import pre_emphasis, run_closed_loop
from gru_audio.signal.mel import log_mel, silent_frames
from gru_audio.signal.mulaw import encode, expansion_table, thresholds
from gru_audio.synthesis.compiled import CompiledEngine, StreamState
from gru_audio.synthesis.float32_engine import Float32Loop
from gru_audio.synthesis.folding import FoldedNetwork, fold
from gru_audio.synthesis.frontend import FrameBlock
from gru_audio.synthesis.int8.engine import Int8Loop
from gru_audio.synthesis.int8.packing import Int8Network, pack
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.torch_engine import sample_loop
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.voice import Voice

Floats = NDArray[np.float32]
Codes = NDArray[np.int64]

LARGEST_UNIFORM = np.nextafter(np.float32(1), np.float32(0))


class Case(NamedTuple):
    network: FoldedNetwork
    block: FrameBlock
    int8: CompiledEngine
    float32: CompiledEngine

    @property
    def config(self) -> Config:
        return self.network.config

    @property
    def n_samples(self) -> int:
        return HOP * len(self.block)

    def uniforms(self, seed: int = 0) -> Floats:
        return np.random.default_rng(seed).random((1, self.n_samples), np.float32)


def case_of(
    config: Config,
    densities: tuple[float, ...] = (1.0, 1.0, 1.0),
    readout_density: float = 1.0,
    n_frames: int = 8,
) -> Case:
    network = random_network(config, densities=densities, readout_density=readout_density)
    engines = (CompiledEngine(config, loop(network)) for loop in (Int8Loop, Float32Loop))
    return Case(network, random_block(config, n_frames), *engines)


# With 232 units there are quads whose products are computed ahead, some that are not, and half a quad at the end.
CASES = {
    "every sample": (voiceless_config(1, 8, 8, 232, 10), (1.0, 1.0, 1.0), 1.0),
    "two samples, no prediction": (voiceless_config(2, 0, 6, 40, 20), (1.0, 1.0, 1.0), 1.0),
    "four samples, sparse": (voiceless_config(4, 8, 10, 56, 20), (0.5, 0.4, 0.6), 1.0),
    "a sparse readout": (voiceless_config(4, 8, 8, 232, 64), (0.2, 0.2, 0.4), 0.25),
    "a readout with every other block": (voiceless_config(1, 8, 8, 40, 20), (0.5, 0.4, 0.6), 0.5),
    "a readout that lacks some blocks": (voiceless_config(2, 0, 6, 104, 20), (0.5, 0.4, 0.6), 0.75),
}


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(*CASES[request.param])


@pytest.fixture(scope="module")
def plain() -> Case:
    return case_of(*CASES["every sample"])


class RecordedEngine:
    """Generates frame by frame, so that all the codes can be read from the states."""

    def __init__(self, engine: CompiledEngine, state: list[StreamState] | None = None) -> None:
        self.engine, self.state = engine, state or engine.start(1)

    def codes_of(self, block: FrameBlock, uniforms: Floats, **sampling: Any) -> Codes:
        codes, hop = [], uniforms.shape[1] // len(block)
        for frame in range(len(block)):
            part = uniforms[:, frame * hop : (frame + 1) * hop]
            audio = self.engine.generate(self.state, [block[frame : frame + 1]], part, Sampling(**sampling))
            assert np.isfinite(audio).all()
            codes.append(self.state[0].codes[-hop:])
        return np.concatenate(codes)


def assert_draws_agree(codes: Codes, expected: Codes, least: int) -> None:
    """The same codes up to the first that rounding tips, which comes after at least so many."""
    differing = np.flatnonzero(codes != expected)
    assert not differing.size or differing[0] >= least, f"they part at sample {differing[0]}"


# The companding table


codes_by_table = library.function(
    "gru_int8_codes", [Int8Network, library.Floats, library.Int, library.Int64s]
)


@pytest.mark.parametrize("bits", [6, 7, 8, 9, 10])
def test_the_companding_table_is_mu_law(bits: int) -> None:
    edges = thresholds(1 << bits)
    extremes = [0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, 1, -1, 1 + 1e-7, 2, 1e30, -1e30, np.inf, -np.inf]
    random = np.random.default_rng(bits).uniform(-1.2, 1.2, 20_000)
    values = np.concatenate(
        [
            edges,
            np.nextafter(edges, np.float32(-2)),
            np.nextafter(edges, np.float32(2)),
            np.array(extremes, np.float32),
            random.astype(np.float32),
            (random**9).astype(np.float32),
        ]
    )
    found = np.empty(values.size, np.int64)
    codes_by_table(pack(random_network(voiceless_config(1, 8, bits, 32, 16))), values, values.size, found)
    np.testing.assert_array_equal(found, encode(values, 1 << bits))


# The whole loop against its naive version


def test_every_instruction_set_gives_the_same_bits(case: Case) -> None:
    """In free running, in the voices' likelihoods and in the state."""
    uniforms, codes = (
        case.uniforms(),
        np.random.default_rng(1).integers(0, 1 << case.config.signal.bits, case.n_samples),
    )
    found = []
    for instructions in instruction_sets.supported():
        with library.using(instructions):
            engine = CompiledEngine(case.config, Int8Loop(case.network))
            state = engine.start(1)
            audio = engine.generate(state, [case.block], uniforms)
            found.append(
                [audio, engine.probabilities(case.block, codes), *engine.export_state(state).values()]
            )
    assert len(found) >= 1
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_loop_is_the_naive_network(case: Case) -> None:
    """The integers are equal; the gates are not by up to 1e-3, which tips a byte of the state now and then."""
    uniforms = case.uniforms()
    past = case.int8.start(1)[0].codes
    codes = RecordedEngine(case.int8).codes_of(case.block, uniforms)
    low, high = naive.int8_intervals(case.network, case.block, codes, past)
    found, unrounded = (
        case.int8.probabilities(case.block, codes),
        case.float32.probabilities(case.block, codes),
    )
    error = np.abs(np.log(found / (high - low)))
    assert error.mean() < 0.01
    assert error.max() < 0.2
    assert error.mean() < 0.6 * np.abs(np.log(found / unrounded)).mean(), "nearer than the network itself"
    # Every code was drawn from where its uniform number lies in the cumulative distribution.
    beyond = np.maximum(low - uniforms[0], uniforms[0] - high)
    assert beyond.max() < 0.02
    assert np.mean(beyond > 0) < 0.1


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0.6}, {"tail_cut": 0.1}, {"temperature": 2.0, "tail_cut": 0.2}]
)
def test_temperature_and_tail_cut(case: Case, sampling: dict[str, Any]) -> None:
    """As above; but a node near the cut may fall on its other side, which moves all that is below it."""
    uniforms, past = case.uniforms(), case.int8.start(1)[0].codes
    codes = RecordedEngine(case.int8).codes_of(case.block, uniforms, **sampling)
    logits = naive.all_logits(case.network, naive.Int8Network(case.network), case.block, codes, past)
    low, high = naive.intervals_of(logits, codes, **sampling)
    plain_low, plain_high = naive.intervals_of(logits, codes)
    beyond, beyond_plain = (
        np.mean(np.maximum(first - uniforms[0], uniforms[0] - last) > 0.02)
        for first, last in ((low, high), (plain_low, plain_high))
    )
    assert beyond < 0.03
    assert beyond_plain > max(0.04, 3 * beyond), "the settings matter"


@pytest.mark.parametrize("sizes", [[1] * 8, [3, 5], [2, 1, 4, 1]])
def test_any_chunking_gives_the_same_bits(case: Case, sizes: Sequence[int]) -> None:
    uniforms = case.uniforms()
    expected = case.int8.generate(case.int8.start(1), [case.block], uniforms)
    state, ends, parts = case.int8.start(1), np.cumsum([0, *sizes]), []
    for first, last in pairwise(ends):
        part = uniforms[:, first * HOP : last * HOP]
        parts.append(case.int8.generate(state, [case.block[first:last]], part))
    np.testing.assert_array_equal(np.concatenate(parts, 1), expected)


def test_several_streams_at_once_are_each_alone(plain: Case) -> None:
    uniforms = np.concatenate([plain.uniforms(0), plain.uniforms(1)])
    together = plain.int8.generate(plain.int8.start(2), [plain.block] * 2, uniforms)
    for row, own in zip(uniforms, together, strict=True):
        alone = plain.int8.generate(plain.int8.start(1), [plain.block], row[None])
        np.testing.assert_array_equal(own, alone[0])


@pytest.mark.parametrize("to_int8", [True, False])
def test_a_stream_changes_engines(plain: Case, to_int8: bool) -> None:
    one, other = (plain.float32, plain.int8) if to_int8 else (plain.int8, plain.float32)
    uniforms, half = plain.uniforms(), plain.n_samples // 2
    state = one.start(1)
    one.generate(state, [plain.block[:4]], uniforms[:, :half])
    saved = one.export_state(state)
    taken = other.import_state(saved)
    for name, array in other.export_state(taken).items():
        np.testing.assert_array_equal(array, saved[name])
    codes = RecordedEngine(other, taken).codes_of(plain.block[4:], uniforms[:, half:])
    assert_draws_agree(codes, RecordedEngine(one, state).codes_of(plain.block[4:], uniforms[:, half:]), 4)


# Limits


def test_a_held_state_stays_in_its_byte(plain: Case) -> None:
    """An update gate wide open keeps the state for long, and rounding must not let it grow."""
    size, n_frames = plain.config.model.gru_size, 15
    block = random_block(plain.config, n_frames)
    block.gate_inputs[:, size : 2 * size] = np.linspace(20, 200, size)
    state = plain.int8.start(1)
    state[0].hidden[:] = held = np.linspace(-1, 1, size)
    uniforms = np.random.default_rng(0).random((1, n_frames * HOP), np.float32)
    audio = plain.int8.generate(state, [block], uniforms)
    assert np.abs(state[0].hidden).max() <= 1
    away_from_zero = np.abs(held) > 0.2
    np.testing.assert_array_equal(np.sign(state[0].hidden)[away_from_zero], np.sign(held)[away_from_zero])
    assert np.isfinite(audio).all()


@pytest.mark.parametrize("uniform", [0.0, 0.5, LARGEST_UNIFORM])
@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.01},
        {"temperature": 10.0},
        {"tail_cut": 0.49},
        {"temperature": 0.01, "tail_cut": 0.49},
    ],
)
def test_extreme_draws(case: Case, uniform: float, sampling: dict[str, Any]) -> None:
    uniforms = np.full((1, case.n_samples), uniform, np.float32)
    codes = RecordedEngine(case.int8).codes_of(case.block, uniforms, **sampling)
    assert codes.min() >= 0
    assert codes.max() < case.config.signal.n_classes
    if not sampling and uniform != 0.5:
        assert (codes == (0 if uniform == 0 else case.config.signal.n_classes - 1)).mean() > 0.4


@pytest.mark.parametrize("code", [0, -1])
def test_extreme_codes(case: Case, code: int) -> None:
    n_classes = case.config.signal.n_classes
    codes = np.full(case.n_samples, code % n_classes)
    codes[::7] = n_classes - 1 - codes[0]
    probabilities = case.int8.probabilities(case.block, codes)
    assert np.isfinite(probabilities).all()
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1


def test_extreme_frames(plain: Case) -> None:
    """Filters that blow the signal up, and inputs out of all proportion: no code leaves the table."""
    block = random_block(plain.config, 8)
    block.filters.coefficients[:] = 3.0
    block.gate_inputs[::2], block.readout_inputs[1::2] = 1e30, -1e30
    state = plain.int8.start(1)
    plain.int8.generate(state, [block], plain.uniforms())
    assert state[0].codes.min() >= 0
    assert state[0].codes.max() < plain.config.signal.n_classes
    assert np.abs(state[0].hidden).max() <= 1


# On speech


def spread_network(config: Config, mel: Floats) -> Network:
    """Random weights, as widely spread as a trained network's."""
    torch.manual_seed(0)
    network = Network(config).eval()
    network.set_normalisation(torch.from_numpy(mel).mean(0), torch.from_numpy(mel).std(0).clamp(min=0.1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    return network


def voice_of(network: Network) -> Voice:
    return Voice(network.config, {name: tensor.numpy() for name, tensor in network.state_dict().items()})


class Spoken(NamedTuple):
    """A clip under teacher forcing."""

    network: Network
    mel: Floats
    block: FrameBlock
    codes: Codes
    read: Codes  # (2, T) of the sample before and of the prediction


@pytest.fixture(scope="module")
def spoken(speech: Floats) -> Spoken:
    """1.2 s at 8 kHz."""
    config = CASES["every sample"][0]
    audio = resample(speech[:19_200], 16_000, small.RATE)
    audio = audio[: audio.size // HOP * HOP]
    mel = log_mel(audio, config.mel)
    network = spread_network(config, mel)
    block = block_of(voice_of(network), mel)
    trace = run_closed_loop(pre_emphasis(audio, config.signal.preemphasis), block.filters, config.signal)
    read = np.stack([trace.previous_signal, trace.prediction]).astype(np.int64)
    return Spoken(network, mel, block, trace.target.astype(np.int64), read)


def engine_of(network: Network, name: str) -> CompiledEngine:
    engine = Vocoder(voice_of(network), name).engine
    assert isinstance(engine, CompiledEngine)
    return engine


def torch_nats(spoken: Spoken) -> Floats:
    """-ln P of each code, from the module's forward."""
    config, network = spoken.network.config, spoken.network
    assert network.pitch_head is not None
    past = np.full(config.lag_max_samples, config.signal.n_classes // 2)
    history, n_samples = np.concatenate([past, spoken.codes]), spoken.codes.size
    lags = spoken.block.lags.astype(np.float64)
    delayed = naive.delayed_codes(history, lags, n_samples, config.signal.n_classes // 2)
    columns = torch.from_numpy(np.stack([*spoken.read, delayed]))[:, None]  # (3, 1, T)
    padding = silent_frames(2, config.mel)
    with torch.no_grad():
        mel = network.normalise(torch.from_numpy(np.concatenate([padding, spoken.mel, padding])))[None]
        conditioning = network.conditioner(mel, network.pitch_head.estimate(network.pitch_head(mel)))
        excitation = torch.from_numpy(history[past.size - 1 : -1])[None]
        logits, _ = network.sample_network(conditioning, CodeInputs(excitation, *columns))
        nats = distribution.negative_log_likelihood("tree", logits[0], torch.from_numpy(spoken.codes))
    return np.asarray(nats.numpy())


def test_speech_is_as_likely_as_to_float32_and_torch(spoken: Spoken) -> None:
    bits = {
        name: -np.log2(engine_of(spoken.network, name).probabilities(spoken.block, spoken.codes))
        for name in ("float32", "int8")
    }
    expected = torch_nats(spoken) / np.log(2)
    assert expected.std() > 0.3, "the codes differ in likelihood"
    assert abs(bits["float32"].mean() - expected.mean()) < 1e-3
    assert np.abs(bits["float32"] - expected).max() < 1e-2
    assert abs(bits["int8"].mean() - bits["float32"].mean()) < 0.02
    assert np.abs(bits["int8"] - bits["float32"]).max() < 1


@pytest.mark.parametrize("level", ["silent", "very loud"])
def test_silence_and_a_very_loud_mel(spoken: Spoken, level: str) -> None:
    config = spoken.network.config
    mel = silent_frames(20, config.mel) if level == "silent" else np.full((20, small.N_MELS), 10, np.float32)
    vocoder = Vocoder(voice_of(spoken.network), "int8")
    for temperature, tail_cut in ((1.0, 0.0), (10.0, 0.0), (0.01, 0.49)):
        audio = vocoder.synthesize(mel, Sampling(temperature=temperature, tail_cut=tail_cut), check=False)
        assert np.isfinite(audio).all()


def input_amplitudes(config: Config, block: FrameBlock, codes: Codes) -> Floats:
    """What the sample after some codes reads: the sample before it and its prediction, in the frame's scale."""
    filters, order = block.filters, config.signal.lpc_order
    expansion = expansion_table(config.signal.n_classes)
    rebuilt, hop = np.zeros(order + codes.size, np.float32), config.mel.hop_samples
    for t, code in enumerate(codes):
        prediction = filters.coefficients[t // hop] @ rebuilt[t : t + order][::-1]
        rebuilt[order + t] = prediction + filters.excitation_scale[t // hop] * expansion[code]
    frame = codes.size // hop
    newest_first = rebuilt[codes.size :][::-1]
    values = [newest_first[0], filters.coefficients[frame] @ newest_first]
    return np.asarray(np.array(values, np.float32) / filters.signal_scale[frame])


def test_float32_draws_what_torch_draws_for_thousands_of_samples(
    monkeypatch: pytest.MonkeyPatch, speech: Floats
) -> None:
    """For a quarter of a second; they part where one of two things lies on the edge of two codes: the uniform
    number in the cumulative distribution, or an amplitude that is read as its mu-law code."""
    config = Config(model=ModelConfig(gru_size=32, conditioning_size=16, readout_size=16, pitch_size=16))
    mel = log_mel(speech[:4_000], config.mel)
    voice, draw = voice_of(spread_network(config, mel)), distribution.drawn
    drawn: list[tuple[int, Tensor, float]] = []

    def recording_draw(probability: Tensor, uniform: Tensor) -> Tensor:
        code = draw(probability, uniform)
        drawn.append((int(code[0]), probability[0].clone(), float(uniform[0])))
        return code

    monkeypatch.setattr(sample_loop, "drawn", recording_draw)
    vocoder = Vocoder(voice, "torch", "cpu")
    block, uniforms = (
        block_of(voice, mel),
        np.random.default_rng(0).random((1, 4_000), np.float32),
    )
    vocoder.engine.generate(vocoder.engine.start(1), [block], uniforms, Sampling(temperature=1.0))
    found = RecordedEngine(CompiledEngine(config, Float32Loop(fold(voice)))).codes_of(block, uniforms)
    codes = np.array([code for code, _, _ in drawn])
    differing = np.flatnonzero(found != codes)
    if differing.size:
        first = differing[0]
        _, probability, uniform = drawn[first]
        edges = probability.double().cumsum(0)
        from_draw = np.abs(edges.numpy() - uniform).min()
        read = input_amplitudes(config, block, codes[:first])[:, None]
        # Absolute: small amplitudes are differences of large ones.
        from_reading = np.abs(thresholds(config.signal.n_classes) - read).min()
        assert min(from_draw, from_reading) < 1e-5, (
            f"at {first}: {from_draw:.5f}, {from_reading:.5f} from an edge"
        )
        assert first > 500
