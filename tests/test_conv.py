import itertools

import cases
import numpy as np
import pytest
from scipy.signal import correlate

import fastbn
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


#: shape of x, F, (kh, kw), pad, stride 1: at the edges of strips, vectors and chunks
WINOGRAD = [
    ((1, 1, 1, 1), 1, (3, 3), 1),
    ((2, 3, 5, 4), 2, (3, 3), 2),
    ((3, 2, 4, 9), 3, (3, 3), 0),
    ((2, 17, 8, 8), 16, (3, 3), 1),
    ((3, 16, 14, 14), 33, (3, 3), 1),  # three strips and a half; several images in a block
    ((2, 90, 7, 7), 20, (3, 3), 1),  # two chunks of channels, which pixels are packed for
    ((1, 90, 9, 32), 20, (3, 3), 0),  # and for which they are not
    ((1, 16, 5, 700), 16, (3, 3), 3),  # a row of more than one block
    ((40, 16, 3, 2), 17, (3, 3), 1),
    ((1, 1, 1, 1), 1, (5, 5), 2),
    ((2, 3, 6, 5), 2, (5, 5), 0),
    ((3, 17, 9, 8), 16, (5, 5), 2),  # four strips and a half
    ((2, 60, 7, 7), 20, (5, 5), 4),  # two chunks of channels
    ((1, 16, 6, 700), 16, (5, 3), 2),
    ((2, 16, 9, 11), 18, (3, 1), 1),
    ((2, 16, 9, 11), 18, (5, 4), 1),
    ((1, 2, 9, 300), 3, (3, 270), 1),  # wider than a chunk is deep
]


def _winograd_arguments(case, rng):
    shape, F, size, pad = case
    x, w, b, param = _arguments((shape, F, *size, 1, pad), np.float32, rng)
    return x, w, b, {**param, "algorithm": "winograd"}


def _both(x, w, b, param, dout):
    out, cache = layers.conv_forward_fast(x, w, b, param)
    return out, *layers.conv_backward_fast(dout, cache)


@pytest.mark.parametrize("case", WINOGRAD, ids=str)
def test_winograd_equals_reference(case, level, num_threads, rng):
    x, w, b, param = _winograd_arguments(case, rng)
    expected, cache = reference.conv_forward_fast(x, w, b, param)
    dout = rng.standard_normal(expected.shape).astype(np.float32)
    results = _both(x, w, b, param, dout)
    for actual, wanted, terms in zip(
        results,
        (expected, *reference.conv_backward_fast(dout, cache)),
        (w[0].size, w[0, 0].size * len(w), dout.size, dout.size),
        strict=True,
    ):
        # Within three times the bound for sums: see set_conv_algorithm.
        cases.assert_same(actual, wanted, np.float32, 9 * terms)


def _hard(name, shape, rng):
    """Images that rounding errors grow on."""
    x = rng.standard_normal(shape)
    return {
        "normal": lambda: x,
        "relu": lambda: np.maximum(x, 0),
        "offset": lambda: x + 1e6,
        "pixels of any size": lambda: x * 10 ** rng.uniform(-4, 4, shape),
        "rows of any size": lambda: x * 10 ** rng.uniform(-4, 4, (shape[2], 1)),
        "channels of any size": lambda: x * 10 ** rng.uniform(-4, 4, (shape[1], 1, 1)),
        "outliers": lambda: np.where(rng.random(shape) < 1e-3, 1e4, x),
        "smooth": lambda: np.cumsum(x, axis=2),
    }[name]().astype(np.float32)


def _error(actual, exact):
    return np.sqrt(np.mean((actual - exact) ** 2))


@pytest.mark.parametrize(("C", "size"), [(16, 3), (64, 3), (192, 3), (16, 5), (96, 5)])
@pytest.mark.parametrize(
    "images",
    ["normal", "relu", "offset", "pixels of any size", "rows of any size", "channels of any size",
     "outliers", "smooth"],
)  # fmt: skip
def test_winograd_error_is_at_most_three_times_the_direct_one(images, C, size, level, rng):
    """The documented bound, forward and dx, against float64."""
    shape, F = (2, C, 24, 24), 32
    x, dout = _hard(images, shape, rng), _hard(images, (2, F, 24, 24), rng)
    w = (rng.standard_normal((F, C, size, size)) / np.sqrt(size**2 * C)).astype(np.float32)
    b = np.zeros(F, np.float32)
    param = {"stride": 1, "pad": size // 2}
    exact = _both(*(a.astype(np.float64) for a in (x, w, b)), param, dout)
    direct, winograd = (
        _both(x, w, b, {**param, "algorithm": name}, dout) for name in ("direct", "winograd")
    )
    for i in (0, 1):
        assert _error(direct[i], exact[i]) > 0
        assert _error(winograd[i], exact[i]) < 3 * _error(direct[i], exact[i])
        assert not np.array_equal(winograd[i], direct[i])  # it is another way


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_winograd_leaves_what_is_not_finite_where_it_belongs(value, level, rng):
    x, w, b, param = _winograd_arguments(((2, 16, 13, 12), 16, (3, 3), 1), rng)
    x[1, 3, 5, 6] = value
    dout = rng.standard_normal((2, 16, 13, 12)).astype(np.float32)
    dout[0, 2, 7, 1] = value
    for actual, direct in zip(
        _both(x, w, b, param, dout),
        _both(x, w, b, {**param, "algorithm": "direct"}, dout),
        strict=True,
    ):
        np.testing.assert_array_equal(actual, direct)


def test_who_chooses_the_algorithm(level, rng):
    x, w, b, param = _arguments(((2, 16, 8, 8), 16, 3, 3, 1, 1), np.float32, rng)
    out = {
        name: layers.conv_forward_fast(x, w, b, {**param, "algorithm": name})[0]
        for name in ("auto", "direct", "winograd")
    }
    np.testing.assert_array_equal(out["auto"], out["winograd"])
    assert fastbn.get_conv_algorithm() == "auto"
    np.testing.assert_array_equal(layers.conv_forward_fast(x, w, b, param)[0], out["auto"])
    fastbn.set_conv_algorithm("direct")
    try:
        assert fastbn.get_conv_algorithm() == "direct"
        np.testing.assert_array_equal(layers.conv_forward_fast(x, w, b, param)[0], out["direct"])
        param["algorithm"] = "winograd"
        np.testing.assert_array_equal(layers.conv_forward_fast(x, w, b, param)[0], out["winograd"])
    finally:
        fastbn.set_conv_algorithm("auto")


@pytest.mark.parametrize(
    ("shape", "F", "size", "stride", "dtype"),
    [
        ((2, 15, 8, 8), 16, 3, 1, np.float32),  # too few channels for it to pay
        ((2, 16, 8, 8), 16, 3, 2, np.float32),
        ((2, 16, 8, 8), 16, 4, 1, np.float32),
        ((2, 16, 8, 8), 16, 3, 1, np.float64),
    ],
)
def test_auto_is_direct_elsewhere(shape, F, size, stride, dtype, level, rng):
    x, w, b, param = _arguments((shape, F, size, size, stride, 1), dtype, rng)
    out = layers.conv_forward_fast(x, w, b, param)[0]
    direct = layers.conv_forward_fast(x, w, b, {**param, "algorithm": "direct"})[0]
    np.testing.assert_array_equal(out, direct)


@pytest.mark.parametrize("algorithm", ["fft", "Winograd", None, 1, ["direct"]])
def test_unknown_algorithm(algorithm):
    message = "must be one of auto, direct, winograd; got "
    with pytest.raises(ValueError, match="^algorithm " + message):
        fastbn.set_conv_algorithm(algorithm)
    assert fastbn.get_conv_algorithm() == "auto"
    x = np.ones((1, 1, 4, 4))
    param = {"stride": 1, "pad": 1, "algorithm": algorithm}
    with pytest.raises(ValueError, match=r"^conv_param\['algorithm'\] " + message):
        layers.conv_forward_fast(x, np.ones((1, 1, 3, 3)), np.ones(1), param)
