"""Frames of B streams that overlap, as the correction on a device has them; correction.py's and correction_low.py's.

    sums, weights (B, samples)     what closed frames add, and their windows' squares
    open (B, open, width)          what open frames are now, 0 where there is none

All tensors stay where they are, as what is captured for a GPU wants it.
"""

import torch
from torch import Tensor

LEAST = 1e-20
"""Of a band: what is divided by."""


class OverlappingFrames:
    """Frames a hop apart: the closed ones summed, and the open ones, the oldest first."""

    def __init__(self, window: Tensor, hop: int, n_open: int, full: float, n_streams: int) -> None:
        """Begin; `full` is what of the windows' squares is enough."""
        self.window, self.hop, self._full = window, hop, full
        self._squares, n_samples = window * window, (n_open - 1) * hop + len(window)
        self.sums = window.new_zeros(n_streams, n_samples)
        self._weights = torch.zeros_like(self.sums)
        self.open = window.new_zeros(n_streams, n_open, len(window))

    def shares(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """What the frames' sum and the raw audio count at each sample (B, samples).

        Args:
            known: (B, g), of the first g open frames: 1 of those whose weights count.
        """
        weights = self._overlapped(self._weights, self._squares * known[..., None])
        missing = (self._full - weights).clamp(min=0.0)
        return 1 / (weights + missing), missing / (weights + missing)

    def estimate(self, audio: Tensor, shares: tuple[Tensor, Tensor]) -> Tensor:
        """The best guess at the audio of all open windows, from the raw one (B, samples)."""
        return self._overlapped(self.sums, self.open) * shares[0] + shares[1] * audio

    def open_sums(self) -> Tensor:
        """The open frames' sum (B, samples), without the closed ones."""
        return self._overlapped(torch.zeros_like(self.sums), self.open)

    def windows(self, samples: Tensor) -> Tensor:
        """The stretches (B, open, width) under the windows."""
        return samples.unfold(1, len(self.window), self.hop)

    def close(self, valid: Tensor) -> None:
        """Close the oldest frame, where there is one (B, 1), and move on by a hop."""
        first = self._place(0)
        self.sums[:, first] += self.open[:, 0]
        self._weights[:, first] += self._squares * valid
        for kept in (self.sums, self._weights):
            move_on(kept, self.hop)
        move_on(self.open, 1)

    def forget(self) -> None:
        """Begin anew."""
        for kept in (self.sums, self._weights, self.open):
            kept.zero_()

    def _overlapped(self, kept: Tensor, frames: Tensor) -> Tensor:
        """What is kept (B, samples), with the first open frames' (B, g, width) added, each in its place."""
        total = kept.clone()
        for g in range(frames.shape[1]):
            total[:, self._place(g)] += frames[:, g]
        return total

    def _place(self, frame: int) -> slice:
        """Of an open frame's samples."""
        return slice(frame * self.hop, frame * self.hop + len(self.window))


def move_on(kept: Tensor, n: int) -> None:
    """Drop the first n of the second axis, and add zeros behind."""
    kept.copy_(torch.cat([kept[:, n:], torch.zeros_like(kept[:, :n])], 1))
