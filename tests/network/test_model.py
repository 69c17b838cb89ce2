"""The network: sizes, cells, causality, what each input may influence."""

import itertools
from typing import cast

import numpy as np
import pytest
import torch
from support import naive
from support.small import N_MELS, small_config
from torch import Tensor

from gru_audio.config import CONTEXT_FRAMES, Config, load_config
from gru_audio.network.model import (
    CodeInputs,
    Network,
    SampleNetwork,
    delayed_codes,
)

HOP, LAG_MIN, LAG_MAX = 64, 16, 160
CELLS = ("gru", "lstm", "rnn")


def network_of(config: Config, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network(config).eval()


class Case:
    """Random inputs of a network: a mel and the codes of F frames."""

    def __init__(self, config: Config, n_frames: int = 5, seed: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        n_classes, n_samples = config.signal.n_classes, n_frames * HOP

        def codes(length: int) -> Tensor:
            return torch.randint(n_classes, (1, length), generator=generator)

        self.config = config
        self.mel = torch.randn(1, n_frames + 2 * CONTEXT_FRAMES, N_MELS, generator=generator)
        self.history, self.previous, self.prediction = (
            codes(LAG_MAX + n_samples),
            codes(n_samples),
            codes(n_samples),
        )
        self.lags = torch.tensor([[0.0, LAG_MIN, 31.4, 100.0, LAG_MAX] * 2])[:, :n_frames]

    def inputs(self) -> CodeInputs:
        n_samples, stride = self.previous.shape[1], self.config.model.samples_per_step
        excitation = self.history[:, -n_samples - stride : -1]
        if not self.config.signal.lpc_order:
            return CodeInputs(excitation)
        middle = self.config.signal.n_classes // 2
        long_term = delayed_codes(self.history, self.lags, n_samples, middle)
        return CodeInputs(excitation, self.previous, self.prediction, long_term)

    @torch.no_grad()
    def logits(self, network: Network) -> Tensor:
        """(T, outputs)."""
        lags = self.lags if self.config.signal.lpc_order else None
        conditioning = network.conditioner(network.normalise(self.mel), lags)
        logits: Tensor = network.sample_network(conditioning, self.inputs())[0][0]
        return logits


def changed_samples(before: Tensor, after: Tensor) -> set[int]:
    return set(torch.nonzero((before != after).any(-1))[:, 0].tolist())


# Sizes


@pytest.mark.parametrize(
    ("cell", "output", "stride", "lpc_order"),
    list(itertools.product(CELLS, ("tree", "softmax"), (1, 2, 4), (0, 8))),
)
def test_shapes_and_parameters(cell: str, output: str, stride: int, lpc_order: int) -> None:
    config = small_config(lpc_order, cell=cell, output=output, samples_per_step=stride)
    network, case = network_of(config), Case(config)
    n_outputs = 255 if output == "tree" else 256
    assert case.logits(network).shape == (5 * HOP, n_outputs)

    gates = {"gru": 3, "lstm": 4, "rnn": 1}[cell]
    m, c, h, r, p, q = N_MELS, 12, 16, 10, 8, 256
    step_tables, readout_tables = (stride + 2 + stride, stride + 3) if lpc_order else (stride, stride)
    lag_and_voicing = 2 if lpc_order else 0
    conditioner = (3 * m * c + c) + (3 * c * c + c) + ((c + lag_and_voicing) * c + c) + (c * c + c)
    n_bins = 81  # 24 an octave from 16 to 160 samples, both ends included
    pitch_head = (3 * m * p + p) + (3 * p * p + p) + p * (n_bins + 1) + (n_bins + 1)
    recurrent = gates * (c * h + h * h + 2 * h)
    readout = (h * stride * r + stride * r) + c * r + (r * n_outputs + n_outputs)
    tables = step_tables * q * c + readout_tables * q * r
    assert network.n_parameters == conditioner + bool(lpc_order) * pitch_head + recurrent + readout + tables


def test_parameters_of_the_bundled_voices_config() -> None:
    """voice-16k: H 384, C, R and P 128, S as its file says."""
    config = load_config("voice-16k", ["model.samples_per_step=1", "model.gru_size=384"])
    recurrent = 3 * (128 * 384 + 384 * 384 + 2 * 384)
    tables = (4 + 4) * 256 * 128
    readout = 384 * 128 + 128 + 128 * 128 + 128 * 255 + 255
    conditioner = 3 * 80 * 128 + 3 * 128 * 128 + 130 * 128 + 128 * 128 + 4 * 128
    pitch_head = 3 * 80 * 128 + 3 * 128 * 128 + 2 * 128 + 129 * 82
    assert Network(config).n_parameters == recurrent + tables + readout + conditioner + pitch_head


def test_table_counts() -> None:
    def counts(lpc_order: int) -> list[tuple[int, int]]:
        return [small_config(lpc_order, samples_per_step=stride).table_counts for stride in (1, 2, 4)]

    assert counts(8) == [(4, 4), (6, 5), (10, 7)]
    assert counts(0) == [(1, 1), (2, 2), (4, 4)]


def test_without_linear_prediction_there_is_one_kind_of_input() -> None:
    config = small_config(lpc_order=0, samples_per_step=2)
    network = network_of(config)
    assert network.pitch_head is None
    assert not [name for name in network.state_dict() if "pitch" in name]
    assert network.conditioner.third.in_features == 12
    case = Case(config)
    before = case.logits(network)
    case.previous, case.prediction, case.lags = case.previous * 0, case.prediction * 0, case.lags * 0
    assert not changed_samples(before, case.logits(network))


# The recurrent cell


@pytest.mark.parametrize("cell", CELLS)
def test_cell_is_its_equations(cell: str) -> None:
    """Update and reset gates of the GRU, and the other cells, against plain numpy."""
    config = small_config(cell=cell)
    sample_network = network_of(config).sample_network
    inputs = torch.randn(2, 40, 12, generator=torch.Generator().manual_seed(3)) * 2
    with torch.no_grad():
        states, _ = sample_network.cell(inputs)
    weights = {name: value.double().numpy() for name, value in sample_network.cell.state_dict().items()}
    for row in range(2):
        expected = naive.recurrence(cell, inputs[row].double().numpy(), weights)
        np.testing.assert_allclose(states[row].numpy(), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("cell", "stride", "lpc_order", "output"),
    [("gru", 1, 8, "tree"), ("gru", 2, 0, "softmax"), ("lstm", 4, 8, "tree"), ("rnn", 2, 8, "tree")],
)
def test_sample_network_is_its_equations(cell: str, stride: int, lpc_order: int, output: str) -> None:
    """Tables, cell and readout, sample by sample in plain numpy, give the network's logits."""
    config = small_config(lpc_order, cell=cell, samples_per_step=stride, output=output)
    network, case = network_of(config), Case(config, n_frames=2)
    network.sample_network.readout_conditioning.weight.data.mul_(3)
    found = case.logits(network)
    weights = {name: value.double().numpy() for name, value in network.sample_network.state_dict().items()}
    cell_weights = {name.removeprefix("cell."): value for name, value in weights.items() if "cell." in name}
    with torch.no_grad():
        lags = case.lags if lpc_order else None
        conditioning = network.conditioner(case.mel, lags)[0].double().numpy()
    history, n_samples = case.history[0].numpy(), 2 * HOP
    delayed = naive.delayed_codes(history, case.lags[0].double().numpy(), n_samples, 128)
    previous, prediction = case.previous[0].numpy(), case.prediction[0].numpy()

    def summed(tables: str, codes: list[int]) -> naive.Doubles:
        assert len(codes) == len(weights[tables])
        return np.asarray(np.sum([weights[tables][i, code] for i, code in enumerate(codes)], axis=0))

    def past(t: int) -> list[int]:
        return [int(history[LAG_MAX + t - 1 - i]) for i in range(stride)]

    steps = []
    for t in range(0, n_samples, stride):
        long_term = [int(code) for code in delayed[t : t + stride]]
        extra = [int(previous[t]), int(prediction[t]), *long_term] if lpc_order else []
        steps.append(summed("step_embedding.weight", past(t) + extra) + conditioning[t // HOP])
    hidden = naive.recurrence(cell, np.array(steps), cell_weights)
    for t in range(n_samples):
        part = slice(t % stride * 10, (t % stride + 1) * 10)
        row = (
            weights["readout_hidden.weight"][part] @ hidden[t // stride]
            + weights["readout_hidden.bias"][part]
        )
        row = row + weights["readout_conditioning.weight"] @ conditioning[t // HOP]
        extra = [int(previous[t]), int(prediction[t]), int(delayed[t])] if lpc_order else []
        row = np.maximum(row + summed("readout_embedding.weight", past(t) + extra), 0)
        expected = weights["output.weight"] @ row + weights["output.bias"]
        np.testing.assert_allclose(found[t].numpy(), expected, atol=2e-5, err_msg=f"sample {t}")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_state_carries_across_halves(cell: str, stride: int) -> None:
    config = small_config(cell=cell, samples_per_step=stride)
    network, case = network_of(config), Case(config, n_frames=4)
    half, codes = 2 * HOP, case.inputs()
    assert codes.previous_signal is not None and codes.prediction is not None and codes.long_term is not None
    with torch.no_grad():
        conditioning = network.conditioner(case.mel, case.lags)
        whole, last = network.sample_network(conditioning, codes)
        state, parts = None, []
        for first in (0, half):
            window = slice(first, first + half)
            part = CodeInputs(
                codes.excitation[:, first : first + half + stride - 1],
                codes.previous_signal[:, window],
                codes.prediction[:, window],
                codes.long_term[:, window],
            )
            frames = conditioning[:, first // HOP : (first + half) // HOP]
            logits, state = network.sample_network(frames, part, state)
            parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)
    for carried, expected in zip(
        state if isinstance(state, tuple) else (state,),
        last if isinstance(last, tuple) else (last,),
        strict=True,
    ):
        torch.testing.assert_close(carried, expected, atol=1e-5, rtol=1e-5)


# Causality


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("lpc_order", [0, 8])
@pytest.mark.parametrize("t", [2 * HOP, 2 * HOP + 1, 2 * HOP + 3, 3 * HOP - 1])
def test_a_code_reaches_only_later_samples(stride: int, lpc_order: int, t: int) -> None:
    config = small_config(lpc_order, samples_per_step=stride)
    network, case = network_of(config), Case(config)
    before = case.logits(network)
    case.history[0, LAG_MAX + t] ^= 128
    changed = changed_samples(before, case.logits(network))
    assert min(changed) == t + 1, "every sample sees the code right before it, and none sees its own"


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("name", ["previous", "prediction"])
@pytest.mark.parametrize("t", [2 * HOP, 2 * HOP + 1, 2 * HOP + 3])
def test_a_prediction_reaches_only_its_own_sample_and_later_ones(stride: int, name: str, t: int) -> None:
    config = small_config(samples_per_step=stride)
    network, case = network_of(config), Case(config)
    before = case.logits(network)
    getattr(case, name)[0, t] ^= 128
    changed = changed_samples(before, case.logits(network))
    assert min(changed) == t
    if t % stride:
        assert changed == {t}, "the recurrent step sees only the first sample's"


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_long_term_code_is_one_lag_old(stride: int) -> None:
    """In a frame of lag 100 a code shows 100 samples later in the readout, if nothing else carries it there."""
    config = small_config(samples_per_step=stride, cell="rnn")
    network, case = network_of(config), Case(config)
    cast(Tensor, network.sample_network.cell.weight_hh_l0).data.zero_()  # no memory
    case.lags = torch.full((1, 5), 100.0)
    before = case.logits(network)
    t = 20
    case.history[0, LAG_MAX + t] ^= 128
    changed = sorted(changed_samples(before, case.logits(network)))
    late = [sample for sample in changed if sample > t + 2 * stride]
    assert t + 100 in late
    assert late[0] >= (t + 100) // stride * stride
    case.lags = torch.zeros(1, 5)
    before = case.logits(network)
    case.history[0, LAG_MAX + t] ^= 128
    assert max(changed_samples(before, case.logits(network))) <= t + 2 * stride, (
        "an unvoiced frame has no tap"
    )


@pytest.mark.parametrize("lpc_order", [0, 8])
def test_a_mel_frame_reaches_two_frames_back_and_no_further(lpc_order: int) -> None:
    config = small_config(lpc_order)
    network, case = network_of(config), Case(config, n_frames=8)
    case.lags = case.lags[:, :8]
    before = case.logits(network)
    case.mel[0, CONTEXT_FRAMES + 5] += 1
    changed = changed_samples(before, case.logits(network))
    assert min(changed) == 3 * HOP, "frame 5 must not reach frame 2 or earlier, and must reach frame 3"
    if network.pitch_head is not None:
        with torch.no_grad():
            outputs = network.pitch_head(case.mel)[0]
            case.mel[0, CONTEXT_FRAMES + 2] += 1
            assert changed_samples(outputs, network.pitch_head(case.mel)[0]) == {0, 1, 2, 3, 4}


# Embeddings, long-term codes, normalisation


@pytest.mark.parametrize("bits", [6, 8, 10])
def test_embeddings_start_in_the_codes_order(bits: int) -> None:
    sample_network = network_of(small_config(bits=bits)).sample_network
    for embedding in (sample_network.step_embedding, sample_network.readout_embedding):
        for table in embedding.weight.detach():  # (Q, size)
            direction = table[-8:].mean(0) - table[:8].mean(0)
            place = (table @ direction).numpy()
            assert np.corrcoef(place, np.arange(1 << bits))[0, 1] > 0.97
            quarters = place.reshape(4, -1).mean(1)
            assert (np.diff(quarters) > 0).all()


def test_delayed_codes_are_the_naive_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    history = torch.randint(256, (2, 200 + 60), generator=generator)
    lags = torch.tensor([[0.0, 40.0, 40.5, 41.5, 0.0, 200.0], [39.4, 39.6, 0.0, 12.0, 10.0, 11.0]])
    found = delayed_codes(history, lags, 60, 128)
    for row in range(2):
        expected = naive.delayed_codes(history[row].numpy(), lags[row].double().numpy(), 60, 128)
        np.testing.assert_array_equal(found[row].numpy(), expected)


def test_normalisation() -> None:
    network = network_of(small_config())
    mean, std = torch.linspace(-5, 1, N_MELS), torch.linspace(0.5, 2, N_MELS)
    network.set_normalisation(mean, std)
    mel = mean + std * torch.randn(50_000, N_MELS, generator=torch.Generator().manual_seed(0))
    normalised = network.normalise(mel)
    assert normalised.mean(0).abs().max() < 0.03
    assert (normalised.std(0) - 1).abs().max() < 0.03
    assert {"mel_mean", "mel_std"} <= set(network.state_dict())


def test_every_weight_gets_a_gradient() -> None:
    config = small_config(samples_per_step=2)
    network, case = Network(config), Case(config)
    assert network.pitch_head is not None
    logits, _ = network.sample_network(network.conditioner(case.mel, case.lags), case.inputs())
    (logits.square().mean() + network.pitch_head.loss(network.pitch_head(case.mel), case.lags)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert isinstance(network.sample_network, SampleNetwork)
