"""Compiles the C core with the C compiler that PyPI's `ziglang` brings: one library for each instruction set.

A build hook of hatchling's for wheels and editable installs. In a clone:

    python hatch_build.py [SET…]        compiles all sets of this machine, or some, in place
    python hatch_build.py --wheels DIR  makes the wheels of all platforms, on any machine
"""

import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
NATIVE = ROOT / "gru_audio" / "native"
# By machine, what the compiler is told for each of instruction_sets.INSTRUCTION_SETS.
PROCESSORS = {
    "x86_64": {
        "baseline": "x86_64",
        "avx2": "x86_64_v3",
        "avxvnni": "x86_64_v3+avxvnni",
        "avx512": "x86_64_v4+avx512vnni",
        "avx512bf16": "x86_64_v4+avx512vnni+avx512bf16",
    },
    "aarch64": {"neon": "generic", "dotprod": "generic+dotprod"},
}
FLAGS = [
    *("-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-mprefer-vector-width=512"),
    *("-fvisibility=hidden", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-Wno-psabi"),
]
VARIABLE = "GRU_AUDIO_PLATFORM"
"""In the environment, a name of `PLATFORMS`: build for another one than this machine's."""


@dataclass(frozen=True)
class Platform:
    """What a wheel is made for.

    Attributes:
        machine: a key of `PROCESSORS`.
        target: the compiler's name of it.
        suffix: of libraries there.
        tag: of the wheel.
        link: how to link a library. On Linux with no others: the compiler would first build C's library for each set,
            and the few functions of it that the core calls are Python's.
    """

    machine: str
    target: str
    suffix: str
    tag: str
    link: tuple[str, ...] = ()


# By the name of a platform's folder in native/lib, as instruction_sets.py finds it.
PLATFORMS = {
    "linux-x86_64": Platform(
        "x86_64", "x86_64-linux-gnu.2.17", ".so", "manylinux_2_17_x86_64", ("-nostdlib",)
    ),
    "linux-aarch64": Platform(
        "aarch64", "aarch64-linux-gnu.2.17", ".so", "manylinux_2_17_aarch64", ("-nostdlib",)
    ),
    "darwin-x86_64": Platform("x86_64", "x86_64-macos.11.0", ".dylib", "macosx_11_0_x86_64"),
    "darwin-aarch64": Platform("aarch64", "aarch64-macos.11.0", ".dylib", "macosx_11_0_arm64"),
    "win32-x86_64": Platform("x86_64", "x86_64-windows-gnu", ".dll", "win_amd64"),
}


class CoreBuildHook(BuildHookInterface[Any]):
    """Puts the compiled core into a wheel, which then fits one platform and every Python 3."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; `version` is standard or editable."""
        name = os.environ.get(VARIABLE) or this_platform()
        compile_sets(name)
        goal = PLATFORMS[name]
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{goal.tag}"
        build_data["artifacts"] += [  # which git ignores
            f"gru_audio/native/lib/{name}/{each}{goal.suffix}" for each in PROCESSORS[goal.machine]
        ]


def this_platform() -> str:
    """The name of this machine's platform.

    Raises:
        SystemExit: there is none for it.
    """
    machine = platform.machine().lower()
    name = f"{sys.platform}-{ {'amd64': 'x86_64', 'arm64': 'aarch64'}.get(machine, machine) }"
    return _known(name)


def _known(name: str) -> str:
    """A platform's name, if it is one."""
    if name not in PLATFORMS:
        sys.exit(f"gru-audio: the C core can be built for {', '.join(PLATFORMS)}, not for {name}")
    return name


def compile_sets(name: str, sets: list[str] | None = None) -> None:
    """Compile some instruction sets of a platform, by default all, as many at a time as there are cores.

    Raises:
        SystemExit: no such set, or the compiler refused.
    """
    goal = PLATFORMS[name]
    folder = NATIVE / "lib" / name
    folder.mkdir(parents=True, exist_ok=True)
    known = list(PROCESSORS[goal.machine])
    if unknown := set(sets or ()).difference(known):
        sys.exit(f"gru-audio: no instruction set {min(unknown)} for {name}; choose of {', '.join(known)}")
    wanted = sets or known
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = pool.map(lambda each: _compile(goal, each, folder / f"{each}{goal.suffix}"), wanted)
        for each, error in zip(wanted, errors, strict=True):
            if error:
                sys.exit(f"gru-audio: compiling the C core for {name}, {each} failed:\n{error}")


def _compile(goal: Platform, name: str, library: Path) -> str:
    """Compile one set; what the compiler says where it fails, else nothing.

    The file in place is swapped for the new one, which no running process notices.
    """
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", goal.target]
    processor = f"-mcpu={PROCESSORS[goal.machine][name]}"
    flags = [flag for flag in FLAGS if flag != "-fPIC" or goal.suffix != ".dll"]  # there all code is
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        core, linked = f"{folder}/{name}.o", f"{folder}/{library.name}"
        for step in (
            [processor, *flags, "-c", str(NATIVE / "engine.c"), "-o", core],
            ["-shared", *goal.link, "-s", core, "-o", linked],
        ):
            run = subprocess.run([*compiler, *step], capture_output=True, text=True, check=False)
            if run.returncode:
                return run.stderr
        Path(linked).replace(library)
    return ""


def make_wheels(folder: Path, names: list[str] | None = None) -> None:
    """Make the wheels of some platforms, by default all, from the working tree.

    Raises:
        SystemExit: one cannot be made.
    """
    for name in map(_known, names or list(PLATFORMS)):
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder.resolve())]
        run = subprocess.run(command, cwd=ROOT, env={**os.environ, VARIABLE: name}, check=False)
        if run.returncode:
            sys.exit(f"gru-audio: no wheel for {name}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--wheels"]:
        if len(sys.argv) < 3:
            sys.exit("gru-audio: --wheels needs a folder, as in --wheels dist")
        make_wheels(Path(sys.argv[2]), sys.argv[3:])
    else:
        compile_sets(this_platform(), sys.argv[1:])
