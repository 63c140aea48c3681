"""Independent calls side by side, through joblib."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .. import _threads

# Nets draw from the one stream that NumPy has for a process.
_STREAM = threading.Lock()


def side_by_side(
    function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], n_jobs: int | None = None
) -> Iterator[tuple[int, Any]]:
    """Yield ``(number, function(*arguments[number]))`` as the results come in.

    They are computed in the joblib backend that is active (``joblib.parallel_config``), `n_jobs`
    at a time, each on one thread if there are several; a call has NumPy's global stream for itself
    and leaves it as it was. So results do not depend on `n_jobs` or on the backend.
    """
    joblib = _joblib()
    num_threads = 1 if joblib.effective_n_jobs(n_jobs) > 1 else None
    call = joblib.delayed(_call)
    parent = os.getpid()
    calls = (call(n, function, args, num_threads, parent) for n, args in enumerate(arguments))
    # One call a batch: nothing that is finished waits for its neighbour.
    options = {"n_jobs": n_jobs, "batch_size": 1, "prefer": "processes"}
    try:
        parallel = joblib.Parallel(**options, return_as="generator_unordered")
    except ValueError:
        # multiprocessing and Ray return a list: as many as run at once, again and again.
        parallel = joblib.Parallel(**options)
        for batch in _batches(calls, joblib.effective_n_jobs(n_jobs)):
            yield from parallel(batch)
        return
    with _interrupts_held():
        results = parallel(calls)  # the workers start, and go on as they began
    yield from results


def _call(
    number: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    num_threads: int | None,
    parent: int,
) -> tuple[int, Any]:
    _leave_interrupts_to(parent)
    # In a backend of threads, calls take turns.
    with _STREAM, _threads.at_most(num_threads):
        state = np.random.get_state()
        try:
            return number, function(*arguments)
        finally:
            np.random.set_state(state)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits for the end of this; processes that start meanwhile are never reached by it.

    A worker that imports what it needs would print a traceback before it comes to `_call`. Where
    joblib starts its resource tracker meanwhile, which lets interrupts through, one still may.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_interrupts_to(parent: int) -> None:
    # Ctrl-C reaches the workers of a pool as well, and each would print where it was. The parent
    # ends them.
    in_pool = os.getpid() != parent and multiprocessing.current_process().name != "MainProcess"
    if in_pool and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    values = iter(values)
    while batch := list(itertools.islice(values, size)):
        yield batch


def _joblib() -> Any:
    try:
        import joblib
    except ImportError as error:
        raise ImportError(
            "experiments need joblib, which is not installed: pip install 'fastbn[train]'"
        ) from error
    return joblib


def progress_bar(total: int, done: int, unit: str, show: bool) -> Any:
    """A tqdm bar with the time left, on stderr; one that does nothing if it is not to be shown."""
    if not show:
        # Not tqdm(disable=True): that takes a lock which it shares with forked processes, and one
        # of them that is killed while it has it stops all the others.
        return _NoBar()
    try:
        from tqdm import tqdm
    except ImportError:
        return _NoBar()
    return tqdm(total=total, initial=done, unit=unit, leave=False)


class _NoBar:
    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *exception: Any) -> None:
        pass

    def update(self, number: int) -> None:
        pass
