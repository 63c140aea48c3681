"""The training loop: a published run, its bookkeeping, checkpoints and the progress bar."""

import importlib
import io
import os
import pickle
import sys

import numpy as np
import pytest

from fastbn import optim
from fastbn.classifiers import ThreeLayerConvNet
from fastbn.solver import Solver


class Linear:
    """A linear softmax classifier: just enough of a model."""

    def __init__(self, D=4, C=3):
        self.params = {"W": np.zeros((D, C)), "b": np.zeros(C)}
        self.batches = []

    def loss(self, X, y=None):
        scores = X @ self.params["W"] + self.params["b"]
        if y is None:
            return scores
        self.batches.append(X)
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        rows = np.arange(len(y))
        loss = -np.mean(np.log(p[rows, y]))
        p[rows, y] -= 1
        p /= len(y)
        return loss, {"W": X.T @ p, "b": p.sum(axis=0)}


class Stuck(Linear):
    """Never right: the classes of `make_data` go up to 2."""

    def loss(self, X, y=None):
        result = super().loss(X, y)
        return np.eye(4)[[3] * len(X)] if y is None else result


def make_data(N=50, M=20):
    rng = np.random.RandomState(0)
    X = rng.randn(N + M, 4)
    y = np.argmax(X[:, :3], axis=1)
    return {"X_train": X[:N], "y_train": y[:N], "X_val": X[N:], "y_val": y[N:]}


def make_solver(model=None, **kwargs):
    options = {"batch_size": 10, "num_epochs": 2, "verbose": False}
    return Solver(model or Linear(), make_data(), **{**options, **kwargs})


@pytest.mark.parametrize("layers", ["layers", "reference"])
def test_published_run(layers):
    rng = np.random.RandomState(7)
    data = {}
    for name, N in (("train", 60), ("val", 20)):
        data[f"X_{name}"] = rng.randn(N, 3, 8, 8)
        data[f"y_{name}"] = rng.randint(10, size=N)
    net = type("Net", (ThreeLayerConvNet,), {"layers": importlib.import_module(f"fastbn.{layers}")})
    np.random.seed(231)
    model = net(
        (3, 8, 8), num_filters=4, filter_size=3, hidden_dim=20, weight_scale=1e-2, dtype=np.float64
    )
    solver = Solver(
        model,
        data,
        num_epochs=3,
        batch_size=20,
        update_rule="adam",
        optim_config={"learning_rate": 1e-2},
        verbose=False,
    )
    solver.train()
    np.testing.assert_array_equal(
        np.round(solver.loss_history[:3], 10), [2.3025948367, 2.3061397998, 2.3033039373]
    )
    assert round(solver.loss_history[-1], 10) == 2.3075407535
    np.testing.assert_array_equal(
        np.round(solver.train_acc_history, 5), [0.13333, 0.15, 0.15, 0.15]
    )
    np.testing.assert_array_equal(solver.val_acc_history, [0.05] * 4)


def test_defaults():
    model, data = Linear(), make_data()
    solver = Solver(model, data)
    assert solver.model is model
    assert solver.update_rule is optim.sgd
    assert solver.optim_config == {}
    assert solver.lr_decay == 1.0
    assert solver.batch_size == 100
    assert solver.num_epochs == 10
    assert solver.num_train_samples == 1000
    assert solver.num_val_samples is None
    assert solver.checkpoint_name is None
    assert solver.print_every == 10
    assert solver.verbose is True
    for key, value in data.items():
        assert getattr(solver, key) is value
    assert solver.optim_configs == {"W": {}, "b": {}}
    assert solver.epoch == solver.best_val_acc == 0
    assert solver.best_params == {}
    assert solver.loss_history == solver.train_acc_history == solver.val_acc_history == []


def test_learns_and_keeps_the_best():
    np.random.seed(0)
    solver = make_solver(num_epochs=20, optim_config={"learning_rate": 0.5}, num_train_samples=None)
    solver.train()
    assert solver.epoch == 20
    assert len(solver.loss_history) == 100
    assert len(solver.train_acc_history) == len(solver.val_acc_history) == 21
    assert solver.best_val_acc == max(solver.val_acc_history) > 0.8
    assert solver.check_accuracy(solver.X_val, solver.y_val) == solver.best_val_acc
    for name, value in solver.best_params.items():
        np.testing.assert_array_equal(solver.model.params[name], value)


def test_training_on_leaves_best_params():
    np.random.seed(0)
    solver = make_solver()
    solver.train()
    best = {name: value.copy() for name, value in solver.best_params.items()}
    solver._step()
    for name, value in best.items():
        np.testing.assert_array_equal(solver.best_params[name], value)


def test_order_of_random_draws():
    np.random.seed(3)
    solver = make_solver(batch_size=30, num_epochs=2, num_train_samples=7, num_val_samples=5)
    solver.train()
    np.random.seed(3)
    # One step an epoch; accuracies after each of the two.
    for batch in solver.model.batches:
        np.testing.assert_array_equal(batch, solver.X_train[np.random.choice(50, 30)])
        np.random.choice(50, 7), np.random.choice(20, 5)
    state = np.random.get_state()[1].copy()
    np.random.seed(3)
    make_solver(batch_size=30, num_epochs=2, num_train_samples=7, num_val_samples=5).train()
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_accuracy_draws_nothing_from_a_small_set():
    solver, state = make_solver(), np.random.get_state()[1].copy()
    solver.check_accuracy(solver.X_val, solver.y_val, num_samples=20)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("batch_size", [1, 7, 20, 100])
def test_accuracy_in_batches(batch_size):
    solver = make_solver()
    solver.model.params["W"] = np.random.RandomState(1).randn(4, 3)
    expected = np.mean(np.argmax(solver.model.loss(solver.X_val), axis=1) == solver.y_val)
    assert solver.check_accuracy(solver.X_val, solver.y_val, batch_size=batch_size) == expected


def test_batch_larger_than_the_set():
    solver = make_solver(batch_size=200, num_epochs=3)
    solver.train()
    assert len(solver.loss_history) == 3
    assert solver.model.batches[0].shape == (200, 4)


def test_learning_rate_decay():
    solver = make_solver(num_epochs=3, lr_decay=0.5, optim_config={"learning_rate": 1.0})
    solver.train()
    assert [config["learning_rate"] for config in solver.optim_configs.values()] == [0.125] * 2
    assert solver.optim_config == {"learning_rate": 1.0}


def test_model_that_is_never_right_keeps_its_params():
    solver = make_solver(Stuck())
    solver.train()
    assert solver.best_params == {} and solver.best_val_acc == 0
    assert set(solver.model.params) == {"W", "b"}


def test_no_epochs():
    solver = make_solver(num_epochs=0)
    solver.train()
    assert solver.loss_history == [] and set(solver.model.params) == {"W", "b"}


def test_messages(capsys, tmp_path):
    np.random.seed(0)
    solver = make_solver(verbose=True, print_every=4, checkpoint_name=str(tmp_path / "run"))
    solver.train()
    losses, train, val = solver.loss_history, solver.train_acc_history, solver.val_acc_history
    out, err = capsys.readouterr()
    expected = []
    for t in range(10):
        if t in (0, 4, 8):
            expected.append(f"(Iteration {t + 1} / 10) loss: {losses[t]:.6f}")
        if t in (0, 4, 9):
            i = (0, 4, 9).index(t)
            expected.append(f'Saving checkpoint to "{tmp_path / "run"}_epoch_{i}.pkl"')
            expected.append(f"(Epoch {i} / 2) train acc: {train[i]:.6f}; val_acc: {val[i]:.6f}")
    assert out.splitlines() == expected
    assert err == ""


def test_quiet(capsys, tmp_path):
    make_solver(checkpoint_name=tmp_path / "run").train()
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "verbose", "installed", "bar"),
    [
        (Terminal, True, True, True),
        (Terminal, False, True, False),
        (Terminal, True, False, False),
        (io.StringIO, True, True, False),
    ],
)
def test_progress_bar(stream, verbose, installed, bar, monkeypatch, capsys):
    if not installed:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", stream())
    make_solver(verbose=verbose).train()
    assert ("step" in sys.stderr.getvalue()) is bar
    # The lines are the same with and without a bar.
    assert len(capsys.readouterr().out.splitlines()) == (4 if verbose else 0)


def test_checkpoint_can_be_read(tmp_path):
    np.random.seed(0)
    solver = make_solver(update_rule="adam", checkpoint_name=str(tmp_path / "run"))
    solver.train()
    assert sorted(os.listdir(tmp_path)) == [f"run_epoch_{epoch}.pkl" for epoch in range(3)]
    with open(tmp_path / "run_epoch_2.pkl", "rb") as file:
        checkpoint = pickle.load(file)
    assert checkpoint["update_rule"] is optim.adam
    assert checkpoint["epoch"] == 2
    assert checkpoint["loss_history"] == solver.loss_history
    assert checkpoint["val_acc_history"] == solver.val_acc_history
    assert {
        "lr_decay",
        "optim_config",
        "batch_size",
        "num_train_samples",
        "num_val_samples",
        "train_acc_history",
    } <= set(checkpoint)

    # What it holds is enough to go on where it was written.
    on = Solver(checkpoint["model"], make_data(), update_rule="adam", batch_size=10, verbose=False)
    for name in ("epoch", "optim_configs", "best_val_acc", "best_params", "loss_history"):
        setattr(on, name, checkpoint[name])
    assert on.optim_configs["W"]["t"] == 10
    on._step()
    assert len(on.loss_history) == 11


@pytest.mark.parametrize("step", ["fsync", "replace", "dump"])
def test_failed_checkpoint_leaves_the_old_one(step, tmp_path, monkeypatch):
    path = tmp_path / "run_epoch_0.pkl"
    path.write_bytes(b"old")
    solver = make_solver(checkpoint_name=tmp_path / "run")

    def fail(*args):
        if step == "dump":
            args[1].write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pickle if step == "dump" else os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        solver.train()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_checkpoint_replaces_the_old_one(tmp_path):
    path = tmp_path / "run_epoch_0.pkl"
    path.write_bytes(b"old")
    make_solver(checkpoint_name=tmp_path / "run").train()
    assert pickle.loads(path.read_bytes())["epoch"] == 0


def test_folder_of_checkpoints_must_exist(tmp_path):
    solver = make_solver(checkpoint_name=tmp_path / "nowhere" / "run")
    with pytest.raises(FileNotFoundError, match="checkpoint_name must lie in an existing folder"):
        solver.train()
    assert solver.loss_history == []


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"a": 1, "b": 2}, ValueError, 'Unrecognized arguments "a", "b"'),
        ({"update_rule": "x"}, ValueError, 'Invalid update_rule "x"'),
        ({"update_rule": "_state"}, ValueError, 'Invalid update_rule "_state"'),
        ({"update_rule": "np"}, ValueError, 'Invalid update_rule "np"'),
        ({"update_rule": "Any"}, ValueError, 'Invalid update_rule "Any"'),
        ({"update_rule": "Config"}, ValueError, 'Invalid update_rule "Config"'),
        ({"update_rule": optim.sgd}, TypeError, "update_rule must be the name of a rule"),
        ({"optim_config": 1e-3}, TypeError, "optim_config must be a dict; got float"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"batch_size": 10.0}, TypeError, "batch_size must be an integer; got 10.0"),
        ({"num_epochs": -1}, ValueError, "num_epochs must be at least 0; got -1"),
        ({"print_every": 0}, ValueError, "print_every must be at least 1; got 0"),
        ({"num_train_samples": 0}, ValueError, "num_train_samples must be at least 1; got 0"),
        ({"num_val_samples": "all"}, TypeError, "num_val_samples must be an integer; got 'all'"),
        ({"lr_decay": "0.9"}, TypeError, "lr_decay must be a number; got '0.9'"),
        ({"lr_decay": -1}, ValueError, "lr_decay must be positive and finite; got -1"),
        ({"lr_decay": np.nan}, ValueError, "lr_decay must be positive and finite; got nan"),
        (
            {"checkpoint_name": 3},
            TypeError,
            "checkpoint_name must be a string, a path or None; got 3",
        ),
    ],
)
def test_bad_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        make_solver(**kwargs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"X_train": None}, "data must have the key 'X_train'"),
        ({"y_val": None}, "data must have the key 'y_val'"),
        (
            {"y_train": np.zeros(49, int)},
            r"data\['X_train'\] and data\['y_train'\] must have the same length; got 50 and 49",
        ),
        (
            {"X_val": np.zeros((0, 4)), "y_val": np.zeros(0, int)},
            r"data\['X_val'\] must have at least one sample; got shape \(0, 4\)",
        ),
        (
            {"y_train": np.array(3)},
            r"data\['y_train'\] must have at least one sample; got shape \(\)",
        ),
        (
            {"y_train": np.zeros((50, 1), int)},
            r"data\['y_train'\] must have one axis; got shape \(50, 1\)",
        ),
        (
            {"y_val": np.zeros((20, 1), int)},
            r"data\['y_val'\] must have one axis; got shape \(20, 1\)",
        ),
    ],
)
def test_bad_data(changes, message):
    data = {**make_data(), **changes}
    data = {key: value for key, value in data.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        Solver(Linear(), data)


def test_bad_types():
    with pytest.raises(TypeError, match="data must be a dict; got list"):
        Solver(Linear(), [1, 2])
    for key in ("y_train", "y_val"):
        for dtype in (float, bool, str, object):
            data = make_data()
            data[key] = data[key].astype(dtype)
            with pytest.raises(TypeError, match=rf"data\['{key}'\] must hold integer classes; got"):
                Solver(Linear(), data)
    with pytest.raises(TypeError, match="model must have a dict params and a method loss; got int"):
        Solver(3, make_data())


def test_accuracy_wants_one_integer_a_sample():
    solver = make_solver()
    with pytest.raises(ValueError, match=r"y must have one axis; got shape \(20, 1\)"):
        solver.check_accuracy(solver.X_val, solver.y_val[:, None])
    with pytest.raises(TypeError, match="y must hold integer classes; got dtype float64"):
        solver.check_accuracy(solver.X_val, solver.y_val.astype(float))


def test_what_optim_shows_is_rules():
    shown = {name for name, value in vars(optim).items() if name[0] != "_" and callable(value)}
    assert shown == {"sgd", "sgd_momentum", "rmsprop", "adam"}


def test_lists_are_taken():
    data = {key: value.tolist() for key, value in make_data().items()}
    solver = Solver(Linear(), data, num_epochs=1, batch_size=10, verbose=False)
    solver.train()
    assert len(solver.loss_history) == 5


def test_rule_added_by_the_user(monkeypatch):
    calls = []

    def rule(w, dw, config):
        calls.append(None)
        return optim.sgd(w, dw, config)

    monkeypatch.setattr(optim, "my_rule", rule, raising=False)
    make_solver(update_rule="my_rule", num_epochs=1).train()
    assert len(calls) == 10
