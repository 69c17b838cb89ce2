"""Start-up time: of the import, of each command's --help, and of `synthesize`, in processes of their own.

`synthesize` makes 3 s of speech with the bundled voice. The CPU time is what a quiet machine would take, or little
more; the wall time follows the load.

python benchmarks/startup.py [--runs N] [--engine E]...
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

COMMANDS = ("", "prep", "train", "synthesize", "preview", "info", "bench")
CLIP = Path(__file__).parent.parent / "samples" / "ru-nsh-0045.flac"
CLIP_S = 3


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    wall_s: float
    cpu_s: float
    peak_mib: float

    def __str__(self) -> str:
        return f"{self.wall_s:.3f} s wall, {self.cpu_s:.3f} s CPU, {self.peak_mib:.0f} MiB"


def cost_of(arguments: Sequence[str]) -> Cost:
    """Run a Python process; it shows nothing but its errors."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit code {process.returncode}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def median_cost(arguments: Sequence[str], n_runs: int) -> Cost:
    """Each figure's median over `n_runs` runs."""
    costs = [cost_of(arguments) for _ in range(n_runs)]
    return Cost(*(statistics.median(getattr(cost, name) for cost in costs) for name in vars(costs[0])))


def measure_help(n_runs: int) -> None:
    measured = {"python -c pass": ["-c", "pass"], "import gru_audio": ["-c", "import gru_audio"]}
    for command in COMMANDS:
        arguments = [*command.split(), "--help"]
        measured[" ".join(["gru-audio", *arguments])] = ["-m", "gru_audio", *arguments]
    for shown, arguments in measured.items():
        cost_of(arguments)  # warms the caches
        print(f"{shown:<28} {median_cost(arguments, n_runs)}")


def measure_synthesize(engine: str, n_runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip, out = f"{folder}/clip.wav", f"{folder}/out.wav"
        audio, rate = soundfile.read(CLIP, dtype="int16")
        soundfile.write(clip, audio[: CLIP_S * rate], rate)
        arguments = ["-m", "gru_audio", "synthesize", clip, "-o", out, "--engine", engine, "--quiet"]
        print(f"{f'synthesize {engine}':<28} {median_cost(arguments, n_runs)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--engine", action="append", help="int8 and float32 if absent")
    given = parser.parse_args()
    print(f"medians of {given.runs} runs, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    measure_help(given.runs)
    for engine in given.engine or ("int8", "float32"):
        measure_synthesize(engine, given.runs)


if __name__ == "__main__":
    main()
