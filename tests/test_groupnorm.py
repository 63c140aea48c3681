import cases
import numpy as np
import pytest

from fastbn import layers, reference


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("shape, G", cases.GROUPS)
def test_equals_reference(shape, G, keepdims, dtype, level, num_threads, rng):
    C = shape[1]
    x = (3 * rng.standard_normal(shape) + 1).astype(dtype)
    gamma, beta = rng.standard_normal((2, C)).astype(dtype)
    if keepdims:
        gamma, beta = gamma.reshape(1, C, 1, 1), beta.reshape(1, C, 1, 1)
    dout = rng.standard_normal(shape).astype(dtype)
    out, cache = layers.spatial_groupnorm_forward(x, gamma, beta, G, {"eps": 1e-3})
    expected, expected_cache = reference.spatial_groupnorm_forward(x, gamma, beta, G, {"eps": 1e-3})
    condition = cases.condition(x.reshape(-1, x[:1].size // G), 1, 1e-3) if x.size else 1
    cases.assert_same(out, expected, dtype, x[:1].size // G, condition)
    for actual, wanted in zip(
        layers.spatial_groupnorm_backward(dout, cache),
        reference.spatial_groupnorm_backward(dout, expected_cache),
        strict=True,
    ):
        cases.assert_same(actual, wanted, dtype, x.size, condition)


def test_one_group_is_layernorm_and_all_groups_are_instance_norm(rng):
    x = rng.standard_normal((3, 4, 5, 6))
    ones, zeros = np.ones(4), np.zeros(4)
    one, _ = layers.spatial_groupnorm_forward(x, ones, zeros, 1, {})
    row, _ = layers.layernorm_forward(x.reshape(3, -1), np.ones(120), np.zeros(120), {})
    np.testing.assert_allclose(one.reshape(3, -1), row, atol=1e-14)
    each, _ = layers.spatial_groupnorm_forward(x, ones, zeros, 4, {"eps": 0})
    np.testing.assert_allclose(each.mean(axis=(2, 3)), 0, atol=1e-15)
    np.testing.assert_allclose(each.std(axis=(2, 3)), 1, atol=1e-14)


def test_large_offset_keeps_float32_digits(level, rng):
    x = (rng.standard_normal((2, 4, 40, 40)) + 1e6).astype(np.float32)
    exact = x.astype(np.float64).reshape(4, -1)
    xhat = (exact - exact.mean(axis=1, keepdims=True)) / exact.std(axis=1, keepdims=True)
    gamma = np.ones(4, np.float32)
    out, _ = layers.spatial_groupnorm_forward(x, gamma, 0 * gamma, 2, {"eps": 0})
    np.testing.assert_allclose(out.reshape(4, -1), xhat, rtol=1e-6, atol=2e-6)


def test_gradients_keep_float32_digits_at_a_large_mean(level, rng):
    x = (rng.standard_normal((5, 6, 20, 21)) + 1e6).astype(np.float32)
    dout = rng.standard_normal(x.shape).astype(np.float32)
    gamma = rng.standard_normal(6).astype(np.float32)
    results = []
    for module, dtype in ((layers, np.float32), (reference, np.float64)):
        _, cache = module.spatial_groupnorm_forward(
            x.astype(dtype), gamma.astype(dtype), gamma.astype(dtype), 3, {}
        )
        results.append(module.spatial_groupnorm_backward(dout.astype(dtype), cache))
    for ours, exact in zip(*results, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-6 * np.abs(exact).max())
