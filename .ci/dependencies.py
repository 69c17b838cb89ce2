"""Runs the tests with the oldest or the newest versions of all dependencies, in an environment of its own.

    python .ci/dependencies.py oldest|newest [ENVIRONMENT] [-- PYTEST_ARGUMENT...]

The oldest are the least that pyproject.toml allows; `--print` only prints them, as constraints. uv resolves them:
pip tries version after version of what they depend on, and does not end. An environment that is there is used again.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
_REQUIREMENT = re.compile(r'"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?>=([0-9.]+)')
_BUILD = {"hatchling", "ziglang"}  # of the build alone: the newest is taken for it


def oldest() -> list[str]:
    """Constraints that hold each dependency at the least version that is allowed."""
    found = dict.fromkeys(_REQUIREMENT.findall((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    return [f"{name}=={version}" for name, version in found if name not in _BUILD]


def main() -> int:
    """Make the environment, and run the tests in it."""
    given, _, options = " ".join(sys.argv[1:]).partition("--")
    which, *rest = given.split() or [""]
    if options == "print" or which not in ("oldest", "newest"):
        print("\n".join(oldest()))
        return 0 if options == "print" else 2
    environment = Path(rest[0] if rest else tempfile.mkdtemp(prefix=f"gru-audio-{which}-"))
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
    install = [
        python,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--upgrade",
        "--python",
        python,
        "-e",
        f"{ROOT}[dev]",
    ]
    if which == "oldest":
        constraints = environment / "constraints.txt"
        constraints.write_text("\n".join(oldest()) + "\n", encoding="utf-8")
        install += ["--constraint", constraints]
    subprocess.run(install, check=True)
    subprocess.run([python, "-m", "uv", "pip", "list", "--python", python], check=True)
    return subprocess.run([python, "-m", "pytest", *options.split()], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
