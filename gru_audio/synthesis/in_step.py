"""Several streams of one voice that an engine takes on together, each with frames and an end of its own.

Each keeps no more than the frames that it was pushed last, so that memory does not grow with the length. A stream that
has ended goes on with another's frames, unheard, until all have: an engine that goes in step has one number of streams.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from gru_audio.arrays import FloatArray, Made
from gru_audio.progress import Progress, ProgressCallback
from gru_audio.signal.mel import MelFrames
from gru_audio.synthesis.correction import Corrections
from gru_audio.synthesis.frontend import FrameBlock, FrontEnd
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.stream import ReadyVoice, chunks_of, require_finite

_LANES_FOR_THREADS = 16


class _Lane:
    """One of the streams: what it waits with, and what it goes on from."""

    def __init__(self, ready: ReadyVoice, seed: int) -> None:
        self.front_end, self.random = FrontEnd(ready.weights), np.random.default_rng(seed)
        self.corrections = Corrections(ready.voice.config.mel, ready.n_corrections)
        self.waiting: FrameBlock | None = None
        self.has_begun = self.has_ended = False

    def uniforms(self, n_samples: int) -> FloatArray:
        """Of its next samples (n_samples,); of none once it is over."""
        if self.waiting is None:
            return np.zeros(n_samples, np.float32)
        return self.random.random(n_samples, np.float32)

    def go_on(self, raw: FloatArray, n_frames: int) -> FloatArray:
        """Drop the frames that the raw audio was made of; the audio that is corrected now."""
        assert self.waiting is not None
        made = self.corrections.push(raw, self.waiting.linear[:n_frames])
        self.waiting = self.waiting[n_frames:] if len(self.waiting) > n_frames else None
        if self.has_ended and self.waiting is None:
            made = np.concatenate([made, self.corrections.finish()])
        return made


class InStep(Protocol):
    """Streams numbered from 0: push or end each that is not waiting, then `launch`, until all have ended."""

    def is_waiting(self, number: int) -> bool:
        """Whether a stream has frames to go on with; without, it must be pushed or ended before `launch`."""

    def push(self, number: int, frames: MelFrames) -> None:
        """Give a stream that is not waiting its next frames, checked."""

    def end(self, number: int) -> None:
        """Say that a stream that is not waiting has no more frames."""

    def give_up(self, number: int) -> None:
        """End a stream, whatever it waits with."""

    def launch(self) -> Callable[[], Sequence[Made]]:
        """Go on by as many frames as all streams have that are not over.

        A device works from now on, and streams that no longer wait can be pushed or ended meanwhile; a CPU works when
        the result is asked for.

        Returns:
            Waits for the end and gives of each stream what the network made now and what is corrected now; full scale
            1, and not looked at. Both are empty where it is over.
        """


def streams_in_step(ready: ReadyVoice, n_streams: int, sampling: Sampling) -> InStep:
    """Streams of a voice, all with the same seed: on its engine's device, or by the CPU but for the sample loop."""
    on_device: InStep | None = ready.engine.in_step(ready, n_streams, sampling)
    return on_device or StreamsInStep(ready, n_streams, sampling)


class StreamsInStep:
    """Streams whose front end and correction are the CPU's; see `InStep`."""

    def __init__(self, ready: ReadyVoice, n_streams: int, sampling: Sampling) -> None:
        """Begin them, all with the same seed."""
        self._engine, self._hop = ready.engine, ready.voice.config.mel.hop_samples
        self._state, self._lanes = (
            ready.engine.start(n_streams),
            [_Lane(ready, sampling.seed) for _ in range(n_streams)],
        )
        self._sampling = sampling

    def is_waiting(self, number: int) -> bool:
        """See `InStep`."""
        return self._lanes[number].waiting is not None

    def push(self, number: int, frames: MelFrames) -> None:
        """See `InStep`."""
        lane = self._lanes[number]
        if len(frames.stored):
            lane.has_begun = True
            lane.waiting = lane.front_end.push(*frames) or None

    def end(self, number: int) -> None:
        """See `InStep`."""
        lane = self._lanes[number]
        lane.has_ended = True
        lane.waiting = (lane.front_end.finish() or None) if lane.has_begun else None

    def give_up(self, number: int) -> None:
        """See `InStep`."""
        self._lanes[number].has_ended, self._lanes[number].waiting = True, None

    def run(self) -> Sequence[Made]:
        """What `launch` gives is this."""
        blocks = [lane.waiting for lane in self._lanes if lane.waiting is not None]
        if not blocks:
            return [Made.joined([])] * len(self._lanes)
        n_frames, filler = min(map(len, blocks)), blocks[0]
        uniforms = np.stack([lane.uniforms(n_frames * self._hop) for lane in self._lanes])
        taken = [(lane.waiting or filler)[:n_frames] for lane in self._lanes]
        audio = self._engine.generate(self._state, taken, uniforms, self._sampling)

        def go_on(lane: _Lane, raw: FloatArray) -> Made:
            return Made.joined([]) if lane.waiting is None else Made(lane.go_on(raw, n_frames), raw)

        if len(self._lanes) < _LANES_FOR_THREADS:
            return [go_on(lane, raw) for lane, raw in zip(self._lanes, audio, strict=True)]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor() as pool:  # the correction is C, which lets go of the interpreter
            return list(pool.map(go_on, self._lanes, audio))

    def launch(self) -> Callable[[], Sequence[Made]]:
        """See `InStep`."""
        return self.run


def drain_in_step(
    streams: InStep, mels: Sequence[MelFrames], hop_samples: int, report: Callable[[int], None]
) -> list[Made]:
    """What new streams make of whole mels, one each; `report` is told how many frames of the longest are done."""
    waiting, parts = [chunks_of(mel)[::-1] for mel in mels], [list[Made]() for _ in mels]
    ended, n_done = set[int](), 0
    while True:
        for number, chunks in enumerate(waiting):
            while number not in ended and not streams.is_waiting(number):
                if chunks:
                    streams.push(number, chunks.pop())
                else:
                    streams.end(number)
                    ended.add(number)
        if not any(map(streams.is_waiting, range(len(mels)))):
            return [Made.joined(pieces) for pieces in parts]
        made = streams.launch()()
        for pieces, piece in zip(parts, made, strict=True):
            pieces.append(piece)
        n_done += max(piece.raw.size for piece in made) // hop_samples
        report(n_done)


def make_together(
    ready: ReadyVoice, mels: Sequence[MelFrames], sampling: Sampling, progress: ProgressCallback
) -> list[Made]:
    """The audio of whole mels, as many together as the engine takes at once.

    Raises:
        AudioError: the voice made NaN or infinite samples.
    """
    n_at_once, hop = ready.engine.streams_at_once, ready.voice.config.mel.hop_samples
    groups = [mels[first : first + n_at_once] for first in range(0, len(mels), n_at_once)]
    lengths = [max(len(mel.stored) for mel in group) for group in groups]
    n_frames, n_before, all_made = sum(lengths), 0, list[Made]()
    for group, length in zip(groups, lengths, strict=True):

        def report(n_done: int, before: int = n_before) -> None:
            progress(Progress(before + n_done, n_frames))

        for made in drain_in_step(streams_in_step(ready, len(group), sampling), group, hop, report):
            for audio in made:
                require_finite(audio, 0, hop)
            all_made.append(made)
        n_before += length
    return all_made
