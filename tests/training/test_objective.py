"""The training objective: how a batch becomes inputs, and the losses by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import naive
from support.small import N_MELS, small_config
from torch import Tensor

from gru_audio.config import CONTEXT_FRAMES, Config
from gru_audio.network.model import Network
from gru_audio.training.batches.batch import Batch
from gru_audio.training.batches.crops import ArrayBatch
from gru_audio.training.objective import bits, code_inputs, compute_losses

HOP, N_FRAMES, RUN_IN = 64, 4, 192


def random_batch(n_rows: int = 2) -> ArrayBatch:
    rng = np.random.default_rng(0)
    n_samples = N_FRAMES * HOP

    def codes(length: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
        return rng.integers(0, 256, (n_rows, length)).astype(np.int16)

    return Batch(
        mel=rng.standard_normal((n_rows, N_FRAMES + 2 * CONTEXT_FRAMES, N_MELS)).astype(np.float32),
        lags=np.tile(np.array([0, 40.5, 16, 160], np.float32), (n_rows, 1)),
        target=codes(n_samples),
        history=codes(RUN_IN + n_samples),
        previous_signal=codes(n_samples),
        prediction=codes(n_samples),
    )


def tensors_of(batch: ArrayBatch) -> Batch[Tensor]:
    return batch.to(torch.device("cpu"))


def network_of(config: Config) -> Network:
    torch.manual_seed(0)
    return Network(config).eval()


def outputs_saying(network: Network, lags: Tensor) -> Tensor:
    """Pitch head outputs that say these lags (B, F)."""
    head = network.pitch_head
    assert head is not None
    distance = torch.arange(head.n_bins) - head.bins(lags)[..., None]
    return torch.cat([-4 * distance**2, torch.where(lags > 0, 5.0, -5.0)[..., None]], -1)


def test_a_batch_moves_to_tensors() -> None:
    batch = random_batch()
    for moved in (tensors_of(batch), batch.map(torch.from_numpy).to(torch.device("cpu"))):
        for name, array in vars(batch).items():
            tensor = getattr(moved, name)
            assert tensor.dtype == (torch.float32 if name in ("mel", "lags") else torch.int64)
            np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_code_inputs(stride: int) -> None:
    network, batch = network_of(small_config(samples_per_step=stride)), random_batch()
    n_samples = N_FRAMES * HOP
    codes = code_inputs(network, tensors_of(batch), torch.from_numpy(batch.lags))
    assert codes.long_term is not None
    for row in range(2):
        expected = [
            batch.history[row, RUN_IN + t - 1] for t in range(-(stride - 1), n_samples)
        ]  # e[t - 1] of every t
        np.testing.assert_array_equal(codes.excitation[row].numpy(), expected)
        delayed = naive.delayed_codes(
            batch.history[row].astype(np.int64), batch.lags[row].astype(np.float64), n_samples, 128
        )
        np.testing.assert_array_equal(codes.long_term[row].numpy(), delayed)
    np.testing.assert_array_equal(codes.previous_signal, batch.previous_signal)
    np.testing.assert_array_equal(codes.prediction, batch.prediction)
    without = code_inputs(network, tensors_of(batch), None)
    assert torch.equal(without.excitation, codes.excitation)
    assert without[1:] == (None, None, None)


@pytest.mark.parametrize("output", ["tree", "softmax"])
def test_an_untrained_output_costs_eight_bits(output: str) -> None:
    network = network_of(small_config(output=output))
    network.sample_network.output.weight.data.zero_()
    network.sample_network.output.bias.data.zero_()
    losses = compute_losses(network, tensors_of(random_batch()), own_pitch=True)
    assert bits(losses.nats.item()) == pytest.approx(8, abs=1e-5)


def test_the_targets_log_likelihood_is_counted() -> None:
    """A bias that favours one code makes it cost less and every other more."""
    network, batch = network_of(small_config(output="softmax")), random_batch()
    network.sample_network.output.weight.data.zero_()
    network.sample_network.output.bias.data.zero_()
    network.sample_network.output.bias.data[77] = math.log(255)  # then P(77) is a half
    batch.target[:] = 77
    assert bits(compute_losses(network, tensors_of(batch), own_pitch=True).nats.item()) == pytest.approx(1)
    batch.target[:, ::2] = 78
    mean = (1 + math.log2(2 * 255)) / 2
    assert bits(compute_losses(network, tensors_of(batch), own_pitch=True).nats.item()) == pytest.approx(mean)


def test_without_linear_prediction_there_is_no_pitch_loss() -> None:
    network = network_of(small_config(lpc_order=0))
    losses = compute_losses(network, tensors_of(random_batch()), own_pitch=True)
    assert [float(value) for value in losses[1:]] == [0, 0, 0]
    assert losses.total == losses.nats


def test_own_pitch_or_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    network, batch = network_of(small_config()), tensors_of(random_batch())
    said = torch.tensor([[0.0, 81.0, 32.0, 0.0], [100.0, 40.5, 16.0, 160.0]])
    outputs = outputs_saying(network, said)
    assert network.pitch_head is not None
    monkeypatch.setattr(network.pitch_head, "forward", lambda mel: outputs)
    with_labels = compute_losses(network, batch, own_pitch=False)
    with_own = compute_losses(network, batch, own_pitch=True)
    assert with_labels.nats != with_own.nats
    as_labels = replace(batch, lags=network.pitch_head.estimate(outputs))
    torch.testing.assert_close(compute_losses(network, as_labels, own_pitch=False).nats, with_own.nats)
    # Voicing is right in 6 of 8 frames. Of the 5 frames where both speak of a lag two are an octave off.
    for losses in (with_labels, with_own):
        assert float(losses.voicing_accuracy) == pytest.approx(6 / 8)
        assert float(losses.pitch_cents) == pytest.approx(2 * 1200 / 5, abs=15)
        assert losses.total == losses.nats + losses.pitch
        assert losses.pitch == network.pitch_head.loss(outputs, batch.lags)


def test_a_batch_without_voiced_frames() -> None:
    network, batch = network_of(small_config()), random_batch()
    batch.lags[:] = 0
    losses = compute_losses(network, tensors_of(batch), own_pitch=False)
    assert float(losses.pitch_cents) == 0
    assert all(torch.isfinite(value) for value in losses)


@pytest.mark.parametrize("own_pitch", [False, True])
def test_the_two_losses_share_no_weights(own_pitch: bool) -> None:
    network, batch = network_of(small_config()).train(), tensors_of(random_batch())
    head = {name for name, _ in network.named_parameters() if name.startswith("pitch_head.")}
    for loss, wanted in (("nats", False), ("pitch", True)):
        network.zero_grad(set_to_none=True)
        getattr(compute_losses(network, batch, own_pitch=own_pitch), loss).backward()
        reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
        assert reached == {name for name, _ in network.named_parameters() if (name in head) == wanted}


def test_the_mel_is_normalised() -> None:
    network, batch = network_of(small_config()), random_batch()
    expected = compute_losses(network, tensors_of(batch), own_pitch=True)
    mean, std = torch.linspace(-6, 0, N_MELS), torch.linspace(0.5, 3, N_MELS)
    network.set_normalisation(mean, std)
    moved = replace(batch, mel=batch.mel * std.numpy() + mean.numpy())
    found = compute_losses(network, tensors_of(moved), own_pitch=True)
    torch.testing.assert_close(found.nats, expected.nats, atol=1e-4, rtol=0)


def test_bits() -> None:
    assert bits(math.log(2)) == 1
    assert bits(8 * math.log(2)) == pytest.approx(8)
