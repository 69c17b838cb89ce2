"""Files as they are read and written: never half of one, never through another's link, never a pipe that hangs."""

import atexit
import contextlib
import errno
import functools
import os
import re
import stat
import sys
import time
import zlib
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO

from gru_audio.errors import OutputError
from gru_audio.locks import lock

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_PLACE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
)
_LIMITS = {errno.EFBIG: "ulimit -f", errno.EMFILE: "ulimit -n", errno.ENFILE: "fs.file-max"}
_TEMPORARY = re.compile(r"\.gru-audio-([0-9a-f]{4})?[0-9a-f]{12}\.partial(\.\w{1,16})?", re.ASCII)
_MACHINE = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
MARK = f"{zlib.crc32(os.fsencode(_MACHINE)) & 0xFFFF:04x}"
"""Of this machine, in its temporary files' names."""

_DAY_S = 86_400
_PLAIN = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""Bytes as they are, no pipe that is waited for, and nothing for a process that is started meanwhile."""

_OTHER_FILES = 128  # that are open beside those that somebody counts
PATIENCE_S = 60
"""That another machine's file is waited for."""

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


def mend_of(error: OSError) -> str:
    """What a user can do about a system's error."""
    if error.errno in _NO_SPACE:
        return "free space there, or choose another place"
    if error.errno in _NO_PLACE:
        return "choose another place"
    if error.errno in _LIMITS:
        return f"raise the limit ({_LIMITS[error.errno]})"
    return "check the disk, or choose another place"


def why_no_file(path: Path) -> str | None:
    """Why a path is not a file that can be read, as a clause; None where it is one, through links or not."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "no such file"
    except OSError as error:
        return error.strerror or str(error)
    except ValueError:  # whose words differ from one Python to the next
        return "embedded null byte"
    reason = _why_not_regular(mode)
    if reason is None and not os.access(path, os.R_OK):  # safetensors would tell that there is no such file
        return os.strerror(errno.EACCES)
    return reason


def why_neither(path: Path) -> str | None:
    """Why a path is neither a file that can be read nor a folder, as a clause; None where it is one."""
    if is_folder(path) or (reason := why_no_file(path)) is None:
        return None
    return "no such file or folder" if reason == "no such file" else reason


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; `Path.is_dir` raises an error for a name that no file can have."""
    with contextlib.suppress(OSError, ValueError):
        return path.is_dir()
    return False


def open_file(path: Path) -> BinaryIO:
    """Open a file to read it; unlike `open`, never wait for what may never come.

    Raises:
        OSError: it cannot be opened, or it is a folder, a pipe, a socket or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | _PLAIN)
    reason = _why_not_regular(os.fstat(descriptor).st_mode)
    if reason is not None:
        os.close(descriptor)
        raise OSError(errno.EINVAL, reason, str(path))
    return os.fdopen(descriptor, "rb")


def files_open_at_once(wanted: int) -> int:
    """How many files this process may open beside what it has, at most `wanted`; raises its own limit for that."""
    if sys.platform == "win32":  # where C's limit of 8,192 is far off
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + _OTHER_FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + _OTHER_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - _OTHER_FILES))


def _is_there(place: Path) -> bool:
    """Whether a path names anything, be it a link to nothing or in a circle.

    Raises:
        OSError: nothing can have that name.
    """
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def require_writable(folder: Path) -> None:
    """Make sure, before long work, that files can be made in a folder, which need not exist yet.

    Raises:
        OutputError: something in its path is no folder, or may not be written to.
    """
    with output_errors(folder):
        nearest = next(filter(_is_there, (folder, *folder.parents)), Path())
    which = "it" if nearest == folder else nearest
    if not nearest.is_dir():
        raise OutputError(f"{folder}: cannot be written: {which} is not a folder; choose another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot be written: {which} may not be written to; choose another place")


def require_replaceable(path: Path) -> None:
    """Make sure that a file written in `path`'s place takes the place of none but a file: not of /dev/null.

    Raises:
        OutputError: a folder, a pipe, a socket or a device is there.
    """
    if path.exists() and (reason := _why_not_regular(path.stat().st_mode)):
        raise OutputError(f"{path}: cannot be written: {reason}; choose another place")


def size_when_there(path: Path) -> int:
    """A file's size in bytes, once it is there: another machine made it, and a network's folder may show it late.

    Raises:
        OutputError: it does not come within a minute.
    """
    for _ in range(PATIENCE_S):
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_size
        with contextlib.suppress(OSError):
            os.listdir(path.parent)  # noqa: PTH208 - makes this machine ask for what is new there
        time.sleep(1)
    raise OutputError(
        f"{path}: was made, but is not seen here; let all machines have this folder, under the same path"
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
    """Give a temporary file beside `path`; on success flush it to disk and rename it to `path`.

    The folder is made where it is missing. On any error the temporary file is removed and what was at
    `path` before stays as it was. Its name is random and short, and keeps `path`'s suffix, which some writers go by;
    it is created anew, never found, so that nobody can have put a link in its place. While it is written it is
    locked: what a killed process left has no lock, and goes when the folder is next written to. On Windows it is not:
    there what is open can be neither renamed nor removed.

    Raises:
        OutputError: the file cannot be written.
    """
    with output_errors(path):
        require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned_once(path.parent.resolve())
    suffix = path.suffix if re.fullmatch(r"\.\w{1,16}", path.suffix, re.ASCII) else ""
    temporary = path.with_name(f".gru-audio-{MARK}{os.urandom(6).hex()}.partial{suffix}")
    _under_way[temporary] = os.getpid()
    try:  # before the file is there: a signal can come between any two lines
        with output_errors(path), _created(temporary) as held:
            yield temporary
            if not _is_open_as(held, temporary):
                raise OSError(errno.EIO, "another program replaced it while it was written")
            os.fsync(held.fileno())
            _close_on_windows(held)
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        del _under_way[temporary]


_under_way: dict[Path, int] = {}
"""Temporary files, and the process that writes each."""


@atexit.register
def _remove_under_way() -> None:
    """Remove the files of blocks that a signal kept from being entered or left: it came to Python's own lines there."""
    for path, process in tuple(_under_way.items()):
        with contextlib.suppress(OSError):
            if process == os.getpid():
                path.unlink()


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that processes left in a folder which were killed while they wrote.

    Those of another machine only when they are a day old: not every network's folder tells of its locks.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (found := _TEMPORARY.fullmatch(entry.name)) is None:
                continue
            with contextlib.suppress(OSError):
                is_ours = found[1] in (None, MARK)
                if is_ours or time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY_S:
                    remove_unlocked(Path(entry.path))


_remove_abandoned_once = functools.cache(remove_abandoned)


def _created(path: Path) -> RawIOBase:
    """A new, locked file."""
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _PLAIN | _NO_FOLLOW, 0o666)
        file = os.fdopen(held, "rb+", buffering=0)
        if sys.platform != "win32":
            lock(held, wait=True)
        if _is_open_as(file, path):
            return file
        file.close()  # between those two lines another process took it for one that was left


def _close_on_windows(file: RawIOBase) -> None:
    if sys.platform == "win32":
        file.close()


def _is_open_as(file: RawIOBase, path: Path) -> bool:
    """Whether a path still names the file that is open."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def remove_unlocked(path: Path, *, with_children: bool = True, where_unknown: bool = False) -> None:
    """Remove a file, unless a process that lives holds its lock, or, on Windows, the file itself.

    Args:
        path: of the file.
        with_children: as it is locked; see `locks.lock`.
        where_unknown: also where the file's system knows no locks.

    Raises:
        OSError: it is not there, or may not be removed.
    """
    if sys.platform == "win32":
        path.unlink()
        return
    descriptor = os.open(path, os.O_RDWR | _PLAIN | _NO_FOLLOW)  # NFS locks only what may be written
    with os.fdopen(descriptor, "rb+") as file:
        is_free = lock(file.fileno(), wait=False, with_children=with_children)
        if is_free or (is_free is None and where_unknown):
            path.unlink()


def _why_not_regular(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return f"is {kinds.get(stat.S_IFMT(mode), 'something else')}, not a file"
