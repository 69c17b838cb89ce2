"""The closed loop of many crops at once: the codes of signal/codec.py, bit for bit."""

from typing import NamedTuple

import torch
from torch import Tensor

from gru_audio.config import SignalConfig
from gru_audio.signal.gpu.lpc import Filters
from gru_audio.signal.mulaw import expansion_table, thresholds

_CROPS = 32  # of a program: the threads of one warp


class Codes(NamedTuple):
    """The codes (B, T) of `codec.CodecTrace`, as int16."""

    target: Tensor
    excitation: Tensor
    previous_signal: Tensor
    prediction: Tensor


class ClosedLoop:
    """The closed loop of a signal model; Triton must be ready."""

    def __init__(self, config: SignalConfig, device: torch.device) -> None:
        """Move the tables to a device."""
        self._config = config
        self._edges = torch.from_numpy(thresholds(config.n_classes).copy()).to(device)
        self._expansion = torch.from_numpy(expansion_table(config.n_classes).copy()).to(device)

    def codes(self, signal: Tensor, filters: Filters, noise: Tensor) -> Codes:
        """Of pre-emphasised signals (B, T), from a silent past.

        Args:
            signal: T = F hop.
            filters: of B F frames, those of a crop one after the other.
            noise: (B, T) int8.
        """
        from gru_audio.signal.gpu.kernels.closed_loop import closed_loop

        (n_crops, n_samples), order = signal.shape, self._config.lpc_order
        n_frames = len(filters.excitation_scale) // n_crops

        def by_frame(part: Tensor) -> Tensor:
            return part.view(n_crops, n_frames, *part.shape[1:]).transpose(0, 1).contiguous()

        codes = torch.empty(4, n_samples, n_crops, dtype=torch.int16, device=signal.device)
        closed_loop[(-(-n_crops // _CROPS),)](
            signal.t().contiguous(), *map(by_frame, filters), noise.t().contiguous(), self._edges, self._expansion,
            *codes.unbind(), torch.empty_like(signal), n_crops, n_samples, n_samples // n_frames,
            ORDER=order, BITS=self._config.bits, CROPS=_CROPS, num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip
        return Codes(*codes.transpose(1, 2).unbind())
