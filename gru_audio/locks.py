"""Locks on open files, which the system takes back from a process that is killed."""

import errno
import os
import sys
import time

_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_BUSY = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})
_PAUSE_S = 0.1


def lock(descriptor: int, *, wait: bool, with_children: bool = True) -> bool | None:
    """Lock an open file until it is closed.

    Args:
        descriptor: of the file, which may be written to where `with_children` is false.
        wait: for another process that holds it.
        with_children: whether a process that this one forks holds it, too. If not, it is lost as well when this process
            opens the file once more and closes that.

    Returns:
        True: it is locked; False: another process holds it; None: the file's system knows no locks.

    Raises:
        OSError: anything else.
    """
    while True:
        try:
            _lock(descriptor, with_children)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return None
            if error.errno not in _BUSY:
                raise
            if not wait:
                return False
            time.sleep(_PAUSE_S)
        else:
            return True


if sys.platform == "win32":
    import msvcrt

    _PLACE = 1 << 30  # of the byte that is locked, and then cannot be read: beyond all that these files hold

    def _lock(descriptor: int, with_children: bool) -> None:
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, place, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int, with_children: bool) -> None:
        take = fcntl.flock if with_children else fcntl.lockf
        take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
