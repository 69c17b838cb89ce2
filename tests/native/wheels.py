"""Makes the wheels of all platforms and checks what is in them.

    python tests/native/wheels.py DIR                  makes them there; a quarter of an hour of one core
    python tests/native/wheels.py DIR --made           those that lie there already

What is for this machine is installed into an environment of its own, where it speaks.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.wheels import require_wheel  # noqa: E402

from hatch_build import PLATFORMS, make_wheels, this_platform  # noqa: E402

SPEAK = """
import numpy, gru_audio
from pathlib import Path
from gru_audio.native import library
assert "site-packages" in gru_audio.__file__
audio = gru_audio.load().synthesize(numpy.full((80, 80), -5.0, numpy.float32))
print(f"{Path(gru_audio.__file__).parent}: {audio.size} samples with {library.instructions()}")
"""


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
    with tempfile.TemporaryDirectory() as name:
        for platform, goal in PLATFORMS.items():
            wheel = next(options.folder.glob(f"gru_audio-*-{goal.tag}.whl"))
            found = require_wheel(wheel, platform, Path(name) / platform)
            exported |= {binary.exported for binary in found}
            forms = {f"{binary.form} {binary.machine} {binary.system}".strip() for binary in found}
            needed = sorted({library for binary in found for library in binary.needed})
            print(
                f"{wheel.name}: {wheel.stat().st_size:,} bytes; {len(found)} libraries, {', '.join(forms)};"
            )
            print(f"  linked to {', '.join(needed) or 'nothing'}", flush=True)
        if len(exported) != 1:
            sys.exit("libraries export different names")
        print(f"all export the same {len(exported.pop())} names")
        speak(next(options.folder.glob(f"gru_audio-*-{PLATFORMS[this_platform()].tag}.whl")), Path(name))


if __name__ == "__main__":
    main()
