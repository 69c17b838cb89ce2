"""What goes into the wheel of each platform; a stand-in compiles, as the real compiler would take minutes."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.wheels import functions_of_the_interface, libraries_in, require_library

from gru_audio.native import instruction_sets
from hatch_build import PLATFORMS, PROCESSORS, this_platform

ROOT = Path(__file__).parents[2]
STAND_IN = """
import pathlib, sys
pathlib.Path(sys.argv[sys.argv.index("-o") + 1]).write_text(" ".join(sys.argv))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheels")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE", "samples/ATTRIBUTION.md"):
        (tree / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    for name in ("gru_audio", "configs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("lib", "__pycache__"))
    (folder / "ziglang").mkdir()
    (folder / "ziglang" / "__init__.py").touch()
    (folder / "ziglang" / "__main__.py").write_text(STAND_IN)
    subprocess.run(
        [sys.executable, "hatch_build.py", "--wheels", str(folder)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        capture_output=True,
        check=True,
    )
    tags = {name: goal.tag for name, goal in PLATFORMS.items()}
    return {
        name: zipfile.ZipFile(next(folder.glob(f"gru_audio-*-py3-none-{tag}.whl")))
        for name, tag in tags.items()
    }


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_wheel_has_the_libraries_of_its_platform_alone(
    name: str, wheels: dict[str, zipfile.ZipFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    system, machine = name.split("-")
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    inside = set(wheels[name].namelist())
    sets = instruction_sets.INSTRUCTION_SETS[machine]
    loaded = {instruction_sets.path_of(each).relative_to(ROOT).as_posix() for each in sets}
    assert {path for path in inside if "/lib/" in path} == libraries_in(name) == loaded
    assert PROCESSORS[machine].keys() == {Path(path).stem for path in loaded}
    assert {
        f"gru_audio/{path}" for path in ("native/gru_audio.h", "native/gru_audio.c", "py.typed")
    } <= inside
    linked = wheels[name].read(min(loaded)).decode()
    assert f"-target {PLATFORMS[name].target} -shared" in linked


def test_the_core_allocates_nothing_and_keeps_nothing(instructions: str) -> None:
    """Nor could it: all that it takes from elsewhere copies and fills bytes, or is a logarithm."""
    found = require_library(instruction_sets.path_of(instructions), this_platform())
    assert len(functions_of_the_interface()) == 14
    assert found.machine in PROCESSORS


def test_what_is_for_another_system_is_seen() -> None:
    others = PLATFORMS.keys() - {this_platform()}
    for name in others:
        with pytest.raises(AssertionError):
            require_library(instruction_sets.path_of(instruction_sets.supported()[0]), name)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["avx99"], "no instruction set avx99 for "),
        (["--wheels"], "--wheels needs a folder"),
        (["--wheels", "dist", "beos"], "not for beos"),
    ],
)
def test_a_wrong_use_is_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "hatch_build.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("gru-audio: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
