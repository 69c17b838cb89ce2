"""The clips that an index lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from gru_audio.data.stored.index import SPLITS, Index


@dataclass(frozen=True)
class Clip:
    """One clip of a dataset.

    Attributes:
        name: unique in the dataset.
        speaker: who speaks, as far as the source's folders tell.
        shard: file name of the shard that holds it.
        n_samples: its length, a whole number of hops.
        split: "train", "valid" or "test".
        has_mel: a mel was given for it.
    """

    name: str
    speaker: str
    shard: str
    n_samples: int
    split: str
    has_mel: bool = False


class Clips(Sequence[Clip]):
    """Some clips of a dataset, each made when it is asked for; a million take no memory.

    Attributes:
        n_samples: (n,), the length of each.
        speaker: (n,), the number of each one's speaker.
    """

    def __init__(self, index: Index, rows: NDArray[np.int64], shards: Sequence[str]) -> None:
        self._index, self._rows, self._shards = index, rows, shards
        self.n_samples: NDArray[np.int64] = index.samples[rows]
        self.speaker: NDArray[np.int32] = index.speaker[rows]

    @property
    def speakers(self) -> dict[int, str]:
        """Who speaks in them, by number."""
        return {int(number): self._index.speakers[int(number)] for number in np.unique(self.speaker)}

    @property
    def have_mels(self) -> bool:
        """Whether a mel was given for any of them."""
        return bool(self._index.given[self._rows].any())

    def chosen(self, places: NDArray[np.int64]) -> "Clips":
        """Some of them, by place, each as often as it is named."""
        return Clips(self._index, self._rows[places], self._shards)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> list[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | list[Clip]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        row, of = int(self._rows[index]), self._index
        return Clip(
            of.names[row],
            of.speakers[int(of.speaker[row])],
            self._shards[int(of.shard[row])],
            int(of.samples[row]),
            SPLITS[of.split[row]],
            bool(of.given[row]),
        )
