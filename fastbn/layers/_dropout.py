"""Inverted dropout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _convention, _ext
from .._memory import empty, streams
from .._threads import threads_for
from . import _check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from ..typing import Array, Cache, DropoutParam

_AT_ONCE = 1 << 24  # random numbers: a tenth of a second, more or less


def _mode_of(dropout_param: Any) -> str:
    mode = _check.key(dropout_param, "dropout_param", "mode")
    if not isinstance(mode, str) or mode not in ("train", "test"):
        raise ValueError(f"dropout_param['mode'] must be 'train' or 'test'; got {mode!r}")
    return mode


def dropout_forward(
    x: ArrayLike, dropout_param: DropoutParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """Inverted dropout (Srivastava et al., 2014).

    Parameters
    ----------
    x : array_like
        Any shape.
    dropout_param : dict
        - ``p``: probability, in (0, 1], of keeping a number (the course's meaning since 2018);
          after ``fastbn.set_dropout_convention("drop")`` that of dropping it, in [0, 1);
        - ``mode``: ``"train"`` or ``"test"``;
        - ``seed``: optional; ``np.random.seed`` is called with it, in either mode.

    Returns
    -------
    out : ndarray
        ``x * mask`` when training; in test mode `x`, as an array of floating dtype.
    cache : tuple
        ``(dropout_param, mask)``; `mask` is None in test mode, else 0 or ``1 / keep``, where
        `keep` is the share kept, in the dtype that `x` is computed in, so that float32 nets stay
        float32.

    Raises
    ------
    TypeError, ValueError
        If `x` does not hold real numbers, or a key is missing or has a bad value.

    Notes
    -----
    The random numbers are ``np.random.rand(*x.shape)``, from NumPy's global stream as in the
    course, so that seeded results are the course's.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import dropout_backward, dropout_forward
    >>> dropout_param = {"mode": "train", "p": 0.5, "seed": 231}
    >>> out, cache = dropout_forward(np.arange(1.0, 7.0), dropout_param)
    >>> out
    array([0., 0., 6., 8., 0., 0.])
    >>> dropout_backward(np.ones(6), cache)
    array([0., 0., 2., 2., 0., 0.])
    """
    dtype, x_ = _check.floats(("x",), x)
    _check.mapping(dropout_param, "dropout_param")
    mode = _mode_of(dropout_param)
    _check.key(dropout_param, "dropout_param", "p")
    p = _check.number(dropout_param, "dropout_param", "p", None, 1)
    drops = _convention.get_dropout_convention() == "drop"
    if drops and p == 1:
        raise ValueError(f"dropout_param['p'] must be below 1: it is the share dropped; got {p}")
    if not drops and p == 0:
        raise ValueError(f"dropout_param['p'] must be above 0: it is the share kept; got {p}")
    if "seed" in dropout_param:
        try:
            np.random.seed(dropout_param["seed"])
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"dropout_param['seed'] must be a seed for np.random.seed"
                f" ({error}); got {dropout_param['seed']!r}"
            ) from None
    if mode == "test":
        return np.asarray(x).astype(dtype, copy=False), (dropout_param, None)
    uniform = _uniform(x_.shape)
    keep = 1 - p if drops else p
    if drops:
        # The kernel keeps what is below `keep`. `uniform > p` and `uniform < 1 - p` are equally
        # likely but not the same numbers: let those to keep be 0 and the others 1.
        uniform = np.less_equal(uniform, p, out=uniform)
    out = empty(x_.shape, x_.dtype)
    mask = empty(x_.shape, x_.dtype)
    size = x_.size
    _ext.dropout.forward(x_, uniform, size, keep, out, mask, threads_for(size))
    return _check.cast(dtype, out), (dropout_param, mask)


def _uniform(shape: tuple[int, ...]) -> Array:
    """``np.random.rand(*shape)``, drawn so many at a time that an interrupt need not wait long."""
    size = math.prod(shape)
    if size <= _AT_ONCE:
        return np.asarray(np.random.rand(*shape))
    uniform = np.empty(shape)
    flat = uniform.reshape(size)
    for start in range(0, size, _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        part[...] = np.random.rand(part.size)
    return uniform


def dropout_backward(dout: ArrayLike, cache: Cache) -> Array:
    """Gradient of :func:`dropout_forward`.

    Parameters
    ----------
    dout : array_like
        Upstream gradient, of the shape of `x`.
    cache : tuple
        ``(dropout_param, mask)``. The mode is read from the dict now, as in the course.

    Returns
    -------
    dx : ndarray
        ``dout * mask``, or `dout` itself in test mode.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not a dropout cache, or `dout` differs in shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import dropout_backward
    >>> cache = {"mode": "train", "p": 0.5}, np.array([0.0, 2.0])
    >>> dropout_backward(np.array([5.0, 7.0]), cache)
    array([ 0., 14.])
    """
    dropout_param, mask = _check.unpack(cache, 2, "dropout_forward")
    if _mode_of(dropout_param) == "test":
        _check.floats(("dout",), dout)
        return dout  # type: ignore[return-value]  # as it is, even a list
    if mask is None:
        raise ValueError("cache must hold a mask for mode 'train'; it was made in mode 'test'")
    half = getattr(dout, "dtype", None) == _check.F2
    dtype, dout, mask = _check.floats(("dout", "mask"), dout, mask)
    if half and dtype == _check.F4:
        dtype = _check.F2  # the mask of a float16 net is float32; its gradients are float16
    _check.shape("dout", dout, mask.shape, "that of x")
    dx = empty(dout.shape, dout.dtype)
    size = dout.size
    _ext.dropout.backward(dout, mask, size, streams(dout, mask, dx), dx, threads_for(size))
    return _check.cast(dtype, dx)
