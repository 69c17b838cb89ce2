"""What the core costs without Python: sizes, memory, and speed on each path.

    python benchmarks/without_python.py [--turns 9]

Needs `ziglang`. Speed is that of examples/c/speak.c on clips of samples/, compiled once for each instruction set that
this processor has: seconds of audio a second of CPU time, opening the voice included; the median of turns through all
sets, so that what else the machine does falls on all alike.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

import gru_audio
from gru_audio.native import instruction_sets
from gru_audio.synthesis.int8.voice_file import export_voice
from gru_audio.voice.bundled import DEFAULT_VOICE

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from hatch_build import PROCESSORS  # noqa: E402

NATIVE = ROOT / "gru_audio" / "native"
CLIPS = ("ru-nsh-0045",)


def compiler(target: str, processor: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-O3",
        "-target",
        target,
        f"-mcpu={processor}",
        f"-I{NATIVE}",
    ]


def library_bytes(target: str, processor: str, folder: Path) -> int:
    """The size of the C interface as a shared library."""
    core, linked = folder / "core.o", folder / "core.so"
    for step in (
        ["-c", "-fPIC", "-fvisibility=hidden", str(NATIVE / "gru_audio.c"), "-o", str(core)],
        ["-shared", "-nostdlib", "-s", str(core), "-o", str(linked)],
    ):
        subprocess.run([*compiler(target, processor), *step], check=True)
    return linked.stat().st_size


def program(target: str, processor: str, folder: Path) -> Path:
    """The program examples/c/speak.c."""
    out = folder / f"speak-{processor}"
    sources = [str(NATIVE / "gru_audio.c"), str(ROOT / "examples" / "c" / "speak.c")]
    subprocess.run([*compiler(target, processor), "-s", *sources, "-o", str(out)], check=True)
    return out


def cpu_s(*command: str | Path) -> float:
    """CPU time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(list(map(str, command)), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=9)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"voice.gru: {export_voice(DEFAULT_VOICE, folder / 'voice.gru'):,} bytes")
        vocoder = gru_audio.load()
        clips = [soundfile.read(ROOT / "samples" / f"{clip}.flac", dtype="float32")[0] for clip in CLIPS]
        mel = np.concatenate([vocoder.mel(clip, 16_000) for clip in clips])
        np.save(folder / "mel.npy", mel)
        duration_s = len(mel) / vocoder.mel_config.frame_rate_hz
        for machine, sets in PROCESSORS.items():
            for processor in sets.values():
                print(
                    f"{machine} {processor}: {library_bytes(f'{machine}-linux-gnu', processor, folder):,} bytes"
                )
        programs = {
            name: program("x86_64-linux-gnu.2.17", PROCESSORS["x86_64"][name], folder)
            for name in instruction_sets.supported()
        }
        spent: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(turns):
            for name, path in programs.items():
                spent[name].append(cpu_s(path, folder / "voice.gru", folder / "mel.npy", folder / "out.wav"))
        for name, times in spent.items():
            print(f"{name}: {duration_s / statistics.median(times):.1f} times real time")


if __name__ == "__main__":
    main()
