"""The comparison of cells: its sizes, its measures against other ways to find them, and the whole script."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from support.small import RATE, small_config
from torch import Tensor, nn

from gru_audio.config import Config
from gru_audio.data.dataset import Dataset
from gru_audio.data.prepare import prepare
from gru_audio.errors import ConfigError, OutputError
from gru_audio.network.distribution import log_probabilities, negative_log_likelihood
from gru_audio.network.model import Network
from gru_audio.training.batches.batch import Batch
from gru_audio.training.objective import compute_losses

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CELLS = ("gru", "lstm", "rnn")
N_CROPS, N_FRAMES, STRIDE = 3, 4, 2


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """The scripts import each other by name, as they do where they are run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def script(name: str) -> Any:
    return importlib.import_module(name)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Eight half seconds of buzzes in noise."""
    folder, rng, t = tmp_path_factory.mktemp("cells"), np.random.default_rng(0), np.arange(RATE) / RATE
    (folder / "audio").mkdir()
    for name in range(8):
        buzz = sum(np.sin(2 * np.pi * (100 + 20 * name) * k * t) / k for k in range(1, 12))
        audio = 0.1 * buzz + 0.01 * rng.standard_normal(t.size)
        soundfile.write(folder / "audio" / f"{name}.wav", audio, RATE)
    config = config_of("gru")
    prep = config.prep.model_copy(update={"trim_db": 0.0, "valid_fraction": 0.4, "test_fraction": 0.0})
    prepare([folder / "audio"], folder / "dataset", config.model_copy(update={"prep": prep}), jobs=1)
    return Dataset.open(folder / "dataset")


def config_of(cell: str) -> Config:
    config = small_config(hop_samples=32, cell=cell, samples_per_step=STRIDE)
    train = config.train.model_copy(update={"batch_size": 2, "valid_crops": 1, "precision": "fp32"})
    return config.model_copy(update={"train": train})


def network_of(cell: str) -> Network:
    torch.manual_seed(1)
    return Network(config_of(cell)).eval()


@pytest.fixture(scope="module")
def batch() -> Batch[Tensor]:
    """Crops of random codes, half of whose frames are voiced."""
    config, generator = config_of("gru"), torch.Generator().manual_seed(2)
    n_samples = N_FRAMES * config.mel.hop_samples

    def codes(length: int) -> Tensor:
        return torch.randint(config.signal.n_classes, (N_CROPS, length), generator=generator)

    return Batch(
        mel=torch.randn(N_CROPS, N_FRAMES + 4, config.mel.n_mels, generator=generator),
        lags=torch.tensor([[40.0, 40.0, 0.0, 0.0]] * N_CROPS),
        target=codes(n_samples),
        history=codes(config.run_in_samples + n_samples),
        previous_signal=codes(n_samples),
        prediction=codes(n_samples),
    )


def in_two_parts(network: Network, batch: Batch[Tensor], n_first: int = N_FRAMES // 2) -> tuple[Any, Any]:
    """A function that gives the logits of the later frames from a state, and the state after the first ones."""
    measures, hop = script("cells_measures"), network.config.mel.hop_samples
    conditioning, codes = measures.inputs_of(network, batch)
    first = measures.cut(codes, 0, n_first * hop, STRIDE)
    rest = measures.cut(codes, n_first * hop, N_FRAMES * hop, STRIDE)
    _, state = network.sample_network(conditioning[:, :n_first], first)
    return lambda start: network.sample_network(conditioning[:, n_first:], rest, start)[0], state


@pytest.mark.parametrize("cell", CELLS)
def test_parameters_are_counted_as_torch_has_them(cell: str) -> None:
    network = network_of(cell)
    counted = sum(parameter.numel() for parameter in network.sample_network.cell.parameters())
    assert script("cells_runs").n_recurrent(cell, 16, network.config) == counted


def test_matched_cells_have_nearly_the_grus_parameters() -> None:
    runs, config = script("cells_runs"), small_config(gru_size=128, conditioning_size=128)
    sizes = {variant.name: (variant.cell, variant.size) for variant in runs.variants(config)}
    wanted = runs.n_recurrent("gru", 128, config)
    assert sizes["gru"] == ("gru", 128)
    for name in ("lstm-matched", "rnn-matched"):
        assert runs.n_recurrent(*sizes[name], config) == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("cell", CELLS)
def test_a_stepped_cell_gives_what_the_cell_gives(cell: str) -> None:
    network, inputs = network_of(cell), torch.randn(2, 9, 12)
    stepped = script("cells_measures").SteppedCell(network.sample_network.cell)
    wanted, last = network.sample_network.cell(inputs, None)
    found, last_found = stepped(inputs, None)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(last_found, last)
    assert len(stepped.states) == 9


@pytest.mark.parametrize(("gate", "value"), [("reset", 1.0), ("update", 0.0)])
def test_a_held_gate_has_its_value_and_no_gradient(gate: str, value: float) -> None:
    cell, inputs, before = nn.GRU(6, 5, batch_first=True), torch.randn(4, 1, 6), torch.randn(1, 4, 5)
    script("cells_measures").hold_gate(cell, gate)
    after, _ = cell(inputs, before)
    weight_ih, weight_hh, bias_ih, bias_hh = cell.parameters()
    gates_in, gates_hidden = inputs[:, 0] @ weight_ih.T + bias_ih, before[0] @ weight_hh.T + bias_hh
    gates = torch.sigmoid(gates_in + gates_hidden)  # (B, 3H)
    reset, update = gates[:, :5], gates[:, 5:10]
    reset, update = (torch.full_like(reset, value), update) if gate == "reset" else (reset, 0 * update)
    new = torch.tanh(gates_in[:, 10:] + reset * gates_hidden[:, 10:])
    torch.testing.assert_close(after[:, 0], (1 - update) * new + update * before[0])
    rows = slice(0, 5) if gate == "reset" else slice(5, 10)
    # Far below the 1e-8 that Adam adds to a gradient's size before it divides by it.
    gradients = torch.autograd.grad(after.sum(), list(cell.parameters()))
    assert all(gradient[rows].abs().max() < 1e-30 for gradient in gradients)


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_norms_are_those_of_states_given_by_hand(cell: str, batch: Batch[Tensor]) -> None:
    network = network_of(cell)
    found = script("cells_measures").gradient_norms(network, batch)
    steps_a_frame = network.config.mel.hop_samples // STRIDE
    assert len(found) == N_FRAMES * steps_a_frame
    assert found[0] == 1
    by_hand = {}
    for n_back in (1, 2):
        run_rest, state = in_two_parts(network, batch, N_FRAMES - n_back)
        parts = [part.detach().requires_grad_() for part in (state if isinstance(state, tuple) else (state,))]
        logits = run_rest(tuple(parts) if isinstance(state, tuple) else parts[0])
        nats = negative_log_likelihood("tree", logits[:, -STRIDE:], batch.target[:, -STRIDE:])
        norms = torch.cat(torch.autograd.grad(nats.sum(), parts), -1)[0].norm(dim=-1)
        by_hand[n_back] = float(norms.median())
    ratio = found[2 * steps_a_frame] / found[steps_a_frame]
    assert ratio == pytest.approx(by_hand[2] / by_hand[1], rel=1e-3)


@pytest.mark.parametrize("cell", CELLS)
def test_memory_is_the_divergence_from_the_next_crops_state(cell: str, batch: Batch[Tensor]) -> None:
    network = network_of(cell)
    with torch.no_grad():
        found = script("cells_measures").memory_divergence(network, batch)
        run_rest, state = in_two_parts(network, batch)
        parts = state if isinstance(state, tuple) else (state,)
        moved = tuple(part[:, [2, 0, 1]] for part in parts)
        own = log_probabilities("tree", run_rest(state))
        other = log_probabilities("tree", run_rest(moved if isinstance(state, tuple) else moved[0]))
        wanted = (own.exp() * (own - other)).sum(-1).mean(0) / np.log(2)  # (T / 2,)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-7)
    assert found[0] > 1e-5


def test_crops_that_are_alike_lose_nothing_by_an_exchange(batch: Batch[Tensor]) -> None:
    alike = batch.map(lambda part: part[:1].expand(N_CROPS, *part.shape[1:]))
    assert max(map(abs, script("cells_measures").memory_divergence(network_of("gru"), alike))) < 1e-6


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_gate_that_is_still_has_its_time_constant(cell: str, batch: Batch[Tensor]) -> None:
    measures, network, wanted_samples = script("cells_measures"), network_of(cell), 100.0
    layer, gate = network.sample_network.cell, np.exp(-STRIDE / wanted_samples)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter[16:32] = 0
        layer.get_parameter("bias_hh_l0")[16:32] = float(np.log(gate / (1 - gate)))
    found = measures.time_constants(network, batch)
    assert set(found) == {"voiced", "unvoiced"}
    edges = measures.TIME_CONSTANTS_SAMPLES
    for shares in found.values():
        (index,) = np.flatnonzero(shares)
        assert shares[index] == 1
        assert edges[index] < wanted_samples < edges[index + 1]
        assert edges[index] < measures.median_constant(shares) < edges[index + 1]


def test_a_plain_rnn_has_no_gate(batch: Batch[Tensor]) -> None:
    assert script("cells_measures").time_constants(network_of("rnn"), batch) == {}


def test_bits_are_the_objectives(batch: Batch[Tensor]) -> None:
    network = network_of("lstm")
    with torch.no_grad():
        nats = float(compute_losses(network, batch, own_pitch=False).nats)
    assert script("cells_measures").bits_a_sample(network, batch) == pytest.approx(nats / np.log(2))


@pytest.mark.parametrize(
    ("curve", "wanted"),
    [([1, 0.5, 0.1, 0.4, 0.1], 4), ([0.1, 0.1], 0), ([1, 1], None), ([1, float("nan"), 0.1], 2)],
)
def test_the_horizon_is_where_a_curve_stays_below(curve: list[float], wanted: int | None) -> None:
    assert script("cells_measures").horizon(curve, 0.3) == wanted


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a run's figures quick to take."""
    for name, value in {
        "HELD_OUT_CROPS": 2,
        "HELD_OUT_FRAMES": 4,
        "CURVE_POINTS": 3,
        "TIMED_STEPS": 1,
    }.items():
        monkeypatch.setattr(script("cells_runs"), name, value)


def test_the_script_makes_each_run_once(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare, runs = script("compare_cells"), script("cells_runs")
    shorten(monkeypatch)
    config, names = config_of("gru"), ["gru", "lstm-matched", "rnn", "gru-no-reset"]
    first = compare.make_runs(dataset, config, 0.001, tmp_path, names[:1])
    assert [name for name, run in first.items() if run is not None] == names[:1]
    chosen = [variant for variant in runs.variants(config) if variant.name in names]
    monkeypatch.setattr(compare, "variants", lambda _: chosen)
    made = list(compare.make_runs(dataset, config, 0.001, tmp_path, None).values())
    assert len(made) == len(names)
    assert made[0] == first["gru"]
    for run in made:
        assert run.curve.cpu_s[-1] >= 0.06
        assert run.curve.steps == sorted(run.curve.steps)
        assert len(run.memory) == len(run.gradient) * STRIDE // 2
    lines = compare.table(made, config).splitlines()
    assert len(lines) == 2 + len(made)
    assert len({line.count("|") for line in lines}) == 1
    script("cells_figure").draw(made, config, tmp_path / "cells.svg", 0.01, 0.01)
    drawn = (tmp_path / "cells.svg").read_text()
    assert all(label in drawn for label in ("GRU, H = 16", "GRU without reset gate", "before training"))
    with pytest.raises(OutputError, match="other settings"):
        compare.make_runs(dataset, config, 0.002, tmp_path, None)


def test_a_held_gate_stays_held_while_it_trains(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = script("cells_runs")
    shorten(monkeypatch)
    variant = runs.Variant("held", "gru", 16, "update")
    run = runs.train_variant(dataset, variant, config_of("gru"), 0.001)
    # With z = 0 nothing is kept: every time constant is in the first bin.
    assert run.constants["voiced"][0] == 1


def test_an_unknown_run_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--only 'gnu': no such run; choose one of gru, lstm, rnn"):
        script("compare_cells").make_runs(dataset, config_of("gru"), 0.001, tmp_path, ["gnu"])
