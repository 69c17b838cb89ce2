"""What a stream is fed with as it comes: bare mel frames, or audio of any rate, of which the mel is computed here."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.signal.audio import ResampleStream
from gru_audio.signal.audio_file.reading import AudioStream
from gru_audio.signal.mel import MelFrames
from gru_audio.signal.mel_stream import MelStream
from gru_audio.synthesis.stream import Stream

FRAMES_AT_ONCE = 128
"""Between two looks at Ctrl-C, and two reports of progress."""


@dataclass(frozen=True)
class Feed:
    """Mel frames for a stream, and which of its samples are wanted.

    Attributes:
        frames: in turn, finite and under the voice's contract.
        n_frames: how many there will be; None where that is not known.
        lead_samples: how many of the first samples are not wanted.
        n_samples: how many are wanted after these; to be asked when all frames have come.
    """

    frames: Iterator[MelFrames]
    n_frames: int | None
    lead_samples: int
    n_samples: Callable[[], int]


class AudioFrames:
    """The mel frames of audio that comes in blocks: bit for bit what `Vocoder.mel` gives of the whole.

    Attributes:
        lead_samples: how far before the audio the stretch of the first frame begins.
        n_samples: how long the audio so far is at the contract's rate.
    """

    def __init__(self, config: MelConfig, sample_rate_hz: int) -> None:
        """Begin audio of some rate.

        Raises:
            AudioError: a rate that no audio has.
        """
        self._config, self._rate_hz = config, sample_rate_hz
        self._analysis, self._resampling = (
            MelStream(config),
            ResampleStream(sample_rate_hz, config.sample_rate_hz),
        )
        self.lead_samples, self._n_given, self._n_resampled = config.lead_samples, 0, 0

    @property
    def n_samples(self) -> int:
        return -(-self._n_given * self._config.sample_rate_hz // self._rate_hz)

    def push(self, audio: FloatArray) -> Iterator[FloatArray]:
        """Take the next audio (n,): the frames (k, M) that are complete now, at most `FRAMES_AT_ONCE` at a time."""
        self._n_given += audio.size
        yield from self._analyse(self._resampling.push(audio))

    def finish(self) -> Iterator[FloatArray]:
        """End the audio: the last frames (k, M)."""
        yield from self._analyse(self._resampling.finish())
        padding = np.zeros(-self._n_resampled % self._config.hop_samples, np.float32)  # as Vocoder.mel pads
        yield np.concatenate([self._analysis.push(padding), self._analysis.finish()])

    def of(self, blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
        """The frames of all blocks."""
        for block in blocks:
            yield from self.push(block)
        yield from self.finish()

    def _analyse(self, samples: FloatArray) -> Iterator[FloatArray]:
        self._n_resampled += samples.size
        step = FRAMES_AT_ONCE * self._config.hop_samples
        for first in range(0, samples.size, step):
            yield self._analysis.push(samples[first : first + step])


def mel_feed(mel: MelFrames, config: MelConfig, lead_samples: int = 0) -> Feed:
    """Of a whole mel under a contract, whose first samples may not be wanted."""
    n_frames = len(mel.stored)
    chunks = (mel.part(slice(first, first + FRAMES_AT_ONCE)) for first in range(0, n_frames, FRAMES_AT_ONCE))
    return Feed(chunks, n_frames, lead_samples, lambda: n_frames * config.hop_samples - lead_samples)


def audio_feed(audio: AudioStream, config: MelConfig) -> Feed:
    """Of a file that is read as it is wanted."""
    frames, n_frames = AudioFrames(config, audio.sample_rate_hz), None
    if audio.n_samples is not None:
        n_frames = -(-audio.n_samples * config.sample_rate_hz // (audio.sample_rate_hz * config.hop_samples))
    return Feed(
        map(MelFrames, frames.of(audio.blocks)), n_frames, frames.lead_samples, lambda: frames.n_samples
    )


class Wanted:
    """Takes of a stream's audio, which comes in pieces, what its feed wants."""

    def __init__(self, feed: Feed) -> None:
        """Before the first piece."""
        self._feed, self._n_given = feed, -feed.lead_samples

    def of(self, audio: FloatArray, *, has_ended: bool) -> FloatArray:
        """What is wanted of the next piece (n,); `has_ended` once all frames have come."""
        first, n_left = max(0, -self._n_given), audio.size
        if has_ended:
            n_left = max(0, self._feed.n_samples() - self._n_given)
        self._n_given += audio.size
        return audio[first:n_left]


def drain(stream: Stream, feed: Feed) -> Iterator[FloatArray]:
    """Feed a new stream to its end.

    Yields:
        (n,) with n > 0, full scale 1.
    """
    wanted = Wanted(feed)
    for mel in feed.frames:
        heard = wanted.of(stream.push_checked(mel), has_ended=False)
        if heard.size:
            yield heard
    heard = wanted.of(stream.finish(), has_ended=True)
    if heard.size:
        yield heard
