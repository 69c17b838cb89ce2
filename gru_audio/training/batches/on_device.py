"""Batches made on a GPU: the mels, predictors and codes of all crops at once, the same as CropSource's bit for bit.

A loader process then only reads audio and draws places: it feeds about three times the samples a second. The GPU makes
a batch beside the step that learns from the one before it, on a stream of its own.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from gru_audio.config import Config
from gru_audio.network import triton_ready
from gru_audio.progress import NoteCallback, ignore_note
from gru_audio.signal.gpu.codec import ClosedLoop
from gru_audio.signal.gpu.fft import can_transform
from gru_audio.signal.gpu.lpc import LinearPrediction
from gru_audio.signal.gpu.mel import DeviceMels
from gru_audio.signal.mel import first_of_window, mirrored_samples, silent_frames
from gru_audio.training.batches.batch import Batch, pinned
from gru_audio.training.batches.crops import CropSource, Share
from gru_audio.training.batches.raw_crops import RawCrops
from gru_audio.training.replay import Replay, recorder

_INT16_SCALE = 32_768
_CROPS_COMPARED = 4


def checked_maker(
    config: Config,
    context_frames: int,
    source: CropSource,
    device: torch.device,
    tell: NoteCallback,
    *,
    captures: bool = True,
) -> "BatchMaker | None":
    """What makes the batches of a run on its GPU, once it has made some crops as the CPU does; None: the CPU does.

    Where a GPU cannot, the reason is told in one line. Nothing is to be captured beside other processes' messages.
    """
    if device.type != "cuda":
        return None
    reason = why_not(config, source, device)
    if reason is None:
        maker = BatchMaker(config, context_frames, device, tell, captures=captures)
        try:
            if not (share := differing_share(maker, source, device)):
                return maker
            reason = f"{share:.1%} of the codes that the GPU made differ"
        except Exception as error:  # whatever a compiler or a driver of another version may raise
            reason = f"the GPU's kernels failed ({type(error).__name__})"
    tell(f"the CPU's processes prepare the batches: {reason}")
    return None


def differing_share(maker: "BatchMaker", source: CropSource, device: torch.device) -> float:
    """The share of target codes of some crops at which a maker and its source differ."""
    share = Share(0, max(1, source.batch_size // _CROPS_COMPARED))
    raw = source.raw_batch(0, share)
    made = maker.batch(torch.from_numpy(part).to(device) for part in raw).target.cpu()
    return float((made.numpy() != source.batch(0, share).target).mean())


def why_not(config: Config, source: CropSource, device: torch.device) -> str | None:
    """Why a device cannot make a run's batches, as a clause; None where it can."""
    if source.has_given_mels:
        return "some clips have mels of their own"
    if config.mel.preemphasis or not can_transform(config.mel.n_fft):
        return "the mel contract's pre-emphasis or transform is written for the CPU alone"
    return triton_ready.why_not(device)


class BatchMaker:
    """Makes batches of raw crops on their device; `why_not` must give no reason."""

    def __init__(
        self,
        config: Config,
        context_frames: int,
        device: torch.device,
        tell: NoteCallback = ignore_note,
        *,
        captures: bool = True,
    ) -> None:
        """Move the tables there; `context_frames` as of the `CropSource`."""
        mel = config.mel
        self._device = device
        self._replay = Replay(recorder(device) if captures else None, "batches", tell)
        self._stream = (
            torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        )
        self._config, self._context = config, context_frames
        self._analysis = DeviceMels(mel, device)
        self._prediction = LinearPrediction(mel, config.signal, device)
        self._loop = ClosedLoop(config.signal, device)
        self._silence = torch.from_numpy(silent_frames(1, mel)[0]).to(device)  # (M,)
        # Where the stretch of the first frame that is coded begins; pre-emphasis looks one sample back.
        self._first = context_frames * mel.hop_samples - mel.lead_samples + mirrored_samples(mel) - 1

    def beside(self, drawn: RawCrops) -> Batch[Tensor]:
        """The batch of crops in memory; nothing waits for it but what is done with it."""
        if self._stream is None:
            return self.batch(map(torch.from_numpy, drawn))
        with torch.cuda.stream(self._stream):
            raw = [pinned(part, self._device).to(self._device, non_blocking=True) for part in drawn]
            made = self._replay((), raw, lambda raw: tuple(self.batch(raw)))
            # What comes out is overwritten by the next one.
            batch = Batch(*(part.clone() for part in made))
        now = torch.cuda.current_stream(self._device)
        now.wait_stream(self._stream)
        for part in batch:
            part.record_stream(now)
        return batch

    @torch.no_grad()
    def batch(self, raw: Iterable[Tensor]) -> Batch[Tensor]:
        """The batch of `RawCrops` whose parts are tensors on the device."""
        audio, known, inside, lags, noise = raw
        if audio.dtype == torch.int16:
            audio = audio.float() * (1 / _INT16_SCALE)
        mel = self._mel(audio, known)  # (B, A, M)
        coded = mel[:, self._context : mel.shape[1] - self._context]
        filters = self._prediction.filters(self._analysis.scale.linear(coded.flatten(0, 1)))
        codes = self._loop.codes(self._signal(audio, inside, noise.shape[1]), filters, noise)
        n_run_in = self._config.run_in_samples
        target, history, previous, prediction = (part.long() for part in codes)
        return Batch(
            mel[:, n_run_in // self._config.mel.hop_samples :],
            lags,
            target[:, n_run_in:],
            history,
            previous[:, n_run_in:],
            prediction[:, n_run_in:],
        )

    def _mel(self, audio: Tensor, known: Tensor) -> Tensor:
        """(B, A, M), silent where a frame is not known."""
        config = self._config.mel
        windows = audio[:, first_of_window(config) :].unfold(1, config.window_samples, config.hop_samples)
        n_frames = (audio.shape[1] - config.n_fft) // config.hop_samples + 1
        mel = self._analysis.log_mel(windows[:, :n_frames].flatten(0, 1)).view(len(audio), n_frames, -1)
        return torch.where(self._within(known, n_frames)[..., None], mel, self._silence)

    def _signal(self, audio: Tensor, inside: Tensor, n_samples: int) -> Tensor:
        """The pre-emphasised samples (B, W + T) of the run-in and the crop; silence outside the clip."""
        stretch = slice(self._first, self._first + 1 + n_samples)
        heard = torch.where(self._within(inside, audio.shape[1])[:, stretch], audio[:, stretch], 0.0)
        return heard[:, 1:] - heard[:, :-1] * self._config.signal.preemphasis

    @staticmethod
    def _within(bounds: Tensor, size: int) -> Tensor:
        """(B, size), which numbers lie within bounds (B, 2)."""
        number = torch.arange(size, device=bounds.device)
        return (number >= bounds[:, :1]) & (number < bounds[:, 1:])
