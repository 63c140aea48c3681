"""Fully connected nets: published losses, gradients, dtypes, spellings, saving.

Every test of a whole net runs on the compiled layers and on the reference.
"""

import importlib
import os

import numpy as np
import pytest

import fastbn
from fastbn import reference
from fastbn.classifiers import FullyConnectedNet, TwoLayerNet
from fastbn.gradient_check import eval_numerical_gradient, rel_error

NORMALIZATIONS = (None, "batchnorm", "layernorm")
KEEP_RATIOS = (1, 0.6)


@pytest.fixture(params=["layers", "reference"])
def make(request):
    """A function that makes a net on one of the two sets of layers."""
    layers = importlib.import_module(f"fastbn.{request.param}")

    def make(net, *args, **kwargs):
        return type(net.__name__, (net,), {"layers": layers})(*args, **kwargs)

    return make


def numerical_gradients(model, X, y, h=1e-5):
    return {
        name: eval_numerical_gradient(lambda _: model.loss(X, y)[0], value, verbose=False, h=h)
        for name, value in model.params.items()
    }


# The published nets: 15 inputs, 10 classes, two samples.
def published_batch():
    np.random.seed(231)
    return np.random.randn(2, 15), np.random.randint(10, size=2)


def published_net(make, **kwargs):
    options = {"input_dim": 15, "num_classes": 10, "weight_scale": 5e-2, "dtype": np.float64}
    return make(FullyConnectedNet, [20, 30], **options, **kwargs)


@pytest.mark.parametrize(
    ("normalization", "losses"),
    [
        (None, (2.3004790897684924, 7.052114776533016)),
        ("batchnorm", (2.2611955101340957, 6.996533220108303)),
        ("layernorm", (2.237831004146712, 7.10213782725159)),
    ],
)
def test_published_losses_and_gradients(make, normalization, losses):
    X, y = published_batch()
    for reg, expected in zip((0, 3.14), losses, strict=True):
        # The weights of the second net are the next in the stream: no new seed.
        model = published_net(make, normalization=normalization, reg=reg)
        loss, grads = model.loss(X, y)
        assert loss == pytest.approx(expected, rel=2e-15)
        numerical = numerical_gradients(model, X, y)
        for name, gradient in grads.items():
            # The course's own bounds; a bias before a batch norm has a gradient of zero, whose
            # relative error is noise.
            bound = 2e-4 if name[0] == "W" else 5e-6
            assert rel_error(gradient, numerical[name]) < bound, name


def test_published_losses_with_dropout(make):
    X, y = published_batch()
    # Dropout seeds the global stream, so that the weights of each net depend on the one before.
    for keep, expected in (
        (1, 2.3004790897684924),
        (0.75, 2.302371489704412),
        (0.5, 2.3042759220785896),
    ):
        model = published_net(make, dropout_keep_ratio=keep, seed=123)
        loss, grads = model.loss(X, y)
        assert loss == pytest.approx(expected, rel=2e-15)
        numerical = numerical_gradients(model, X, y)
        for name, gradient in grads.items():
            assert rel_error(gradient, numerical[name]) < (3e-5 if name == "W2" else 1e-6), name


def test_published_two_layer_net(make):
    model = make(TwoLayerNet, input_dim=5, hidden_dim=50, num_classes=7)
    for name, start, stop in (
        ("W1", -0.7, 0.3),
        ("b1", -0.1, 0.9),
        ("W2", -0.3, 0.4),
        ("b2", -0.9, 0.1),
    ):
        shape = model.params[name].shape
        model.params[name] = np.linspace(start, stop, np.prod(shape)).reshape(shape)
    X, y = np.linspace(-5.5, 4.5, 15).reshape(5, 3).T, np.array([0, 5, 1])
    assert X.flags.f_contiguous
    expected = [
        [11.53165108, 12.2917344, 13.05181771, 13.81190102, 14.57198434, 15.33206765, 16.09215096],
        [12.05769098, 12.74614105, 13.43459113, 14.1230412, 14.81149128, 15.49994135, 16.18839143],
        [12.58373087, 13.20054771, 13.81736455, 14.43418138, 15.05099822, 15.66781506, 16.2846319],
    ]
    np.testing.assert_array_equal(np.round(model.loss(X), 8), expected)
    for reg, loss in ((0.0, 3.4702243556), (1.0, 26.5948426952)):
        model.reg = reg
        assert round(model.loss(X, y)[0], 10) == loss


def test_two_layer_net_gradients(make):
    np.random.seed(0)
    X, y = np.random.randn(4, 2, 3), np.random.randint(5, size=4)
    model = make(TwoLayerNet, 6, 7, 5, weight_scale=0.3, reg=0.7)
    _, grads = model.loss(X, y)
    for name, numerical in numerical_gradients(model, X, y).items():
        np.testing.assert_allclose(grads[name], numerical, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("keep", KEEP_RATIOS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("hidden", [[], [6], [6, 5, 7]], ids=str)
def test_gradients(make, hidden, normalization, keep):
    np.random.seed(1)
    X, y = np.random.randn(8, 2, 2), np.random.randint(3, size=8)
    model = make(
        FullyConnectedNet,
        hidden,
        4,
        3,
        keep,
        normalization,
        reg=0.3,
        weight_scale=0.5,
        dtype=np.float64,
        seed=5,
    )
    for name, value in model.params.items():
        if name[0] != "W":
            value += 0.1 * np.random.randn(*value.shape)
    _, grads = model.loss(X, y)
    assert grads.keys() == model.params.keys()
    for name, numerical in numerical_gradients(model, X, y).items():
        np.testing.assert_allclose(grads[name], numerical, rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("reg", [0.1, np.float64(0.1)], ids=["float", "numpy.float64"])
@pytest.mark.parametrize("keep", KEEP_RATIOS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_float32_stays_float32(make, normalization, keep, reg):
    np.random.seed(2)
    X, y = np.random.randn(8, 12), np.random.randint(3, size=8)
    model = make(FullyConnectedNet, [6, 5], 12, 3, keep, normalization, reg=reg)
    _, grads = model.loss(X, y)
    assert model.loss(X).dtype == np.float32
    for arrays in (model.params, grads):
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("keep", KEEP_RATIOS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_both_layers_agree(normalization, keep):
    np.random.seed(3)
    X, y = np.random.randn(20, 30), np.random.randint(5, size=20)
    results = []
    for name in ("layers", "reference"):
        layers = importlib.import_module(f"fastbn.{name}")
        net = type("Net", (FullyConnectedNet,), {"layers": layers})
        np.random.seed(4)
        model = net(
            [16, 17], 30, 5, keep, normalization, reg=0.1, weight_scale=0.1, dtype=np.float64
        )
        results.append((model.loss(X, y), model.loss(X)))
    (fast, fast_scores), (plain, plain_scores) = results
    assert fast[0] == pytest.approx(plain[0], rel=1e-13)
    np.testing.assert_allclose(fast_scores, plain_scores, rtol=1e-11, atol=1e-12)
    for name, gradient in plain[1].items():
        np.testing.assert_allclose(fast[1][name], gradient, rtol=1e-11, atol=1e-12, err_msg=name)


def test_inputs_are_left_alone(make):
    X, y = np.random.randn(4, 12), np.array([0, 1, 2, 0])
    before = X.copy()
    X.flags.writeable = y.flags.writeable = False
    make(FullyConnectedNet, [6], 12, 3, 0.5, "batchnorm", dtype=np.float64).loss(X, y)
    np.testing.assert_array_equal(X, before)


def test_attributes():
    model = FullyConnectedNet([7, 5], 4, 3, 0.8, "batchnorm", 0.1, 0.5, np.float64, 11)
    assert {name: value.shape for name, value in model.params.items()} == {
        "W1": (4, 7),
        "b1": (7,),
        "gamma1": (7,),
        "beta1": (7,),
        "W2": (7, 5),
        "b2": (5,),
        "gamma2": (5,),
        "beta2": (5,),
        "W3": (5, 3),
        "b3": (3,),
    }
    assert model.num_layers == 3
    assert model.use_dropout is True
    assert model.dropout_param == {"mode": "train", "p": 0.8, "seed": 11}
    assert model.bn_params == [{"mode": "train"}] * 2
    assert model.bn_params[0] is not model.bn_params[1]
    assert (model.normalization, model.reg, model.dtype) == ("batchnorm", 0.1, np.float64)

    model = FullyConnectedNet([7, 5], 4, 3)
    assert list(model.params) == ["W1", "b1", "W2", "b2", "W3", "b3"]
    assert model.use_dropout is False and model.dropout_param == {} and model.bn_params == []
    assert model.normalization is None and model.reg == 0 and model.dtype is np.float32

    assert FullyConnectedNet([7, 5], 4, 3, normalization="layernorm").bn_params == [{}, {}]


def test_order_of_random_draws():
    np.random.seed(5)
    model = FullyConnectedNet([7, 5], 4, 3, normalization="layernorm", weight_scale=0.5)
    two = TwoLayerNet(4, 7, 3, weight_scale=0.5)
    np.random.seed(5)
    for name, shape in (("W1", (4, 7)), ("W2", (7, 5)), ("W3", (5, 3))):
        expected = (np.random.randn(*shape) * 0.5).astype(np.float32)
        np.testing.assert_array_equal(model.params[name], expected)
    for name, shape in (("W1", (4, 7)), ("W2", (7, 3))):
        np.testing.assert_array_equal(two.params[name], np.random.randn(*shape) * 0.5)


def test_modes(make):
    np.random.seed(6)
    model = make(FullyConnectedNet, [6], 12, 3, 0.5, "batchnorm", dtype=np.float64)
    X, y = np.random.randn(8, 12), np.random.randint(3, size=8)
    model.loss(X, y)
    assert model.dropout_param["mode"] == model.bn_params[0]["mode"] == "train"
    mean = model.bn_params[0]["running_mean"].copy()
    scores = model.loss(X)
    assert model.dropout_param["mode"] == model.bn_params[0]["mode"] == "test"
    # A row's scores do not depend on the others. (BLAS sums in an order that the shape decides.)
    np.testing.assert_allclose(model.loss(X[:3]), scores[:3], rtol=1e-12)
    np.testing.assert_array_equal(model.bn_params[0]["running_mean"], mean)


def test_both_spellings_of_dropout():
    for keep in (1, 0.4):
        np.random.seed(7)
        new = FullyConnectedNet([5], 4, 3, dropout_keep_ratio=keep, seed=1)
        np.random.seed(7)
        old = FullyConnectedNet([5], 4, 3, dropout=keep, seed=1)
        assert new.use_dropout == old.use_dropout == (keep != 1)
        assert new.dropout_param == old.dropout_param
        X, y = np.random.randn(6, 4), np.random.randint(3, size=6)
        assert new.loss(X, y)[0] == old.loss(X, y)[0]
    for off in ({"dropout": 0}, {"dropout_keep_ratio": 0}, {"dropout": 1}):
        assert FullyConnectedNet([5], 4, 3, **off).use_dropout is False
    assert FullyConnectedNet([5], use_batchnorm=True).normalization == "batchnorm"
    assert FullyConnectedNet([5], use_batchnorm=False).normalization is None
    assert FullyConnectedNet([5], dropout=0, use_batchnorm=True).use_dropout is False
    old = FullyConnectedNet([5], dropout_keep_ratio=0.75, use_batchnorm=True)
    assert old.dropout_param["p"] == 0.75
    # By position, as in 2016 and 2017.
    old = FullyConnectedNet([5], 4, 3, 0, True)
    assert old.use_dropout is False and old.normalization == "batchnorm"
    assert FullyConnectedNet([5], 4, 3, 0, False).normalization is None


@pytest.mark.parametrize("dropped", [0.25, 0.6])
def test_dropout_as_the_share_dropped(make, dropped):
    X, y = np.random.RandomState(0).randn(6, 4), np.arange(6) % 3
    fastbn.set_dropout_convention("drop")
    try:
        losses = []
        for args, kwargs in (
            ((), {"dropout": dropped}),
            ((), {"dropout": dropped, "use_batchnorm": False}),
            ((dropped, False), {}),
            ((), {"dropout_keep_ratio": 1 - dropped}),
        ):
            np.random.seed(7)
            model = make(FullyConnectedNet, [50], 4, 3, *args, weight_scale=1, **kwargs)
            assert model.dropout_param["p"] == pytest.approx(dropped, rel=1e-15)
            losses.append(model.loss(X, y)[0])
        assert len(set(losses)) == 1
        np.random.seed(7)
        np.random.randn(4, 50), np.random.randn(50, 3)
        mask = (np.random.rand(6, 50) > dropped) / (1 - dropped)
        params = model.params
        hidden = np.maximum(0, X @ params["W1"] + params["b1"]) * mask
        expected, _ = reference.softmax_loss(hidden @ params["W2"] + params["b2"], y)
        assert losses[0] == pytest.approx(expected, rel=1e-6)
        assert FullyConnectedNet([5], 4, 3, dropout=0).use_dropout is False
        assert FullyConnectedNet([5], 4, 3).use_dropout is False
        with pytest.raises(ValueError, match="dropout must be below 1: it is the share dropped"):
            FullyConnectedNet([5], 4, 3, dropout=1)
    finally:
        fastbn.set_dropout_convention("keep")


def test_samples_are_real_numbers():
    """A cast to the net's dtype would only warn that it drops a part."""
    net = FullyConnectedNet([3], 6, 3)
    with pytest.raises(TypeError, match="X must hold real numbers.*; got dtype complex128"):
        net.loss(np.ones((2, 6), complex))


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"dropout": 0.5, "dropout_keep_ratio": 0.5}, TypeError, "two spellings of one argument"),
        ({"use_batchnorm": True, "normalization": "batchnorm"}, TypeError, "two spellings"),
        (
            {"normalization": "groupnorm"},
            ValueError,
            'normalization must be "batchnorm", "layernorm" or None; got \'groupnorm\'',
        ),
        (
            {"dropout": 0.25, "use_batchnorm": True},
            ValueError,
            "share that is dropped: call fastbn.set_dropout_convention.*dropout_keep_ratio=0.75 in",
        ),
        ({"dropout": 0.4, "use_batchnorm": False}, ValueError, "write dropout_keep_ratio=0.6 "),
        (
            {"dropout_keep_ratio": 0.4, "normalization": True},
            ValueError,
            "in the years of use_batchnorm, dropout was the share that is dropped",
        ),
        ({"dropout": 1.5}, ValueError, "dropout must be between 0 and 1; got 1.5"),
        ({"dropout_keep_ratio": -0.5}, ValueError, "dropout_keep_ratio must be .*; got -0.5"),
        ({"dropout": "half"}, TypeError, "dropout must be a number; got 'half'"),
        ({"hidden_dims": [3, 0]}, ValueError, r"hidden_dims\[1\] must be at least 1; got 0"),
        ({"hidden_dims": [3.5]}, TypeError, r"hidden_dims\[0\] must be an integer; got 3.5"),
        ({"input_dim": 0}, ValueError, "input_dim must be at least 1; got 0"),
        ({"num_classes": "3"}, TypeError, "num_classes must be an integer; got '3'"),
        ({"reg": -1}, ValueError, "reg must be finite and not negative; got -1"),
        (
            {"weight_scale": np.inf},
            ValueError,
            "weight_scale must be finite and not negative; got inf",
        ),
        ({"dtype": int}, TypeError, "dtype must be a floating dtype"),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        FullyConnectedNet(**{"hidden_dims": [3], **kwargs})


def trained(**kwargs):
    np.random.seed(8)
    model = FullyConnectedNet([6, 5], 12, 3, weight_scale=0.3, **kwargs)
    model.loss(np.random.randn(8, 12), np.random.randint(3, size=8))
    return model


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_save_and_load(normalization, tmp_path):
    model = trained(normalization=normalization)
    model.save(tmp_path / "net.weights")
    assert os.listdir(tmp_path) == ["net.weights"]
    other = FullyConnectedNet([6, 5], 12, 3, normalization=normalization)
    other.load(str(tmp_path / "net.weights"))
    X = np.random.randn(4, 12)
    np.testing.assert_array_equal(other.loss(X), model.loss(X))
    for name, value in model.params.items():
        assert other.params[name].dtype == value.dtype
        np.testing.assert_array_equal(other.params[name], value)


def test_load_of_a_fresh_net_forgets_statistics(tmp_path):
    fresh = FullyConnectedNet([6, 5], 12, 3, normalization="batchnorm")
    fresh.save(tmp_path / "fresh")
    model = trained(normalization="batchnorm")
    model.load(tmp_path / "fresh")
    X = np.random.randn(4, 12)
    np.testing.assert_array_equal(model.loss(X), fresh.loss(X))


def test_two_layer_net_save_and_load(tmp_path):
    model, other = TwoLayerNet(4, 7, 3), TwoLayerNet(4, 7, 3)
    model.save(tmp_path / "net")
    other.load(tmp_path / "net")
    np.testing.assert_array_equal(other.params["W1"], model.params["W1"])


def test_load_refuses_what_does_not_fit(tmp_path):
    path = tmp_path / "net"
    trained(normalization="batchnorm").save(path)
    for other in (
        FullyConnectedNet([6, 4], 12, 3, normalization="batchnorm"),
        FullyConnectedNet([6], 12, 3),
        TwoLayerNet(12, 6, 3),
    ):
        before = other.params
        with pytest.raises(ValueError, match="net must hold the parameters"):
            other.load(path)
        assert other.params is before
    with pytest.raises(ValueError, match="net must hold nothing but parameters; got gamma1"):
        FullyConnectedNet([6, 5], 12, 3).load(path)
    arrays = dict(np.load(path))
    arrays["running_var2"] = np.ones(3)
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=r"must hold running_var2 of shape \(5,\); got \(3,\)"):
        FullyConnectedNet([6, 5], 12, 3, normalization="batchnorm").load(tmp_path / "bad.npz")


def test_load_refuses_what_are_no_numbers(tmp_path):
    net = FullyConnectedNet([2], 3, 3)
    before = net.params
    for name, dtype in (("b1", "U3"), ("W2", int), ("W1", complex)):
        np.savez(tmp_path / "bad.npz", **{**before, name: before[name].astype(dtype)})
        with pytest.raises(ValueError, match=f"must hold floating numbers as {name}; got dtype"):
            net.load(tmp_path / "bad.npz")
    assert net.params is before


def test_load_of_the_courses_file(tmp_path):
    model, other = TwoLayerNet(4, 7, 3, weight_scale=0.3), TwoLayerNet(4, 7, 3)
    np.save(tmp_path / "best.npy", model.params)  # as the course's nets do
    other.load(tmp_path / "best.npy")
    for name, value in model.params.items():
        np.testing.assert_array_equal(other.params[name], value, strict=True)
    with pytest.raises(ValueError, match=r"best.npy must hold the parameters {'W1': \(4, 8\)"):
        TwoLayerNet(4, 8, 3).load(tmp_path / "best.npy")
    with pytest.raises(ValueError, match="best.npy must hold the parameters .*'gamma1'"):
        FullyConnectedNet([7], 4, 3, normalization="batchnorm").load(tmp_path / "best.npy")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_load_refuses_other_files(tmp_path):
    model = TwoLayerNet(4, 7, 3)
    np.save(tmp_path / "evil.npy", {"W1": Evil(tmp_path / "created")})
    np.save(tmp_path / "list.npy", np.array([model.params]))
    np.save(tmp_path / "number.npy", {"W1": 3})
    (tmp_path / "cut.npy").write_bytes((tmp_path / "list.npy").read_bytes()[:-50])
    np.savez(tmp_path / "object.npz", W1=np.array([{}], dtype=object))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text").write_text("not arrays")
    (tmp_path / "empty").write_bytes(b"")
    model.save(tmp_path / "whole")
    (tmp_path / "half").write_bytes((tmp_path / "whole").read_bytes()[:300])
    npy = ("evil.npy", "list.npy", "number.npy", "cut.npy")
    for name in ("object.npz", "array.npy", "text", "empty", "half", *npy):
        with pytest.raises(ValueError, match="is not an npz file of plain arrays"):
            model.load(tmp_path / name)
    assert not (tmp_path / "created").exists()
    with pytest.raises(FileNotFoundError):
        model.load(tmp_path / "nowhere")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_save_leaves_the_old_file(step, tmp_path, monkeypatch):
    path = tmp_path / "net"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        TwoLayerNet(4, 7, 3).save(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net"]


def test_save_follows_a_link(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    TwoLayerNet(4, 7, 3).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    TwoLayerNet(4, 7, 3).load(tmp_path / "target")
