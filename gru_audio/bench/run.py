"""A whole run of the benchmark."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from gru_audio.bench.cases import Case, random_voice
from gru_audio.bench.limits import Limits, measure_limits
from gru_audio.bench.machine import Machine, this_machine
from gru_audio.bench.peers import Peer, PeerSpeed, find_peers
from gru_audio.bench.synthesis import Subject, SynthesisSpeed
from gru_audio.bench.training import TrainingSpeed, TrainingSubject
from gru_audio.bench.turns import Speed, Task, take_turns
from gru_audio.network.device import choose_device
from gru_audio.progress import Progress, ProgressCallback, ignore_progress
from gru_audio.synthesis.engines import choose_engine

_LONGEST_STEP = 4  # times the seconds of a turn; a training step that would take longer gets fewer crops


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    Attributes:
        cases: networks; see `find_cases`.
        engines: names; see `find_engines`.
        seconds: of audio in a turn of a figure, or of time where an engine is slower than real time.
        turns: how often each figure is taken.
        training: whether to time training steps.
        peers: whether to time other vocoders.
        device: where the engine torch runs, and training; a name of torch's.
    """

    cases: Sequence[Case]
    engines: Sequence[str]
    seconds: float = 1.0
    turns: int = 5
    training: bool = True
    peers: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        machine: on what.
        device: where the engine torch ran, and training: `"cpu"`, or a GPU's name.
        limits: of one core.
        engine_choice: for each case by name, the engine that `auto` stands for on the CPU, and why.
        synthesis: for each case and engine.
        training: for each case that is meant to be trained.
        peers: for each that is installed.
        missing_peers: packages that are not.
    """

    machine: Machine
    device: str
    limits: Limits
    engine_choice: dict[str, str]
    synthesis: tuple[SynthesisSpeed, ...]
    training: tuple[TrainingSpeed, ...]
    peers: tuple[PeerSpeed, ...]
    missing_peers: tuple[str, ...]


def run_bench(plan: BenchPlan, progress: ProgressCallback = ignore_progress) -> Report:
    """Measure; everything takes turns on the same machine, so that the figures can be compared.

    For figures of one core, OMP_NUM_THREADS must have been 1 when numpy was imported.

    Args:
        plan: what to measure.
        progress: done and total are in timings, once these begin.

    Raises:
        ConfigError: an engine cannot run one of the cases, or there is no such device.
    """
    device = choose_device(plan.device)
    machine, threads = this_machine(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        subjects = _subjects(plan, progress)
        trainees = _trainees(plan, progress)
        peers, missing = find_peers() if plan.peers else (list[Peer](), list[str]())
        limits = measure_limits()
        with ThreadPoolExecutor(machine.cores) as pool:
            tasks: list[Task] = [task for subject in subjects for task in subject.tasks(pool, machine.cores)]
            tasks += [trainee.task() for trainee in trainees]
            tasks += [peer.task(plan.seconds) for peer in peers]
            speeds = take_turns(tasks, plan.turns, progress)
    finally:
        torch.set_num_threads(threads)
    return Report(
        machine,
        torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        limits,
        {case.name: ", ".join(choose_engine(case.config, "cpu")) for case in plan.cases},
        tuple(subject.result(speeds, limits) for subject in subjects),
        tuple(trainee.result(speeds) for trainee in trainees),
        tuple(_peer_speed(peer, speeds) for peer in peers),
        tuple(missing),
    )


def _subjects(plan: BenchPlan, progress: ProgressCallback) -> list[Subject]:
    subjects = []
    for case in plan.cases:
        voice = random_voice(case.config)
        for engine in plan.engines:
            progress(Progress(0, 1, {"preparing": f"{case.name}, {engine}"}))
            subjects.append(Subject(case, voice, engine, plan.seconds, plan.device))
    return subjects


def _trainees(plan: BenchPlan, progress: ProgressCallback) -> list[TrainingSubject]:
    trainees = []
    for case in plan.cases:
        if plan.training and case.trains:
            progress(Progress(0, 1, {"preparing": f"training {case.name}"}))
            trainees.append(TrainingSubject(case, _LONGEST_STEP * plan.seconds, plan.device))
    return trainees


def _peer_speed(peer: Peer, speeds: Mapping[tuple[str, str], float]) -> PeerSpeed:
    speed = Speed.of(speeds[peer.name, "one stream"], peer.sample_rate_hz)
    return PeerSpeed(peer.name, peer.sample_rate_hz, speed)
