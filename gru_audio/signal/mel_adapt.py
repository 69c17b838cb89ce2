"""A mel under one contract, brought to another: exactly where that can be, or nearly where the user asks for it.

Exact are log, scale, offset, floor, the filters' norm and the half hop between centred frames and others. Bands, hops,
windows and rates are met by interpolation: each band's level is taken for noise of some density, which is interpolated
over time and frequency and measured with the other contract's filters. A window's blur cannot be undone, and a
harmonic is no noise: it costs quality, see docs/mels.md.
"""

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import MelError
from gru_audio.signal.mel import filterbank, from_linear, silent_up_to, to_linear
from gru_audio.signal.mel_check.levels import noise_gains

Doubles = npt.NDArray[np.float64]


_CONVERTED = ("log", "scale", "offset", "floor", "filter_norm", "padding")
"""Fields of a contract that may differ, as a mel can be brought from one to the other without loss."""

_MEND = "make the mel anew, or use a voice trained with its contract"

_ALL = 1 - 1e-6  # the share that all neighbours together have, but for rounding


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


def fit_mel(
    mel: FloatArray, given: MelConfig, wanted: MelConfig, name: str = "mel", *, adapt: bool = False
) -> tuple[FloatArray, int, str]:
    """Bring a mel (F, M) to another contract.

    Args:
        mel: under `given`.
        given: its contract.
        wanted: the other one.
        name: begins the message of an error.
        adapt: interpolate what cannot be converted.

    Returns:
        The mel (F', M'); how many samples of its audio come before the beginning of what was analysed; and what had
        to be interpolated, empty where nothing was.

    Raises:
        MelError: the contracts differ in more than can be converted, and `adapt` is False.
    """
    differences = contract_differences(restated(given, wanted), wanted)
    if not (adapt and differences):
        mend = f"{_MEND}, or add --adapt, at some loss"
        return convert_mel(mel, given, wanted, name, mend=mend), lead_between(given, wanted), ""
    return adapt_mel(mel, given, wanted), 0, "; ".join(differences)


def lead_between(given: MelConfig, wanted: MelConfig) -> int:
    """Samples of audio that come too early, where a mel's frames are taken as they stand for those of a voice."""
    return max(0, given.lead_samples - wanted.lead_samples) if given.padding != wanted.padding else 0


def adapt_mel(mel: FloatArray, given: MelConfig, wanted: MelConfig) -> FloatArray:
    """A mel (F, M) under another contract, (F', M') of the same duration, by interpolation."""
    if not len(mel):
        return np.zeros((0, wanted.n_mels), np.float32)
    size = to_linear(mel, given).astype(np.float64)
    power = size ** (2 / given.spectrum_power)
    density = np.log(power / noise_gains(given)[0] / given.sample_rate_hz)  # (F, M), of a Hz
    n_frames = max(1, round(len(mel) * wanted.frame_rate_hz / given.frame_rate_hz))
    times = np.arange(n_frames) / wanted.frame_rate_hz + _first_middle_s(wanted)
    given_times = np.arange(len(mel)) / given.frame_rate_hz + _first_middle_s(given)
    silence = (size <= silent_up_to(given)).astype(np.float64)  # which of the values around are at the floor
    density, silence = (_interpolate(times, given_times, rows) for rows in (density, silence))
    middles_hz = _middles_hz(wanted)
    density = _interpolate(middles_hz, _middles_hz(given), density.T).T  # (F', M')
    silence = _interpolate(middles_hz, _middles_hz(given), silence.T).T
    power = np.exp(density) * wanted.sample_rate_hz * noise_gains(wanted)[0]
    power[:, middles_hz > given.f_max_hz] = 0.0  # nothing is known there
    power[silence > _ALL] = 0.0
    size = power ** (wanted.spectrum_power / 2)
    return from_linear(size.astype(np.float32), wanted)


def _first_middle_s(config: MelConfig) -> float:
    """The time in the middle of frame 0's stretch."""
    return (config.hop_samples / 2 - config.lead_samples) / config.sample_rate_hz


def _middles_hz(config: MelConfig) -> Doubles:
    """(M,) each filter's centre of gravity; those of filters too narrow for any bin lie with the one before."""
    filters = filterbank(config).astype(np.float64)
    bins_hz = np.linspace(0, config.sample_rate_hz / 2, filters.shape[1])
    found = filters @ bins_hz / np.maximum(filters.sum(1), 1e-30)
    return np.asarray(np.maximum.accumulate(found) + 1e-6 * np.arange(len(found)))


def _interpolate(at: Doubles, places: Doubles, rows: Doubles) -> Doubles:
    """Rows (n, k) at ascending places (n,), interpolated along a line at others (m,): (m, k)."""
    upper = np.clip(np.searchsorted(places, at), 1, max(1, len(places) - 1))
    if len(places) == 1:
        return np.repeat(rows, len(at), axis=0)
    share = np.clip((at - places[upper - 1]) / (places[upper] - places[upper - 1]), 0, 1)[:, None]
    return np.asarray((1 - share) * rows[upper - 1] + share * rows[upper])
