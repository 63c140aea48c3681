"""Losses over class scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _ext
from .._memory import empty
from .._threads import threads_for
from . import _check

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from ..typing import Array

# An exponential costs about what ten passes over a number do.
_EXP = 10


def softmax_loss(x: ArrayLike, y: ArrayLike) -> tuple[np.float64, Array]:
    """Softmax cross-entropy, averaged over rows.

    Parameters
    ----------
    x : array_like, (N, C)
        Class scores.
    y : array_like of int, (N,)
        Labels in [0, C).

    Returns
    -------
    loss : numpy.float64
        Mean over rows of ``log(sum(exp(x))) - x[y]``, formed so that it cannot overflow.
    dx : ndarray, (N, C)
        ``(softmax(x) - onehot(y)) / N``.

    Raises
    ------
    TypeError, ValueError
        If `x` is not (N, C) of real numbers, or `y` not N integers in range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import softmax_loss
    >>> loss, dx = softmax_loss(np.log([[1.0, 3.0], [1.0, 1.0]]), [1, 0])
    >>> print(f"{loss:.4f}")
    0.4904
    >>> dx.round(3)
    array([[ 0.125, -0.125],
           [-0.25 ,  0.25 ]])
    """
    return _loss(_ext.loss.softmax, x, y, _EXP)


def svm_loss(x: ArrayLike, y: ArrayLike) -> tuple[np.float64, Array]:
    """Multi-class hinge loss with margin 1 (Weston and Watkins), averaged over rows.

    Parameters
    ----------
    x : array_like, (N, C)
        Class scores.
    y : array_like of int, (N,)
        Labels in [0, C).

    Returns
    -------
    loss : numpy.float64
        Mean over rows of the sum over j != y of ``max(0, x[j] - x[y] + 1)``.
    dx : ndarray, (N, C)
        Its gradient.

    Raises
    ------
    TypeError, ValueError
        If `x` is not (N, C) of real numbers, or `y` not N integers in range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import svm_loss
    >>> loss, dx = svm_loss(np.array([[3.0, 1.0, 2.5]]), np.array([0]))
    >>> print(loss)
    0.5
    >>> dx
    array([[-1.,  0.,  1.]])
    """
    return _loss(_ext.loss.svm, x, y, 1)


def _loss(kernel: Callable[..., float], x: Any, y: Any, cost: int) -> tuple[np.float64, Array]:
    dtype, x = _check.floats(("x",), x)
    _check.ndim("x", x, 2, "(N, C)")
    N, C = x.shape
    given = y
    y = _check.labels(y, N)
    if not N:
        return np.float64("nan"), _check.cast(dtype, empty(x.shape, x.dtype))  # as in NumPy
    bad = _ext.loss.wrong_label(y, N, C)
    if bad >= 0:
        raise ValueError(
            f"y must hold labels from 0 to {C - 1} (x has {C} columns);"
            f" got {np.asarray(given)[bad]} at {bad}"
        )
    dx = empty(x.shape, x.dtype)
    loss = kernel(x, y, N, C, dx, np.empty(N), threads_for(cost * x.size))
    return np.float64(loss), _check.cast(dtype, dx)
