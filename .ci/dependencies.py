"""Runs the tests with the oldest or the newest versions of all dependencies, in an environment of its own.

    python .ci/dependencies.py oldest|newest [ENVIRONMENT] [-- PYTEST_ARGUMENT...]

The oldest are the least that pyproject.toml allows; `--print` only prints them, as pip's constraints.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
_REQUIREMENT = re.compile(r'"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?>=([0-9.]+)')
_BUILD = {"hatchling", "ziglang"}  # of the build alone: pip takes the newest for it


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
    install = [python, "-m", "pip", "install", "--quiet", "-e", f"{ROOT}[dev]"]
    if which == "oldest":
        constraints = environment / "constraints.txt"
        constraints.write_text("\n".join(oldest()) + "\n", encoding="utf-8")
        install += ["-c", constraints]
    subprocess.run(install, check=True)
    subprocess.run([python, "-m", "pip", "list"], check=True)
    return subprocess.run([python, "-m", "pytest", *options.split()], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
