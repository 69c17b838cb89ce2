"""Makes the wheels of all platforms and checks what is in them.

    python tests/native/wheels.py DIR                  makes them there; a quarter of an hour of one core
    python tests/native/wheels.py DIR --made           those that lie there already

Each library that can be run here speaks to examples/c/speak.c: ARM's under Debian's qemu-user, Windows' under its
wine64; none of macOS. The wheel for this machine is installed into an environment of its own, where it speaks.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.wheels import require_wheel  # noqa: E402

from gru_audio.native import instruction_sets  # noqa: E402
from gru_audio.synthesis.int8.voice_file import export_voice  # noqa: E402
from gru_audio.synthesis.vocoder import Vocoder  # noqa: E402
from gru_audio.voice.bundled import DEFAULT_VOICE  # noqa: E402
from gru_audio.voice.voice import load_voice  # noqa: E402
from hatch_build import NATIVE, PLATFORMS, make_wheels, this_platform  # noqa: E402

MATHEMATICS = "LD_PRELOAD=libm.so.6"  # which is in every Python
RUNNERS = {
    "linux-x86_64": ("env", MATHEMATICS),
    "linux-aarch64": ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-E", MATHEMATICS),
    "win32-x86_64": ("/usr/lib/wine/wine64",),
}

SPEAK = """
import numpy, gru_audio
from pathlib import Path
from gru_audio.native import library
assert "site-packages" in gru_audio.__file__
audio = gru_audio.load().synthesize(numpy.full((80, 80), -5.0, numpy.float32))
print(f"{Path(gru_audio.__file__).parent}: {audio.size} samples with {library.instructions()}")
"""


def speak_in_c(path: Path, platform: str, folder: Path) -> None:
    """Link examples/c/speak.c to a library, and run it.

    Args:
        path: the library.
        platform: its name in `PLATFORMS`; one of `RUNNERS`.
        folder: has voice.gru and mel.f32, and in audio.npy what must come.

    Raises:
        AssertionError: it says something else.
    """
    program = path.with_suffix(".exe")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-O1", "-DGRU_API=", "-I", str(NATIVE)]
    target = PLATFORMS[platform].target.replace("2.17", "2.31")  # as Debian's
    link = [f"-Wl,-rpath,{path.parent}"] if path.suffix == ".so" else []
    source = str(ROOT / "examples" / "c" / "speak.c")
    subprocess.run([*compiler, "-target", target, source, str(path), *link, "-o", str(program)], check=True)
    environment = {**os.environ, "WINEDEBUG": "-all", "WINEPREFIX": str(folder / "wine")}
    command = [*RUNNERS[platform], str(program), "voice.gru", "mel.f32", "out.wav"]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    spoken, _ = soundfile.read(folder / "out.wav", dtype="float32")
    np.testing.assert_array_equal(spoken, np.load(folder / "audio.npy"))


def prepare_speech(folder: Path) -> None:
    """Put a voice, a mel and what the voice makes of it into a folder."""
    export_voice(DEFAULT_VOICE, folder / "voice.gru")
    audio, rate_hz = soundfile.read(ROOT / "samples" / "it-carlo-vm-rec-name.flac", dtype="float32")
    vocoder = Vocoder(load_voice(DEFAULT_VOICE), "int8")
    mel = vocoder.mel(audio[:20_000], rate_hz)
    mel.tofile(folder / "mel.f32")
    np.save(folder / "audio.npy", vocoder.synthesize(mel))


def speak(wheel: Path, folder: Path) -> None:
    """Install a wheel as a user would, and have it speak."""
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    subprocess.run([str(python), "-I", "-c", SPEAK], cwd=folder, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--made", action="store_true", help="make none; take what is there")
    options = parser.parse_args()
    if not options.made:
        make_wheels(options.folder)
    exported = set()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:  # Wine writes a while longer
        prepare_speech(Path(name))
        for platform, goal in PLATFORMS.items():
            wheel = next(options.folder.glob(f"gru_audio-*-{goal.tag}.whl"))
            found = require_wheel(wheel, platform, Path(name) / platform)
            exported |= {binary.exported for binary in found}
            forms = {f"{binary.form} {binary.machine} {binary.system}".strip() for binary in found}
            needed = sorted({library for binary in found for library in binary.needed})
            print(
                f"{wheel.name}: {wheel.stat().st_size:,} bytes; {len(found)} libraries, {', '.join(forms)};"
            )
            print(f"  linked to {', '.join(needed) or 'nothing'};", flush=True)
            able = (
                instruction_sets.supported()
                if goal.machine == "x86_64"
                else instruction_sets.INSTRUCTION_SETS[goal.machine]
            )
            for each in able if platform in RUNNERS else ():
                path = f"gru_audio/native/lib/{platform}/{each}{goal.suffix}"
                speak_in_c(Path(name) / platform / path, platform, Path(name))
                print(f"  {each} gives the same samples", flush=True)
        if len(exported) != 1:
            sys.exit("libraries export different names")
        print(f"all export the same {len(exported.pop())} names")
        speak(next(options.folder.glob(f"gru_audio-*-{PLATFORMS[this_platform()].tag}.whl")), Path(name))


if __name__ == "__main__":
    main()
