"""Batch normalization of (N, D) and, over channels, of (N, C, H, W)."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _check, _ext
from .._threads import threads_for


class BatchNormCache(NamedTuple):
    """What the backward pass needs; x is (N, C, L)."""

    x: np.ndarray
    gamma: np.ndarray
    stats: np.ndarray  # (2 or more, C): mean, 1 / sqrt(var + eps)
    constant: bool  # test mode: the statistics were given, not computed from x


# Bytes of x from which it is taken not to stay in the caches, and what a core's own cache holds.
_LARGE = 32 << 20
_PRIVATE = 1 << 20


def _blocks(N, C, L, itemsize):
    """How the kernel cuts its work, by the shape alone: (channels of a block, parts of N).

    Parts of rows read twice, once for the statistics, and each thread keeps to its own rows;
    threads that share rows by columns fight over the cache lines next to the border, and measured
    slower than one thread. Only where x must come from memory is reading it once worth more: then
    columns are cut so that a block stays in a core's own cache.
    """
    size = N * C * L
    if L > 1:
        return 1, 1 if C >= 8 else max(1, min(16, N, size >> 15))
    width = 128 if C >= 512 else 64
    if size * itemsize >= _LARGE:
        for narrow in (128, 64):
            if N * narrow * itemsize <= _PRIVATE:
                return narrow, 1
    return width, max(1, min(16, N // 32, size >> 16))


def _arguments(x, gamma, beta, bn_param):
    """Arrays in one dtype. In test mode the running statistics are operands like the others."""
    _check.mapping(bn_param, "bn_param", "__setitem__")
    mode = _check.key(bn_param, "bn_param", "mode")
    if not isinstance(mode, str) or mode not in ("train", "test"):
        raise ValueError(f'Invalid forward batchnorm mode "{mode}"')
    given = ()
    if mode == "test":
        given = [key for key in ("running_mean", "running_var") if bn_param.get(key) is not None]
    names = ("x", "gamma", "beta", *(f"bn_param[{key!r}]" for key in given))
    dtype, *arrays = _check.floats(names, x, gamma, beta, *(bn_param[key] for key in given))
    own = getattr(x, "dtype", None)
    if own is not dtype:
        own = _check.promotion(np.asarray(x).dtype)
    return dtype, own, *arrays[:3]


def _forward(dtype, own, x, gamma, beta, bn_param):
    """Normalize channels of x (N, C, L); out, cache, and the new running statistics in bn_param.

    `dtype` is that of the results, `own` that which x alone would give: the statistics'.
    """
    N, C, L = x.shape
    mode = bn_param["mode"]
    _check.shape("gamma", gamma, (C,), "one for every channel of x")
    _check.shape("beta", beta, (C,), "one for every channel of x")
    eps = _check.number(bn_param, "bn_param", "eps", 1e-5)
    momentum = _check.number(bn_param, "bn_param", "momentum", 0.9, 1)
    mean, var = (_running(bn_param, key, C, own) for key in ("running_mean", "running_var"))

    out = np.empty(x.shape, x.dtype)
    width, parts = _blocks(N, C, L, x.itemsize)
    num_threads = threads_for(x.size // 2)
    if mode == "test":
        stats = np.array([mean, var], np.float64)
        with np.errstate(all="ignore"):  # a running variance of -eps is the caller's business
            stats[1] = 1 / np.sqrt(stats[1] + eps)
        if x.size:
            _ext.batchnorm.normalize(x, gamma, beta, stats, width, parts, out, num_threads)
    elif x.size:
        stats = np.empty((3, C))
        partial = np.empty((parts, 2, C))
        _ext.batchnorm.forward(x, gamma, beta, eps, width, out, stats, partial, num_threads)
        mean = _blend(momentum, mean, stats[0], own)
        var = _blend(momentum, var, stats[2], own)
    else:  # nothing to take statistics of: the running ones stay
        stats = np.zeros((2, C))
    learned = mode == "train" and x.size
    bn_param["running_mean"] = mean if learned else mean.copy()
    bn_param["running_var"] = var if learned else var.copy()
    cache = BatchNormCache(*_check.cast(dtype, x, gamma), stats, mode == "test")
    return _check.cast(dtype, out), cache


def _running(bn_param, key, C, dtype):
    value = bn_param.get(key)
    if value is None:
        return np.zeros(C, dtype)
    array = _check.cast(*_check.floats((f"bn_param[{key!r}]",), value))
    _check.shape(f"bn_param[{key!r}]", array, (C,), "one for every channel of x")
    return array


def _blend(momentum, running, batch, own):
    """New running statistics, in the dtype that NumPy would give them."""
    blend = momentum * running + (1 - momentum) * batch
    dtype = np.promote_types(running.dtype, own)
    if dtype is blend.dtype:
        return blend
    with np.errstate(over="ignore"):  # infinity, but no warning, where the dtype ends
        return blend.astype(dtype, copy=False)


def _backward(dout, x, gamma, stats, constant):
    N, C, L = x.shape
    dx = np.empty(x.shape, x.dtype)
    if not x.size:
        return dx, np.zeros(C, x.dtype), np.zeros(C, x.dtype)
    dgamma, dbeta = np.empty((2, C), x.dtype)
    width, parts = _blocks(N, C, L, x.itemsize)
    partial = np.empty((parts, 2, C))
    _ext.batchnorm.backward(
        dout, x, gamma, stats, constant, width, dx, dgamma, dbeta, partial, threads_for(x.size)
    )
    return dx, dgamma, dbeta


def batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: dict[str, Any]
) -> tuple[NDArray[Any], Any]:
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
    """
    dtype, own, x, gamma, beta = _arguments(x, gamma, beta, bn_param)
    _check.ndim("x", x, 2, "(N, D)")
    out, cache = _forward(dtype, own, x[:, :, None], gamma, beta, bn_param)
    return out[:, :, 0], cache


def batchnorm_backward(dout: ArrayLike, cache: Any) -> tuple[NDArray[Any], ...]:
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
    dgamma, dbeta : ndarray, (D,)

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
    """
    cache = _check.cache(cache, BatchNormCache, "batchnorm_forward")
    N, C, L = cache.x.shape
    dtype, dout, x, gamma = _check.floats(("dout", "x", "gamma"), dout, cache.x, cache.gamma)
    _check.shape("dout", dout, (N, C * L), "that of x")
    dx, dgamma, dbeta = _backward(dout.reshape(x.shape), x, gamma, cache.stats, cache.constant)
    return _check.cast(dtype, dx.reshape(N, C * L), dgamma, dbeta)


def batchnorm_backward_alt(dout: ArrayLike, cache: Any) -> tuple[NDArray[Any], ...]:
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
    dgamma, dbeta : ndarray, (D,)

    Raises
    ------
    TypeError, ValueError
        If `cache` is not a batch normalization cache, or `dout` differs in shape.
    """
    return batchnorm_backward(dout, cache)


def spatial_batchnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, bn_param: dict[str, Any]
) -> tuple[NDArray[Any], Any]:
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
    cache : tuple
        For :func:`spatial_batchnorm_backward`. It refers to `x`, which must not change before.

    Raises
    ------
    TypeError, ValueError
        As in :func:`batchnorm_forward`.
    """
    dtype, own, x, gamma, beta = _arguments(x, gamma, beta, bn_param)
    _check.ndim("x", x, 4, "(N, C, H, W)")
    N, C, H, W = x.shape
    out, cache = _forward(dtype, own, x.reshape(N, C, H * W), gamma, beta, bn_param)
    return out.reshape(x.shape), (cache, x.shape)


def spatial_batchnorm_backward(dout: ArrayLike, cache: Any) -> tuple[NDArray[Any], ...]:
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
    dgamma, dbeta : ndarray, (C,)

    Raises
    ------
    TypeError, ValueError
        If `cache` is not a spatial batch normalization cache, or `dout` differs in shape.
    """
    cache, shape = _check.unpack(cache, 2, "spatial_batchnorm_forward")
    cache = _check.cache(cache, BatchNormCache, "spatial_batchnorm_forward")
    dtype, dout, x, gamma = _check.floats(("dout", "x", "gamma"), dout, cache.x, cache.gamma)
    _check.shape("dout", dout, shape, "that of x")
    dx, dgamma, dbeta = _backward(dout.reshape(x.shape), x, gamma, cache.stats, cache.constant)
    return _check.cast(dtype, dx.reshape(shape), dgamma, dbeta)
