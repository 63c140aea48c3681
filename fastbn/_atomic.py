"""Write a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from types import ModuleType
from typing import BinaryIO

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of `path` only once it is complete.

    The bytes go to a temporary file in the same folder (a rename is atomic within one file
    system only), are flushed to the disk, and the file is then renamed. If anything raises on
    the way, the previous `path` is left as it was and the temporary file is removed; that of a
    process that was killed is removed when `path` is next written. A file that is replaced keeps
    its mode; a new one gets what the umask says.

    Parameters
    ----------
    path : str or path-like
        The file to create or replace. A symbolic link is followed, and stays a link.

    Yields
    ------
    file object
        Open for binary writing.

    Raises
    ------
    OSError
        If the folder does not exist, is not writable, or is full, or if `path` is there and not a
        regular file.
    """
    mode = _mode_of(path)
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    _remove_left_over(folder, name)
    descriptor = None
    try:  # from here on, since an interrupt may come as soon as the file is there
        while descriptor is None:
            temporary = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
            # Never, not even while it is written, may more people read it than could before.
            descriptor = _create(temporary, 0o666 if mode is None else mode)
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                # What the umask took away. Some file systems know no modes.
                with contextlib.suppress(OSError):
                    os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows renames no file that is open
            os.replace(temporary, target)  # while it is locked: else it would look left over
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)  # of a full disk: which file it was full for
        raise
    _sync_folder(folder)


def _create(path: str, mode: int) -> int | None:
    """Create a file that is locked while it is open; its descriptor.

    None if another process took it for left over before it was locked, and removes it.
    """
    # os.open rather than tempfile: the mode then follows the umask, as that of any new file does,
    # where tempfile would leave the final file readable by its owner alone.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, mode)
    locked = _lock(descriptor)
    if locked is None or (locked and os.path.exists(path)):
        return descriptor
    os.close(descriptor)
    return None


def _remove_left_over(folder: str, name: str) -> None:
    """Remove what processes that were killed while they wrote `name` have left: nobody's lock."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder or os.curdir) as entries:
        paths = [
            entry.path
            for entry in entries
            if entry.name.startswith(f".{name}.")
            and re.fullmatch(r"[0-9a-f]{16}\.tmp", entry.name[len(name) + 2 :])
            and entry.is_file(follow_symlinks=False)  # not a pipe, which opening would wait for
        ]
        for path in paths:
            # NFS locks only what is open for writing, which that of a read-only file cannot be.
            access = os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY
            with contextlib.suppress(OSError), open(os.open(path, access), "rb") as file:
                if _lock(file.fileno()):
                    os.unlink(path)


def _lock(descriptor: int) -> bool | None:
    """Lock a file; False if somebody else has the lock, None if the system knows no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _mode_of(path: str | os.PathLike[str]) -> int | None:
    """Mode of the file that is to be replaced, None if there is none."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):  # a rename would put a file where a device or a pipe was
        raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
    return stat.S_IMODE(mode)


def _sync_folder(folder: str) -> None:
    """Make the rename itself durable, where the system lets a folder be synced."""
    # Windows cannot open a folder and some network file systems cannot sync one. The file is in
    # place by now, so neither is an error.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
