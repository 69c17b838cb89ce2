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
from gru_audio.products import blend, multiply, padded, tiled

DoubleArray = npt.NDArray[np.float64]

_SPECTRUM_FLOOR = 1e-7  # of a magnitude: 40 dB under the default mel floor
_WHITE_NOISE = 1e-4  # of the power: bounds the predictor's dynamic range to 40 dB
_WHITE_NOISE_ABSOLUTE = 1e-9  # of the autocorrelation: keeps silence regular, 24 dB under one 16-bit step
_LAG_WINDOW_HZ = 40.0  # widens formant peaks a little: no pole too near the circle
LANES = 8
"""Frames that the loops take side by side, as numbers in one vector."""


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
    tables, results = PredictionTables.of(mel_config, signal_config), np.empty((order + 2, len(mel)))
    linear = to_linear(mel, mel_config).ravel()
    _predict_all(linear, mel_config.n_mels, order, tables.band, tables.numbers, tables.scratch(), results)
    return np.ascontiguousarray(results[:order].T), results[order], results[order + 1]


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
    coefficients, error = np.empty((n_frames, width - 1)), np.empty(n_frames)
    lanes, solved, previous = _white_lanes(width), np.empty((width, LANES)), np.empty(width * LANES)
    for first in range(0, n_frames, LANES):
        some = slice(first, min(first + LANES, n_frames))
        n_some = some.stop - first
        lanes[:, :n_some] = autocorrelation[some].T
        _solve_lanes(lanes.ravel(), solved.ravel(), previous)
        coefficients[some], error[some] = solved[:-1, :n_some].T, solved[-1, :n_some]
    return coefficients, error


@dataclass(frozen=True)
class PredictionTables:
    """What `predict_lanes` reads to get from the mel to the predictor; K bins.

    The pseudo-inverse of the filterbank W (M, K) is W^T (W W^T)^+. At most two filters of a bank reach a bin, so the
    second product with it needs two numbers a bin.

    Attributes:
        n_mels: M.
        order: P.
        band: (K,), the lower of the two filters of each bin.
        numbers: end to end, the weights of the two filters in each bin (2, K); tiles of (W W^T)^+ (M, M); tiles from
            power to autocorrelation (P + 1, K); the lag window (P + 1,); the floor of a bin's value; 1 if bins hold
            powers, 0 if magnitudes; the energy of the mel's analysis window.
    """

    n_mels: int
    order: int
    band: npt.NDArray[np.int64]
    numbers: DoubleArray

    @classmethod
    def of(cls, mel_config: MelConfig, signal_config: SignalConfig) -> "PredictionTables":
        """The tables of a contract and an order."""
        return _tables(mel_config, signal_config.preemphasis, signal_config.lpc_order)

    def scratch(self) -> DoubleArray:
        """What `predict_lanes` needs to work in, for one thread at a time; its frames are silent."""
        n_lags = self.order + 1
        width = n_lags + 1 + 2 * n_lags + self.n_mels + padded(self.n_mels, 8) + self.n_mels + 1
        scratch = np.zeros((width + self.band.size + padded(n_lags, 8)) * LANES)
        scratch.reshape(-1, LANES)[n_lags + 1 : 2 * n_lags + 1] = _white_lanes(n_lags)
        return scratch


def _white_lanes(n_lags: int) -> DoubleArray:
    """(n_lags, LANES), an autocorrelation: what stands in lanes without a frame must be one too."""
    lanes = np.zeros((n_lags, LANES))
    lanes[0] = 1.0
    return lanes


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
    cosines = np.cos(omega[:, None] * np.arange(order + 1)) * (sides * emphasis)[:, None] / mel_config.n_fft
    lags_s = np.arange(order + 1) / mel_config.sample_rate_hz
    pseudo_inverse = np.asarray(np.linalg.pinv(filters), np.float64)  # (K, M)
    is_power = mel_config.spectrum == "power"
    floor = _SPECTRUM_FLOOR**2 if is_power else _SPECTRUM_FLOOR
    window_energy = np.sum(analysis_window(mel_config).astype(np.float64) ** 2)
    parts = [
        filters[band, nearest],
        np.concatenate([filters, np.zeros((1, n_bins))])[band + 1, nearest],
        tiled(pseudo_inverse.T @ pseudo_inverse).ravel(),
        tiled(np.ascontiguousarray(cosines.T)).ravel(),
        np.exp(-0.5 * (2 * np.pi * _LAG_WINDOW_HZ * lags_s) ** 2),
        np.array([floor, is_power, window_energy]),
    ]
    return PredictionTables(mel_config.n_mels, order, band.astype(np.int64), np.concatenate(parts))


# The loops below take LANES frames side by side, and each frame alone: its result does not depend on how many come
# with it, so that streaming in chunks of any size gives the same bits.


@compiled()
def _predict_all(
    linear: FloatArray,
    n_mels: int,
    order: int,
    band: npt.NDArray[np.int64],
    numbers: DoubleArray,
    scratch: DoubleArray,
    results: DoubleArray,
) -> None:
    for first in range(0, results.shape[1], LANES):
        n_frames = min(LANES, results.shape[1] - first)
        predict_lanes(linear[first * n_mels :], n_frames, n_mels, order, band, numbers, scratch)
        for i in range(order + 2):
            for f in range(n_frames):
                results[i, first + f] = scratch[i * LANES + f]


@compiled(error_model="numpy")
def predict_lanes(
    linear: FloatArray,
    n_frames: int,
    n_mels: int,
    order: int,
    band: npt.NDArray[np.int64],
    numbers: DoubleArray,
    scratch: DoubleArray,
) -> None:
    """The predictors of up to LANES frames.

    Args:
        linear: (n_frames or more, M) linear mel, flattened.
        n_frames: how many.
        n_mels: M.
        order: P.
        band: see `PredictionTables`.
        numbers: likewise.
        scratch: of `PredictionTables.scratch`; its first (P + 2, LANES) receive P coefficients, the prediction
            error's RMS a sample and the signal's.
    """
    n_bins, n_lags = band.size, order + 1
    lower, upper, rest = numbers[:n_bins], numbers[n_bins : 2 * n_bins], numbers[2 * n_bins :]
    inverse, rest = _cut(rest, padded(n_mels, 8) * (n_mels + 1))
    cosines, rest = _cut(rest, padded(n_lags, 8) * (n_bins + 1))
    lag_window, rest = _cut(rest, n_lags)
    floor, is_power, window_energy = rest[0], rest[1], rest[2]
    results, room = _cut(scratch, (n_lags + 1) * LANES)
    autocorrelation, room = _cut(room, n_lags * LANES)
    previous, room = _cut(room, n_lags * LANES)
    frames, room = _cut(room, n_mels * LANES)
    products, room = _cut(room, padded(n_mels, 8) * LANES)
    bands, room = _cut(room, (n_mels + 1) * LANES)
    power, sums = _cut(room, n_bins * LANES)

    for i in range(n_frames * n_mels):
        frames[i] = linear[i]
    multiply(frames, n_mels, 1, n_frames, inverse, n_mels, products, padded(n_mels, 8))
    _turn(products, padded(n_mels, 8), n_frames, n_mels, bands)
    blend(band, lower, upper, floor, bands, power)
    if is_power == 0:
        for i in range(power.size):
            power[i] *= power[i]
    multiply(power, 1, LANES, n_frames, cosines, n_bins, sums, padded(n_lags, 8))
    _turn(sums, padded(n_lags, 8), n_frames, n_lags, autocorrelation)
    for lag in range(n_lags):
        for f in range(n_frames):
            autocorrelation[lag * LANES + f] *= lag_window[lag]
    for f in range(n_frames):
        autocorrelation[f] = autocorrelation[f] * (1.0 + _WHITE_NOISE) + _WHITE_NOISE_ABSOLUTE
    _solve_lanes(autocorrelation, results[: n_lags * LANES], previous)
    for f in range(LANES):
        results[order * LANES + f] = np.sqrt(results[order * LANES + f] / window_energy)
        results[n_lags * LANES + f] = np.sqrt(autocorrelation[f] / window_energy)


@compiled()
def _cut(numbers: DoubleArray, size: int) -> tuple[DoubleArray, DoubleArray]:
    """The first of some numbers and the rest."""
    return numbers[:size], numbers[size:]


@compiled()
def _turn(rows: DoubleArray, stride: int, n_frames: int, n_values: int, lanes: DoubleArray) -> None:
    """Rows of frames to lanes of frames."""
    for i in range(n_values):
        for f in range(n_frames):
            lanes[i * LANES + f] = rows[f * stride + i]


@compiled(error_model="numpy")
def _solve_lanes(autocorrelation: DoubleArray, solved: DoubleArray, previous: DoubleArray) -> None:
    """Levinson and Durbin's recursion for LANES frames, on flattened arrays.

    Args:
        autocorrelation: (P + 1, LANES), the first row positive.
        solved: (P + 1, LANES) receives P coefficients and the prediction error's energy.
        previous: (P + 1, LANES) scratch.
    """
    order = autocorrelation.size // LANES - 1
    energy, reflection = solved[order * LANES :], previous[order * LANES :]
    for f in range(LANES):
        energy[f] = autocorrelation[f]
    for i in range(order):
        for f in range(LANES):
            reflection[f] = autocorrelation[(i + 1) * LANES + f]
        for k in range(i):
            for f in range(LANES):
                reflection[f] -= solved[k * LANES + f] * autocorrelation[(i - k) * LANES + f]
        for f in range(LANES):
            reflection[f] /= energy[f]
            energy[f] *= 1.0 - reflection[f] * reflection[f]
        for n in range(i * LANES):
            previous[n] = solved[n]
        for k in range(i):
            for f in range(LANES):
                solved[k * LANES + f] -= reflection[f] * previous[(i - 1 - k) * LANES + f]
        for f in range(LANES):
            solved[i * LANES + f] = reflection[f]
