"""Schedules: learning rate and batches over the steps, strict in the config, exact on resume."""

from pathlib import Path

import numpy as np
import pytest
from support.trained import logged, make_dataset, run_to_end, small_config, stop_at

from gru_audio.config import CONTEXT_FRAMES, Config, Stage, TrainConfig, load_config, to_toml
from gru_audio.data.dataset import Dataset
from gru_audio.errors import ConfigError
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.saved.checkpoint import load_checkpoint
from gru_audio.training.schedules import average_decay, learning_rate, samples_of_steps
from gru_audio.voice.run_folder import checkpoint_paths

GROWING = (
    "train.batch_size=2",
    "train.crop_samples=160",
    "train.stages=[{from_step=2, batch_size=3, crop_samples=240}, {from_step=5, batch_size=1, crop_samples=800}]",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("schedules"), 100, 120, 140, 160)


# The learning rate


def test_the_average_forgets_its_start() -> None:
    """After ten steps next to nothing is left of it; in the end the average is as slow as the settings say."""
    settings = TrainConfig(average_decay=0.99)
    decays = np.array([average_decay(settings, step) for step in range(1, 2_001)])
    assert (np.diff(decays) >= 0).all()
    assert decays[:10].prod() < 1e-4
    assert set(decays[1_000:]) == {0.99}


def test_a_decay_at_the_end() -> None:
    settings = TrainConfig(
        steps=1_000, warm_up_steps=100, learning_rate=1e-2, final_learning_rate=1e-4,
        learning_rate_schedule="decay", decay_share=0.3,
    )  # fmt: skip
    rates = [learning_rate(settings, step) for step in range(1, 1_001)]
    assert rates[49] == pytest.approx(5e-3)
    assert set(rates[99:700]) == {1e-2}
    assert (np.diff(rates[699:]) < 0).all()
    assert rates[849] == pytest.approx((1e-2 + 1e-4) / 2)
    assert rates[-1] == pytest.approx(1e-4)


def test_a_decay_over_all_steps_is_the_cosine() -> None:
    cosine = TrainConfig(steps=50, warm_up_steps=10)
    decay = cosine.model_copy(update={"learning_rate_schedule": "decay", "decay_share": 1.0})
    for step in range(1, 51):
        assert learning_rate(decay, step) == learning_rate(cosine, step)


# Stages


def test_stages_in_toml_and_on_the_command_line(tmp_path: Path) -> None:
    expected = (
        Stage(from_step=2, batch_size=3, crop_samples=240),
        Stage(from_step=5, batch_size=1, crop_samples=800),
    )
    config = small_config(*GROWING)
    assert config.train.stages == expected
    (tmp_path / "c.toml").write_text(to_toml(config))
    assert load_config(tmp_path / "c.toml") == config
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("[{from_step=5, batch_size=3, crop_samples=240}, {from_step=5, batch_size=1, crop_samples=80}]",
         "[train] stages begin at steps [5, 5]; write them in order"),
        ("[{from_step=0, batch_size=3, crop_samples=240}]", "stages begin at steps [0]; write them in order"),
        ("[{from_step=5, batch_size=0, crop_samples=240}]",
         "[train] stages[0].batch_size: input should be greater than 0, got 0"),
        ("[{from_step=5, batch_size=3}]", "[train] stages[0].crop_samples: field required"),
        ("[{from_step=5, batch_size=3, crop=240}]", "[train] unknown key 'crop'; did you mean 'crop_samples'?"),
        ("[{from_step=5.5, batch_size=3, crop_samples=240}]", "stages[0].from_step: input should be a valid integer"),
        ("7", "[train] stages: should be a list in brackets, got 7"),
    ],
)  # fmt: skip
def test_stages_that_cannot_be(stages: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        small_config(f"train.stages={stages}")
    assert message in str(caught.value)


def test_every_step_has_the_batch_of_its_stage(dataset: Path) -> None:
    config = small_config(*GROWING)
    source = CropSource(Dataset.open(dataset), config, "train", CONTEXT_FRAMES)
    shapes = [source.batch(step).target.shape for step in range(7)]
    assert shapes == [(2, 160)] * 2 + [(3, 240)] * 3 + [(1, 800)] * 2
    totals = np.cumsum([0] + [rows * columns for rows, columns in shapes])
    for first in range(8):
        for last in range(first, 8):
            assert samples_of_steps(config.train, first, last) == totals[last] - totals[first]


def test_a_stage_is_what_the_plain_settings_would_be(dataset: Path) -> None:
    staged = CropSource(Dataset.open(dataset), small_config(*GROWING), "train", CONTEXT_FRAMES)
    plain = small_config("train.batch_size=3", "train.crop_samples=240")
    for expected, found in zip(
        CropSource(Dataset.open(dataset), plain, "train", CONTEXT_FRAMES).batch(4),
        staged.batch(4),
        strict=True,
    ):
        np.testing.assert_array_equal(expected, found)


# Whole runs


def test_a_run_over_all_stages(dataset: Path, tmp_path: Path) -> None:
    result = run_to_end(dataset, tmp_path, *GROWING, "train.valid_every=1")
    assert result.audio_s == pytest.approx((2 * 2 * 160 + 3 * 3 * 240 + 800) / 8_000)
    # Validation reads the same crops from the first stage to the last: what the last one trains on.
    last = ("train.batch_size=1", "train.crop_samples=800", "train.steps=1")
    run_to_end(dataset, tmp_path / "plain", *last)
    first, plain = logged(tmp_path, "valid")[0], logged(tmp_path / "plain", "valid")[0]
    assert first.keys() == plain.keys()
    assert abs(first["bits"] - plain["bits"]) < 0.02, "the normalisation alone is of other crops"


SCHEDULED = (*GROWING, "train.learning_rate_schedule=decay", "train.decay_share=0.5", "train.steps=7")


@pytest.fixture(scope="module")
def scheduled_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven steps without a stop."""
    run = tmp_path_factory.mktemp("scheduled") / "run"
    run_to_end(dataset, run, *SCHEDULED)
    return run


@pytest.mark.parametrize("stop", [2, 4])
def test_schedules_resume_exactly(dataset: Path, scheduled_run: Path, tmp_path: Path, stop: int) -> None:
    """Stopped between two stages, and within one at the pitch's hand-over."""
    assert not run_to_end(dataset, tmp_path, *SCHEDULED, progress=stop_at(stop)).finished
    assert run_to_end(dataset, tmp_path, *SCHEDULED, resume=True).finished
    whole, halves = (checkpoint_paths(run)[-1] for run in (scheduled_run, tmp_path))
    assert load_checkpoint(whole).step == 7
    assert whole.read_bytes() == halves.read_bytes()
    assert logged(scheduled_run, "train") == logged(tmp_path, "train")
    steps = [0, 3, 6, 7]  # a stop before the first validation adds its own
    assert [line for line in logged(tmp_path, "valid") if line["step"] in steps] == logged(
        scheduled_run, "valid"
    )
