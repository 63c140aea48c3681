"""Rectified linear unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._dtype import promote

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..typing import Array, Cache


@np.errstate(all="ignore")
def relu_forward(x: ArrayLike) -> tuple[Array, Cache]:
    """out = max(x, 0); a NaN stays a NaN."""
    _, dtype = promote(x)
    return np.maximum(np.asarray(x, dtype=dtype), dtype.type(0)), x


@np.errstate(all="ignore")
def relu_backward(dout: ArrayLike, cache: Cache) -> Array:
    """dx = dout where x > 0, else 0."""
    x = np.asarray(cache)
    _, dtype = promote(dout, x)
    # where, not a product: 0 * NaN would let a NaN through a unit that is off.
    return np.where(x > 0, np.asarray(dout, dtype=dtype), dtype.type(0))
