import cases
import numpy as np
import pytest

from fastbn import layers, reference


@pytest.mark.parametrize("shape", cases.MATRICES, ids=str)
def test_equals_reference(shape, dtype, level, num_threads, rng):
    x = (3 * rng.standard_normal(shape) + 1).astype(dtype)
    gamma, beta = rng.standard_normal((2, shape[1])).astype(dtype)
    dout = rng.standard_normal(shape).astype(dtype)
    out, cache = layers.layernorm_forward(x, gamma, beta, {"eps": 1e-3})
    expected, expected_cache = reference.layernorm_forward(x, gamma, beta, {"eps": 1e-3})
    condition = cases.condition(x, 1, 1e-3)
    cases.assert_same(out, expected, dtype, shape[1], condition)
    for actual, wanted in zip(
        layers.layernorm_backward(dout, cache),
        reference.layernorm_backward(dout, expected_cache),
        strict=True,
    ):
        cases.assert_same(actual, wanted, dtype, max(shape), condition)


@pytest.mark.parametrize("D", [40, 5000])
@pytest.mark.parametrize("offset, scale", [(0, 1), (1e6, 1), (0, 1e-40), (0, 1e25)])
def test_as_accurate_as_float64_two_passes(D, offset, scale, level, rng):
    x = (scale * rng.standard_normal((6, D)) + offset).astype(np.float32)
    x[0, 0] += np.float32(1e6) * np.float32(scale)  # an outlier
    exact = x.astype(np.float64)
    xhat = exact - exact.mean(axis=1, keepdims=True)
    # Denormals need an eps: 1 / 1e-40 is not a float32.
    eps = 1e-5 if scale < 1e-30 else 0
    xhat /= np.sqrt((xhat**2).mean(axis=1, keepdims=True) + eps)
    gamma = np.ones(D, np.float32)
    out, _ = layers.layernorm_forward(x, gamma, 0 * gamma, {"eps": eps})
    np.testing.assert_allclose(out, xhat, rtol=1e-6, atol=2e-6 * np.abs(xhat).max())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_number_spoils_its_row_alone(bad, num_threads, level, rng):
    x = rng.standard_normal((70, 90))
    x[5, 3] = bad
    out, cache = layers.layernorm_forward(x, np.ones(90), np.zeros(90), {})
    assert np.isnan(out[5]).all()
    assert np.isfinite(np.delete(out, 5, axis=0)).all()
    dx, _, dbeta = layers.layernorm_backward(np.ones_like(x), cache)
    assert np.isnan(dx[5]).all() and np.isfinite(np.delete(dx, 5, axis=0)).all()
    np.testing.assert_array_equal(dbeta, 70)


def test_gradients_keep_float32_digits_at_a_large_mean(level, rng):
    x = (rng.standard_normal((130, 300)) + 1e6).astype(np.float32)
    dout = rng.standard_normal(x.shape).astype(np.float32)
    gamma = rng.standard_normal(300).astype(np.float32)
    results = []
    for module, dtype in ((layers, np.float32), (reference, np.float64)):
        _, cache = module.layernorm_forward(
            x.astype(dtype), gamma.astype(dtype), gamma.astype(dtype), {}
        )
        results.append(module.layernorm_backward(dout.astype(dtype), cache))
    for ours, exact in zip(*results, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-6 * np.abs(exact).max())


def test_parameter_gradients_of_many_rows_keep_float32_digits(level):
    x = np.tile(np.array([[-1.0, 1.0]], np.float32), (300_000, 1))
    gamma = np.ones(2, np.float32)
    _, cache = layers.layernorm_forward(x, gamma, gamma, {"eps": 0})
    _, dgamma, dbeta = layers.layernorm_backward(np.full_like(x, 0.1), cache)
    exact = 300_000 * float(np.float32(0.1))
    np.testing.assert_allclose(dbeta, exact, rtol=1e-6)
    np.testing.assert_allclose(dgamma, [-exact, exact], rtol=1e-6)
