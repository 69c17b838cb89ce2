"""All that a GPU does, checked and timed in at most five minutes: python benchmarks/gpu.py [DATASET] [--json FILE].

Parts: the machine; batches made on the device against the CPU's, bit for bit; the GRU's kernels against cuDNN, in
result and time; training steps with and without kernels and graphs; the `train` command with its loader; synthesis.
Without a dataset one is made of the clips in samples/. What fails is told, and the rest goes on; the exit code
is 1 then. Parts that time does not allow are left out by name;
`--only synthesis` leaves out what has no such name. With --rehearse it runs on a CPU, small, to test itself.
"""

import argparse
import contextlib
import functools
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import gpu_synthesis
import soundfile
import torch
from torch import Tensor

from gru_audio.config import CONTEXT_FRAMES, Config, load_config
from gru_audio.data.dataset import Dataset
from gru_audio.data.prepare import prepare
from gru_audio.network import model, triton_ready
from gru_audio.network.gpu.choice import choose
from gru_audio.training.batches.batch import Batch
from gru_audio.training.batches.crops import CropSource
from gru_audio.training.batches.on_device import BatchMaker, why_not
from gru_audio.training.learner import Learner
from gru_audio.training.replay import Replay, recorder
from gru_audio.training.run import train

SAMPLES = Path(__file__).parent.parent / "samples"
PLAIN = ("train.stages=[]", "model.recurrent_density=[1.0, 1.0, 1.0]", "train.free_running_every=0")
VOICE = ("voice-16k", (*PLAIN, "train.batch_size=128", "train.crop_samples=1600"))
UNIVERSAL = ("universal-16k", ("train.free_running_every=0",))
Cases = tuple[tuple[str, tuple[str, ...]], ...]
CASES: Cases = (
    VOICE,
    UNIVERSAL,
    ("universal-16k", ("train.precision=fp16", "train.free_running_every=0")),
    ("universal-16k", ("train.batch_size=128", "model.samples_per_step=2", "train.free_running_every=0")),
)
SMALL: Cases = (("tiny", ("train.steps=20", "train.batch_size=2", "train.crop_samples=400")),)
ROUNDS = {False: 10, True: 2}  # of a training step, in a rehearsal
LARGEST_LOSS_DIFFERENCE = 0.02  # nats, between cuDNN's and the kernels' steps in low precision


class Figures(dict[str, Any]):
    """A part's figures, told as they come."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        print(f"   {key}: {value}", flush=True)


class Report:
    """Lines as they come, and all figures at the end."""

    def __init__(self, seconds: float, only: str) -> None:
        self.figures: dict[str, Figures] = {}
        self.failed: list[str] = []
        self._began, self._seconds, self._only = time.perf_counter(), seconds, only

    def part(self, name: str, needed_s: float, work: Callable[[Figures], None]) -> None:
        """A part's figures, which it fills in; what it raises is told."""
        if self._only not in name:
            return
        elapsed = time.perf_counter() - self._began
        if self._seconds - elapsed < needed_s:
            print(f"== {name}: left out, {self._seconds - elapsed:.0f} s are left", flush=True)
            return
        print(f"== {name} [{elapsed:.0f} s]", flush=True)
        figures = Figures()
        try:
            work(figures)
        except Exception:  # whatever: the rest is worth knowing
            self.failed.append(name)
            traceback.print_exc(file=sys.stdout)
        self.figures[name] = figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, nargs="?", help="made with the default mel contract")
    parser.add_argument("--json", type=Path, help="where all figures go")
    parser.add_argument("--seconds", type=float, default=285)
    parser.add_argument(
        "--only", default="", metavar="NAME", help="parts whose names have this, as synthesis"
    )
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, small")
    arguments = parser.parse_args()
    device = torch.device("cpu" if arguments.rehearse else "cuda")
    report = Report(arguments.seconds, arguments.only)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        print(f"   {machine(device)}", flush=True)
        training_parts(report, work, arguments.dataset, device, arguments.rehearse)
        synthesis_parts(report, work, device, arguments.rehearse)
    if arguments.json:
        arguments.json.write_text(json.dumps({"figures": report.figures, "failed": report.failed}, indent=1))
    print(f"failed: {', '.join(report.failed) or 'nothing'}")
    sys.exit(bool(report.failed))


def training_parts(report: Report, work: Path, given: Path | None, device: torch.device, small: bool) -> None:
    cases = SMALL if small else CASES

    @functools.cache
    def dataset() -> Dataset:
        return Dataset.open(given or made_dataset(work))

    for name, sets in cases[:2]:
        report.part(f"batches, {name}", 0, partial(batches, dataset, load_config(name, sets), device))
    for n_batch, size in () if small else ((128, 384), (64, 896), (256, 512)):
        report.part(f"GRU, {n_batch} streams of {size}", 0, partial(gru, n_batch, size, device))
    for name, sets in cases:
        config = load_config(name, sets)
        report.part(
            f"training, {name} {' '.join(sets)}", 20, partial(training, dataset, config, device, small)
        )
    for name, sets in cases[:2]:
        run = partial(command, dataset, work / f"run-{name}", name, sets, device, small)
        report.part(f"train command, {name}", 25, run)


def synthesis_parts(report: Report, work: Path, device: torch.device, small: bool) -> None:
    if not small:
        report.part("synthesis, kernel", 40, partial(gpu_synthesis.kernel, device))
    for n in (1,) if small else (1, 64):
        streams = partial(gpu_synthesis.streams, device, n, 0.1 if small else 4.0)
        report.part(f"synthesis, {n} streams", 10, streams)
    n_clips, seconds = (2, 0.1) if small else (1024, 5.0)
    folder = partial(gpu_synthesis.folder, work / "clips", device, n_clips, seconds)
    report.part(f"synthesis, a folder of {n_clips} clips", 1 if small else 70, folder)
    if not small:
        report.part("synthesis, bench command", 40, partial(gpu_synthesis.bench_command, device))
    same = partial(gpu_synthesis.same_samples, device, 2 if small else 16, 0.2 if small else 2.0)
    report.part("synthesis, samples against the float32 engine", 15, same)


def machine(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, a rehearsal"
    return {"device": name, "torch": torch.__version__, "Triton": triton_ready.why_not(device) or "ready"}


def made_dataset(work: Path) -> Path:
    clips = work / "audio"
    for index, path in enumerate(sorted(SAMPLES.glob("*.flac"))):
        audio, rate_hz = soundfile.read(path, dtype="float32")
        (clips / f"speaker{index % 4}").mkdir(parents=True, exist_ok=True)
        soundfile.write(clips / f"speaker{index % 4}" / f"{path.stem}.wav", audio, rate_hz)
    config = load_config("tiny", ["prep.valid_fraction=0.2"])
    prepare([clips], work / "dataset", config, jobs=1, licence="see samples/", source_note="samples/")
    return work / "dataset"


def batches(dataset: Callable[[], Dataset], config: Config, device: torch.device, found: Figures) -> None:
    """Of the device against the CPU's: every number equal, and what each side takes."""
    source = CropSource(dataset(), config, "train", CONTEXT_FRAMES)
    began = time.perf_counter()
    expected = source.batch(1)
    cpu_s = time.perf_counter() - began
    began = time.perf_counter()
    raw = source.raw_batch(1)
    raw_s = time.perf_counter() - began
    n_samples = expected.target.size
    found["the CPU's way feeds, a process"] = f"{n_samples / cpu_s / 1e6:.2f} M samples/s"
    found["audio alone"] = f"{n_samples / raw_s / 1e6:.2f} M samples/s"
    if reason := why_not(config, source, device):
        assert device.type == "cpu", reason
        found["on the device"] = f"not made: {reason}"
        return
    maker = BatchMaker(config, CONTEXT_FRAMES, device)
    parts = [torch.from_numpy(part).to(device) for part in raw]
    made = maker.batch(parts)
    names = ("mel", "lags", "target", "history", "previous_signal", "prediction")
    for name, ours, theirs in zip(names, made, expected, strict=True):
        differing = float((ours.cpu().numpy() != theirs).mean())
        found[f"{name} that differ"] = f"{differing:.3%}"
        assert differing == 0, f"{name}: {differing:.3%} differ"
    milliseconds = timed(lambda: maker.batch(parts), device, 10)
    speed = n_samples / milliseconds / 1e3
    found["on the device"] = f"{milliseconds:.2f} ms a batch, {speed:.2f} M samples/s"


def gru(n_batch: int, size: int, device: torch.device, found: Figures) -> None:
    choice = choose(n_batch, size, torch.bfloat16, device)
    found["way"], found["refused"] = str(choice.way or "cuDNN"), choice.refused
    found["ms of 100 steps"] = {name: round(number, 2) for name, number in choice.milliseconds.items()}


def training(
    dataset: Callable[[], Dataset], config: Config, device: torch.device, small: bool, found: Figures
) -> None:
    """Steps by cuDNN, by the kernels, and by the kernels in a graph: the same losses, and what each takes."""
    source = CropSource(dataset(), config, "train", CONTEXT_FRAMES)
    taken: list[Batch[Tensor]] = [source.batch(step).to(device) for step in range(4)]
    losses = {}
    for side in ("cuDNN", "kernels", "kernels, graph"):
        learner = Learner(config, device, source)
        learner.replay = Replay(recorder(device) if "graph" in side else None, "training steps", print)
        with (
            mock.patch.object(model, "way_of", lambda *_: None)
            if side == "cuDNN"
            else contextlib.nullcontext()
        ):
            followed = []
            for step in range(2 if small else 8):
                followed.append(float(learner.train_step(taken[step % len(taken)])[0].nats))

            def step_once(learner: Learner = learner) -> None:
                learner.train_step(taken[0])

            milliseconds = timed(step_once, device, ROUNDS[small])
        losses[side] = followed
        n_samples = taken[0].target.numel()
        found[side] = f"{milliseconds:.2f} ms a step, {n_samples / milliseconds / 1e3:.2f} M samples/s"
        del learner
    if device.type == "cuda":
        found["peak"] = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    found["losses"] = {side: [round(value, 4) for value in values] for side, values in losses.items()}
    for side, values in losses.items():
        distance = max(abs(a - b) for a, b in zip(values, losses["cuDNN"], strict=True))
        assert distance < LARGEST_LOSS_DIFFERENCE, f"{side}: {distance:.3f} nats from cuDNN's"


def command(
    dataset: Callable[[], Dataset],
    run: Path,
    name: str,
    sets: tuple[str, ...],
    device: torch.device,
    small: bool,
    found: Figures,
) -> None:
    """What the `train` command does, loader included; the first figures, which compile, are left out."""
    n_steps = 20 if small else 300
    plan = (f"train.steps={n_steps}", f"train.log_every={n_steps // 10}", "train.valid_every=100000")
    config = load_config(name, [*sets, *plan, "train.valid_crops=4", f"train.workers={0 if small else 4}"])
    result = train(dataset().path, run, config, device=str(device), tell=print)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["samples_per_s"] for line in lines if line["group"] == "train"][2:]
    found["samples/s"] = f"{statistics.median(speeds) / 1e6:.2f} M"
    found["bits"] = round(result.last_bits, 3)


def timed(work: Callable[[], object], device: torch.device, n: int) -> float:
    """Milliseconds of a call: the mean of some, after three."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        work()
    wait()
    began = time.perf_counter()
    for _ in range(n):
        work()
    wait()
    return (time.perf_counter() - began) / n * 1e3


if __name__ == "__main__":
    main()
