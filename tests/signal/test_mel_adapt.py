"""Mels brought from one contract to another: exactly, shifted by half a hop, or interpolated where asked for."""

import numpy as np
import pytest
from numpy.typing import NDArray

from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.audio import resample
from gru_audio.signal.mel import log_mel
from gru_audio.signal.mel_adapt import adapt_mel, fit_mel

Floats = NDArray[np.float32]
DB = 20 / np.log(10)


def test_half_a_hop_is_known(speech: Floats) -> None:
    """Tacotron 2's frames for a HiFi-GAN voice: the same frames, whose audio begins half a hop early."""
    tacotron, hifigan = MEL_PRESETS["tacotron2-22k"], MEL_PRESETS["hifigan-22k"]
    audio = resample(speech, 16_000, 22_050)
    given = log_mel(audio, tacotron)
    fitted, lead, lost = fit_mel(given, tacotron, hifigan)
    assert (lead, lost) == (128, "")
    np.testing.assert_array_equal(fitted, given)
    # What the frames stand for is the audio half a hop earlier.
    earlier = np.pad(audio, (lead, 0))
    np.testing.assert_allclose(fitted[4:-4], log_mel(earlier, hifigan)[4 : len(fitted) - 4], atol=1e-3)
    assert fit_mel(log_mel(audio, hifigan), hifigan, tacotron)[1:] == (0, "")


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
    fitted, lead, lost = fit_mel(log_mel(speech, given), given, wanted)
    assert (lead, lost) == (0, "")
    np.testing.assert_allclose(fitted, log_mel(speech, wanted), atol=2e-3)


@pytest.mark.parametrize("preset", sorted(set(MEL_PRESETS) - {"speech-16k"}))
def test_what_cannot_be_converted_is_interpolated_when_asked(preset: str, speech: Floats) -> None:
    given, wanted = MEL_PRESETS[preset], MelConfig()
    audio = resample(speech, 16_000, given.sample_rate_hz)
    mel = log_mel(audio, given)
    with pytest.raises(
        MelError, match=r"a\.npy: made with .*, not .*; only log, .* add --adapt, at some loss"
    ):
        fit_mel(mel, given, wanted, "a.npy")
    fitted, lead, lost = fit_mel(mel, given, wanted, adapt=True)
    assert lead == 0
    assert "not" in lost
    exact = log_mel(speech, wanted)
    assert abs(len(fitted) - len(exact)) <= 2
    n_frames = min(len(fitted), len(exact))
    off_db = DB * np.abs(fitted[:n_frames] - exact[:n_frames])
    # In time: a frame's shift would double it. Measured: 1.1 to 4.2 dB.
    assert off_db.mean() < 5.5
    late = DB * np.abs(fitted[: n_frames - 3] - exact[3:n_frames]).mean()
    assert off_db.mean() < late


def test_noise_keeps_its_level_in_every_contract() -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=64_000).astype(np.float32)
    wanted = log_mel(noise, MelConfig()).mean()
    for preset in ("whisper-16k", "speechbrain-16k", "univoc-16k"):
        given = MEL_PRESETS[preset]
        found = adapt_mel(log_mel(noise, given), given, MelConfig()).mean()
        assert abs(DB * (found - wanted)) < 1.5


def test_frequencies_that_are_not_known_are_silent(speech: Floats) -> None:
    given = MelConfig(sample_rate_hz=8_000, n_fft=512, window_samples=400, hop_samples=100, f_max_hz=4_000.0)
    fitted = adapt_mel(log_mel(resample(speech, 16_000, 8_000), given), given, MelConfig())
    assert (fitted[:, -15:] == np.float32(np.log(1e-5))).all()


def test_few_frames() -> None:
    given = MEL_PRESETS["hifigan-22k"]
    assert adapt_mel(np.zeros((0, 80), np.float32), given, MelConfig()).shape == (0, 80)
    assert adapt_mel(np.full((1, 80), -4, np.float32), given, MelConfig()).shape == (1, 80)
