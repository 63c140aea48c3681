"""Composed layers give what their parts give, caches included."""

import numpy as np
import pytest

from fastbn import layer_utils, reference


def _chain(steps):
    """Run (forward, arguments) one after the other on the reference; out and caches."""
    out, caches = None, []
    for forward, arguments in steps:
        out, cache = forward(*(arguments if out is None else (out, *arguments)))
        caches.append(cache)
    return out, caches


def _cases(rng, dtype):
    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    r = reference
    x, w, b = normal(7, 3, 4), normal(12, 5), normal(5)
    images, filters, bias = normal(3, 2, 8, 6), normal(5, 2, 3, 3), normal(5)
    gamma, beta = normal(5), normal(5)
    conv, pool = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    bn, ln = {"mode": "train", "running_mean": normal(5)}, {"eps": 1e-4}
    affine, relu = (r.affine_forward, (x, w, b)), (r.relu_forward, ())
    convolve = (r.conv_forward_fast, (images, filters, bias, conv))
    return {
        "affine_relu": ((x, w, b), [affine, relu]),
        "affine_bn_relu": (
            (x, w, b, gamma, beta, dict(bn)),
            [affine, (r.batchnorm_forward, (gamma, beta, dict(bn))), relu],
        ),
        "affine_ln_relu": (
            (x, w, b, gamma, beta, ln),
            [affine, (r.layernorm_forward, (gamma, beta, ln)), relu],
        ),
        "conv_relu": ((images, filters, bias, conv), [convolve, relu]),
        "conv_bn_relu": (
            (images, filters, bias, gamma, beta, conv, dict(bn)),
            [convolve, (r.spatial_batchnorm_forward, (gamma, beta, dict(bn))), relu],
        ),
        "conv_relu_pool": (
            (images, filters, bias, conv, pool),
            [convolve, relu, (r.max_pool_forward_fast, (pool,))],
        ),
    }


NAMES = list(_cases(np.random.default_rng(0), np.float64))


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_parts_on_the_reference(name, dtype, level, rng):
    arguments, steps = _cases(rng, dtype)[name]
    out, cache = getattr(layer_utils, name + "_forward")(*arguments)
    expected, caches = _chain(steps)
    assert len(cache) == len(caches) and out.dtype == dtype
    tolerance = {"rtol": 0, "atol": 2e-5 if dtype == np.float32 else 1e-12}
    np.testing.assert_allclose(out, expected, **tolerance)
    dout = rng.standard_normal(out.shape).astype(dtype)
    gradient, parameters = dout, []
    for (forward, _), step_cache in zip(reversed(steps), reversed(caches), strict=True):
        backward = getattr(reference, forward.__name__.replace("forward", "backward"))
        result = backward(gradient, step_cache)
        gradient, *rest = result if isinstance(result, tuple) else (result,)
        parameters = [*rest, *parameters]
    actual = getattr(layer_utils, name + "_backward")(dout, cache)
    assert len(actual) == 1 + len(parameters)
    for a, e in zip(actual, (gradient, *parameters), strict=True):
        scale = max(1, np.abs(e).max())
        np.testing.assert_allclose(a, e, rtol=0, atol=10 * tolerance["atol"] * scale)


def test_running_statistics_are_written_back(rng):
    param = {"mode": "train"}
    arguments = _cases(rng, np.float64)["affine_bn_relu"][0]
    layer_utils.affine_bn_relu_forward(*arguments[:5], param)
    assert param["running_mean"].shape == param["running_var"].shape == (5,)
