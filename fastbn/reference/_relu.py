"""Rectified linear unit."""

import numpy as np

from ._dtype import promote


@np.errstate(all="ignore")
def relu_forward(x):
    """out = max(x, 0); a NaN stays a NaN."""
    _, dtype = promote(x)
    return np.maximum(np.asarray(x, dtype=dtype), dtype.type(0)), x


@np.errstate(all="ignore")
def relu_backward(dout, cache):
    """dx = dout where x > 0, else 0."""
    x = np.asarray(cache)
    _, dtype = promote(dout, x)
    # where, not a product: 0 * NaN would let a NaN through a unit that is off.
    return np.where(x > 0, np.asarray(dout, dtype=dtype), dtype.type(0))
