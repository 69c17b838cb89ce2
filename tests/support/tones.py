"""Buzzes in files, where a test needs recordings and not what is in them."""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE_HZ = 16_000


def tone(seconds: float = 0.5, pitch_hz: float = 110.0) -> NDArray[np.float64]:
    """Seven harmonics, (n_samples,)."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.asarray(0.1 * sum(np.sin(2 * np.pi * pitch_hz * k * t) for k in range(1, 8)))


def write(path: Path, seconds: float = 0.5, pitch_hz: float = 110.0) -> Path:
    """A tone in a file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds, pitch_hz), RATE_HZ)
    return path
