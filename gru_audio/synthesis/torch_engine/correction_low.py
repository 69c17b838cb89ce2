"""The low end of the correction on a device: the lowest bins of B streams' frames, in rounds of their own.

See native/correction/correction_low.h for the rule. A round is little work and many operations, so that what can be is
one product with a matrix, and what no round changes is made before the first:

    open frames (B, open width)  x  overlaps  ->  their sum under each window  ->  windows  x  analysis  ->
    spectra (B, open, 2 K), all real parts, then all imaginary ones  ->  gains  ->  x  synthesis  ->  open frames
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gru_audio.config import MelConfig
from gru_audio.synthesis.correction_plan import plan_of_contract
from gru_audio.synthesis.torch_engine.correction_frames import LEAST, OverlappingFrames, move_on

_LARGEST_MATRIX = 1024
"""Rows of the overlaps, 4 MB of numbers; where more frames overlap, they are added up one by one."""


class LowEnd:
    """The lowest bins of the open frames."""

    def __init__(self, config: MelConfig, bank: Tensor, shares: Tensor, n_streams: int) -> None:
        """Begin, with the filterbank (K, M) of the whole spectrum and the shares (M, K)."""
        plan, device = plan_of_contract(config), bank.device
        self._n_rounds, self._size, self._n_mels, n_open = (
            int(number) for number in (plan.low_n_rounds, plan.low_n_fft, plan.low_n_mels, plan.n_open)
        )
        self._momentum, self._limit = float(plan.low_momentum), float(plan.low_limit)
        self._is_power, self._whole_size = config.spectrum == "power", config.n_fft
        n_bins = self._n_bins = self._size // 2 + 1
        self._bank = bank[:n_bins, : self._n_mels] * float(plan.low_unit)
        shares = shares[: self._n_mels, :n_bins]
        self._covered = shares.sum(0)  # (K,)
        # Of gains g, 1 + (g - 1) @ shares; no band has the highest bin whole, so that it is 0.
        below = torch.arange(n_bins, device=device) < n_bins - 1
        self._shares, self._rest = (shares * below).T.contiguous(), (1 - self._covered) * below
        window = torch.from_numpy(plan.held["low_window"].copy()).to(device)
        self._frames = OverlappingFrames(window, plan.low_hop, n_open, float(plan.full), n_streams)
        width = len(window)
        self._overlaps = self._overlaps_of_all(n_open, width) if n_open * width <= _LARGEST_MATRIX else None
        # exp(-2 pi i k t / N), and back.
        angles = 2 * np.pi / self._size * (np.outer(np.arange(width), np.arange(n_bins)) % self._size)
        analysis = np.concatenate([np.cos(angles), -np.sin(angles)], 1)
        counts = np.r_[1.0, np.full(n_bins - 1, 2.0)]  # of a bin, in a real signal
        self._analysis = torch.from_numpy(analysis.astype(np.float32)).to(device)  # (width, 2 K)
        synthesis = (analysis * np.tile(counts, 2)).T / self._size
        self._synthesis = torch.from_numpy(synthesis.astype(np.float32)).to(device)  # (2 K, width)
        self._remade = self._synthesis * window
        self._raw = torch.zeros_like(self._frames.open)
        self._spectra = torch.zeros(n_streams, n_open, 2, n_bins, dtype=torch.float32, device=device)

    def _overlaps_of_all(self, n_open: int, width: int) -> Tensor:
        """(open width, open width): 1 where a frame's sample and a window's are one."""
        hop, device = self._frames.hop, self._frames.window.device
        places = (hop * torch.arange(n_open)[:, None] + torch.arange(width)).flatten()
        return (places[:, None] == places).float().to(device)

    def run(self, windowed: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Take the open frames through the rounds.

        Args:
            windowed: (B, W), the raw audio at its whole rate under the newest window.
            targets: (B, open, M), linear.
            valid: (B, open), 1, or 0 where a stream is over.
        """
        frames, targets = self._frames, targets[..., : self._n_mels]
        low = torch.view_as_real(torch.fft.rfft(windowed, self._whole_size)[:, : self._n_bins - 1])
        low = functional.pad(low.mT, (0, 1)) * (self._size / self._whole_size)
        self._raw[:, -1] = low.flatten(1) @ self._synthesis
        closed, before = frames.windows(frames.sums), None
        for n in range(self._n_rounds):
            if n < 2:  # then the newest is known, and nothing changes any more
                shares = frames.shares(valid if n else valid[:, :-1])
                own = frames.windows(shares[0]) * frames.window
                fixed = torch.addcmul(frames.windows(shares[1]) * self._raw, own, closed)
            now = torch.addcmul(fixed, own, self._sums())
            ahead = now if before is None else torch.lerp(before, now, 1 + self._momentum)
            before = now
            spectra = (ahead @ self._analysis).view_as(self._spectra)  # (B, open, 2, K)
            spectra *= self._gains(spectra, targets)
            torch.mul(spectra.flatten(2) @ self._remade, valid[..., None], out=frames.open)
        self._spectra.copy_(spectra)

    def _sums(self) -> Tensor:
        """Of all open frames, under the window of each (B, open, width)."""
        frames = self._frames
        if self._overlaps is None:
            return frames.windows(frames.open_sums())
        return (frames.open.flatten(1) @ self._overlaps).view_as(frames.open)

    def put(self, spectra: Tensor, first: int) -> Tensor:
        """Whole spectra (B, open - first, K), of the open frames from `first` on, with the low end in its place."""
        own = torch.complex(*self._spectra[:, first:].unbind(2)) * (self._whole_size / self._size)
        low = torch.lerp(spectra[..., : self._n_bins], own, self._covered.to(own.dtype))
        return torch.cat([low, spectra[..., self._n_bins :]], -1)

    def close(self, valid: Tensor) -> None:
        """See `OverlappingFrames.close`."""
        self._frames.close(valid)
        move_on(self._raw, 1)

    def forget(self) -> None:
        """Begin anew."""
        self._frames.forget()
        self._raw.zero_()

    def _gains(self, spectra: Tensor, targets: Tensor) -> Tensor:
        """Of the bins (B, open, 1, K)."""
        sizes = torch.linalg.vector_norm(spectra, dim=2)
        found = (sizes.square() if self._is_power else sizes) @ self._bank
        gains = (targets / found.clamp(min=LEAST)).clamp(1 / self._limit, self._limit)
        return functional.linear(gains.sqrt() if self._is_power else gains, self._shares, self._rest)[
            :, :, None
        ]
