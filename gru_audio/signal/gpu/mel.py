"""Log-mels of many crops at once: what signal/mel.py computes of each, bit for bit; see native/signal/mel.h.

Shapes: n frames, M bands, L the longest filter.
"""

import numpy as np
import torch
from torch import Tensor

from gru_audio.config import MelConfig
from gru_audio.signal.gpu.fft import RealFFT
from gru_audio.signal.mel import analysis_window, filterbank, first_of_window, log_unit

_LN_2 = 0.69314718055994531
_LARGEST_EXPONENT, _LOWEST_EXPONENT = 30.0, -87.0


class DeviceMels:
    """The mel of a contract."""

    def __init__(self, config: MelConfig, device: torch.device) -> None:
        """Make the tables; `fft.can_transform` must hold for the contract's size."""
        self._config, self.fft = config, RealFFT(config.n_fft, device)
        first = first_of_window(config)
        window = analysis_window(config)[first : first + config.window_samples]
        filters = filterbank(config)
        starts, lengths = (filters > 0).argmax(1), (filters > 0).sum(1)
        index = np.minimum(starts[:, None] + np.arange(lengths.max()), filters.shape[1] - 1)
        inside = np.arange(lengths.max()) < lengths[:, None]
        weights = np.where(inside, np.take_along_axis(filters, index, 1), np.float32(0))

        def place(array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Tensor:
            return torch.from_numpy(array.copy()).to(device)

        self._window, self._bins, self._weights = place(window), place(index), place(weights)
        self.scale = MelScale(config, device)

    def log_mel(self, frames: Tensor) -> Tensor:
        """The stored mel (n, M) of frames of audio (n, window_samples), each the samples under a window."""
        padding = self._config.n_fft - self._config.window_samples
        windowed = torch.nn.functional.pad(frames * self._window, (0, padding))
        return self.scale.stored(self.bands(self.fft.spectra(windowed)))

    def bands(self, spectra: Tensor) -> Tensor:
        """The filterbank's output (n, M) of spectra (n, K, 2)."""
        squares = spectra * spectra
        sizes = squares[..., 0] + squares[..., 1]  # (n, K)
        if self._config.spectrum != "power":
            sizes = sizes.double().sqrt().float()  # torch's own root of floats is a bit off on a CPU
        products = sizes[:, self._bins] * self._weights  # (n, M, L)
        total = products[..., 0]
        for i in range(1, products.shape[-1]):  # in C's order; what is behind a filter's end adds 0
            total = total + products[..., i]
        return total


class MelScale:
    """Between what a filterbank gives and what a contract stores."""

    def __init__(self, config: MelConfig, device: torch.device) -> None:
        """Of a contract."""
        numbers = (log_unit(config), config.scale, config.offset, config.floor)
        placed = torch.tensor(numbers, dtype=torch.float32, device=device)  # whatever torch's default is
        self._unit, self._scale, self._offset, self._floor = placed.unbind()
        self._divisors = torch.arange(20, dtype=torch.float64, device=device)

    def stored(self, linear: Tensor) -> Tensor:
        """The filterbank's output as it is stored."""
        logarithm = self._log(torch.maximum(linear, self._floor).double()).float()
        return self._scale * (logarithm / self._unit) + self._offset

    def linear(self, stored: Tensor) -> Tensor:
        """The filterbank's output from a stored mel."""
        exponent = (stored - self._offset) / self._scale * self._unit
        limited = exponent.clamp(_LOWEST_EXPONENT, _LARGEST_EXPONENT)
        return torch.maximum(self._exp(limited.double()).float(), self._floor)

    def _log(self, x: Tensor) -> Tensor:
        """Of positive, normal doubles, as C's log_f64x8."""
        bits = x.view(torch.int64)
        k = (bits - 0x3FE6A09E667F3BCD) >> 52  # 1 / sqrt(2)
        m = (bits - (k << 52)).view(torch.float64)
        s = (m - 1.0) / (m + 1.0)
        q = s * s
        total = torch.full_like(x, 1.0 / 19.0)
        for n in range(17, 0, -2):
            total = total * q + 1.0 / n
        return k.double() * _LN_2 + 2.0 * s * total

    def _exp(self, x: Tensor) -> Tensor:
        """Of doubles from -700 to 700, as C's exp_f64x8."""
        rounding = 6755399441055744.0  # 1.5 * 2^52
        shifted = x * 1.4426950408889634 + rounding
        k = shifted - rounding
        r = (x - k * 0.69314718036912382) - k * 1.9082149292705877e-10
        total = torch.ones_like(x)
        for n in range(12, 0, -1):
            total = total * r / self._divisors[n] + 1.0
        exponent = (shifted.view(torch.int64) - (0x4338 << 48) + 1023) << 52
        return total * exponent.view(torch.float64)
