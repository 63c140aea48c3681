"""Composed layers give what their parts give, caches included."""

import numpy as np
import pytest

from fastbn import layer_utils, layers, reference
from fastbn.layers import _fused
from fastbn.layers._lazy import LazyArray


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


FUSED = [("batchnorm", (9, 70)), ("spatial_batchnorm", (3, 5, 4, 33)), ("layernorm", (9, 70))]


def _parts(name, x, gamma, beta, param, dout):
    out, norm_cache = getattr(layers, f"{name}_forward")(x, gamma, beta, param)
    relu_out, relu_cache = layers.relu_forward(out)
    dnorm = layers.relu_backward(dout, relu_cache)
    return relu_out, out, getattr(layers, f"{name}_backward")(dnorm, norm_cache)


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("name, shape", FUSED)
@pytest.mark.parametrize("special", [False, True], ids=["plain", "nan"])
def test_a_fused_relu_changes_no_bit(name, shape, mode, special, dtype, level, num_threads, rng):
    x, dout = rng.standard_normal((2, *shape)).astype(dtype)
    if special:
        x[1] = np.nan
    C = shape[1]
    gamma, beta = rng.standard_normal((2, C)).astype(dtype)
    params = [{"mode": mode, "running_var": np.full(C, 2.0, dtype)} for _ in range(2)]
    expected, before_relu, gradients = _parts(name, x, gamma, beta, params[0], dout)
    forward = getattr(_fused, f"{name}_relu_forward")
    backward = getattr(_fused, f"{name}_relu_backward")
    out, cache = forward(x, gamma, beta, params[1])
    np.testing.assert_array_equal(out, expected)
    for key, value in params[0].items():
        np.testing.assert_array_equal(params[1][key], value)
    assert LazyArray.source_of(cache[1]) is not None
    for actual, wanted in zip(backward(dout, cache), gradients, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    # The relu's cache is what the part's is, and the backward pass minds what becomes of it.
    np.testing.assert_array_equal(np.asarray(cache[1]), before_relu)
    assert LazyArray.source_of(cache[1]) is None
    for actual, wanted in zip(backward(dout, cache), gradients, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    cache[1][...] = -1
    dx, dgamma, dbeta = backward(dout, cache)
    assert not dgamma[np.isfinite(dgamma)].any() and not dbeta.any()


@pytest.mark.parametrize("name, shape", FUSED)
def test_what_cannot_be_fused_is_the_parts(name, shape, rng):
    x, dout = rng.standard_normal((2, *shape)).astype(np.float16)
    gamma, beta = rng.standard_normal((2, shape[1])).astype(np.float16)
    expected, _, gradients = _parts(name, x, gamma, beta, {"mode": "train"}, dout)
    out, cache = getattr(_fused, f"{name}_relu_forward")(x, gamma, beta, {"mode": "train"})
    actual = getattr(_fused, f"{name}_relu_backward")(dout, cache)
    for a, e in zip((out, *actual), (expected, *gradients), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("name, shape", FUSED)
def test_a_wider_gradient_meets_a_fused_relu(name, shape, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    dout = rng.standard_normal(shape)
    gamma, beta = rng.standard_normal((2, shape[1])).astype(np.float32)
    _, _, gradients = _parts(name, x, gamma, beta, {"mode": "train"}, dout)
    _, cache = getattr(_fused, f"{name}_relu_forward")(x, gamma, beta, {"mode": "train"})
    for a, e in zip(getattr(_fused, f"{name}_relu_backward")(dout, cache), gradients, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("changed", ["gamma", "beta"])
@pytest.mark.parametrize("name, shape", FUSED)
def test_a_step_before_the_backward_pass_moves_no_gate(name, shape, changed, rng):
    x, dout = rng.standard_normal((2, *shape))
    gamma, beta = rng.standard_normal((2, shape[1]))
    results = []
    for fused in (True, False):
        g, b = gamma.copy(), beta.copy()
        if fused:
            _, cache = getattr(_fused, f"{name}_relu_forward")(x, g, b, {"mode": "train"})
        else:
            out, norm_cache = getattr(layers, f"{name}_forward")(x, g, b, {"mode": "train"})
            _, relu_cache = layers.relu_forward(out)
        {"gamma": g, "beta": b}[changed][...] -= 3
        if fused:
            results.append(getattr(_fused, f"{name}_relu_backward")(dout, cache))
        else:
            gated = layers.relu_backward(dout, relu_cache)
            results.append(getattr(layers, f"{name}_backward")(gated, norm_cache))
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("size, stride", [(2, 2), (3, 2), (3, 1)])
@pytest.mark.parametrize("special", ["", "nan", "negative", "ties"])
def test_a_relu_after_the_pooling_changes_no_bit(
    size, stride, special, dtype, level, num_threads, rng
):
    x = rng.standard_normal((3, 5, 8, 6)).astype(dtype)
    if special == "nan":
        x[1, 2, 3, 4] = x[0, 0, 0, 0] = np.nan
    elif special == "negative":
        x = -np.abs(x)
    elif special == "ties":
        x = np.sign(x)
    param = {"pool_height": size, "pool_width": size, "stride": stride}
    rectified, relu_cache = layers.relu_forward(x)
    expected, pool_cache = layers.max_pool_forward_fast(rectified, param)
    dout = rng.standard_normal(expected.shape).astype(dtype)
    gradient = layers.relu_backward(layers.max_pool_backward_fast(dout, pool_cache), relu_cache)

    out, cache = _fused.relu_pool_forward(x, param)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(_fused.relu_pool_backward(dout, cache), gradient)
    # The caches are what the parts' are, and the backward pass minds what becomes of them.
    assert cache[0] is x
    assert cache[1][0] == pool_cache[0] and len(cache[1][1]) == len(pool_cache[1])
    for ours, theirs in zip(cache[1][1], pool_cache[1], strict=True):
        if theirs is param:
            assert ours is param
        else:
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert LazyArray.source_of(cache[1][1][0]) is None
    np.testing.assert_array_equal(_fused.relu_pool_backward(dout, cache), gradient)


def test_relu_and_pooling_of_other_dtypes_are_the_parts(rng):
    x = rng.standard_normal((2, 3, 4, 4)).astype(np.float16)
    param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = _fused.relu_pool_forward(x, param)
    rectified, _ = layers.relu_forward(x)
    np.testing.assert_array_equal(out, layers.max_pool_forward_fast(rectified, param)[0])
    assert out.dtype == np.float16
    # A gradient of another dtype than that of the images.
    out, cache = _fused.relu_pool_forward(x.astype(np.float32), param)
    dx = _fused.relu_pool_backward(np.ones(out.shape), cache)
    assert dx.dtype == np.float64
    expected = _fused.relu_pool_backward(np.ones(out.shape, np.float32), cache)
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize(
    "shape, F, size, stride",
    [
        ((3, 2, 8, 6), 5, 3, 1),
        ((1, 3, 5, 4), 70, 2, 2),  # the filters in parts
        ((2, 16, 9, 11), 17, 3, 1),  # Winograd's way in float32
        ((2, 3, 4, 4), 6, 4, 1),  # filters as large as the image
        ((0, 3, 4, 4), 6, 3, 1),
        ((1, 1, 3, 1200), 2, 1, 1),  # more than one block of a row
    ],
)
@pytest.mark.parametrize("special", [False, True], ids=["plain", "nan"])
def test_a_relu_within_the_convolution_changes_no_bit(
    shape, F, size, stride, special, dtype, level, num_threads, rng
):
    x = rng.standard_normal(shape).astype(dtype)
    if special:
        x[..., -1:, -1:] = np.nan
    w = rng.standard_normal((F, shape[1], size, size)).astype(dtype)
    b = rng.standard_normal(F).astype(dtype)
    param = {"stride": stride, "pad": 0 if size == shape[2] else size // 2}
    expected, conv_cache = layers.conv_forward_fast(x, w, b, param)
    out, cache = layer_utils.conv_relu_forward(x, w, b, param)
    np.testing.assert_array_equal(out, layers.relu_forward(expected)[0])
    assert out.dtype == dtype
    np.testing.assert_array_equal(cache[1], expected)
    assert all(ours is given for ours, given in zip(cache[0][:4], (x, w, b, param), strict=True))
    np.testing.assert_array_equal(np.asarray(cache[0][4]), np.asarray(conv_cache[4]))
    assert (
        layer_utils.conv_relu_forward(x.astype("f2"), w.astype("f2"), b.astype("f2"), param)[
            0
        ].dtype
        == np.float16
    )
