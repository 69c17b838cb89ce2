"""A mel under one contract, brought to another exactly: log, scale, offset, floor, filters' norm, half a hop."""

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.mel import filterbank, from_linear, silent_up_to, to_linear

_CONVERTED = ("log", "scale", "offset", "floor", "filter_norm", "padding")
"""Fields of a contract that may differ, as a mel can be brought from one to the other without loss."""

MEND = "make the mel anew, or use a voice trained with its contract"


def contract_differences(given: MelConfig, wanted: MelConfig) -> list[str]:
    """Fields in which two contracts differ, as `"hop_samples 256, not 200"`."""
    mine, theirs = given.model_dump(), wanted.model_dump()
    return [f"{key} {mine[key]}, not {theirs[key]}" for key in mine if mine[key] != theirs[key]]


def summary(config: MelConfig) -> str:
    """What people ask of a contract first."""
    return f"{config.sample_rate_hz} Hz, hop {config.hop_samples}, {config.n_mels} bands, {config.log}"


def lasting_differences(given: MelConfig, wanted: MelConfig) -> list[str]:
    """Those that cannot be converted."""
    restated = given.model_copy(update={key: getattr(wanted, key) for key in _CONVERTED})
    return contract_differences(restated, wanted)


def convert_mel(
    mel: FloatArray, given: MelConfig, wanted: MelConfig, name: str = "mel", *, mend: str = MEND
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
    if differences := lasting_differences(given, wanted):
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
