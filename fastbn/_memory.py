"""Where results live, and how they are written.

Fresh memory costs a page fault for every 4 KiB, often more than the arithmetic on it. So results
from 32 KiB up are allocated by a handler that keeps what is released for the next call, up to a
limit that :func:`set_reuse_limit` sets (256 MiB at first, or ``FASTBN_REUSE_LIMIT`` bytes). They
begin on a cache line, and from 4 MiB up ask for huge pages. They are ordinary NumPy arrays.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import _check
from ._ext import memory, runtime

if TYPE_CHECKING:
    from .typing import Array

empty = memory.empty

#: Bytes read and written by a call from which its results are streamed past the caches: so much
#: of the last cache that the next layer would find little of them there. Virtual machines claim
#: caches that they share with others; no more than 64 MiB are believed.
STREAM = min(runtime.last_cache or 32 << 20, 64 << 20) * 2 // 3


def streams(*arrays: Array) -> bool:
    """Whether a kernel that passes over these arrays should write past the caches."""
    if arrays[0].nbytes * len(arrays) < STREAM:  # the first is as large as any: soon said
        return False
    return sum(array.nbytes for array in arrays) >= STREAM


def set_reuse_limit(limit: int) -> None:
    """Set how much released memory is kept for the next results.

    Parameters
    ----------
    limit : int
        Bytes, in all. What is kept beyond it is given back at once: 0 gives back everything and
        turns reuse off. The default is 256 MiB, or the environment's ``FASTBN_REUSE_LIMIT``.

    Raises
    ------
    TypeError, ValueError
        If `limit` is not an integer of at least 0.

    Notes
    -----
    Only memory that no array uses any more is kept. :func:`show_config` says how much that is.

    Examples
    --------
    >>> import fastbn
    >>> fastbn.set_reuse_limit(64 << 20)
    >>> fastbn.show_config("dict")["memory"]["reuse limit"]
    67108864
    >>> fastbn.set_reuse_limit(256 << 20)
    """
    memory.set_limit(_check.integer("limit", limit, 0))


def _limit_from_environment() -> int:
    text = os.environ.get("FASTBN_REUSE_LIMIT", "").strip()
    if not text:
        return 256 << 20
    try:
        return _check.integer("FASTBN_REUSE_LIMIT", int(text), 0)
    except ValueError:
        raise ValueError(
            f"FASTBN_REUSE_LIMIT must be a number of bytes, at least 0; got {text!r}"
        ) from None


set_reuse_limit(_limit_from_environment())
