"""What else `fuzzing.py` calls: nets, the Solver, files, gradient checks, plots, settings.

None of these has a twin in the reference: they answer, or refuse. Each is a function of plain
arguments here, under a maker of good ones. What would rightly make a call endless (epochs,
evaluations) or write into the current folder is not among the arguments.
"""

import contextlib
import functools
import io
import pickle
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastbn
from fastbn import classifiers, data_utils, experiments, gradient_check, solver, vis_utils

#: 2^31 rows fit into a large machine's memory, and take minutes to fill: beyond any instead.
_HAD = {1 << 31: 1 << 50}
_FILES = (OSError,)


class User(NamedTuple):
    """A function, a maker of good arguments, what it may raise besides, if good ones are taken."""

    call: Callable
    good: Callable  # of a Random: a dict
    refusals: tuple[type[Exception], ...]
    strict: bool
    share: float


# Numbers of any size make these overflow, and NumPy says so.
_diverging = np.errstate(all="ignore")

USERS: dict[str, User] = {}


def _user(good, refusals=(), strict=True, share=1):
    def add(function):
        USERS[function.__name__] = User(function, good, refusals, strict, share)
        return function

    return add


def _beyond(*values):
    return [
        type(value)(_beyond(*value))
        if isinstance(value, tuple | list)
        else _HAD.get(value, value)
        if type(value) is int
        else value
        for value in values
    ]


def _samples(random):
    rng = np.random.default_rng(random.getrandbits(32))
    return {"X": rng.standard_normal((8, 6)), "y": rng.integers(0, 3, 8)}


def _sets(random):
    X, y = _samples(random).values()
    return {"X_train": X, "y_train": y, "X_val": X, "y_val": y}


def _norm(random):
    return random.choice((None, "batchnorm", "layernorm"))


def _dtype(random):
    return random.choice((np.float32, np.float64, "float32", "float64"))


def _step(net, shape):
    """A step of a net whose classes are enough for the labels."""
    first, last = net.params["W1"], net.params[f"b{sum(key[0] == 'W' for key in net.params)}"]
    X = np.ones((4, *shape), first.dtype)
    loss, grads = net.loss(X, np.zeros(4, int))
    if {k: (g.shape, g.dtype) for k, g in grads.items()} != {
        k: (w.shape, w.dtype) for k, w in net.params.items()
    }:
        raise AssertionError("gradients of other names, shapes or dtypes than the parameters")
    if net.loss(X).shape != (4, len(last)) or not isinstance(loss, float):
        raise AssertionError(f"loss {loss}, scores of shape {net.loss(X).shape}")


@_user(
    lambda random: {
        "input_dim": 6, "hidden_dim": random.choice((1, 4, 7)), "num_classes": 3,
        "weight_scale": 1e-2, "reg": 0.1,
    }
)  # fmt: skip
@_diverging
def two_layer_net(input_dim, hidden_dim, num_classes, weight_scale, reg):
    sizes = _beyond(input_dim, hidden_dim, num_classes)
    net = classifiers.TwoLayerNet(*sizes, weight_scale, reg)
    _step(net, (input_dim,))


@_user(
    lambda random: {
        "hidden_dims": (random.choice((1, 4, 7)),) * random.randint(0, 3), "input_dim": 6,
        "num_classes": 3, "dropout_keep_ratio": random.choice((1, 0.5)),
        "normalization": _norm(random), "reg": 0.1, "weight_scale": 1e-2, "dtype": _dtype(random),
        "seed": random.choice((None, 1)),
    }
)  # fmt: skip
@_diverging
def fully_connected_net(hidden_dims, input_dim, num_classes, *options):
    sizes = _beyond(hidden_dims, input_dim, num_classes)
    net = classifiers.FullyConnectedNet(*sizes, *options)
    _step(net, (input_dim,))


@_user(
    lambda random: {
        "input_dim": (random.randint(1, 3), 4, 6), "num_filters": random.randint(1, 5),
        "filter_size": random.choice((1, 3)), "hidden_dim": 4, "num_classes": 3,
        "weight_scale": 1e-2, "reg": 0.0, "dtype": _dtype(random), "normalization": _norm(random),
    }
)  # fmt: skip
@_diverging
def three_layer_conv_net(input_dim, filters, size, hidden_dim, num_classes, *options):
    *options, normalization = options
    sizes = _beyond(input_dim, filters, size, hidden_dim, num_classes)
    net = classifiers.ThreeLayerConvNet(*sizes, *options, normalization=normalization)
    _step(net, input_dim)


@_user(_samples, strict=False)
@_diverging
def loss_of_a_net(X, y):
    classifiers.FullyConnectedNet([5], 6, 3, normalization="batchnorm").loss(X, y)


@_user(
    lambda random: {"X": np.ones((8, 2, 4, 4)), "y": _samples(random)["y"]},
    strict=False,
)
@_diverging
def loss_of_a_conv_net(X, y):
    classifiers.ThreeLayerConvNet((2, 4, 4), 3, 3, 4, 3, normalization="layernorm").loss(X, y)


@_user(
    lambda random: {
        **_sets(random),
        "options": {
            "update_rule": random.choice(("sgd", "sgd_momentum", "rmsprop", "adam")),
            "optim_config": {"learning_rate": 1e-3},
            "lr_decay": 0.9,
            "batch_size": random.choice((1, 3, 8, 20)),
            "num_epochs": random.choice((0, 1, 2)),
            "num_train_samples": random.choice((None, 3, 100)),
            "num_val_samples": random.choice((None, 3, 100)),
            "print_every": 1,
            "checkpoint_name": None,
        },
    },
    strict=False,
)
@_diverging
def train(X_train, y_train, X_val, y_val, options):
    data = {"X_train": X_train, "y_train": y_train, "X_val": X_val, "y_val": y_val}
    if not isinstance(options, dict):
        raise TypeError("not keyword arguments")
    options = dict(zip(options, _beyond(*options.values()), strict=True), verbose=False)
    training = solver.Solver(classifiers.TwoLayerNet(6, 4, 3), data, **options)
    if training.num_epochs <= 3 and not training.checkpoint_name:
        training.train()


@_user(
    lambda random: {**_samples(random), "num_samples": None, "batch_size": 3},
    strict=False,
)
@_diverging
def check_accuracy(X, y, num_samples, batch_size):
    training = solver.Solver(classifiers.TwoLayerNet(6, 4, 3), _two_sets())
    accuracy = training.check_accuracy(X, y, *_beyond(num_samples, batch_size))
    if not 0 <= accuracy <= 1:
        raise AssertionError(f"accuracy {accuracy}")


def _two_sets():
    X, y = np.ones((8, 6)), np.arange(8) % 3
    return {"X_train": X, "y_train": y, "X_val": X, "y_val": y}


@functools.cache
def _folder():
    """A tiny CIFAR-10 and a checkpoint, for as long as this process runs."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {"data": np.ones((2, 3072), np.uint8), "labels": [3, 7]}
        (path / name).write_bytes(pickle.dumps(batch))
    options = {"num_epochs": 1, "verbose": False, "checkpoint_name": path / "checkpoints" / "run"}
    (path / "checkpoints").mkdir()
    solver.Solver(classifiers.TwoLayerNet(6, 4, 3), _two_sets(), **options).train()
    return folder, path


class _Here(str):
    """A name in that folder."""


def _path(value):
    return _folder()[1] / value if isinstance(value, _Here) else value


@_user(
    lambda random: {
        "num_training": 3, "num_validation": 2, "num_test": 1, "subtract_mean": True,
        "cifar10_dir": _Here(),
    },
    _FILES,
)  # fmt: skip
def get_CIFAR10_data(num_training, num_validation, num_test, subtract_mean, folder):
    counts = num_training, num_validation, num_test
    data = data_utils.get_CIFAR10_data(*counts, subtract_mean, _path(folder))
    for name, count in zip(("train", "val", "test"), counts, strict=True):
        if (data[f"X_{name}"].shape, data[f"y_{name}"].shape) != ((count, 3, 32, 32), (count,)):
            raise AssertionError(f"{name}: {data[f'X_{name}'].shape}")


def _reader(function, name):
    @_user(lambda random: {"path": _Here(name)}, _FILES)
    @functools.wraps(function)
    def read(path):
        function(_path(path))


_reader(data_utils.load_CIFAR10, "")
_reader(data_utils.load_CIFAR_batch, "data_batch_1")
_reader(data_utils.load_models, "checkpoints")
_reader(solver.load_checkpoint, "checkpoints/run_epoch_1.pkl")


@_user(lambda random: {"path": _Here("checkpoints/run_epoch_1.pkl")}, _FILES)
def resume(path):
    training = solver.Solver(
        classifiers.TwoLayerNet(6, 4, 3), _two_sets(), num_epochs=2, verbose=False
    )
    training.resume(_path(path))
    training.train()


@_user(lambda random: {"num": 3, "path": _Here("data_batch_1")}, _FILES, strict=False)
def load_imagenet_val(num, path):
    data_utils.load_imagenet_val(num, _path(path))


@_user(
    lambda random: {"path": _Here(), "dtype": _dtype(random), "subtract_mean": True},
    _FILES,
    strict=False,
)
def load_tiny_imagenet(path, dtype, subtract_mean):
    data_utils.load_tiny_imagenet(_path(path), dtype, subtract_mean)


@_user(lambda random: {"content": pickle.dumps(_samples(random))}, strict=False)
def load_pickle(content):
    data_utils.load_pickle(io.BytesIO(content) if isinstance(content, bytes) else content)


@_user(
    lambda random: {"num_validation": 180, "num_test": 360, "subtract_mean": True, "seed": 0},
    share=0.1,
)
def get_digits_data(*options):
    data_utils.get_digits_data(*options)


def _sum_of_squares(x):
    return float(np.sum(x * x))


@_user(
    lambda random: {"f": _sum_of_squares, "x": _samples(random)["X"], "h": 1e-5},
    strict=False,
)
@_diverging
def eval_numerical_gradient(f, x, h):
    gradient_check.eval_numerical_gradient(f, x, False, h)


@_user(
    lambda random: {"f": np.sin, "x": _samples(random)["X"], "df": np.ones((8, 6)), "h": 1e-5},
    strict=False,
)
@_diverging
def eval_numerical_gradient_array(f, x, df, h):
    gradient_check.eval_numerical_gradient_array(f, x, df, h)


class _Blob(types.SimpleNamespace):
    """Values and their gradient, as the course's blobs have them."""


def _double(x, y):
    y.vals[...] = 2 * x.vals


@_user(lambda random: {"vals": _samples(random)["X"], "diffs": np.ones((8, 6)), "h": 1e-5},
       strict=False)  # fmt: skip
@_diverging
def eval_numerical_gradient_blobs(vals, diffs, h):
    x, y = _Blob(vals=vals, diffs=np.ones((8, 6))), _Blob(vals=np.ones((8, 6)), diffs=diffs)
    gradient_check.eval_numerical_gradient_blobs(_double, [x], y, h)


@_user(lambda random: {"vals": _samples(random)["X"], "diffs": np.ones((8, 6)), "h": 1e-5},
       strict=False)  # fmt: skip
@_diverging
def eval_numerical_gradient_net(vals, diffs, h):
    x, y = _Blob(vals=vals, diffs=np.ones((8, 6))), _Blob(vals=np.ones((8, 6)), diffs=diffs)
    net = types.SimpleNamespace(forward=lambda: _double(x, y))
    gradient_check.eval_numerical_gradient_net(net, [x], y, h)


@_user(
    lambda random: {
        "f": _sum_of_squares, "x": _samples(random)["X"], "analytic_grad": np.ones((8, 6)),
        "h": 1e-5,
    },
    strict=False,
)  # fmt: skip
@_diverging
def grad_check_sparse(f, x, analytic_grad, h):
    with contextlib.redirect_stdout(io.StringIO()):
        gradient_check.grad_check_sparse(f, x, analytic_grad, 3, h)


@_user(lambda random: {"Xs": np.ones((random.randint(1, 5), 4, 5, 3))}, strict=False)
def vis_grid(Xs):
    vis_utils.vis_grid(Xs)


@_user(lambda random: {"rows": np.ones((2, random.randint(1, 5), 4, 5, 3))}, strict=False)
def vis_nn(rows):
    vis_utils.vis_nn(rows)


_HISTORY = {
    "loss_history": np.arange(1.0, 9), "train_acc_history": [0.1, 0.2],
    "val_acc_history": [0.1, 0.2],
}  # fmt: skip


@_user(lambda random: {"history": dict(_HISTORY), "title": None}, strict=False, share=0.1)
def plot_history(history, title):
    vis_utils.plot_history(history, title)


@_user(
    lambda random: {"histories": {"a": dict(_HISTORY), "b": dict(_HISTORY)}, "title": None},
    strict=False,
    share=0.1,
)
def plot_comparison(histories, title):
    vis_utils.plot_comparison(histories, title)


@_user(
    lambda random: {"w": np.ones((random.randint(1, 5), 3, 3, 3)), "title": None},
    strict=False,
    share=0.1,
)
def plot_filters(w, title):
    vis_utils.plot_filters(w, title)


@_user(
    lambda random: {
        **_samples(random), "normalization": "batchnorm", "hidden": (4,), "batch_size": 2,
        "learning_rate": 1e-3, "weight_scale": 0.1, "dtype": "float32", "seed": 1,
    },
    strict=False,
    share=0.1,
)  # fmt: skip
@_diverging
def experiment(X, y, normalization, hidden, batch_size, learning_rate, weight_scale, dtype, seed):
    hidden, batch_size = _beyond(hidden, batch_size)
    experiments.batchnorm.run(
        {"X_train": X, "y_train": y, "X_val": X, "y_val": y},
        normalization=normalization,
        hidden=hidden,
        num_train=4,
        epochs=1,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_scale=weight_scale,
        dtype=dtype,
        seed=seed,
        n_jobs=1,
    )


@_user(
    lambda random: {"target": _Here("course"), "verify": False, "unsolved": False},
    (ImportError,),
    share=0.1,
)
def accelerate(target, verify, unsolved):
    if isinstance(target, _Here):
        target = types.ModuleType(target)
        target.relu_forward, target.relu_backward = _relu_forward, _relu_backward
    with fastbn.accelerate(target, verify=verify, unsolved=unsolved):
        pass


def _relu_forward(x):
    return np.maximum(x, 0), x


def _relu_backward(dout, cache):
    return dout * (cache > 0)


@_user(lambda random: {"mode": random.choice(("dict", "stdout"))})
def show_config(mode):
    with contextlib.redirect_stdout(io.StringIO()):
        fastbn.show_config(mode)
