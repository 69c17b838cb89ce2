"""How loud audio is to the ear: ITU-R BS.1770-4's integrated loudness of one channel, in LUFS.

The audio is weighted by two filters, a shelf for the head and a high pass, and cut into blocks of 0.4 s that overlap
by three quarters; the mean power of those blocks counts that are neither silent nor far below the others.
"""

import math

import numpy as np
from numpy.typing import NDArray

from gru_audio.native import library

BLOCK_S = 0.4
_STEP = 0.25  # of a block
_SHELF_DB, _SHELF_Q, _SHELF_HZ = 4.0, math.sqrt(0.5), 1500.0
_HIGH_PASS_Q, _HIGH_PASS_HZ = 0.5, 38.0
_FULL_SCALE_LUFS = -0.691  # of a mean power of 1
_SILENCE_LUFS = -70.0
_GATE_LU = -10.0  # below the mean of what is not silent


def integrated_loudness(audio: NDArray[np.float32], sample_rate_hz: int) -> float:
    """The loudness of audio (n,) of at least a block, in LUFS; -inf where all of it is under the gate of -70."""
    weighted = audio.astype(np.float64)
    for coefficients in (_shelf(sample_rate_hz), _high_pass(sample_rate_hz)):
        _second_order(coefficients, weighted, weighted.size)
    blocks = _STEP * np.arange(round((audio.size / sample_rate_hz - BLOCK_S) / (BLOCK_S * _STEP)) + 1)
    starts, ends = ((BLOCK_S * places * sample_rate_hz).astype(int) for places in (blocks, blocks + 1))
    total = np.concatenate([[0.0], np.cumsum(weighted**2)])
    powers = (total[np.minimum(ends, audio.size)] - total[starts]) / (BLOCK_S * sample_rate_hz)
    heard = powers[powers >= _power_of(_SILENCE_LUFS)]
    if not heard.size:
        return -math.inf
    return _loudness_of(heard[heard > heard.mean() * 10 ** (_GATE_LU / 10)].mean())


def _loudness_of(power: float) -> float:
    return float(_FULL_SCALE_LUFS + 10 * math.log10(power))


def _power_of(loudness_lufs: float) -> float:
    return float(10 ** ((loudness_lufs - _FULL_SCALE_LUFS) / 10))


def _shelf(sample_rate_hz: int) -> NDArray[np.float64]:
    """Coefficients of a shelf above a frequency. Source: Bristow-Johnson, Audio EQ Cookbook (1998)."""
    a, cos, alpha = 10 ** (_SHELF_DB / 40), *_angle(_SHELF_HZ, _SHELF_Q, sample_rate_hz)
    root = 2 * math.sqrt(a) * alpha
    above, below = a + 1 + (a - 1) * cos, a + 1 - (a - 1) * cos
    numerator = [a * (above + root), -2 * a * (a - 1 + (a + 1) * cos), a * (above - root)]
    return _normalised(numerator, [below + root, 2 * (a - 1 - (a + 1) * cos), below - root])


def _high_pass(sample_rate_hz: int) -> NDArray[np.float64]:
    """Coefficients of a high pass. Source: as for the shelf."""
    cos, alpha = _angle(_HIGH_PASS_HZ, _HIGH_PASS_Q, sample_rate_hz)
    return _normalised([(1 + cos) / 2, -(1 + cos), (1 + cos) / 2], [1 + alpha, -2 * cos, 1 - alpha])


def _angle(frequency_hz: float, q: float, sample_rate_hz: int) -> tuple[float, float]:
    angle = 2 * math.pi * frequency_hz / sample_rate_hz
    return math.cos(angle), math.sin(angle) / (2 * q)


def _normalised(numerator: list[float], denominator: list[float]) -> NDArray[np.float64]:
    return np.array([*numerator, *denominator[1:]]) / denominator[0]


_second_order = library.function("gru_second_order", [library.Doubles, library.Doubles, library.Int])
