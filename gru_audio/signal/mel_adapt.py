"""A mel under one contract, brought to another: exactly where that can be, or nearly where the user asks for it.

Exact are log, scale, offset, floor, the filters' norm and the half hop between centred frames and others. Bands, hops,
windows and rates are met by interpolation; see mel_interpolation.py.
"""

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.mel import filterbank, from_linear, silent_up_to, to_linear
from gru_audio.signal.mel_interpolation import MelInterpolation

_CONVERTED = ("log", "scale", "offset", "floor", "filter_norm", "padding")
"""Fields of a contract that may differ, as a mel can be brought from one to the other without loss."""

_MEND = "make the mel anew, or use a voice trained with its contract"


def contract_differences(given: MelConfig, wanted: MelConfig) -> list[str]:
    """Fields in which two contracts differ, as `"hop_samples 256, not 200"`."""
    mine, theirs = given.model_dump(), wanted.model_dump()
    return [f"{key} {mine[key]}, not {theirs[key]}" for key in mine if mine[key] != theirs[key]]


def summary(config: MelConfig) -> str:
    """What people ask of a contract first."""
    return f"{config.sample_rate_hz} Hz, hop {config.hop_samples}, {config.n_mels} bands, {config.log}"


def restated(given: MelConfig, wanted: MelConfig) -> MelConfig:
    """A contract with all that can be converted as another one has it."""
    return given.model_copy(update={key: getattr(wanted, key) for key in _CONVERTED})


def convert_mel(
    mel: FloatArray, given: MelConfig, wanted: MelConfig, name: str = "mel", *, mend: str = _MEND
) -> FloatArray:
    """Restate a mel (F, M) made under one contract under another.

    A change of log, scale, offset, floor and filter norm is converted. With another padding the frames stay as they
    are: those of a centred contract stand for what lies half a hop earlier, see `MelConfig.lead_samples`. What is at
    the given floor comes to the wanted one, unless what lies below the given one could be heard.

    Args:
        mel: under `given`.
        given: its contract.
        wanted: the other one.
        name: begins the message of an error.
        mend: ends it: what can be done about a mel that cannot be converted, where the call comes from.

    Raises:
        MelError: the contracts differ in anything else; the message names each difference.
    """
    differences = contract_differences(restated(given, wanted), wanted)
    if differences:
        raise MelError(
            f"{name}: made with {'; '.join(differences)}; only {', '.join(_CONVERTED[:-1])} and {_CONVERTED[-1]} can "
            f"be converted: {mend}"
        )
    if given.model_copy(update={"padding": wanted.padding}) == wanted:
        return mel
    linear = to_linear(mel, given)
    linear = np.where(linear <= silent_up_to(given), np.float32(0), linear)
    if given.filter_norm != wanted.filter_norm:
        linear = linear * (filterbank(wanted).max(axis=1) / np.maximum(filterbank(given).max(axis=1), 1e-30))
    return from_linear(linear, wanted)


class Fitting:
    """Frames brought to another contract as they come; however they are cut, what comes out is the same.

    Attributes:
        lead_samples: how many samples of audio come before the beginning of what was analysed.
        notes: what the user should know of what is lost.
    """

    def __init__(
        self, given: MelConfig, wanted: MelConfig, name: str = "mel", *, adapt: bool = False
    ) -> None:
        """Begin a mel.

        Args:
            given: its contract.
            wanted: the other one.
            name: begins the message of an error.
            adapt: interpolate what cannot be converted.

        Raises:
            MelError: the contracts differ in more than can be converted, and `adapt` is False.
        """
        self._given, self._wanted = given, wanted
        self._interpolation, self.lead_samples, self.notes = None, 0, tuple[str, ...]()
        differences = contract_differences(restated(given, wanted), wanted)
        if adapt and differences:
            self._interpolation = MelInterpolation(given, wanted)
            self.notes = (f"interpolated from a mel with {'; '.join(differences)}, at some loss of quality",)
        else:
            none = np.zeros((0, given.n_mels), np.float32)
            convert_mel(none, given, wanted, name, mend=f"{_MEND}, or add --adapt, at some loss")
            if given.padding != wanted.padding:  # frames are taken as they stand for those of a voice
                self.lead_samples = max(0, given.lead_samples - wanted.lead_samples)

    def push(self, frames: FloatArray) -> FloatArray:
        """Take frames (k, M); those (k', M') that are ready."""
        if self._interpolation is not None:
            return self._interpolation.push(frames)
        return convert_mel(frames, self._given, self._wanted)

    def finish(self) -> FloatArray:
        """The last frames."""
        if self._interpolation is not None:
            return self._interpolation.finish()
        return np.zeros((0, self._wanted.n_mels), np.float32)

    def n_samples(self, n_frames: int) -> int:
        """How long the audio of so many frames is."""
        n_fitted = n_frames if self._interpolation is None else self._interpolation.n_frames(n_frames)
        return max(0, n_fitted * self._wanted.hop_samples - self.lead_samples)


def fit_mel(mel: FloatArray, fitting: Fitting) -> FloatArray:
    """A whole mel (F, M) brought to another contract: (F', M')."""
    return np.concatenate([fitting.push(mel), fitting.finish()])
