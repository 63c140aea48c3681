"""How many threads a kernel gets."""

from __future__ import annotations

import contextlib
import operator
import os
import threading
from collections.abc import Iterator
from typing import Any

from ._ext import runtime

#: Work, in numbers that a kernel passes over once, below which a second thread does not pay.
SMALL = 1 << 15

#: More threads than this are a mistake that would fail inside OpenMP, where nobody can catch it.
MOST = 256

_requested: int | None = None
_forked = False


def _unlimited() -> int:
    """Threads that OpenMP grants where nobody has limited it: in a new thread."""
    # Limits belong to a thread, and this one may be imported within one.
    granted: list[int] = []
    thread = threading.Thread(target=lambda: granted.append(runtime.openmp_limit()))
    thread.start()
    thread.join()
    return granted[0]


# A limit (threadpoolctl sets OpenMP's number for the calling thread) shows as a difference from
# this. One that equals it cannot be seen; it would matter only to who asked for more than it.
_openmp_limit = _unlimited() if runtime.openmp else 1


def _count(value: Any, name: str) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {value!r}") from None
    if not 1 <= count <= MOST:
        raise ValueError(f"{name} must be from 1 to {MOST}; got {value!r}")
    return count


def _from_environment(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    try:
        return _count(int(text.split(",")[0]), name)  # OMP_NUM_THREADS may list nesting levels
    except ValueError:
        if name.startswith("FASTBN"):
            raise ValueError(f"{name} must be an integer from 1 to {MOST}; got {text!r}") from None
        return None  # somebody else's variable: OpenMP ignores what it cannot read, and so do we


def _cores() -> int:
    """Cores that this process may use: affinity and the control group's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(1, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        pass
    return cores


_default = (
    _from_environment("FASTBN_NUM_THREADS")
    or _from_environment("OMP_NUM_THREADS")
    or min(_cores(), MOST)
)


def set_num_threads(num_threads: int | None) -> None:
    """Set how many threads the kernels may use.

    Parameters
    ----------
    num_threads : int or None
        From 1 to 256. None goes back to the default: ``FASTBN_NUM_THREADS``, else
        ``OMP_NUM_THREADS``, else the cores that this process may use.

    Raises
    ------
    TypeError, ValueError
        If `num_threads` is not an integer from 1 to 256.

    Examples
    --------
    >>> import fastbn
    >>> fastbn.set_num_threads(1)
    >>> fastbn.get_num_threads()
    1
    >>> fastbn.set_num_threads(None)
    """
    global _requested
    _requested = None if num_threads is None else _count(num_threads, "num_threads")


@contextlib.contextmanager
def at_most(num_threads: int | None) -> Iterator[None]:
    """Within it the kernels use no more than `num_threads` threads; None changes nothing."""
    global _requested
    before = _requested
    if num_threads is not None:
        _requested = min(num_threads, get_num_threads())
    try:
        yield
    finally:
        _requested = before


def get_num_threads() -> int:
    """Threads that a large enough kernel call made now would use.

    Returns
    -------
    int
        What :func:`set_num_threads` or the default says, within any limit set through
        threadpoolctl. 1 without OpenMP, and in a forked child, where OpenMP's threads are gone.

    Notes
    -----
    A limit of exactly OpenMP's own number (``OMP_NUM_THREADS``, else the cores) looks like no
    limit. So it does not cut down more threads than that, asked for by :func:`set_num_threads` or
    ``FASTBN_NUM_THREADS``.
    """
    if _forked or not runtime.openmp:
        return 1
    num_threads = _requested or _default
    limit = runtime.openmp_limit()
    return num_threads if limit == _openmp_limit else min(num_threads, limit)


def threads_for(work: int) -> int:
    """Threads for a kernel that passes over `work` numbers: one where more would not pay."""
    return 1 if work < SMALL else get_num_threads()


def _after_fork_in_child() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    # libgomp's pool does not survive a fork: a child that asks for two threads hangs.
    os.register_at_fork(after_in_child=_after_fork_in_child)
