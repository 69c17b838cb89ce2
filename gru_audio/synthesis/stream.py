"""One stream of mel frames in and audio out, whose state can be put away and taken up again."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import CONTEXT_FRAMES
from gru_audio.errors import AudioError, CheckpointError, ConfigError, GruAudioError, MelError, first_line
from gru_audio.progress import Progress, ProgressCallback
from gru_audio.signal.mel import MelFrames, check_mel
from gru_audio.signal.mel_check.judge import MelJudge, MelWatch
from gru_audio.synthesis.correction import Corrections
from gru_audio.synthesis.engine import Engine
from gru_audio.synthesis.frontend import ConditioningWeights, FrameBlock, FrontEnd
from gru_audio.synthesis.sampling import Sampling
from gru_audio.voice.tensor_file import Array
from gru_audio.voice.voice import Voice

# What the front end gives next depends on the next frame and so many before it.
_REMEMBERED_FRAMES = 2 * CONTEXT_FRAMES
_ENGINE = "engine."  # begins the names of the engine's arrays
_CORRECTION = "correction."  # those of the correction's
_WORD = (1 << 64) - 1
_FRAMES_AT_ONCE = 64  # between two reports of progress, and two looks at Ctrl-C

_MEND = "restore what Stream.save gave, unchanged"


@dataclass(frozen=True)
class ReadyVoice:
    """A voice made ready for an engine: what all its streams share, in any thread, and none changes.

    Attributes:
        voice: as loaded.
        weights: of the front end.
        engine: that runs the sample loop.
        n_corrections: rounds of the spectral correction after it.
    """

    voice: Voice
    weights: ConditioningWeights
    engine: Engine
    n_corrections: int

    @cached_property
    def judge(self) -> MelJudge | None:
        """Knows what mels the voice wants; None where training has seen none."""
        mean, deviation = self.voice.tensors["mel_mean"], self.voice.tensors["mel_std"]
        if not mean.any() and (deviation == 1).all():
            return None
        return MelJudge(self.voice.config.mel, mean, deviation)

    @cached_property
    def digest(self) -> npt.NDArray[np.uint8]:
        """(32,): the SHA-256 of the config and the weights, by which a saved stream knows its voice."""
        found = hashlib.sha256(self.voice.config.model_dump_json().encode())
        for name, tensor in sorted(self.voice.tensors.items()):
            found.update(name.encode())
            found.update(np.ascontiguousarray(tensor).tobytes())
        return np.frombuffer(found.digest(), np.uint8)


class Stream:
    """Mel frames in, audio out, `Vocoder.lookahead_frames` late; from `Vocoder.start` or `Vocoder.restore`.

    Any chunking of the frames gives the same samples, and so does saving and restoring between two chunks.

    Attributes:
        n_frames: how many have been pushed.
        hop_samples: of audio for each.
    """

    def __init__(self, ready: ReadyVoice, sampling: Sampling, check: bool = True) -> None:
        """Begin a stream; before its first frame there is silence. `check`: see `Vocoder.synthesize`."""
        self.n_frames = 0
        self._watch = MelWatch(ready.judge) if check and ready.judge else None
        self._ready, self._config = ready, ready.voice.config
        self.hop_samples = self._config.mel.hop_samples
        self._front_end, self._state = FrontEnd(ready.weights), ready.engine.start(1)
        self._corrections = Corrections(self._config.mel, ready.n_corrections)
        self._random, self._sampling = np.random.default_rng(sampling.seed), sampling
        self._recent = np.zeros((0, self._config.mel.n_mels), np.float32)  # the last frames pushed
        self._n_generated = 0  # frames
        self._ended, self._turn = False, threading.Lock()

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: what works on a stream holds addresses; `save` gives plain arrays.

        Raises:
            GruAudioError: always.
        """
        raise GruAudioError(
            "a stream can neither be copied nor pickled; take what its save() gives, and restore that with the vocoder"
        )

    def push(self, frames: npt.ArrayLike) -> FloatArray:
        """Take the next frames.

        Args:
            frames: (k, n_mels) under the voice's contract, any k.

        Returns:
            (j * hop,) float32, full scale 1: the audio of the j frames whose lookahead has come now.

        Raises:
            MelError: the frames do not fit, or are not what the voice wants, and nothing was taken; or the stream has
                ended.
            GruAudioError: another thread is at work on the stream.
        """
        return self.push_checked(MelFrames(check_mel(frames, self._config.mel)))

    def push_checked(self, frames: MelFrames) -> FloatArray:
        """Take the next frames, which `check_mel` has seen or whose form is known anyhow; see `push`."""
        with self._alone():
            mel, linear = self._watch.push(frames.stored) if self._watch else frames
            self.n_frames += len(mel)
            self._recent = np.concatenate([self._recent, mel[-_REMEMBERED_FRAMES:]])[-_REMEMBERED_FRAMES:]
            return self._generate(self._front_end.push(mel, linear))

    def finish(self) -> FloatArray:
        """End the stream: the audio of the frames still waiting for their lookahead, with silence after them.

        Raises:
            MelError: the stream has ended before.
        """
        with self._alone():
            self._ended = True
            if not self.n_frames:
                return np.zeros(0, np.float32)
            last = self._generate(self._front_end.finish())
            rest = self._corrections.finish()
            require_finite(rest, self._n_generated - self._corrections.delay, self.hop_samples)
            return np.concatenate([last, rest])

    def save(self) -> dict[str, Array]:
        """All that the stream needs to go on, as plain arrays that np.savez and safetensors can hold.

        Raises:
            MelError: the stream has ended.
        """
        with self._alone():
            return self._saved()

    def _saved(self) -> dict[str, Array]:
        temperature = self._sampling.temperature_of(self._ready.engine.own)
        return {
            "voice": self._ready.digest.copy(),
            "n_frames": np.array([self.n_frames], np.int64),
            "recent_mel": self._recent.copy(),
            "sampling": np.array([temperature, self._sampling.tail_cut]),
            "random": _words_of(self._random),
            "n_corrections": np.array([self._corrections.n_rounds], np.int64),
            **{f"{_CORRECTION}{name}": array for name, array in self._corrections.export_state().items()},
            **{
                f"{_ENGINE}{name}": array
                for name, array in self._ready.engine.export_state(self._state).items()
            },
        }

    @classmethod
    def restore(cls, ready: ReadyVoice, saved: Mapping[str, npt.ArrayLike], check: bool = True) -> "Stream":
        """The stream as it was when it was saved; see `Vocoder.restore`."""
        if not isinstance(saved, Mapping):
            raise ConfigError(
                f"saved stream: {type(saved).__name__}, not a mapping; give what Stream.save gave"
            )
        try:
            config, arrays = ready.voice.config, {name: np.asarray(saved[name]) for name in saved}
        except ValueError as error:
            raise ConfigError(
                f"saved stream: not arrays: {first_line(error)}; give what Stream.save gave"
            ) from error
        if not np.array_equal(_take(arrays, "voice", np.uint8, (32,)), ready.digest):
            raise ConfigError("saved stream: of another voice; load the voice that it was saved with")
        n_saved = int(_take(arrays, "n_corrections", np.int64, (1,))[0])
        if n_saved != ready.n_corrections:
            raise ConfigError(
                f"saved stream: with {n_saved} corrections, not {ready.n_corrections}; load the voice with {n_saved}"
            )
        temperature, tail_cut = _take(arrays, "sampling", np.float64, (2,)).tolist()
        stream = cls(ready, Sampling(0, temperature, tail_cut), check)
        stream.n_frames = int(_take(arrays, "n_frames", np.int64, (1,))[0])
        remembered = (min(_REMEMBERED_FRAMES, stream.n_frames), config.mel.n_mels)
        stream._recent = _take(arrays, "recent_mel", np.float32, remembered)
        stream._front_end.push(stream._recent)  # what comes out was heard before
        stream._n_generated = max(0, stream.n_frames - CONTEXT_FRAMES)
        stream._random.bit_generator.state = _generator_state(_take(arrays, "random", np.uint64, (6,)))
        blank = stream._corrections.export_state()
        stream._corrections.import_state(
            {
                name: _take(arrays, f"{_CORRECTION}{name}", array.dtype.type, array.shape)
                for name, array in blank.items()
            }
        )
        try:
            stream._state = ready.engine.import_state(_engine_arrays(arrays, config.signal.n_classes))
        except CheckpointError as error:
            raise ConfigError(f"saved stream: {error}") from error
        return stream

    def _generate(self, block: FrameBlock) -> FloatArray:
        """The audio that comes out as a block of frames goes in."""
        if not len(block):
            return np.zeros(0, np.float32)
        uniforms = self._random.random((1, len(block) * self.hop_samples), np.float32)
        audio = self._ready.engine.generate(self._state, [block], uniforms, self._sampling)
        first, hop = self._n_generated, self.hop_samples
        self._n_generated += len(block)
        require_finite(audio[0], first, hop)
        corrected = self._corrections.push(audio[0], block.linear)
        require_finite(corrected, max(0, first - self._corrections.delay), hop)
        return corrected

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Work on the stream, as long as it has not ended and no other thread does: its arrays are one thread's."""
        if not self._turn.acquire(blocking=False):
            raise GruAudioError(
                "the stream is at work in another thread; give each thread a stream of its own"
            )
        try:
            if self._ended:
                raise MelError("the stream has ended; start another")
            yield
        finally:
            self._turn.release()


def chunks_of(frames: MelFrames) -> list[MelFrames]:
    """A whole mel in pieces, so that progress can be reported between them."""
    starts = range(0, len(frames.stored), _FRAMES_AT_ONCE)
    return [frames.part(slice(first, first + _FRAMES_AT_ONCE)) for first in starts]


def drain(stream: Stream, frames: MelFrames, progress: ProgressCallback) -> FloatArray:
    """The audio (n_frames * hop,) that a new stream makes of a whole mel; progress is told in frames."""
    parts, n_done, n_frames = [np.zeros(0, np.float32)], 0, len(frames.stored)
    for chunk in chunks_of(frames):
        parts.append(stream.push_checked(chunk))
        n_done += parts[-1].size // stream.hop_samples
        progress(Progress(n_done, n_frames))
    if n_frames:
        parts.append(stream.finish())
        progress(Progress(n_frames, n_frames))
    return np.concatenate(parts)


def require_finite(audio: FloatArray, first_frame: int, hop_samples: int) -> None:
    """Check audio (n,), which begins with a frame.

    Raises:
        AudioError: it has NaN or infinite samples; the message names the frame of the first.
    """
    if not np.isfinite(audio).all():
        frame = first_frame + int(np.argmin(np.isfinite(audio))) // hop_samples
        raise AudioError(
            f"the voice made NaN or infinite samples in frame {frame}; its weights are damaged, or this is a mistake "
            "of this program: try another voice, and report it"
        )


def _words_of(random: np.random.Generator) -> npt.NDArray[np.uint64]:
    """(6,): state and increment of the PCG64 in two words each, and the half of a word that it keeps."""
    state = random.bit_generator.state
    numbers = [state["state"]["state"], state["state"]["inc"]]
    halves = [half for number in numbers for half in (number >> 64, number & _WORD)]
    return np.array([*halves, state["has_uint32"], state["uinteger"]], np.uint64)


def _generator_state(words: Array) -> dict[str, object]:
    state_high, state_low, inc_high, inc_low, has_uint32, uinteger = words.tolist()
    if has_uint32 > 1 or uinteger > _WORD >> 32:
        raise ConfigError(f"saved stream: 'random' is no state of a PCG64; {_MEND}")
    return {
        "bit_generator": "PCG64",
        "state": {"state": state_high << 64 | state_low, "inc": inc_high << 64 | inc_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }


def _take(
    arrays: dict[str, Array], name: str, dtype: type[np.generic], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Take an array out of a saved stream, as a copy."""
    if name not in arrays:
        raise ConfigError(f"saved stream: has no '{name}'; {_MEND}")
    array = arrays.pop(name)
    if array.dtype != dtype or array.shape != shape:
        raise ConfigError(
            f"saved stream: '{name}' is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}; {_MEND}"
        )
    _require_sound(name, array)
    return np.array(array)


def _engine_arrays(arrays: Mapping[str, Array], n_classes: int) -> dict[str, Array]:
    """What is left of a saved stream, which must be the engine's, whose loops read codes without looking."""
    for name, array in arrays.items():
        if not name.startswith(_ENGINE):
            raise ConfigError(f"saved stream: unknown '{name}'; {_MEND}")
        _require_sound(name, array)
        if array.dtype.kind != "f" and not np.isin(array, np.arange(n_classes)).all():
            raise ConfigError(f"saved stream: '{name}' holds a number that is no code; {_MEND}")
    return {name.removeprefix(_ENGINE): array for name, array in arrays.items()}


def _require_sound(name: str, array: Array) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ConfigError(f"saved stream: '{name}' has NaN or infinite values; {_MEND}")
