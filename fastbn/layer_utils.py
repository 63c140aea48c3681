"""Composed layers. The star imports are the course's: its users take layers from here too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import layers
from .fast_layers import *
from .layers import *
from .layers import (
    _conv,
    _fused,
    affine_backward,
    affine_forward,
    conv_backward_fast,
    conv_forward_fast,
    relu_backward,
    relu_forward,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from typing import Any

    from numpy.typing import ArrayLike

    from .typing import Array, BatchNormParam, Cache, ConvParam, NormParam, PoolParam

__all__ = [
    "affine_relu_forward",
    "affine_relu_backward",
    "affine_bn_relu_forward",
    "affine_bn_relu_backward",
    "affine_ln_relu_forward",
    "affine_ln_relu_backward",
    "conv_relu_forward",
    "conv_relu_backward",
    "conv_bn_relu_forward",
    "conv_bn_relu_backward",
    "conv_relu_pool_forward",
    "conv_relu_pool_backward",
]
__all__ += layers.__all__


def affine_relu_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike) -> tuple[Array, Cache]:
    """Affine layer, then relu.

    Parameters
    ----------
    x : array_like, (N, d1, ..., dk)
    w : array_like, (D, M)
    b : array_like, (M,)

    Returns
    -------
    out : ndarray, (N, M)
    cache : tuple
        ``(fc_cache, relu_cache)``.
    """
    out, fc_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(out)
    return out, (fc_cache, relu_cache)


def affine_relu_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`affine_relu_forward`: ``dx, dw, db``."""
    fc_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), fc_cache)


def affine_bn_relu_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    bn_param: BatchNormParam | MutableMapping[str, Any],
) -> tuple[Array, Cache]:
    """Affine layer, batch normalization, relu.

    Parameters
    ----------
    x : array_like, (N, d1, ..., dk)
    w : array_like, (D, M)
    b, gamma, beta : array_like, (M,)
    bn_param : dict
        As in :func:`fastbn.layers.batchnorm_forward`.

    Returns
    -------
    out : ndarray, (N, M)
    cache : tuple
        ``(fc_cache, bn_cache, relu_cache)``.
    """
    out, fc_cache = affine_forward(x, w, b)
    out, (bn_cache, relu_cache) = _fused.batchnorm_relu_forward(out, gamma, beta, bn_param)
    return out, (fc_cache, bn_cache, relu_cache)


def affine_bn_relu_backward(
    dout: ArrayLike, cache: Cache
) -> tuple[Array, Array, Array, Array, Array]:
    """Gradient of :func:`affine_bn_relu_forward`: ``dx, dw, db, dgamma, dbeta``."""
    fc_cache, bn_cache, relu_cache = cache
    dout, dgamma, dbeta = _fused.batchnorm_relu_backward(dout, (bn_cache, relu_cache))
    return *affine_backward(dout, fc_cache), dgamma, dbeta


def affine_ln_relu_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    ln_param: NormParam | Mapping[str, Any],
) -> tuple[Array, Cache]:
    """Affine layer, layer normalization, relu.

    Parameters
    ----------
    x : array_like, (N, d1, ..., dk)
    w : array_like, (D, M)
    b, gamma, beta : array_like, (M,)
    ln_param : dict
        As in :func:`fastbn.layers.layernorm_forward`.

    Returns
    -------
    out : ndarray, (N, M)
    cache : tuple
        ``(fc_cache, ln_cache, relu_cache)``.
    """
    out, fc_cache = affine_forward(x, w, b)
    out, (ln_cache, relu_cache) = _fused.layernorm_relu_forward(out, gamma, beta, ln_param)
    return out, (fc_cache, ln_cache, relu_cache)


def affine_ln_relu_backward(
    dout: ArrayLike, cache: Cache
) -> tuple[Array, Array, Array, Array, Array]:
    """Gradient of :func:`affine_ln_relu_forward`: ``dx, dw, db, dgamma, dbeta``."""
    fc_cache, ln_cache, relu_cache = cache
    dout, dgamma, dbeta = _fused.layernorm_relu_backward(dout, (ln_cache, relu_cache))
    return *affine_backward(dout, fc_cache), dgamma, dbeta


def conv_relu_forward(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: ConvParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """Convolution, then relu.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
    w : array_like, (F, C, HH, WW)
    b : array_like, (F,)
    conv_param : dict
        ``stride``, ``pad`` and, if you like, ``algorithm``.

    Returns
    -------
    out : ndarray, (N, F, H', W')
    cache : tuple
        ``(conv_cache, relu_cache)``.
    """
    return _conv.conv_relu_forward(x, w, b, conv_param)


def conv_relu_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`conv_relu_forward`: ``dx, dw, db``."""
    conv_cache, relu_cache = cache
    return conv_backward_fast(relu_backward(dout, relu_cache), conv_cache)


def conv_bn_relu_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    conv_param: ConvParam | Mapping[str, Any],
    bn_param: BatchNormParam | MutableMapping[str, Any],
) -> tuple[Array, Cache]:
    """Convolution, spatial batch normalization, relu.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
    w : array_like, (F, C, HH, WW)
    b, gamma, beta : array_like, (F,)
    conv_param : dict
        ``stride`` and ``pad``.
    bn_param : dict
        As in :func:`fastbn.layers.spatial_batchnorm_forward`.

    Returns
    -------
    out : ndarray, (N, F, H', W')
    cache : tuple
        ``(conv_cache, bn_cache, relu_cache)``.
    """
    out, conv_cache = conv_forward_fast(x, w, b, conv_param)
    out, (bn_cache, relu_cache) = _fused.spatial_batchnorm_relu_forward(out, gamma, beta, bn_param)
    return out, (conv_cache, bn_cache, relu_cache)


def conv_bn_relu_backward(
    dout: ArrayLike, cache: Cache
) -> tuple[Array, Array, Array, Array, Array]:
    """Gradient of :func:`conv_bn_relu_forward`: ``dx, dw, db, dgamma, dbeta``."""
    conv_cache, bn_cache, relu_cache = cache
    dout, dgamma, dbeta = _fused.spatial_batchnorm_relu_backward(dout, (bn_cache, relu_cache))
    return *conv_backward_fast(dout, conv_cache), dgamma, dbeta


def conv_relu_pool_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike,
    conv_param: ConvParam | Mapping[str, Any],
    pool_param: PoolParam | Mapping[str, Any],
) -> tuple[Array, Cache]:
    """Convolution, relu, max pooling.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
    w : array_like, (F, C, HH, WW)
    b : array_like, (F,)
    conv_param : dict
        ``stride`` and ``pad``.
    pool_param : dict
        ``pool_height``, ``pool_width`` and ``stride``.

    Returns
    -------
    out : ndarray, (N, F, H'', W'')
    cache : tuple
        ``(conv_cache, relu_cache, pool_cache)``.
    """
    out, conv_cache = conv_forward_fast(x, w, b, conv_param)
    out, (relu_cache, pool_cache) = _fused.relu_pool_forward(out, pool_param)
    return out, (conv_cache, relu_cache, pool_cache)


def conv_relu_pool_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`conv_relu_pool_forward`: ``dx, dw, db``."""
    conv_cache, relu_cache, pool_cache = cache
    dout = _fused.relu_pool_backward(dout, (relu_cache, pool_cache))
    return conv_backward_fast(dout, conv_cache)
