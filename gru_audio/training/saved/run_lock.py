"""A run's folder belongs to one process at a time."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from gru_audio.errors import TrainingError
from gru_audio.files import output_errors

_FILE = ".lock"
_BUSY = frozenset({errno.EAGAIN, errno.EACCES})
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


@contextlib.contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold a run's folder, which is made where it is missing; the system lets go of it whatever ends the process.

    Raises:
        TrainingError: another process holds it.
        OutputError: the folder cannot be written.
    """
    path, is_new = run / _FILE, not run.exists()
    with output_errors(run):
        run.mkdir(parents=True, exist_ok=True)
    with output_errors(path):
        descriptor = _held(path, run)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    try:
        yield
    finally:
        if os.name == "nt":  # where what is open cannot be removed
            os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()
            if is_new:
                run.rmdir()  # where the run could not begin; else it is not empty
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _held(path: Path, run: Path) -> int:
    """The lock's open file, once this process has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o666)
        if not _take(descriptor):
            holder = _holder(descriptor)
            os.close(descriptor)
            raise TrainingError(
                f"{run}: another gru-audio train works in it ({holder}); wait for its end, or choose another folder"
            )
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        os.close(descriptor)  # another process had it, and removed it since it was opened


def _take(descriptor: int) -> bool:
    """Lock a file for this process, and for none that it forks; True as well where the system has no locks."""
    try:
        import fcntl  # here, as Windows has none

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as error:
        return error.errno not in _BUSY
    return True


def _holder(descriptor: int) -> str:
    number = os.read(descriptor, 20)
    return f"process {int(number)}" if number.isdigit() else "another process"
