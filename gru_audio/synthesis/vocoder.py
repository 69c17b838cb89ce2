"""The vocoder that users hold: a voice, an engine, and mels in, audio out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gru_audio.arrays import FloatArray, Made, require_several
from gru_audio.config import CONTEXT_FRAMES, Config, MelConfig, load_mel_config
from gru_audio.errors import CheckpointError
from gru_audio.progress import ProgressCallback, ignore_progress
from gru_audio.signal.audio import check_audio, resample
from gru_audio.signal.mel import MelFrames, check_mel, log_mel, silent_frames
from gru_audio.signal.mel_adapt.fitting import Fitting, fit_mel
from gru_audio.synthesis.correction import check_corrections, default_corrections
from gru_audio.synthesis.engines import choose_engine, make_engine
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.frontend import ConditioningWeights
from gru_audio.synthesis.in_step import InStep, make_together, streams_in_step
from gru_audio.synthesis.sampling import PLAIN_SAMPLING, Sampling, VoiceSampling
from gru_audio.synthesis.stream import ReadyVoice, Stream, drain
from gru_audio.voice.bundled import DEFAULT_VOICE
from gru_audio.voice.voice import Voice, load_voice


class Vocoder:
    """Turns log-mel spectrograms into audio with one voice.

    Attributes:
        engine: runs the sample loop; see `synthesis.engine.Engine`.
        lookahead_frames: frames that `stream` waits for before it gives a frame's audio.
        engine_name: of the engine that was taken.
        engine_reason: why `"auto"` took it, as a clause; empty where it was asked for.
        ready: the voice, made ready for the engine: what streams share.
    """

    def __init__(
        self,
        voice: Voice,
        engine: str = "auto",
        device: str = "auto",
        corrections: int | None = None,
        n_clips: int = 1,
    ) -> None:
        """Fold the voice's weights for an engine.

        Args:
            voice: see `load_voice`.
            engine: a name in `synthesis.engines.ENGINES`, or `"auto"`.
            device: of the torch engine.
            corrections: rounds of the spectral correction, which needs lookahead. None takes
                `correction.default_corrections`.
            n_clips: about how many are to be made together; the engine `"auto"` hangs on it.

        Raises:
            ConfigError: no such engine, or it cannot run this voice; or the contract's windows are too short for
                corrections.
            CheckpointError: the voice's tensors do not fit its config.
        """
        engine, device = str(engine), str(device)  # such as a torch.device
        network = fold(voice)
        weights = ConditioningWeights(voice, network)
        own = VoiceSampling.of(voice.metadata)
        self.engine_reason = ""
        if engine == "auto":
            engine, self.engine_reason = choose_engine(voice.config, device, n_clips)
        self.engine_name, self.engine = make_engine(engine, network, device, own)
        n_rounds = default_corrections(voice.config.mel) if corrections is None else corrections
        self.lookahead_frames = CONTEXT_FRAMES + check_corrections(voice.config.mel, n_rounds)
        self.ready = ReadyVoice(voice, weights, self.engine, n_rounds)
        self._device = device

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, also in another process, is made anew of the voice: what an engine holds are addresses."""
        made_of = self.voice, self.engine_name, self._device, self.ready.n_corrections
        return type(self), made_of, {"engine_reason": self.engine_reason}

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        return self.mel_config.sample_rate_hz

    @property
    def voice(self) -> Voice:
        """Its weights, settings and provenance."""
        return self.ready.voice

    @property
    def config(self) -> Config:
        """All settings that the voice was trained with."""
        return self.voice.config

    @property
    def mel_config(self) -> MelConfig:
        """The contract that mels must keep."""
        return self.voice.config.mel

    @property
    def temperature(self) -> float:
        """Of the draws, where none is asked for: what the voice was found to sound best with."""
        return self.engine.own.temperature

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Where the voice comes from: dataset, speakers, licence, steps, metrics."""
        return self.voice.metadata

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

    def adapt(self, mel: npt.ArrayLike, contract: MelConfig | str, sharpen: float = 0.0) -> FloatArray:
        """Another tool's mel as this voice wants it: converted exactly where that can be, else interpolated.

        Args:
            mel: (F, M) or (M, F) under `contract`.
            contract: one of `gru_audio.config.MEL_PRESETS`, such as `"hifigan-22k"`; or as `load_mel_config` has it.
            sharpen: how much it is sharpened, where it is too smooth, from 0 to 3.

        Returns:
            (F', M') float32, for `synthesize`. Where the frames are centred, those of the voice are not, and nothing
            had to be interpolated, all audio comes half a hop late.

        Raises:
            ConfigError: no such contract.
            MelError: not a mel of it.
        """
        given = self._contract(contract)
        return fit_mel(check_mel(mel, given), Fitting(given, self.mel_config, adapt=True, sharpen=sharpen))

    def adapt_stream(
        self, frames: Iterable[npt.ArrayLike], contract: MelConfig | str, sharpen: float = 0.0
    ) -> Iterator[FloatArray]:
        """The same of frames as they come, for `stream`; two of them are waited for, and any cutting gives the same.

        Args:
            frames: pieces (k, M).
            contract: see `adapt`.
            sharpen: see `adapt`.

        Returns:
            Pieces (k', M') float32, together what `adapt` gives.

        Raises:
            ConfigError: no such contract.
            MelError: not a mel of it.
        """
        given = self._contract(contract)
        fitting = Fitting(given, self.mel_config, adapt=True, sharpen=sharpen)

        def fitted() -> Iterator[FloatArray]:
            for piece in frames:
                yield fitting.push(check_mel(piece, given))
            yield fitting.finish()

        return fitted()

    def _contract(self, contract: MelConfig | str) -> MelConfig:
        return contract if isinstance(contract, MelConfig) else load_mel_config(contract, self.mel_config)

    def check(self, mel: npt.ArrayLike, name: str = "mel") -> None:
        """Check that a mel is what this voice wants: its levels and its bands' profile; see docs/mels.md.

        A voice that has not been trained wants nothing.

        Raises:
            MelError: it does not fit, is stored in another way, or cannot be speech; `name` begins the message.
        """
        self.judged(check_mel(mel, self.mel_config, name), name)

    def judged(self, mel: FloatArray, name: str = "mel") -> MelFrames:
        """A whole mel (F, M) that `check_mel` has seen, once it is what this voice wants; see `check`."""
        return self.ready.judge.require(mel, name) if self.ready.judge else MelFrames(mel)

    def synthesize(
        self,
        mel: npt.ArrayLike,
        sampling: Sampling = PLAIN_SAMPLING,
        *,
        seed: int | None = None,
        check: bool = True,
        progress: ProgressCallback = ignore_progress,
    ) -> FloatArray:
        """Generate the audio of a whole mel.

        Args:
            mel: (n_frames, n_mels) under `mel_config`; (1, F, M) and (M, F) are turned.
            sampling: how codes are drawn.
            seed: in place of the sampling's, 0 by default; the same seed gives the same samples.
            check: refuse a mel that is stored in another way than the voice wants, or cannot be speech; see `check`.
                False takes it as it is.
            progress: called every few frames; done and total are in frames.

        Returns:
            (n_frames * hop,) float32, full scale 1. It may go beyond: whoever writes it clips.

        Raises:
            MelError: the mel does not fit, or is not what the voice wants.
            ConfigError: a setting is out of range.
        """
        checked, stream = check_mel(mel, self.mel_config), self.start(sampling, seed=seed, check=False)
        return drain(stream, self.judged(checked) if check else MelFrames(checked), progress)

    def synthesize_batch(
        self,
        mels: Sequence[npt.ArrayLike],
        sampling: Sampling = PLAIN_SAMPLING,
        *,
        seed: int | None = None,
        check: bool = True,
        progress: ProgressCallback = ignore_progress,
    ) -> list[FloatArray]:
        """Generate the audio of several mels, each as `synthesize` would, but for rounding in the torch engine.

        That engine goes through several in step, with shorter ones padded. For arguments and errors see `synthesize`.
        """
        checked = self._checked(mels)
        if check:
            checked = [self.judged(mel.stored, f"mel {i}") for i, mel in enumerate(checked)]
        return [
            made.audio
            for made in make_together(self.ready, checked, Sampling.chosen(sampling, seed), progress)
        ]

    def synthesize_both(
        self,
        mels: Sequence[npt.ArrayLike],
        sampling: Sampling = PLAIN_SAMPLING,
        *,
        seed: int | None = None,
        progress: ProgressCallback = ignore_progress,
    ) -> list[Made]:
        """The audio of several mels as `synthesize_batch` makes it, and before the correction; they are not judged."""
        return make_together(self.ready, self._checked(mels), Sampling.chosen(sampling, seed), progress)

    def _checked(self, mels: Sequence[npt.ArrayLike]) -> list[MelFrames]:
        require_several("mels", mels)
        return [MelFrames(check_mel(mel, self.mel_config, f"mel {i}")) for i, mel in enumerate(mels)]

    def stream(
        self,
        frames: Iterable[npt.ArrayLike],
        sampling: Sampling = PLAIN_SAMPLING,
        *,
        seed: int | None = None,
        check: bool = True,
    ) -> Iterator[FloatArray]:
        """Generate audio as mel frames come; any chunking gives the same samples.

        Args:
            frames: arrays (k, n_mels) with any k, in order.
            sampling: see `synthesize`.
            seed: see `synthesize`.
            check: see `synthesize`; a stream is looked at as its frames come, and told after 60 frames at the earliest
                what its levels alone do not tell.

        Yields:
            (k * hop,) float32 for each k frames whose `lookahead_frames` have come, and the rest at the end.

        Raises:
            MelError: a chunk does not fit, or the mel so far is not what the voice wants.
            ConfigError: a setting is out of range.
        """
        require_several("frames", frames)
        stream = self.start(sampling, seed=seed, check=check)
        for chunk in frames:
            audio = stream.push(chunk)
            if audio.size:
                yield audio
        if stream.n_frames:
            yield stream.finish()

    def start(
        self, sampling: Sampling = PLAIN_SAMPLING, *, seed: int | None = None, check: bool = True
    ) -> Stream:
        """Start a stream that is pushed frames by hand, and can be saved between two pushes.

        Streams of one vocoder go on independently, each in any thread.

        Raises:
            ConfigError: a setting is out of range.
        """
        return Stream(self.ready, Sampling.chosen(sampling, seed), check)

    def warm_up(self) -> None:
        """Generate a few frames of silence and forget them, so that a stream's first audio is not late.

        The first frames fill caches and touch memory for the first time, which takes as long as one or two more.
        """
        stream = self.start(check=False)
        stream.push(silent_frames(self.lookahead_frames + 2, self.mel_config))

    def restore(self, saved: Mapping[str, npt.ArrayLike], *, check: bool = True) -> Stream:
        """Take up a stream where it was saved; it goes on bit for bit on the compiled engine that it was saved from.

        Args:
            saved: what `Stream.save` gave, perhaps through np.savez or safetensors.
            check: see `synthesize`; what came before is not looked at again.

        Raises:
            ConfigError: it is of another voice, or an array is missing, unknown, or of another shape or type.
        """
        return Stream.restore(self.ready, saved, check)

    def start_in_step(
        self, n_streams: int, sampling: Sampling = PLAIN_SAMPLING, *, seed: int | None = None
    ) -> InStep:
        """Start streams that the engine goes on with together; their mels are taken as they are.

        Raises:
            ConfigError: a setting is out of range.
        """
        return streams_in_step(self.ready, n_streams, Sampling.chosen(sampling, seed))


def load(
    voice: str | Path = DEFAULT_VOICE,
    engine: str = "auto",
    device: str = "auto",
    corrections: int | None = None,
    n_clips: int = 1,
) -> Vocoder:
    """Load a voice.

    Args:
        voice: a bundled voice's name, a voice file, or a run's folder.
        engine: a name in `synthesis.engines.ENGINES`, or `"auto"`.
        device: of the torch engine: `"auto"`, `"cpu"`, `"cuda"`, …
        corrections: rounds of the spectral correction, which makes the audio keep to its mel; 0 for the least
            lookahead; for the default see `correction.default_corrections`.
        n_clips: about how many are to be made together; the engine `"auto"` hangs on it.

    Raises:
        CheckpointError: not a voice, or a damaged one.
        ConfigError: no such engine or device.
    """
    loaded = load_voice(voice)
    try:
        return Vocoder(loaded, engine, device, corrections, n_clips)
    except CheckpointError as error:
        raise CheckpointError(f"{voice}: {error}") from error
