"""A recording as an input lists it, before it has a name among all others."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """One recording, or a stretch of one.

    Attributes:
        path: the file, or the archive that holds it.
        relative: where it lies below the input; returns the clip's name.
        speaker: who speaks, as far as the input tells.
        size_bytes: of its audio as stored; -1 where it cannot be told, for example because it is missing.
        mtime_ns: when `path` was last changed; -1 where that cannot be told.
        member: which part of an archive it is; empty for a file.
        place: where in the archive's file that part begins, in bytes, or which row it is.
        start_s: where the stretch begins.
        stop_s: where it ends; None at the recording's end.
        identity: the input's own name for it, in place of one made of `relative`; may be empty.
        order: sorts the input's recordings.
    """

    path: Path
    relative: str
    speaker: str
    size_bytes: int
    mtime_ns: int
    order: bytes
    member: str = ""
    place: int = 0
    start_s: float = 0.0
    stop_s: float | None = None
    identity: str = ""


def stamp_of(path: str | Path) -> tuple[int, int]:
    """A file's size in bytes and when it was last changed, in ns; -1 each where they cannot be told."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, for each of a million files
    except (OSError, ValueError):  # the latter of a name with a zero byte
        return -1, -1
    return status.st_size, status.st_mtime_ns


def numbered(index: int) -> bytes:
    """An `order` that keeps an input's own."""
    return index.to_bytes(8, "big")
