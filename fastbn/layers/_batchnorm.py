"""Batch normalization of (N, D) and, over channels, of (N, C, H, W)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _ext
from .._memory import empty, streams
from .._threads import threads_for
from . import _check

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from numpy.typing import ArrayLike

    from ..typing import Array, BatchNormParam, Cache, DType


class BatchNormCache(NamedTuple):
    """What the backward pass needs."""

    x: np.ndarray
    gamma: np.ndarray
    stats: np.ndarray  # (2 or more, C): mean, 1 / sqrt(var + eps)
    constant: bool  # test mode: the statistics were given, not computed from x


# As the kernel has them: numbers of a plane that is passed over alone, and of a block otherwise.
_LONG = 128
_WIDTH = 1024
# Bytes of x from which it is taken not to stay in the caches, and what a core's own cache holds.
_LARGE = 32 << 20
_PRIVATE = 1 << 20


@lru_cache(256)
def _blocks(N: int, C: int, L: int, itemsize: int) -> tuple[int, int]:
    """How the kernel cuts its work, by the shape alone: (channels of a block, parts of N).

    Channels of images go to tasks whole, unless there are fewer than eight. Columns do not: threads
    that share rows by columns fight over the cache lines next to the border, and measured slower
    than one thread. Parts of rows are read twice, but each by its own thread, from its own cache.
    Only where x must come from memory is reading it once worth more: then a block is as many
    columns as stay in a core's own cache.
    """
    size = N * C * L
    parts = max(1, min(16, N, size >> 15))
    if L >= _LONG:
        return 1, 1 if C >= 8 else parts
    if L > 1:
        width = max(1, min(_WIDTH // L, C // 8))
        return width, 1 if C >= 8 else parts
    if size * itemsize >= _LARGE:
        for width in (1024, 512, 256, 128, 64):
            if N * width * itemsize <= _PRIVATE:
                return width, 1
    parts = max(1, min(16, N // 48, size >> 14))
    return min(C, _WIDTH), 1 << parts.bit_length() - 1


_LAYOUTS = {2: "(N, D)", 4: "(N, C, H, W)"}
_NAMES = ("x", "gamma", "beta")


def _forward(
    x: Any, gamma: Any, beta: Any, bn_param: Any, axes: int, relu: bool = False
) -> tuple[Array, BatchNormCache, Array, dict[str, Array]]:
    """out, the cache, beta as computed with, and the new running statistics.

    Those go into bn_param last, when nothing can fail any more, and both or none, whether memory
    runs out or somebody interrupts: `_check.update`.
    """
    _check.mapping(bn_param, "bn_param", "__setitem__")
    mode = _check.key(bn_param, "bn_param", "mode")
    if not isinstance(mode, str) or mode not in ("train", "test"):
        raise ValueError(f'Invalid forward batchnorm mode "{mode}"')
    train = mode == "train"
    given_x = x
    if train:
        dtype, x, gamma, beta = _check.floats(_NAMES, x, gamma, beta)
    else:  # the running statistics are operands like the others
        names, operands = _NAMES, [x, gamma, beta]
        for key in ("running_mean", "running_var"):
            if bn_param.get(key) is not None:
                names += (f"bn_param[{key!r}]",)
                operands.append(bn_param[key])
        dtype, x, gamma, beta, *_ = _check.floats(names, *operands)
    own = getattr(given_x, "dtype", None)  # what x alone would give: the running statistics' dtype
    if own is not dtype:
        own = _check.promotion(np.asarray(given_x).dtype)
    shape = x.shape
    if len(shape) != axes:
        _check.ndim("x", x, axes, _LAYOUTS[axes])
    N, C = shape[:2]
    _check.shape("gamma", gamma, (C,), "one for every channel of x")
    _check.shape("beta", beta, (C,), "one for every channel of x")
    eps = _check.number(bn_param, "bn_param", "eps", 1e-5)
    momentum = _check.number(bn_param, "bn_param", "momentum", 0.9, 1)
    mean = _running(bn_param, "running_mean", C, own)
    var = _running(bn_param, "running_var", C, own)

    out = empty(shape, x.dtype)
    size = x.size
    if size:
        L = size // (N * C)
        width, parts = _blocks(N, C, L, x.itemsize)
        cut = (x, N, C, L, width, parts, gamma, beta)
        num_threads = threads_for(size // 2)
        streaming = streams(x, out)
    if not size:  # nothing to take statistics of: the running ones stay
        stats = np.zeros((2, C))
        mean, var = mean.copy(), var.copy()
    elif train:
        stats = np.empty((3, C))
        partial = np.empty(2 * parts * C)
        _ext.batchnorm.forward(*cut, eps, relu, streaming, out, stats, partial, num_threads)
        mean = _blend(momentum, mean, stats, 0, own)
        var = _blend(momentum, var, stats, 2, own)
    else:
        stats = np.empty((2, C))
        _ext.batchnorm.given(
            mean.astype(_check.F8, copy=False), var.astype(_check.F8, copy=False), C, eps, stats
        )
        _ext.batchnorm.normalize(*cut, stats, relu, streaming, out, num_threads)
        mean, var = mean.copy(), var.copy()
    if dtype is not x.dtype:
        out, x, gamma = _check.cast(dtype, out, x, gamma)
    statistics = {"running_mean": mean, "running_var": var}
    return out, BatchNormCache(x, gamma, stats, not train), beta, statistics


def _running(bn_param: Any, key: str, C: int, dtype: DType) -> Any:
    value = bn_param.get(key)
    if value is None:
        return np.zeros(C, dtype)
    if _check.plain_dtype((value,)) is dtype and value.shape == (C,):
        return value
    name = f"bn_param[{key!r}]"
    array = _check.cast(*_check.floats((name,), value))
    _check.shape(name, array, (C,), "one for every channel of x")
    return array


def _blend(momentum: float, running: Array, stats: Array, row: int, own: DType) -> Array:
    """New running statistics, in the dtype that NumPy would give them."""
    dtype = own
    if running.dtype is not own or own.itemsize < 4:
        dtype = np.promote_types(running.dtype, own)
        _, running = _check.floats(("running",), running.astype(dtype, copy=False))
    blend = np.empty(running.shape, running.dtype)
    _ext.batchnorm.blend(running, momentum, stats, row, blend.size, blend)
    return blend if dtype is blend.dtype else _check.cast(dtype, blend)


def _output(cache: BatchNormCache, beta: Array) -> Array:
    """The output again, without the relu that was fused with it."""
    x, gamma, stats, _ = cache
    out = empty(x.shape, x.dtype)
    if x.size:
        N, C = x.shape[:2]
        L = x.size // (N * C)
        cut = (x, N, C, L, *_blocks(N, C, L, x.itemsize), gamma, beta)
        streaming, num_threads = streams(x, out), threads_for(x.size // 2)
        _ext.batchnorm.normalize(*cut, stats, False, streaming, out, num_threads)
    return out


def _backward(
    dout: Any, cache: Any, made_by: str, beta: Array | None = None
) -> tuple[Array, Array, Array]:
    """With beta, dout is that of a fused relu's output; both have the dtype of x then."""
    cache = _check.cache(cache, BatchNormCache, made_by)
    dtype, dout, x, gamma = _check.floats(("dout", "x", "gamma"), dout, cache.x, cache.gamma)
    _check.shape("dout", dout, x.shape, "that of x")
    N, C = x.shape[:2]
    size = x.size
    dx = empty(x.shape, x.dtype)
    if not size:
        return _check.cast(dtype, dx, np.zeros(C, x.dtype), np.zeros(C, x.dtype))
    L = size // (N * C)
    dgamma, dbeta = np.empty(C, x.dtype), np.empty(C, x.dtype)
    width, parts = _blocks(N, C, L, x.itemsize)
    _ext.batchnorm.backward(
        dout,
        x,
        N,
        C,
        L,
        width,
        parts,
        gamma,
        beta,
        cache.stats,
        cache.constant,
        streams(dout, x, dx),
        dx,
        dgamma,
        dbeta,
        np.empty(2 * parts * C),
        threads_for(size),
    )
    return _check.cast(dtype, dx, dgamma, dbeta)


def batchnorm_forward(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    bn_param: BatchNormParam | MutableMapping[str, Any],
) -> tuple[Array, Cache]:
    """Batch normalization (Ioffe and Szegedy, 2015).

    Parameters
    ----------
    x : array_like, (N, D)
        Inputs; every column is normalized.
    gamma, beta : array_like, (D,)
        Scale and shift.
    bn_param : dict
        - ``mode``: ``"train"`` (the batch's statistics) or ``"test"`` (the running ones);
        - ``eps``: added to the variance; 1e-5 by default;
        - ``momentum``: share of the old running statistics that is kept; 0.9 by default;
        - ``running_mean``, ``running_var``: (D,), zeros by default. New arrays are written back
          in every call; yours are not changed in place.

        Other keys are ignored.

    Returns
    -------
    out : ndarray, (N, D)
        The normalized inputs, scaled and shifted.
    cache : BatchNormCache
        For :func:`batchnorm_backward` and :func:`batchnorm_backward_alt`. It refers to `x`, which
        must not change before the backward pass.

    Raises
    ------
    TypeError, ValueError
        If an argument does not hold real numbers, its shape does not fit, a key is missing
        (also a ``KeyError``) or the mode is unknown.

    Notes
    -----
    ``out = gamma * (x - mean) / sqrt(var + eps) + beta`` with the biased variance, which is also
    what goes into ``running_var``. Mean and variance are formed in one pass over memory by
    merging blocks (Chan, Golub and LeVeque, 1979), and stay accurate where the mean is large
    against the deviation. N = 0 leaves the running statistics as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import batchnorm_backward, batchnorm_forward
    >>> x, gamma, beta = np.array([[1.0, 10.0], [3.0, 30.0]]), np.ones(2), np.zeros(2)
    >>> bn_param = {"mode": "train"}
    >>> out, cache = batchnorm_forward(x, gamma, beta, bn_param)
    >>> out.round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> bn_param["running_mean"].round(3)
    array([0.2, 2. ])
    >>> dx, dgamma, dbeta = batchnorm_backward(np.array([[5.0, 6.0], [7.0, 9.0]]), cache)
    >>> dgamma.round(3), dbeta
    (array([2., 3.]), array([12., 15.]))
    """
    out, cache, _, statistics = _forward(x, gamma, beta, bn_param, 2)
    result = out, cache
    _check.update(bn_param, statistics)
    return result


def batchnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`batchnorm_forward`, of either mode.

    Parameters
    ----------
    dout : array_like, (N, D)
        Upstream gradient.
    cache : BatchNormCache
        From the forward pass.

    Returns
    -------
    dx : ndarray, (N, D)
        Gradient of `x`.
    dgamma, dbeta : ndarray, (D,)
        Gradients of scale and shift.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not a batch normalization cache, or `dout` differs in shape.

    Notes
    -----
    With ``xhat = (x - mean) * rstd``::

        dbeta  = sum(dout)
        dgamma = sum(dout * xhat)
        dx     = gamma * rstd * (dout - dbeta / N - xhat * dgamma / N)

    and in test mode, where the statistics are constants, ``dx = gamma * rstd * dout``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import batchnorm_backward, batchnorm_forward
    >>> x = np.array([[1.0], [2.0], [6.0]])
    >>> out, cache = batchnorm_forward(x, np.ones(1), np.zeros(1), {"mode": "train"})
    >>> dx, dgamma, dbeta = batchnorm_backward(np.array([[1.0], [0.0], [0.0]]), cache)
    >>> np.allclose(dx.sum(axis=0), 0)  # adding a number to all rows changes nothing
    True
    """
    return _backward(dout, cache, "batchnorm_forward")


def batchnorm_backward_alt(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """:func:`batchnorm_backward` under the course's name for the simplified derivation.

    The kernel computes the simplified formula either way; see :mod:`fastbn.reference` for the
    walk through the computational graph.

    Parameters
    ----------
    dout : array_like, (N, D)
        Upstream gradient.
    cache : BatchNormCache
        From the forward pass.

    Returns
    -------
    dx : ndarray, (N, D)
        Gradient of `x`.
    dgamma, dbeta : ndarray, (D,)
        Gradients of scale and shift.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not a batch normalization cache, or `dout` differs in shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import batchnorm_backward, batchnorm_backward_alt, batchnorm_forward
    >>> x, dout = np.arange(12.0).reshape(4, 3) ** 2, np.arange(12.0).reshape(4, 3)
    >>> _, cache = batchnorm_forward(x, np.ones(3), np.zeros(3), {"mode": "train"})
    >>> np.array_equal(batchnorm_backward(dout, cache)[0], batchnorm_backward_alt(dout, cache)[0])
    True
    """
    return batchnorm_backward(dout, cache)


def spatial_batchnorm_forward(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    bn_param: BatchNormParam | MutableMapping[str, Any],
) -> tuple[Array, Cache]:
    """Batch normalization of images: every channel over all images and pixels.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Inputs.
    gamma, beta : array_like, (C,)
        Scale and shift.
    bn_param : dict
        As in :func:`batchnorm_forward`; running statistics are (C,).

    Returns
    -------
    out : ndarray, (N, C, H, W)
        The normalized inputs, scaled and shifted.
    cache : tuple
        For :func:`spatial_batchnorm_backward`. It refers to `x`, which must not change before.

    Raises
    ------
    TypeError, ValueError
        As in :func:`batchnorm_forward`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import spatial_batchnorm_backward, spatial_batchnorm_forward
    >>> x, gamma, beta = np.arange(16.0).reshape(2, 2, 2, 2), np.ones(2), np.array([3.0, 4.0])
    >>> out, cache = spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
    >>> out.mean(axis=(0, 2, 3)).round(3)
    array([3., 4.])
    >>> dx, dgamma, dbeta = spatial_batchnorm_backward(np.ones_like(x), cache)
    >>> dbeta
    array([8., 8.])
    """
    out, cache, _, statistics = _forward(x, gamma, beta, bn_param, 4)
    result = out, (cache, out.shape)
    _check.update(bn_param, statistics)
    return result


def spatial_batchnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`spatial_batchnorm_forward`, of either mode.

    Parameters
    ----------
    dout : array_like, (N, C, H, W)
        Upstream gradient.
    cache : tuple
        From the forward pass.

    Returns
    -------
    dx : ndarray, (N, C, H, W)
        Gradient of `x`.
    dgamma, dbeta : ndarray, (C,)
        Gradients of scale and shift.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not a spatial batch normalization cache, or `dout` differs in shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import spatial_batchnorm_backward, spatial_batchnorm_forward
    >>> x = np.arange(16.0).reshape(2, 2, 2, 2)
    >>> out, cache = spatial_batchnorm_forward(x, np.ones(2), np.zeros(2), {"mode": "train"})
    >>> dx, dgamma, dbeta = spatial_batchnorm_backward(np.ones_like(x), cache)
    >>> dx.shape, dgamma.shape, dbeta
    ((2, 2, 2, 2), (2,), array([8., 8.]))
    """
    cache, _ = _check.unpack(cache, 2, "spatial_batchnorm_forward")
    return _backward(dout, cache, "spatial_batchnorm_forward")
