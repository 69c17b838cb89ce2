"""Types of arrays; and what callers in Python give, as arrays or as numbers."""

import sys
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.errors import ConfigError
from gru_audio.names import shown

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
Int16Array = npt.NDArray[np.int16]


def array_of(given: npt.ArrayLike) -> npt.NDArray[Any]:
    """What a caller gave, as an array.

    A tensor of torch may have a gradient, lie on a device, be sparse or of bfloat16: NumPy takes none of these.

    Raises:
        ValueError: lists of different lengths.
    """
    # Whoever gives a tensor has loaded torch; another thread may be about to.
    torch: Any = sys.modules.get("torch")
    if isinstance(given, getattr(torch, "Tensor", ())):
        tensor: Any = given
        tensor = tensor.detach().cpu().to_dense()
        if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
            tensor = tensor.float()
        return np.asarray(tensor)
    return np.asarray(given)


def require_whole(name: str, value: object) -> None:
    """Make sure that a setting is a whole number, Python's or NumPy's; a truth value is none.

    Raises:
        ConfigError: it is not; `name` begins the message.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"{name} {shown(repr(value))}: not a whole number; give one, such as 0")


def require_real(name: str, value: object) -> None:
    """Make sure that a setting is a number, as `require_whole` does."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"{name} {shown(repr(value))}: not a number; give one, such as 0.1")


def require_several(name: str, value: object) -> None:
    """Make sure that what should be several arrays can be gone through.

    Raises:
        ConfigError: it cannot; `name` begins the message.
    """
    if not isinstance(value, Iterable):
        raise ConfigError(f"{name}: {type(value).__name__}, not several arrays; give a list of them")


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
