"""Numbers at the edge of a dtype, and beyond: in all layers but the normalizations.

Losses and update rules are held to long double, layers that choose or move numbers to the reference
bit for bit, the sign of a zero included (of a NaN it means nothing).
"""

import cases
import numpy as np
import pytest

from fastbn import layers, optim, reference

F4 = np.float32
L = np.longdouble


# Losses


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e4, 1e30, 1e38])
def test_losses_of_extreme_scores(scale, dtype, level, num_threads, rng):
    for classes in (1, 2, 10, 33, 300):
        _check_losses((scale * rng.uniform(-1, 1, (40, classes))).astype(dtype), dtype, rng)


def _check_losses(x, dtype, rng):
    classes = x.shape[1]
    y = rng.integers(classes, size=40)
    exact, rows = x.astype(L), np.arange(40)
    shifted = exact - exact.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True)
    one = np.eye(classes)[y]
    loss, dx = layers.softmax_loss(x, y)
    losses = np.log(total[:, 0]) - shifted[rows, y]
    # exp of a score that was rounded: the score's size counts, and 1 - p has the digits of 1.
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(loss, float(losses.mean()), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(dx, (np.exp(shifted) / total - one) / 40, rtol=0, atol=eps / 10)
    loss, dx = layers.svm_loss(x, y)
    margins = np.maximum(0, exact - exact[rows, y][:, None] + 1) * (1 - one)
    np.testing.assert_allclose(loss, float(margins.sum() / 40), rtol=4 * eps)
    assert np.isfinite(dx).all()
    np.testing.assert_allclose(dx.sum(axis=1), 0, atol=classes * eps)


SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0]


def _special(dtype, shape, rng):
    info = np.finfo(dtype)
    tiny = [info.smallest_subnormal, -info.smallest_subnormal, info.tiny, info.max / 64]
    return rng.choice(np.array(SPECIAL + tiny, dtype), shape)


@pytest.mark.parametrize("name", ["softmax_loss", "svm_loss"])
@pytest.mark.parametrize("classes", [1, 3, 70])
def test_losses_of_scores_that_are_not_finite(name, classes, dtype, level, rng):
    # Row by row: one NaN is enough for the mean over all.
    x, y = _special(dtype, (60, classes), rng), rng.integers(classes, size=60)
    for i in range(60):
        loss, dx = getattr(layers, name)(x[i : i + 1], y[i : i + 1])
        expected, expected_dx = getattr(reference, name)(x[i : i + 1], y[i : i + 1])
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(loss, expected, rtol=8 * eps, atol=eps)
        np.testing.assert_allclose(dx, expected_dx, rtol=8 * eps, atol=4 * eps)


def test_softmax_of_minus_infinity_is_nothing(level, dtype):
    x = np.array([[0, -np.inf, 0], [-np.inf, 5, -np.inf]], dtype)
    loss, dx = layers.softmax_loss(x, np.array([0, 1]))
    np.testing.assert_allclose(loss, np.log(2) / 2, rtol=1e-15)
    np.testing.assert_array_equal(dx, [[-0.25, 0, 0.25], [0, 0, 0]])
    loss, _ = layers.softmax_loss(x, np.array([1, 1]))
    assert loss == np.inf


# Layers that choose


def _assert_same_numbers(actual, expected):
    """Equal, the sign of zeros included; a NaN's sign means nothing."""
    np.testing.assert_array_equal(actual, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual[number]), np.signbit(expected[number]))


@pytest.mark.parametrize("shape", [(3,), (5, 7), (3, 4, 6, 70)], ids=str)
def test_relu_and_dropout(shape, dtype, level, num_threads, rng):
    x, dout = _special(dtype, shape, rng), _special(dtype, shape, rng)
    out, cache = layers.relu_forward(x)
    _assert_same_numbers(out, reference.relu_forward(x)[0])
    _assert_same_numbers(layers.relu_backward(dout, cache), reference.relu_backward(dout, x))
    state = np.random.get_state()
    try:
        for mode in ("train", "test"):
            param = {"mode": mode, "p": 0.5, "seed": 3}
            out, cache = layers.dropout_forward(x, param)
            expected, expected_cache = reference.dropout_forward(x, param)
            _assert_same_numbers(out, expected)  # what is dropped of an infinity is NaN, as 0 * inf
            _assert_same_numbers(
                layers.dropout_backward(dout, cache),
                reference.dropout_backward(dout, expected_cache),
            )
    finally:
        np.random.set_state(state)


@pytest.mark.parametrize("size, stride", [(2, 2), (3, 2), (3, 1), (1, 1), (5, 3)])
def test_max_pooling(size, stride, dtype, level, num_threads, rng):
    x = _special(dtype, (2, 3, 11, 70), rng)
    param = {"pool_height": size, "pool_width": size, "stride": stride}
    out, cache = layers.max_pool_forward_naive(x, param)
    np.testing.assert_array_equal(out, reference.max_pool_forward_naive(x, param)[0])
    # NumPy's maximum of 0 and -0 is either; ours the first, whose place argmax gives.
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))
    windows = windows[:, :, ::stride, ::stride].reshape(*out.shape, -1)
    first = np.take_along_axis(windows, windows.argmax(axis=-1)[..., None], -1)[..., 0]
    _assert_same_numbers(out, first)
    dout = rng.choice(np.array([0.0, 1.0, -2.0, np.nan, np.inf], dtype), out.shape)
    dx = layers.max_pool_backward_naive(dout, cache)
    np.testing.assert_array_equal(dx, reference.max_pool_backward_naive(dout, (x, param)))


# Convolution


def _kinds(array):
    return np.isnan(array) + 2 * np.isposinf(array) + 3 * np.isneginf(array)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["x", "w"])
@pytest.mark.parametrize("case", [((2, 3, 9, 8), 4, 1), ((2, 32, 18, 18), 32, 1)], ids=str)
def test_convolution_of_what_is_not_finite(case, where, value, dtype, level, rng):
    shape, filters, pad = case
    x = rng.standard_normal(shape).astype(dtype)
    w = rng.standard_normal((filters, shape[1], 3, 3)).astype(dtype)
    w[0] = 0  # 0 * inf is NaN
    if where == "x":
        x[1, 2, 0, 5] = value
    else:
        w[2, 1, 0, 1] = value
    dout = rng.standard_normal((shape[0], filters, *shape[2:])).astype(dtype)
    results, expected = [], []
    for module, into in ((layers, results), (reference, expected)):
        out, cache = module.conv_forward_fast(
            x, w, np.zeros(filters, dtype), {"stride": 1, "pad": pad}
        )
        into += [out, *module.conv_backward_fast(dout, cache)]
    if where == "w":
        # Known difference: no dout reaches a pixel of the first row from above, which the
        # reference leaves out; here it is a 0 that meets the filter, and 0 * inf is NaN.
        border = np.zeros(shape, bool)
        border[:, 1, [0, -1]] = border[:, 1, :, [0, -1]] = True
        differs = _kinds(results[1]) != _kinds(expected[1])
        assert np.isnan(results[1][differs]).all() and not (differs & ~border).any()
        results[1], expected[1] = (np.where(border, 0, r[1]) for r in (results, expected))
    for actual, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(_kinds(actual), _kinds(wanted))
        finite = np.isfinite(wanted)
        np.testing.assert_allclose(
            actual[finite], wanted[finite], rtol=0, atol=cases.tolerance(dtype, 300) * 100
        )


@pytest.mark.parametrize("x_scale, w_scale", [(1e36, 1e-30), (1e-36, 1e30), (1e-25, 1e-8)])
def test_convolution_scales(x_scale, w_scale, dtype, level, rng):
    # Each algorithm's sums are linear in x and in w: a power of two goes through them exactly.
    x, w = rng.standard_normal((2, 16, 14, 14)), rng.standard_normal((16, 16, 3, 3))
    powers = [2.0 ** int(np.log2(s)) for s in (x_scale, w_scale)]
    outs = [
        layers.conv_forward_fast(
            (x * a).astype(dtype),
            (w * b).astype(dtype),
            np.zeros(16, dtype),
            {"stride": 1, "pad": 1, "algorithm": "direct"},
        )[0]
        for a, b in ((1, 1), powers)
    ]
    np.testing.assert_allclose(
        outs[1] / dtype(powers[0] * powers[1]), outs[0], rtol=1e-5, atol=1e-5
    )


# Update rules


@pytest.mark.parametrize("rule", ["sgd", "sgd_momentum", "rmsprop", "adam"])
@pytest.mark.parametrize("scale", [1e-45, 1e-40, 1e-25, 1e-10, 1e15])
def test_update_rules_of_extreme_gradients(rule, scale, dtype, rng):
    w, dw = rng.standard_normal((2, 30))
    dw = (scale * dw).astype(dtype)
    config, exact_config = {}, {}
    values, exact = w.astype(dtype), w.astype(dtype).astype(L)
    for _ in range(3):
        values, config = getattr(optim, rule)(values, dw, config)
        exact, exact_config = getattr(optim, rule)(exact, dw.astype(L), exact_config)
    assert values.dtype == dtype and np.isfinite(values).all()
    step = np.abs(exact - w).max()
    # A square below the least number leaves sqrt(v) short by at most its root, next to epsilon.
    lost = np.sqrt(np.finfo(dtype).smallest_subnormal) / 1e-8 * step
    bound = 32 * np.finfo(dtype).eps * (1 + np.abs(exact)) + 4 * lost
    assert (np.abs(values - exact) <= bound + 32 * np.finfo(dtype).eps * step).all()


@pytest.mark.parametrize("rule", ["rmsprop", "adam"])
def test_a_gradient_whose_square_overflows_stands_still(rule):
    # As the course's formulas have it in float32, with NumPy's warning: dw / sqrt(inf) is 0.
    w, dw = np.ones(3, F4), np.full(3, 1e25, F4)
    with pytest.warns(RuntimeWarning, match="overflow"):
        next_w, _ = getattr(optim, rule)(w, dw)
    np.testing.assert_array_equal(next_w, w)


# The floating-point environment


def test_subnormal_numbers_are_not_flushed(dtype, level, num_threads):
    # Neither as operands nor as results, on no thread: nobody has set the processor's flags.
    least = np.finfo(dtype).smallest_subnormal
    x = np.full(300_000, least, dtype)
    np.testing.assert_array_equal(layers.relu_forward(x)[0], least)
    state = np.random.get_state()
    out, _ = layers.dropout_forward(x, {"mode": "train", "p": 0.5, "seed": 1})
    np.random.set_state(state)
    assert set(np.unique(out / least)) == {0, 2}
    np.testing.assert_array_equal(x + x, 2 * least)  # nor for NumPy, after ours
