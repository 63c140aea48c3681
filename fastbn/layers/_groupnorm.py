"""Group normalization of images."""

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


class GroupNormCache(NamedTuple):
    """What the backward pass needs; gamma keeps the shape it came in."""

    x: np.ndarray
    gamma: np.ndarray
    stats: np.ndarray  # (2, N * G): mean, 1 / sqrt(var + eps)


def spatial_groupnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, G: int, gn_param: NormParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """Group normalization (Wu and He, 2018).

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Inputs.
    gamma, beta : array_like, (1, C, 1, 1) or (C,)
        Scale and shift.
    G : int
        Groups; divides C. A group is C / G neighbouring channels of one image.
    gn_param : dict
        ``eps``: added to the variance; 1e-5 by default. Other keys are ignored.

    Returns
    -------
    out : ndarray, (N, C, H, W)
        ``gamma * (x - mean) / sqrt(var + eps) + beta`` with each group's mean and biased variance.
    cache : GroupNormCache
        For :func:`spatial_groupnorm_backward`. It refers to `x`, which must not change before.

    Raises
    ------
    TypeError, ValueError
        If an argument does not hold real numbers, its shape does not fit, or G does not divide C.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import spatial_groupnorm_backward, spatial_groupnorm_forward
    >>> x = np.array([1.0, 3.0, 10.0, 30.0]).reshape(1, 4, 1, 1)
    >>> gamma, beta = np.ones((1, 4, 1, 1)), np.zeros((1, 4, 1, 1))
    >>> out, cache = spatial_groupnorm_forward(x, gamma, beta, 2, {})
    >>> out.ravel().round(3)
    array([-1.,  1., -1.,  1.])
    >>> dx, dgamma, dbeta = spatial_groupnorm_backward(np.ones_like(x), cache)
    >>> dbeta.shape
    (1, 4, 1, 1)
    """
    dtype, x, gamma, beta = _check.floats(("x", "gamma", "beta"), x, gamma, beta)
    _check.ndim("x", x, 4, "(N, C, H, W)")
    N, C, H, W = x.shape
    for name, array in (("gamma", gamma), ("beta", beta)):
        if array.shape not in ((1, C, 1, 1), (C,)):
            raise ValueError(f"{name} must be (1, {C}, 1, 1) or ({C},); got shape {array.shape}")
    G = _check.integer("G", G, 1)
    if C % G:
        raise ValueError(f"G must divide the {C} channels of x; got {G}")
    _check.mapping(gn_param, "gn_param")
    eps = _check.number(gn_param, "gn_param", "eps", 1e-5)
    out = empty(x.shape, x.dtype)
    stats = np.empty((2, N * G if x.size else 0))  # any G divides no channels
    if x.size:
        _ext.groupnorm.forward(
            x, N, C, H * W, G, gamma, beta, eps, streams(x, out), out, stats, threads_for(x.size)
        )
    return _check.cast(dtype, out), GroupNormCache(*_check.cast(dtype, x, gamma), stats)


def spatial_groupnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`spatial_groupnorm_forward`.

    Parameters
    ----------
    dout : array_like, (N, C, H, W)
        Upstream gradient.
    cache : GroupNormCache
        From the forward pass.

    Returns
    -------
    dx : ndarray, (N, C, H, W)
        Gradient of `x`.
    dgamma, dbeta : ndarray
        In the shape of `gamma`.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not a group normalization cache, or `dout` differs in shape.

    Notes
    -----
    With ``xhat = (x - mean) * rstd`` and ``g = dout * gamma``, means over the group::

        dx = rstd * (g - mean(g) - xhat * mean(g * xhat))

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import spatial_quick_groupnorm_backward, spatial_quick_groupnorm_forward
    >>> x = np.arange(36.0).reshape(1, 4, 3, 3)
    >>> out, cache = spatial_quick_groupnorm_forward(x, np.ones(4), np.zeros(4), 2, {})
    >>> dx, dgamma, dbeta = spatial_quick_groupnorm_backward(np.ones_like(x), cache)
    >>> dx.shape, dbeta
    ((1, 4, 3, 3), array([9., 9., 9., 9.]))
    """
    cache = _check.cache(cache, GroupNormCache, "spatial_groupnorm_forward")
    dtype, dout, x, gamma = _check.floats(("dout", "x", "gamma"), dout, cache.x, cache.gamma)
    _check.shape("dout", dout, x.shape, "that of x")
    N, C, H, W = x.shape
    dx = empty(x.shape, x.dtype)
    dgamma, dbeta = np.zeros((2, C), x.dtype)
    if x.size:
        _ext.groupnorm.backward(
            dout,
            x,
            N,
            C,
            H * W,
            _groups(cache, N, C),
            gamma,
            cache.stats,
            streams(dout, x, dx),
            dx,
            dgamma,
            dbeta,
            np.empty((N + 1) * 2 * C),
            threads_for(2 * x.size),
        )
    return _check.cast(dtype, dx, dgamma.reshape(gamma.shape), dbeta.reshape(gamma.shape))


def _groups(cache: Cache, N: int, C: int) -> int:
    """G, by the statistics: two numbers for each of an image's groups."""
    shape = np.shape(cache.stats)
    if len(shape) == 2 and shape[0] == 2 and shape[1] % N == 0:
        G: int = shape[1] // N
        if G and C % G == 0:
            return G
    raise _check.wrong_cache(cache, "spatial_groupnorm_forward")


#: The name in some years' handouts.
spatial_quick_groupnorm_forward = spatial_groupnorm_forward
spatial_quick_groupnorm_backward = spatial_groupnorm_backward
