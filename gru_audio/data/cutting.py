"""Long recordings cut at their pauses."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SHORTEST_S = 2.0
"""No piece is shorter, so that a piece is worth a clip."""

_HOP_S = 0.01
_PAUSE_S = 0.2  # over which the level is averaged: a stop consonant is no pause
_ALIKE_DB = 6.0  # pauses this close to the quietest are as good, so that the latest is taken
_EVEN_DB = 0.5  # the bottom of a pause
_SMALLEST_POWER = 1e-10


def cut_at_pauses(audio: NDArray[np.float32], sample_rate_hz: int, longest_s: float) -> list[tuple[int, int]]:
    """Where to cut a recording so that no piece is longer than it may be.

    Each cut is made in the middle of the latest pause among the quietest of those that leave a piece of 2 s to
    `longest_s`, and leave 2 s after it. Without pauses, as in music, it falls where the audio is quietest.

    Args:
        audio: (n_samples,).
        sample_rate_hz: its rate.
        longest_s: at least 4; 0 for no cut.

    Returns:
        The first sample of each piece and the one after its last; one piece where nothing needs to be cut.
    """
    longest = round(longest_s * sample_rate_hz)
    if not longest or audio.size <= longest:
        return [(0, audio.size)]
    hop = max(1, round(_HOP_S * sample_rate_hz))
    levels_db = _levels_db(audio, hop)
    shortest_hops, longest_hops = math.ceil(SHORTEST_S * sample_rate_hz / hop), longest // hop
    cuts = [0]
    while audio.size - cuts[-1] > longest:
        first = cuts[-1] // hop
        stop = min(first + longest_hops, len(levels_db) - 1 - shortest_hops)
        window = levels_db[first + shortest_hops : stop + 1]
        cuts.append((first + shortest_hops + _latest_pause(window)) * hop)
    cuts.append(audio.size)
    return list(pairwise(cuts))


def _levels_db(audio: NDArray[np.float32], hop: int) -> NDArray[np.float64]:
    """(audio.size // hop + 1,), the level around the beginning of each hop."""
    n_hops = audio.size // hop
    hops = audio[: n_hops * hop].reshape(n_hops, hop)
    total = np.concatenate([np.zeros(1), np.cumsum(np.einsum("ij,ij->i", hops, hops), dtype=np.float64)])
    middles, half = np.arange(n_hops + 1), round(_PAUSE_S / _HOP_S / 2)
    low, high = np.maximum(middles - half, 0), np.minimum(middles + half, n_hops)
    means = (total[high] - total[low]) / ((high - low) * hop)
    levels_db: NDArray[np.float64] = 10 * np.log10(np.maximum(means, _SMALLEST_POWER))
    return levels_db


def _latest_pause(levels_db: NDArray[np.float64]) -> int:
    """The middle of the last run of levels that are nearly the lowest."""
    low = np.flatnonzero(levels_db <= levels_db.min() + _ALIKE_DB)
    last = low[np.flatnonzero(np.diff(low, prepend=-2) > 1)[-1] :]
    deepest = last[levels_db[last] <= levels_db[last].min() + _EVEN_DB]
    return int(deepest[len(deepest) // 2])
