"""How fast an engine generates: one stream on one core, one on each core at once, many streams; and its stages."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np

from gru_audio.arrays import FloatArray
from gru_audio.bench.cases import Case
from gru_audio.bench.limits import Limits
from gru_audio.bench.stages import Int8Stages
from gru_audio.bench.turns import Speed, Task, frames_a_turn
from gru_audio.bench.work import Bound, Work, bound_of, work_of
from gru_audio.config import CONTEXT_FRAMES
from gru_audio.signal.mel import silent_frames
from gru_audio.synthesis.correction import correct
from gru_audio.synthesis.engines import make_engine
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.frontend import ConditioningWeights, FrontEnd, whole_block
from gru_audio.synthesis.vocoder import Vocoder
from gru_audio.voice.voice import Voice

N_STREAMS = 8
"""Clips of the figure for many streams."""

_ONE, _EACH_CORE, _MANY, _MOST = "one stream", "a stream on each core", "many streams", "most streams"
_CORRECTION = "correction"
_STAGE = "stage "


@dataclass(frozen=True)
class SynthesisSpeed:
    """The speed of one case with one engine, without the spectral correction that a vocoder adds by default.

    Attributes:
        case: its name.
        engine: its name.
        sample_rate_hz: of its audio.
        one_stream: one stream on one core.
        each_core: a stream on each core at the same time, together; None for an engine whose streams go in step.
        times_one_stream: how much faster that is than one stream; the number of cores at best.
        many_streams: `N_STREAMS` clips over all cores, or in step.
        most_streams: as many clips as a GPU takes at once; None on a CPU.
        n_most: how many these are.
        stages: µs a sample of each stage of the one stream. What they leave of it is the "rest"; where the int8
            loop overlaps its stages, they take more than the stream, and "overlap and rest" is negative.
        correction: µs a sample that the default rounds of the correction take on top of that.
        work: what a sample needs.
        bound: the least time that this takes on a core; None on a GPU.
    """

    case: str
    engine: str
    sample_rate_hz: int
    one_stream: Speed
    each_core: Speed | None
    times_one_stream: float | None
    many_streams: Speed
    most_streams: Speed | None
    n_most: int
    stages: dict[str, float]
    correction: float
    work: Work
    bound: Bound | None


class Subject:
    """A case with an engine, ready to be timed."""

    def __init__(self, case: Case, voice: Voice, engine: str, seconds: float, device: str = "cpu") -> None:
        """Compile, and find out how much audio makes a turn; see `frames_a_turn`.

        Args:
            case: what is timed.
            voice: of its sizes.
            engine: its name.
            seconds: of a turn.
            device: of the engine torch; the others run on the CPU.

        Raises:
            ConfigError: no such engine, or it cannot run this case.
        """
        self.case, self.voice, self.engine = case, voice, engine
        self.name, self._device = f"{case.name}, {engine}", device if engine == "torch" else "cpu"
        self._vocoder, self._mel_config = Vocoder(voice, engine, self._device, corrections=0), case.config.mel
        n_frames = frames_a_turn(
            lambda n: self._synthesize(self._made_up_mel(n)), self._mel_config.sample_rate_hz, seconds
        )
        self._mel = self._made_up_mel(n_frames)

    def tasks(self, pool: Executor, n_cores: int) -> list[Task]:
        """All that is timed of it; `pool` has a thread for each core."""
        runs: dict[str, Callable[[], int]] = {_ONE: lambda: self._synthesize(self._mel)}
        if self._vocoder.engine.streams_at_once > 1:
            runs[_MANY] = partial(self._synthesize_in_step, N_STREAMS)
            if self._device != "cpu":
                runs[_MOST] = partial(self._synthesize_in_step, self._vocoder.engine.streams_at_once)
        else:
            n_frames = -(-len(self._mel) * n_cores // N_STREAMS)  # a turn takes as long as one stream's
            clip = self._mel[:n_frames]
            runs[_EACH_CORE] = lambda: sum(pool.map(self._synthesize, [self._mel] * n_cores))
            runs[_MANY] = lambda: sum(pool.map(self._synthesize, [clip] * N_STREAMS))
        runs[_CORRECTION] = self._correct
        runs |= {_STAGE + name: run for name, run in self._stages().items()}
        return [Task(self.name, figure, run) for figure, run in runs.items()]

    def result(self, speeds: Mapping[tuple[str, str], float], limits: Limits) -> SynthesisSpeed:
        """What `take_turns` found, beside what the machine's limits allow."""
        figures = {figure: speed for (subject, figure), speed in speeds.items() if subject == self.name}
        rate, work = self._mel_config.sample_rate_hz, work_of(self.voice, self.engine)
        one, each_core, most = Speed.of(figures[_ONE], rate), figures.get(_EACH_CORE), figures.get(_MOST)
        stages = {
            figure.removeprefix(_STAGE): 1e6 / speed
            for figure, speed in figures.items()
            if figure.startswith(_STAGE)
        }
        rest = "overlap and rest" if self.engine == "int8" else "rest"
        stages[rest] = one.us_per_sample - sum(stages.values())
        return SynthesisSpeed(
            case=self.case.name,
            engine=self.engine,
            sample_rate_hz=rate,
            one_stream=one,
            each_core=None if each_core is None else Speed.of(each_core, rate),
            times_one_stream=None if each_core is None else each_core / one.samples_per_s,
            many_streams=Speed.of(figures[_MANY], rate),
            most_streams=None if most is None else Speed.of(most, rate),
            n_most=0 if most is None else self._vocoder.engine.streams_at_once,
            stages=stages,
            correction=1e6 / figures[_CORRECTION],
            work=work,
            bound=bound_of(work, self.engine, limits) if self._device == "cpu" else None,
        )

    def _stages(self) -> dict[str, Callable[[], int]]:
        """What a stream does, part by part on ready inputs."""
        network, n_samples = fold(self.voice), len(self._mel) * self._mel_config.hop_samples
        weights = ConditioningWeights(self.voice, network)
        front_end, lookahead = FrontEnd(weights), silent_frames(CONTEXT_FRAMES, self._mel_config)
        front_end.push(lookahead)

        def run_front_end() -> int:
            return len(front_end.push(self._mel)) * self._mel_config.hop_samples

        def draw() -> int:
            return np.random.default_rng(0).random((1, n_samples), np.float32).size

        runs: dict[str, Callable[[], int]] = {"front end": run_front_end, "random numbers": draw}
        if self.engine == "int8":
            return runs | Int8Stages(network, n_samples).runs()
        _, engine = make_engine(self.engine, network, self._device)
        block = whole_block(weights, self._mel)
        uniforms = np.random.default_rng(0).random((1, n_samples), np.float32)

        def run_sample_loop() -> int:
            return engine.generate(engine.start(1), [block], uniforms).size

        return runs | {"sample loop": run_sample_loop}

    def _made_up_mel(self, n_frames: int) -> FloatArray:
        """(n_frames, M), noise about as loud as speech."""
        rng = np.random.default_rng(0)
        return rng.normal(-5, 2, (n_frames, self._mel_config.n_mels)).astype(np.float32)

    def _correct(self) -> int:
        audio = np.random.default_rng(0).normal(0, 0.1, len(self._mel) * self._mel_config.hop_samples)
        return correct(audio.astype(np.float32), self._mel, self._mel_config).size

    def _synthesize(self, mel: FloatArray) -> int:
        return self._vocoder.synthesize(mel, check=False).size

    def _synthesize_in_step(self, n_streams: int) -> int:
        return sum(
            audio.size for audio in self._vocoder.synthesize_batch([self._mel] * n_streams, check=False)
        )
