"""Inverted dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._convention import get_dropout_convention
from ._dtype import promote, working

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from ..typing import Array, Cache, DropoutParam


@np.errstate(all="ignore")
def dropout_forward(
    x: ArrayLike, dropout_param: DropoutParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """out = x * mask, where mask is 1/p with probability p and else 0; out = x when testing.

    p is the probability to KEEP a value; dividing by it keeps the expectation of out at x. With
    the convention "drop", p is the probability to DROP a value, and 1 - p takes its place.
    """
    p, mode = dropout_param["p"], dropout_param["mode"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])

    mask = None
    values, dtype = working(x)
    if mode == "train":
        # The course's stream of random numbers, so that the course's figures come out.
        draws = np.asarray(np.random.rand(*values.shape))
        if get_dropout_convention() == "drop":
            mask = (draws > p) / (1 - p)
        else:
            mask = (draws < p) / p
        mask = mask.astype(values.dtype)
        out = (values * mask).astype(dtype, copy=False)
    elif mode == "test":
        out = np.asarray(x, dtype=dtype)
    else:
        raise ValueError(f'Invalid dropout mode "{mode}"')
    return out, (dropout_param, mask)


@np.errstate(all="ignore")
def dropout_backward(dout: ArrayLike, cache: Cache) -> Array:
    """dx = dout * mask; dx = dout when testing."""
    dropout_param, mask = cache
    mode = dropout_param["mode"]
    if mode == "test":
        return dout  # type: ignore[return-value]  # as it is, even a list
    if mode != "train":
        raise ValueError(f'Invalid dropout mode "{mode}"')
    compute, dtype = promote(dout, mask)
    if np.asarray(dout).dtype == np.float16 and mask.dtype == np.float32:
        # The mask of a float16 net is float32; the gradient still is one of a float16 net.
        dtype = np.dtype(np.float16)
    dx: Array = np.asarray(dout, dtype=compute) * mask
    return dx.astype(dtype, copy=False)
