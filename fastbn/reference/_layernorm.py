"""Layer normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._dtype import promote, working
from ._moments import centre, normalize_backward

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from ..typing import Array, Cache, NormParam


@np.errstate(all="ignore")
def layernorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, ln_param: NormParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """out = gamma * (x - mean) / sqrt(var + eps) + beta, with mean and var of every row."""
    eps = float(ln_param.get("eps", 1e-5))
    values, scale, shift, dtype = working(x, gamma, beta)
    centred, _, var = centre(values, axis=1)
    std = np.sqrt(var + eps)
    xhat = centred / std.astype(centred.dtype)
    out = scale * xhat + shift
    return out.astype(dtype, copy=False), (xhat, std, gamma, dtype)


@np.errstate(all="ignore")
def layernorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of layer normalization: that of batch normalization with the axes exchanged."""
    xhat, std, gamma, forward_dtype = cache
    _, dtype = promote(dout, forward_dtype)
    dout, xhat, scale, _ = working(dout, xhat, gamma)
    dbeta = np.sum(dout, axis=0, dtype=np.float64)
    dgamma = np.sum(dout * xhat, axis=0, dtype=np.float64)
    # Unlike in batch normalization, gamma varies along the axis of the means: it goes in first.
    dx = normalize_backward(dout * scale, xhat, std, axis=1)
    return dx.astype(dtype, copy=False), dgamma.astype(dtype), dbeta.astype(dtype)
