"""Compiles the C core with its test program, core.c, for every instruction set, and runs it wherever that can be done.

    python tests/native/run.py

x86-64 sets run on this processor, as far as it has them; ARM's run under Debian's qemu-user; AVX2 and the best set run
as Windows programs under Debian's wine64; the least set and the best one run once more under the address and
undefined-behaviour sanitizers of Debian's clang. All must print the same lines. For systems that nothing here can
run, the core is compiled alone.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from gru_audio.native import instruction_sets  # noqa: E402
from hatch_build import FLAGS, NATIVE, PROCESSORS  # noqa: E402

ELSEWHERE = {
    "x86_64-macos": ["-mcpu=x86_64_v3"],
    "aarch64-macos": ["-mcpu=generic+dotprod"],
    "wasm32-wasi": ["-mcpu=generic+simd128"],
}
ARM_SYSTEM = "/usr/aarch64-linux-gnu"  # of Debian's libc6-arm64-cross
CLANG = "clang-19"  # the first with all of the vector operations that the core is written in
WINE = "/usr/lib/wine/wine64"
TOOLS = {"qemu-aarch64": "qemu-user", WINE: "wine64", CLANG: f"{CLANG} libclang-rt-19-dev"}
_OF_LIBRARIES = {"-fPIC", "-shared", "-s"}


def compiled(folder: Path, name: str, command: list[str], source: Path) -> Path:
    """What a compiler makes of a source file.

    Raises:
        SystemExit: it refuses.
    """
    program = folder / name
    done = subprocess.run(
        [*command, str(source), "-o", str(program)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{name}: {' '.join(command)}\n{done.stderr}")
    return program


def lines_of(name: str, command: list[str]) -> list[str]:
    """What the test program prints.

    Raises:
        SystemExit: it ends with an error.
    """
    # The core allocates nothing, and to look for leaks is forbidden in some containers.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "WINEDEBUG": "-all"}
    if command[0] == WINE:
        environment["WINEPREFIX"] = f"{command[1]}.wine"  # a Windows of its own
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: {' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.splitlines()


def zig(target: str, *options: str) -> list[str]:
    flags = [flag for flag in FLAGS if flag not in _OF_LIBRARIES]
    return [sys.executable, "-m", "ziglang", "cc", *flags, "-target", target, *options]


def with_sanitizers(processor: str) -> list[str]:
    level = {"x86_64": "x86-64", "x86_64_v3": "x86-64-v3", "x86_64_v4": "x86-64-v4"}
    base, *features = processor.split("+")
    flags = [flag for flag in FLAGS if flag.startswith(("-std", "-W", "-f")) and flag not in _OF_LIBRARIES]
    return [
        *(CLANG, "-O1", "-g", *flags, f"-march={level[base]}", *(f"-m{feature}" for feature in features)),
        *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    ]


def jobs(folder: Path) -> dict[str, Callable[[], list[str]]]:
    """By name, what compiles and runs the test program, and gives its lines; none for what is compiled alone."""
    test, found = Path(__file__).parent / "core.c", dict[str, Callable[[], list[str]]]()

    def add(name: str, compiler: list[str], *runner: str) -> None:
        found[name] = lambda: lines_of(name, [*runner, str(compiled(folder, name, [*compiler, "-lm"], test))])

    def add_alone(name: str, compiler: list[str]) -> None:
        def job() -> list[str]:
            compiled(folder, name, [*compiler, "-c"], NATIVE / "engine.c")
            return []

        found[name] = job

    supported = instruction_sets.supported()
    for name, processor in PROCESSORS["x86_64"].items():
        command = zig("x86_64-linux-gnu.2.17", f"-mcpu={processor}")
        if name in supported:
            add(name, command)
        else:
            add_alone(name, [*command, "-fPIC"])  # as hatch_build.py does: zig's cache may know what it made
        if name in (supported[0], supported[-1]):
            add(f"{name}, sanitized", with_sanitizers(processor))
        if name == "avx2" and name in supported:
            add(f"{name}, Windows", zig("x86_64-windows-gnu", f"-mcpu={processor}"), WINE)
    for name, processor in PROCESSORS["aarch64"].items():
        command = zig("aarch64-linux-gnu.2.31", f"-mcpu={processor}")
        add(name, command, "qemu-aarch64", "-L", ARM_SYSTEM)
    for target, options in ELSEWHERE.items():
        add_alone(target, zig(target, *options))
    return found


def main() -> None:
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    missing += [] if Path(ARM_SYSTEM).exists() else ["libc6-arm64-cross"]
    if missing:
        sys.exit(f"missing: {' '.join(missing)}; install them with apt-get")
    if platform.machine() != "x86_64":
        sys.exit(f"this runs on x86_64, not on {platform.machine()}")
    # Wine writes a while longer than its programs run.
    temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with temporary as folder, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        running = {name: pool.submit(job) for name, job in jobs(Path(folder)).items()}
        expected = running["baseline"].result()
        print("\n".join(expected))
        for name, task in running.items():
            lines = task.result()
            if lines and lines != expected:
                different = [f"{a} | {b}" for a, b in zip(expected, lines, strict=False) if a != b]
                sys.exit(f"{name}: differs from baseline\n" + "\n".join(different))
            print(f"{name}: {'the same' if lines else 'compiles'}")


if __name__ == "__main__":
    main()
