"""Which clips train, which validate, which test: by a stable hash, so that no clip's place depends on others."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gru_audio.config import PrepConfig
from gru_audio.shards import ClipRecord


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

    Where the hash leaves valid empty, the clip (or speaker) of the smallest hash goes there; where it
    leaves train empty, that of the largest. So two clips are enough to train and to validate. One speaker
    alone is divided by clips. With `prep.valid_fraction = 0` valid stays empty.
    """
    key = {clip.name: clip.speaker if prep.split_by == "speaker" else clip.name for clip in clips}
    of = {name: _split_of(_hash(key[name]), prep) for name in key}
    if len(set(key.values())) < 2:
        key = {name: name for name in key}
    by_hash = sorted(set(key.values()), key=_hash)
    promoted: list[str] = []

    def promote(chosen: str, split: str) -> None:
        names = [name for name in key if key[name] == chosen]
        of.update(dict.fromkeys(names, split))
        promoted.extend(names)

    if len(by_hash) >= 2:
        if prep.valid_fraction > 0 and "valid" not in of.values():
            promote(by_hash[0], "valid")
        if "train" not in of.values():
            promote(by_hash[-1], "train")
    return Splits(of, tuple(promoted))


def _hash(key: str) -> float:
    """A number in [0, 1), the same on every machine."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)  # 53 bits fit a float exactly


def _split_of(place: float, prep: PrepConfig) -> str:
    if place < prep.valid_fraction:
        return "valid"
    return "test" if place < prep.valid_fraction + prep.test_fraction else "train"
