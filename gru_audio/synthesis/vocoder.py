"""The vocoder that users hold: a voice, an engine, and mels in, audio out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray
from gru_audio.config import CONTEXT_FRAMES, Config, MelConfig
from gru_audio.errors import CheckpointError
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.signal.audio import check_audio, resample
from gru_audio.signal.mel import check_mel, log_mel, silent_frames
from gru_audio.synthesis.correction import check_corrections, correct, default_corrections
from gru_audio.synthesis.engines import make_engine
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.frontend import ConditioningWeights, FrameBlock, FrontEnd
from gru_audio.synthesis.sampling import Sampling, VoiceSampling
from gru_audio.synthesis.stream import ReadyVoice, Stream
from gru_audio.voice.bundled import DEFAULT_VOICE
from gru_audio.voice.voice import Voice, load_voice

_FRAMES_AT_ONCE = 128  # between two reports of progress, and two looks at Ctrl-C
_SLOW_FRAMES_AT_ONCE = 16


class Vocoder:
    """Turns log-mel spectrograms into audio with one voice.

    Attributes:
        lookahead_frames: frames that `stream` waits for before it gives a frame's audio.
    """

    def __init__(
        self,
        voice: Voice,
        engine: str = "auto",
        device: str = "auto",
        corrections: int | None = None,
    ) -> None:
        """Fold the voice's weights for an engine.

        Args:
            voice: see `load_voice`.
            engine: a name in `synthesis.engines.ENGINES`, or `"auto"`.
            device: of the torch engine.
            corrections: rounds of the spectral correction, which needs lookahead. None takes
                `correction.default_corrections`.

        Raises:
            ConfigError: no such engine, or it cannot run this voice; or the contract's windows are too short for
                corrections.
            CheckpointError: the voice's tensors do not fit its config.
        """
        network = fold(voice)
        weights = ConditioningWeights(voice, network)
        own = VoiceSampling.of(voice.metadata)
        self.engine_name, self._engine = make_engine(engine, network, device, own.voiced)
        n_rounds = default_corrections(voice.config.mel) if corrections is None else corrections
        self.lookahead_frames = CONTEXT_FRAMES + check_corrections(voice.config.mel, n_rounds)
        self._ready = ReadyVoice(voice, weights, self._engine, n_rounds, own.temperature)

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        return self.mel_config.sample_rate_hz

    @property
    def config(self) -> Config:
        """All settings that the voice was trained with."""
        return self._ready.voice.config

    @property
    def mel_config(self) -> MelConfig:
        """The contract that mels must keep."""
        return self._ready.voice.config.mel

    @property
    def temperature(self) -> float:
        """Of the draws, where none is asked for: what the voice was found to sound best with."""
        return self._ready.temperature

    @property
    def batches(self) -> bool:
        """Whether several mels at once cost the engine less than one after the other."""
        return self._engine.in_step

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Where the voice comes from: dataset, speakers, licence, steps, metrics."""
        return self._ready.voice.metadata

    def mel(self, audio: npt.ArrayLike, sample_rate: int) -> FloatArray:
        """The mel of audio, as this voice wants it.

        Args:
            audio: (n,) float with full scale 1, or int16.
            sample_rate: of the audio, in Hz; another rate than the voice's is resampled.

        Returns:
            (n_frames, n_mels) float32; the audio is padded with zeros to a whole number of hops.

        Raises:
            AudioError: not one channel of finite samples.
        """
        samples = resample(check_audio(audio), sample_rate, self.sample_rate)
        return log_mel(np.pad(samples, (0, -samples.size % self.mel_config.hop_samples)), self.mel_config)

    def synthesize(
        self,
        mel: npt.ArrayLike,
        *,
        seed: int = 0,
        temperature: float | None = None,
        tail_cut: float = 0.0,
        progress: ProgressCallback = ignore_progress,
    ) -> FloatArray:
        """Generate the audio of a whole mel.

        Args:
            mel: (n_frames, n_mels) under `mel_config`; (1, F, M) and (M, F) are turned.
            seed: the same seed gives the same samples.
            temperature: below 1 less noisy, above 1 more; see `distribution.probabilities`. None: the voice's own.
            tail_cut: choices less likely than this are never made.
            progress: called every few frames; done and total are in frames.

        Returns:
            (n_frames * hop,) float32, full scale 1. It may go beyond: whoever writes it clips.

        Raises:
            MelError: the mel does not fit.
            ConfigError: a setting is out of range.
        """
        frames = check_mel(mel, self.mel_config)
        step = _SLOW_FRAMES_AT_ONCE if self.batches else _FRAMES_AT_ONCE
        chunks = (frames[first : first + step] for first in range(0, len(frames), step))
        hop, parts, done = self.mel_config.hop_samples, [np.zeros(0, np.float32)], 0
        for part in self.stream(chunks, seed=seed, temperature=temperature, tail_cut=tail_cut):
            parts.append(part)
            done += part.size // hop
            progress(Progress(done, len(frames)))
        return np.concatenate(parts)

    def synthesize_batch(
        self,
        mels: Sequence[npt.ArrayLike],
        *,
        seed: int = 0,
        temperature: float | None = None,
        tail_cut: float = 0.0,
        progress: ProgressCallback = ignore_progress,
    ) -> list[FloatArray]:
        """Generate the audio of several mels, each as `synthesize` would, but for rounding in the torch engine.

        That engine goes through them in step, with shorter ones padded. For arguments and errors see `synthesize`.
        """
        sampling = Sampling(seed, temperature, tail_cut)
        if not self.batches:
            return self._one_by_one(mels, sampling, progress)
        checked = [check_mel(mel, self.mel_config, f"mel {i}") for i, mel in enumerate(mels)]
        longest, hop = max(map(len, checked), default=0), self.mel_config.hop_samples
        if not longest:
            return [np.zeros(0, np.float32) for _ in checked]
        blocks = [self._whole_block(mel, longest) for mel in checked]
        draws = np.stack(
            [np.random.default_rng(sampling.seed).random(longest * hop, np.float32) for _ in checked]
        )
        state, parts = self._engine.start(len(checked)), []
        temperature = self.temperature if sampling.temperature is None else sampling.temperature
        for first in range(0, longest, _SLOW_FRAMES_AT_ONCE):
            last = min(first + _SLOW_FRAMES_AT_ONCE, longest)
            part = [block[first:last] for block in blocks]
            uniforms = draws[:, first * hop : last * hop]
            parts.append(self._engine.generate(state, part, uniforms, temperature, sampling.tail_cut))
            progress(Progress(last, longest))
        audio = np.concatenate(parts, 1)
        n_rounds = self._ready.n_corrections
        return [
            correct(row[: len(mel) * hop], mel, self.mel_config, n_rounds)
            for row, mel in zip(audio, checked, strict=True)
        ]

    def stream(
        self,
        frames: Iterable[npt.ArrayLike],
        *,
        seed: int = 0,
        temperature: float | None = None,
        tail_cut: float = 0.0,
    ) -> Iterator[FloatArray]:
        """Generate audio as mel frames come; any chunking gives the same samples.

        Args:
            frames: arrays (k, n_mels) with any k, in order.
            seed: see `synthesize`, as for the other settings.
            temperature: see `synthesize`.
            tail_cut: see `synthesize`.

        Yields:
            (k * hop,) float32 for each k frames whose `lookahead_frames` have come, and the rest at the end.

        Raises:
            MelError: a chunk does not fit.
            ConfigError: a setting is out of range.
        """
        stream = self.start(seed=seed, temperature=temperature, tail_cut=tail_cut)
        for chunk in frames:
            audio = stream.push(chunk)
            if audio.size:
                yield audio
        if stream.n_frames:
            yield stream.finish()

    def start(self, *, seed: int = 0, temperature: float | None = None, tail_cut: float = 0.0) -> Stream:
        """Start a stream that is pushed frames by hand, and can be saved between two pushes.

        Streams of one vocoder go on independently, each in any thread.

        Raises:
            ConfigError: a setting is out of range.
        """
        return Stream(self._ready, Sampling(seed, temperature, tail_cut))

    def restore(self, saved: Mapping[str, npt.ArrayLike]) -> Stream:
        """Take up a stream where it was saved; it goes on bit for bit on the compiled engine that it was saved from.

        Args:
            saved: what `Stream.save` gave, perhaps through np.savez or safetensors.

        Raises:
            ConfigError: it is of another voice, or an array is missing, unknown, or of another shape or type.
        """
        return Stream.restore(self._ready, saved)

    def _one_by_one(
        self, mels: Sequence[npt.ArrayLike], sampling: Sampling, progress: ProgressCallback
    ) -> list[FloatArray]:
        checked = [check_mel(mel, self.mel_config, f"mel {i}") for i, mel in enumerate(mels)]
        n_frames, n_done, audio = sum(map(len, checked)), 0, list[FloatArray]()
        for mel in checked:

            def report(inner: Progress, before: int = n_done) -> None:
                progress(Progress(before + inner.done, n_frames))

            audio.append(self.synthesize(mel, **asdict(sampling), progress=report))
            n_done += len(mel)
        return audio

    def _whole_block(self, mel: FloatArray, n_frames: int) -> FrameBlock:
        """The block of a whole mel, with silence up to `n_frames`."""
        padding = silent_frames(n_frames - len(mel) + CONTEXT_FRAMES, self.mel_config)
        return FrontEnd(self._ready.weights).push(np.concatenate([mel, padding]))


def load(
    voice: str | Path = DEFAULT_VOICE,
    engine: str = "auto",
    device: str = "auto",
    corrections: int | None = None,
) -> Vocoder:
    """Load a voice.

    Args:
        voice: a bundled voice's name, a voice file, or a run's folder.
        engine: a name in `synthesis.engines.ENGINES`, or `"auto"`.
        device: of the torch engine: `"auto"`, `"cpu"`, `"cuda"`, …
        corrections: rounds of the spectral correction, which makes the audio keep to its mel; 0 for the least
            lookahead, by default 3, or 0 where the voice's windows are too short for any.

    Raises:
        CheckpointError: not a voice, or a damaged one.
        ConfigError: no such engine or device.
    """
    loaded = load_voice(voice)
    try:
        return Vocoder(loaded, engine, device, corrections)
    except CheckpointError as error:
        raise CheckpointError(f"{voice}: {error}") from error
