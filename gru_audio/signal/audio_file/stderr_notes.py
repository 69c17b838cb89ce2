"""libmpg123's own notes on stderr, kept off the user's screen: what is wrong with a file is told by what reads it.

libsndfile asks it neither to be quiet nor whom to tell, so that while it works the descriptor of stderr leads
elsewhere. That is the whole process's: whatever others write meanwhile is handed on afterwards.
"""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from threading import Lock
from typing import IO

_STDERR = 2
_NOTES = re.compile(rb"mpg123|Frankenstein|resync|(Note|Warning): ")
_one_at_a_time = Lock()


@contextlib.contextmanager
def without_mpg123_notes() -> Iterator[None]:
    """Drop what libmpg123 writes to stderr; nothing is changed where there is no stderr, or no room for it."""
    if sys.__stderr__ is None:  # closed: another file may have its descriptor
        yield
        return
    with _one_at_a_time, contextlib.ExitStack() as stack:
        try:
            screen = os.dup(_STDERR)
            stack.callback(os.close, screen)
            caught = stack.enter_context(tempfile.TemporaryFile())
            _flush()
            os.dup2(caught.fileno(), _STDERR)
        except OSError:
            yield
            return
        try:
            yield
        finally:
            _flush()
            os.dup2(screen, _STDERR)
            _hand_on(caught)


def _flush() -> None:
    """Write what Python still holds to where stderr leads now."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()


def _hand_on(caught: IO[bytes]) -> None:
    """Write what others wrote meanwhile."""
    caught.seek(0)
    lines = caught.read().splitlines(keepends=True)
    notes = [_NOTES.search(line) is not None for line in lines]
    # An empty line belongs to the note after it.
    kept = [
        line
        for n, line in enumerate(lines)
        if not (notes[n] or (not line.strip() and any(notes[n + 1 : n + 2])))
    ]
    if kept:
        with contextlib.suppress(OSError):
            os.write(_STDERR, b"".join(kept))
