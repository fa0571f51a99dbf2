"""Two names exchanged in one step, where the kernel has that, and locks that end with a process.

`renameat2(RENAME_EXCHANGE)`: Linux since 3.15, on ext4, XFS, Btrfs, F2FS and tmpfs. Others, such as
NFS, refuse it, and macOS and Windows have none of that name.
"""

import contextlib
import ctypes
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

__all__ = ["exchange", "hold", "only_one", "synced"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_REFUSED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
_PATIENCE_S = 10.0  # a stopped process must not stop all others


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders, so that both always exist; False if that is unknown here.

    Raises:
        OSError: the file system can do so and did not.
    """
    renameat2 = getattr(_libc(), "renameat2", None)
    if renameat2 is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    code = ctypes.get_errno()
    if code in _REFUSED:
        return False
    raise OSError(code, os.strerror(code), str(other))


def hold(folder: Path) -> int | None:
    """Lock a folder until the number that is returned is closed, or this process ends.

    None if another holds it, or if such locks are not known here.
    """
    if fcntl is None:
        return None
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time into the block, of those that ask for the same folder."""
    until = time.monotonic() + _PATIENCE_S
    number = hold(folder)
    while number is None and _can_lock(folder) and time.monotonic() < until:
        time.sleep(0.002)
        number = hold(folder)
    try:
        yield
    finally:
        if number is not None:
            os.close(number)


def synced(folder: Path) -> None:
    """Have the disk hold the new files below `folder`, and their names.

    Hard links to files that lie elsewhere were written before. What a file system does not know how
    to do is left to it; a disk that fails raises `OSError`.
    """
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            status = os.lstat(os.path.join(root, name))
            if status.st_nlink == 1 and os.path.isfile(os.path.join(root, name)):
                _sync(os.path.join(root, name))
        _sync(root)


def _sync(path: str) -> None:
    try:
        number = os.open(path, os.O_RDONLY)
    except PermissionError:  # a file that its owner may not read, or a folder on Windows
        return
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EBADF):
            raise
    finally:
        os.close(number)


def _can_lock(folder: Path) -> bool:
    """Whether the lock may become free: it is another's, and not unknown here."""
    if fcntl is None:
        return False
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(number)
    return True


def _libc() -> "ctypes.CDLL | None":
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
