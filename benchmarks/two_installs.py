"""This install against another one, such as an older commit's: python benchmarks/two_installs.py OTHER_PYTHON.

Each side is a process of its own that stays; they take turns on one core, and CPU seconds are counted. Rows are made-up
voices of bench's cases, corrected and not, and of a 4 s clip the mel, the front end and the correction. A ratio above 1
says that this install is the faster one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

_CASES = ("lpcnet-size", "lpcnet-size-s2", "voice-16k", "universal-16k")
_WORKER = """
import json, sys, time
import numpy as np
from gru_audio.bench.cases import known_cases, random_voice
try:
    from gru_audio.signal.mel import log_mel
except ImportError:  # older than the folder
    from gru_audio.mel import log_mel
from gru_audio.synthesis.correction import correct
from gru_audio.synthesis.folding import fold
from gru_audio.synthesis.frontend import ConditioningWeights, FrontEnd
from gru_audio.synthesis.vocoder import Vocoder

def parts(name, seconds):
    case = known_cases()[name]
    voice, mel = random_voice(case.config), case.config.mel
    rng = np.random.default_rng(0)
    audio = (0.05 * rng.standard_normal(round(seconds * mel.sample_rate_hz))).astype(np.float32)
    frames = log_mel(audio, mel)
    vocoder = Vocoder(voice, "int8", "cpu", corrections=0)
    weights = ConditioningWeights(voice, fold(voice))
    def alone(): return vocoder.synthesize(frames)
    return {
        "alone": alone,
        "corrected": lambda: correct(alone(), frames, mel),
        "front end": lambda: FrontEnd(weights).push(frames),
        "mel": lambda: log_mel(audio, mel),
        "correction": lambda: correct(audio[: len(frames) * mel.hop_samples], frames, mel),
    }

ready = {}
for line in sys.stdin:
    name, part, seconds = json.loads(line)
    if name not in ready:
        ready = {name: parts(name, seconds)}
        for run in ready[name].values():
            run()
    began = time.process_time()
    ready[name][part]()
    print(json.dumps(time.process_time() - began), flush=True)
"""


class Side:
    """A process with one of the installs."""

    def __init__(self, python: str, core: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        command = ["taskset", "-c", str(core), python, "-W", "ignore", "-c", _WORKER]
        # From a folder without a package in it, so that the installed one is imported.
        self._process: Any = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", env=environment
        )

    def seconds(self, case: str, part: str, length_s: float) -> float:
        """CPU seconds of one turn."""
        to_it, from_it = self._process.stdin, self._process.stdout
        assert to_it is not None and from_it is not None
        self._ask(to_it, [case, part, length_s])
        return float(json.loads(from_it.readline()))

    @staticmethod
    def _ask(to_it: IO[str], wanted: list[Any]) -> None:
        to_it.write(json.dumps(wanted) + "\n")
        to_it.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="the other environment's python")
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of audio in a turn")
    parser.add_argument("--core", type=int, default=0)
    given = parser.parse_args()
    sides = [Side(python, given.core) for python in (sys.executable, str(given.other))]
    print(f"{'case':<16}{'part':<12}{'this':>10}{'other':>10}  ms a second of audio{'ratio':>8}")
    for case in given.case or _CASES:
        parts = ("alone", "corrected")
        if case == "voice-16k":
            parts += ("front end", "mel", "correction")  # type: ignore[assignment]
        for part in parts:
            length_s = given.seconds / 4 if case == "universal-16k" else given.seconds
            times = [[side.seconds(case, part, length_s) for side in sides] for _ in range(given.turns)]
            ours, theirs = (
                1000 * statistics.median(column) / length_s for column in zip(*times, strict=True)
            )
            print(f"{case:<16}{part:<12}{ours:10.2f}{theirs:10.2f}{theirs / ours:30.2f}", flush=True)


if __name__ == "__main__":
    main()
