"""The one walk through folders, for all commands, and the one check of where they write what they make of it."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from gru_audio.errors import OutputError
from gru_audio.files import output_errors, require_replaceable, require_writable


def walk(
    folder: Path, *, ordered: bool = True, on_error: Callable[[OSError], None] | None = None
) -> Iterator[Path]:
    """Files below a folder, through links, without dotfiles, without going in circles.

    What is neither a file nor a folder, such as a pipe or a socket, is passed over; a link to nothing is not.

    Args:
        folder: where to begin.
        ordered: a folder's files first, by name, then its folders, by name; else as the system has them,
            for which no folder's names need to be in memory at once.
        on_error: told of a folder that cannot be searched, whose path is the error's `filename`; without it
            such a folder is passed over.
    """
    entered: set[str] = set()
    waiting = [os.fspath(folder)]
    while waiting:
        place = waiting.pop()
        if (real := os.path.realpath(place)) in entered:
            continue
        entered.add(real)
        folders: list[str] = []
        try:
            with os.scandir(place) as entries:
                seen = sorted(entries, key=lambda entry: entry.name) if ordered else entries
                for entry in seen:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        folders.append(entry.path)
                    elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):  # noqa: PTH110
                        yield Path(entry.path)
        except OSError as error:
            if on_error is not None:
                on_error(error)
        waiting += sorted(folders, reverse=True)


def files_with(folder: Path, suffixes: Collection[str]) -> list[tuple[Path, Path]]:
    """Files below a folder whose suffix is one of these, in lower case: each with its path below the folder, sorted."""
    files = sorted(path for path in walk(folder) if path.suffix.lower() in suffixes and path.is_file())
    return [(path, path.relative_to(folder)) for path in files]


def require_targets(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Make sure, before long work, that each source has a target of its own, and that it can be written.

    Paths are compared as what they lead to, through links.

    Args:
        pairs: sources and targets.

    Raises:
        OutputError: a target would replace a source, another target or what is no file, or its folder cannot be
            written.
    """
    pairs = list(pairs)
    sources, taken = {os.path.realpath(source) for source, _ in pairs}, dict[str, Path]()
    for source, target in pairs:
        real = os.path.realpath(target)  # before Python 3.13 Path.resolve takes no link in a circle
        if real in sources:
            raise OutputError(f"{target}: would replace an input; choose another output")
        if real in taken:
            if taken[real] == source:
                raise OutputError(f"{source}: is given twice; give it once")
            raise OutputError(f"{target}: {taken[real]} and {source} would both be written there; rename one")
        taken[real] = source
    for folder in {target.parent for _, target in pairs}:
        require_writable(folder)
    for _, target in pairs:
        with output_errors(target):
            require_replaceable(target)


def place_of(relative: str) -> bytes:
    """A key that sorts paths as `walk` gives them: each folder's files before its folders.

    Args:
        relative: the path below the folder that is walked.
    """
    *folders, name = os.fsencode(relative).split(b"/")
    return b"".join(b"\1" + part + b"\0" for part in folders) + b"\0" + name
