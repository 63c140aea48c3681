"""Layers in fewer passes over memory, for composed layers and nets.

The results and the caches are those of the layers one after the other.

Normalization and relu are one pass. relu's cache, which is what the normalization gave, is formed
only if somebody uses it; its gradient comes from the same numbers, computed again where they are
wanted. gamma and beta are copied for that: a step of an optimizer before the backward pass must
not move what the relu let through.

relu and max pooling change places: the maximum of what a relu lets through is what it lets through
of the maximum, and only maxima that it lets through have gradients. So the relu works on the
pooled images alone. What pooling would have got is formed only if somebody uses it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _batchnorm, _check, _layernorm
from ._lazy import LazyArray
from ._pool import max_pool_backward_fast, max_pool_forward_fast
from ._relu import relu_backward, relu_forward

if TYPE_CHECKING:
    from ..typing import Array, Cache


def batchnorm_relu_forward(
    x: Any, gamma: Any, beta: Any, bn_param: Any, before: Cache = ()
) -> tuple[Array, Cache]:
    """out, (*before, bn_cache, relu_cache); bn_param is written when all that is made"""
    out, caches, statistics = _batchnorm_forward(x, gamma, beta, bn_param, 2)
    result = out, (*before, *caches)
    _check.update(bn_param, statistics)
    return result


def batchnorm_relu_backward(dout: Any, cache: Cache) -> tuple[Array, Array, Array]:
    """dx, dgamma, dbeta"""
    bn_cache, relu_cache = cache
    return _batchnorm_backward(dout, bn_cache, relu_cache, "batchnorm_forward")


def spatial_batchnorm_relu_forward(
    x: Any, gamma: Any, beta: Any, bn_param: Any, before: Cache = ()
) -> tuple[Array, Cache]:
    """out, (*before, bn_cache, relu_cache); bn_param is written when all that is made"""
    out, (cache, relu_cache), statistics = _batchnorm_forward(x, gamma, beta, bn_param, 4)
    result = out, (*before, (cache, out.shape), relu_cache)
    _check.update(bn_param, statistics)
    return result


def spatial_batchnorm_relu_backward(dout: Any, cache: Cache) -> tuple[Array, Array, Array]:
    """dx, dgamma, dbeta"""
    bn_cache, relu_cache = cache
    bn_cache, _ = _check.unpack(bn_cache, 2, "spatial_batchnorm_forward")
    return _batchnorm_backward(dout, bn_cache, relu_cache, "spatial_batchnorm_forward")


def layernorm_relu_forward(x: Any, gamma: Any, beta: Any, ln_param: Any) -> tuple[Array, Cache]:
    """out, (ln_cache, relu_cache)"""
    if not _fusible(x, gamma, beta):
        out, cache, _ = _layernorm._forward(x, gamma, beta, ln_param)
        out, relu_cache = relu_forward(out)
        return out, (cache, relu_cache)
    out, cache, beta = _layernorm._forward(x, gamma, beta, ln_param, relu=True)
    eps = {"eps": _check.number(ln_param, "ln_param", "eps", 1e-5)}  # the dict may change
    gamma, beta = cache.gamma.copy(), beta.copy()

    def output() -> Array:
        return _layernorm._forward(cache.x, gamma, beta, eps)[0]

    return out, (cache, LazyArray(output, (gamma, beta)))


def layernorm_relu_backward(dout: Any, cache: Cache) -> tuple[Array, Array, Array]:
    """dx, dgamma, dbeta"""
    ln_cache, relu_cache = cache
    beta = _beta(dout, ln_cache, relu_cache)
    if beta is None:
        dout = relu_backward(dout, relu_cache)
    return _layernorm._backward(dout, ln_cache, beta)


def relu_pool_forward(x: Any, pool_param: Any) -> tuple[Array, Cache]:
    """out, (relu_cache, pool_cache)"""
    if not _fusible(x):
        out, relu_cache = relu_forward(x)
        out, pool_cache = max_pool_forward_fast(out, pool_param)
        return out, (relu_cache, pool_cache)
    pooled, cache = max_pool_forward_fast(x, pool_param)
    out, _ = relu_forward(pooled)
    method, inner = cache

    made: list[Any] = []

    def entry(index: int) -> Array:
        # What the two layers one after the other put into the cache; made when first used.
        if not made:
            made.extend(max_pool_forward_fast(relu_forward(x)[0], pool_param)[1][1])
        return np.asarray(made[index])

    lazy: list[Any] = [LazyArray(partial(entry, i), (pooled, cache)) for i in range(len(inner))]
    if method == "reshape":
        lazy[2] = out
    else:
        lazy[3] = pool_param
    return out, (x, (method, tuple(lazy)))


def relu_pool_backward(dout: Any, cache: Cache) -> Array:
    """dx"""
    relu_cache, pool_cache = cache
    source = _pooled(dout, pool_cache)
    if source is None:
        return relu_backward(max_pool_backward_fast(dout, pool_cache), relu_cache)
    pooled, inner = source
    return max_pool_backward_fast(relu_backward(dout, pooled), inner)


def _pooled(dout: Any, pool_cache: Cache) -> Any:
    """What was pooled before the relu, and pooling's cache; None if the parts must do it."""
    method, entries = _check.unpack(pool_cache, 2, "conv_relu_pool_forward")
    entries = _check.unpack(entries, 3, "conv_relu_pool_forward")
    sources = [LazyArray.source_of(e) for e in entries[: 2 if method == "reshape" else 3]]
    if None in sources or getattr(dout, "dtype", None) is not sources[0][0].dtype:
        return None
    # Where windows tile the image, a NaN's window has NaN gradients, of which the relu would let
    # some pass.
    pooled = sources[0][0]
    return None if pooled.size and np.isnan(pooled.max()) else sources[0]


def _batchnorm_forward(
    x: Any, gamma: Any, beta: Any, bn_param: Any, axes: int
) -> tuple[Array, Cache, dict[str, Array]]:
    if not _fusible(x, gamma, beta):
        out, cache, _, statistics = _batchnorm._forward(x, gamma, beta, bn_param, axes)
        out, relu_cache = relu_forward(out)
        return out, (cache, relu_cache), statistics
    out, cache, beta, statistics = _batchnorm._forward(x, gamma, beta, bn_param, axes, relu=True)
    gamma, beta = cache.gamma.copy(), beta.copy()

    def output() -> Array:
        return _batchnorm._output(cache._replace(gamma=gamma), beta)

    return out, (cache, LazyArray(output, (gamma, beta))), statistics


def _batchnorm_backward(
    dout: Any, cache: Any, relu_cache: Any, made_by: str
) -> tuple[Array, Array, Array]:
    beta = _beta(dout, cache, relu_cache)
    if beta is None:
        dout = relu_backward(dout, relu_cache)
    return _batchnorm._backward(dout, cache, made_by, beta)


def _fusible(*arrays: Any) -> bool:
    """Arrays of one dtype that is computed in: float16 would be rounded between the layers."""
    return _check.plain_dtype(arrays) is not None


def _beta(dout: Any, cache: Any, relu_cache: Any) -> Any:
    """beta, if the relu was fused and its gradient can be: None says to go by relu's cache."""
    source = LazyArray.source_of(relu_cache)
    if source is None or not hasattr(cache, "gamma"):  # a cache of another function, say
        return None
    gamma, beta = source
    if getattr(dout, "dtype", None) is not beta.dtype or not (gamma == cache.gamma).all():
        return None
    return beta
