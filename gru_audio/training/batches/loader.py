"""Batches in the order of the steps, prepared ahead by worker processes."""

from collections.abc import Generator
from functools import partial

import torch
from torch import Tensor

from gru_audio.errors import GruAudioError
from gru_audio.progress import NoteCallback, ignore_note
from gru_audio.training.batches.batch import Batch, pinned
from gru_audio.training.batches.crops import WHOLE, ArrayBatch, CropSource, Share
from gru_audio.training.batches.on_device import BatchMaker
from gru_audio.training.batches.raw_crops import RawCrops
from gru_audio.training.batches.workers import WorkerLostError, Workers
from gru_audio.training.interrupt import StopRequest

_NEVER = StopRequest()


def batches(
    source: CropSource,
    steps: range,
    n_workers: int,
    device: torch.device,
    share: Share = WHOLE,
    n_returns: int = 0,
    stopped: StopRequest = _NEVER,
    tell: NoteCallback = ignore_note,
    maker: BatchMaker | None = None,
) -> Generator[Batch[Tensor], None, None]:
    """The batch of each step on the device; it moves to a GPU while that computes.

    Where a worker is gone, killed or out of memory, this process prepares the batches from there on: they are the
    same. It ends early where a request to stop comes while none can be had.

    Args:
        source: draws them.
        steps: for which, in order.
        n_workers: processes that draw ahead; 0 draws in this one.
        device: where they are going.
        share: the part of each that is wanted.
        n_returns: see `CropSource.batch`.
        stopped: a request to stop.
        tell: told in one line where the workers are given up.
        maker: makes the batches on the device, so that only audio is read here; None makes them here.

    Raises:
        GruAudioError: a crop could not be read, as the worker met it.
    """
    draw, n_drawn = partial(_draw, source, share, n_returns, maker is not None), 0
    if n_workers:
        try:
            with Workers(draw, steps, n_workers) as workers:
                for _ in steps:
                    batch = workers.take(stopped)
                    if batch is None:
                        return
                    if isinstance(batch, GruAudioError):
                        raise batch
                    n_drawn += 1
                    yield _ready(batch, device, maker)
        except WorkerLostError as lost:
            tell(
                f"a process that prepares batches {lost}; they are prepared in the training process from here on; "
                "free memory, or set train.workers=0"
            )
    for step in steps[n_drawn:]:
        yield _ready(draw(step), device, maker)


def _draw(source: CropSource, share: Share, n_returns: int, raw: bool, step: int) -> ArrayBatch | RawCrops:
    return source.raw_batch(step, share, n_returns) if raw else source.batch(step, share, n_returns)


def _ready(drawn: ArrayBatch | RawCrops, device: torch.device, maker: BatchMaker | None) -> Batch[Tensor]:
    """What was drawn, as a batch on the device."""
    if isinstance(drawn, RawCrops):
        assert maker is not None
        return maker.beside(drawn)
    return drawn.map(lambda part: pinned(part, device)).to(device)
