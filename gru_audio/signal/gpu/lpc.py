"""Predictors and scales of many frames at once: what signal/lpc.py computes of each, bit for bit."""

from typing import NamedTuple

import torch
from torch import Tensor

from gru_audio.config import MelConfig, SignalConfig
from gru_audio.signal.lpc import prediction_tables

_WHITE_NOISE, _WHITE_NOISE_ABSOLUTE = 1e-4, 1e-9  # of native/signal/lpc.c
_FRAMES, _ROWS = 32, 8  # sums of a program


class Filters(NamedTuple):
    """What the closed loop needs of n frames.

    Attributes:
        coefficients: (n, P) float32.
        excitation_scale: (n,) float32.
        signal_scale: (n,) float32.
    """

    coefficients: Tensor
    excitation_scale: Tensor
    signal_scale: Tensor


class LinearPrediction:
    """The linear prediction of a contract; Triton must be ready."""

    def __init__(self, mel_config: MelConfig, signal_config: SignalConfig, device: torch.device) -> None:
        """Move the tables to a device."""
        self._signal, self._device = signal_config, device
        if not signal_config.lpc_order:
            return
        held = prediction_tables(mel_config, signal_config).held

        def place(name: str) -> Tensor:
            return torch.from_numpy(held[name].copy()).to(device)

        tables = prediction_tables(mel_config, signal_config)
        self._is_power, self._n_bins = bool(tables.is_power), int(tables.n_bins)
        self._floor, self._window_energy = (
            torch.tensor(number, dtype=torch.float64, device=device)
            for number in (tables.floor, tables.window_energy)
        )
        self._band, self._inverse = place("band"), place("inverse").contiguous()
        self._lower, self._upper, self._weight = (
            place(name)[:, None] for name in ("lower", "upper", "weight")
        )
        self._cosines = place("cosines")
        self._even_cosines, self._odd_cosines = (self._cosines[i::2].contiguous() for i in (0, 1))
        self._lag_window = place("lag_window")[:, None]

    def filters(self, linear: Tensor) -> Filters:
        """Of the linear mel (n, M) of frames, without logarithm."""
        order = self._signal.lpc_order
        if not order:
            ones = linear.new_ones(len(linear))
            return Filters(linear.new_empty(len(linear), 0), ones, ones)
        solved = self._solved(self._autocorrelation(linear.double().t().contiguous()))  # (P + 2, n)
        return Filters(
            solved[:order].t().float().contiguous(),
            (solved[order] * self._signal.excitation_range).float(),
            (solved[order + 1] * self._signal.signal_range).float(),
        )

    def _autocorrelation(self, mel: Tensor) -> Tensor:
        """Lags (P + 1, n) of the spectra that mels (M, n) stand for; see lpc_autocorrelation in native/signal/lpc.c."""
        bands = self._product(self._inverse, mel)
        bands = torch.cat([bands, torch.zeros_like(bands[:1])])
        value = self._lower * bands[self._band] + self._upper * bands[self._band + 1]
        floored = torch.maximum(value, self._floor)
        power = self._weight * (floored if self._is_power else floored * floored)  # (K, n)
        last = self._n_bins - 1
        n_folded = last // 2 + 1
        other = power.flip(0)[:n_folded].clone()
        if last % 2 == 0:
            other[-1] = 0.0  # the middle bin folds onto nothing
        one = power[:n_folded]
        lags = mel.new_empty(len(self._lag_window), mel.shape[1])
        lags[0::2] = self._product(self._even_cosines, one + other)
        lags[1::2] = self._product(self._odd_cosines, one - other)
        lags = self._lag_window * lags
        lags[0] = lags[0] * (1.0 + _WHITE_NOISE) + _WHITE_NOISE_ABSOLUTE
        return lags

    def _product(self, rows: Tensor, inputs: Tensor) -> Tensor:
        """(R, I) times (I, n), summed in order."""
        from gru_audio.signal.gpu.kernels.prediction import ordered_product

        (n_rows, n_inputs), n_frames = rows.shape, inputs.shape[1]
        out, inputs = inputs.new_empty(n_rows, n_frames), inputs.contiguous()
        grid = (-(-n_frames // _FRAMES), -(-n_rows // _ROWS))
        ordered_product[grid](
            inputs, rows, out, n_frames, n_rows, n_inputs,
            FRAMES=_FRAMES, ROWS=_ROWS, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
        return out

    def _solved(self, correlation: Tensor) -> Tensor:
        from gru_audio.signal.gpu.kernels.prediction import levinson_durbin

        order, n_frames = self._signal.lpc_order, correlation.shape[1]
        solved, previous = correlation.new_empty(order + 2, n_frames), torch.empty_like(correlation)
        levinson_durbin[(-(-n_frames // _FRAMES),)](
            correlation, self._window_energy, solved, previous, n_frames,
            ORDER=order, FRAMES=_FRAMES, num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip
        return solved
