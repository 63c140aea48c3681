import cases
import numpy as np
import pytest
from scipy.special import log_softmax

from fastbn import layers, reference

SHAPES = [(1, 1), (1, 7), (3, 1), (50, 10), (7, 33), (2, 5000), (3000, 11)]


@pytest.mark.parametrize("name", ["softmax_loss", "svm_loss"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_reference(name, shape, dtype, level, num_threads, rng):
    x = rng.standard_normal(shape).astype(dtype)
    y = rng.integers(shape[1], size=shape[0])
    loss, dx = getattr(layers, name)(x, y)
    expected, expected_dx = getattr(reference, name)(x, y)
    np.testing.assert_allclose(loss, expected, rtol=cases.tolerance(dtype, x.size))
    cases.assert_same(dx * shape[0], expected_dx * shape[0], dtype, shape[1])


@pytest.mark.parametrize("name", ["softmax_loss", "svm_loss"])
@pytest.mark.parametrize("shape", [(0, 3), (0, 0)])
def test_no_rows(name, shape):
    loss, dx = getattr(layers, name)(np.empty(shape), np.empty(0, int))
    expected, expected_dx = getattr(reference, name)(np.empty(shape), np.empty(0, int))
    assert np.isnan(loss) and np.isnan(expected)
    assert dx.shape == expected_dx.shape == shape


def test_softmax_is_stable_and_equals_scipy(level, rng):
    x = 200 * rng.standard_normal((20, 15)) + np.array([1e4, -1e4] * 10)[:, None]
    y = rng.integers(15, size=20)
    loss, dx = layers.softmax_loss(x, y)
    np.testing.assert_allclose(loss, -log_softmax(x, axis=1)[np.arange(20), y].mean(), rtol=1e-12)
    np.testing.assert_allclose(dx.sum(axis=1), 0, atol=1e-15)


def test_softmax_gradient_of_a_sure_row_keeps_its_digits():
    # 1 - p is formed from p, so it can have no digits below eps; it must not turn negative.
    loss, dx = layers.softmax_loss(np.array([[60.0, 0.0]]), np.array([0]))
    np.testing.assert_allclose(dx[0, 1], np.exp(-60), rtol=1e-12)
    assert 0 <= loss < 1e-20 and abs(dx[0, 0]) < 1e-15


@pytest.mark.parametrize("name", ["softmax_loss", "svm_loss"])
def test_nan_reaches_the_loss(name):
    x = np.zeros((4, 3))
    x[2, 1] = np.nan
    loss, _ = getattr(layers, name)(x, np.zeros(4, int))
    assert np.isnan(loss)


def test_svm_counts_margins():
    loss, dx = layers.svm_loss(np.array([[3.0, 2.5, 1.0]]), np.array([0]))
    assert loss == 0.5
    np.testing.assert_array_equal(dx, [[-1, 1, 0]])
