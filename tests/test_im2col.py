import cases
import numpy as np
import pytest

from fastbn import layers, reference


@pytest.mark.parametrize("case", cases.FIELDS, ids=str)
def test_equals_reference(case, dtype, level, num_threads, rng):
    shape, kh, kw, pad, stride = case
    x = rng.standard_normal(shape).astype(dtype)
    cols = layers.im2col_cython(x, kh, kw, pad, stride)
    np.testing.assert_array_equal(cols, reference.im2col_cython(x, kh, kw, pad, stride))
    assert cols.dtype == dtype and cols.flags.c_contiguous
    values = rng.standard_normal(cols.shape).astype(dtype)
    cases.assert_same(
        layers.col2im_cython(values, *shape, kh, kw, pad, stride),
        reference.col2im_cython(values, *shape, kh, kw, pad, stride),
        dtype,
        kh * kw,
    )
    OH, OW = (shape[2] + 2 * pad - kh) // stride + 1, (shape[3] + 2 * pad - kw) // stride + 1
    six = rng.standard_normal((shape[1], kh, kw, shape[0], OH, OW)).astype(dtype)
    cases.assert_same(
        layers.col2im_6d_cython(six, *shape, kh, kw, pad, stride),
        reference.col2im_6d_cython(six, *shape, kh, kw, pad, stride),
        dtype,
        kh * kw,
    )


@pytest.mark.parametrize("case", cases.FIELDS, ids=str)
def test_indices_pick_the_columns(case, rng):
    shape, kh, kw, pad, stride = case
    x = rng.standard_normal(shape)
    k, i, j = layers.get_im2col_indices(shape, kh, kw, pad, stride)
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    cols = padded[:, k, i, j].transpose(1, 2, 0)
    cols = cols.reshape(shape[1] * kh * kw, i.shape[1] * shape[0])
    np.testing.assert_array_equal(layers.im2col_indices(x, kh, kw, pad, stride), cols)
    for ours, theirs in zip(
        (k, i, j), reference.get_im2col_indices(shape, kh, kw, pad, stride), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_defaults_are_the_course_s(rng):
    x = rng.standard_normal((2, 3, 5, 4))
    cols = layers.im2col_indices(x, 3, 3)
    np.testing.assert_array_equal(cols, layers.im2col_cython(x, 3, 3, 1, 1))
    back = layers.col2im_indices(cols, x.shape)
    np.testing.assert_array_equal(back, layers.col2im_cython(cols, *x.shape, 3, 3, 1, 1))
    # Every pixel comes back as often as windows see it.
    seen = layers.col2im_indices(np.ones_like(cols), x.shape)
    np.testing.assert_allclose(back, x * seen, atol=1e-12)
