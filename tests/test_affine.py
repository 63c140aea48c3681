import cases
import numpy as np
import pytest

from fastbn import layers, reference

#: shape of x, M
SHAPES = [
    ((0, 4), 3),
    ((4, 0), 3),
    ((4, 3), 0),
    ((1, 1), 1),
    ((3, 2, 2, 5), 7),
    ((13, 33), 31),  # one over a tile
    ((97, 257), 129),  # one over a block, one over DEPTH
    ((200, 3), 5),
    ((2, 1000), 300),
    ((5,), 4),  # x of one axis: D = 1
    ((1, 300), 40),  # one row: BLAS's
    ((101, 513), 1027),  # blocks both ways, three of DEPTH
]


@pytest.mark.parametrize("shape, M", SHAPES)
def test_equals_reference(shape, M, dtype, level, num_threads, rng):
    x = rng.standard_normal(shape).astype(dtype)
    D = int(np.prod(shape[1:]))
    w, b = rng.standard_normal((D, M)).astype(dtype), rng.standard_normal(M).astype(dtype)
    dout = rng.standard_normal((shape[0], M)).astype(dtype)
    out, cache = layers.affine_forward(x, w, b)
    expected, expected_cache = reference.affine_forward(x, w, b)
    cases.assert_same(out, expected, dtype, D)
    for actual, wanted, terms in zip(
        layers.affine_backward(dout, cache),
        reference.affine_backward(dout, expected_cache),
        (M, shape[0], shape[0]),
        strict=True,
    ):
        cases.assert_same(actual, wanted, dtype, terms)


def test_nan_and_infinity_reach_only_their_row():
    x = np.ones((14, 40))
    x[3, 5], x[12, 39] = np.nan, np.inf
    out, _ = layers.affine_forward(x, np.ones((40, 35)), np.zeros(35))
    assert np.isnan(out[3]).all() and np.isposinf(out[12]).all()
    np.testing.assert_array_equal(np.delete(out, (3, 12), axis=0), 40.0)


def test_long_sums_keep_float32_digits(level):
    x = np.full((1, 100_000), 0.1, np.float32)
    out, cache = layers.affine_forward(x, np.ones((100_000, 3), np.float32), np.zeros(3, "f"))
    exact = 100_000 * float(np.float32(0.1))
    np.testing.assert_allclose(out, exact, rtol=2e-5)
    _, dw, db = layers.affine_backward(np.ones((1, 3), np.float32), cache)
    np.testing.assert_array_equal(dw, np.float32(0.1))
    np.testing.assert_array_equal(db, 1)
