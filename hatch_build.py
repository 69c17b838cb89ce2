"""Compiles the C core with the C compiler that PyPI's `ziglang` brings: one library for each instruction set.

A build hook of hatchling's for wheels and editable installs; in a clone, `python hatch_build.py [SET…]` compiles all
sets, or some, in place.
"""

import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path(__file__).parent / "gru_audio" / "native"
# By machine, what the compiler is told for each of library.INSTRUCTION_SETS.
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


class CoreBuildHook(BuildHookInterface[Any]):
    """Puts the compiled core into a wheel, which then fits one platform and every Python 3."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; `version` is standard or editable."""
        machine = platform.machine()
        compile_sets(machine)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_2_17_{machine}"


def compile_sets(machine: str, names: list[str] | None = None) -> None:
    """Compile some instruction sets, by default all, as many at a time as there are cores.

    Raises:
        SystemExit: there is no plan for this machine, or the compiler refused.
    """
    if sys.platform != "linux" or machine not in PROCESSORS:
        sys.exit(
            f"gru-audio: the C core can be built on Linux on x86_64 or aarch64, not {sys.platform} on {machine}"
        )
    folder = NATIVE / "lib" / f"linux-{machine}"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = names or list(PROCESSORS[machine])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = pool.map(lambda name: _compile(machine, name, folder / f"{name}.so"), wanted)
        for name, error in zip(wanted, errors, strict=True):
            if error:
                sys.exit(f"gru-audio: compiling the C core for {name} failed:\n{error}")


def _compile(machine: str, name: str, library: Path) -> str:
    """Compile one set; what the compiler says where it fails, else nothing.

    The core is linked with no libraries, which the compiler would first build for each set: the few functions of C's
    library that it calls are Python's. The file in place is swapped for the new one, which no running process notices.
    """
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.2.17"]
    compiler.append(f"-mcpu={PROCESSORS[machine][name]}")
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        core, linked = f"{folder}/{name}.o", f"{folder}/{name}.so"
        for step in (
            [*FLAGS, "-c", str(NATIVE / "engine.c"), "-o", core],
            ["-shared", "-nostdlib", "-s", core, "-o", linked],
        ):
            run = subprocess.run([*compiler, *step], capture_output=True, text=True, check=False)
            if run.returncode:
                return run.stderr
        Path(linked).replace(library)
    return ""


if __name__ == "__main__":
    compile_sets(platform.machine(), sys.argv[1:])
