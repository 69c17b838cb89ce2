"""Batches in the order of the steps, prepared ahead by worker processes."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from gru_audio.crops import Batch, CropSource
from gru_audio.errors import GruAudioError
from gru_audio.interrupt import leave_signals_to_the_parent


def batches(source: CropSource, steps: range, n_workers: int, device: torch.device) -> Iterator[Batch]:
    """The batch of each step, as tensors; pinned where the device is a GPU, so that they move while it computes.

    Raises:
        GruAudioError: a crop could not be read, as the worker met it.
    """
    loader = DataLoader(
        _BatchesByStep(source),
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
    def __init__(self, source: CropSource) -> None:
        self._source = source

    def __getitem__(self, step: int) -> Batch | GruAudioError:
        try:
            return self._source.batch(step)
        except GruAudioError as error:  # raised in a worker it would come with a traceback in its text
            return error
