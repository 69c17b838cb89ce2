"""A voice that grows: the larger network begins as the voice, is pruned by its own plan, and can be resumed."""

from pathlib import Path

import pytest
import torch
from support.small import small_config as network_config
from support.trained import logged, make_dataset, run_to_end, stop_at

from gru_audio.config import load_config, with_overrides
from gru_audio.errors import TrainingError
from gru_audio.network.blocks import READOUT_WEIGHT, RECURRENT_WEIGHT
from gru_audio.network.model import CodeInputs, Network
from gru_audio.training.fine_tuning import StartingVoice
from gru_audio.training.growing import grown
from gru_audio.training.run import train
from gru_audio.voice.voice import load_voice

GROWN = (
    "model.gru_size=48",
    "model.recurrent_density=[0.25, 0.25, 0.5]",
    "model.readout_density=0.5",
    "train.steps=24",
    "train.warm_up_steps=5",
    "train.prune_start_step=6",
    "train.prune_end_step=18",
    "train.prune_every=6",
    "train.valid_every=12",
    "train.checkpoint_every=4",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("grown"), 80, 100, 120, 140, 160, 180)


@pytest.fixture(scope="module")
def voice(dataset: Path) -> StartingVoice:
    run = dataset.parent / "small"
    run_to_end(dataset, run, "train.steps=60", "train.learning_rate=1e-2", "train.valid_every=60")
    return StartingVoice.read(run)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_larger_network_says_what_the_smaller_said(stride: int) -> None:
    torch.manual_seed(0)
    small = Network(network_config(samples_per_step=stride))
    large = Network(network_config(samples_per_step=stride, gru_size=40))
    before, own = small.state_dict(), large.state_dict()
    large.load_state_dict({name: grown(name, tensor, own[name], 16) for name, tensor in before.items()})
    n_frames = 3
    n_samples = n_frames * 64
    excitation = torch.randint(0, 256, (2, stride - 1 + n_samples))
    others = [torch.randint(0, 256, (2, n_samples)) for _ in range(3)]
    conditioning = torch.randn(2, n_frames, 12)
    codes = CodeInputs(excitation, *others)
    wanted, _ = small.sample_network(conditioning, codes)
    found, _ = large.sample_network(conditioning, codes)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_new_units_hear_and_are_not_heard() -> None:
    torch.manual_seed(0)
    own = Network(network_config(gru_size=40)).state_dict()[RECURRENT_WEIGHT]
    weights = torch.randn(48, 16)
    wide = grown(RECURRENT_WEIGHT, weights, own, 16).view(3, 40, 40)
    assert torch.equal(wide[:, :16, :16], weights.view(3, 16, 16))
    assert not wide[:, :16, 16:].any()
    assert torch.equal(wide[:, 16:], own.view(3, 40, 40)[:, 16:])


def test_a_grown_run_starts_at_the_voices_loss_and_is_pruned(
    dataset: Path, voice: StartingVoice, tmp_path: Path
) -> None:
    config = with_overrides(voice.config, [*GROWN])
    result = train(dataset, tmp_path / "run", config, start=voice, device="cpu", threads=1)
    assert result.first_bits == pytest.approx(voice.voice.metadata["validation"]["bits"], abs=0.02)
    assert result.last_bits < result.first_bits
    tensors = load_voice(tmp_path / "run").tensors
    weight, readout = tensors[RECURRENT_WEIGHT], tensors[READOUT_WEIGHT]
    assert weight.shape == (144, 48)
    assert 0.2 < (weight != 0).mean() < 0.5
    assert readout.shape[1] == 48
    assert (readout != 0).mean() == pytest.approx(0.5)


def test_a_grown_run_that_was_stopped_goes_on_as_if_it_was_not(
    dataset: Path, voice: StartingVoice, tmp_path: Path
) -> None:
    """It is pruned after it was resumed, too."""
    config = with_overrides(voice.config, [*GROWN, "train.log_every=1"])
    for name in ("whole", "halves"):
        stop = {"progress": stop_at(10)} if name == "halves" else {}
        train(dataset, tmp_path / name, config, start=voice, device="cpu", threads=1, **stop)  # type: ignore[arg-type]
    train(dataset, tmp_path / "halves", config, resume=True, device="cpu", threads=1)
    assert logged(tmp_path / "halves", "train") == logged(tmp_path / "whole", "train")
    whole, halves = (load_voice(tmp_path / name).tensors[RECURRENT_WEIGHT] for name in ("whole", "halves"))
    assert (whole == halves).all()


def test_more_weights_wake_up_where_there_is_room_for_them(
    dataset: Path, voice: StartingVoice, tmp_path: Path
) -> None:
    """A pruned voice at other densities: at first as it is, at the end with as many blocks as are asked for."""
    pruned, wide = (
        ("model.gru_size=48", *GROWN[3:], f"model.recurrent_density={[d, d, d]}") for d in (0.2, 0.4)
    )
    train(
        dataset,
        tmp_path / "few",
        with_overrides(voice.config, [*pruned]),
        start=voice,
        device="cpu",
        threads=1,
    )
    few = StartingVoice.read(tmp_path / "few")
    assert few.is_pruned
    config = with_overrides(few.config, [setting for setting in wide if "gru_size" not in setting])
    result = train(dataset, tmp_path / "more", config, start=few, device="cpu", threads=1)
    assert result.first_bits == pytest.approx(few.voice.metadata["validation"]["bits"], abs=0.02)
    shares = [(load_voice(tmp_path / run).tensors[RECURRENT_WEIGHT] != 0).mean() for run in ("few", "more")]
    assert shares == pytest.approx([0.2, 0.4], abs=0.04)


def test_what_is_pruned_anew_is_so_over_the_run_where_nobody_says_when(
    dataset: Path, voice: StartingVoice, tmp_path: Path
) -> None:
    """A dense voice lost all but a quarter of its weights after the first step, without a word."""
    densities = [setting for setting in GROWN if "density" in setting]
    config = with_overrides(voice.config, [*densities, "train.steps=20", "train.valid_every=10"])
    result = train(dataset, tmp_path / "run", config, start=voice, device="cpu", threads=1)
    stored = load_config(tmp_path / "run" / "config.toml").train
    assert (stored.prune_start_step, stored.prune_end_step) == (2, 12)
    assert [note for note in result.notes if "pruned anew from step 2 to 12; for others set" in note]
    few = StartingVoice.read(tmp_path / "run")
    assert few.is_pruned
    assert few.with_pruning(few.config) == few.config, "its blocks are settled"
    dense = with_overrides(few.config, ["model.recurrent_density=[1, 1, 1]", "model.readout_density=1"])
    assert few.with_pruning(dense) == dense
    chosen = with_overrides(voice.config, [*densities, "train.prune_start_step=3", "train.prune_end_step=9"])
    assert voice.with_pruning(chosen) == chosen


@pytest.mark.parametrize(
    "override", ["model.gru_size=8", "model.readout_size=32", "model.samples_per_step=2"]
)
def test_nothing_else_may_change(dataset: Path, voice: StartingVoice, tmp_path: Path, override: str) -> None:
    config = with_overrides(voice.config, ["model.gru_size=48", override])
    with pytest.raises(TrainingError, match="cannot change"):
        train(dataset, tmp_path / "run", config, start=voice, device="cpu", threads=1)
