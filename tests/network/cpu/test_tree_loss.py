"""The readout's loss in one pass against the same in plain torch."""

import pytest
import torch
from support.small import small_config
from support.threads import torch_threads
from torch import Tensor

from gru_audio.network.cpu.tree_loss import Readout, tree_loss
from gru_audio.network.distribution import negative_log_likelihood


def example(n_classes: int, stride: int) -> tuple[Readout, Tensor, Tensor]:
    n_batch, n_samples, n_frames, size, n_tables = 3, 12, 3, 26, 4
    hidden = torch.randn(n_samples // stride, n_batch, stride * size)
    others = [
        torch.randn(*shape)
        for shape in ((n_batch, n_frames, size), (20, size), (n_classes - 1, size), (n_classes - 1,))
    ]
    readout = Readout(*(part.requires_grad_() for part in (hidden, *others)))
    rows = torch.randint(0, 20, (n_batch, n_samples, n_tables))
    return readout, rows, torch.randint(0, n_classes, (n_batch, n_samples))


def plain(readout: Readout, rows: Tensor, codes: Tensor) -> Tensor:
    n_batch, n_samples = codes.shape
    hidden = readout.hidden.transpose(0, 1).reshape(n_batch, n_samples, -1)
    frames = readout.frames.repeat_interleave(n_samples // readout.frames.shape[1], 1)
    activation = torch.relu(hidden + frames + readout.table[rows].sum(2))
    logits = activation @ readout.weight.t() + readout.bias
    return negative_log_likelihood("tree", logits, codes).mean()


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("n_classes", [4, 256, 1024])
@pytest.mark.usefixtures("instructions")
def test_loss_and_gradients_equal_plain_torch(n_classes: int, stride: int) -> None:
    torch.manual_seed(stride)
    readout, rows, codes = example(n_classes, stride)
    with torch_threads(stride):  # one, several, and more than there are streams
        ours = tree_loss(readout, rows, codes)
    gradients = torch.autograd.grad(2 * ours, readout)
    theirs = plain(readout, rows, codes)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    for mine, reference in zip(gradients, torch.autograd.grad(2 * theirs, readout), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-6)


def test_without_gradients_the_loss_is_the_same() -> None:
    readout, rows, codes = example(256, 2)
    loss = tree_loss(readout, rows, codes)
    with torch.no_grad():
        alone = tree_loss(readout, rows, codes)
    assert loss.requires_grad
    assert not alone.requires_grad
    assert loss == alone


def test_what_is_not_a_number_stays_visible() -> None:
    """As training watches for it."""
    readout, rows, codes = example(256, 1)
    with torch.no_grad():
        readout.weight[0, 0] = torch.nan
        assert tree_loss(readout, rows, codes).isnan()


def test_hidden_states_in_bf16() -> None:
    torch.manual_seed(1)
    readout, rows, codes = example(256, 2)
    low = readout._replace(hidden=readout.hidden.detach().bfloat16().requires_grad_())
    full = readout._replace(hidden=low.hidden.detach().float().requires_grad_())
    ours, theirs = tree_loss(low, rows, codes), tree_loss(full, rows, codes)
    assert ours == theirs
    of_low = torch.autograd.grad(ours, low.hidden)[0]
    of_full = torch.autograd.grad(theirs, full.hidden)[0]
    assert torch.equal(of_low, of_full.bfloat16())


def test_large_logits_stay_finite() -> None:
    readout, rows, codes = example(256, 1)
    certain = readout._replace(weight=(readout.weight * 1e4).detach().requires_grad_())
    loss = tree_loss(certain, rows, codes)
    assert loss.isfinite()
    torch.testing.assert_close(loss, plain(certain, rows, codes))
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, certain))


def test_the_networks_loss_is_that_of_its_logits() -> None:
    """Whichever way it goes: in one pass, or through the logits as on a GPU."""
    from unittest import mock

    from gru_audio.network.model import CodeInputs, SampleNetwork

    torch.manual_seed(2)
    config = small_config()
    network = SampleNetwork(config)
    n_frames, hop, stride = 3, config.mel.hop_samples, config.model.samples_per_step
    n_samples = n_frames * hop
    conditioning = torch.randn(2, n_frames, config.model.conditioning_size)
    codes = CodeInputs(
        torch.randint(0, 256, (2, n_samples + stride - 1)),
        *(torch.randint(0, 256, (2, n_samples)) for _ in range(3)),
    )
    target = torch.randint(0, 256, (2, n_samples))
    one_pass = network.mean_nats("tree", conditioning, codes, target)
    ours = torch.autograd.grad(one_pass, list(network.parameters()))
    with mock.patch("gru_audio.network.model.can_scan", lambda *_: False):
        through_logits = network.mean_nats("tree", conditioning, codes, target)
        theirs = torch.autograd.grad(through_logits, list(network.parameters()))
    torch.testing.assert_close(one_pass, through_logits, rtol=1e-5, atol=0)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-6)
