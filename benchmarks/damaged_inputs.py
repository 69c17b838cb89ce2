"""Damaged inputs of every kind, each to be accepted or refused in one line, and commands that are killed.

Whole files are made and then flipped, cut, joined, given odd header fields, nested without end, or given values of
wrong types, from a seed; documents with digests also get the digest that fits. Each is then read in this process, by
the library or by a command, within a time and an address space; a fault is any error that is no one line, a sample
that is not finite, or a limit that is passed. Then small runs of `prep`, `synthesize` and `train` are killed at random
times and started again: they must finish, and leave no process, temporary file or lock.

python benchmarks/damaged_inputs.py [--inputs N] [--kills N] [--seed N] [--time S] [--memory GIB]
"""

import argparse
import contextlib
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from damage import damaged
from killed_runs import kill_runs

from gru_audio.cli import main as command_line
from gru_audio.config import MelConfig
from gru_audio.data.dataset import Dataset
from gru_audio.errors import GruAudioError
from gru_audio.signal.audio_file.reading import read_audio
from gru_audio.signal.mel import log_mel
from gru_audio.signal.mel_file import write_mel
from gru_audio.training.saved.checkpoint import load_checkpoint
from gru_audio.voice.run_log import read_log

SAMPLES = Path(__file__).parent.parent / "samples"
CLIP = SAMPLES / "it-carlo-pbx-invalidpark.flac"
AUDIO = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG", "mp3": "MP3"}
MELS = ("npy", "npz", "pt", "safetensors")
SMALL = "steps=6 batch_size=4 checkpoint_every=2 valid_every=3 valid_crops=4 warm_up_steps=2"
MORE = ("--set", "train.steps=7", "--device", "cpu", "-q")
SIZES = "gru_size=32 conditioning_size=32 readout_size=32 pitch_size=32"
STOPPED = "stopped"
PATIENCE = 15  # how many times the limit of the processor's time an input may take by the clock


class TooLongError(BaseException):
    """An input took longer than its limit; nothing of the package catches it."""


class FaultError(Exception):
    """What came of an input is neither a result nor a refusal."""


def run_command(*arguments: object) -> None:
    """Run a command in this process.

    Raises:
        GruAudioError: it ended with an error of one line, or with one for each file that it skipped.
        FaultError: it ended in another way.
    """
    told = io.BytesIO()
    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(told, errors="backslashreplace")
    sys.argv = ["gru-audio", *map(str, arguments)]
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command_line()
        except SystemExit as end:
            if end.code == STOPPED:
                raise
            code = end.code
    err.flush()
    said = told.getvalue().decode(errors="replace")
    if code == 0:
        return
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    if code not in (1, 2) or "Traceback" in said or not lines or "not enough memory;" in said:
        raise FaultError(f"exit code {code}: {said[-300:]!r}")
    raise GruAudioError(lines[0])


class World:
    """Whole inputs of every kind, and what reads each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.run = folder, folder / "data", folder / "run"
        clips = folder / "clips"
        clips.mkdir()
        audio, rate = soundfile.read(CLIP, dtype="float32")
        for n in range(4):
            soundfile.write(clips / f"{n}.wav", audio[n * 2_000 : n * 2_000 + 24_000], rate)
        run_command("prep", clips, "-o", self.data, "-j", 1, "-q", "--set", "prep.min_duration_s=0.2")
        settings = [f"train.{s}" for s in SMALL.split()] + [f"model.{s}" for s in SIZES.split()]
        options = [word for setting in settings for word in ("--set", setting)]
        run_command("train", self.data, "-o", self.run, "-c", "tiny", "--device", "cpu", "-q", *options)
        self.files: dict[str, Path] = {}
        for suffix, container in AUDIO.items():
            if container in soundfile.available_formats():
                self.files[suffix] = folder / f"whole.{suffix}"
                soundfile.write(self.files[suffix], audio[:8_000], rate, format=container)
        mel = log_mel(audio[:4_800], MelConfig())
        for suffix in MELS:
            self.files[f"mel .{suffix}"] = folder / f"mel.{suffix}"
            write_mel(self.files[f"mel .{suffix}"], mel, MelConfig())
        listings = {"csv": "file,speaker\n{0},a\n{1},b\n", "jsonl": '{{"audio": "{0}", "speaker": "a"}}\n'}
        for suffix, text in {**listings, "scp": "a {0}\nb {1}\n"}.items():
            self.files[f"listing .{suffix}"] = folder / f"listing.{suffix}"
            self.files[f"listing .{suffix}"].write_text(text.format(clips / "0.wav", clips / "1.wav"))
        self.files |= {
            "voice": self.run / "voice.safetensors",
            "checkpoint": max((self.run / "checkpoints").glob("*.safetensors")),
            "dataset.json": self.data / "dataset.json",
            "index": next(self.data.glob("index-*")),
            "shard": next(self.data.glob("shard-*")),
            "config": self.run / "config.toml",
            "metrics.jsonl": self.run / "metrics.jsonl",
        }
        self.clips, self.mel = clips, self.files["mel .npz"]

    def reader(self, kind: str) -> Callable[[Path], None]:
        if kind in AUDIO:
            return self.read_audio
        if kind.startswith("mel"):
            return self.read_mel
        if kind.startswith("listing"):
            return lambda path: run_command("prep", "--manifest", path, "--dry-run")
        others = {"voice": self.read_voice, "checkpoint": self.read_checkpoint, "config": self.read_config}
        return {**others, "metrics.jsonl": self.read_metrics}.get(kind, self.read_dataset)

    def read_audio(self, path: Path) -> None:
        audio, _ = read_audio(path)
        if not np.isfinite(audio).all():
            raise FaultError("samples that are not finite")
        run_command("mel", path, "-o", self.folder / "mels", "--mel", "voice-16k", "-j", 1, "-q")

    def read_mel(self, path: Path) -> None:
        self.speak(path, self.files["voice"])

    def read_voice(self, path: Path) -> None:
        self.speak(self.mel, path)

    def speak(self, mel: Path, voice: Path) -> None:
        out = self.folder / "out.wav"
        try:
            run_command("synthesize", mel, "-o", out, "--voice", voice, "--force", "-q")
        except GruAudioError as error:
            if "the audio's sample" in str(error) and voice == self.files["voice"]:
                raise FaultError(str(error)) from error
            raise

    def read_checkpoint(self, path: Path) -> None:
        load_checkpoint(path)
        copy = self.copy_of(self.run, path, self.files["checkpoint"].relative_to(self.run))
        run_command("train", self.data, "-o", copy, "--resume", *MORE)

    def read_metrics(self, path: Path) -> None:
        copy = self.copy_of(self.run, path, Path("metrics.jsonl"))
        list(read_log(copy))
        run_command("info", copy)
        run_command("train", self.data, "-o", copy, "--resume", *MORE)

    def read_config(self, path: Path) -> None:
        run_command("prep", self.clips, "--dry-run", "-c", path)

    def read_dataset(self, path: Path) -> None:
        copy = self.copy_of(self.data, path, Path(path.name))
        dataset = Dataset.open(copy)
        for clip in dataset.clips():
            dataset.audio(clip)
            if not np.isfinite(dataset.lags(clip)).all():
                raise FaultError("lags that are not finite")
        dataset.verify()
        run_command("info", copy)

    def copy_of(self, whole: Path, file: Path, place: Path) -> Path:
        """A folder as it was, but for one file."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        shutil.copyfile(file, copy / place)
        return copy


def give(read: Callable[[Path], None], path: Path, limit_s: float) -> tuple[str, str]:
    """What came of one input, and the fault in full."""
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * limit_s)
    try:
        read(path)
    except GruAudioError as error:
        several = len(str(error).splitlines()) != 1
        return ("fault", f"several lines: {error}") if several else ("refused", "")
    except TooLongError:
        return "fault", f"longer than {limit_s:g} s: {traceback.format_exc()[-600:]}"
    except Exception:  # every other one is what this looks for
        return "fault", traceback.format_exc()[-1200:]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "accepted", ""


def on_alarm(*_: object) -> None:
    raise TooLongError


def try_inputs(folder: Path, n_inputs: int, seed: int, limit_s: float, memory_gib: float) -> None:
    """Give every kind its share of the inputs and print a table."""
    world = World(folder)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.signal(signal.SIGPROF, on_alarm)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * os.sysconf("SC_PAGE_SIZE") + int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    total: Counter[str] = Counter()
    print("| kind | inputs | accepted | refused in one line | faults |\n|---|---|---|---|---|")
    for n, (kind, whole) in enumerate(world.files.items()):
        counts: Counter[str] = Counter()
        share = (n + 1) * n_inputs // len(world.files) - n * n_inputs // len(world.files)
        (folder / "damaged").mkdir(exist_ok=True)
        world.reader(kind)(whole)  # which must be accepted
        for turn in range(share):
            path = folder / "damaged" / whole.name
            how = damaged(whole, path, random.Random(f"{seed}/{kind}/{turn}"))
            result, fault = give(world.reader(kind), path, limit_s)
            counts[result] += 1
            if fault:
                print(f"FAULT {kind}, {turn}, {how}: {fault}", file=sys.stderr, flush=True)
        total += counts
        row(kind, counts)
    row("all", total)


def row(kind: str, counts: Counter[str]) -> None:
    figures = " | ".join(str(counts[result]) for result in ("accepted", "refused", "fault"))
    print(f"| {kind} | {counts.total()} | {figures} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--time", type=float, default=20.0, help="seconds of the processor that an input may take"
    )
    parser.add_argument("--memory", type=float, default=3.0, help="GiB of address space beyond the start's")
    given = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    with tempfile.TemporaryDirectory() as folder:
        if given.kills:
            kill_runs(Path(folder), SAMPLES, given.kills, given.seed)
        if given.inputs:
            inputs = Path(folder) / "inputs"
            inputs.mkdir()
            try_inputs(inputs, given.inputs, given.seed, given.time, given.memory)


if __name__ == "__main__":
    main()
