"""Synthesis between pipes: bare mel frames or 16-bit samples in as they come, audio out at once.

What comes in has no header. Mels are frames of n_mels float32 values, PCM is signed 16-bit samples of one
channel at the voice's rate, both little-endian; what goes out is such PCM.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import AudioError, GruAudioError, MelError
from gru_audio.signal.audio import from_int16, to_int16
from gru_audio.signal.audio_file.writing import write_audio
from gru_audio.signal.mel import convert_mel
from gru_audio.signal.mel_stream import MelStream
from gru_audio.synthesis.batch import Job, Result
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.vocoder import Vocoder

Content = Literal["mel", "pcm"]
"""What the bytes that come in are."""

_FRAMES_AT_ONCE = 16  # read at most, so that input that is far ahead does not hold back the first audio
_SIGNATURES = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"\x93NUM": ".npy", b"PK\x03\x04": ".npz"}


def synthesize_pipe(
    vocoder: Vocoder,
    content: Content,
    output: Path | None,
    *,
    sampling: Sampling,
    contract: MelConfig | None = None,
    source: int = 0,
    target: int = 1,
) -> Result:
    """Read a pipe to its end, and write the audio of what has come so far as soon as it can be had.

    What is wrong with the input in its midst is told in the result, with the audio up to there written.

    Args:
        vocoder: the voice and engine.
        content: what comes in.
        output: a file to write at the end, atomically, instead of `target`.
        sampling: how codes are drawn.
        contract: of the mel frames; None for the voice's own.
        source: the descriptor to read from, stdin by default.
        target: the descriptor to write to, stdout by default.

    Raises:
        MelError: the contract cannot be converted to the voice's, or nothing that came in can be used.
        AudioError: nothing that came in can be used.
        OutputError: the file cannot be written.
        OSError: `target` cannot be written; BrokenPipeError where its reader has left.
    """
    pieces = _read_pieces(source, _FRAMES_AT_ONCE * bytes_per_frame(vocoder.mel_config, content))
    parts, n_samples, n_clipped, error = [np.zeros(0, np.float32)], 0, 0, None
    try:
        for audio in synthesize_pieces(vocoder, pieces, content, sampling, contract):
            n_samples += audio.size
            if output is None:
                n_clipped += int(np.count_nonzero(np.abs(audio) > 1.0))
                _write_all(target, to_int16(audio).astype("<i2").tobytes())
            else:
                parts.append(audio)
    except (AudioError, MelError) as caught:
        if not n_samples:
            raise
        error = str(caught)
    if output is not None:
        n_clipped = write_audio(output, np.concatenate(parts), vocoder.sample_rate)
    return Result(Job(Path("-"), output or Path("-")), n_samples / vocoder.sample_rate, n_clipped, error)


def bytes_per_frame(config: MelConfig, content: Content) -> int:
    """How many bytes come in for a frame."""
    return 4 * config.n_mels if content == "mel" else 2 * config.hop_samples


def synthesize_pieces(
    vocoder: Vocoder,
    pieces: Iterable[bytes],
    content: Content,
    sampling: Sampling,
    contract: MelConfig | None = None,
) -> Iterator[FloatArray]:
    """The audio of bytes that come in pieces cut anywhere; for arguments see `synthesize_pipe`.

    Yields:
        (n,) float32 with n > 0, full scale 1: together what the whole gives at once, as long as the audio that came
        in or n_frames * hop.

    Raises:
        MelError: a frame that is not finite, or a cut one at the end; the audio up to there has then been given.
        AudioError: half a sample at the end, likewise; or the pieces begin as a file with a header does.
    """
    source = _MelSource(vocoder, contract) if content == "mel" else _PcmSource(vocoder)
    stream, waiting, n_given = vocoder.start(sampling), b"", -source.lead_samples
    for piece in _refuse_files(pieces):
        waiting += piece
        n_whole = len(waiting) // source.item_bytes * source.item_bytes
        audio = stream.push(source.push(waiting[:n_whole]))
        waiting = waiting[n_whole:]
        heard = audio[max(0, -n_given) :]
        n_given += audio.size
        if heard.size:
            yield heard
        if source.error:
            break
    audio = np.concatenate([stream.push(source.finish()), stream.finish()])
    if max(0, n_given) < source.n_samples:
        yield audio[max(0, -n_given) : source.n_samples - n_given]
    if source.error:
        raise source.error
    if waiting:
        raise source.cut(len(waiting))


class _Source(Protocol):
    """Turns whole items of bytes into mel frames.

    Attributes:
        item_bytes: of a mel frame or a sample.
        lead_samples: how far before the audio that is wanted the stretch of the first frame begins.
        n_samples: how long the audio of all items so far shall be.
        error: why the items after those taken cannot be used.
    """

    item_bytes: int
    lead_samples: int
    n_samples: int
    error: GruAudioError | None

    def push(self, items: bytes) -> FloatArray:
        """The frames (k, M) that are complete now."""

    def finish(self) -> FloatArray:
        """The last frames (k, M)."""

    def cut(self, n_bytes: int) -> GruAudioError:
        """The error of an end so many bytes into an item."""


class _MelSource:
    """Frames as they stand, brought to the voice's contract."""

    lead_samples = 0

    def __init__(self, vocoder: Vocoder, contract: MelConfig | None) -> None:
        self._wanted, self._given = vocoder.mel_config, contract or vocoder.mel_config
        self.item_bytes, self.n_samples = bytes_per_frame(self._given, "mel"), 0
        self.error: GruAudioError | None = None
        self.push(b"")  # a contract that cannot be converted is refused before anything has come

    def push(self, items: bytes) -> FloatArray:
        frames = np.frombuffer(items, "<f4").astype(np.float32).reshape(-1, self._given.n_mels)
        finite = np.isfinite(frames).all(axis=1)
        if not finite.all():
            frames = frames[: np.argmin(finite)]
            number = self.n_samples // self._wanted.hop_samples + len(frames)
            self.error = MelError(
                f"stdin: mel frame {number} has NaN or infinite values; the audio ends before it, "
                f"pipe in {self._given.n_mels} finite float32 values a frame"
            )
        self.n_samples += len(frames) * self._wanted.hop_samples
        return convert_mel(frames, self._given, self._wanted, "stdin")

    def finish(self) -> FloatArray:
        return np.zeros((0, self._wanted.n_mels), np.float32)

    def cut(self, n_bytes: int) -> GruAudioError:
        return MelError(
            f"stdin: ends with {n_bytes} bytes of a mel frame's {self.item_bytes} ({self._given.n_mels} float32 "
            "values); pipe in whole frames"
        )


class _PcmSource:
    """The mel of samples."""

    item_bytes = 2
    error = None

    def __init__(self, vocoder: Vocoder) -> None:
        self._config, self._analysis = vocoder.mel_config, MelStream(vocoder.mel_config)
        self.lead_samples, self.n_samples = vocoder.mel_config.lead_samples, 0

    def push(self, items: bytes) -> FloatArray:
        pcm = np.frombuffer(items, "<i2").astype(np.int16)
        self.n_samples += pcm.size
        return self._analysis.push(from_int16(pcm))

    def finish(self) -> FloatArray:
        padding = np.zeros(-self.n_samples % self._config.hop_samples, np.float32)  # as Vocoder.mel pads
        return np.concatenate([self._analysis.push(padding), self._analysis.finish()])

    def cut(self, n_bytes: int) -> GruAudioError:
        return AudioError(
            f"stdin: ends with {n_bytes} byte of a sample's {self.item_bytes}; pipe in signed 16-bit samples"
        )


def _refuse_files(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, unless they begin as a file does whose header would be taken for mel frames or samples."""
    pieces, head = iter(pieces), b""
    while len(head) < 4 and (piece := next(pieces, b"")):
        head += piece
    kind = _SIGNATURES.get(head[:4])
    if kind:
        raise AudioError(
            f"stdin: a {kind} file, bare frames or samples are needed; name the file instead of -, or strip its "
            "header (ffmpeg -i FILE -f s16le -ac 1 -ar RATE -)"
        )
    yield head
    yield from pieces


def _read_pieces(source: int, n_bytes: int) -> Iterator[bytes]:
    """What has come, at most `n_bytes` at a time, without waiting for more."""
    try:
        while piece := os.read(source, n_bytes):
            yield piece
    except OSError as error:
        raise AudioError(f"stdin: cannot be read: {error.strerror}; pipe something in") from error


def _write_all(target: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]
