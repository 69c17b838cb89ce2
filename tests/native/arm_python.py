"""Runs Python's tests of synthesis on 64-bit ARM, under Debian's qemu-user.

    python tests/native/arm_python.py FOLDER [TESTS…]

The folder keeps what is fetched, some 800 MB: Debian's Python for ARM with all that it needs, and packages from PyPI.
Processes that a test starts would be ARM's as well, which the system does not know how to run: tests that start some
are not for this.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from hatch_build import compile_sets  # noqa: E402

VERSION = "3.11"  # Debian 12's
OF_DEBIAN = (f"python{VERSION}", "libstdc++6", "libgomp1")
OF_PYPI = (
    *("numpy", "soundfile", "soxr", "typer", "rich", "pydantic", "safetensors", "joblib", "tomli-w", "scipy"),
    *("pytest", "pytest-timeout", "pytest-xdist", "hypothesis"),
    "torch==2.8.0",  # one whose wheel for ARM is for the CPU alone
)
TESTS = (
    *("tests/synthesis/test_int8.py", "tests/synthesis/test_float32.py", "tests/synthesis/test_stream.py"),
    *("tests/synthesis/test_frontend.py", "tests/synthesis/test_correction.py"),
    *(
        "tests/synthesis/test_sampling.py",
        "tests/synthesis/test_packing.py",
        "tests/native/test_c_interface.py",
    ),
)
_APT = """
APT::Architecture "arm64";
APT::Architectures "arm64";
Dir::State "{0}/state";
Dir::State::status "{0}/status";
Dir::Cache "{0}/cache";
"""


def fetch_system(folder: Path) -> Path:
    """The root of a system with Python, and nothing that runs by itself."""
    root = folder / "root"
    if root.exists():
        return root
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()  # nothing is there yet
    (folder / "apt.conf").write_text(_APT.format(folder))
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
    install = ("install", "--download-only", "--yes", "--no-install-recommends", *OF_DEBIAN)
    for arguments in (("update",), install):
        subprocess.run(["apt-get", "-q", *arguments], env=environment, check=True)
    for package in sorted((folder / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
    return root


def fetch_packages(folder: Path) -> Path:
    """A folder of packages for that Python."""
    site = folder / "site"
    if site.exists():
        return site
    systems = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 37)]
    wanted = ("--only-binary=:all:", "--implementation=cp", f"--python-version={VERSION}", *systems)
    pip = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--platform=manylinux2014_aarch64",
    )
    subprocess.run([*pip, *wanted, "--target", str(site), *OF_PYPI], check=True)
    return site


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).resolve()
    root, site = fetch_system(folder), fetch_packages(folder)
    compile_sets("linux-aarch64")
    python = ["qemu-aarch64", "-L", str(root), str(root / "usr" / "bin" / f"python{VERSION}")]
    tests = [
        "-m",
        "pytest",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "--timeout",
        "3000",
        *(sys.argv[2:] or TESTS),
    ]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", site)))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    sys.exit(subprocess.run([*python, *tests], cwd=ROOT, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
