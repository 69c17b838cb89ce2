"""How loud the audio of a mel's frames is. Shapes: F frames, M bands."""

from functools import lru_cache

import numpy as np

from gru_audio.arrays import DoubleArray, FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.mel import analysis_window, filterbank, heard_filters


def frame_levels(linear: FloatArray, config: MelConfig) -> DoubleArray:
    """(F,) about how loud the audio of each frame is, in dBFS: exact for noise, too little for high tones.

    Args:
        linear: (F, M), see `to_linear`.
        config: the mel's contract.
    """
    gains, widths = noise_gains(config)
    power = linear.astype(np.float64) ** (2 / config.spectrum_power) / gains
    return np.asarray(10 * np.log10(power @ widths + 1e-30))


@lru_cache(maxsize=8)
def noise_gains(config: MelConfig) -> tuple[DoubleArray, DoubleArray]:
    """What a band holds, in power, of noise of power 1 a sample; and which share of the spectrum a band is."""
    heard, filters = heard_filters(config).astype(np.float64).sum(1), filterbank(config)
    # Of magnitudes, a bin's size is Rayleigh's.
    gains = heard if config.spectrum == "power" else np.pi / 4 * heard**2
    energy = float(np.sum(analysis_window(config).astype(np.float64) ** 2))
    return np.maximum(energy * gains, 1e-30), np.count_nonzero(filters, axis=1) / 2 / filters.shape[1]
