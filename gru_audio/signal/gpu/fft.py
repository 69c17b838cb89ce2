"""Spectra of many real signals at once: the passes of native/signal/fft.h on torch's tensors, bit for bit.

A complex number is two floats at the end of the shape: z (n, M, 2), M = N / 2. A pass of the factor p, after passes
whose factors have the product `done`:

    z (n, M, 2)  seen as  (n, p, parts, done, 2)  ->  transforms of p numbers and turns  ->  (n, parts, p, done, 2)
"""

import numpy as np
import torch
from torch import Tensor

from gru_audio.signal.fft import factors_of

_SINE_3 = 0.866025403784
_COSINES_5, _SINES_5 = (0.309016994375, -0.809016994375), (0.951056516295, 0.587785252292)
_FACTORS = {2, 3, 4, 5}


def can_transform(size: int) -> bool:
    """Whether the passes for a size's factors are written here; C has one for every other prime, too."""
    return set(factors_of(size // 2)) <= _FACTORS


class RealFFT:
    """The transform of real signals of N samples."""

    def __init__(self, size: int, device: torch.device) -> None:
        """Make the tables; `can_transform` must hold."""
        angle = -2 * np.pi * np.arange(size) / size
        turns = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
        self._half, self._factors = size // 2, factors_of(size // 2)
        self._sign = torch.tensor([-1.0, 1.0], dtype=torch.float32, device=device)
        self._turns: list[
            tuple[Tensor, Tensor]
        ] = []  # of each pass: (parts, p, 1, 2) cosines, and signed sines
        done = 1
        for p in self._factors:
            k, r = np.arange(self._half // p // done)[:, None], np.arange(p)
            self._turns.append(self._parts(turns[2 * k * r * done][:, :, None], device))
            done *= p
        self._last_turns = self._parts(turns[: self._half // 2 + 1], device)

    def spectra(self, signals: Tensor) -> Tensor:
        """Signals (n, N) to spectra (n, N / 2 + 1, 2)."""
        z, done = signals.reshape(len(signals), self._half, 2), 1
        for p, turns in zip(self._factors, self._turns, strict=True):
            x = z.reshape(len(z), p, self._half // p // done, done, 2)
            passed = torch.stack(self._transforms(x.unbind(1)), 2)  # (n, parts, p, done, 2)
            z = self._turned(passed, turns).reshape(len(z), self._half, 2)
            done *= p
        return self._of_real(torch.cat([z, z[:, :1]], 1))

    def _of_real(self, z: Tensor) -> Tensor:
        """The end, where bins k and M - k are made of each other: z (n, M + 1, 2)."""
        n_pairs = self._half // 2 + 1
        a, b = z[:, :n_pairs], self._conjugate(z.flip(1)[:, :n_pairs])
        even, odd = (a + b) * 0.5, self._quarter_turn(a - b) * 0.5
        turned = self._turned(odd, self._last_turns)
        lower, upper = even + turned, self._conjugate(even - turned)
        return torch.cat([lower[:, : (self._half + 1) // 2], upper.flip(1)], 1)

    def _transforms(self, x: tuple[Tensor, ...]) -> list[Tensor]:
        """Of 2 to 5 numbers each."""
        if len(x) == 2:
            return [x[0] + x[1], x[0] - x[1]]
        if len(x) == 3:
            total = x[1] + x[2]
            middle, side = x[0] - total * 0.5, self._quarter_turn((x[1] - x[2]) * _SINE_3)
            return [x[0] + total, middle + side, middle - side]
        if len(x) == 4:
            a, b, c, d = x[0] + x[2], x[0] - x[2], x[1] + x[3], self._quarter_turn(x[1] - x[3])
            return [a + c, b + d, a - c, b - d]
        (cosine_1, cosine_2), (sine_1, sine_2) = _COSINES_5, _SINES_5
        a, b, c, d = x[1] + x[4], x[2] + x[3], x[1] - x[4], x[2] - x[3]
        middle_1, middle_2 = x[0] + (a * cosine_1 + b * cosine_2), x[0] + (a * cosine_2 + b * cosine_1)
        side_1 = self._quarter_turn(c * sine_1 + d * sine_2)
        side_2 = self._quarter_turn(c * sine_2 - d * sine_1)
        return [
            x[0] + (a + b),
            *(middle_1 + side_1, middle_2 + side_2, middle_2 - side_2, middle_1 - side_1),
        ]

    def _turned(self, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        """(re, im) times (cosine, sine)."""
        cosines, sines = turns
        return x * cosines + x.flip(-1) * sines

    def _parts(
        self, turns: np.ndarray[tuple[int, ...], np.dtype[np.float32]], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Turns (..., 2) as (cosine, cosine) and (-sine, sine)."""
        cosines, sines = (torch.from_numpy(turns[..., i : i + 1].copy()).to(device) for i in (0, 1))
        return cosines, sines * self._sign

    def _quarter_turn(self, x: Tensor) -> Tensor:
        """-i x: (re, im) to (im, -re)."""
        return x.flip(-1) * -self._sign

    def _conjugate(self, x: Tensor) -> Tensor:
        return x * -self._sign
