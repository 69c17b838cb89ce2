"""Mu-law companding: amplitudes in [-1, 1] to Q classes that are fine near zero, and back.

Source: ITU-T G.711's continuous mu-law with mu = Q - 1, rounded to the nearest of Q codes, as
torchaudio.functional.mu_law_encoding computes it. Encoding is defined here by its decision thresholds,
so that numpy, torch and the C core (native/signal/mulaw.h) give the same code for the same float.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gru_audio.errors import AudioError


@lru_cache(maxsize=8)
def expansion_table(n_classes: int) -> npt.NDArray[np.float32]:
    """(Q,) the amplitude in [-1, 1] that each code stands for; read-only."""
    mu = n_classes - 1
    companded = 2.0 * np.arange(n_classes) / mu - 1.0
    return _frozen(_expand(companded, mu))


@lru_cache(maxsize=8)
def thresholds(n_classes: int) -> npt.NDArray[np.float32]:
    """(Q - 1,) ascending amplitudes at which the code goes up by one; a code counts those at or below it."""
    mu = n_classes - 1
    companded = 2.0 * (np.arange(1, n_classes) - 0.5) / mu - 1.0
    return _frozen(_expand(companded, mu))


@lru_cache(maxsize=8)
def group_means(n_classes: int, n_groups: int) -> npt.NDArray[np.float32]:
    """(n_groups,) the mean amplitude of each group of neighbouring codes, all of one size; read-only."""
    amplitudes = expansion_table(n_classes).astype(np.float64)
    return _frozen(amplitudes.reshape(n_groups, -1).mean(1).astype(np.float32))


def encode(amplitudes: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.int16]:
    """Compand amplitudes to codes.

    Args:
        amplitudes: any shape; beyond [-1, 1], infinities included, they take the outermost codes.
        n_classes: Q, a power of two from 64 to 1024.

    Returns:
        Codes 0 to Q - 1 of the same shape; silence (0) is code Q / 2.

    Raises:
        AudioError: an amplitude is NaN.
    """
    with np.errstate(over="ignore"):  # a double beyond float32's range becomes infinite
        values = np.asarray(amplitudes, np.float32)
    if np.isnan(values).any():
        raise AudioError("mu-law: an amplitude is NaN; clean the audio first")
    return np.searchsorted(thresholds(n_classes), values, side="right").astype(np.int16)


def _expand(companded: npt.NDArray[np.float64], mu: int) -> npt.NDArray[np.float32]:
    return np.asarray(np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(mu)) / mu, np.float32)


def _frozen(table: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    table.flags.writeable = False
    return table
