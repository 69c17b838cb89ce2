"""The spectral correction of many streams at once on a device: the rule of ../correction.py, up to rounding.

See native/correction.c for the rule and its drawing. Here all B streams go on by a frame together:

    sums, weights (B, ..)     what closed frames add, and their windows' squares
    frames (B, open, width)   what open frames are now, 0 where there is none
"""

import torch
from torch import Tensor

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.mel import analysis_values, filterbank
from gru_audio.synthesis.correction import delay_of, plan_of_contract

_LEAST = 1e-20


class DeviceCorrections:
    """The correction of B streams that began together; each frame comes back `delay` frames late."""

    def __init__(self, config: MelConfig, n_rounds: int, n_streams: int, device: torch.device) -> None:
        """Begin; with no rounds the audio stays as it is, and nothing is late."""
        self.n_rounds, self.delay = n_rounds, 0
        if not n_rounds:
            return
        plan = plan_of_contract(config)
        self.delay, self._n_open, self._before = delay_of(plan), int(plan.n_open), int(plan.before)
        self._hop, self._width, self._n_fft = config.hop_samples, config.window_samples, config.n_fft
        self._n_audio, self._is_power = int(plan.n_audio), config.spectrum == "power"
        self._full, self._exponent, self._limit, self._silent = (
            float(number) for number in (plan.full, plan.exponent, plan.log_limit, plan.silent)
        )

        def place(array: FloatArray) -> Tensor:
            return torch.from_numpy(array.copy()).to(device)

        bank = filterbank(config)
        self._window = place(analysis_values(config)["window"][: self._width])
        self._squares = self._window * self._window
        self._bank = place(bank).T.contiguous()  # (K, M)
        self._shares = self._bank / self._bank.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        self._shares = self._shares.T.contiguous()  # (M, K)

        def zeros(*sizes: int) -> Tensor:
            return torch.zeros(n_streams, *sizes, device=device)

        n_samples = (self._n_open - 1) * self._hop + self._width
        self._audio = zeros(self._n_audio - self._hop)
        self._sums, self._weights = zeros(n_samples), zeros(n_samples)
        self._frames = zeros(self._n_open, self._width)
        self._targets, self._valid = zeros(self.delay, config.n_mels), zeros(self.delay)

    def push(self, audio: Tensor, linear: Tensor, valid: Tensor) -> Tensor:
        """Go on by F frames.

        Args:
            audio: (B, F hop); 0 in frames that are not valid.
            linear: (B, F, M), the mel without its logarithm.
            valid: (B, F), 1, or 0 where a stream is over.

        Returns:
            (B, F hop), the audio of the frames `delay` before.
        """
        if not self.n_rounds:
            return audio
        heard = torch.where(linear > self._silent, linear, _LEAST)
        targets = torch.cat([self._targets, heard], 1)
        valid = torch.cat([self._valid, valid], 1)
        audio = torch.cat([self._audio, audio], 1)
        n_frames = linear.shape[1]
        made = [
            self._frame(
                audio[:, f * self._hop : f * self._hop + self._n_audio],
                targets[:, f : f + self._n_open],
                valid[:, f : f + self._n_open],
            )
            for f in range(n_frames)
        ]
        self._targets, self._valid = targets[:, n_frames:].clone(), valid[:, n_frames:].clone()
        self._audio = audio[:, n_frames * self._hop :].clone()
        return torch.cat(made, 1)

    def _frame(self, audio: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
        """Take the open frames through the rounds, and close the oldest: the audio (B, hop) that comes out."""
        for n_known in (
            self._n_open - 1,
            *[self._n_open] * (self.n_rounds - 1),
        ):  # the newest is not known yet
            self._round(self._estimate(audio, valid[:, :n_known]), targets, valid)
        made = self._estimate(audio, valid)[:, self._before : self._before + self._hop]
        self._sums[:, : self._width] += self._frames[:, 0]
        self._weights[:, : self._width] += self._squares * valid[:, :1]
        self._sums, self._weights = (
            torch.nn.functional.pad(kept[:, self._hop :], (0, self._hop))
            for kept in (self._sums, self._weights)
        )
        self._frames = torch.nn.functional.pad(self._frames[:, 1:], (0, 0, 0, 1))
        return made

    def _estimate(self, audio: Tensor, known: Tensor) -> Tensor:
        """The best guess at the audio of all open windows; `known` (B, g) tells which of the first g frames count."""
        total, weights = self._sums.clone(), self._weights.clone()
        for g in range(known.shape[1]):
            place = slice(g * self._hop, g * self._hop + self._width)
            total[:, place] += self._frames[:, g]
            weights[:, place] += self._squares * known[:, g, None]
        missing = (self._full - weights).clamp(min=0.0)
        return (total + missing * audio[:, : total.shape[1]]) / (weights + missing)

    def _round(self, estimate: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Make every open frame anew from one estimate."""
        windows = estimate.unfold(1, self._width, self._hop) * self._window  # (B, open, width)
        spectra = torch.fft.rfft(windows, self._n_fft)  # (B, open, K)
        power = spectra.real.square() + spectra.imag.square()
        found = ((power if self._is_power else power.sqrt()) @ self._bank).clamp(min=_LEAST)
        gains = self._exponent * torch.log(targets / found).clamp(-self._limit, self._limit)
        scaled = torch.fft.irfft(spectra * torch.exp(gains @ self._shares), self._n_fft)
        frames = scaled[..., : self._width] * self._window
        self._frames = torch.where(valid[..., None] > 0, frames, 0.0)
