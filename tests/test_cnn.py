"""The convolutional net: published losses and gradients, dtypes, sizes, saving.

Every test of the whole net runs on the compiled layers and on the reference.
"""

import importlib

import numpy as np
import pytest

from fastbn import layer_utils, layers
from fastbn.classifiers import ThreeLayerConvNet
from fastbn.gradient_check import eval_numerical_gradient, rel_error


@pytest.fixture(params=["layers", "reference"])
def make(request):
    """A function that makes a net on one of the two sets of layers."""
    layers = importlib.import_module(f"fastbn.{request.param}")
    return type("Net", (ThreeLayerConvNet,), {"layers": layers})


SIZE = {"pool_height": 2, "pool_width": 2}
NORMALIZATIONS = (None, "batchnorm", "layernorm")


def numerical_gradients(model, X, y, h=1e-6):
    return {
        name: eval_numerical_gradient(lambda _: model.loss(X, y)[0], value, verbose=False, h=h)
        for name, value in model.params.items()
    }


def test_published_initial_loss(make):
    np.random.seed(231)
    # The draws of the notebook's cell before.
    for shape in ((2, 3, 8, 8), (3, 3, 3, 3), (3,), (2, 3, 8, 8)):
        np.random.randn(*shape)
    model = make()
    X, y = np.random.randn(50, 3, 32, 32), np.random.randint(10, size=50)
    loss, _ = model.loss(X, y)
    assert loss == pytest.approx(2.302586071243987, rel=4e-16)
    model.reg = 0.5
    # Published up to 2.50825564: sums of squares in float32 differ by so much.
    assert model.loss(X, y)[0] == pytest.approx(2.50825562, rel=1e-7)


def test_published_gradients(make):
    np.random.seed(231)
    X, y = np.random.randn(2, 3, 16, 16), np.random.randint(10, size=2)
    model = make((3, 16, 16), num_filters=3, filter_size=3, hidden_dim=7, dtype=np.float64)
    _, grads = model.loss(X, y)
    numerical = numerical_gradients(model, X, y)
    errors = {name: rel_error(gradient, numerical[name]) for name, gradient in grads.items()}
    # Where a gradient is as small as 5e-9, one rounding of the loss (4e-16, over 2h) moves the
    # relative error by 0.04. So the order of a sum shows in these figures; twice the published
    # ones (the larger, where two sets are published) is what rounding alone can make of them.
    for name, published in (
        ("W1", 3.053965e-04),
        ("W2", 1.822723e-02),
        ("W3", 3.422399e-04),
        ("b1", 3.477652e-05),
        ("b2", 2.517459e-03),
        ("b3", 9.711800e-10),
    ):
        assert errors[name] < 2 * published, name


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize(
    ("size", "filter_size"), [((6, 6), 3), ((5, 7), 3), ((6, 4), 1), ((6, 7), 2), ((7, 6), 5)]
)
def test_gradients(make, size, filter_size, normalization):
    np.random.seed(1)
    X, y = np.random.randn(4, 2, *size), np.random.randint(3, size=4)
    options = {"reg": 0.2, "dtype": np.float64, "normalization": normalization}
    model = make((2, *size), 3, filter_size, 5, 3, weight_scale=0.3, **options)
    for name, value in model.params.items():
        if name[0] != "W" and normalization:
            value += 0.1 * np.random.randn(*value.shape)
    _, grads = model.loss(X, y)
    assert grads.keys() == model.params.keys()
    for name, numerical in numerical_gradients(model, X, y).items():
        np.testing.assert_allclose(grads[name], numerical, rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("reg", [0.1, np.float64(0.1)], ids=["float", "numpy.float64"])
def test_dtypes(make, reg):
    X, y = np.random.randn(4, 2, 6, 6), np.random.randint(3, size=4)
    model = make((2, 6, 6), 3, 3, 5, 3, reg=reg)
    assert {value.dtype for value in model.params.values()} == {np.dtype(np.float32)}
    _, grads = model.loss(X.astype(np.float32), y)
    assert {value.dtype for value in grads.values()} == {np.dtype(np.float32)}
    assert model.loss(X.astype(np.float32)).dtype == np.float32
    # Samples are not cast: float64 images compute in float64.
    assert model.loss(X)[0].dtype == np.float64


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_both_layers_agree(normalization):
    np.random.seed(1)
    X, y = np.random.randn(8, 3, 10, 10), np.random.randint(4, size=8)
    results = []
    for name in ("layers", "reference"):
        layers = importlib.import_module(f"fastbn.{name}")
        np.random.seed(2)
        model = type("Net", (ThreeLayerConvNet,), {"layers": layers})(
            (3, 10, 10),
            5,
            3,
            6,
            4,
            weight_scale=0.1,
            reg=0.1,
            dtype=np.float64,
            normalization=normalization,
        )
        results.append((model.loss(X, y), model.loss(X)))
    (fast, fast_scores), (plain, plain_scores) = results
    assert fast[0] == pytest.approx(plain[0], rel=1e-13)
    np.testing.assert_allclose(fast_scores, plain_scores, rtol=1e-11, atol=1e-12)
    for name, gradient in plain[1].items():
        np.testing.assert_allclose(fast[1][name], gradient, rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_is_the_composed_layers(normalization):
    np.random.seed(4)
    X, y = np.random.randn(6, 3, 8, 10), np.random.randint(4, size=6)
    model = ThreeLayerConvNet(
        (3, 8, 10), 5, 3, 7, 4, weight_scale=0.1, dtype=np.float64, normalization=normalization
    )
    loss, grads = model.loss(X, y)
    W1, b1, W2, b2, W3, b3 = (model.params[f"{name}{i}"] for i in (1, 2, 3) for name in "Wb")
    gamma1, beta1, gamma2, beta2 = np.ones(5), np.zeros(5), np.ones(7), np.zeros(7)
    conv_param, pool_param = {"stride": 1, "pad": 1}, {**SIZE, "stride": 2}
    bn_params = [{"mode": "train"}, {"mode": "train"}]
    expected = {}
    if normalization == "batchnorm":
        out, conv_cache = layer_utils.conv_bn_relu_forward(
            X, W1, b1, gamma1, beta1, conv_param, bn_params[0]
        )
        out, pool_cache = layers.max_pool_forward_fast(out, pool_param)
        out, affine_cache = layer_utils.affine_bn_relu_forward(
            out, W2, b2, gamma2, beta2, bn_params[1]
        )
    elif normalization == "layernorm":
        out, conv_cache = layers.conv_forward_fast(X, W1, b1, conv_param)
        images = out.reshape(6, -1)  # all of an image at once, gamma and beta by channel
        images = (images - images.mean(axis=1, keepdims=True)) / np.sqrt(
            images.var(axis=1, keepdims=True) + 1e-5
        )
        out, _ = layers.max_pool_forward_fast(np.maximum(0, images.reshape(out.shape)), pool_param)
        out, affine_cache = layer_utils.affine_ln_relu_forward(out, W2, b2, gamma2, beta2, {})
    else:
        out, conv_cache = layer_utils.conv_relu_pool_forward(X, W1, b1, conv_param, pool_param)
        out, affine_cache = layer_utils.affine_relu_forward(out, W2, b2)
    scores, cache = layers.affine_forward(out, W3, b3)
    expected_loss, dout = layers.softmax_loss(scores, y)
    dout, expected["W3"], expected["b3"] = layers.affine_backward(dout, cache)
    if normalization == "layernorm":
        assert loss == pytest.approx(expected_loss, rel=1e-14)
        result = layer_utils.affine_ln_relu_backward(dout, affine_cache)
        for name, value in zip(("W2", "b2", "gamma2", "beta2"), result[1:], strict=True):
            np.testing.assert_allclose(grads[name], value, rtol=0, atol=1e-13, err_msg=name)
        return
    if normalization == "batchnorm":
        dout, *parameters = layer_utils.affine_bn_relu_backward(dout, affine_cache)
        expected |= zip(("W2", "b2", "gamma2", "beta2"), parameters, strict=True)
        dout = layers.max_pool_backward_fast(dout, pool_cache)
        _, *parameters = layer_utils.conv_bn_relu_backward(dout, conv_cache)
        expected |= zip(("W1", "b1", "gamma1", "beta1"), parameters, strict=True)
        for ours, theirs in zip(model.bn_params, bn_params, strict=True):
            for key in ("running_mean", "running_var"):
                np.testing.assert_array_equal(ours[key], theirs[key])
    else:
        dout, *parameters = layer_utils.affine_relu_backward(dout, affine_cache)
        expected |= zip(("W2", "b2"), parameters, strict=True)
        _, *parameters = layer_utils.conv_relu_pool_backward(dout, conv_cache)
        expected |= zip(("W1", "b1"), parameters, strict=True)
    assert loss == expected_loss and grads.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(grads[name], value, err_msg=name)


def test_normalized_net(make):
    np.random.seed(6)
    model = make((2, 6, 6), 3, 3, 5, 4, dtype=np.float64, use_batchnorm=True)
    assert model.normalization == "batchnorm" and model.bn_params == [{"mode": "train"}] * 2
    shapes = {name: value.shape for name, value in model.params.items() if name[0] in "gb"}
    assert shapes == {
        "b1": (3,),
        "gamma1": (3,),
        "beta1": (3,),
        "b2": (5,),
        "gamma2": (5,),
        "beta2": (5,),
        "b3": (4,),
    }
    X, y = np.random.randn(8, 2, 6, 6), np.random.randint(4, size=8)
    model.loss(X, y)
    statistics = [param["running_mean"].copy() for param in model.bn_params]
    assert [len(mean) for mean in statistics] == [3, 5]
    scores = model.loss(X)
    assert [param["mode"] for param in model.bn_params] == ["test"] * 2
    # A row's scores do not depend on the others.
    np.testing.assert_allclose(model.loss(X[:3]), scores[:3], rtol=1e-11, atol=1e-14)
    for param, mean in zip(model.bn_params, statistics, strict=True):
        np.testing.assert_array_equal(param["running_mean"], mean)
    assert ThreeLayerConvNet(normalization="layernorm").bn_params == [{}, {}]
    plain = ThreeLayerConvNet(use_batchnorm=False)
    assert plain.normalization is None and plain.bn_params == []


def test_defaults():
    np.random.seed(3)
    model = ThreeLayerConvNet()
    shapes = {name: value.shape for name, value in model.params.items()}
    assert shapes == {
        "W1": (32, 3, 7, 7),
        "b1": (32,),
        "W2": (32 * 16 * 16, 100),
        "b2": (100,),
        "W3": (100, 10),
        "b3": (10,),
    }
    assert model.reg == 0 and model.dtype is np.float32
    np.random.seed(3)
    for name in ("W1", "W2", "W3"):
        expected = (np.random.randn(*shapes[name]) * 1e-3).astype(np.float32)
        np.testing.assert_array_equal(model.params[name], expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_save_and_load(normalization, tmp_path):
    options = {"weight_scale": 0.3, "normalization": normalization}
    model, other = (ThreeLayerConvNet((2, 6, 6), 3, 3, 5, 3, **options) for _ in range(2))
    X = np.random.randn(4, 2, 6, 6)
    model.loss(X, np.arange(4) % 3)
    model.save(tmp_path / "net")
    other.load(tmp_path / "net")
    np.testing.assert_array_equal(other.loss(X), model.loss(X))
    with pytest.raises(ValueError, match="net must hold the parameters"):
        ThreeLayerConvNet((2, 6, 6), 4, 3, 5, 3).load(tmp_path / "net")


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"input_dim": (3, 32)}, ValueError, r"input_dim must be \(channels, height, width\)"),
        ({"input_dim": (3, 0, 32)}, ValueError, r"input_dim\[1\] must be at least 1; got 0"),
        ({"input_dim": (3, 2, 32), "filter_size": 2}, ValueError, "at least 2x2 numbers to pool"),
        ({"num_filters": 2.5}, TypeError, "num_filters must be an integer; got 2.5"),
        ({"filter_size": 0}, ValueError, "filter_size must be at least 1; got 0"),
        ({"hidden_dim": 0}, ValueError, "hidden_dim must be at least 1; got 0"),
        ({"num_classes": 0}, ValueError, "num_classes must be at least 1; got 0"),
        ({"weight_scale": "big"}, TypeError, "weight_scale must be a number; got 'big'"),
        ({"reg": np.nan}, ValueError, "reg must be finite and not negative; got nan"),
        ({"normalization": "groupnorm"}, ValueError, 'must be "batchnorm", "layernorm" or None'),
        ({"normalization": "batchnorm", "use_batchnorm": True}, TypeError, "two spellings"),
        ({"dtype": "complex64"}, TypeError, "dtype must be a floating dtype; got 'complex64'"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        ThreeLayerConvNet(**kwargs)
