"""How loud the audio of a mel's frames is. Shapes: F frames, M bands."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.mel import analysis_window, filterbank

Doubles = npt.NDArray[np.float64]


def frame_levels(linear: FloatArray, config: MelConfig) -> Doubles:
    """(F,) about how loud the audio of each frame is, in dBFS: exact for noise, too little for high tones.

    Args:
        linear: (F, M), see `to_linear`.
        config: the mel's contract.
    """
    gains, widths = noise_gains(config)
    power = linear.astype(np.float64) ** (2 / config.spectrum_power) / gains
    return np.asarray(10 * np.log10(power @ widths + 1e-30))


@lru_cache(maxsize=8)
def noise_gains(config: MelConfig) -> tuple[Doubles, Doubles]:
    """What a band holds, in power, of noise of power 1 a sample; and which share of the spectrum a band is."""
    filters, window = filterbank(config).astype(np.float64), analysis_window(config).astype(np.float64)
    omega = 2 * np.pi * np.arange(filters.shape[1]) / config.n_fft
    emphasis = np.abs(1 - config.preemphasis * np.exp(-1j * omega))
    energy = float(np.sum(window**2))
    if config.spectrum == "power":
        gains = energy * (filters @ emphasis**2)
    else:
        gains = energy * np.pi / 4 * (filters @ emphasis) ** 2  # a bin's size is Rayleigh's
    return np.maximum(gains, 1e-30), np.count_nonzero(filters, axis=1) / 2 / filters.shape[1]
