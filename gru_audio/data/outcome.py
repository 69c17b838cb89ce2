"""What a run of `prep` came to: figures of the whole dataset, and what its maker should know."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gru_audio.config import PrepConfig
from gru_audio.data.shard_making import MadeShard
from gru_audio.data.sources import SourcePlan
from gru_audio.data.stored.index import SPLITS, Index, equal_rows

MOST_NAMED = 1_000
"""Of what there may be as many of as there are files, no more are named; all are counted."""


@dataclass(frozen=True)
class Summary:
    """What `prepare` made.

    Attributes:
        clips: clips in the dataset.
        duration_s: seconds of audio in it.
        splits: clips in each split.
        speakers: clips of each speaker.
        kept_shards: shards that an earlier run had made and that still hold.
        made_shards: shards that this run made.
        known: recordings that were given and that the dataset added to had already.
        skipped: files that could not be used and folders that could not be searched, each with the reason; the first
            thousand.
        n_skipped: how many there are in all.
        ignored: other files that lie in the folders.
        clipped: clips whose source has runs of samples at full scale; the first thousand.
        n_clipped: how many there are in all.
        duplicates: groups of clips with equal PCM, in one split each where no older version divided them; the first
            thousand.
        n_duplicates: how many groups there are in all.
        notes: how listings were understood.
        warnings: what training or evaluation will say of the dataset.
    """

    clips: int
    duration_s: float
    splits: dict[str, int]
    speakers: dict[str, int]
    kept_shards: int
    made_shards: int
    known: int
    skipped: tuple[tuple[str, str], ...]
    n_skipped: int
    ignored: int
    clipped: tuple[str, ...]
    n_clipped: int
    duplicates: tuple[tuple[str, ...], ...]
    n_duplicates: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


class Tally:
    """Counts while shards are made."""

    def __init__(self, plan: SourcePlan) -> None:
        self._plan = plan
        self._skipped: list[tuple[str, str]] = []
        self._shifts = Counter[int]()
        self.n_skipped = self.kept = self.made = self.sources = self.samples = self.fresh_samples = 0

    def add(self, shard: MadeShard) -> None:
        """One more shard."""
        self.kept += shard.was_kept
        self.made += not shard.was_kept
        self.sources += shard.n_sources
        self.samples += shard.header.n_samples
        self.fresh_samples += 0 if shard.was_kept else shard.header.n_samples
        self.n_skipped += len(shard.skipped)
        self._shifts.update(clip.mel_shift for clip in shard.header.clips if clip.mel_shift)
        self._skipped += shard.skipped[: max(0, MOST_NAMED - len(self._skipped))]

    def _shift_notes(self) -> Iterator[str]:
        for shift, count in sorted(self._shifts.items()):
            frames = f"{abs(shift)} frame{'s' if abs(shift) > 1 else ''}"
            yield f"the mels of {count} clips lay {frames} too {'late' if shift > 0 else 'early'} and were moved"

    @property
    def first_skipped(self) -> tuple[str, str]:
        """The first file that could not be used, and the reason."""
        return self._skipped[0]

    def summary(self, index: Index, prep: PrepConfig, sample_rate_hz: int) -> Summary:
        """The whole dataset's, once its clips have their splits."""
        counts = np.bincount(index.split, minlength=len(SPLITS))
        splits = {split: int(counts[number]) for number, split in enumerate(SPLITS)}
        clipped = np.flatnonzero(index.clipped)
        duplicates = equal_rows(index.digest)
        return Summary(
            clips=len(index),
            duration_s=int(index.samples.sum()) / sample_rate_hz,
            splits=splits,
            speakers=dict(sorted(zip(index.speakers, _by_speaker(index), strict=True))),
            kept_shards=self.kept,
            made_shards=self.made,
            known=self._plan.known,
            skipped=(*self._skipped, *self._plan.unreadable),
            n_skipped=self.n_skipped + len(self._plan.unreadable),
            ignored=self._plan.ignored,
            clipped=tuple(index.names[at] for at in clipped[:MOST_NAMED]),
            n_clipped=clipped.size,
            duplicates=tuple(tuple(index.names[at] for at in group) for group in duplicates[:MOST_NAMED]),
            n_duplicates=len(duplicates),
            notes=(*self._plan.notes, *self._shift_notes()),
            warnings=(*split_warnings(splits, prep), *_shared_warnings(index, duplicates)),
        )


def split_warnings(splits: dict[str, int], prep: PrepConfig) -> list[str]:
    """What training and evaluation will say of a dataset, now that it can still be mended.

    Args:
        splits: clips in each split.
        prep: the settings.
    """
    found = []
    if not splits["train"] or not splits["valid"]:
        empty = "valid" if splits["train"] else "train"
        mend = "give more recordings" if prep.longest_s > 0 else "give more recordings, or set prep.longest_s"
        if empty == "valid" and not prep.valid_fraction:
            mend = "set prep.valid_fraction above 0"
        found.append(f"the split '{empty}' is empty, so that training will refuse the dataset; {mend}")
    if not splits["valid"] and not splits["test"]:
        found.append("no clip is held out of training, so that evaluate will need other audio")
    return found


def _shared_warnings(index: Index, duplicates: Sequence[NDArray[np.int64]]) -> Iterator[str]:
    """Equal audio that was divided before prep kept it together, or that was added to."""
    shared = [group for group in duplicates if np.ptp(index.split[group])]
    if shared:
        told = ", ".join(f"{index.names[at]} in {SPLITS[index.split[at]]}" for at in shared[0][:3])
        sets = f"{len(shared)} sets of equal clips lie" if len(shared) > 1 else "a set of equal clips lies"
        yield f"{sets} in several splits ({told}); prepare again with --overwrite"


def totals(index: Index, n_skipped: int, sample_rate_hz: int) -> dict[str, Any]:
    """Clips and hours in all, of each split and of each speaker."""

    def figures(counts: Iterable[int], samples: Iterable[float], names: Iterable[str]) -> dict[str, Any]:
        return {
            name: {"clips": int(count), "hours": round(float(total) / sample_rate_hz / 3600, 4)}
            for name, count, total in zip(names, counts, samples, strict=True)
        }

    n_splits, n_speakers = len(SPLITS), len(index.speakers)
    by_split = np.bincount(index.split, index.samples, n_splits)
    by_speaker = figures(
        _by_speaker(index), np.bincount(index.speaker, index.samples, n_speakers), index.speakers
    )
    return {
        "clips": len(index),
        "hours": round(float(index.samples.sum()) / sample_rate_hz / 3600, 4),
        "skipped": n_skipped,
        "splits": figures(np.bincount(index.split, minlength=n_splits), by_split, SPLITS),
        "speakers": dict(sorted(by_speaker.items())),
    }


def _by_speaker(index: Index) -> list[int]:
    return [int(count) for count in np.bincount(index.speaker, minlength=len(index.speakers))]
