"""Many streams that go in step on a device from the mel to the corrected audio; ../in_step.py is the CPU's way.

All began together, and each step takes as many frames of each. So the front end, the sample loop and the correction go
through all of them at once, and one row of uniform numbers does for all, as they have one seed.

    frames of a stream  | its own: 0 .. F - 1 | silence: the lookahead's 2 | as many as the correction is late |
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from gru_audio.arrays import FloatArray, Made
from gru_audio.config import CONTEXT_FRAMES
from gru_audio.signal.mel import MelFrames, silent_frames
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.torch_engine.correction import DeviceCorrections
from gru_audio.synthesis.torch_engine.frontend import DeviceConditioner, DeviceFrontEnd
from gru_audio.synthesis.torch_engine.sample_loop import FrameInputs, TorchState

FRAMES_TOGETHER = 1 << 15  # of all streams: what the front end makes of them takes some hundred MB


class FrameLoop(Protocol):
    """Goes through the samples of frames."""

    def start(self, n_streams: int) -> TorchState:
        """The state of streams that have been silent for ever."""

    def run(self, state: TorchState, frames: FrameInputs, sampling: Sampling) -> torch.Tensor:
        """See `engine.TorchEngine.run`."""


class _Lane:
    """One of the streams: the frames that it waits with, and how many it has had.

    Attributes:
        waiting: (k, M).
        n_frames: pushed so far.
        is_over: it has no more frames than these.
    """

    def __init__(self, n_mels: int) -> None:
        self.waiting = np.zeros((0, n_mels), np.float32)
        self.n_frames, self.is_over = 0, False


class _Queue:
    """A queue of a GPU's work of its own, so that two groups of streams, in two threads, do not wait for each other."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))  # which moved the weights there

    def own(self) -> AbstractContextManager[object]:
        """Within it, work is queued there."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


class DeviceStreams:
    """Streams numbered from 0; see `in_step.InStep`, which it is."""

    def __init__(
        self,
        loop: FrameLoop,
        conditioner: DeviceConditioner,
        n_rounds: int,
        n_streams: int,
        sampling: Sampling,
    ) -> None:
        """Begin them, all with the same seed.

        Args:
            loop: goes through frames.
            conditioner: of the voice.
            n_rounds: of the correction.
            n_streams: how many.
            sampling: how they are drawn, and the seed.
        """
        config, device = conditioner.config, conditioner.device
        self._loop, self._config, self._device = loop, config, device
        self._queue = _Queue(device)
        with self._queue.own():
            self._state, self._front_end = loop.start(n_streams), DeviceFrontEnd(conditioner, n_streams)
            self._corrections = DeviceCorrections(config.mel, n_rounds, n_streams, device)
        self._lanes = [_Lane(config.mel.n_mels) for _ in range(n_streams)]
        self._random, self._n_made = np.random.default_rng(sampling.seed), 0  # frames of each stream
        self._sampling = sampling

    def is_waiting(self, number: int) -> bool:
        """See `InStep`."""
        return len(self._lanes[number].waiting) > 0

    def push(self, number: int, frames: MelFrames) -> None:
        """See `InStep`."""
        lane = self._lanes[number]
        lane.waiting, lane.n_frames = frames.stored, lane.n_frames + len(frames.stored)

    def end(self, number: int) -> None:
        """See `InStep`."""
        lane = self._lanes[number]
        lane.is_over = True
        if lane.n_frames:
            lane.waiting = silent_frames(CONTEXT_FRAMES + self._corrections.delay, self._config.mel)

    def give_up(self, number: int) -> None:
        """See `InStep`."""
        lane = self._lanes[number]
        lane.is_over, lane.n_frames, lane.waiting = True, 0, lane.waiting[:0]

    @torch.inference_mode()
    def launch(self) -> Callable[[], Sequence[Made]]:
        """See `InStep`; the frames that streams wait with are taken at once."""
        n_left = min((len(lane.waiting) for lane in self._lanes if len(lane.waiting)), default=0)
        first, parts = self._n_made, []
        with self._queue.own():
            while n_left:
                n = min(n_left, max(1, FRAMES_TOGETHER // len(self._lanes)))
                parts += self._go_on(n)
                n_left -= n
        return partial(self._made_of, first, parts)

    @torch.inference_mode()
    def _made_of(self, first: int, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> Sequence[Made]:
        """Of each stream what is in parts, which begin with frame `first`."""
        if not parts:
            return [Made.joined([])] * len(self._lanes)
        with self._queue.own():
            rows, raw_rows = (torch.cat(made, 1).cpu().numpy() for made in zip(*parts, strict=True))
        hop, delay = self._config.mel.hop_samples, self._corrections.delay

        def stretch(row: FloatArray, begin: int, n_own: int) -> FloatArray:
            """Of a row that begins with frame `begin`, what is of the stream's frames 0 .. n_own - 1."""
            return row[max(0, -begin) * hop : max(0, n_own - begin) * hop]

        return [
            Made(stretch(row, first - delay, n_own), stretch(raw_row, first, n_own))
            for row, raw_row, n_own in zip(rows, raw_rows, self._n_of_lanes().tolist(), strict=True)
        ]

    def _n_of_lanes(self) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """How many of the frames that were made are a stream's: the first ones."""
        return np.array([lane.n_frames if lane.is_over else self._n_made for lane in self._lanes])

    def _go_on(self, n_frames: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Take n frames of each stream: what is corrected and what is made now, both (B, m hop); none at the start."""
        mel = np.tile(silent_frames(n_frames, self._config.mel), (len(self._lanes), 1, 1))  # (B, n, M)
        for own, lane in zip(mel, self._lanes, strict=True):
            if len(lane.waiting):
                own[:], lane.waiting = lane.waiting[:n_frames], lane.waiting[n_frames:]
        ready = self._front_end.push(self._placed(mel))
        if ready is None:
            return []
        inputs, linear = ready
        first, n_made = self._n_made, linear.shape[1]
        self._n_made += n_made
        is_valid = np.arange(first, first + n_made) < self._n_of_lanes()[:, None]  # (B, n)
        valid = self._placed(is_valid.astype(np.float32))
        if is_valid.any():
            raw = self._generated(inputs, valid)
        else:
            raw = linear.new_zeros(len(self._lanes), n_made * self._config.mel.hop_samples)
        return [(self._corrections.push(raw, linear, valid), raw)]

    def _generated(self, inputs: FrameInputs, valid: torch.Tensor) -> torch.Tensor:
        """The network's audio (B, n hop); 0 in frames where `valid` (B, n), 0 or 1, says that the stream has none."""
        n_frames, hop = valid.shape[1], self._config.mel.hop_samples
        row = self._placed(self._random.random(n_frames * hop, np.float32))
        inputs.uniforms = row.view(1, n_frames, hop).expand(len(self._lanes), -1, -1)
        audio = self._loop.run(self._state, inputs, self._sampling)
        return audio.view(len(self._lanes), n_frames, hop).mul(valid[..., None]).flatten(1)

    def _placed(self, array: "np.ndarray[Any, Any]") -> torch.Tensor:
        """An array on the device, whose work is not waited for: from other memory it would be."""
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)
