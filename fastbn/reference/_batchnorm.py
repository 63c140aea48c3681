"""Batch normalization, of feature vectors and of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._dtype import promote, working
from ._moments import centre, normalize_backward, subtract

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from numpy.typing import ArrayLike

    from ..typing import Array, BatchNormParam, Cache


@np.errstate(all="ignore")
def batchnorm_forward(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    bn_param: BatchNormParam | MutableMapping[str, Any],
) -> tuple[Array, Cache]:
    """out = gamma * (x - mean) / sqrt(var + eps) + beta, with mean and var of every column.

    In training they are those of the batch, and
    running = momentum * running + (1 - momentum) * batch; in testing they are the running ones.
    """
    mode = bn_param["mode"]
    eps = float(bn_param.get("eps", 1e-5))
    momentum = float(bn_param.get("momentum", 0.9))
    x = np.asarray(x)
    N, D = x.shape
    start = np.zeros(D, dtype=x.dtype)
    running_mean = np.asarray(bn_param.get("running_mean", start))
    running_var = np.asarray(bn_param.get("running_var", start))

    if mode == "train":
        values, scale, shift, dtype = working(x, gamma, beta)
        centred, mean, var = centre(values, axis=0)
        if N > 0:
            running_mean = _blend(momentum, running_mean, mean[0], x)
            running_var = _blend(momentum, running_var, var[0], x)
    elif mode == "test":
        values, scale, shift, mean, var, dtype = working(x, gamma, beta, running_mean, running_var)
        centred = subtract(values, mean)
        var = var[None, :]
    else:
        raise ValueError(f'Invalid forward batchnorm mode "{mode}"')

    std = np.sqrt(var.astype(np.float64) + eps)
    xhat = centred / std.astype(centred.dtype)
    out = scale * xhat + shift
    # Copies: whoever passed the arrays in keeps them as they were.
    bn_param["running_mean"] = np.array(running_mean, dtype=promote(running_mean)[1])
    bn_param["running_var"] = np.array(running_var, dtype=promote(running_var)[1])
    cache = (centred, xhat, std, gamma, mode == "train", dtype)
    return out.astype(dtype, copy=False), cache


def _blend(momentum: float, running: Array, batch: Array, x: Array) -> Array:
    _, dtype = promote(running, x)
    return (momentum * running.astype(np.float64) + (1 - momentum) * batch).astype(dtype)


@np.errstate(all="ignore")
def batchnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of batch normalization, walked backwards one node of the graph at a time.

    x -> mean -> centred -> square -> var -> std -> inverse -> xhat -> out
    """
    dout, centred, xhat, std, scale, train, dtype = _unpack(dout, cache)
    compute = dout.dtype
    N = max(dout.shape[0], 1)

    # out = scale * xhat + shift
    dbeta, dgamma = _parameter_gradients(dout, xhat)
    dxhat = dout * scale
    # xhat = centred * inverse
    dcentred = dxhat / std.astype(compute)
    if not train:
        # The running statistics do not depend on x: the graph ends here.
        return dcentred.astype(dtype), dgamma.astype(dtype), dbeta.astype(dtype)
    dinverse = np.sum(dxhat * centred, axis=0, dtype=np.float64)
    # inverse = 1 / std
    dstd = -dinverse / std**2
    # std = sqrt(var + eps)
    dvar = dstd / (2 * std)
    # var = mean(square): every row has the same share
    dsquare = dvar / N
    # square = centred ** 2, the second way by which centred reaches the output
    # In float64: 2 * dsquare is of the order of dout / std**3, not always a float32.
    dcentred = (dcentred + centred * (2 * dsquare)).astype(compute, copy=False)
    # centred = x - mean
    dmean = -np.sum(dcentred, axis=0, dtype=np.float64)
    # mean = sum(x) / N, the second way by which x reaches the output
    dx = subtract(dcentred, -dmean / N)
    return dx.astype(dtype, copy=False), dgamma.astype(dtype), dbeta.astype(dtype)


@np.errstate(all="ignore")
def batchnorm_backward_alt(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """The same gradient with the graph worked out on paper.

    dx = gamma / std * (dout - mean(dout) - xhat * mean(dout * xhat))
    """
    dout, _, xhat, std, scale, train, dtype = _unpack(dout, cache)
    dbeta, dgamma = _parameter_gradients(dout, xhat)
    if train:
        dx = normalize_backward(dout, xhat, std, axis=0) * scale
    else:
        dx = dout * scale / std.astype(dout.dtype)
    return dx.astype(dtype, copy=False), dgamma.astype(dtype), dbeta.astype(dtype)


def _unpack(dout: ArrayLike, cache: Cache) -> tuple[Any, ...]:
    centred, xhat, std, gamma, train, forward_dtype = cache
    _, dtype = promote(dout, forward_dtype)
    dout, centred, xhat, scale, _ = working(dout, centred, xhat, gamma)
    return dout, centred, xhat, std, scale, train, dtype


def _parameter_gradients(dout: Array, xhat: Array) -> tuple[Any, Any]:
    dbeta = np.sum(dout, axis=0, dtype=np.float64)
    dgamma = np.sum(dout * xhat, axis=0, dtype=np.float64)
    return dbeta, dgamma


def spatial_batchnorm_forward(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    bn_param: BatchNormParam | MutableMapping[str, Any],
) -> tuple[Array, Cache]:
    """Batch normalization of every channel: each pixel of each image counts as one example."""
    x = np.asarray(x)
    N, C, H, W = x.shape
    out, cache = batchnorm_forward(_pixels(x), gamma, beta, bn_param)
    return out.reshape(N, H, W, C).transpose(0, 3, 1, 2), cache


def spatial_batchnorm_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of the batch normalization of channels."""
    dout = np.asarray(dout)
    N, C, H, W = dout.shape
    dx, dgamma, dbeta = batchnorm_backward(_pixels(dout), cache)
    return dx.reshape(N, H, W, C).transpose(0, 3, 1, 2), dgamma, dbeta


def _pixels(x: Array) -> Array:
    N, C, H, W = x.shape
    return x.transpose(0, 2, 3, 1).reshape(N * H * W, C)
