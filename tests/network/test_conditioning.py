"""The pitch head and the features of a pitch."""

import math

import numpy as np
import pytest
import torch
from support.small import small_config
from torch import Tensor

from gru_audio.network.conditioning import Conditioner, PitchHead


def outputs_for(head: PitchHead, lags: Tensor, voicing: float = 3.0) -> Tensor:
    """What a head that is sure of these lags would give."""
    distance = torch.arange(head.n_bins) - head.bins(lags)[..., None]
    return torch.cat([-0.5 * distance**2, torch.full((*lags.shape, 1), voicing)], -1)


def test_estimate_inverts_bins() -> None:
    head = PitchHead(small_config())
    assert head.n_bins == 81
    assert head.bins(torch.tensor([16.0, 160.0, 3.0, 999.0])).tolist() == pytest.approx(
        [0, 80, 0, 80], abs=1e-4
    )
    lags = torch.exp(torch.linspace(np.log(18.0), np.log(140.0), 500))[None]
    cents = 1200 * torch.log2(head.estimate(outputs_for(head, lags)) / lags)
    assert cents.abs().max() < 5  # a bin is 50
    ends = torch.tensor([[16.0, 160.0]])  # there half of the bell is missing
    assert (1200 * torch.log2(head.estimate(outputs_for(head, ends)) / ends)).abs().max() < 50


def test_an_unvoiced_frame_has_no_lag() -> None:
    head = PitchHead(small_config())
    lags = torch.full((1, 4), 50.0)
    assert head.estimate(outputs_for(head, lags, voicing=-0.1)).tolist() == [[0.0] * 4]
    assert (head.estimate(outputs_for(head, lags, voicing=0.1)) > 0).all()


def test_pitch_loss_is_least_at_the_label_and_ignores_the_lag_of_unvoiced_frames() -> None:
    head = PitchHead(small_config())
    lags = torch.tensor([[30.0, 0.0, 100.0]])
    sure = outputs_for(head, lags)
    sure[0, :, -1] = torch.tensor([9.0, -9.0, 9.0])
    outputs = sure.clone().requires_grad_()
    loss = head.loss(outputs, lags)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert gradient.abs().max() < 1e-3, "the bell itself is the minimum"
    for factor in (0.8, 0.95, 1.05, 1.25):
        wrong = outputs_for(head, lags * factor)
        wrong[..., -1] = sure[..., -1]
        assert head.loss(wrong, lags) > loss
    noisy = sure.clone()
    noisy[0, 1, :-1] += 5 * torch.randn(head.n_bins)
    assert head.loss(noisy, lags) == loss
    assert head.loss(sure * torch.tensor([*[1.0] * head.n_bins, -1.0]), lags) > loss + 5


def test_pitch_features() -> None:
    conditioner = Conditioner(small_config(), with_pitch=True)
    features = conditioner.pitch_features(torch.tensor([[0.0, 16.0, 160.0, math.sqrt(16 * 160.0)]]))
    expected = torch.tensor([[[0.0, 0.0], [1.0, -1.0], [1.0, 1.0], [1.0, 0.0]]])
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)
