"""librosa with its loops compiled, by one process at a time."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gru_audio.locks import lock

_RATE_HZ = 16_000


@cache
def compiled_librosa() -> Any:
    """librosa, ready for pYIN and phase retrieval.

    numba compiles its loops on their first use on a machine, and keeps them in files. Two processes that do so at once
    can crash (numba 0.68: a segmentation fault in one of twelve such pairs), so that the others wait.
    """
    import librosa

    with _alone(Path(librosa.__file__)):
        noise = np.random.default_rng(0).standard_normal(_RATE_HZ // 4).astype(np.float32)
        librosa.pyin(noise, fmin=100, fmax=400, sr=_RATE_HZ)
        librosa.griffinlim(np.abs(librosa.stft(noise)), n_iter=1, **griffin_lim_seed(librosa))
        librosa.effects.trim(noise)
    return librosa


def griffin_lim_seed(librosa: Any) -> dict[str, Any]:
    """The argument that fixes Griffin-Lim's first phases: librosa 1.0 calls it by another name."""
    arguments = inspect.signature(librosa.griffinlim).parameters
    return {"rng" if "rng" in arguments else "random_state": 0}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a file's lock, where the system has such locks."""
    with path.open("rb") as file:
        lock(file.fileno(), wait=True)
        yield
