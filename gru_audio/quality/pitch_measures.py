"""Pitch and voicing of made audio beside its reference's, without torch."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.errors import AudioError
from gru_audio.quality.compiled_librosa import compiled_librosa
from gru_audio.signal.audio import resample

WIDE_BAND_HZ = 16_000
"""The sample rate that the pitch tracker, PESQ and DNSMOS are given; other audio is resampled to it."""

_PITCH_MIN_HZ, _PITCH_MAX_HZ = 50.0, 500.0
_FRAME_SAMPLES, _HOP_SAMPLES = 1024, 160
_QUARTER_TONE = 2 ** (1 / 24)


class PitchTrack(NamedTuple):
    """F frames, 10 ms apart.

    Attributes:
        f0_hz: (F,), of use where voiced.
        voiced: (F,).
    """

    f0_hz: npt.NDArray[np.float64]
    voiced: npt.NDArray[np.bool_]


class PitchError(NamedTuple):
    """How two tracks differ.

    Attributes:
        cents: median of the absolute difference over frames voiced in both; None where there are none.
        voicing_error_percent: frames voiced in one alone, of all frames.
    """

    cents: float | None
    voicing_error_percent: float


def track_f0(audio: FloatArray, sample_rate_hz: int) -> PitchTrack:
    """Pitch and voicing of audio (n,) by librosa's pYIN, 50 to 500 Hz.

    pYIN's pitch is a multiple of 10 cents; where YIN finds the same within a quarter tone, its interpolated value
    is taken instead.

    Raises:
        AudioError: empty.

    Source: Mauch & Dixon, pYIN (2014); de Cheveigné & Kawahara, YIN (2002).
    """
    librosa = compiled_librosa()

    if not audio.size:
        raise AudioError("a clip without samples has no pitch")
    wide_band = resample(audio, sample_rate_hz, WIDE_BAND_HZ)
    settings: dict[str, Any] = {
        "fmin": _PITCH_MIN_HZ,
        "fmax": _PITCH_MAX_HZ,
        "sr": WIDE_BAND_HZ,
        "frame_length": _FRAME_SAMPLES,
        "hop_length": _HOP_SAMPLES,
    }
    coarse_hz, voiced, _ = librosa.pyin(wide_band, fill_na=None, **settings)
    fine_hz = librosa.yin(wide_band, **settings)
    ratio = fine_hz / coarse_hz
    agree = (ratio < _QUARTER_TONE) & (ratio > 1 / _QUARTER_TONE)
    return PitchTrack(np.where(agree, fine_hz, coarse_hz), np.asarray(voiced, np.bool_))


def compare_pitch(reference: PitchTrack, made: PitchTrack) -> PitchError:
    """How two tracks of equally many frames differ."""
    both = reference.voiced & made.voiced
    cents = 1200 * np.abs(np.log2(made.f0_hz[both] / reference.f0_hz[both]))
    wrong = reference.voiced != made.voiced
    return PitchError(float(np.median(cents)) if both.any() else None, float(100 * wrong.mean()))
