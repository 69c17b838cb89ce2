"""The one way in which all commands find files and walk through folders, and check where they write what they make."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from gru_audio.errors import AudioError, DatasetError, OutputError
from gru_audio.files import is_folder, output_errors, require_replaceable, require_writable, why_neither


@dataclass(frozen=True)
class FoundFile:
    """A file that is worked on.

    Attributes:
        path: of the file.
        relative: the same below the folder that was given; of a file that was given its name.
        error: of a folder that cannot be searched, which stands for its files: why, in a line.
    """

    path: Path
    relative: Path
    error: str | None = None


def walk(
    folder: Path, *, ordered: bool = True, on_error: Callable[[OSError], None] | None = None
) -> Iterator[Path]:
    """Files below a folder, through links, without dotfiles, without going in circles.

    What is neither a file nor a folder, such as a pipe or a socket, is passed over. A link that leads nowhere, or in
    a circle, is not: it comes as a file that cannot be read.

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
                    if _is(entry.is_dir):
                        folders.append(entry.path)
                    elif _is(entry.is_file) or (entry.is_symlink() and not os.path.exists(entry.path)):  # noqa: PTH110
                        yield Path(entry.path)
        except OSError as error:
            if on_error is not None:
                on_error(error)
        waiting += sorted(folders, reverse=True)


def _is(ask: Callable[[], bool]) -> bool:
    """What an entry of a folder says; no, where a link cannot be followed."""
    try:
        return ask()
    except OSError:
        return False


def why_not_searched(error: OSError) -> str:
    """Why a folder's files are not found, as a clause."""
    return f"the folder cannot be searched ({error.strerror or error}); check who may read it"


def refuse_unsearched(error: OSError) -> NoReturn:
    """For `walk`, where a folder's files must not be missed.

    Raises:
        DatasetError: always.
    """
    raise DatasetError(f"{error.filename}: {why_not_searched(error)}") from error


def find_files(given: Path, suffixes: Collection[str], what: str) -> list[FoundFile]:
    """A file that is given, whatever its suffix; or a folder's files with one of these suffixes, sorted.

    Args:
        given: the file or folder.
        suffixes: in lower case.
        what: the folder should hold, in words.

    Raises:
        AudioError: there is no such file or folder, or the folder holds none of them.
    """
    if (reason := why_neither(given)) is not None:
        raise AudioError(f"{given}: {reason}; check the path")
    if not is_folder(given):
        return [FoundFile(given, Path(given.name))]
    unsearched = dict[Path, str]()

    def note(error: OSError) -> None:
        unsearched[Path(error.filename)] = f"{error.filename}: {why_not_searched(error)}"

    files = {path for path in walk(given, on_error=note) if path.suffix.lower() in suffixes}
    if given in unsearched:
        raise AudioError(unsearched[given])
    if not files | unsearched.keys():
        raise AudioError(
            f"{given}: holds {what}; it looks for files that end in {', '.join(sorted(suffixes))}"
        )
    return [
        FoundFile(path, path.relative_to(given), unsearched.get(path))
        for path in sorted(files | unsearched.keys())
    ]


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
