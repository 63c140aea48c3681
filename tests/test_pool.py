import cases
import numpy as np
import pytest

from fastbn import layers, reference


def _param(case):
    return dict(zip(("pool_height", "pool_width", "stride"), case[1:], strict=True))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("case", cases.POOLINGS, ids=str)
@pytest.mark.parametrize("variant", ["naive", "fast"])
def test_equals_reference(case, variant, ties, dtype, level, num_threads, rng):
    x = rng.standard_normal(case[0]).astype(dtype)
    if ties:
        x = np.round(x)
    forward, backward = f"max_pool_forward_{variant}", f"max_pool_backward_{variant}"
    out, cache = getattr(layers, forward)(x, _param(case))
    expected, expected_cache = getattr(reference, forward)(x, _param(case))
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, expected)
    dout = rng.standard_normal(out.shape).astype(dtype)
    cases.assert_same(
        getattr(layers, backward)(dout, cache),
        getattr(reference, backward)(dout, expected_cache),
        dtype,
        case[1] * case[2],
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_nan_wins_and_the_first_one_gets_the_gradient(stride, level):
    x = np.zeros((1, 1, 2, 2 + 2 * 40))
    x[0, 0, 0, 1] = x[0, 0, 1, 0] = np.nan
    param = {"pool_height": 2, "pool_width": 2, "stride": stride}
    out, cache = layers.max_pool_forward_naive(x, param)
    assert np.isnan(out[0, 0, 0, 0]) and np.isfinite(out[0, 0, 0, 2:]).all()
    dx = layers.max_pool_backward_naive(np.ones_like(out), cache)
    np.testing.assert_array_equal(
        dx, reference.max_pool_backward_naive(np.ones_like(out), (x, param))
    )
    assert dx[0, 0, 0, 1] >= 1 and dx[0, 0, 1, 0] == 0


def test_all_minus_infinity(level):
    x = np.full((1, 1, 4, 36), -np.inf)
    param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = layers.max_pool_forward_naive(x, param)
    np.testing.assert_array_equal(out, -np.inf)
    dx = layers.max_pool_backward_naive(np.ones_like(out), cache)
    np.testing.assert_array_equal(dx[..., ::2, ::2], 1)
    assert dx.sum() == out.size


def test_equal_maxima_share_in_the_fast_variant_and_not_in_the_naive_one():
    x = np.zeros((1, 1, 2, 2))
    param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    _, cache = layers.max_pool_forward_fast(x, param)
    assert cache[0] == "reshape"
    np.testing.assert_array_equal(layers.max_pool_backward_fast(np.ones((1, 1, 1, 1)), cache), 0.25)
    np.testing.assert_array_equal(
        layers.max_pool_backward_naive(np.ones((1, 1, 1, 1)), cache), [[[[1, 0], [0, 0]]]]
    )


def test_a_window_with_nan_shares_nan():
    x = np.array([[[[1.0, np.nan, 1, 2], [0, 0, 0, 0]]]])
    param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = layers.max_pool_forward_fast(x, param)
    dx = layers.max_pool_backward_fast(np.ones_like(out), cache)
    np.testing.assert_array_equal(dx, [[[[np.nan, np.nan, 0, 1], [np.nan, np.nan, 0, 0]]]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("variant", ["naive", "fast"])
def test_a_bad_gradient_reaches_its_maximum_alone(variant, size, bad, level):
    x = np.arange(1.0, 1 + size * size * 40).reshape(1, 1, size, size * 40)
    param = {"pool_height": size, "pool_width": size, "stride": size}
    out, cache = getattr(layers, f"max_pool_forward_{variant}")(x, param)
    dout = np.zeros_like(out)
    dout[0, 0, 0, 7] = bad
    dx = getattr(layers, f"max_pool_backward_{variant}")(dout, cache)
    expected = np.zeros_like(x)
    expected[0, 0, size - 1, 8 * size - 1] = bad
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize(
    "before, after, shape",
    [((16, 16, 1), (2, 3, 2), (2, 3, 24, 26)), ((2, 4, 1), (4, 2, 1), (1, 1, 6, 6))],
)
def test_the_dict_may_change_before_the_backward_pass(before, after, shape, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    keys = ("pool_height", "pool_width", "stride")
    param = dict(zip(keys, before, strict=True))
    _, cache = layers.max_pool_forward_fast(x, param)
    param.update(zip(keys, after, strict=True))
    out, expected_cache = reference.max_pool_forward_naive(x, dict(param))
    dout = rng.standard_normal(out.shape).astype(dtype)
    expected = reference.max_pool_backward_naive(dout, expected_cache)
    np.testing.assert_allclose(layers.max_pool_backward_fast(dout, cache), expected, atol=1e-5)
