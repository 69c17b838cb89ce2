"""Makes this process as much like one on Windows as Linux allows: for tests, each in a process of its own."""

import errno
import fcntl
import importlib
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

HIDDEN_MODULES = "fcntl grp pwd resource termios tty pty syslog readline curses crypt nis posix spwd"
HIDDEN_NAMES = {
    "os": """chown ctermid fchmod fchown fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpriority
        getuid initgroups killpg lchown lockf mkfifo mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate
        posix_spawn pread preadv pwrite register_at_fork sched_getaffinity sched_setaffinity sendfile setgid setpgid
        setsid setuid statvfs sysconf sysconf_names tcgetpgrp ttyname uname wait waitid wait3 wait4
        O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC O_PATH O_TMPFILE O_DSYNC O_NOATIME""",
    "signal": "SIGHUP SIGKILL SIGUSR1 SIGUSR2 SIGALRM SIGPIPE alarm pause setitimer",
}
LIBRARIES = """soundfile soxr joblib rich.console rich.progress typer pydantic safetensors.numpy torch torch.utils.data
    torch.utils.tensorboard multiprocessing.connection concurrent.futures.process uuid selectors"""
"""They look at the system when they are imported."""


def become_windows(folder: Path) -> None:
    """Hide what Windows lacks, and have files behave as they do there. What was imported before goes on as it was.

    What is open can be neither renamed nor removed, folders are not opened, what may only be read is not flushed, text
    has no encoding unless one is told, and the C core lies in .dll files.

    Args:
        folder: an empty one, for the C core.
    """
    from gru_audio.native import instruction_sets

    best = instruction_sets.supported()[-1]
    for name in (instruction_sets.INSTRUCTION_SETS["x86_64"][0], best):
        (folder / f"{name}.dll").symlink_to(instruction_sets.path_of(name))
    os.environ["GRU_AUDIO_LIBRARIES"] = str(folder)
    for module in LIBRARIES.split():
        importlib.import_module(module)
    for module in [name for name in sys.modules if name.partition(".")[0] == "gru_audio"]:
        del sys.modules[module]
    sys.modules["msvcrt"] = _msvcrt()
    for module, names in HIDDEN_NAMES.items():
        for name in names.split():
            vars(importlib.import_module(module)).pop(name, None)
    for name in ("replace", "rename", "unlink", "remove", "rmdir"):
        setattr(os, name, _refusing_what_is_open(getattr(os, name)))
    for name, change in {"open": _opening_no_folders, "fsync": _flushing_what_is_written}.items():
        setattr(os, name, change(getattr(os, name)))
    tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # type: ignore[assignment]
    warnings.filterwarnings("error", category=EncodingWarning, module=r"gru_audio\b")
    sys.modules.update(dict.fromkeys(HIDDEN_MODULES.split()))  # type: ignore[arg-type]
    as_it_was = _System("sys")  # for what holds libraries for this system
    for found in [*sys.modules.values()]:
        if isinstance(found, types.ModuleType) and found.__name__ not in {"__main__", __name__}:
            vars(found).update({name: as_it_was for name, value in [*vars(found).items()] if value is sys})
    sys.platform = "win32"


class _System(types.ModuleType):
    """The module sys as it was."""

    platform = sys.platform

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def _msvcrt() -> Any:
    """Locks of a byte, which tell a lock that another has as Windows does."""
    found: Any = types.ModuleType("msvcrt")
    found.LK_NBLCK, flock, operation = 2, fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB

    def locking(descriptor: int, mode: int, n_bytes: int) -> None:
        assert (mode, n_bytes) == (found.LK_NBLCK, 1)
        try:
            flock(descriptor, operation)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error

    found.locking = locking
    return found


def _open_files() -> set[tuple[int, int]]:
    """The device and number of each file that this process has open or mapped."""
    names = [*Path("/proc/self/fd").iterdir()]
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    names += [Path(line[73:]) for line in mapped if line[73:].startswith("/")]
    found = set()
    for name in names:
        try:
            status = name.stat()
        except OSError:  # what listed the folder, or is gone
            continue
        found.add((status.st_dev, status.st_ino))
    return found


def _refusing_what_is_open(function: Callable[..., Any]) -> Callable[..., Any]:
    def refusing(*paths: Any, **options: Any) -> Any:
        opened = _open_files()
        for path in map(Path, paths):
            if path.is_file() and (path.stat().st_dev, path.stat().st_ino) in opened:
                raise PermissionError(errno.EACCES, "used by another process", str(path))
        return function(*paths, **options)

    return refusing


def _opening_no_folders(function: Callable[..., Any]) -> Callable[..., Any]:
    def opening(path: Any, *arguments: Any, **options: Any) -> Any:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return function(path, *arguments, **options)

    return opening


def _flushing_what_is_written(function: Callable[..., Any]) -> Callable[..., Any]:
    def flushing(descriptor: Any) -> None:
        os.write(descriptor, b"")
        function(descriptor)

    return flushing
