"""Which clips train, which validate, which test: by a stable hash, so that no clip's place depends on others."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gru_audio.config import PrepConfig
from gru_audio.data.stored.index import SPLITS, Index, equal_rows

TRAIN, VALID, TEST = range(len(SPLITS))
OPEN = -1
"""In a split's place: there is none yet."""


def assign_splits(index: Index, prep: PrepConfig, have: NDArray[np.int_] | None = None) -> NDArray[np.uint8]:
    """Split clips by the hash of their name, or of their speaker with `prep.split_by = "speaker"`.

    Where the hash leaves valid or test empty, the clip of the smallest hash that can be spared goes there, or the
    speaker of fewest clips; where it leaves train empty, the clip of the largest hash or the speaker of most clips.
    So two clips are enough to train and to validate, and three also to test. One speaker alone is divided by
    clips. A split whose fraction is 0 stays empty.

    Clips of equal audio go to one split, as what is trained on would be validated on otherwise: that of the first of
    them that is settled, or else the one that the hash gives them together. What speakers of several splits share goes
    to train.

    Args:
        index: the clips.
        prep: how to split.
        have: (n_clips,), the splits that are settled, OPEN for those that are not; by default none is settled.

    Returns:
        (n_clips,), the number in SPLITS of each clip's split.
    """
    have = np.full(len(index), OPEN) if have is None else have
    first, of_equal_audio = np.arange(len(index)), equal_rows(index.digest)
    for clips in of_equal_audio:
        first[clips] = clips[np.argmax(have[clips] != OPEN)]
    if prep.split_by == "speaker" and len(index.speakers) > 1:
        sizes = np.bincount(index.speaker, minlength=len(index.speakers))
        by_speaker = np.full(len(index.speakers), OPEN)
        known = np.flatnonzero(have != OPEN)[::-1]  # of a speaker's clips the first says it
        by_speaker[index.speaker[known]] = have[known]
        found = split_keys(_hashes(index.speakers), sizes, prep, by_speaker)[index.speaker]
    else:
        keys, key, sizes = np.unique(first, return_inverse=True, return_counts=True)
        found = split_keys(_hashes(index.names[at] for at in keys), sizes, prep, have[keys])[key]
    for clips in of_equal_audio:
        settled = have[first[clips[0]]]
        found[clips] = found[clips].min() if settled == OPEN else settled
    return np.where(have == OPEN, found, have).astype(np.uint8)


def split_keys(
    places: NDArray[np.float64], sizes: NDArray[np.int_], prep: PrepConfig, have: NDArray[np.int_]
) -> NDArray[np.int_]:
    """Divide keys, each of which stands for one clip or more, among the splits.

    Args:
        places: (n,), from 0 to 1, the hash of each key.
        sizes: (n,), how many clips each stands for.
        prep: the fractions.
        have: (n,), the splits that are settled, OPEN for those that are not.
    """
    hashed = np.select(
        [places < prep.valid_fraction, places < prep.valid_fraction + prep.test_fraction],
        [VALID, TEST],
        TRAIN,
    )
    splits = np.where(have == OPEN, hashed, have)
    ranked = np.lexsort([places, sizes])
    ranked = ranked[have[ranked] == OPEN]

    def fill(split: int, candidates: NDArray[np.int_]) -> None:
        """Where a split is empty, move the first key there that its own can spare; the test goes last."""
        counts = np.bincount(splits, minlength=len(SPLITS))
        own = splits[candidates]
        spare = candidates[(counts[own] > 1) | ((own == TEST) & (split != TEST))]
        if not counts[split] and spare.size:
            splits[spare[0]] = split

    if len(splits) > 1:
        if prep.valid_fraction > 0:
            fill(VALID, ranked)
        fill(TRAIN, ranked[::-1])
        if prep.test_fraction > 0:
            fill(TEST, ranked[np.argsort(splits[ranked] != TRAIN, kind="stable")])
    return splits


def _hashes(keys: Iterable[str]) -> NDArray[np.float64]:
    """A number in [0, 1) for each key, the same on every machine."""

    def one(key: str) -> float:
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / (1 << 53)  # 53 bits fit a float exactly

    return np.fromiter(map(one, keys), np.float64)
