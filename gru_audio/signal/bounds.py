"""What audio may be: the rates that are taken, and how much of it is held in memory."""

import math
import os
from numbers import Real

from gru_audio.errors import AudioError

LEAST_RATE_HZ, LARGEST_RATE_HZ = 1_000, 768_000

TOLERANCE_S = 0.1
"""So much may be missing at a recording's end, or a twentieth of it where that is less."""

LIMIT_VARIABLE = "GRU_AUDIO_LIMIT_GIB"
"""The environment's variable that sets how many GiB the samples of one file may take, as float32."""

_LIMIT_GIB = 2.0  # 3.4 hours at 44.1 kHz
_EXPANSION = 1_000  # a codec's samples in bytes for a byte of its file; speech at 5 kbit/s has 300
ALWAYS_BYTES = 256 << 20
"""What a file may take, however small it is."""

_SAMPLE_BYTES = 4


def check_rate(sample_rate_hz: float, name: str = "audio") -> None:
    """Refuse a rate that no audio has.

    Raises:
        AudioError: under 1 kHz or over 768 kHz; `name` begins the message.
    """
    is_number = isinstance(sample_rate_hz, Real)  # a caller in Python may give anything
    if not (is_number and LEAST_RATE_HZ <= sample_rate_hz <= LARGEST_RATE_HZ):
        raise AudioError(
            f"{name}: a sample rate of {sample_rate_hz} Hz, it must be from {LEAST_RATE_HZ} to {LARGEST_RATE_HZ}; mend "
            "its header, or give the true rate"
        )


def check_size(n_samples: float, name: str = "audio", file_bytes: int | None = None) -> None:
    """Refuse samples, of one channel, that would take more memory than one file may.

    Args:
        n_samples: how many there are, or will be.
        name: begins the message.
        file_bytes: the size of the file that they come from: a small one that states hours is not believed.

    Raises:
        AudioError: over `LIMIT_VARIABLE`, or a thousand times the file.
    """
    wanted, limit = n_samples * _SAMPLE_BYTES, _limit_bytes()
    if limit is None:
        limit = _LIMIT_GIB * 2**30
        if file_bytes is not None:
            limit = min(limit, max(ALWAYS_BYTES, _EXPANSION * file_bytes))
    if wanted > limit:
        of = f" out of a file of {file_bytes} bytes" if file_bytes is not None else ""
        raise AudioError(
            f"{name}: its samples take {wanted / 2**30:.2f} GiB{of}, over the limit of {limit / 2**30:.2f}; cut it in "
            f"pieces, or set {LIMIT_VARIABLE}={math.ceil(wanted / 2**30)}"
        )


def allowed_loss_s(duration_s: float) -> float:
    """How much of a recording of some length may be missing before it is refused, in seconds."""
    return min(TOLERANCE_S, duration_s / 20)


def _limit_bytes() -> float | None:
    """What the user set; None where that is nothing."""
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise AudioError(f"{LIMIT_VARIABLE}='{text}' is no number above 0; set it to GiB, such as 4")
    return limit * 2**30
