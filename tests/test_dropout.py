import numpy as np
import pytest

from fastbn import layers, reference


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("shape", [(0, 3), (1,), (7, 9), (2, 3, 4, 5), (1, 16384 + 33)], ids=str)
def test_equals_reference(shape, mode, dtype, level, num_threads, rng):
    x, dout = rng.standard_normal((2, *shape)).astype(dtype)
    param = {"mode": mode, "p": 0.3, "seed": 5}
    out, cache = layers.dropout_forward(x, dict(param))
    expected, expected_cache = reference.dropout_forward(x, dict(param))
    np.testing.assert_array_equal(out, expected)
    dx = layers.dropout_backward(dout, cache)
    np.testing.assert_array_equal(dx, reference.dropout_backward(dout, expected_cache))
    assert out.dtype == dx.dtype == dtype


def test_keeps_the_share_and_the_mean():
    param = {"mode": "train", "p": 0.25, "seed": 0}
    out, (kept_param, mask) = layers.dropout_forward(np.ones((500, 400)), param)
    assert kept_param is param
    np.testing.assert_array_equal(np.unique(mask), [0, 4])
    assert abs((mask > 0).mean() - 0.25) < 0.005
    np.testing.assert_array_equal(out, mask)


def test_mode_is_read_from_the_dict_at_the_time():
    param = {"mode": "train", "p": 0.5, "seed": 0}
    _, cache = layers.dropout_forward(np.ones(50), param)
    dout = np.arange(50.0)
    param["mode"] = "test"
    assert layers.dropout_backward(dout, cache) is dout


def test_keeping_all_changes_nothing():
    x = np.arange(9.0)
    out, _ = layers.dropout_forward(x, {"mode": "train", "p": 1})
    np.testing.assert_array_equal(out, x)


def test_random_stream_moves_as_in_the_course():
    np.random.seed(3)
    expected = np.random.rand(13)[-3:]
    np.random.seed(3)
    layers.dropout_forward(np.ones((2, 5)), {"mode": "train", "p": 0.5})
    layers.dropout_forward(np.ones((2, 5)), {"mode": "test", "p": 0.5})
    np.testing.assert_array_equal(np.random.rand(3), expected)
