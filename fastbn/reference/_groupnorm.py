"""Group normalization of images."""

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
def spatial_groupnorm_forward(
    x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, G: int, gn_param: NormParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """out = gamma * (x - mean) / sqrt(var + eps) + beta; mean and var of C/G channels of an image.

    gamma and beta, of shape (1, C, 1, 1) or (C,), act on every channel.
    """
    eps = float(gn_param.get("eps", 1e-5))
    values, scale, shift, dtype = working(x, gamma, beta)
    N, C, H, W = values.shape
    if G < 1 or C % G:
        raise ValueError(f"G must divide the number of channels, got G={G} and C={C}")
    # Channels of a group lie side by side, so a group is one row.
    centred, _, var = centre(values.reshape(N * G, C // G * H * W), axis=1)
    std = np.sqrt(var + eps)
    xhat = (centred / std.astype(centred.dtype)).reshape(N, C, H, W)
    out = scale.reshape(1, C, 1, 1) * xhat + shift.reshape(1, C, 1, 1)
    return out.astype(dtype, copy=False), (xhat, std, gamma, dtype)


@np.errstate(all="ignore")
def spatial_groupnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of group normalization; dgamma and dbeta come in the shape of gamma."""
    xhat, std, gamma, forward_dtype = cache
    _, dtype = promote(dout, forward_dtype)
    dout, xhat, scale, _ = working(dout, xhat, gamma)
    N, C, H, W = dout.shape
    rows = (std.shape[0], C * H * W * N // max(std.shape[0], 1))
    dbeta = np.sum(dout, axis=(0, 2, 3), dtype=np.float64).reshape(scale.shape)
    dgamma = np.sum(dout * xhat, axis=(0, 2, 3), dtype=np.float64).reshape(scale.shape)
    dxhat = dout * scale.reshape(1, C, 1, 1)
    dx = normalize_backward(dxhat.reshape(rows), xhat.reshape(rows), std, axis=1)
    dx = dx.reshape(N, C, H, W)
    return dx.astype(dtype, copy=False), dgamma.astype(dtype), dbeta.astype(dtype)


spatial_quick_groupnorm_forward = spatial_groupnorm_forward
spatial_quick_groupnorm_backward = spatial_groupnorm_backward
