"""Lists of clips without a dataset behind them."""

from collections.abc import Iterable

import numpy as np

from gru_audio.config import PrepConfig
from gru_audio.data.splits import assign_splits
from gru_audio.data.stored.clips import Clips
from gru_audio.data.stored.index import SPLITS, Index
from gru_audio.data.stored.index_writer import index_writer
from gru_audio.data.stored.shards import ClipRecord, ShardHeader


def index_of_records(records: Iterable[ClipRecord]) -> Index:
    """An index of one shard."""
    with index_writer() as writer:
        writer.add(ShardHeader("", "00" * 16, tuple(records), ()), 0)
        return writer.view()


def clips_of(*lengths: tuple[str, str, int]) -> Clips:
    """Training clips by name, speaker and number of samples."""
    index = index_of_records(
        ClipRecord(name, speaker, name, n_samples, "00" * 16, 0) for name, speaker, n_samples in lengths
    )
    return Clips(index, np.arange(len(index)), ["shard"])


def splits_of(records: Iterable[ClipRecord], prep: PrepConfig) -> dict[str, str]:
    """Each clip's split by name."""
    index = index_of_records(records)
    return {name: SPLITS[split] for name, split in zip(index.names, assign_splits(index, prep), strict=True)}
