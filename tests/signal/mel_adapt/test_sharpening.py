"""Mels that are too smooth, sharpened: what a Gaussian took comes back, and silence stays."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from gru_audio.config import MEL_PRESETS, MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.audio import resample
from gru_audio.signal.mel import log_mel, silent_frames
from gru_audio.signal.mel_adapt.fitting import Fitting, fit_mel
from gru_audio.signal.mel_adapt.sharpening import sharpened

Floats = NDArray[np.float32]


def test_it_gives_back_what_smoothing_took(speech: Floats) -> None:
    mel = log_mel(speech, MelConfig())
    smooth = gaussian_filter1d(mel, 0.7, axis=1)
    before, after = (np.abs(found - mel).mean() for found in (smooth, sharpened(smooth, MelConfig(), 1.0)))
    assert after < 0.55 * before


def test_it_is_an_unsharp_mask(speech: Floats) -> None:
    mel = log_mel(speech, MelConfig()) + 20  # far from the floor
    mean = gaussian_filter1d(mel, 1.0, axis=1, mode="nearest", radius=3)
    np.testing.assert_allclose(sharpened(mel, MelConfig(), 1.5), mel + 1.5 * (mel - mean), atol=1e-4)
    np.testing.assert_array_equal(sharpened(mel, MelConfig(), 0.0), mel)


@pytest.mark.parametrize("preset", ["speech-16k", "coqui-22k"])
def test_nothing_goes_below_the_floor_and_silence_stays(preset: str) -> None:
    config = MEL_PRESETS[preset]
    mel = silent_frames(5, config)
    np.testing.assert_array_equal(sharpened(mel, config, 3.0), mel)
    mel[2, 30:] += 3
    found = sharpened(mel, config, 3.0)
    assert (found >= mel[0]).all()
    assert found[2, 30] > mel[2, 30]


def test_frames_are_sharpened_one_by_one_whatever_the_contract(speech: Floats) -> None:
    given, wanted = MEL_PRESETS["hifigan-22k"], MelConfig()
    mel = log_mel(resample(speech, 16_000, given.sample_rate_hz), given)
    whole = fit_mel(mel, Fitting(given, wanted, adapt=True, sharpen=1.2))
    plain = fit_mel(mel, Fitting(given, wanted, adapt=True))
    np.testing.assert_array_equal(whole, sharpened(plain, wanted, 1.2))
    fitting = Fitting(given, wanted, adapt=True, sharpen=1.2)
    pieces = [fitting.push(mel[i : i + 3]) for i in range(0, len(mel), 3)]
    np.testing.assert_array_equal(np.concatenate([*pieces, fitting.finish()]), whole)
    own = fit_mel(plain, Fitting(wanted, wanted, sharpen=1.2))
    np.testing.assert_array_equal(own, whole)


@pytest.mark.parametrize("amount", [-0.1, 5.0, float("nan")])
def test_no_such_amount(amount: float) -> None:
    with pytest.raises(MelError, match=r"a.npy: cannot be sharpened by .*; give a number from 0 to 3$"):
        Fitting(MelConfig(), MelConfig(), "a.npy", sharpen=amount)
