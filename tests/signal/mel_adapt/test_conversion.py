"""Mels brought from one contract to another: exactly, shifted by half a hop, or interpolated where asked for."""

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.contracts import contracts

from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.audio import resample
from gru_audio.signal.mel import from_linear, log_mel, silent_frames, silent_up_to, to_linear
from gru_audio.signal.mel_adapt.conversion import contract_differences, convert_mel
from gru_audio.signal.mel_adapt.fitting import Fitting, fit_mel

Floats = NDArray[np.float32]
DB = 20 / np.log(10)


def fit(
    mel: Floats, given: MelConfig, wanted: MelConfig, adapt: bool = False
) -> tuple[Floats, int, tuple[str, ...]]:
    """The mel, its lead and what is said of it."""
    fitting = Fitting(given, wanted, "a.npy", adapt=adapt)
    return fit_mel(mel, fitting), fitting.lead_samples, fitting.notes


@drawn(given_config=contracts, wanted=contracts, seed=st.integers(0, 100))
def test_conversion_between_logs_scales_and_floors(
    given_config: MelConfig, wanted: MelConfig, seed: int
) -> None:
    wanted = wanted.model_copy(update={"spectrum": given_config.spectrum})
    linear = 10 ** np.random.default_rng(seed).uniform(-12, 3, (5, 80)).astype(np.float32)
    just_above = (linear > given_config.floor) & (linear < 1.1 * given_config.floor)
    linear[just_above] = given_config.floor  # or it depends on the rounding which of the two it is
    mel = from_linear(linear, given_config)

    converted = convert_mel(mel, given_config, wanted)

    unit = wanted.scale * {"ln": 1.0, "log10": 0.434, "db": 8.69}[wanted.log]
    silent = to_linear(mel, given_config) <= silent_up_to(given_config)
    expected = from_linear(np.where(silent, 0, np.maximum(linear, given_config.floor)), wanted)
    np.testing.assert_allclose(converted, expected, rtol=0, atol=1e-4 * unit)
    back = convert_mel(converted, wanted, given_config)
    higher = max(given_config.floor, wanted.floor)
    silent = to_linear(converted, wanted) <= silent_up_to(wanted)
    expected = np.where(silent, given_config.floor, np.maximum(linear, higher))
    np.testing.assert_allclose(to_linear(back, given_config), expected, rtol=2e-3)


def test_conversion_to_the_same_contract_changes_nothing(speech: Floats) -> None:
    mel = log_mel(speech, MelConfig())
    assert convert_mel(mel, MelConfig(), MelConfig()) is mel


def test_other_contracts_are_refused_naming_each_difference() -> None:
    given_config = MEL_PRESETS["hifigan-22k"]
    assert contract_differences(given_config, MelConfig()) == [
        "sample_rate_hz 22050, not 16000",
        "window_samples 1024, not 800",
        "hop_samples 256, not 200",
    ]
    assert contract_differences(MelConfig(), MelConfig()) == []
    with pytest.raises(
        MelError,
        match=r"^a.npy: made with sample_rate_hz 22050, not 16000; window_samples 1024, not 800; hop_.*"
        r"make the mel anew, or use a voice trained with its contract$",  # what converts alone has no --adapt
    ):
        convert_mel(np.zeros((1, 80), np.float32), given_config, MelConfig(), "a.npy")
    with pytest.raises(MelError, match="made with spectrum power, not magnitude; only log"):
        convert_mel(np.zeros((1, 80), np.float32), MelConfig(spectrum="power", log="db"), MelConfig())


def test_half_a_hop_is_known(speech: Floats) -> None:
    """Tacotron 2's frames for a HiFi-GAN voice: the same frames, whose audio begins half a hop early."""
    tacotron, hifigan = MEL_PRESETS["tacotron2-22k"], MEL_PRESETS["hifigan-22k"]
    audio = resample(speech, 16_000, 22_050)
    stored = log_mel(audio, tacotron)
    fitted, lead, lost = fit(stored, tacotron, hifigan)
    assert (lead, lost) == (128, ())
    np.testing.assert_array_equal(fitted, stored)
    # What the frames stand for is the audio half a hop earlier.
    earlier = np.pad(audio, (lead, 0))
    np.testing.assert_allclose(fitted[4:-4], log_mel(earlier, hifigan)[4 : len(fitted) - 4], atol=1e-3)
    assert fit(log_mel(audio, hifigan), hifigan, tacotron)[1:] == (0, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"log": "log10"},
        {"log": "db", "scale": 0.01, "offset": 1.0},
        {"filter_norm": "none"},
        {"filter_norm": "none", "mel_scale": "slaney", "log": "log10", "scale": 3.0},
    ],
)
def test_what_is_only_stored_in_another_way_is_exact(changes: dict[str, object], speech: Floats) -> None:
    wanted = MelConfig()
    given = MelConfig.model_validate({**wanted.model_dump(), **changes, "floor": 1e-8})
    fitted, lead, lost = fit(log_mel(speech, given), given, wanted)
    assert (lead, lost) == (0, ())
    np.testing.assert_allclose(fitted, log_mel(speech, wanted), atol=2e-3)


@pytest.mark.parametrize("preset", sorted(set(MEL_PRESETS) - {"speech-16k"}))
def test_what_cannot_be_converted_is_interpolated_when_asked(preset: str, speech: Floats) -> None:
    given, wanted = MEL_PRESETS[preset], MelConfig()
    audio = resample(speech, 16_000, given.sample_rate_hz)
    mel = log_mel(audio, given)
    with pytest.raises(
        MelError, match=r"a\.npy: made with .*, not .*; only log, .* add --adapt, at some loss"
    ):
        fit(mel, given, wanted)
    fitted, lead, lost = fit(mel, given, wanted, adapt=True)
    assert lead == 0
    assert len(lost) == 1
    assert " not " in lost[0]
    exact = log_mel(speech, wanted)
    assert abs(len(fitted) - len(exact)) <= 2
    n_frames = min(len(fitted), len(exact))
    off_db = DB * np.abs(fitted[:n_frames] - exact[:n_frames])
    # In time: a frame's shift would double it. Measured: 1.1 to 4.2 dB.
    assert off_db.mean() < 5.5
    late = DB * np.abs(fitted[: n_frames - 3] - exact[3:n_frames]).mean()
    assert off_db.mean() < late


@pytest.mark.parametrize(
    "changes", [{"floor": 1e-4}, {"filter_norm": "none"}, {"log": "db", "floor": 1e-4, "scale": 0.08}]
)
def test_digital_silence_stays_silent_when_converted(changes: dict[str, object]) -> None:
    wanted, given = MelConfig(), MelConfig.model_validate(changes)
    for one, other in ((given, wanted), (wanted, given)):
        assert (convert_mel(silent_frames(5, one), one, other) == silent_frames(5, other)).all()
    audible = MelConfig(floor=1e-3)
    kept = convert_mel(silent_frames(5, audible), audible, MelConfig())
    np.testing.assert_allclose(to_linear(kept, MelConfig()), 1e-3, rtol=1e-3)
