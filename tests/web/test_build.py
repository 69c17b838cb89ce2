"""web/build.py typed wrongly: one line, and the page of before stays."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The repository's page, with one that was built."""
    for name in ("gru_audio", "hatch_build.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "web/dist").mkdir(parents=True)
    shutil.copy(ROOT / "web/build.py", tmp_path / "web")
    (tmp_path / "web/dist/index.html").write_text("built before")
    return tmp_path


def run(tree: Path, *arguments: str, flags: tuple[str, ...] = ()) -> str:
    command = [sys.executable, *flags, str(tree / "web/build.py"), *arguments]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (tree / "web/dist/index.html").read_text() == "built before"
    return done.stderr


def test_a_voice_that_is_not_there(tree: Path) -> None:
    said = run(tree, "nobody")
    assert said.startswith("error: nobody: no such file; check the path")
    assert said.count("\n") == 1


@pytest.mark.parametrize("package", ["ziglang", "hatchling"])
def test_a_compiler_that_is_not_there(tree: Path, package: str) -> None:
    (tree / "web" / package).mkdir()
    (tree / "web" / package / "__init__.py").write_text(f"raise ModuleNotFoundError(name='{package}')")
    assert run(tree) == (
        f"error: the page's core needs {package}, which is not installed; pip install hatchling ziglang\n"
    )
