"""What training varies in crops: each change by itself against what it should do, and all of them in batches."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_crops import make_dataset

from gru_audio.config import Config
from gru_audio.data.dataset import Dataset
from gru_audio.errors import ConfigError
from gru_audio.training.batches.augmentation import Change, augment, augmented_lags, draw_change, is_on
from gru_audio.training.batches.crops import CropSource

Floats = NDArray[np.float32]

HOP, RATE = 200, 16_000
ALL = {
    "augment_gain_db": (-30.0, 9.0),
    "augment_polarity": True,
    "augment_filter_db": 3.0,
    "augment_speed": 0.08,
}


def config_for(**train: Any) -> Config:
    return Config.model_validate({"train": {"crop_samples": 800, "batch_size": 4, **train}})


def tone(frequency_hz: float, n_samples: int = 40 * HOP) -> Floats:
    return np.asarray(0.25 * np.sin(2 * np.pi * frequency_hz * np.arange(n_samples) / RATE), np.float32)


def peak_hz(audio: Floats) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(audio.size), 1 << 18))
    return float(spectrum.argmax() * RATE / (1 << 18))


@pytest.mark.parametrize("source_hop", [184, 193, 208, 216])
def test_speed_moves_a_tone_and_keeps_whole_frames(source_hop: int) -> None:
    changed = augment(tone(440.0, 40 * source_hop), Change(source_hop, 1.0), config_for())
    assert changed.size == 40 * HOP
    assert peak_hz(changed[2 * HOP : -2 * HOP]) == pytest.approx(440 * source_hop / HOP, rel=2e-4)


def test_a_changed_clip_keeps_its_places_in_time(speech: Floats) -> None:
    """A click at the start of frame 20 of the recording is at the same frame of the changed clip."""
    for source_hop in (190, 207):
        audio = np.zeros(40 * source_hop, np.float32)
        audio[20 * source_hop] = 0.5
        changed = augment(audio, Change(source_hop, 1.0), config_for())
        assert int(np.abs(changed).argmax()) == 20 * HOP


def test_gain_and_polarity_scale_every_sample_but_never_over_full_scale() -> None:
    audio = tone(300.0)
    np.testing.assert_allclose(augment(audio, Change(HOP, -0.5), config_for()), -0.5 * audio, rtol=1e-6)
    louder = augment(audio, Change(HOP, 8.0), config_for())
    assert float(np.abs(louder).max()) == pytest.approx(1.0, rel=1e-3)
    over = 4 * tone(300.0)  # full scale and more: lifted no further, and not pulled down either
    np.testing.assert_array_equal(
        augment(np.clip(over, -1, 1), Change(HOP, 2.0), config_for()), np.clip(over, -1, 1)
    )


def test_a_filter_has_the_curve_that_was_drawn(speech: Floats) -> None:
    change = Change(HOP, 1.0, (3.0, -2.0, 1.0), (0.3, 1.0, 2.0))
    noise = np.random.default_rng(0).normal(size=400 * HOP).astype(np.float32) * 0.1
    changed = augment(noise, change, config_for())
    before, after = (
        np.abs(np.fft.rfft(audio.reshape(-1, 2 * HOP), axis=1)) ** 2 for audio in (noise, changed)
    )
    found_db = 10 * np.log10(after.mean(0) / before.mean(0))
    frequencies_hz = np.fft.rfftfreq(2 * HOP, 1 / RATE)
    place = np.log2(np.maximum(frequencies_hz, 60.0) / 60.0) / np.log2(8000.0 / 60.0)
    wanted_db = sum(
        a * np.cos(np.pi * (k + 1) * place + p)
        for k, (a, p) in enumerate(zip(change.waves_db, change.phases, strict=True))
    )
    inside = slice(10, -2)  # under 400 Hz a bin of 40 Hz is wide beside the curve's waves
    np.testing.assert_allclose(found_db[inside], wanted_db[inside], atol=0.5)


def test_filters_have_the_strength_of_the_setting() -> None:
    config, rng = config_for(augment_filter_db=3.0), np.random.default_rng(0)
    place = np.linspace(0, 1, 200)
    curves = []
    for _ in range(400):
        change = draw_change(rng, config)
        curves.append(
            sum(
                a * np.cos(np.pi * (k + 1) * place + p)
                for k, (a, p) in enumerate(zip(change.waves_db, change.phases, strict=True))
            )
        )
    assert float(np.sqrt(np.mean(np.square(np.array(curves))))) == pytest.approx(3.0, rel=0.1)


def test_lags_follow_the_speed_and_stay_in_the_networks_range() -> None:
    config = config_for()
    lags = np.array([0, 100, 320, 33], np.float32)
    np.testing.assert_allclose(augmented_lags(lags, Change(160, 1.0), config), [0, 125, 320, 41.25])
    np.testing.assert_allclose(
        augmented_lags(lags, Change(230, 1.0), config), [0, 86.957, 278.26, 32], rtol=1e-4
    )


def test_draws_stay_within_the_settings() -> None:
    config, rng = config_for(**ALL), np.random.default_rng(0)
    changes = [draw_change(rng, config) for _ in range(500)]
    gains_db = 20 * np.log10(np.abs([change.gain for change in changes]))
    assert gains_db.min() >= -30.001 and gains_db.max() <= 9.001 and np.ptp(gains_db) > 35
    assert 0.4 < np.mean([change.gain < 0 for change in changes]) < 0.6
    hops = [change.source_hop for change in changes]
    assert min(hops) == 184 and max(hops) == 216


def test_nothing_is_on_by_default() -> None:
    assert not is_on(config_for().train)
    for name, value in ALL.items():
        on = config_for(**{name: value}).train
        assert is_on(on) and not is_on(on.without_augmentation())


@pytest.mark.parametrize("gains", [(3.0, -3.0), (-80.0, 0.0), (0.0, 30.0)])
def test_gains_out_of_order_or_range_are_refused(gains: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="augment_gain_db"):
        config_for(augment_gain_db=gains)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, speech: Floats) -> Dataset:
    pcm = (speech[: speech.size // HOP * HOP] * 32_768).astype(np.int16)
    return make_dataset(
        tmp_path_factory.mktemp("d"), [pcm, pcm[: 4 * HOP], pcm[:HOP]], Config().mel, valid=(1,)
    )


def test_batches_with_everything_on_follow_from_seed_and_step(dataset: Dataset) -> None:
    config = config_for(**ALL)
    batch = CropSource(dataset, config, "train", 2).batch(5)
    again = CropSource(dataset, config, "train", 2).batch(5)
    plain = CropSource(dataset, config_for(), "train", 2).batch(5)
    for ours, theirs in zip(batch, again, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [part.shape for part in batch] == [part.shape for part in plain]
    assert all(np.isfinite(part).all() for part in batch)
    assert not np.array_equal(batch.target, plain.target)


def test_turned_polarity_mirrors_the_codes(dataset: Dataset) -> None:
    """Mel and predictor do not know a sign, so the codes alone are mirrored, but for ties at silence.

    The loop feeds a tie back, so that a crop may part from its mirror image where one is.
    """
    source = CropSource(dataset, config_for(code_noise=0, augment_polarity=True, batch_size=32), "train", 2)
    straight = CropSource(
        dataset, config_for(code_noise=0, augment_gain_db=(0.0, 1e-9), batch_size=32), "train", 2
    )
    batch, plain = source.batch(0), straight.batch(0)
    np.testing.assert_allclose(batch.mel, plain.mel, atol=1e-5)
    mirrored = np.abs(batch.target + plain.target - 255) <= 1
    equal = batch.target == plain.target
    shares = mirrored.mean(1)
    either = np.maximum(shares, equal.mean(1))
    assert (either > 0.5).all()
    assert (either > 0.99).sum() >= 30
    assert 8 <= int((shares > 0.99).sum()) <= 24


def test_validation_is_never_augmented(dataset: Dataset) -> None:
    changed = CropSource(dataset, config_for(**ALL), "valid", 2).batch(0)
    plain = CropSource(dataset, config_for(), "valid", 2).batch(0)
    for ours, theirs in zip(changed, plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_unknown_settings_are_named() -> None:
    from gru_audio.config import load_config

    with pytest.raises(ConfigError, match="augment_speed"):
        load_config("tiny", ["train.augment_sped=0.1"])


def test_balance_shares_crops_among_speakers() -> None:
    """Balance 1 gives each speaker the same share, 0 goes by minutes."""
    from support.clips import clips_of

    from gru_audio.training.batches.crops import start_weights

    clips = clips_of(("a", "long", 90_000), ("b", "short", 10_000))
    for balance, share in ((0.0, 0.1), (0.5, 0.25), (1.0, 0.5)):
        weights = start_weights(clips, balance) * clips.n_samples
        assert weights[1] / weights.sum() == pytest.approx(share)
