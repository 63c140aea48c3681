import numpy as np
import pytest

from fastbn import layers, reference

SHAPES = [(0,), (1,), (5, 0, 2), (7, 9), (3, 4, 5, 6), (2, 16384 + 33)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_reference(shape, dtype, level, num_threads, rng):
    x = rng.standard_normal(shape).astype(dtype)
    x.flat[::7] = 0
    x.flat[3::11] = np.nan
    dout = rng.standard_normal(shape).astype(dtype)
    out, cache = layers.relu_forward(x)
    np.testing.assert_array_equal(out, reference.relu_forward(x)[0])
    assert cache is x and out.dtype == dtype
    dx = layers.relu_backward(dout, cache)
    np.testing.assert_array_equal(dx, reference.relu_backward(dout, x))
    assert dx.dtype == dtype


def test_special_values():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324])
    out, cache = layers.relu_forward(x)
    np.testing.assert_array_equal(out, [np.nan, np.inf, 0, 0, 0, 5e-324, 0])
    assert not np.signbit(out).any()  # also of -0.0, as np.maximum has it
    np.testing.assert_array_equal(
        layers.relu_backward(np.full(7, 2.0), cache), [0, 2, 0, 0, 0, 2, 0]
    )


def test_scalar_array():
    out, cache = layers.relu_forward(np.array(-2.0))
    assert out.shape == () and out == 0
    assert layers.relu_backward(np.array(1.0), cache) == 0
