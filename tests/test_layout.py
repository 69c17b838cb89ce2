"""The package's rooms: who may import whom, no circle, and no room too full."""

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gru_audio"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

BASE = {"", "config"}
"""The files beside the folders, and the settings: all may import them."""

BELOW = {
    "config": set[str](),
    "native": set[str](),
    "signal": {"native"},
    "network": {"native"},
    "voice": set[str](),
    "data": {"signal", "voice"},
    "quality": {"signal", "data"},
    "synthesis": {"native", "signal", "network", "voice"},
    "training": {"signal", "network", "voice", "data", "quality"},
    "evaluation": {"signal", "voice", "synthesis", "quality"},
    "inspection": {"signal", "voice", "data", "synthesis"},
    "bench": {"native", "signal", "network", "voice", "data", "synthesis", "training"},
    "cli": {
        "signal",
        "voice",
        "data",
        "synthesis",
        "quality",
        "training",
        "evaluation",
        "inspection",
        "bench",
    },
}
"""Each folder, and what it may import besides."""


def imports(path: Path) -> set[str]:
    """The package's modules that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gru_audio":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "gru_audio"}
    return found


def room(module: str) -> str:
    """The folder right under the package that a module is in; empty for the files beside the folders."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


@pytest.mark.parametrize("folder", sorted(BELOW))
def test_a_folder_imports_only_what_is_below_it(folder: str) -> None:
    for module, path in MODULES.items():
        if room(module) == folder:
            above = {other for other in imports(path) if room(other) not in BASE | {folder} | BELOW[folder]}
            assert not above, f"{module} imports {above}"


def test_every_folder_has_a_place() -> None:
    folders = {room(module) for module in MODULES} - {""}
    assert folders == set(BELOW)


def test_no_circle() -> None:
    left = {module: imports(path) & set(MODULES) - {module, "gru_audio"} for module, path in MODULES.items()}
    while free := {module for module, below in left.items() if not below & left.keys()}:
        left = {module: below for module, below in left.items() if module not in free}
    assert not left, "each of these imports another of these"


def test_no_folder_is_too_full() -> None:
    for folder in {path.parent for path in MODULES.values()}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 15, f"{folder.name} has {len(files)} files"


def test_no_two_test_files_have_one_name() -> None:
    """pytest and mypy know them by their names alone."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_no_two_things_have_one_name() -> None:
    """Public classes; a GPU's twin may have the name of the CPU's."""
    names = Counter(
        node.name
        for module, path in MODULES.items()
        if ".gpu" not in module
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not {name for name, count in names.items() if count > 1}


def test_the_package_holds_nothing_but_its_sources() -> None:
    """Wheels hold whatever lies there; what compilers leave is no part of it."""
    kinds = {".py", ".c", ".h", ".js", ".html", ".css", ".md", ".safetensors", ".typed"}
    others = [
        path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*")
        if path.is_file()
        and path.suffix not in kinds
        and "__pycache__" not in path.parts
        and PACKAGE / "native" / "lib" not in path.parents
    ]
    assert not others
