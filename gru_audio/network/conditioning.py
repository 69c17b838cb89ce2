"""What is computed once a frame: the pitch head and the conditioner (docs/design.md, 2). Shapes: see model.py."""

import math

import torch
from torch import Tensor, nn

from gru_audio.config import Config

_VOICED_SHARE = 0.5  # from this probability on a frame is voiced


class PitchHead(nn.Module):
    """Estimates each frame's pitch lag and voicing from the mel.

    The lag is a distribution over `n_bins` lags spaced evenly in log lag, as in Kim et al., CREPE (2018).
    """

    def __init__(self, config: Config) -> None:
        """Make the layers; the lags' range is the config's."""
        super().__init__()
        size = config.model.pitch_size
        self.lag_min, self.lag_max = config.lag_min_samples, config.lag_max_samples
        self.n_bins = config.n_lag_bins
        self.passed_on = as_it_is
        self.first = nn.Conv1d(config.mel.n_mels, size, 3)
        self.second = nn.Conv1d(size, size, 3)
        self.output = nn.Linear(size, self.n_bins + 1)

    def forward(self, normalised_mel: Tensor) -> Tensor:
        """(B, F + 4, M) -> (B, F, n_bins + 1): lag logits, then the voicing logit."""
        hidden = self.passed_on(_tanh_over_three(self.first, normalised_mel))
        hidden = self.passed_on(_tanh_over_three(self.second, hidden))
        return self.output(hidden)  # type: ignore[no-any-return]

    def bins(self, lags: Tensor) -> Tensor:
        """Lags in samples (...) to fractional bin numbers (...)."""
        octaves = torch.log2(lags.clamp(self.lag_min, self.lag_max) / self.lag_min)
        return octaves * (self.n_bins - 1) / math.log2(self.lag_max / self.lag_min)

    def loss(self, outputs: Tensor, lags: Tensor) -> Tensor:
        """Mean cross-entropy of lag (voiced frames) and voicing; outputs (B, F, n_bins + 1), lags (B, F)."""
        outputs = outputs.float()
        voiced = (lags > 0).float()
        distance = torch.arange(self.n_bins, device=lags.device) - self.bins(lags)[..., None]
        target = torch.softmax(-0.5 * distance**2, -1)  # a bell one bin wide around the label
        lag_loss = -(target * torch.log_softmax(outputs[..., :-1], -1)).sum(-1)
        voicing_loss = nn.functional.binary_cross_entropy_with_logits(
            outputs[..., -1], voiced, reduction="none"
        )
        return (lag_loss * voiced + voicing_loss).mean()

    def estimate(self, outputs: Tensor) -> Tensor:
        """Outputs (B, F, n_bins + 1) to lags in samples (B, F), 0 where unvoiced."""
        scores = outputs[..., :-1].float()
        around = scores.argmax(-1, keepdim=True) + torch.arange(-2, 3, device=scores.device)
        inside = (around >= 0) & (around < self.n_bins)
        weights = (
            scores.gather(-1, around.clamp(0, self.n_bins - 1)).masked_fill(~inside, -torch.inf).softmax(-1)
        )
        octaves = (weights * around).sum(-1) * (math.log2(self.lag_max / self.lag_min) / (self.n_bins - 1))
        voiced = torch.sigmoid(outputs[..., -1].float()) >= _VOICED_SHARE
        return torch.where(voiced, self.lag_min * torch.exp2(octaves), 0.0)


class Conditioner(nn.Module):
    """Turns a mel and its pitch into a conditioning vector for each frame."""

    def __init__(self, config: Config, with_pitch: bool) -> None:
        """Make the layers; `with_pitch` says whether lags are given."""
        super().__init__()
        size = config.model.conditioning_size
        self.lag_min, self.lag_max = config.lag_min_samples, config.lag_max_samples
        self.passed_on = as_it_is
        self.first = nn.Conv1d(config.mel.n_mels, size, 3)
        self.second = nn.Conv1d(size, size, 3)
        self.third = nn.Linear(size + 2 * with_pitch, size)
        self.fourth = nn.Linear(size, size)

    def forward(self, normalised_mel: Tensor, lags: Tensor | None) -> Tensor:
        """(B, F + 4, M) and lags in samples (B, F) -> (B, F, C)."""
        hidden = self.passed_on(_tanh_over_three(self.first, normalised_mel))
        hidden = self.passed_on(_tanh_over_three(self.second, hidden))
        if lags is not None:
            hidden = torch.cat([hidden, self.passed_on(self.pitch_features(lags))], -1)
        hidden = self.passed_on(torch.tanh(self.third(hidden)))
        return self.passed_on(torch.tanh(self.fourth(hidden)))

    def pitch_features(self, lags: Tensor) -> Tensor:
        """Lags in samples (B, F) -> (B, F, 2): voiced or not, and log lag from -1 to 1 (0 where unvoiced)."""
        voiced = (lags > 0).to(lags.dtype)
        position = torch.log(lags.clamp(self.lag_min, self.lag_max) / self.lag_min)
        return torch.stack([voiced, voiced * (2 * position / math.log(self.lag_max / self.lag_min) - 1)], -1)


def as_it_is(hidden: Tensor) -> Tensor:
    """What goes from layer to layer in training; synthesis may round it, see torch_engine/frontend.py."""
    return hidden


def _tanh_over_three(layer: nn.Conv1d, rows: Tensor) -> Tensor:
    """Tanh of a convolution over three frames, (B, n + 2, in) to (B, n, out).

    It is a product of matrices: cuDNN's convolutions round to TF32 where nobody forbids it, and synthesis on a GPU
    is to be as exact as on a CPU.
    """
    weight = layer.weight.flatten(1)  # (out, 3 in)
    return torch.tanh(nn.functional.linear(rows.unfold(1, 3, 1).flatten(2), weight, layer.bias))
