"""The figures that the course's notebooks and notes print for single layers.

Digits of a forward pass are asserted to the last one printed. Errors of gradient checks are
noise of the central difference, so there the order of magnitude is what counts, but for the layers
that only move numbers: they have printed the same error for everybody.
"""

import importlib

import numpy as np
import pytest

from fastbn.gradient_check import (
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    rel_error,
)

MODULES = {
    "reference": ["reference"],
    "fastbn": ["layers", "fast_layers", "im2col", "im2col_cython", "layer_utils"],
}
CONV = ["naive", "im2col", "strides", "fast"]
POOL = ["naive", "reshape", "im2col", "fast"]


class Layers:
    """All layer functions of one implementation, whatever module they live in."""

    def __init__(self, modules):
        self._modules = [importlib.import_module(f"fastbn.{name}") for name in modules]

    def __getattr__(self, name):
        for module in self._modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"none of {self._modules} has {name}")


class ReferenceLayers(Layers):
    """The reference has single layers only: put them in a row as the course's layer_utils does."""

    def affine_relu_forward(self, x, w, b):
        scores, affine_cache = self.affine_forward(x, w, b)
        out, relu_cache = self.relu_forward(scores)
        return out, (affine_cache, relu_cache)

    def affine_relu_backward(self, dout, cache):
        affine_cache, relu_cache = cache
        return self.affine_backward(self.relu_backward(dout, relu_cache), affine_cache)

    def conv_relu_forward(self, x, w, b, conv_param):
        scores, conv_cache = self.conv_forward_fast(x, w, b, conv_param)
        out, relu_cache = self.relu_forward(scores)
        return out, (conv_cache, relu_cache)

    def conv_relu_backward(self, dout, cache):
        conv_cache, relu_cache = cache
        return self.conv_backward_fast(self.relu_backward(dout, relu_cache), conv_cache)

    def conv_relu_pool_forward(self, x, w, b, conv_param, pool_param):
        hidden, conv_relu_cache = self.conv_relu_forward(x, w, b, conv_param)
        out, pool_cache = self.max_pool_forward_fast(hidden, pool_param)
        return out, (conv_relu_cache, pool_cache)

    def conv_relu_pool_backward(self, dout, cache):
        conv_relu_cache, pool_cache = cache
        dhidden = self.max_pool_backward_fast(dout, pool_cache)
        return self.conv_relu_backward(dhidden, conv_relu_cache)


@pytest.fixture(params=["reference", "fastbn"])
def layers(request):
    make = ReferenceLayers if request.param == "reference" else Layers
    return make(MODULES[request.param])


@pytest.fixture(autouse=True)
def _notebook_seed():
    """Every cell starts with this seed; the order of its draws is part of the figure."""
    state = np.random.get_state()
    np.random.seed(231)
    yield
    np.random.set_state(state)


def line(start, stop, *shape):
    return np.linspace(start, stop, num=int(np.prod(shape))).reshape(shape)


def assert_prints(actual, printed):
    """NumPy prints an array to eight decimals: allow half a unit of the last."""
    assert actual.shape == printed.shape
    np.testing.assert_allclose(actual, printed, rtol=0, atol=5.0001e-9)


def assert_gradients(forward, inputs, dout, gradients, tolerances):
    """Each gradient against the central difference of forward(*inputs), in its own tolerance."""
    assert len(gradients) == len(inputs) == len(tolerances)
    for x, dx, tolerance in zip(inputs, gradients, tolerances, strict=True):
        # x is changed in place, so forward sees it through inputs.
        numeric = eval_numerical_gradient_array(lambda _: forward(*inputs), x, dout)
        assert dx.shape == x.shape
        assert rel_error(dx, numeric) < tolerance


# ConvolutionalNetworks.ipynb


@pytest.mark.parametrize("variant", CONV)
def test_conv_forward(layers, variant):
    x = line(-0.1, 0.5, 2, 3, 4, 4)
    w = line(-0.2, 0.3, 3, 3, 4, 4)
    b = line(-0.1, 0.2, 3)
    printed = np.array(
        [
            [
                [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]],
                [[0.21027089, 0.21661097], [0.22847626, 0.23004637]],
                [[0.50813986, 0.54309974], [0.64082444, 0.67101435]],
            ],
            [
                [[-0.98053589, -1.03143541], [-1.19128892, -1.24695841]],
                [[0.69108355, 0.66880383], [0.59480972, 0.56776003]],
                [[2.36270298, 2.36904306], [2.38090835, 2.38247847]],
            ],
        ]
    )
    out, _ = getattr(layers, f"conv_forward_{variant}")(x, w, b, {"stride": 2, "pad": 1})
    assert_prints(out, printed)
    # The rounding of the printed array; its last digits depend on the order of the sum.
    assert rel_error(out, printed) == pytest.approx(2.2121476417505994e-08, rel=1e-7)


@pytest.mark.parametrize("variant", CONV)
def test_conv_as_image_processing(layers, variant):
    """Two photographs: grey values by one filter, horizontal edges of blue by the other."""
    x = np.random.randint(256, size=(2, 3, 200, 200)).astype(float)
    w = np.zeros((2, 3, 3, 3))
    w[0, :, 1, 1] = [0.3, 0.6, 0.1]
    w[1, 2] = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]
    few = slice(None, None, 1 if variant != "naive" else 8)  # loops over pixels take their time
    x = np.ascontiguousarray(x[:, :, few, few])
    b = np.array([0, 128])  # integers, as in the notebook
    out, _ = getattr(layers, f"conv_forward_{variant}")(x, w, b, {"stride": 1, "pad": 1})
    assert out.shape == (2, 2, *x.shape[2:]) and out.dtype == np.float64
    grey = 0.3 * x[:, 0] + 0.6 * x[:, 1] + 0.1 * x[:, 2]
    np.testing.assert_allclose(out[:, 0], grey, rtol=0, atol=1e-12)
    rows = np.pad(x[:, 2], ((0, 0), (1, 1), (1, 1)))
    rows = rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    np.testing.assert_array_equal(out[:, 1], rows[:, :-2] - rows[:, 2:] + 128)


@pytest.mark.parametrize("variant", CONV)
def test_conv_backward(layers, variant):
    x = np.random.randn(4, 3, 5, 5)
    w = np.random.randn(2, 3, 3, 3)
    b = np.random.randn(2)
    dout = np.random.randn(4, 2, 5, 5)
    forward = getattr(layers, f"conv_forward_{variant}")
    conv_param = {"stride": 1, "pad": 1}
    _, cache = forward(x, w, b, conv_param)
    gradients = getattr(layers, f"conv_backward_{variant}")(dout, cache)
    assert_gradients(
        lambda x, w, b: forward(x, w, b, conv_param)[0],
        (x, w, b),
        dout,
        gradients,
        (5e-8, 5e-9, 5e-10),
    )


@pytest.mark.parametrize("variant", POOL)
def test_max_pool_forward(layers, variant):
    x = line(-0.3, 0.4, 2, 3, 4, 4)
    pool_param = {"pool_width": 2, "pool_height": 2, "stride": 2}
    printed = np.array(
        [
            [
                [[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]],
                [[-0.14526316, -0.13052632], [-0.08631579, -0.07157895]],
                [[-0.02736842, -0.01263158], [0.03157895, 0.04631579]],
            ],
            [
                [[0.09052632, 0.10526316], [0.14947368, 0.16421053]],
                [[0.20842105, 0.22315789], [0.26736842, 0.28210526]],
                [[0.32631579, 0.34105263], [0.38526316, 0.4]],
            ],
        ]
    )
    out, _ = getattr(layers, f"max_pool_forward_{variant}")(x, pool_param)
    assert_prints(out, printed)
    assert rel_error(out, printed) == pytest.approx(4.1666665157267834e-08, rel=1e-7)


@pytest.mark.parametrize("variant", POOL)
def test_max_pool_backward(layers, variant):
    x = np.random.randn(3, 2, 8, 8)
    dout = np.random.randn(3, 2, 4, 4)
    pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    forward = getattr(layers, f"max_pool_forward_{variant}")
    _, cache = forward(x, pool_param)
    dx = getattr(layers, f"max_pool_backward_{variant}")(dout, cache)
    numeric = eval_numerical_gradient_array(lambda x: forward(x, pool_param)[0], x, dout)
    assert rel_error(dx, numeric) == pytest.approx(3.27562514223145e-12, rel=1e-9)


def test_fast_conv(layers):
    x = np.random.randn(100, 3, 31, 31)
    w = np.random.randn(25, 3, 3, 3)
    b = np.random.randn(25)
    dout = np.random.randn(100, 25, 16, 16)
    conv_param = {"stride": 2, "pad": 1}
    out, cache = layers.conv_forward_fast(x, w, b, conv_param)
    dx, dw, db = layers.conv_backward_fast(dout, cache)
    checksums = [out.sum(), *(np.abs(a).sum() for a in (out, dx, dw, db))]
    published = [
        55154.776027111904,
        2621193.121657546,
        1664528.2642839458,
        81594.22357606371,
        3550.3989769821046,
    ]
    np.testing.assert_allclose(checksums, published, rtol=1e-12)

    # Loops over all hundred images take their time; each image stands for itself but in dw, db.
    few = slice(10)
    naive_out, naive_cache = layers.conv_forward_naive(x[few], w, b, conv_param)
    assert rel_error(naive_out, out[few]) < 1e-9
    naive = layers.conv_backward_naive(dout[few], naive_cache)
    assert rel_error(naive[0], dx[few]) < 1e-9
    _, few_cache = layers.conv_forward_fast(x[few], w, b, conv_param)
    _, few_dw, few_db = layers.conv_backward_fast(dout[few], few_cache)
    assert rel_error(naive[1], few_dw) < 1e-9
    assert rel_error(naive[2], few_db) < 1e-9


def test_fast_pool(layers):
    x = np.random.randn(100, 3, 32, 32)
    dout = np.random.randn(100, 3, 16, 16)
    pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    naive_out, naive_cache = layers.max_pool_forward_naive(x, pool_param)
    out, cache = layers.max_pool_forward_fast(x, pool_param)
    np.testing.assert_array_equal(out, naive_out, strict=True)
    dx = layers.max_pool_backward_fast(dout, cache)
    naive_dx = layers.max_pool_backward_naive(dout, naive_cache)
    np.testing.assert_array_equal(dx, naive_dx, strict=True)
    np.testing.assert_allclose(
        [out.sum(), np.abs(dx).sum()], [79169.76751722413, 61113.121480743146], rtol=1e-12
    )


def test_conv_relu_pool(layers):
    x = np.random.randn(2, 3, 16, 16)
    w = np.random.randn(3, 3, 3, 3)
    b = np.random.randn(3)
    dout = np.random.randn(2, 3, 8, 8)
    params = {"stride": 1, "pad": 1}, {"pool_height": 2, "pool_width": 2, "stride": 2}
    _, cache = layers.conv_relu_pool_forward(x, w, b, *params)
    assert_gradients(
        lambda x, w, b: layers.conv_relu_pool_forward(x, w, b, *params)[0],
        (x, w, b),
        dout,
        layers.conv_relu_pool_backward(dout, cache),
        (5e-8, 5e-8, 5e-8),
    )


def test_conv_relu(layers):
    x = np.random.randn(2, 3, 8, 8)
    w = np.random.randn(3, 3, 3, 3)
    b = np.random.randn(3)
    dout = np.random.randn(2, 3, 8, 8)
    conv_param = {"stride": 1, "pad": 1}
    _, cache = layers.conv_relu_forward(x, w, b, conv_param)
    assert_gradients(
        lambda x, w, b: layers.conv_relu_forward(x, w, b, conv_param)[0],
        (x, w, b),
        dout,
        layers.conv_relu_backward(dout, cache),
        (1e-8, 1e-8, 1e-8),
    )


def channel_statistics(x):
    return x.mean(axis=(0, 2, 3)), x.std(axis=(0, 2, 3))


def test_spatial_batchnorm_forward(layers):
    x = 4 * np.random.randn(2, 3, 4, 5) + 10
    means, stds = channel_statistics(x)
    assert_prints(means, np.array([9.33463814, 8.90909116, 9.11056338]))
    assert_prints(stds, np.array([3.61447857, 3.19347686, 3.5168142]))

    bn_param = {"mode": "train"}
    out, _ = layers.spatial_batchnorm_forward(x, np.ones(3), np.zeros(3), bn_param)
    assert out.shape == x.shape
    means, stds = channel_statistics(out)
    np.testing.assert_allclose(means, 0, atol=1e-14)
    assert_prints(stds, np.array([0.99999962, 0.99999951, 0.9999996]))

    gamma, beta = np.asarray([3, 4, 5]), np.asarray([6, 7, 8])
    out, _ = layers.spatial_batchnorm_forward(x, gamma, beta, bn_param)
    means, stds = channel_statistics(out)
    np.testing.assert_allclose(means, [6, 7, 8], rtol=1e-14)
    assert_prints(stds, np.array([2.99999885, 3.99999804, 4.99999798]))


def test_spatial_batchnorm_running_statistics(layers):
    bn_param = {"mode": "train"}
    gamma, beta = np.ones(4), np.zeros(4)
    for _ in range(50):
        x = 2.3 * np.random.randn(10, 4, 11, 12) + 13
        layers.spatial_batchnorm_forward(x, gamma, beta, bn_param)
    bn_param["mode"] = "test"
    x = 2.3 * np.random.randn(10, 4, 11, 12) + 13
    out, _ = layers.spatial_batchnorm_forward(x, gamma, beta, bn_param)
    means, stds = channel_statistics(out)
    assert_prints(means, np.array([-0.08034406, 0.07562881, 0.05716371, 0.04378383]))
    assert_prints(stds, np.array([0.96718744, 1.0299714, 1.02887624, 1.00585577]))


def test_spatial_batchnorm_backward(layers):
    x = 5 * np.random.randn(2, 3, 4, 5) + 12
    gamma = np.random.randn(3)
    beta = np.random.randn(3)
    dout = np.random.randn(2, 3, 4, 5)
    bn_param = {"mode": "train"}
    _, cache = layers.spatial_batchnorm_forward(x, gamma, beta, bn_param)
    assert_gradients(
        lambda *inputs: layers.spatial_batchnorm_forward(*inputs, bn_param)[0],
        (x, gamma, beta),
        dout,
        layers.spatial_batchnorm_backward(dout, cache),
        (1e-6, 1e-10, 1e-10),
    )


@pytest.mark.parametrize("name", ["spatial_groupnorm", "spatial_quick_groupnorm"])
def test_groupnorm_forward(layers, name):
    x = 4 * np.random.randn(2, 6, 4, 5) + 10
    groups = x.reshape(4, -1)
    assert_prints(groups.mean(axis=1), np.array([9.72505327, 8.51114185, 8.9147544, 9.43448077]))
    assert_prints(groups.std(axis=1), np.array([3.67070958, 3.09892597, 4.27043622, 3.97521327]))

    gamma, beta = np.ones((1, 6, 1, 1)), np.zeros((1, 6, 1, 1))
    out, _ = getattr(layers, f"{name}_forward")(x, gamma, beta, 2, {"mode": "train"})
    assert out.shape == x.shape
    groups = out.reshape(4, -1)
    np.testing.assert_allclose(groups.mean(axis=1), 0, atol=1e-14)
    assert_prints(groups.std(axis=1), np.array([0.99999963, 0.99999948, 0.99999973, 0.99999968]))


@pytest.mark.parametrize("name", ["spatial_groupnorm", "spatial_quick_groupnorm"])
def test_groupnorm_backward(layers, name):
    x = 5 * np.random.randn(2, 6, 4, 5) + 12
    gamma = np.random.randn(1, 6, 1, 1)
    beta = np.random.randn(1, 6, 1, 1)
    dout = np.random.randn(2, 6, 4, 5)
    forward = getattr(layers, f"{name}_forward")
    _, cache = forward(x, gamma, beta, 2, {})
    assert_gradients(
        lambda *inputs: forward(*inputs, 2, {})[0],
        (x, gamma, beta),
        dout,
        getattr(layers, f"{name}_backward")(dout, cache),
        # Printed: 7.4e-8, all of it from the central difference (the gradient itself is right to
        # 5e-15): the rounding of another order of sums makes it 6.6e-8, or without FMA 1.1e-7.
        (1.5e-7, 1e-10, 1e-10),
    )


# BatchNormalization.ipynb


def test_batchnorm_forward(layers):
    X = np.random.randn(200, 50)
    W1 = np.random.randn(50, 60)
    W2 = np.random.randn(60, 3)
    a = np.maximum(0, X.dot(W1)).dot(W2)
    assert_prints(a.mean(axis=0), np.array([-2.3814598, -13.18038246, 1.91780462]))
    assert_prints(a.std(axis=0), np.array([27.18502186, 34.21455511, 37.68611762]))

    out, _ = layers.batchnorm_forward(a, np.ones(3), np.zeros(3), {"mode": "train"})
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-14)
    assert_prints(out.std(axis=0), np.array([0.99999999, 1.0, 1.0]))

    gamma, beta = np.asarray([1.0, 2.0, 3.0]), np.asarray([11.0, 12.0, 13.0])
    out, _ = layers.batchnorm_forward(a, gamma, beta, {"mode": "train"})
    np.testing.assert_allclose(out.mean(axis=0), beta, rtol=1e-14)
    assert_prints(out.std(axis=0), np.array([0.99999999, 1.99999999, 2.99999999]))


def test_batchnorm_running_statistics(layers):
    W1 = np.random.randn(50, 60)
    W2 = np.random.randn(60, 3)
    bn_param = {"mode": "train"}
    gamma, beta = np.ones(3), np.zeros(3)
    for _ in range(50):
        a = np.maximum(0, np.random.randn(200, 50).dot(W1)).dot(W2)
        layers.batchnorm_forward(a, gamma, beta, bn_param)
    bn_param["mode"] = "test"
    a = np.maximum(0, np.random.randn(200, 50).dot(W1)).dot(W2)
    out, _ = layers.batchnorm_forward(a, gamma, beta, bn_param)
    assert_prints(out.mean(axis=0), np.array([-0.03927354, -0.04349152, -0.10452688]))
    assert_prints(out.std(axis=0), np.array([1.01531428, 1.01238373, 0.97819988]))


def draw_normalization(N, D):
    x = 5 * np.random.randn(N, D) + 12
    gamma = np.random.randn(D)
    beta = np.random.randn(D)
    dout = np.random.randn(N, D)
    return (x, gamma, beta), dout


@pytest.mark.parametrize("backward", ["batchnorm_backward", "batchnorm_backward_alt"])
def test_batchnorm_backward(layers, backward):
    inputs, dout = draw_normalization(4, 5)
    bn_param = {"mode": "train"}
    _, cache = layers.batchnorm_forward(*inputs, bn_param)
    assert_gradients(
        lambda *inputs: layers.batchnorm_forward(*inputs, bn_param)[0],
        inputs,
        dout,
        getattr(layers, backward)(dout, cache),
        (1e-8, 1e-11, 1e-10),
    )


def test_batchnorm_backward_alt(layers):
    inputs, dout = draw_normalization(100, 500)
    _, cache = layers.batchnorm_forward(*inputs, {"mode": "train"})
    dx, dgamma, dbeta = layers.batchnorm_backward(dout, cache)
    alt_dx, alt_dgamma, alt_dbeta = layers.batchnorm_backward_alt(dout, cache)
    assert rel_error(dx, alt_dx) < 1e-10
    np.testing.assert_array_equal(dgamma, alt_dgamma, strict=True)
    np.testing.assert_array_equal(dbeta, alt_dbeta, strict=True)


def test_layernorm_forward(layers):
    X = np.random.randn(4, 50)
    W1 = np.random.randn(50, 60)
    W2 = np.random.randn(60, 3)
    a = np.maximum(0, X.dot(W1)).dot(W2)
    before = [-59.06673243, -47.60782686, -43.31137368, -26.40991744]
    assert_prints(a.mean(axis=1), np.array(before))
    assert_prints(a.std(axis=1), np.array([10.07429373, 28.39478981, 35.28360729, 4.01831507]))

    out, _ = layers.layernorm_forward(a, np.ones(3), np.zeros(3), {"mode": "train"})
    np.testing.assert_allclose(out.mean(axis=1), 0, atol=1e-14)
    assert_prints(out.std(axis=1), np.array([0.99999995, 0.99999999, 1.0, 0.99999969]))

    out, _ = layers.layernorm_forward(a, 3 * np.ones(3), 5 * np.ones(3), {"mode": "train"})
    np.testing.assert_allclose(out.mean(axis=1), 5, rtol=1e-14)
    assert_prints(out.std(axis=1), np.array([2.99999985, 2.99999998, 2.99999999, 2.99999907]))


def test_layernorm_backward(layers):
    inputs, dout = draw_normalization(4, 5)
    _, cache = layers.layernorm_forward(*inputs, {})
    assert_gradients(
        lambda *inputs: layers.layernorm_forward(*inputs, {})[0],
        inputs,
        dout,
        layers.layernorm_backward(dout, cache),
        (1e-8, 1e-10, 1e-10),
    )


# Dropout.ipynb


def test_dropout_forward(layers):
    x = np.random.randn(500, 500) + 10
    assert x.mean() == pytest.approx(10.000207878477502, rel=1e-15)
    published = [
        (0.25, 10.014059116977283, 0.749784),
        (0.4, 9.977917658761159, 0.600796),
        (0.7, 9.987811912159426, 0.30074),
    ]
    # No new seed in the loop: the call that tests must draw nothing.
    for p, mean, zeros in published:
        out, _ = layers.dropout_forward(x, {"mode": "train", "p": p})
        tested, _ = layers.dropout_forward(x, {"mode": "test", "p": p})
        assert out.mean() == pytest.approx(mean, rel=1e-15)
        assert (out == 0).mean() == zeros
        np.testing.assert_array_equal(tested, x)


def test_dropout_backward(layers):
    x = np.random.randn(10, 10) + 10
    dout = np.random.randn(10, 10)
    dropout_param = {"mode": "train", "p": 0.2, "seed": 123}
    _, cache = layers.dropout_forward(x, dropout_param)
    dx = layers.dropout_backward(dout, cache)
    numeric = eval_numerical_gradient_array(
        lambda x: layers.dropout_forward(x, dropout_param)[0], x, dout
    )
    assert rel_error(dx, numeric) == pytest.approx(5.44560814873387e-11, rel=1e-9)


# FullyConnectedNets.ipynb


def test_affine_forward(layers):
    x = line(-0.1, 0.5, 2, 4, 5, 6)
    w = line(-0.2, 0.3, 120, 3)
    b = line(-0.3, 0.1, 3)
    printed = np.array(
        [
            [1.49834967, 1.70660132, 1.91485297],
            [3.25553199, 3.5141327, 3.77273342],
        ]
    )
    out, _ = layers.affine_forward(x, w, b)
    assert_prints(out, printed)
    # No tighter: it is a difference of 4e-9 between numbers of 2, whose sum of 120 products is
    # rounded to 1e-15 or so in an order that no figure fixes; 1e-15 is 3e-7 of the difference.
    assert rel_error(out, printed) == pytest.approx(9.769849468192957e-10, rel=1e-6)


def test_affine_backward(layers):
    x = np.random.randn(10, 2, 3)
    w = np.random.randn(6, 5)
    b = np.random.randn(5)
    dout = np.random.randn(10, 5)
    _, cache = layers.affine_forward(x, w, b)
    assert_gradients(
        lambda x, w, b: layers.affine_forward(x, w, b)[0],
        (x, w, b),
        dout,
        layers.affine_backward(dout, cache),
        (1e-9, 1e-9, 1e-9),
    )


def test_relu_forward(layers):
    printed = np.array(
        [
            [0, 0, 0, 0],
            [0, 0, 0.04545455, 0.13636364],
            [0.22727273, 0.31818182, 0.40909091, 0.5],
        ]
    )
    out, _ = layers.relu_forward(line(-0.5, 0.5, 3, 4))
    assert_prints(out, printed)
    assert rel_error(out, printed) == pytest.approx(4.999999798022158e-08, rel=1e-7)


def test_relu_backward(layers):
    x = np.random.randn(10, 10)
    dout = np.random.randn(10, 10)
    _, cache = layers.relu_forward(x)
    dx = layers.relu_backward(dout, cache)
    numeric = eval_numerical_gradient_array(lambda x: layers.relu_forward(x)[0], x, dout)
    assert rel_error(dx, numeric) == pytest.approx(3.2756349136310288e-12, rel=1e-9)


def test_affine_relu(layers):
    x = np.random.randn(2, 3, 4)
    w = np.random.randn(12, 10)
    b = np.random.randn(10)
    dout = np.random.randn(2, 10)
    _, cache = layers.affine_relu_forward(x, w, b)
    assert_gradients(
        lambda x, w, b: layers.affine_relu_forward(x, w, b)[0],
        (x, w, b),
        dout,
        layers.affine_relu_backward(dout, cache),
        (1e-9, 1e-9, 1e-9),
    )


@pytest.mark.parametrize(
    ("name", "published"), [("svm_loss", 8.999602749096233), ("softmax_loss", 2.302545844500738)]
)
def test_loss(layers, name, published):
    x = 0.001 * np.random.randn(50, 10)
    y = np.random.randint(10, size=50)
    function = getattr(layers, name)
    loss, dx = function(x, y)
    assert loss == pytest.approx(published, rel=1e-15)
    numeric = eval_numerical_gradient(lambda x: function(x, y)[0], x, verbose=False)
    assert rel_error(dx, numeric) < 2e-8


# The course notes on convolution


@pytest.mark.parametrize("variant", ["im2col", "strides", "fast"])
def test_sizes_of_the_first_alexnet_layer(layers, variant):
    x = np.random.randn(1, 3, 227, 227)
    w = np.random.randn(96, 3, 11, 11)
    forward = getattr(layers, f"conv_forward_{variant}")
    out, _ = forward(x, w, np.zeros(96), {"stride": 4, "pad": 0})
    assert out.shape == (1, 96, 55, 55)
    cols = layers.im2col_cython(x, 11, 11, 0, 4)
    assert cols.shape == (363, 3025)
    np.testing.assert_allclose(out.reshape(96, 3025), w.reshape(96, 363) @ cols, rtol=0, atol=1e-11)


@pytest.mark.parametrize("variant", CONV)
def test_sizes_of_the_convolution_demo(layers, variant):
    x = np.random.randint(3, size=(1, 3, 5, 5)).astype(float)
    w = np.random.randint(-1, 2, size=(2, 3, 3, 3)).astype(float)
    b = np.array([1.0, 0.0])
    out, _ = getattr(layers, f"conv_forward_{variant}")(x, w, b, {"stride": 2, "pad": 1})
    assert out.shape == (1, 2, 3, 3)
    # Small integers: the corner windows have a row and a column of padding, and sums are exact.
    assert out[0, 0, 0, 0] == np.sum(x[0, :, :2, :2] * w[0, :, 1:, 1:]) + 1
    assert out[0, 1, 1, 1] == np.sum(x[0, :, 1:4, 1:4] * w[1])
    assert out[0, 1, 2, 2] == np.sum(x[0, :, 3:, 3:] * w[1, :, :2, :2])
