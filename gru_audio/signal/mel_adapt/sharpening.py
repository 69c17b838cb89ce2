"""A mel that is too smooth, as what a TTS predicts is a mean of what could be said, made sharper: frame by frame.

    mel + amount * (mel - its Gaussian mean over bands)         an unsharp mask, of logarithms

So harmonics and formants stand out again. It looks at no other frame, so that a stream waits for none.
"""

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.mel import silent_frames

MOST_SHARPENING = 3.0
_DEVIATION, _REACH = 1.0, 3  # of the Gaussian, in bands


def sharpened(mel: FloatArray, config: MelConfig, amount: float) -> FloatArray:
    """A mel (F, M) of a contract, each band the further from its neighbours; nothing goes below the floor."""
    if not amount:
        return mel
    n_bands, offsets = mel.shape[1], range(-_REACH, _REACH + 1)
    padded = np.pad(mel, ((0, 0), (_REACH, _REACH)), mode="edge")
    weights = np.exp(-0.5 * (np.array(offsets) / _DEVIATION) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    mean = np.zeros_like(mel)
    for weight, offset in zip(weights, offsets, strict=True):
        mean += weight * padded[:, _REACH + offset : _REACH + offset + n_bands]
    return np.asarray(
        np.maximum(mel + np.float32(amount) * (mel - mean), silent_frames(1, config)), np.float32
    )
