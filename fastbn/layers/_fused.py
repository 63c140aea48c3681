"""Normalization and relu in one pass over memory, for composed layers and nets.

The results and the caches are those of the two layers one after the other. relu's cache, which is
what the normalization gave, is formed only if somebody uses it; its gradient comes from the same
numbers, computed again where they are wanted. gamma and beta are copied for that: a step of an
optimizer before the backward pass must not move what the relu let through.
"""

from . import _batchnorm, _check, _layernorm
from ._lazy import LazyArray
from ._relu import relu_backward, relu_forward


def batchnorm_relu_forward(x, gamma, beta, bn_param):
    """out, (bn_cache, relu_cache)"""
    return _batchnorm_forward(x, gamma, beta, bn_param, 2)


def batchnorm_relu_backward(dout, cache):
    """dx, dgamma, dbeta"""
    return _batchnorm_backward(dout, *cache, "batchnorm_forward")


def spatial_batchnorm_relu_forward(x, gamma, beta, bn_param):
    """out, (bn_cache, relu_cache)"""
    out, (cache, relu_cache) = _batchnorm_forward(x, gamma, beta, bn_param, 4)
    return out, ((cache, out.shape), relu_cache)


def spatial_batchnorm_relu_backward(dout, cache):
    """dx, dgamma, dbeta"""
    bn_cache, relu_cache = cache
    bn_cache, _ = _check.unpack(bn_cache, 2, "spatial_batchnorm_forward")
    return _batchnorm_backward(dout, bn_cache, relu_cache, "spatial_batchnorm_forward")


def layernorm_relu_forward(x, gamma, beta, ln_param):
    """out, (ln_cache, relu_cache)"""
    if not _fusible(x, gamma, beta):
        out, cache, _ = _layernorm._forward(x, gamma, beta, ln_param)
        out, relu_cache = relu_forward(out)
        return out, (cache, relu_cache)
    out, cache, beta = _layernorm._forward(x, gamma, beta, ln_param, relu=True)
    eps = {"eps": _check.number(ln_param, "ln_param", "eps", 1e-5)}  # the dict may change
    gamma, beta = cache.gamma.copy(), beta.copy()

    def output():
        return _layernorm._forward(cache.x, gamma, beta, eps)[0]

    return out, (cache, LazyArray(output, (gamma, beta)))


def layernorm_relu_backward(dout, cache):
    """dx, dgamma, dbeta"""
    ln_cache, relu_cache = cache
    beta = _beta(dout, ln_cache, relu_cache)
    if beta is None:
        dout = relu_backward(dout, relu_cache)
    return _layernorm._backward(dout, ln_cache, beta)


def _batchnorm_forward(x, gamma, beta, bn_param, axes):
    if not _fusible(x, gamma, beta):
        out, cache, _ = _batchnorm._forward(x, gamma, beta, bn_param, axes)
        out, relu_cache = relu_forward(out)
        return out, (cache, relu_cache)
    out, cache, beta = _batchnorm._forward(x, gamma, beta, bn_param, axes, relu=True)
    gamma, beta = cache.gamma.copy(), beta.copy()

    def output():
        return _batchnorm._output(cache._replace(gamma=gamma), beta)

    return out, (cache, LazyArray(output, (gamma, beta)))


def _batchnorm_backward(dout, cache, relu_cache, made_by):
    beta = _beta(dout, cache, relu_cache)
    if beta is None:
        dout = relu_backward(dout, relu_cache)
    return _batchnorm._backward(dout, cache, made_by, beta)


def _fusible(*arrays):
    """Arrays of one dtype that is computed in: float16 would be rounded between the layers."""
    return _check.plain_dtype(arrays) is not None


def _beta(dout, cache, relu_cache):
    """beta, if the relu was fused and its gradient can be: None says to go by relu's cache."""
    source = LazyArray.source_of(relu_cache)
    if source is None:
        return None
    gamma, beta = source
    if getattr(dout, "dtype", None) is not beta.dtype or not (gamma == cache.gamma).all():
        return None
    return beta
