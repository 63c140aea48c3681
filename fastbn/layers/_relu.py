"""Rectified linear unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _ext
from .._memory import empty, streams
from .._threads import threads_for
from . import _check

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..typing import Array, Cache


def relu_forward(x: ArrayLike) -> tuple[Array, Cache]:
    """Rectified linear unit: ``out = max(x, 0)``.

    Parameters
    ----------
    x : array_like
        Any shape. NaN stays NaN.

    Returns
    -------
    out : ndarray
        Shape and dtype of `x` (integers become float64).
    cache : array_like
        `x` itself.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import relu_backward, relu_forward
    >>> out, cache = relu_forward(np.array([-1.0, 2.0]))
    >>> out
    array([0., 2.])
    >>> relu_backward(np.array([10.0, 20.0]), cache)
    array([ 0., 20.])
    """
    dtype, x_ = _check.floats(("x",), x)
    out = empty(x_.shape, x_.dtype)
    _ext.relu.forward(x_, x_.size, streams(x_, out), out, threads_for(x_.size))
    return _check.cast(dtype, out), x


def relu_backward(dout: ArrayLike, cache: Cache) -> Array:
    """Gradient of :func:`relu_forward`: `dout` where ``x > 0``, else 0.

    Parameters
    ----------
    dout : array_like
        Upstream gradient, of the shape of `x`.
    cache : array_like
        `x`, as :func:`relu_forward` returned it.

    Returns
    -------
    dx : ndarray
        Shape of `x`; dtype by NumPy's promotion of `dout` and `x`.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not hold real numbers, or differ in shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import relu_backward
    >>> relu_backward(np.array([1.0, 1.0, 1.0]), np.array([-1.0, 0.0, 1.0]))
    array([0., 0., 1.])
    """
    dtype, dout, x = _check.floats(("dout", "cache"), dout, cache)
    _check.shape("dout", dout, x.shape, "that of x")
    dx = empty(x.shape, x.dtype)
    _ext.relu.backward(dout, x, x.size, streams(dout, x, dx), dx, threads_for(x.size))
    return _check.cast(dtype, dx)
