"""Start-up time: the median wall and CPU time of each command's --help, in processes of their own.

The CPU time is what a quiet machine would take, or little more; the wall time follows the load.

python benchmarks/startup.py [--runs N]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time

COMMANDS = ("", "prep", "train", "synthesize", "preview", "info")


def median_times_s(arguments: list[str], n_runs: int) -> tuple[float, float]:
    """Median wall and CPU time over `n_runs` runs of a Python process, after one that warms the caches."""
    walls, cpus = [], []
    for run in range(n_runs + 1):
        began, used = time.perf_counter(), cpu_of_children_s()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        if run:
            walls.append(time.perf_counter() - began)
            cpus.append(cpu_of_children_s() - used)
    return statistics.median(walls), statistics.median(cpus)


def cpu_of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    n_runs: int = parser.parse_args().runs
    print(f"median of {n_runs} runs, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    measured = {"python -c pass": ["-c", "pass"]}
    for command in COMMANDS:
        arguments = [*command.split(), "--help"]
        measured[" ".join(["gru-audio", *arguments])] = ["-m", "gru_audio", *arguments]
    for shown, arguments in measured.items():
        wall_s, cpu_s = median_times_s(arguments, n_runs)
        print(f"{shown:<28} {wall_s:.3f} s wall, {cpu_s:.3f} s CPU")


if __name__ == "__main__":
    main()
