"""Which clips train, which validate, which test: by a stable hash, so that no clip's place depends on others."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gru_audio.config import PrepConfig
from gru_audio.data.shards import ClipRecord


@dataclass(frozen=True)
class Splits:
    """The split of every clip.

    Attributes:
        of: "train", "valid" or "test" by clip name.
        promoted: clips that the hash had put elsewhere, moved so that neither train nor valid is empty.
    """

    of: dict[str, str]
    promoted: tuple[str, ...]


def assign_splits(clips: Sequence[ClipRecord], prep: PrepConfig) -> Splits:
    """Split clips by the hash of their name, or of their speaker with `prep.split_by = "speaker"`.

    Where the hash leaves valid empty, the clip of the smallest hash goes there, or the speaker of fewest
    clips; where it leaves train empty, the clip of the largest hash or the speaker of most clips. So two
    clips are enough to train and to validate. One speaker alone is divided by clips. With
    `prep.valid_fraction = 0` valid stays empty.
    """
    by_speaker = prep.split_by == "speaker" and len({clip.speaker for clip in clips}) > 1
    key = {clip.name: clip.speaker if by_speaker else clip.name for clip in clips}
    sizes = Counter(key.values())
    ranked = sorted(sizes, key=lambda chosen: (sizes[chosen], _hash(chosen)))
    split = {chosen: _split_of(_hash(chosen), prep) for chosen in ranked}
    promoted: set[str] = set()

    def promote(chosen: str, to: str) -> None:
        split[chosen] = to
        promoted.add(chosen)

    if len(ranked) >= 2:
        if prep.valid_fraction > 0 and "valid" not in split.values():
            promote(ranked[0], "valid")
        if "train" not in split.values():
            valid = [chosen for chosen in ranked if split[chosen] == "valid"]
            promote(next(chosen for chosen in reversed(ranked) if valid != [chosen]), "train")
    of = {name: split[key[name]] for name in key}
    return Splits(of, tuple(name for name in key if key[name] in promoted))


def _hash(key: str) -> float:
    """A number in [0, 1), the same on every machine."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)  # 53 bits fit a float exactly


def _split_of(place: float, prep: PrepConfig) -> str:
    if place < prep.valid_fraction:
        return "valid"
    return "test" if place < prep.valid_fraction + prep.test_fraction else "train"
