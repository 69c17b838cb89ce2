"""What training varies in each crop, so that a voice meets more people and rooms than its corpus has.

A crop's audio is played a little faster or slower (pitch and formants move together), filtered mildly, made louder or
softer, and turned upside down. Mel, predictor and codes are made from the result, so that they agree.

Source: gain, polarity and tilt as in Valin & Skoglund, LPCNet (2019), section 4.1; speed as in Ko et al., Audio
augmentation for speech recognition (2015).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import soxr

from gru_audio.arrays import FloatArray
from gru_audio.config import Config, TrainConfig

_WAVES = 3  # cosines over log frequency that make up a filter's curve
_LOWEST_HZ = 60.0  # under it a filter's curve is flat
_TAIL_S = 0.02  # silence behind the audio, into which a filter may ring
_FFT_UNIT = 512  # samples: transforms of multiples of it are quick
_LARGEST_PEAK = 1.0  # no gain lifts audio over full scale


class Change(NamedTuple):
    """What is done to one crop.

    Attributes:
        source_hop: samples of the recording that become one hop; fewer than a hop make it slower and lower.
        gain: factor of the samples, negative where polarity is turned; 0 dB is 1.
        waves_db: (waves,) amplitudes of the filter's cosines; empty for no filter.
        phases: (waves,) in radians.
    """

    source_hop: int
    gain: float
    waves_db: tuple[float, ...] = ()
    phases: tuple[float, ...] = ()


def draw_change(rng: np.random.Generator, config: Config) -> Change:
    """What a crop gets, by the settings `augment_…`; draws as many numbers whatever they are."""
    train, hop = config.train, config.mel.hop_samples
    speed, level, sign = rng.uniform(-1, 1, 3)
    waves, phases = rng.normal(size=_WAVES), rng.uniform(0, 2 * np.pi, _WAVES)
    low_db, high_db = train.augment_gain_db
    gain = 10 ** ((low_db + (high_db - low_db) * (level + 1) / 2) / 20)
    if train.augment_polarity and sign < 0:
        gain = -gain
    source_hop = hop + round(speed * train.augment_speed * hop)
    if not train.augment_filter_db:
        return Change(source_hop, gain)
    amplitudes = waves * train.augment_filter_db * (2 / _WAVES) ** 0.5  # their sum has this RMS
    return Change(source_hop, gain, tuple(map(float, amplitudes)), tuple(map(float, phases)))


def augment(audio: FloatArray, change: Change, config: Config) -> FloatArray:
    """Audio (F * source_hop,) of a recording, as (F * hop,) of the changed one."""
    hop, rate_hz = config.mel.hop_samples, config.mel.sample_rate_hz
    if not audio.size:
        return audio
    n_samples = len(audio) // change.source_hop * hop
    if change.source_hop != hop:
        resampled = soxr.resample(audio, change.source_hop * rate_hz, hop * rate_hz, "HQ")
        audio = np.zeros(n_samples, np.float32)
        audio[: len(resampled)] = resampled[:n_samples]
    if change.waves_db:
        audio = _filtered(audio, change, rate_hz)
    if change.gain == 1:
        return audio
    peak = float(np.abs(audio).max()) or 1.0
    limit = max(1.0, _LARGEST_PEAK / peak)
    return np.asarray(audio * np.float32(np.sign(change.gain) * min(abs(change.gain), limit)), np.float32)


def augmented_lags(lags: FloatArray, change: Change, config: Config) -> FloatArray:
    """Pitch lags in samples of the changed recording; 0 stays 0, and the range is the network's."""
    scaled = lags * np.float32(config.mel.hop_samples / change.source_hop)
    within = np.clip(scaled, config.lag_min_samples, config.lag_max_samples)
    return np.asarray(np.where(lags > 0, within, 0), np.float32)


def is_on(train: TrainConfig) -> bool:
    """Whether any setting changes crops."""
    return bool(
        train.augment_gain_db != (0.0, 0.0)
        or train.augment_polarity
        or train.augment_filter_db
        or train.augment_speed
    )


def _filtered(audio: FloatArray, change: Change, rate_hz: int) -> FloatArray:
    """Audio through a filter of smooth, random magnitude and no phase."""
    n_samples = -(-(len(audio) + round(_TAIL_S * rate_hz)) // _FFT_UNIT) * _FFT_UNIT
    # a cos(x + phase) = a cos(phase) cos(x) - a sin(phase) sin(x)
    sizes, phases = np.array(change.waves_db) * (np.log(10) / 20), np.array(change.phases)
    parts = np.concatenate([sizes * np.cos(phases), -sizes * np.sin(phases)]).astype(np.float32)
    spectrum = np.fft.rfft(audio, n_samples) * np.exp(parts @ _waves(n_samples, rate_hz))
    return np.asarray(np.fft.irfft(spectrum, n_samples)[: len(audio)], np.float32)


@lru_cache(maxsize=64)
def _waves(n_samples: int, rate_hz: int) -> FloatArray:
    """(2 waves, n_samples / 2 + 1), cosines and then sines of each bin's place on a scale of log frequency."""
    frequencies_hz = np.fft.rfftfreq(n_samples, 1 / rate_hz)
    octaves = np.log2(np.maximum(frequencies_hz, _LOWEST_HZ) / _LOWEST_HZ)
    x = np.pi * np.arange(1, _WAVES + 1)[:, None] * (octaves / octaves[-1])
    return np.concatenate([np.cos(x), np.sin(x)]).astype(np.float32)
