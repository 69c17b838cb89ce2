"""The log-mel spectrogram: the one implementation of the mel contract.

A mel is (F, M) float32: F frames, M bands. Frame f stands for the audio samples
`f * hop - lead` to `(f + 1) * hop - lead` (see `MelConfig.lead_samples`).
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray, array_of
from gru_audio.config import MelConfig
from gru_audio.errors import MelError
from gru_audio.native import library
from gru_audio.signal.audio import check_audio
from gru_audio.signal.fft import PLAN_FIELDS, plan_of

_LOG_UNIT = {"ln": 1.0, "log10": np.log(10.0), "db": np.log(10.0) / 20.0}  # in nepers of magnitude


_HIGHEST_SILENT_FLOOR = 1e-4  # a magnitude: by the default contract a tone of -78 to -95 dB of full scale
_ROUNDING = 1.03  # of a floor stored in float16


class MelFrames(NamedTuple):
    """Frames of a mel on their way through synthesis, each computed once.

    Attributes:
        stored: (F, M), finite, as the contract stores them.
        linear: (F, M), what `to_linear` makes of them; None where nothing has needed it yet.
    """

    stored: FloatArray
    linear: FloatArray | None = None

    def part(self, frames: slice) -> "MelFrames":
        """Some of the frames."""
        return MelFrames(self.stored[frames], None if self.linear is None else self.linear[frames])


def log_mel(audio: npt.ArrayLike, config: MelConfig) -> FloatArray:
    """The log-mel spectrogram of audio.

    Args:
        audio: (n,) at `config.sample_rate_hz`; see `check_audio`.
        config: the contract.

    Returns:
        (F, M), F = n // hop with padding "same", 1 + n // hop with "center"; F = 0 for empty audio.

    Raises:
        AudioError: as `check_audio`.
    """
    samples = check_audio(audio)
    if not samples.size:
        return np.zeros((0, config.n_mels), np.float32)
    if config.preemphasis:
        samples = np.append(samples[:1], samples[1:] - np.float32(config.preemphasis) * samples[:-1])
    return analyse(np.pad(samples, mirrored_samples(config), mode="reflect"), config)


def mirrored_samples(config: MelConfig) -> int:
    """How many samples are mirrored at each end of the audio before it is cut into frames."""
    return config.n_fft // 2 if config.padding == "center" else (config.n_fft - config.hop_samples) // 2


def analyse(padded: FloatArray, config: MelConfig) -> FloatArray:
    """The log-mel (F, M) of each whole frame in pre-emphasised audio that begins where a frame does.

    A frame's bits do not depend on how many come with it.
    """
    n_frames = max(0, (padded.size - config.n_fft) // config.hop_samples + 1)
    if not n_frames:
        return np.zeros((0, config.n_mels), np.float32)
    analysis, linear = mel_analysis(config), np.empty((n_frames, config.n_mels), np.float32)
    samples = np.ascontiguousarray(padded[first_of_window(config) :], np.float32)
    _mel(analysis, samples, n_frames, library.aligned(_mel_scratch_size(analysis)), linear)
    return from_linear(linear, config)


def from_linear(linear: npt.ArrayLike, config: MelConfig) -> FloatArray:
    """The filterbank's linear output (..., M) as the contract stores it."""
    return _rescaled(linear, config, to_linear=False)


def to_linear(mel: npt.ArrayLike, config: MelConfig) -> FloatArray:
    """The filterbank's linear output (..., M) from a stored mel, at least the floor.

    It is at most e^30, since a mel from elsewhere may hold any number, and all that is computed of it must be finite.
    """
    return _rescaled(mel, config, to_linear=True)


def silent_frames(n_frames: int, config: MelConfig) -> FloatArray:
    """(n_frames, M) the mel of digital silence."""
    return from_linear(np.zeros((n_frames, config.n_mels), np.float32), config)


def silent_up_to(config: MelConfig) -> float:
    """Linear values up to which a band is at the floor; 0 where what lies below it could be heard."""
    is_silent = config.floor <= _HIGHEST_SILENT_FLOOR**config.spectrum_power
    return config.floor * _ROUNDING if is_silent else 0.0


def check_mel(mel: npt.ArrayLike, config: MelConfig, name: str = "mel") -> FloatArray:
    """Bring a mel to (F, M) float32, or say why it cannot fit.

    (1, F, M) and (M, F) are accepted and turned; a square (M, M) is taken as (F, M).

    Raises:
        MelError: a wrong shape, not numbers, or NaN or infinite values; `name` begins the message.
    """
    values, _ = orient(mel, config.n_mels, name)
    with np.errstate(over="ignore"):  # a double beyond float32's range becomes infinite, and is refused
        values = np.ascontiguousarray(values, np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        raise MelError(
            f"{name}: {bad.size} frames have NaN or infinite values, the first is frame {bad[0]}; "
            "make the mel anew"
        )
    return values


def orient(mel: npt.ArrayLike, n_mels: int, name: str = "mel") -> tuple[npt.NDArray[Any], str]:
    """Bring a mel to (F, M); and in words what had to be guessed for that, empty where nothing was.

    Raises:
        MelError: as `check_mel`.
    """
    try:
        values = array_of(mel)
    except ValueError as error:  # lists of different lengths
        raise MelError(f"{name}: no array ({error}); a mel is (n_frames, {n_mels})") from error
    if values.dtype.kind not in "fiu":
        raise MelError(f"{name}: holds {values.dtype}, a mel holds real numbers")
    shape, guess = values.shape, ""
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[1]):
        values = values.squeeze(0 if values.shape[0] == 1 else 1)
    if values.ndim != 2:
        raise MelError(f"{name}: shape {shape}, a mel is (n_frames, {n_mels})")
    if values.shape == (n_mels, n_mels):
        guess = f"shape {shape} is taken for frames x bands, as it cannot be told from bands x frames"
    elif values.shape[1] != n_mels and values.shape[0] == n_mels:
        values, guess = values.T, f"shape {shape} is taken for bands x frames, and turned"
    if values.shape[1] != n_mels:
        raise MelError(
            f"{name}: shape {values.shape} has no axis of {n_mels} bands; make the mel with {n_mels} "
            "bands, or use a voice with its contract"
        )
    return values, guess


@lru_cache(maxsize=8)
def filterbank(config: MelConfig) -> FloatArray:
    """(M, n_fft / 2 + 1) triangular filters over the spectrum's bins; read-only.

    Source: Slaney, Auditory Toolbox (1998), or HTK's formula, as librosa.filters.mel has them.
    """
    bins_hz = np.linspace(0, config.sample_rate_hz / 2, config.n_fft // 2 + 1)
    edges_mel = np.linspace(
        _hz_to_mel(config.f_min_hz, config.mel_scale),
        _hz_to_mel(config.f_max_hz, config.mel_scale),
        config.n_mels + 2,
    )
    edges_hz = _mel_to_hz(edges_mel, config.mel_scale)
    widths = np.diff(edges_hz)
    rising = (bins_hz - edges_hz[:-2, None]) / widths[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if config.filter_norm == "slaney":  # equal area
        filters *= 2.0 / (edges_hz[2:] - edges_hz[:-2])[:, None]
    table = filters.astype(np.float32)
    table.flags.writeable = False
    return table


def heard_filters(config: MelConfig) -> FloatArray:
    """(M, n_fft / 2 + 1) filters for audio as it is heard: what the contract's pre-emphasis does is in them."""
    omega = 2 * np.pi * np.arange(config.n_fft // 2 + 1) / config.n_fft
    emphasis = np.abs(1 - config.preemphasis * np.exp(-1j * omega)) ** config.spectrum_power
    return np.asarray(filterbank(config) * emphasis, np.float32)


def pseudo_inverse(filters: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """(K, M), from what filters (M, K) give back to bins.

    Two filters that are the same up to rounding, as those of narrow low bands may be, count as one.
    """
    return np.asarray(np.linalg.pinv(filters, rcond=1e-4), filters.dtype)


@lru_cache(maxsize=8)
def analysis_window(config: MelConfig) -> FloatArray:
    """(n_fft,) periodic Hann window of `window_samples` with zeros around it; read-only."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window_samples) / config.window_samples)
    before = first_of_window(config)
    window = np.zeros(config.n_fft, np.float32)
    window[before : before + config.window_samples] = hann
    window.flags.writeable = False
    return window


def first_of_window(config: MelConfig) -> int:
    """The number of zeros before the window in a frame of n_fft samples."""
    return (config.n_fft - config.window_samples) // 2


class MelAnalysis(library.Struct):
    """A contract's tables; see native/signal/mel.h."""

    _fields_ = (
        *PLAN_FIELDS,
        ("hop", library.Int),
        ("width", library.Int),
        ("n_mels", library.Int),
        ("is_power", library.Int),
        ("window", library.Floats),
        ("first_bin", library.Int64s),
        ("length", library.Int64s),
        ("filters", library.Floats),
    )


@lru_cache(maxsize=8)
def mel_analysis(config: MelConfig) -> MelAnalysis:
    """The tables of a contract; nothing changes them."""
    return MelAnalysis(**analysis_values(config))


def analysis_values(config: MelConfig) -> dict[str, Any]:
    """The fields of `MelAnalysis`."""
    before, filters = first_of_window(config), filterbank(config)
    return {
        **plan_of(config.n_fft),
        "hop": config.hop_samples,
        "width": config.window_samples,
        "n_mels": config.n_mels,
        "is_power": config.spectrum == "power",
        "window": analysis_window(config)[before : before + config.window_samples].copy(),
        "first_bin": (filters > 0).argmax(axis=1),
        "length": (filters > 0).sum(axis=1),
        "filters": filters[filters > 0],  # row by row; a triangle's bins are next to each other
    }


_mel = library.function("gru_mel", [MelAnalysis, library.Floats, library.Int, library.Floats, library.Floats])
_mel_scratch_size = library.function("gru_mel_scratch_size", [MelAnalysis], library.Int)


class _Scale(library.Struct):
    """How a contract stores numbers; see native/signal/mel_scale.h."""

    _fields_ = (
        ("unit", library.Float),
        ("scale", library.Float),
        ("offset", library.Float),
        ("floor", library.Float),
    )


_rescale = library.function(
    "gru_mel_rescale", [_Scale, library.Floats, library.Int, library.Int, library.Floats]
)


@lru_cache(maxsize=8)
def _scale_of(config: MelConfig) -> _Scale:
    """That of a contract; nothing changes it."""
    return _Scale(unit=log_unit(config), scale=config.scale, offset=config.offset, floor=config.floor)


def _rescaled(numbers: npt.ArrayLike, config: MelConfig, *, to_linear: bool) -> FloatArray:
    with np.errstate(over="ignore"):  # a double beyond float32's range becomes infinite
        given = np.ascontiguousarray(numbers, np.float32)
    result = np.empty_like(given)
    _rescale(_scale_of(config), given, given.size, to_linear, result)
    return result


def log_unit(config: MelConfig) -> float:
    """Natural logarithms to one unit of the contract's; decibels of a power count half."""
    unit = _LOG_UNIT[config.log]
    return float(config.spectrum_power * unit if config.log == "db" else unit)


def _hz_to_mel(hz: float, scale: str) -> float:
    if scale == "htk":
        return 2595.0 * math.log10(1.0 + hz / 700.0)
    linear = hz * 3.0 / 200.0
    return linear if hz < 1000.0 else 15.0 + math.log(hz / 1000.0) * 27.0 / math.log(6.4)


def _mel_to_hz(mels: npt.NDArray[np.float64], scale: str) -> npt.NDArray[np.float64]:
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mels / 2595.0) - 1.0))
    return np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp((mels - 15.0) * np.log(6.4) / 27.0))
