"""The tables of native/signal/fft.h's transforms."""

import numpy as np
import numpy.typing as npt

from gru_audio.native import library

PLAN_FIELDS = (
    ("size", library.Int),
    ("n_factors", library.Int),
    ("factor", library.Int64s),
    ("turns", library.Floats),
)
"""Of C's `struct fft_plan`."""
FLOATS_A_BIN = 16
"""Of spectra: a complex number of 8 signals."""

ONE_PLAN_FIELDS = (
    ("part_size", library.Int),
    ("n_part_factors", library.Int),
    ("part_factor", library.Int64s),
    ("part_turns", library.Floats),
    ("twists", library.Floats),
    ("cosines", library.Floats),
    ("sines", library.Floats),
)
"""Of C's `struct fft_one_plan`, of native/signal/fft_one.h."""
_PARTS = 8


def one_plan_of(size: int) -> dict[str, int | npt.NDArray[np.int64] | npt.NDArray[np.float32]]:
    """The fields of the plan for one real signal; `part_size` is 0 where the size is no multiple of 128."""
    fits = size % (2 * _PARTS**2) == 0
    parts, half = plan_of(size // _PARTS if fits else 2), size // 2
    angle = -2 * np.pi * np.arange(half + 1) / size
    k, part = np.arange(half // _PARTS)[:, None], np.arange(_PARTS)
    twist = -2 * np.pi * k * part / half  # (L, 8)
    return {
        "part_size": parts["size"] if fits else 0,
        "n_part_factors": parts["n_factors"],
        "part_factor": parts["factor"],
        "part_turns": parts["turns"],
        "twists": np.stack([np.cos(twist), np.sin(twist)], axis=1).astype(np.float32),
        "cosines": np.cos(angle).astype(np.float32),
        "sines": np.sin(angle).astype(np.float32),
    }


def plan_of(size: int) -> dict[str, int | npt.NDArray[np.int64] | npt.NDArray[np.float32]]:
    """The fields of the plan for real signals of an even number of samples."""
    factors = np.array(factors_of(size // 2), np.int64)
    angle = -2 * np.pi * np.arange(size) / size
    turns = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    return {"size": size, "n_factors": len(factors), "factor": factors, "turns": turns}


def factors_of(number: int) -> list[int]:
    """Fours first, which take the fewest operations, then primes; none of 1."""
    factors, divisors = [], [4, 2, 3]
    while number > 1:
        if number % divisors[0] == 0:
            factors.append(divisors[0])
            number //= divisors[0]
        else:
            divisors = divisors[1:] or [divisors[0] + 2]
    return factors
