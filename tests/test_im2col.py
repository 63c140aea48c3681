import cases
import numpy as np
import pytest

from fastbn import _threads, layers, reference
from fastbn.layers import _im2col


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


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("case", cases.FIELDS, ids=str)
def test_columns_in_both_orders(case, streaming, dtype, level, num_threads, rng, monkeypatch):
    (N, C, H, W), kh, kw, pad, stride = case
    monkeypatch.setattr(_im2col, "streams", lambda *arrays: streaming)
    x = rng.standard_normal((N, C, H, W)).astype(dtype)
    OH, OW = (H + 2 * pad - kh) // stride + 1, (W + 2 * pad - kw) // stride + 1
    slowest = _im2col.im2col_6d(x, kh, kw, pad, min(stride, max(H, W) + 2 * pad), OH, OW)
    fastest = layers.im2col_cython(x, kh, kw, pad, stride)
    rows = C * kh * kw
    np.testing.assert_array_equal(
        slowest.reshape(rows, N, OH * OW), fastest.reshape(rows, OH * OW, N).transpose(0, 2, 1)
    )


@pytest.mark.parametrize("case", cases.FIELDS, ids=str)
def test_sums_do_not_depend_on_threads(case, dtype, level, rng, monkeypatch):
    shape, *field = case
    monkeypatch.setattr(_threads, "SMALL", 0)
    cols = layers.im2col_cython(np.zeros(shape, dtype), *field)
    cols = rng.standard_normal(cols.shape).astype(dtype)
    OH, OW = (
        (n + 2 * field[2] - k) // field[3] + 1 for n, k in zip(shape[2:], field, strict=False)
    )
    six = cols.reshape(shape[1], *field[:2], shape[0], OH, OW)
    results = []
    for num_threads in cases.THREADS:
        monkeypatch.setattr(_threads, "_requested", num_threads)
        results.append(
            (
                layers.col2im_cython(cols, *shape, *field),
                layers.col2im_6d_cython(six, *shape, *field),
            )
        )
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


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
