"""A run's or a dataset's folder belongs to one process at a time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from gru_audio.errors import GruAudioError
from gru_audio.files import output_errors, remove_unlocked
from gru_audio.locks import lock

_FILE = ".lock"
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


@contextlib.contextmanager
def folder_lock(folder: Path, command: str, error: type[GruAudioError]) -> Iterator[None]:
    """Hold a folder, which is made where it is missing; the system lets go of it whatever ends the process.

    Args:
        folder: a run's or a dataset's.
        command: of gru-audio, of which one at a time works in it.
        error: is raised where another process holds it.

    Raises:
        GruAudioError: another process holds it.
        OutputError: the folder cannot be written.
    """
    path, is_new = folder / _FILE, not folder.exists()
    try:  # before the file is there: a signal can come between any two lines
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with output_errors(path):
            file = os.fdopen(_held(path, command, error), "rb+", buffering=0)
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        with file:
            yield
    finally:
        with contextlib.suppress(OSError):
            remove_unlocked(path, with_children=False, where_unknown=True)
        with contextlib.suppress(OSError):
            if is_new:
                folder.rmdir()  # where nothing could be made; else it is not empty


def _held(path: Path, command: str, error: type[GruAudioError]) -> int:
    """The lock's open file, once this process has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o666)
        if lock(descriptor, wait=False, with_children=False) is False:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise error(
                f"{path.parent}: another gru-audio {command} works in it ({holder}); wait for its end, or choose "
                "another folder"
            )
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        os.close(descriptor)  # another process had it, and removed it since it was opened


def _holder(descriptor: int) -> str:
    number = os.read(descriptor, 20)
    return f"process {int(number)}" if number.isdigit() else "another process"
