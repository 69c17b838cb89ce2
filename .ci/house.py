"""Counts the house: files, lines and imports of each of the package's folders, as Markdown.

    python .ci/house.py

An import counts once for each file and each of our modules that it names, at its top or in a function.
"""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gru_audio"


def room(module: str) -> str:
    """The folder right under the package; empty for the files beside the folders."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


def imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """The package's modules that a file imports."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "gru_audio":
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in modules else node.module for name in names}
    return found


def main() -> None:
    """Print a row for each folder, and their sums."""
    paths = sorted(PACKAGE.rglob("*.py"))
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }
    columns = ("Python files", "lines", "C files", "lines of C", "imports inside", "imports of others")
    counts = {column: Counter[str]() for column in columns}
    for module, path in modules.items():
        own, lines = room(module), len(path.read_text(encoding="utf-8").splitlines())
        counts["Python files"][own] += 1
        counts["lines"][own] += lines
        for other in imports(path, modules) - {module}:
            counts["imports inside" if room(other) == own else "imports of others"][own] += 1
    for path in PACKAGE.rglob("*.[ch]"):
        own = path.relative_to(PACKAGE).parts[0]
        counts["C files"][own] += 1
        counts["lines of C"][own] += len(path.read_text(encoding="utf-8").splitlines())
    print(f"| folder | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for own in sorted(counts["lines"]):
        print(f"| {own or 'the files beside them'} | {' | '.join(f'{counts[c][own]:,}' for c in columns)} |")
    print(f"| all | {' | '.join(f'{counts[c].total():,}' for c in columns)} |")


if __name__ == "__main__":
    main()
