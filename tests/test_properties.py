"""Laws that hold for any shapes, by Hypothesis."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastbn import layers, reference

settings.register_profile("fastbn", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("fastbn")

FLOATS = st.floats(-10, 10, width=32)


def _array(shape, elements=FLOATS):
    return hnp.arrays(np.float64, shape, elements=elements)


@st.composite
def convolutions(draw):
    """x, w and a conv_param whose filter fits."""
    N, C, F, H, W = (draw(st.integers(1, n)) for n in (3, 3, 14, 9, 9))
    pad, stride = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    HH, WW = draw(st.integers(1, H + 2 * pad)), draw(st.integers(1, W + 2 * pad))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x, w = rng.standard_normal((N, C, H, W)), rng.standard_normal((F, C, HH, WW))
    return x, w, {"stride": stride, "pad": pad}


@st.composite
def poolings(draw):
    """x with many ties and a pool_param whose window fits."""
    shape = tuple(draw(st.integers(1, n)) for n in (2, 3, 9, 9))
    x = draw(_array(shape, st.integers(-3, 3).map(float) | st.just(np.nan) | st.just(-np.inf)))
    return x, {
        "pool_height": draw(st.integers(1, shape[2])),
        "pool_width": draw(st.integers(1, shape[3])),
        "stride": draw(st.integers(1, 4)),
    }


@given(convolutions())
def test_convolution_equals_reference_and_is_adjoint(case):
    x, w, param = case
    zero = np.zeros(len(w))
    out, cache = layers.conv_forward_fast(x, w, zero, param)
    expected, expected_cache = reference.conv_forward_fast(x, w, zero, param)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-11)
    dout = np.cos(out)
    gradients = layers.conv_backward_fast(dout, cache)
    for ours, theirs in zip(
        gradients, reference.conv_backward_fast(dout, expected_cache), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)
    product = np.vdot(out, dout)
    for array, gradient in zip((x, w), gradients[:2], strict=True):
        assert abs(np.vdot(array, gradient) - product) < 1e-9


@given(convolutions(), st.floats(-3, 3), st.floats(-3, 3))
def test_convolution_is_linear(case, a, b):
    x, w, param = case
    y = np.flip(x, axis=0)

    def convolve(images):
        return layers.conv_forward_fast(images, w, np.zeros(len(w)), param)[0]

    np.testing.assert_allclose(
        convolve(a * x + b * y), a * convolve(x) + b * convolve(y), rtol=0, atol=1e-10
    )


@given(poolings())
def test_pooling_equals_reference_and_moves_every_gradient(case):
    x, param = case
    for variant in ("naive", "fast"):
        out, cache = getattr(layers, f"max_pool_forward_{variant}")(x, param)
        expected, expected_cache = getattr(reference, f"max_pool_forward_{variant}")(x, param)
        np.testing.assert_array_equal(out, expected)
        dout = np.arange(1.0, out.size + 1).reshape(out.shape)
        dx = getattr(layers, f"max_pool_backward_{variant}")(dout, cache)
        np.testing.assert_allclose(
            dx, getattr(reference, f"max_pool_backward_{variant}")(dout, expected_cache)
        )
    assert np.isin(out[np.isfinite(out)], x).all()
    dx = layers.max_pool_backward_naive(dout, cache)
    np.testing.assert_allclose(dx.sum(), dout.sum())


@given(
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40).flatmap(_array),
    st.sampled_from([1e-5, 0.1]),
)
def test_normalized_numbers_have_mean_zero_and_the_variance_eps_leaves(x, eps):
    ones, zeros = np.ones(x.shape[1]), np.zeros(x.shape[1])
    batch, _ = layers.batchnorm_forward(x, ones, zeros, {"mode": "train", "eps": eps})
    layer, _ = layers.layernorm_forward(x, ones, zeros, {"eps": eps})
    for out, axis in ((batch, 0), (layer, 1)):
        var = x.var(axis=axis)
        np.testing.assert_allclose(out.mean(axis=axis), 0, atol=1e-9)
        np.testing.assert_allclose(out.var(axis=axis), var / (var + eps), rtol=1e-9, atol=1e-9)


@given(
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20).flatmap(_array),
    st.integers(0, 2**32 - 1),
)
def test_losses_are_never_negative_and_gradients_sum_to_zero(x, seed):
    y = np.random.default_rng(seed).integers(x.shape[1], size=len(x))
    for loss in (layers.softmax_loss, layers.svm_loss):
        value, dx = loss(x, y)
        assert value >= 0
        np.testing.assert_allclose(dx.sum(axis=1), 0, atol=1e-12)


@given(st.data())
def test_col2im_is_the_adjoint_of_im2col(data):
    x, w, param = data.draw(convolutions())
    field = (*w.shape[2:], param["pad"], param["stride"])
    cols = layers.im2col_cython(x, *field)
    other = np.cos(np.arange(cols.size)).reshape(cols.shape)
    back = layers.col2im_cython(other, *x.shape, *field)
    np.testing.assert_allclose(np.vdot(cols, other), np.vdot(x, back), atol=1e-9)
