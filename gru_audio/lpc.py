"""Linear prediction from the mel: what the spectral envelope already tells about the next sample.

From each mel frame come the coefficients of a linear predictor of the pre-emphasised signal and two
levels, the prediction error's and the signal's RMS. Nothing but the mel is needed, so training and
synthesis have the same predictor. Source: Valin & Skoglund, LPCNet (2019), section 3; the levels and
the mel's inversion are this project's (design 1.2).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gru_audio.config import MelConfig, SignalConfig
from gru_audio.jit import compiled
from gru_audio.mel import FloatArray, analysis_window, filterbank, to_linear

DoubleArray = npt.NDArray[np.float64]

_SPECTRUM_FLOOR = 1e-7  # of a magnitude: 40 dB under the default mel floor
_WHITE_NOISE = 1e-4  # of the power: bounds the predictor's dynamic range to 40 dB
_WHITE_NOISE_ABSOLUTE = 1e-9  # of the autocorrelation: keeps silence regular, 24 dB under one 16-bit step
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
    tables = _tables(mel_config, signal_config.preemphasis, signal_config.lpc_order)
    autocorrelation = np.empty((len(mel), signal_config.lpc_order + 1))
    is_power = mel_config.spectrum == "power"
    _autocorrelation(to_linear(mel, mel_config), *tables, is_power, autocorrelation)
    coefficients, error = levinson_durbin(autocorrelation)
    window_energy = float(np.sum(analysis_window(mel_config).astype(np.float64) ** 2))
    return coefficients, np.sqrt(error / window_energy), np.sqrt(autocorrelation[:, 0] / window_energy)


def levinson_durbin(
    autocorrelation: DoubleArray,
) -> tuple[DoubleArray, DoubleArray]:
    """Solve the normal equations of linear prediction for each row.

    Args:
        autocorrelation: (F, P + 1), the first column positive.

    Returns:
        coefficients (F, P) of the prediction and the prediction error's energy (F,).

    Source: Makhoul, Linear Prediction: A Tutorial Review (1975), eq. 38.
    """
    n_frames, width = autocorrelation.shape
    coefficients = np.zeros((n_frames, width - 1))
    error = np.empty(n_frames)
    _levinson_durbin(np.ascontiguousarray(autocorrelation), coefficients, error)
    return coefficients, error


@lru_cache(maxsize=8)
def _tables(
    mel_config: MelConfig, preemphasis: float, order: int
) -> tuple[DoubleArray, npt.NDArray[np.int64], DoubleArray, DoubleArray]:
    """Mel-to-spectrum matrix, the bin to read for each bin, power to autocorrelation, and its lag window."""
    filters = filterbank(mel_config).astype(np.float64)
    n_bins = filters.shape[1]
    omega = 2 * np.pi * np.arange(n_bins) / mel_config.n_fft
    # Bins that no filter covers, above f_max for one, take the level in the middle of the outermost filter:
    # a hole there would make the predictor expect an impossibly smooth signal, and so would the level at the
    # filter's foot, where the pseudo-inverse has next to nothing.
    bins = np.arange(n_bins)
    middles = filters[filters.any(axis=1)].argmax(axis=1)
    nearest = np.where(filters.any(axis=0), bins, np.clip(bins, middles[0], middles[-1]))
    emphasis = np.abs(1 - preemphasis * np.exp(-1j * omega)) ** 2
    emphasis /= np.abs(1 - mel_config.preemphasis * np.exp(-1j * omega)) ** 2
    sides = np.full(n_bins, 2.0)  # every bin but the first and the last stands for two of the whole circle
    sides[[0, -1]] = 1.0
    cosines = np.cos(omega[:, None] * np.arange(order + 1)) * (sides * emphasis)[:, None] / mel_config.n_fft
    lags_s = np.arange(order + 1) / mel_config.sample_rate_hz
    lag_window = np.exp(-0.5 * (2 * np.pi * _LAG_WINDOW_HZ * lags_s) ** 2)
    inverse = np.asarray(np.linalg.pinv(filters), np.float64)
    return inverse, nearest.astype(np.int64), np.asarray(cosines, np.float64), lag_window


# The loops below go frame by frame so that a frame's result does not depend on how many come with it:
# streaming in chunks of any size gives the same bits.


@compiled()
def _autocorrelation(
    linear: FloatArray,
    inverse: DoubleArray,
    nearest: npt.NDArray[np.int64],
    cosines: DoubleArray,
    lag_window: DoubleArray,
    is_power: bool,
    out: DoubleArray,
) -> None:
    n_bins, n_mels = inverse.shape
    power = np.empty(n_bins)
    for f in range(linear.shape[0]):
        for k in range(n_bins):
            value = 0.0
            for m in range(n_mels):
                value += inverse[k, m] * linear[f, m]
            power[k] = max(value, _SPECTRUM_FLOOR**2) if is_power else max(value, _SPECTRUM_FLOOR) ** 2
        for lag in range(out.shape[1]):
            total = 0.0
            for k in range(n_bins):
                total += power[nearest[k]] * cosines[k, lag]
            out[f, lag] = total * lag_window[lag]
        out[f, 0] = out[f, 0] * (1.0 + _WHITE_NOISE) + _WHITE_NOISE_ABSOLUTE


@compiled()
def _levinson_durbin(autocorrelation: DoubleArray, coefficients: DoubleArray, error: DoubleArray) -> None:
    order = coefficients.shape[1]
    previous = np.empty(order)
    for f in range(autocorrelation.shape[0]):
        energy = autocorrelation[f, 0]
        for i in range(order):
            reflection = autocorrelation[f, i + 1]
            for k in range(i):
                reflection -= coefficients[f, k] * autocorrelation[f, i - k]
            reflection /= energy
            previous[:i] = coefficients[f, :i]
            for k in range(i):
                coefficients[f, k] -= reflection * previous[i - 1 - k]
            coefficients[f, i] = reflection
            energy *= 1.0 - reflection * reflection
        error[f] = energy
