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
        Inputs; ``D = d1 * ... * dk``.
    w : array_like, (D, M)
        Weights.
    b : array_like, (M,)
        Biases.

    Returns
    -------
    out : ndarray, (N, M)
        Result of the last of them.
    cache : tuple
        ``(fc_cache, relu_cache)``: those of the layers.

    Raises
    ------
    TypeError, ValueError
        As of the layers one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layer_utils import affine_relu_backward, affine_relu_forward
    >>> out, cache = affine_relu_forward([[1.0, -2.0]], np.eye(2), np.zeros(2))
    >>> out
    array([[1., 0.]])
    >>> dx, dw, db = affine_relu_backward(np.ones((1, 2)), cache)
    >>> db
    array([1., 0.])
    """
    out, fc_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(out)
    return out, (fc_cache, relu_cache)


def affine_relu_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`affine_relu_forward`.

    Parameters
    ----------
    dout : array_like, (N, M)
        Upstream gradient.
    cache : tuple
        From the forward pass.

    Returns
    -------
    dx : ndarray
        Gradient of `x`, in its shape.
    dw : ndarray, (D, M)
        Gradient of `w`.
    db : ndarray, (M,)
        Gradient of `b`.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not one of the forward pass, or `dout` differs in shape from its result.
    """
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
        Inputs; ``D = d1 * ... * dk``.
    w : array_like, (D, M)
        Weights.
    b, gamma, beta : array_like, (M,)
        Biases; scale and shift.
    bn_param : dict
        As in :func:`fastbn.layers.batchnorm_forward`.

    Returns
    -------
    out : ndarray, (N, M)
        Result of the last of them.
    cache : tuple
        ``(fc_cache, bn_cache, relu_cache)``: those of the layers.

    Raises
    ------
    TypeError, ValueError
        As of the layers one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layer_utils import affine_bn_relu_backward, affine_bn_relu_forward
    >>> x, ones, zeros = np.array([[1.0, 5.0], [3.0, 1.0]]), np.ones(2), np.zeros(2)
    >>> out, cache = affine_bn_relu_forward(x, np.eye(2), zeros, ones, zeros, {"mode": "train"})
    >>> out.round(3)
    array([[0., 1.],
           [1., 0.]])
    >>> dx, dw, db, dgamma, dbeta = affine_bn_relu_backward(np.ones((2, 2)), cache)
    >>> dbeta
    array([1., 1.])
    """
    out, fc_cache = affine_forward(x, w, b)
    return _fused.batchnorm_relu_forward(out, gamma, beta, bn_param, (fc_cache,))


def affine_bn_relu_backward(
    dout: ArrayLike, cache: Cache
) -> tuple[Array, Array, Array, Array, Array]:
    """Gradient of :func:`affine_bn_relu_forward`.

    Parameters
    ----------
    dout : array_like, (N, M)
        Upstream gradient.
    cache : tuple
        From the forward pass.

    Returns
    -------
    dx : ndarray
        Gradient of `x`, in its shape.
    dw : ndarray, (D, M)
        Gradient of `w`.
    db : ndarray, (M,)
        Gradient of `b`.
    dgamma, dbeta : ndarray, (M,)
        Gradients of scale and shift.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not one of the forward pass, or `dout` differs in shape from its result.
    """
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
        Inputs; ``D = d1 * ... * dk``.
    w : array_like, (D, M)
        Weights.
    b, gamma, beta : array_like, (M,)
        Biases; scale and shift.
    ln_param : dict
        As in :func:`fastbn.layers.layernorm_forward`.

    Returns
    -------
    out : ndarray, (N, M)
        Result of the last of them.
    cache : tuple
        ``(fc_cache, ln_cache, relu_cache)``: those of the layers.

    Raises
    ------
    TypeError, ValueError
        As of the layers one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layer_utils import affine_ln_relu_backward, affine_ln_relu_forward
    >>> x, ones, zeros = np.array([[1.0, 5.0], [3.0, 1.0]]), np.ones(2), np.zeros(2)
    >>> out, cache = affine_ln_relu_forward(x, np.eye(2), zeros, ones, zeros, {})
    >>> out.round(3)
    array([[0., 1.],
           [1., 0.]])
    >>> dx, dw, db, dgamma, dbeta = affine_ln_relu_backward(np.ones((2, 2)), cache)
    >>> dbeta
    array([1., 1.])
    """
    out, fc_cache = affine_forward(x, w, b)
    out, (ln_cache, relu_cache) = _fused.layernorm_relu_forward(out, gamma, beta, ln_param)
    return out, (fc_cache, ln_cache, relu_cache)


def affine_ln_relu_backward(
    dout: ArrayLike, cache: Cache
) -> tuple[Array, Array, Array, Array, Array]:
    """Gradient of :func:`affine_ln_relu_forward`.

    Parameters
    ----------
    dout : array_like, (N, M)
        Upstream gradient.
    cache : tuple
        From the forward pass.

    Returns
    -------
    dx : ndarray
        Gradient of `x`, in its shape.
    dw : ndarray, (D, M)
        Gradient of `w`.
    db : ndarray, (M,)
        Gradient of `b`.
    dgamma, dbeta : ndarray, (M,)
        Gradients of scale and shift.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not one of the forward pass, or `dout` differs in shape from its result.
    """
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
        Images.
    w : array_like, (F, C, HH, WW)
        Filters.
    b : array_like, (F,)
        Biases.
    conv_param : dict
        ``stride``, ``pad`` and, if you like, ``algorithm``.

    Returns
    -------
    out : ndarray, (N, F, H', W')
        Result of the last of them.
    cache : tuple
        ``(conv_cache, relu_cache)``: those of the layers.

    Raises
    ------
    TypeError, ValueError
        As of the layers one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layer_utils import conv_relu_backward, conv_relu_forward
    >>> x, w, b = np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 1, 1)), np.array([-4.0])
    >>> out, cache = conv_relu_forward(x, w, b, {"stride": 1, "pad": 0})
    >>> out[0, 0]
    array([[0., 0., 0.],
           [0., 0., 1.],
           [2., 3., 4.]])
    >>> dx, dw, db = conv_relu_backward(np.ones_like(out), cache)
    >>> db
    array([4.])
    """
    return _conv.conv_relu_forward(x, w, b, conv_param)


def conv_relu_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`conv_relu_forward`.

    Parameters
    ----------
    dout : array_like, (N, F, H', W')
        Upstream gradient.
    cache : tuple
        From the forward pass.

    Returns
    -------
    dx : ndarray, (N, C, H, W)
        Gradient of `x`.
    dw : ndarray, (F, C, HH, WW)
        Gradient of `w`.
    db : ndarray, (F,)
        Gradient of `b`.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not one of the forward pass, or `dout` differs in shape from its result.
    """
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
        Images.
    w : array_like, (F, C, HH, WW)
        Filters.
    b, gamma, beta : array_like, (F,)
        Biases; scale and shift.
    conv_param : dict
        ``stride`` and ``pad``.
    bn_param : dict
        As in :func:`fastbn.layers.spatial_batchnorm_forward`.

    Returns
    -------
    out : ndarray, (N, F, H', W')
        Result of the last of them.
    cache : tuple
        ``(conv_cache, bn_cache, relu_cache)``: those of the layers.

    Raises
    ------
    TypeError, ValueError
        As of the layers one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layer_utils import conv_bn_relu_backward, conv_bn_relu_forward
    >>> x, w, b = np.ones((2, 3, 8, 8)), np.ones((4, 3, 3, 3)), np.zeros(4)
    >>> conv_param, bn_param = {"stride": 1, "pad": 1}, {"mode": "train"}
    >>> out, cache = conv_bn_relu_forward(x, w, b, np.ones(4), np.zeros(4), conv_param, bn_param)
    >>> out.shape
    (2, 4, 8, 8)
    >>> dx, dw, db, dgamma, dbeta = conv_bn_relu_backward(np.ones_like(out), cache)
    """
    out, conv_cache = conv_forward_fast(x, w, b, conv_param)
    return _fused.spatial_batchnorm_relu_forward(out, gamma, beta, bn_param, (conv_cache,))


def conv_bn_relu_backward(
    dout: ArrayLike, cache: Cache
) -> tuple[Array, Array, Array, Array, Array]:
    """Gradient of :func:`conv_bn_relu_forward`.

    Parameters
    ----------
    dout : array_like, (N, F, H', W')
        Upstream gradient.
    cache : tuple
        From the forward pass.

    Returns
    -------
    dx : ndarray, (N, C, H, W)
        Gradient of `x`.
    dw : ndarray, (F, C, HH, WW)
        Gradient of `w`.
    db : ndarray, (F,)
        Gradient of `b`.
    dgamma, dbeta : ndarray, (F,)
        Gradients of scale and shift.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not one of the forward pass, or `dout` differs in shape from its result.
    """
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
        Images.
    w : array_like, (F, C, HH, WW)
        Filters.
    b : array_like, (F,)
        Biases.
    conv_param : dict
        ``stride`` and ``pad``.
    pool_param : dict
        ``pool_height``, ``pool_width`` and ``stride``.

    Returns
    -------
    out : ndarray, (N, F, H'', W'')
        Result of the last of them.
    cache : tuple
        ``(conv_cache, relu_cache, pool_cache)``: those of the layers.

    Raises
    ------
    TypeError, ValueError
        As of the layers one after the other.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layer_utils import conv_relu_pool_backward, conv_relu_pool_forward
    >>> x, w, b = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 1, 1)), np.array([-6.0])
    >>> pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> out, cache = conv_relu_pool_forward(x, w, b, {"stride": 1, "pad": 0}, pool_param)
    >>> out[0, 0]
    array([[0., 1.],
           [7., 9.]])
    >>> dx, dw, db = conv_relu_pool_backward(np.ones_like(out), cache)
    >>> dx[0, 0]
    array([[0., 0., 0., 0.],
           [0., 0., 0., 1.],
           [0., 0., 0., 0.],
           [0., 1., 0., 1.]])
    """
    out, conv_cache = conv_forward_fast(x, w, b, conv_param)
    out, (relu_cache, pool_cache) = _fused.relu_pool_forward(out, pool_param)
    return out, (conv_cache, relu_cache, pool_cache)


def conv_relu_pool_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of :func:`conv_relu_pool_forward`.

    Parameters
    ----------
    dout : array_like, (N, F, H'', W'')
        Upstream gradient.
    cache : tuple
        From the forward pass.

    Returns
    -------
    dx : ndarray, (N, C, H, W)
        Gradient of `x`.
    dw : ndarray, (F, C, HH, WW)
        Gradient of `w`.
    db : ndarray, (F,)
        Gradient of `b`.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not one of the forward pass, or `dout` differs in shape from its result.
    """
    conv_cache, relu_cache, pool_cache = cache
    dout = _fused.relu_pool_backward(dout, (relu_cache, pool_cache))
    return conv_backward_fast(dout, conv_cache)
