"""Types of arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Int16Array = npt.NDArray[np.int16]


class Made(NamedTuple):
    """What a voice made of a mel, or of some of its frames.

    Attributes:
        audio: (n,), as users get it: corrected.
        raw: (m,), as the network alone made it: the correction, which comes later, hides much of what it cannot do.
    """

    audio: FloatArray
    raw: FloatArray

    def cut(self, first: int, n_samples: int) -> "Made":
        """The same stretch of both."""
        return Made(self.audio[first : first + n_samples], self.raw[first : first + n_samples])

    @classmethod
    def joined(cls, pieces: Sequence["Made"]) -> "Made":
        """Pieces one after the other; of none, nothing."""
        nothing = np.zeros(0, np.float32)
        return cls(
            np.concatenate([nothing, *(piece.audio for piece in pieces)]),
            np.concatenate([nothing, *(piece.raw for piece in pieces)]),
        )
