"""A mel under one contract, brought to another: exactly where that can be, or nearly where the user asks for it."""

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.mel_adapt.conversion import MEND, convert_mel, lasting_differences
from gru_audio.signal.mel_adapt.interpolation import MelInterpolation
from gru_audio.signal.mel_adapt.sharpening import MOST_SHARPENING, sharpened


class Fitting:
    """Frames brought to another contract as they come; however they are cut, what comes out is the same.

    Attributes:
        given: the contract of what comes in.
        lead_samples: how many samples of audio come before the beginning of what was analysed.
        notes: what the user should know of what is lost.
    """

    def __init__(
        self,
        given: MelConfig,
        wanted: MelConfig,
        name: str = "mel",
        *,
        adapt: bool = False,
        sharpen: float = 0.0,
    ) -> None:
        """Begin a mel.

        Args:
            given: its contract.
            wanted: the other one.
            name: begins the message of an error.
            adapt: interpolate what cannot be converted.
            sharpen: how much what comes out is sharpened; see `sharpening`.

        Raises:
            MelError: the contracts differ in more than can be converted, and `adapt` is False; or no such sharpening.
        """
        if not 0 <= sharpen <= MOST_SHARPENING:
            raise MelError(
                f"{name}: cannot be sharpened by {sharpen:g}; give a number from 0 to {MOST_SHARPENING:g}"
            )
        self.given, self._wanted, self._sharpen = given, wanted, sharpen
        self._interpolation, self.lead_samples, self.notes = None, 0, tuple[str, ...]()
        if adapt and (differences := lasting_differences(given, wanted)):
            self._interpolation = MelInterpolation(given, wanted)
            self.notes = (f"interpolated from a mel with {'; '.join(differences)}, at some loss of quality",)
        else:
            none = np.zeros((0, given.n_mels), np.float32)
            convert_mel(none, given, wanted, name, mend=f"{MEND}, or add --adapt, at some loss")
            if given.padding != wanted.padding:  # frames are taken as they stand for those of a voice
                self.lead_samples = max(0, given.lead_samples - wanted.lead_samples)

    def push(self, frames: FloatArray) -> FloatArray:
        """Take frames (k, M); those (k', M') that are ready."""
        if self._interpolation is not None:
            return self._sharpened(self._interpolation.push(frames))
        return self._sharpened(convert_mel(frames, self.given, self._wanted))

    def finish(self) -> FloatArray:
        """The last frames."""
        if self._interpolation is not None:
            return self._sharpened(self._interpolation.finish())
        return np.zeros((0, self._wanted.n_mels), np.float32)

    def _sharpened(self, frames: FloatArray) -> FloatArray:
        return sharpened(frames, self._wanted, self._sharpen)

    def n_samples(self, n_frames: int) -> int:
        """How long the audio of so many frames is."""
        n_fitted = n_frames if self._interpolation is None else self._interpolation.n_frames(n_frames)
        return max(0, n_fitted * self._wanted.hop_samples - self.lead_samples)


def fit_mel(mel: FloatArray, fitting: Fitting) -> FloatArray:
    """A whole mel (F, M) brought to another contract: (F', M')."""
    return np.concatenate([fitting.push(mel), fitting.finish()])
