"""Linear prediction from the mel: what the spectral envelope already tells about the next sample.

From each mel frame come the coefficients of a linear predictor of the pre-emphasised signal and two
levels, the prediction error's and the signal's RMS. Nothing but the mel is needed, so training and
synthesis have the same predictor. Source: Valin & Skoglund, LPCNet (2019), section 3; the levels and
the mel's inversion are this project's (docs/design.md, 1.2).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gru_audio.arrays import DoubleArray, FloatArray
from gru_audio.config import MelConfig, SignalConfig
from gru_audio.native import library
from gru_audio.native.reproducible import rounded
from gru_audio.signal.mel import analysis_window, filterbank, pseudo_inverse, to_linear

_SPECTRUM_FLOOR = 1e-7  # of a magnitude: 40 dB under the default mel floor
_LAG_WINDOW_HZ = 40.0  # widens formant peaks a little: no pole too near the circle


@dataclass(frozen=True)
class FrameFilters:
    """What the sample loop needs of each frame besides the network's conditioning.

    Attributes:
        coefficients: (F, P) float32; the prediction is `sum(coefficients[f, k] * s[t - 1 - k])`.
        excitation_scale: (F,) float32, the amplitude at the mu-law excitation's full scale.
        signal_scale: (F,) float32, the amplitude at full scale of the signal and prediction inputs.
    """

    coefficients: FloatArray
    excitation_scale: FloatArray
    signal_scale: FloatArray


def frame_filters(mel: FloatArray, mel_config: MelConfig, signal_config: SignalConfig) -> FrameFilters:
    """The predictor and the scales of each frame of a mel (F, M).

    With `lpc_order` 0 there is no prediction and both scales are 1: the network models the signal itself.
    """
    if not signal_config.lpc_order:
        ones = np.ones(len(mel), np.float32)
        return FrameFilters(np.zeros((len(mel), 0), np.float32), ones, ones)
    coefficients, error_rms, signal_rms = linear_prediction(mel, mel_config, signal_config)
    return FrameFilters(
        coefficients.astype(np.float32),
        (signal_config.excitation_range * error_rms).astype(np.float32),
        (signal_config.signal_range * signal_rms).astype(np.float32),
    )


def linear_prediction(
    mel: FloatArray, mel_config: MelConfig, signal_config: SignalConfig
) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
    """Predict the pre-emphasised signal from the mel.

    Args:
        mel: (F, M) under `mel_config`.
        mel_config: the mel's contract.
        signal_config: its `lpc_order` (P) and `preemphasis`.

    Returns:
        coefficients (F, P); the prediction error's RMS a sample (F,); the signal's RMS a sample (F,).
    """
    order = signal_config.lpc_order
    tables, results = prediction_tables(mel_config, signal_config), np.empty((order + 2, len(mel)))
    linear = np.ascontiguousarray(to_linear(mel, mel_config))
    _linear_prediction(tables, linear, len(mel), prediction_scratch(tables), results)
    return np.ascontiguousarray(results[:order].T), results[order], results[order + 1]


class PredictionTables(library.Struct):
    """What leads from the mel to the predictor, see native/signal/lpc.c.

    The pseudo-inverse of the filterbank W (M, K) is W^T (W W^T)^+. At most two filters of a bank reach a bin, so the
    product with W^T needs two numbers a bin.
    """

    _fields_ = (
        ("n_mels", library.Int),
        ("order", library.Int),
        ("n_bins", library.Int),
        ("floor", library.Double),
        ("window_energy", library.Double),
        ("is_power", library.Int),
        ("band", library.Int64s),
        ("lower", library.Doubles),
        ("upper", library.Doubles),
        ("inverse", library.Doubles),
        ("weight", library.Doubles),
        ("cosines", library.Doubles),
        ("lag_window", library.Doubles),
    )


def prediction_tables(mel_config: MelConfig, signal_config: SignalConfig) -> PredictionTables:
    """The tables of a contract and an order; nothing changes them."""
    return _tables(mel_config, signal_config.preemphasis, signal_config.lpc_order)


def prediction_scratch(tables: PredictionTables) -> DoubleArray:
    """What the linear prediction works in, for one thread at a time."""
    return library.aligned(_scratch_size(tables), np.float64)


@lru_cache(maxsize=8)
def _tables(mel_config: MelConfig, preemphasis: float, order: int) -> PredictionTables:
    filters = filterbank(mel_config).astype(np.float64)
    n_bins = filters.shape[1]
    omega = 2 * np.pi * np.arange(n_bins) / mel_config.n_fft
    # Bins that no filter covers, above f_max for one, take the level in the middle of the outermost filter:
    # a hole there would make the predictor expect an impossibly smooth signal, and so would the level at the
    # filter's foot, where the pseudo-inverse has next to nothing.
    bins = np.arange(n_bins)
    middles = filters[filters.any(axis=1)].argmax(axis=1)
    nearest = np.where(filters.any(axis=0), bins, np.clip(bins, middles[0], middles[-1]))
    band = (filters[:, nearest] > 0).argmax(axis=0)
    emphasis = np.abs(1 - preemphasis * np.exp(-1j * omega)) ** 2
    emphasis /= np.abs(1 - mel_config.preemphasis * np.exp(-1j * omega)) ** 2
    sides = np.full(n_bins, 2.0)  # every bin but the first and the last stands for two of the whole circle
    sides[[0, -1]] = 1.0
    lags = np.arange(order + 1)
    to_bins = pseudo_inverse(filters)
    return PredictionTables(
        n_mels=mel_config.n_mels,
        order=order,
        n_bins=n_bins,
        floor=_SPECTRUM_FLOOR**mel_config.spectrum_power,
        window_energy=math.fsum(analysis_window(mel_config).astype(np.float64) ** 2),
        is_power=mel_config.spectrum == "power",
        band=band.astype(np.int64),
        lower=filters[band, nearest],
        upper=np.concatenate([filters, np.zeros((1, n_bins))])[band + 1, nearest],
        inverse=rounded(to_bins.T @ to_bins),
        weight=rounded(sides * emphasis / mel_config.n_fft),
        cosines=rounded(np.cos(lags[:, None] * omega[: (n_bins - 1) // 2 + 1])),
        lag_window=rounded(
            np.exp(-0.5 * (2 * np.pi * _LAG_WINDOW_HZ * lags / mel_config.sample_rate_hz) ** 2)
        ),
    )


_linear_prediction = library.function(
    "gru_linear_prediction",
    [PredictionTables, library.Floats, library.Int, library.Doubles, library.Doubles],
)
_scratch_size = library.function("gru_lpc_scratch_size", [PredictionTables], library.Int)
