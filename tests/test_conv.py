import itertools

import cases
import numpy as np
import pytest
from scipy.signal import correlate

from fastbn import layers, reference


def _arguments(case, dtype, rng):
    shape, F, HH, WW, stride, pad = case
    x = rng.standard_normal(shape).astype(dtype)
    w = rng.standard_normal((F, shape[1], HH, WW)).astype(dtype)
    b = rng.standard_normal(F).astype(dtype)
    return x, w, b, {"stride": stride, "pad": pad}


@pytest.mark.parametrize("case", cases.CONVOLUTIONS, ids=str)
def test_equals_reference(case, dtype, level, num_threads, rng):
    x, w, b, conv_param = _arguments(case, dtype, rng)
    K = w[:1].size
    out, cache = layers.conv_forward_naive(x, w, b, conv_param)
    expected, expected_cache = reference.conv_forward_fast(x, w, b, conv_param)
    cases.assert_same(out, expected, dtype, K)
    dout = rng.standard_normal(out.shape).astype(dtype)
    for actual, wanted, terms in zip(
        layers.conv_backward_naive(dout, cache),
        reference.conv_backward_fast(dout, expected_cache),
        (len(w) * w[0, 0].size if w.size else 0, out.size, out.size),
        strict=True,
    ):
        cases.assert_same(actual, wanted, dtype, terms)


@pytest.mark.parametrize("case", cases.CONVOLUTIONS, ids=str)
def test_vectorised_reference_equals_the_loops(case, rng):
    x, w, b, conv_param = _arguments(case, np.float64, rng)
    out, cache = reference.conv_forward_naive(x, w, b, conv_param)
    fast, fast_cache = reference.conv_forward_fast(x, w, b, conv_param)
    np.testing.assert_allclose(fast, out, atol=1e-12)
    dout = rng.standard_normal(out.shape)
    for a, e in zip(
        reference.conv_backward_fast(dout, fast_cache),
        reference.conv_backward_naive(dout, cache),
        strict=True,
    ):
        np.testing.assert_allclose(a, e, atol=1e-12)


def test_equals_scipy(dtype, level, rng):
    x = rng.standard_normal((2, 5, 19, 23)).astype(dtype)
    w = rng.standard_normal((3, 5, 4, 3)).astype(dtype)
    out, _ = layers.conv_forward_fast(x, w, np.zeros(3, dtype), {"stride": 1, "pad": 0})
    for n, f in itertools.product(range(2), range(3)):
        cases.assert_same(out[n, f], correlate(x[n], w[f], mode="valid")[0], dtype, 60)


def test_forward_and_backward_are_adjoint(dtype, num_threads, rng):
    x, w, _, conv_param = _arguments(((3, 20, 15, 14), 37, 5, 3, 2, 2), dtype, rng)
    out, cache = layers.conv_forward_fast(x, w, np.zeros(37, dtype), conv_param)
    dout = rng.standard_normal(out.shape).astype(dtype)
    dx, dw, db = layers.conv_backward_fast(dout, cache)
    product = np.vdot(out.astype(np.float64), dout.astype(np.float64))
    bound = cases.tolerance(dtype, out.size) * np.linalg.norm(out) * np.linalg.norm(dout)
    assert abs(np.vdot(x.astype(np.float64), dx) - product) < bound
    assert abs(np.vdot(w.astype(np.float64), dw) - product) < bound
    np.testing.assert_allclose(db, dout.sum(axis=(0, 2, 3), dtype=np.float64), rtol=1e-5, atol=1e-4)


def test_a_nan_reaches_the_windows_that_see_it(level):
    x = np.zeros((1, 1, 9, 9))
    x[0, 0, 4, 4] = np.nan
    param = {"stride": 1, "pad": 1}
    out, _ = layers.conv_forward_fast(x, np.ones((2, 1, 3, 3)), np.zeros(2), param)
    seen = np.zeros((9, 9), bool)
    seen[3:6, 3:6] = True
    np.testing.assert_array_equal(np.isnan(out), np.broadcast_to(seen, out.shape))


def test_column_caches_hold_the_columns(rng):
    x, w, b, conv_param = _arguments(((2, 3, 5, 6), 4, 3, 2, 1, 1), np.float64, rng)
    for name in ("conv_forward_strides", "conv_forward_im2col", "conv_forward_fast"):
        out, cache = getattr(layers, name)(x, w, b, conv_param)
        expected, expected_cache = getattr(reference, name)(x, w, b, conv_param)
        np.testing.assert_allclose(out, expected, atol=1e-13)
        assert len(cache) == 5 and cache[0] is x and cache[3] is conv_param
        np.testing.assert_array_equal(np.asarray(cache[4]), expected_cache[4])
        assert cache[4].shape == expected_cache[4].shape
        np.testing.assert_array_equal(cache[4][3], expected_cache[4][3])
