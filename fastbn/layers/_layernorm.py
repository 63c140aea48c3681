"""Layer normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _ext
from .._memory import empty, streams
from .._threads import threads_for
from . import _check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from ..typing import Array, Cache, NormParam


class LayerNormCache(NamedTuple):
    """What the backward pass needs."""

    x: np.ndarray
    gamma: np.ndarray
    stats: np.ndarray  # (2, N): mean, 1 / sqrt(var + eps)


def _chunks(N: int, D: int) -> int:
    """Chunks of rows that dgamma and dbeta are summed over, by the shape alone.

    Some 64 of them serve any machine; fewer where rows are few or long, so that the chunks' sums
    stay small against x.
    """
    return max(1, min(64, N // 32, N * D >> 14))


def _forward(
    x: Any, gamma: Any, beta: Any, ln_param: Any, relu: bool = False
) -> tuple[Array, LayerNormCache, Array]:
    """out, the cache and beta as computed with."""
    dtype, x, gamma, beta = _check.floats(("x", "gamma", "beta"), x, gamma, beta)
    _check.ndim("x", x, 2, "(N, D)")
    N, D = x.shape
    _check.shape("gamma", gamma, (D,), "one for every column of x")
    _check.shape("beta", beta, (D,), "one for every column of x")
    _check.mapping(ln_param, "ln_param")
    eps = _check.number(ln_param, "ln_param", "eps", 1e-5)
    out = empty(x.shape, x.dtype)
    stats = np.empty((2, N))
    if x.size:
        _ext.layernorm.forward(
            x, N, D, gamma, beta, eps, relu, streams(x, out), out, stats, threads_for(x.size)
        )
    cache = LayerNormCache(*_check.cast(dtype, x, gamma), stats)
    return _check.cast(dtype, out), cache, beta


def _backward(dout: Any, cache: Any, beta: Array | None = None) -> tuple[Array, Array, Array]:
    """With beta, dout is that of a fused relu's output; both have the dtype of x then."""
    cache = _check.cache(cache, LayerNormCache, "layernorm_forward")
    dtype, dout, x, gamma = _check.floats(("dout", "x", "gamma"), dout, cache.x, cache.gamma)
    _check.shape("dout", dout, x.shape, "that of x")
    N, D = x.shape
    dx = empty(x.shape, x.dtype)
    dgamma, dbeta = np.zeros((2, D), x.dtype)
    if x.size:
        num_threads = threads_for(2 * x.size)
        chunks = _chunks(N, D)
        _ext.layernorm.backward(
            dout,
            x,
            N,
            D,
            chunks,
            gamma,
            beta,
            cache.stats,
            streams(dout, x, dx),
            dx,
            dgamma,
            dbeta,
            np.empty(chunks * 2 * D),
            np.empty(num_threads * _ext.layernorm.scratch_size(D, beta is not None), x.dtype),
            num_threads,
        )
    return _check.cast(dtype, dx, dgamma, dbeta)


def layernorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, ln_param: NormParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """Layer normalization (Ba, Kiros and Hinton, 2016): every row by its own statistics.

    Parameters
    ----------
    x : array_like, (N, D)
        Inputs.
    gamma, beta : array_like, (D,)
        Scale and shift.
    ln_param : dict
        ``eps``: added to the variance; 1e-5 by default. Other keys are ignored.

    Returns
    -------
    out : ndarray, (N, D)
        ``gamma * (x - mean) / sqrt(var + eps) + beta`` with each row's mean and biased variance.
    cache : LayerNormCache
        For :func:`layernorm_backward`. It refers to `x`, which must not change before.

    Raises
    ------
    TypeError, ValueError
        If an argument does not hold real numbers or its shape does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import layernorm_backward, layernorm_forward
    >>> x, gamma, beta = np.array([[1.0, 3.0], [10.0, 30.0]]), np.ones(2), np.zeros(2)
    >>> out, cache = layernorm_forward(x, gamma, beta, {})
    >>> out.round(3)
    array([[-1.,  1.],
           [-1.,  1.]])
    >>> dx, dgamma, dbeta = layernorm_backward(np.array([[1.0, 2.0], [3.0, 4.0]]), cache)
    >>> dgamma.round(3), dbeta
    (array([-4.,  6.]), array([4., 6.]))
    """
    return _forward(x, gamma, beta, ln_param)[:2]


def layernorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`layernorm_forward`.

    Parameters
    ----------
    dout : array_like, (N, D)
        Upstream gradient.
    cache : LayerNormCache
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
        If `cache` is not a layer normalization cache, or `dout` differs in shape.

    Notes
    -----
    With ``xhat = (x - mean) * rstd`` and ``g = dout * gamma``, means over the row::

        dx = rstd * (g - mean(g) - xhat * mean(g * xhat))

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import layernorm_backward, layernorm_forward
    >>> x = np.array([[1.0, 2.0, 6.0]])
    >>> out, cache = layernorm_forward(x, np.ones(3), np.zeros(3), {})
    >>> dx, dgamma, dbeta = layernorm_backward(np.array([[1.0, 0.0, 0.0]]), cache)
    >>> np.allclose(dx.sum(axis=1), 0)  # adding a number to the whole row changes nothing
    True
    """
    return _backward(dout, cache)
