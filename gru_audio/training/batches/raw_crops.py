"""Crops as they travel to a GPU, which makes the batch of them: audio in place of mels and codes.

A crop's audio is what the windows of all its frames reach, mirrored where the clip ends, as the mel wants it:

    frames   | context | run-in | crop | context |      of which `known` are the clip's; the others are silent
    audio    |~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~|      of which `inside` are the clip's; the others are mirrored

Shapes: see model.py; A frames in all, N samples of audio, W of the run-in.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.mel import mirrored_samples


class RawCrops(NamedTuple):
    """What a batch is made from.

    Attributes:
        audio: (B, N) int16, or float32 where crops are augmented.
        known: (B, 2) int64, the first of the A frames that is the clip's, and the one after the last.
        inside: (B, 2) int64, the same of the N samples.
        lags: (B, F), pitch labels in samples, 0 where unvoiced.
        noise: (B, W + T) int8, steps by which codes are moved before they enter the history.
    """

    audio: npt.NDArray[np.int16] | FloatArray
    known: npt.NDArray[np.int64]
    inside: npt.NDArray[np.int64]
    lags: FloatArray
    noise: npt.NDArray[np.int8]


def reach_of(frames: range, config: MelConfig) -> range:
    """The samples of a clip that the windows of its frames reach; some lie outside."""
    first = frames.start * config.hop_samples - mirrored_samples(config)
    return range(first, first + (len(frames) - 1) * config.hop_samples + config.n_fft)


def mirrored(audio: FloatArray, wanted: range) -> FloatArray:
    """Samples of audio, which is mirrored at both its ends as often as need be; zeros of none."""
    if wanted.start >= 0 and wanted.stop <= len(audio):
        return audio[wanted.start : wanted.stop]
    if not audio.size:
        return np.zeros(len(wanted), np.float32)
    period = max(1, 2 * (len(audio) - 1))
    index = np.arange(wanted.start, wanted.stop) % period
    return np.asarray(audio[np.minimum(index, period - index) % len(audio)])


def bounds_within(known: range, wanted: range) -> tuple[int, int]:
    """Where in a wanted range those that are known begin and end."""
    first, last = (min(max(edge - wanted.start, 0), len(wanted)) for edge in (known.start, known.stop))
    return first, last
