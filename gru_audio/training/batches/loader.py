"""Batches in the order of the steps, prepared ahead by worker processes."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from gru_audio.errors import GruAudioError
from gru_audio.training.batches.crops import WHOLE, Batch, CropSource, Share
from gru_audio.training.interrupt import leave_signals_to_the_parent


def batches(
    source: CropSource,
    steps: range,
    n_workers: int,
    device: torch.device,
    share: Share = WHOLE,
    n_returns: int = 0,
) -> Iterator[Batch]:
    """The batch of each step, as tensors; pinned where the device is a GPU, so that they move while it computes.

    Args:
        source: draws them.
        steps: for which, in order.
        n_workers: processes that draw ahead; 0 draws in this one.
        device: where they are going.
        share: the part of each that is wanted.
        n_returns: see `CropSource.batch`.

    Raises:
        GruAudioError: a crop could not be read, as the worker met it.
    """
    loader = DataLoader(
        _BatchesByStep(source, share, n_returns),
        batch_size=None,
        sampler=steps,
        num_workers=n_workers,
        worker_init_fn=leave_signals_to_the_parent if n_workers else None,
        pin_memory=device.type == "cuda",
    )
    for batch in loader:
        if isinstance(batch, GruAudioError):
            raise batch
        yield batch


class _BatchesByStep(TorchDataset["Batch | GruAudioError"]):
    def __init__(self, source: CropSource, share: Share, n_returns: int) -> None:
        self._source, self._share, self._n_returns = source, share, n_returns

    def __getitem__(self, step: int) -> Batch | GruAudioError:
        try:
            return self._source.batch(step, self._share, self._n_returns)
        except GruAudioError as error:  # raised in a worker it would come with a traceback in its text
            return error
