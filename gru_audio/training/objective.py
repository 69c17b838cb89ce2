"""What training minimises: the codes' negative log-likelihood under teacher forcing, and the pitch head's loss."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gru_audio.network.model import CodeInputs, Network, delayed_codes
from gru_audio.training.batches.batch import Batch


class Losses(NamedTuple):
    """Results of one batch, as scalars on the device.

    Attributes:
        nats: mean negative log-likelihood of a code.
        pitch: the pitch head's loss; 0 where the network has none.
        voicing_accuracy: share of frames whose voicing the head gets right.
        pitch_cents: mean absolute error of its lag where both it and the label are voiced.
    """

    nats: Tensor
    pitch: Tensor
    voicing_accuracy: Tensor
    pitch_cents: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised. The two losses share no weights, so they need no balance."""
        return self.nats + self.pitch


def compute_losses(network: Network, batch: Batch[Tensor], *, own_pitch: bool) -> Losses:
    """Teacher-forced losses of a batch.

    Args:
        network: in training or evaluation mode.
        batch: its codes as int64.
        own_pitch: condition on the pitch head's estimates, as synthesis does, in place of the labels.
    """
    mel = network.normalise(batch.mel)
    nothing = mel.new_zeros(())
    if network.pitch_head is None:
        conditioning = network.conditioner(mel, None)
        return Losses(_nats(network, batch, conditioning, None), nothing, nothing, nothing)
    outputs = network.pitch_head(mel)
    estimates = network.pitch_head.estimate(outputs.detach())
    lags = estimates if own_pitch else batch.lags
    conditioning = network.conditioner(mel, lags)
    voiced, both = batch.lags > 0, (batch.lags > 0) & (estimates > 0)
    cents = 1200 * torch.log2(torch.where(both, estimates / batch.lags.clamp(min=1), 1.0)).abs()
    return Losses(
        _nats(network, batch, conditioning, lags),
        network.pitch_head.loss(outputs, batch.lags),
        (voiced == (estimates > 0)).float().mean(),
        cents.sum() / both.sum().clamp(min=1),
    )


def code_inputs(network: Network, batch: Batch[Tensor], lags: Tensor | None) -> CodeInputs:
    """The sample network's inputs, with long-term codes at the given lags (B, F)."""
    n_samples = batch.target.shape[1]
    stride = network.config.model.samples_per_step
    excitation = batch.history[:, -n_samples - stride : -1]
    if lags is None:
        return CodeInputs(excitation)
    middle = network.config.signal.n_classes // 2
    long_term = delayed_codes(batch.history, lags, n_samples, middle)
    return CodeInputs(excitation, batch.previous_signal, batch.prediction, long_term)


def bits(nats: float) -> float:
    """Nats to bits."""
    return nats / math.log(2)


def _nats(network: Network, batch: Batch[Tensor], conditioning: Tensor, lags: Tensor | None) -> Tensor:
    codes = code_inputs(network, batch, lags)
    return network.sample_network.mean_nats(network.config.model.output, conditioning, codes, batch.target)
