"""Write a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of `path` only once it is complete.

    The bytes go to a temporary file in the same folder (a rename is atomic within one file
    system only), are flushed to the disk, and the file is then renamed. If anything raises on
    the way, the previous `path` is left as it was and the temporary file is removed. A file that
    is replaced keeps its mode; a new one gets what the umask says.

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
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
    # os.open rather than tempfile: the mode then follows the umask, as that of any new file does,
    # where tempfile would leave the final file readable by its owner alone.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    # Never, not even while it is written, may more people read it than could before.
    descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                # What the umask took away. Some file systems know no modes.
                with contextlib.suppress(OSError):
                    os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(folder)


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
