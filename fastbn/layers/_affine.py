"""Fully connected layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .. import _ext
from .._memory import empty
from .._threads import threads_for
from . import _check

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..typing import Array, Cache

# A multiply-add in a register tile costs about a twentieth of a pass over a number.
_FMA = 20
_SHORT = 4096


def matmul(a: Array, b: Array, bias: Array | None = None) -> Array:
    """``a @ b + bias`` for 2-D float arrays of one dtype; transposed views are welcome."""
    (M, K), N = a.shape, b.shape[1]
    if M == 1 and 1 < K <= _SHORT:
        # One row uses every number of b once: packing b would cost more than the product, which
        # BLAS does as it reads. But it adds up long float32 sums one by one, and loses digits.
        with np.errstate(invalid="ignore", over="ignore"):  # as quiet as our own product
            out = a @ b
            return out if bias is None else np.add(out, bias, out=out)
    out = empty((M, N), a.dtype)
    if out.size:
        num_threads = threads_for(M * N * K // _FMA)
        shared, panels = _ext.affine.scratch_sizes(M, N, K, out.itemsize)
        _ext.affine.matmul(
            a,
            b,
            bias,
            out,
            empty((shared,), a.dtype),
            empty((num_threads * panels + 16,), a.dtype),
            num_threads,
        )
    return out


def column_sums(x: Array) -> Array:
    """``x.sum(axis=0)`` for a C-ordered 2-D float array."""
    out = np.zeros(x.shape[1], x.dtype)
    if x.size:
        _ext.affine.column_sums(x, out, threads_for(x.size))
    return out


def affine_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike) -> tuple[Array, Cache]:
    """Fully connected layer: ``out = x.reshape(N, D) @ w + b``.

    Parameters
    ----------
    x : array_like, (N, d1, ..., dk)
        Inputs; ``D = d1 * ... * dk``.
    w : array_like, (D, M)
        Weights.
    b : array_like, (M,)
        Biases.

    Returns
    -------
    out : ndarray, (N, M)
        The results.
    cache : tuple
        ``(x, w, b)``.

    Raises
    ------
    TypeError, ValueError
        If an argument does not hold real numbers or its shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import affine_backward, affine_forward
    >>> x = np.array([[1.0, 2.0]])
    >>> w, b = np.array([[1.0, 3.0], [2.0, 4.0]]), np.array([0.5, 0.0])
    >>> out, cache = affine_forward(x, w, b)
    >>> out
    array([[ 5.5, 11. ]])
    >>> dx, dw, db = affine_backward(np.array([[1.0, 10.0]]), cache)
    >>> dx
    array([[31., 42.]])
    >>> dw
    array([[ 1., 10.],
           [ 2., 20.]])
    """
    dtype, x_, w_, b_ = _check.floats(("x", "w", "b"), x, w, b)
    _check_shapes(x_, w_, b_)
    out = matmul(x_.reshape(len(x_), len(w_)), w_, b_)
    return _check.cast(dtype, out), (x, w, b)


def affine_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`affine_forward`.

    Parameters
    ----------
    dout : array_like, (N, M)
        Upstream gradient.
    cache : tuple
        ``(x, w, b)``.

    Returns
    -------
    dx : ndarray
        ``dout @ w.T``, in the shape of `x`.
    dw : ndarray, (D, M)
        ``x.T @ dout``.
    db : ndarray, (M,)
        ``dout`` summed over rows.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not an affine cache, or `dout` is not (N, M).

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import affine_backward
    >>> cache = np.ones((4, 3, 2)), np.ones((6, 5)), np.zeros(5)
    >>> dx, dw, db = affine_backward(np.ones((4, 5)), cache)
    >>> dx.shape, dw.shape, db.shape
    ((4, 3, 2), (6, 5), (5,))
    """
    x, w, b = _check.unpack(cache, 3, "affine_forward")
    dtype, dout, x, w, b = _check.floats(("dout", "x", "w", "b"), dout, x, w, b)
    _check_shapes(x, w, b)
    N, M = len(x), w.shape[1]
    _check.shape("dout", dout, (N, M), "rows of x by columns of w")
    dx = matmul(dout, w.T).reshape(x.shape)
    dw = matmul(x.reshape(N, len(w)).T, dout)
    return _check.cast(dtype, dx, dw, column_sums(dout))


def _check_shapes(x: Array, w: Array, b: Array) -> None:
    if x.ndim < 1:
        raise ValueError(f"x must be (N, d1, ..., dk); got shape {x.shape}")
    _check.ndim("w", w, 2, "(D, M)")
    D = math.prod(x.shape[1:])
    if len(w) != D:
        raise ValueError(f"w must have {D} rows, the size of a row of x {x.shape}; got {w.shape}")
    _check.shape("b", b, (w.shape[1],), "the columns of w")
