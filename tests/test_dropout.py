import numpy as np
import pytest

import fastbn
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


@pytest.fixture
def share_dropped():
    """The meaning of p in 2016 and 2017."""
    fastbn.set_dropout_convention("drop")
    yield
    fastbn.set_dropout_convention("keep")


@pytest.mark.parametrize("shape", [(0, 3), (), (7, 9), (1, 16384 + 33)], ids=str)
@pytest.mark.parametrize("p", [0, 0.3, np.float64(0.75)])
def test_share_dropped(share_dropped, shape, p, dtype, level, num_threads, rng):
    x, dout = np.asarray(rng.standard_normal((2, *shape)), dtype)
    np.random.seed(11)
    out, cache = layers.dropout_forward(x, {"mode": "train", "p": p})
    after = np.random.rand()
    np.random.seed(11)
    mask = (np.asarray(np.random.rand(*shape) > p) / (1 - p)).astype(dtype)
    assert np.random.rand() == after
    np.testing.assert_array_equal(cache[1], mask, strict=True)
    np.testing.assert_array_equal(out, x * mask)
    np.random.seed(11)
    expected, expected_cache = reference.dropout_forward(x, {"mode": "train", "p": p})
    np.testing.assert_array_equal(expected, out)
    # What forward meant holds for its backward pass.
    fastbn.set_dropout_convention("keep")
    for module, made in ((layers, cache), (reference, expected_cache)):
        np.testing.assert_array_equal(module.dropout_backward(dout, made), dout * mask)


def test_bounds_of_the_share(share_dropped):
    with pytest.raises(ValueError, match=r"\['p'\] must be below 1: it is the share dropped; .*1"):
        layers.dropout_forward(np.ones(3), {"mode": "train", "p": 1})
    fastbn.set_dropout_convention("keep")
    with pytest.raises(ValueError, match=r"\['p'\] must be above 0: it is the share kept; .*0"):
        layers.dropout_forward(np.ones(3), {"mode": "train", "p": 0})


def test_convention(share_dropped):
    assert fastbn.get_dropout_convention() == "drop"
    for wrong in ("dropped", None, ["keep"]):
        with pytest.raises(ValueError, match="convention must be one of keep, drop; got "):
            fastbn.set_dropout_convention(wrong)
    assert fastbn.get_dropout_convention() == "drop"
    fastbn.set_dropout_convention("keep")
    assert fastbn.get_dropout_convention() == "keep"
