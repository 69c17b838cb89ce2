"""Synthesis between pipes: bare mel frames or 16-bit samples in as they come, audio out at once.

What comes in has no header. Mels are frames of n_mels float32 values, PCM is signed 16-bit samples of one
channel at the voice's rate, both little-endian; what goes out is such PCM.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.config import MelConfig
from gru_audio.errors import AudioError, GruAudioError, MelError
from gru_audio.signal.audio import from_int16
from gru_audio.signal.audio_file.kinds import HEAD_BYTES, kind_of
from gru_audio.signal.audio_file.writing import finite_int16, open_writer
from gru_audio.signal.mel import MelFrames
from gru_audio.signal.mel_adapt.fitting import Fitting
from gru_audio.synthesis.feeding import AudioFrames, Feed, drain
from gru_audio.synthesis.jobs.plan import Job, Result
from gru_audio.synthesis.sampling import Sampling
from gru_audio.synthesis.vocoder import Vocoder

Content = Literal["mel", "pcm"]
"""What the bytes that come in are."""

_FRAMES_AT_ONCE = 16  # read at most, so that input that is far ahead does not hold back the first audio
_PCM_HEAD_BYTES = 1_500  # the analysis waits for more than so many
# Samples that are read as float32 have values beyond these; values that are read as samples would all be within the
# next two, of which samples keep no dozen in a row.
_LEAST_IN_MEL, _LARGEST_IN_MEL = 1e-30, 1e4
_LEAST_AS_FLOAT, _LARGEST_AS_FLOAT, _FLOATS_TO_BELIEVE = 1e-7, 32.0, 24
_VALUES_TO_BELIEVE = 16


def synthesize_pipe(
    vocoder: Vocoder,
    content: Content,
    output: Path | None,
    *,
    sampling: Sampling,
    contract: MelConfig | None = None,
    adapt: bool = False,
    sharpen: float = 0.0,
    check: bool = True,
    tell: Callable[[str], None] = lambda _: None,
    source: int = 0,
    target: int = 1,
) -> Result:
    """Read a pipe to its end, and write the audio of what has come so far as soon as it can be had.

    What is wrong with the input in its midst is told in the result, with the audio up to there written.

    Args:
        vocoder: the voice and engine.
        content: what comes in.
        output: a file to write, which stands at its place at the end, instead of `target`.
        sampling: how codes are drawn.
        contract: of the mel frames; None for the voice's own.
        adapt: interpolate what of the contract cannot be converted.
        sharpen: how much mel frames are sharpened; see `mel_adapt.sharpening`.
        check: refuse mel frames that are not what the voice wants; see `Vocoder.check`.
        tell: is given, before anything is read, what the user should know of what is lost.
        source: the descriptor to read from, stdin by default.
        target: the descriptor to write to, stdout by default.

    Raises:
        MelError: the contract cannot be converted to the voice's, or nothing that came in can be used.
        AudioError: nothing came in, or nothing that did can be used.
        OutputError: the file cannot be written.
        OSError: `target` cannot be written; BrokenPipeError where its reader has left.
    """
    given = contract or vocoder.mel_config
    frame_bytes = 4 * given.n_mels if content == "mel" else 2 * vocoder.mel_config.hop_samples
    pieces = _read_pieces(source, _FRAMES_AT_ONCE * frame_bytes)
    error, rate_hz = None, vocoder.sample_rate
    with _PcmWriter(target, rate_hz) if output is None else open_writer(output, rate_hz) as writer:
        try:
            for audio in synthesize_pieces(
                vocoder,
                pieces,
                content,
                sampling,
                contract,
                adapt=adapt,
                sharpen=sharpen,
                check=check,
                tell=tell,
            ):
                writer.write(audio)
        except (AudioError, MelError) as caught:
            if not writer.n_samples:
                raise
            error = str(caught)
        if not writer.n_samples:
            what = "mel frames" if content == "mel" else "samples"
            raise AudioError(f"stdin: nothing came in; pipe {what} in")
    job = Job(Path("-"), output or Path("-"))
    return Result(job, writer.n_samples / rate_hz, writer.n_clipped, error)


class _PcmWriter:
    """A descriptor that audio is written to as bare PCM; it has what an `AudioWriter` has."""

    def __init__(self, target: int, sample_rate_hz: int) -> None:
        self.n_samples = self.n_clipped = 0
        self._target, self._rate_hz = target, sample_rate_hz

    def __enter__(self) -> "_PcmWriter":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, audio: FloatArray) -> None:
        pcm, n_clipped = finite_int16(audio, self.n_samples, self._rate_hz, "stdout")
        self.n_samples, self.n_clipped = self.n_samples + pcm.size, self.n_clipped + n_clipped
        _write_all(self._target, pcm.astype("<i2").tobytes())


def synthesize_pieces(
    vocoder: Vocoder,
    pieces: Iterable[bytes],
    content: Content,
    sampling: Sampling,
    contract: MelConfig | None = None,
    *,
    adapt: bool = False,
    sharpen: float = 0.0,
    check: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[FloatArray]:
    """The audio of bytes that come in pieces cut anywhere; for arguments see `synthesize_pipe`.

    Yields:
        (n,) float32 with n > 0, full scale 1: together what the whole gives at once, as long as the audio that came
        in or n_frames * hop.

    Raises:
        MelError: a frame that is not finite, or a cut one at the end; the audio up to there has then been given.
        AudioError: half a sample at the end, likewise; or the pieces begin as a file with a header does.
    """
    source: _Source = _PcmSource(vocoder)
    if content == "mel":
        wanted = vocoder.mel_config
        fitting = Fitting(contract or wanted, wanted, "stdin", adapt=adapt, sharpen=sharpen)
        for text in fitting.notes:
            tell(text)
        source = _MelSource(fitting)
    frames = _frames(source, _refuse_files(pieces, content, source.head_bytes))
    stream = vocoder.start(sampling, check=check and content == "mel")
    yield from drain(
        stream, Feed(map(MelFrames, frames), None, source.lead_samples, lambda: source.n_samples)
    )
    if source.error:
        raise source.error


def _frames(source: "_Source", pieces: Iterable[bytes]) -> Iterator[FloatArray]:
    """The mel frames of bytes that come in pieces cut anywhere, up to what is wrong in them."""
    waiting = b""
    for piece in pieces:
        waiting += piece
        n_whole = len(waiting) // source.item_bytes * source.item_bytes
        yield from source.push(waiting[:n_whole])
        waiting = waiting[n_whole:]
        if source.error:
            break
    yield from source.finish()
    if waiting and not source.error:
        source.error = source.cut(len(waiting))


class _Source(Protocol):
    """Turns whole items of bytes into mel frames.

    Attributes:
        item_bytes: of a mel frame or a sample.
        head_bytes: how many of the first tell what comes in, before any audio can be had.
        lead_samples: how far before the audio that is wanted the stretch of the first frame begins.
        n_samples: how long the audio of all items so far shall be.
        error: why the items after those taken cannot be used.
    """

    item_bytes: int
    head_bytes: int
    lead_samples: int
    error: GruAudioError | None

    @property
    def n_samples(self) -> int: ...

    def push(self, items: bytes) -> Iterator[FloatArray]:
        """The frames (k, M) that are complete now."""

    def finish(self) -> Iterator[FloatArray]:
        """The last frames (k, M)."""

    def cut(self, n_bytes: int) -> GruAudioError:
        """The error of an end so many bytes into an item."""


class _MelSource:
    """Frames as they stand, brought to the voice's contract."""

    def __init__(self, fitting: Fitting) -> None:
        self._fitting, self._n_mels = fitting, fitting.given.n_mels
        self.lead_samples = self._fitting.lead_samples
        self.item_bytes = self.head_bytes = 4 * self._n_mels
        self._n_frames = 0
        self.error: GruAudioError | None = None

    @property
    def n_samples(self) -> int:
        return self._fitting.n_samples(self._n_frames)

    def push(self, items: bytes) -> Iterator[FloatArray]:
        frames = np.frombuffer(items, "<f4").astype(np.float32).reshape(-1, self._n_mels)
        finite = np.isfinite(frames).all(axis=1)
        if not finite.all():
            frames = frames[: np.argmin(finite)]
            self.error = MelError(
                f"stdin: mel frame {self._n_frames + len(frames)} has NaN or infinite values; the audio ends before "
                f"it, pipe in {self._n_mels} finite float32 values a frame"
            )
        self._n_frames += len(frames)
        yield self._fitting.push(frames)

    def finish(self) -> Iterator[FloatArray]:
        yield self._fitting.finish()

    def cut(self, n_bytes: int) -> GruAudioError:
        return MelError(
            f"stdin: ends with {n_bytes} byte{'s' if n_bytes > 1 else ''} of a mel frame's {self.item_bytes} "
            f"({self._n_mels} float32 values); pipe in whole frames"
        )


class _PcmSource:
    """The mel of samples."""

    item_bytes = 2

    def __init__(self, vocoder: Vocoder) -> None:
        config = vocoder.mel_config
        self._frames = AudioFrames(config, config.sample_rate_hz)
        self.lead_samples, self.head_bytes = config.lead_samples, min(_PCM_HEAD_BYTES, 6 * config.hop_samples)
        self.error: GruAudioError | None = None

    @property
    def n_samples(self) -> int:
        return self._frames.n_samples

    def push(self, items: bytes) -> Iterator[FloatArray]:
        return self._frames.push(from_int16(np.frombuffer(items, "<i2").astype(np.int16)))

    def finish(self) -> Iterator[FloatArray]:
        return self._frames.finish()

    def cut(self, n_bytes: int) -> GruAudioError:
        return AudioError(
            f"stdin: ends with {n_bytes} byte of a sample's {self.item_bytes}; pipe in signed 16-bit samples"
        )


def _refuse_files(pieces: Iterable[bytes], content: Content, head_bytes: int) -> Iterator[bytes]:
    """The pieces, unless they begin as what is surely no mel frames or samples does."""
    pieces, head = iter(pieces), b""
    while len(head) < head_bytes and (piece := next(pieces, b"")):
        head += piece
    if kind := kind_of(head[:HEAD_BYTES]):
        raise AudioError(
            f"stdin: a file ({kind}), not frames or samples without a header; name the file instead of -, or "
            "strip its header (ffmpeg -i FILE -f s16le -ac 1 -ar RATE -)"
        )
    values = np.frombuffer(head[: min(len(head), head_bytes) // 4 * 4], "<f4")
    with np.errstate(invalid="ignore"):
        sizes = np.abs(values[values != 0])
        wild = sizes[(sizes > _LARGEST_IN_MEL) | (sizes < _LEAST_IN_MEL)]
        floats = sizes.size >= _FLOATS_TO_BELIEVE and bool(
            ((sizes > _LEAST_AS_FLOAT) & (sizes < _LARGEST_AS_FLOAT)).all()
        )
    if content == "mel" and wild.size:
        raise MelError(
            f"stdin: the first frame has a value of {wild[0]:.3g}, which no mel has; pipe in little-endian float32 "
            "values, or add --stdin pcm for 16-bit samples"
        )
    low, high = values[::2], values[1::2]  # of a round number in float64 the first half is 0
    if content == "mel" and values.size >= _VALUES_TO_BELIEVE and high.all() and not low.any():
        raise MelError(
            "stdin: every other value of the first frame is 0, as if they were float64; pipe in little-endian float32"
        )
    if content == "pcm" and floats:
        raise AudioError(
            "stdin: float32 values, not signed 16-bit samples; add --stdin mel for mel frames, or convert "
            "samples (ffmpeg -f f32le -ar RATE -i - -f s16le -)"
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
