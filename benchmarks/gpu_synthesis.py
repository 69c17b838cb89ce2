"""Parts of gpu.py: synthesis on a GPU, its kernel and its stages, checked against the CPU's and timed."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import torch

from gru_audio.arrays import FloatArray
from gru_audio.bench.cases import random_voice
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.jobs import batch
from gru_audio.synthesis.jobs.batch import synthesize_files
from gru_audio.synthesis.jobs.plan import plan_jobs
from gru_audio.synthesis.sampling import VoiceSampling
from gru_audio.synthesis.torch_engine import fused
from gru_audio.synthesis.torch_engine.correction import DeviceCorrections
from gru_audio.synthesis.torch_engine.engine import TorchEngine
from gru_audio.synthesis.torch_engine.frontend import DeviceConditioner
from gru_audio.synthesis.torch_engine.fused import FusedLoop, LoopWay
from gru_audio.synthesis.vocoder import load
from gru_audio.voice.bundled import DEFAULT_VOICE
from gru_audio.voice.voice import load_voice

SAMPLES = Path(__file__).parent.parent / "samples"
OTHER_WAYS = (
    LoopWay(16, 64, 64, 4, 8),
    LoopWay(16, 64, 128, 2, 8),
    LoopWay(16, 32, 64, 4, 4),
    LoopWay(32, 64, 64, 3, 8),
)
OTHER_SIZES = (
    (64, 64, 4),
    (512, 64, 1),
    (512, 16, 4),
    (896, 64, 4),
)  # gru_size, readout_size, samples_per_step
OTHER_FEEDS = ((2, 1), (2, 2), (2, 16), (4, 2))  # groups at once, and threads of each
TIMED_STREAMS, TIMED_FRAMES = (1, 64, 1024, 2048), 4


def engine_on(device: torch.device, sizes: tuple[int, int, int] | None = None) -> TorchEngine:
    """The bundled voice's, or one of other sizes with random weights."""
    voice = load_voice(DEFAULT_VOICE)
    own = VoiceSampling.of(voice.metadata)
    if sizes is not None:
        names = ("gru_size", "readout_size", "samples_per_step")
        model = voice.config.model.model_copy(update=dict(zip(names, sizes, strict=True)))
        voice = random_voice(voice.config.model_copy(update={"model": model}))
    return TorchEngine(fold(voice), device, own)


def tried(task: tuple[LoopWay, tuple[int, int, int] | None], device_name: str) -> tuple[float, str | None]:
    """Seconds that a way takes to compile and run for the first time, and why it is refused."""
    way, sizes = task
    with mock.patch.object(TorchEngine, "choice", None):  # which would be tried first
        engine = engine_on(torch.device(device_name), sizes)
    began = time.perf_counter()
    with torch.inference_mode():
        choice = fused.choose(engine.network, engine.own.voiced, engine.start, engine.in_torch_alone, (way,))
    return time.perf_counter() - began, next(iter(choice.refused.values()), None)


Figures = dict[str, Any]


def kernel(device: torch.device, found: Figures) -> None:
    """Each way, and other sizes the first way: compiled in processes of their own, then timed; the engine's choice."""
    ways = (*fused.WAYS, *OTHER_WAYS)
    tasks = [*((way, None) for way in ways), *((ways[0], sizes) for sizes in OTHER_SIZES)]
    with ProcessPoolExecutor(len(tasks), get_context("spawn")) as pool:
        results = list(pool.map(partial(tried, device_name=str(device)), tasks))
    began = time.perf_counter()
    engine = engine_on(device)
    choice = engine.choice
    found["chosen"], found["refused"] = str(choice.loop and choice.loop.way), choice.refused
    found["weights are halves"] = choice.loop is not None and choice.loop.is_exact
    found["loaded and tried again, from the cache"] = f"{time.perf_counter() - began:.1f} s"
    for (way, sizes), (seconds, refused) in zip(tasks, results, strict=True):
        parts = way._asdict() if sizes is None else dict(zip(("H", "R", "S"), sizes, strict=True))
        name, own = ", ".join(f"{key} {value}" for key, value in parts.items()), engine
        if sizes is not None:
            own = engine_on(device, sizes)
        found[name] = f"compiled in {seconds:.0f} s; {refused or steps_of(way, own)}"


def steps_of(way: LoopWay, engine: TorchEngine) -> str:
    """Microseconds of a step for each number of streams."""
    network, parts = engine.network, []
    loop = FusedLoop(network, engine.own.voiced, way)
    for n_streams in TIMED_STREAMS:
        frames, state = fused.trial_frames(network, n_streams, TIMED_FRAMES), engine.start(n_streams)
        with torch.inference_mode():
            loop.run(state, frames, 1.0, 0.0)
            seconds = seconds_of(partial(loop.run, state, frames, 1.0, 0.0))
        n_samples = TIMED_FRAMES * network.config.mel.hop_samples
        speed = n_streams * n_samples / network.config.mel.sample_rate_hz / seconds
        step_us = 1e6 * seconds / n_samples * network.config.model.samples_per_step
        parts.append(f"{n_streams}: {step_us:.1f} us a step, {speed:.0f} x")
    return "; ".join(parts)


def seconds_of(work: Callable[[], object]) -> float:
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def clips(n_clips: int, seconds: float) -> Iterator[tuple[FloatArray, int]]:
    """Speech, each clip another stretch of it."""
    parts = [soundfile.read(path, dtype="float32") for path in sorted(SAMPLES.glob("*.flac"))]
    rate_hz = parts[0][1]
    speech = np.concatenate([audio for audio, rate in parts if rate == rate_hz])
    for index in range(n_clips):
        yield np.take(speech, np.arange(int(seconds * rate_hz)) + 9973 * index, mode="wrap"), rate_hz


def streams(device: torch.device, n_clips: int, seconds: float, found: Figures) -> None:
    """Mels in memory through the vocoder: one as a stream is, several in step."""
    vocoder = load(engine="torch", device=str(device))
    mels = [vocoder.mel(*clip) for clip in clips(n_clips, seconds)]
    work = partial(vocoder.synthesize, mels[0]) if n_clips == 1 else partial(vocoder.synthesize_batch, mels)
    work()
    wall_s = min(seconds_of(work) for _ in range(2))
    found["real time"] = f"{n_clips * seconds / wall_s:.2f} times, {wall_s:.2f} s"
    found["in step by"] = type(vocoder.start_in_step(1)).__name__


def folder(work: Path, device: torch.device, n_clips: int, seconds: float, found: Figures) -> None:
    """A folder through the command, and the same again with its stages timed."""
    (work / "in").mkdir(parents=True)
    for index, (clip, rate_hz) in enumerate(clips(n_clips, seconds)):
        soundfile.write(work / "in" / f"{index:04}.wav", clip, rate_hz)
    for engine, n in (("torch", n_clips), ("int8", min(n_clips, 256))):
        (work / engine).mkdir()
        for path in sorted((work / "in").iterdir())[:n]:
            (work / engine / path.name).hardlink_to(path)
        command = [
            sys.executable,
            "-m",
            "gru_audio",
            "synthesize",
            str(work / engine),
            "-o",
            str(work / "out"),
        ]
        where = str(device) if engine == "torch" else "cpu"
        began = time.perf_counter()
        done = subprocess.run(
            [*command, "--engine", engine, "--device", where, "--quiet", "--json"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:]
        told, wall_s = json.loads(done.stdout), time.perf_counter() - began
        speed = told["audio_s"] / told["wall_s"]
        found[f"{engine}, {n} clips"] = (
            f"{speed:.0f} times real time, {told['wall_s']:.1f} s; the command from start to end {wall_s:.1f} s"
        )
    vocoder, spent = load(engine="torch", device=str(device)), dict[str, float]()
    found["together"] = f"{vocoder.engine.groups_at_once} groups of up to {vocoder.engine.streams_at_once}"

    def seconds_of_all() -> float:
        began = time.perf_counter()
        results = list(synthesize_files(vocoder, plan_jobs([work / "in"], work / "again", ".wav")))
        errors = [result.error for result in results if result.error]
        assert not errors, errors[0]
        return time.perf_counter() - began

    with timed_stages(spent):
        spent["all"] = seconds_of_all()
    for name, value in spent.items():
        found[f"seconds of {name}"] = round(value, 2)
    for groups, threads in OTHER_FEEDS:
        at_once = mock.patch.object(TorchEngine, "groups_at_once", groups)
        with at_once, mock.patch.object(batch, "_THREADS", threads):
            found[f"seconds with {groups} groups, each fed by {threads} threads"] = round(seconds_of_all(), 2)


@contextmanager
def timed_stages(spent: dict[str, float]) -> Iterator[None]:
    """Sums up the seconds of the device's stages, waiting for each."""

    def timed(kind: type, name: str) -> Any:
        method = getattr(kind, name)

        def run(*arguments: Any) -> Any:
            made = []
            key = f"{kind.__name__}.{name}"
            spent[key] = spent.get(key, 0.0) + seconds_of(lambda: made.append(method(*arguments)))
            return made[0]

        return mock.patch.object(kind, name, run)

    with timed(DeviceConditioner, "inputs"), timed(FusedLoop, "run"), timed(DeviceCorrections, "push"):
        yield


def same_samples(device: torch.device, n_clips: int, seconds: float, found: Figures) -> None:
    """Against the float32 engine: how far each clip goes before rounding tips a draw; and corrected audio."""
    ours, reference = load(engine="torch", device=str(device)), load(engine="float32")
    mels = [reference.mel(*clip) for clip in clips(n_clips, seconds)]
    made, expected = (vocoder.synthesize_both(mels) for vocoder in (ours, reference))
    shares, distance = [], 0.0
    for one, other in zip(made, expected, strict=True):
        differs = np.abs(one.raw - other.raw) > 1e-5  # a tipped draw differs by more, rounding by less
        n_same = int(differs.argmax()) if differs.any() else len(differs)
        shares.append(n_same / len(differs))
        kept = max(0, n_same - 2 * reference.mel_config.n_fft)  # what no window reaches that saw a difference
        distance = max(distance, float(np.abs(one.audio - other.audio)[:kept].max(initial=0.0)))
    n_samples = round(np.mean(shares) * seconds * reference.sample_rate)
    found["samples before the first tipped draw"] = f"mean {n_samples}, {np.mean(shares):.1%} of a clip"
    found["clips without any"] = f"{sum(share == 1 for share in shares)} of {n_clips} of {seconds:g} s"
    found["largest distance before it, corrected"] = f"{distance:.1e}"
    assert np.mean(shares) > 0.01, f"{np.mean(shares):.1%}"
    assert distance < 1e-3, distance


def bench_command(device: torch.device, found: Figures) -> None:
    """The table of `gru-audio bench` with a GPU's row."""
    command = [sys.executable, "-m", "gru_audio", "bench", "--device", str(device), "--case", "universal-16k"]
    done = subprocess.run(
        [*command, "--no-training", "--quick", "--quiet"], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    found["says"] = "\n" + done.stdout
