import cases
import numpy as np
import pytest

from fastbn import layers, reference


def _parameters(C, dtype, rng):
    return rng.standard_normal((2, C)).astype(dtype)


def _check(forward, backward, x, C, dtype, mode, rng):
    """fastbn's pair of functions against the reference's, running statistics included."""
    gamma, beta = _parameters(C, dtype, rng)
    dout = rng.standard_normal(x.shape).astype(dtype)
    params = [
        {
            "mode": mode,
            "running_mean": np.linspace(-1, 1, C).astype(dtype),
            "running_var": np.linspace(0.5, 2, C).astype(dtype),
            "momentum": 0.7,
            "eps": 1e-3,
        }
        for _ in range(2)
    ]
    terms = x.size // C if C else 0
    out, cache = getattr(layers, forward)(x, gamma, beta, params[0])
    expected, expected_cache = getattr(reference, forward)(x, gamma, beta, params[1])
    cases.assert_same(out, expected, dtype, terms)
    for key in ("running_mean", "running_var"):
        cases.assert_same(params[0][key], params[1][key], dtype, terms)
    for actual, wanted in zip(
        getattr(layers, backward)(dout, cache),
        getattr(reference, backward)(dout, expected_cache),
        strict=True,
    ):
        cases.assert_same(actual, wanted, dtype, terms)


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("shape", cases.MATRICES, ids=str)
def test_equals_reference(shape, mode, dtype, level, num_threads, rng):
    x = (3 * rng.standard_normal(shape) + 1).astype(dtype)
    _check("batchnorm_forward", "batchnorm_backward", x, shape[1], dtype, mode, rng)


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("shape", cases.MATRICES, ids=str)
def test_as_cut_for_arrays_in_memory(shape, mode, dtype, level, num_threads, rng, monkeypatch):
    monkeypatch.setattr("fastbn.layers._batchnorm._LARGE", 0)
    x = (3 * rng.standard_normal(shape) + 1).astype(dtype)
    _check("batchnorm_forward", "batchnorm_backward", x, shape[1], dtype, mode, rng)


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("shape", cases.IMAGES, ids=str)
def test_spatial_equals_reference(shape, mode, dtype, level, num_threads, rng):
    x = (3 * rng.standard_normal(shape) + 1).astype(dtype)
    _check("spatial_batchnorm_forward", "spatial_batchnorm_backward", x, shape[1], dtype, mode, rng)


def test_alternative_backward_is_the_same(rng):
    x, dout = rng.standard_normal((2, 20, 6))
    _, cache = layers.batchnorm_forward(x, np.ones(6), np.zeros(6), {"mode": "train"})
    for a, b in zip(
        layers.batchnorm_backward(dout, cache),
        layers.batchnorm_backward_alt(dout, cache),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def _hard_inputs(rng, N):
    normal = rng.standard_normal((N, 40))
    outlier = normal.copy()
    outlier[0] = 1e6
    return {
        "normal": normal,
        "offset": normal + 1e6,
        "outlier first": outlier,
        "outlier last": outlier[::-1],
        "denormal": normal * 1e-40,
        "large": normal * 1e30,  # squares overflow float32
    }


@pytest.mark.parametrize("name", _hard_inputs(np.random.default_rng(0), 2))
@pytest.mark.parametrize("N", [50, 5000])
def test_statistics_are_as_accurate_as_two_passes_in_float64(name, N, level, rng):
    x = np.ascontiguousarray(_hard_inputs(rng, N)[name].astype(np.float32))
    exact = x.astype(np.float64)
    mean, var = exact.mean(axis=0), exact.var(axis=0)
    images = np.ascontiguousarray(x.T.reshape(1, 40, N, 1))
    for forward, argument in (
        (layers.batchnorm_forward, x),
        (layers.spatial_batchnorm_forward, images),
    ):
        # Denormals need an eps: 1 / 1e-40 is not a float32.
        eps = 1e-5 if name == "denormal" else 0
        param = {"mode": "train", "momentum": 0, "eps": eps}
        gamma = np.ones(40, np.float32)
        out, cache = forward(argument, gamma, 0 * gamma, param)
        stats = cache[0].stats if forward is layers.spatial_batchnorm_forward else cache.stats
        np.testing.assert_allclose(stats[0], mean, rtol=1e-6, atol=1e-6 * np.sqrt(var.max()))
        np.testing.assert_allclose(stats[2], var, rtol=2e-6, atol=np.finfo(np.float32).tiny)
        xhat = (exact - mean) / np.sqrt(var + eps)
        out = out.reshape(40, N).T if out.ndim == 4 else out
        np.testing.assert_allclose(out, xhat, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_number_spoils_its_channel_alone(bad, num_threads, level, rng):
    x = rng.standard_normal((70, 90))
    x[5, 3] = bad
    out, cache = layers.batchnorm_forward(x, np.ones(90), np.zeros(90), {"mode": "train"})
    assert np.isnan(out[:, 3]).all()
    assert np.isfinite(np.delete(out, 3, axis=1)).all()
    dx, dgamma, dbeta = layers.batchnorm_backward(np.ones_like(x), cache)
    assert np.isnan(dx[:, 3]).all() and np.isnan(dgamma[3])
    assert np.isfinite(np.delete(dx, 3, axis=1)).all() and np.isfinite(dbeta).all()


def test_one_row_gives_beta():
    beta = np.array([3.0, -1.0])
    out, cache = layers.batchnorm_forward(
        np.array([[5.0, 7.0]]), np.ones(2), beta, {"mode": "train"}
    )
    np.testing.assert_array_equal(out, [beta])
    np.testing.assert_array_equal(layers.batchnorm_backward(np.ones((1, 2)), cache)[0], 0)


def test_no_rows_leave_running_statistics(rng):
    param = {"mode": "train", "running_mean": np.ones(3), "running_var": np.full(3, 2.0)}
    out, cache = layers.batchnorm_forward(np.empty((0, 3)), np.ones(3), np.ones(3), param)
    assert out.shape == (0, 3)
    np.testing.assert_array_equal(param["running_mean"], 1)
    np.testing.assert_array_equal(param["running_var"], 2)
    dx, dgamma, dbeta = layers.batchnorm_backward(np.empty((0, 3)), cache)
    assert dx.shape == (0, 3)
    np.testing.assert_array_equal([dgamma, dbeta], 0)


def test_running_statistics_approach_the_data(rng):
    param = {"mode": "train"}
    for _ in range(200):
        x = 3 * rng.standard_normal((256, 4)) + 5
        layers.batchnorm_forward(x, np.ones(4), np.zeros(4), param)
    np.testing.assert_allclose(param["running_mean"], 5, atol=0.3)
    np.testing.assert_allclose(param["running_var"], 9, atol=0.8)


@pytest.mark.parametrize("shape", [(600, 70), (6, 5, 9, 11), (3, 2, 30, 70)], ids=str)
@pytest.mark.parametrize("mode", ["train", "test"])
def test_gradients_keep_float32_digits_at_a_large_mean(shape, mode, level, rng):
    x = (rng.standard_normal(shape) + 1e6).astype(np.float32)
    dout = rng.standard_normal(shape).astype(np.float32)
    C = shape[1]
    gamma, beta = rng.standard_normal((2, C)).astype(np.float32)
    name = "spatial_batchnorm" if len(shape) == 4 else "batchnorm"
    results = []
    for module, dtype in ((layers, np.float32), (reference, np.float64)):
        param = {
            "mode": mode,
            "running_mean": np.full(C, 1e6, dtype),
            "running_var": np.ones(C, dtype),
        }
        _, cache = getattr(module, name + "_forward")(
            x.astype(dtype), gamma.astype(dtype), beta.astype(dtype), param
        )
        results.append(getattr(module, name + "_backward")(dout.astype(dtype), cache))
    for ours, exact in zip(*results, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-6 * np.abs(exact).max())


def test_an_infinity_leaves_the_running_mean_infinite(level):
    x = np.ones((200, 40))
    x[150, 3] = np.inf
    param = {"mode": "train"}
    layers.batchnorm_forward(x, np.ones(40), np.zeros(40), param)
    assert np.isposinf(param["running_mean"][3]) and np.isnan(param["running_var"][3])
    np.testing.assert_allclose(np.delete(param["running_mean"], 3), 0.1)
    out, _ = layers.batchnorm_forward(x[:2], np.ones(40), np.zeros(40), {**param, "mode": "test"})
    assert np.isnan(out[:, 3]).all() and np.isfinite(np.delete(out, 3, axis=1)).all()


def test_means_near_the_largest_float64(level):
    x = np.full((3, 2), 1e200)
    out, _ = layers.batchnorm_forward(x, np.ones(2), np.full(2, 5.0), {"mode": "train"})
    np.testing.assert_array_equal(out, 5)
