"""Writing files so that a reader never sees half of one."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from gru_audio.errors import OutputError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_PLACE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
)
_LIMITS = {errno.EFBIG: "ulimit -f", errno.EMFILE: "ulimit -n", errno.ENFILE: "fs.file-max"}


def mend_of(error: OSError) -> str:
    """What a user can do about a system's error."""
    if error.errno in _NO_SPACE:
        return "free space there, or choose another place"
    if error.errno in _NO_PLACE:
        return "choose another place"
    if error.errno in _LIMITS:
        return f"raise the limit ({_LIMITS[error.errno]})"
    return "check the disk, or choose another place"


def require_writable(folder: Path) -> None:
    """Make sure, before long work, that files can be made in a folder, which need not exist yet.

    Raises:
        OutputError: something in its path is no folder, or may not be written to.
    """
    nearest = next((place for place in (folder, *folder.parents) if place.exists()), Path())
    if not nearest.is_dir():
        raise OutputError(f"{folder}: cannot be written: {nearest} is not a folder; choose another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(
            f"{folder}: cannot be written: {nearest} may not be written to; choose another place"
        )


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an OSError met while writing `path` into one line for the user.

    Raises:
        OutputError: names the path and the system's reason (permission, full disk, not a folder).
    """
    try:
        yield
    except OSError as error:
        reason = (
            "a file is in a folder's place" if error.errno == errno.EEXIST else error.strerror or str(error)
        )
        raise OutputError(f"{path}: cannot be written: {reason}; {mend_of(error)}") from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    The folder is made where it is missing. On any error the temporary file is removed and what was at
    `path` before stays as it was. The name keeps `path`'s suffix, which some writers go by.

    Raises:
        OutputError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("r+b") as written:  # Windows flushes only what may be written to
                os.fsync(written.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
