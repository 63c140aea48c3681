"""The convolutional net: published losses and gradients, dtypes, sizes, saving.

Every test of the whole net runs on the compiled layers and on the reference.
"""

import importlib

import numpy as np
import pytest

from fastbn.classifiers import ThreeLayerConvNet
from fastbn.gradient_check import eval_numerical_gradient, rel_error


@pytest.fixture(params=["layers", "reference"])
def make(request):
    """A function that makes a net on one of the two sets of layers."""
    layers = importlib.import_module(f"fastbn.{request.param}")
    return type("Net", (ThreeLayerConvNet,), {"layers": layers})


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


@pytest.mark.parametrize(
    ("size", "filter_size"), [((6, 6), 3), ((5, 7), 3), ((6, 4), 1), ((6, 7), 2), ((7, 6), 5)]
)
def test_gradients(make, size, filter_size):
    np.random.seed(1)
    X, y = np.random.randn(4, 2, *size), np.random.randint(3, size=4)
    model = make((2, *size), 3, filter_size, 5, 3, weight_scale=0.3, reg=0.2, dtype=np.float64)
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


def test_both_layers_agree():
    X, y = np.random.randn(8, 3, 10, 10), np.random.randint(4, size=8)
    results = []
    for name in ("layers", "reference"):
        layers = importlib.import_module(f"fastbn.{name}")
        np.random.seed(2)
        model = type("Net", (ThreeLayerConvNet,), {"layers": layers})(
            (3, 10, 10), 5, 3, 6, 4, weight_scale=0.1, reg=0.1, dtype=np.float64
        )
        results.append((model.loss(X, y), model.loss(X)))
    (fast, fast_scores), (plain, plain_scores) = results
    assert fast[0] == pytest.approx(plain[0], rel=1e-13)
    np.testing.assert_allclose(fast_scores, plain_scores, rtol=1e-11, atol=1e-12)
    for name, gradient in plain[1].items():
        np.testing.assert_allclose(fast[1][name], gradient, rtol=1e-11, atol=1e-12, err_msg=name)


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


def test_save_and_load(tmp_path):
    model, other = (ThreeLayerConvNet((2, 6, 6), 3, 3, 5, 3, weight_scale=0.3) for _ in range(2))
    model.save(tmp_path / "net")
    other.load(tmp_path / "net")
    X = np.random.randn(4, 2, 6, 6)
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
        ({"dtype": "complex64"}, TypeError, "dtype must be a floating dtype; got 'complex64'"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        ThreeLayerConvNet(**kwargs)
