"""How many threads a kernel gets."""

from __future__ import annotations

import contextlib
import operator
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

from ._cores import cores
from ._ext import runtime

#: Work, in numbers that a kernel passes over once, below which a second thread does not pay.
SMALL = 1 << 15

#: More threads than this are a mistake that would fail inside OpenMP, where nobody can catch it.
MOST = 256

#: Bytes of stack that kernels want, several times over, and what is absurd.
LEAST_STACK, MOST_STACK = 256 << 10, 1 << 30

_requested: int | None = None
_forked = False


def _unlimited() -> int:
    """Threads that OpenMP grants where nobody has limited it: in a new thread."""
    # Limits belong to a thread, and this one may be imported within one.
    granted: list[int] = []
    thread = threading.Thread(target=lambda: granted.append(runtime.openmp_limit()))
    try:
        thread.start()
    except (RuntimeError, MemoryError):  # no thread is to be had
        return runtime.openmp_limit()
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
    first = text.split(",")[0].strip()  # OMP_NUM_THREADS may list nesting levels
    # int() takes more than OpenMP does: underscores, and the digits of any script.
    if re.fullmatch(r"\+?[0-9]{1,9}", first) and 1 <= int(first) <= MOST:
        return int(first)
    if name.startswith("FASTBN"):
        raise ValueError(f"{name} must be an integer from 1 to {MOST}; got {text!r}")
    return None  # somebody else's variable: OpenMP ignores what it cannot read, and so do we


_from_user = _from_environment("FASTBN_NUM_THREADS") or _from_environment("OMP_NUM_THREADS")
_default = _from_user or min(cores(), MOST)


def _stack_is_usable() -> bool:
    """Whether kernels can run on the stacks that OpenMP was told to give its threads."""
    text = (os.environ.get("OMP_STACKSIZE") or os.environ.get("GOMP_STACKSIZE") or "").strip()
    match = re.fullmatch(r"([0-9]{1,18})\s*([bkmg]?)", text.lower())
    if match is None:
        return True  # none, or one that OpenMP ignores
    size = int(match[1]) << {"b": 0, "": 10, "k": 10, "m": 20, "g": 30}[match[2]]
    # Below, kernels overflow it; above, there may be no room for it, and OpenMP ends the process.
    return LEAST_STACK <= size <= MOST_STACK


class _Started(threading.local):
    """What is known of the threads that OpenMP can start for this one: it has a pool for each."""

    proven = 1
    most = MOST if _stack_is_usable() else 1


_started = _Started()


def _startable(count: int) -> int:
    """`count`, or half as many threads as can be started.

    OpenMP ends the process if the system refuses it a thread: for a limit on processes, or on
    memory. So before it is asked for more than ever before, as many are started here.
    """
    count = max(1, min(count, _started.most))
    if count > _started.proven:
        _started.proven = _start(count - 1) + 1
        if _started.proven < count:  # half of them: others want room, too, and take some meanwhile
            _started.most = count = max(1, _started.proven // 2)
    return count


def _start(count: int) -> int:
    """Start threads that wait for each other; how many could be, up to `count`."""
    done = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=done.wait)
            thread.start()
            threads.append(thread)
    except (RuntimeError, MemoryError):
        pass
    finally:
        done.set()
        for thread in threads:
            thread.join()
    return len(threads)


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
        threadpoolctl or ``OMP_THREAD_LIMIT``, and as many as can be started. 1 without OpenMP,
        within somebody else's parallel region, and in a forked child, where OpenMP's threads are
        gone.

    Notes
    -----
    A limit of exactly OpenMP's own number (``OMP_NUM_THREADS``, else the cores) looks like no
    limit. So it does not cut down more threads than that, asked for by :func:`set_num_threads` or
    ``FASTBN_NUM_THREADS``.
    """
    return _startable(_wanted())


def _wanted() -> int:
    if _forked or not runtime.openmp:
        return 1
    num_threads = _requested or _from_user or min(_default, runtime.processors())
    limit = runtime.openmp_limit()
    if limit != _openmp_limit:
        num_threads = min(num_threads, limit)
    return min(num_threads, runtime.openmp_most())


def threads_for(work: int) -> int:
    """Threads for a kernel that passes over `work` numbers: one where more would not pay.

    What other Python threads' calls have taken is not given twice: each has a pool of OpenMP's
    threads of its own, and together they would be more than there are cores. Nor is a pool made
    for a thread that never finds a core free.
    """
    if work < SMALL:
        return 1
    num_threads = _wanted()
    return _startable(num_threads - runtime.busy()) if num_threads > 1 else 1


def _after_fork_in_child() -> None:
    global _forked
    _forked = True
    runtime.find_main_thread()


if hasattr(os, "register_at_fork"):
    # libgomp's pool does not survive a fork: a child that asks for two threads hangs.
    os.register_at_fork(after_in_child=_after_fork_in_child)
