"""The training loop: a published run, its bookkeeping, checkpoints and the progress bar."""

import importlib
import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fastbn import optim
from fastbn.classifiers import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from fastbn.data_utils import load_pickle
from fastbn.solver import Solver, load_checkpoint


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
@pytest.mark.parametrize(
    ("t", "first", "last"),
    [
        (0, [2.3025948367, 2.3061397998, 2.3033039373], 2.3075407535),
        (1, [2.3025948367, 2.3050866071, 2.30300787], 2.3077974591),  # as in 2017
    ],
)
def test_published_run(layers, t, first, last):
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
        optim_config={"learning_rate": 1e-2, "t": t},
        verbose=False,
    )
    solver.train()
    np.testing.assert_array_equal(np.round(solver.loss_history[:3], 10), first)
    assert round(solver.loss_history[-1], 10) == last
    if t == 0:
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


def test_checkpoint_is_plain_data(tmp_path):
    np.random.seed(0)
    solver = make_solver(update_rule="adam", checkpoint_name=str(tmp_path / "run"))
    solver.model.function, solver.model.note = print, {"kept": [1, (2.5, None)]}
    solver.train()
    assert sorted(os.listdir(tmp_path)) == [f"run_epoch_{epoch}.pkl" for epoch in range(3)]
    path = tmp_path / "run_epoch_2.pkl"
    # Nothing in it but arrays: the strict reader takes it.
    with open(path, "rb") as file:
        strict = load_pickle(file)
    for checkpoint in (load_checkpoint(path), strict, pickle.loads(path.read_bytes())):
        assert list(checkpoint) == [
            "model",
            "update_rule",
            "optim_config",
            "lr_decay",
            "batch_size",
            "num_train_samples",
            "num_val_samples",
            "optim_configs",
            "epoch",
            "iteration",
            "best_val_acc",
            "best_params",
            "loss_history",
            "train_acc_history",
            "val_acc_history",
            "random_state",
        ]
        assert checkpoint["update_rule"] == "adam"
        assert (checkpoint["epoch"], checkpoint["iteration"]) == (2, 10)
        assert checkpoint["loss_history"] == solver.loss_history
        assert checkpoint["val_acc_history"] == solver.val_acc_history
        assert checkpoint["best_val_acc"] == solver.best_val_acc
        for name, value in solver.best_params.items():
            np.testing.assert_array_equal(checkpoint["best_params"][name], value)
        assert checkpoint["optim_configs"]["W"]["t"] == 10
        model = checkpoint["model"]
        assert list(model) == ["__class__", "params", "batches", "note"]
        assert model["__class__"].endswith(".Linear") and model["note"] == solver.model.note


def net_solver(folder=None, num_epochs=3, **kwargs):
    """A net with every kind of state: running statistics, dropout, Adam's moments, sampling."""
    rng = np.random.RandomState(1)
    data = {"X_train": rng.randn(60, 6), "y_train": rng.randint(3, size=60)}
    data |= {"X_val": rng.randn(40, 6), "y_val": rng.randint(3, size=40)}
    net = FullyConnectedNet([7, 5], 6, 3, 0.8, "batchnorm", 0.1, 0.3, np.float64)
    options = {
        "update_rule": "adam",
        "optim_config": {"learning_rate": 1e-2},
        "lr_decay": 0.9,
        "batch_size": 11,
        "num_train_samples": 30,
        "num_val_samples": 25,
        "checkpoint_name": folder and folder / "run",
        "verbose": False,
    }
    return Solver(net, data, num_epochs=num_epochs, **options | kwargs)


def bits(value):
    """A nest of containers with its arrays as bytes, to be compared with ==."""
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return value


def everything(solver):
    """What a run leaves behind."""
    state = solver.model.params, solver.model.bn_params, solver.best_params, solver.optim_configs
    numbers = solver.loss_history, solver.train_acc_history, solver.val_acc_history, solver.epoch
    return bits((state, numbers, np.random.get_state()))


@pytest.mark.parametrize("epoch", range(4))
def test_resumed_run_equals_the_uninterrupted(epoch, tmp_path):
    np.random.seed(5)
    whole = net_solver(tmp_path)
    whole.train()
    expected, files = everything(whole), sorted(tmp_path.iterdir())
    checkpoints = [bits(load_checkpoint(file)) for file in files]
    np.random.seed(99)
    resumed = net_solver(tmp_path)
    resumed.resume(tmp_path / f"run_epoch_{epoch}.pkl")
    # The first checkpoint is written after the first step, the others at the ends of epochs.
    assert (resumed.epoch, resumed.iteration) == (epoch, 5 * epoch or 1)
    resumed.train()
    assert resumed.iteration == 0 and resumed.epoch == 3
    assert everything(resumed) == expected
    # It wrote the same checkpoints again.
    assert [bits(load_checkpoint(file)) for file in files] == checkpoints


def test_resumed_by_a_longer_run(tmp_path):
    np.random.seed(5)
    longer = net_solver(num_epochs=5)
    longer.train()
    np.random.seed(5)
    net_solver(tmp_path, num_epochs=3).train()
    again = net_solver(num_epochs=5)
    again.resume(str(tmp_path / "run_epoch_3.pkl"))
    again.train()
    assert everything(again) == everything(longer)


def test_training_again_after_a_stop_starts_anew(tmp_path):
    np.random.seed(5)
    solver = net_solver(num_epochs=2)
    rule, calls = solver.update_rule, []

    def stop(*args):
        calls.append(None)
        if len(calls) == 50:
            raise KeyboardInterrupt
        return rule(*args)

    solver.update_rule = stop
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    done = len(solver.loss_history)
    assert solver.iteration == 0 and 0 < done < 10
    solver.train()
    assert len(solver.loss_history) == done + 10


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"update_rule": "sgd"}, "update_rule must be that of .*, 'adam'; the solver has 'sgd'"),
        ({"batch_size": 12}, "batch_size must be that of .*pkl, 11; the solver has 12"),
        ({"lr_decay": 1.0}, "lr_decay must be that of .*, 0.9; the solver has 1.0"),
        ({"num_val_samples": None}, "num_val_samples must be that of .*, 25; .* has None"),
        ({"optim_config": {"learning_rate": 1}}, "optim_config must be .*0.01}; .*1}"),
        ({"optim_config": {}}, "optim_config must be .*0.01}; .*{}"),
    ],
)
def test_resuming_with_other_arguments(kwargs, message, tmp_path):
    net_solver(tmp_path, num_epochs=1).train()
    solver = net_solver(**kwargs)
    before = everything(solver)
    with pytest.raises(ValueError, match=message):
        solver.resume(tmp_path / "run_epoch_1.pkl")
    assert everything(solver) == before


def test_resuming_with_another_normalization(tmp_path):
    net_solver(tmp_path, num_epochs=1).train()
    solver = net_solver()
    # The parameters have the same names and shapes.
    solver.model = FullyConnectedNet([7, 5], 6, 3, 0.8, "layernorm", dtype=np.float64)
    before = everything(solver)
    with pytest.raises(ValueError, match="a model of normalization 'layernorm'; got 'batchnorm'"):
        solver.resume(tmp_path / "run_epoch_1.pkl")
    assert everything(solver) == before


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim_configs", None, "it lacks optim_configs, epoch$"),
        ("epoch", "3", "must hold epoch of type int; got str"),
        ("loss_history", np.zeros(3), "must hold loss_history of type list; got ndarray"),
        ("best_params", {"W1": np.zeros(3)}, r"of the model's shapes and dtypes, .*got .*\(3,\)"),
        ("model", {"params": {}}, r"of the model's shapes and dtypes, .*got {}"),
        ("optim_configs", {}, r"optim_configs, dicts, of the parameters \['W1', .*; got {}"),
        ("random_state", {"bit_generator": "MT19937"}, "a state of numpy.random as random_state"),
        ("random_state", {"bit_generator": "PCG64", "state": {}}, "numpy.random as random_state"),
    ],
)
def test_tampered_checkpoint(key, value, message, tmp_path):
    net_solver(tmp_path, num_epochs=1).train()
    path = tmp_path / "run_epoch_1.pkl"
    checkpoint = pickle.loads(path.read_bytes())
    checkpoint[key] = value
    if value is None:
        del checkpoint[key], checkpoint["epoch"]
    path.write_bytes(pickle.dumps(checkpoint))
    solver = net_solver()
    before = everything(solver)
    with pytest.raises(ValueError, match=message):
        solver.resume(path)
    assert everything(solver) == before


def bomb():
    value = [0.0]
    for _ in range(30):  # 2**30 numbers for whoever copies the nest out
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # NumPy reads beyond its block from there: a crash, or what else is in memory.
        ("random_state state pos", 10**6, "state of numpy.random as random_state: pos is 1000000"),
        ("random_state state pos", -7, "state of numpy.random as random_state: pos is -7"),
        # Shorter than the position, or than NumPy's block with a position that it has.
        ("random_state state key", np.zeros(3, np.uint32), "numpy.random as random_state"),
        (
            "random_state state",
            {"key": np.zeros(3, np.uint32), "pos": 1},
            "random_state: index 3 is out of bounds",
        ),
        ("random_state has_gauss", 10**30, "numpy.random as random_state: Python int too large"),
        ("random_state gauss", "x", "numpy.random as random_state: must be real number"),
        ("model loss", "x", "attributes of the model; got 'loss'"),
        ("model __dict__", {}, "attributes of the model; got '__dict__'"),
        ("model 5", 1, None),
        ("model params W1", [[0.0]], r"dtypes, .*got {'W1': \(\(\), 'list'\)"),
        ("model params W1", bomb(), r"dtypes, .*got {'W1': \(\(\), 'list'\)"),
        ("best_params W1", bomb(), r"dtypes, .*got {'W1': \(\(\), 'list'\)"),
        ("optim_configs W1", 3, "optim_configs, dicts, of the parameters"),
        ("optim_config learning_rate", bomb(), r"optim_config must be that of .*\[\.\.\.\]"),
        ("lr_decay", bomb(), r"lr_decay must be that of .*\[\.\.\.\]"),
    ],
)
def test_tampered_parts_of_a_checkpoint(path, value, message, tmp_path):
    net_solver(tmp_path, num_epochs=1).train()
    file = tmp_path / "run_epoch_1.pkl"
    checkpoint = pickle.loads(file.read_bytes())
    *folders, key = path.split()
    inner = checkpoint
    for name in folders:
        inner = inner[name]
    if message is None:
        key, message = int(key), "attributes of the model; got 5"
    inner[key] = value
    file.write_bytes(pickle.dumps(checkpoint))
    solver = net_solver()
    before = everything(solver)
    with pytest.raises(ValueError, match=message):
        solver.resume(file)
    assert everything(solver) == before


def test_model_of_another_dtype_is_another_model(tmp_path):
    net_solver(tmp_path, num_epochs=1).train()
    solver = net_solver()
    solver.model.params = {name: w.astype(np.float16) for name, w in solver.model.params.items()}
    with pytest.raises(ValueError, match="shapes and dtypes, .*float16"):
        solver.resume(tmp_path / "run_epoch_1.pkl")


def test_damaged_checkpoint(tmp_path):
    net_solver(tmp_path, num_epochs=1).train()
    path = tmp_path / "run_epoch_1.pkl"
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:1], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="run_epoch_1.pkl is not a readable pickle of plain"):
            load_checkpoint(path)
    for key in ("epoch", "iteration"):
        path.write_bytes(pickle.dumps({**pickle.loads(whole), key: -1}))
        with pytest.raises(ValueError, match=f"must hold {key} of at least 0; got -1"):
            net_solver(num_epochs=1).resume(path)
    for content in ([1, 2], {"epoch": 1}):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match="is not a checkpoint: it must hold a dict with a mod"):
            net_solver().resume(path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "nowhere.pkl")


def test_what_is_no_plain_data_cannot_be_in_a_checkpoint(tmp_path):
    solver = make_solver(checkpoint_name=tmp_path / "run", optim_config={"schedule": print})
    with pytest.raises(TypeError, match=r"optim_config\['schedule'\] must be numbers, text, ar"):
        solver.train()
    model = Linear()
    model.params["W"] = model.params["W"].astype(np.longdouble)
    with pytest.raises(TypeError, match=r"model.params\['W'\] must be .*; got ndarray of "):
        make_solver(model, checkpoint_name=tmp_path / "run").train()
    assert os.listdir(tmp_path) == []


COURSE = """
import pickle, sys
import numpy as np
from cs231n.classifiers.fc_net import FullyConnectedNet
from cs231n.optim import adam

net = FullyConnectedNet(np.float32)
for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    checkpoint = {
        "model": net, "update_rule": adam, "lr_decay": 0.95, "epoch": 3,
        "optim_config": {"learning_rate": np.float64(0.01)}, "loss_history": [2.5, np.float64(2)],
        "batch_size": 50, "num_train_samples": 1000, "num_val_samples": None,
        "train_acc_history": [0.1], "val_acc_history": [0.2],
    }
    with open(f"{sys.argv[1]}/course_{protocol}_epoch_3.pkl", "wb") as f:
        pickle.dump(checkpoint, f, protocol=protocol)
"""


def test_checkpoint_of_the_course(tmp_path):
    """A package of the course's names, with this test's own code, pickles as the course does."""
    classifiers = tmp_path / "code" / "cs231n" / "classifiers"
    classifiers.mkdir(parents=True)
    (classifiers.parent / "optim.py").write_text(
        "def adam(w, dw, config=None):\n    return w, config"
    )
    (classifiers / "fc_net.py").write_text(
        "import numpy as np\n"
        "class FullyConnectedNet(object):\n"
        "    def __init__(self, dtype):\n"
        "        self.params = {'W1': np.arange(6.0).reshape(2, 3).astype(dtype)}\n"
        "        self.dtype, self.instance = dtype, np.dtype(dtype)\n"
        "        self.bn_params = [{'mode': 'train', 'running_mean': np.ones(3)}]\n"
        "        self.twin = self.bn_params[0]\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code")}
    command = [sys.executable, "-c", COURSE, str(tmp_path)]
    subprocess.run(command, env=environment, check=True, timeout=60)
    paths = sorted(tmp_path.glob("*.pkl"))
    assert len(paths) == pickle.HIGHEST_PROTOCOL + 1
    for path in paths:
        checkpoint = load_checkpoint(path)
        assert checkpoint["update_rule"] == "cs231n.optim.adam"
        assert checkpoint["optim_config"] == {"learning_rate": 0.01}
        assert checkpoint["loss_history"] == [2.5, 2] and checkpoint["epoch"] == 3
        model = checkpoint["model"]
        assert type(model) is dict
        assert model["__class__"] == "cs231n.classifiers.fc_net.FullyConnectedNet"
        assert model["dtype"] == "numpy.float32" and model["instance"] == np.float32
        weights = np.arange(6, dtype=np.float32).reshape(2, 3)
        np.testing.assert_array_equal(model["params"]["W1"], weights, strict=True)
        assert model["twin"] is model["bn_params"][0]
        # A net of the same architecture takes them over.
        net = TwoLayerNet(2, 3)
        net.params["W1"][...] = model["params"]["W1"]
        with pytest.raises(ValueError, match="it lacks random_state, optim_configs, iteration, b"):
            make_solver().resume(path)
        with pytest.raises(ValueError, match="it names .*, which no plain array needs"):
            load_pickle(io.BytesIO(path.read_bytes()))
    assert not any(name.startswith("cs231n") for name in sys.modules)


class Call:
    """Pickles as a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


class Slots:
    __slots__ = ("a",)

    def __init__(self):
        self.a = 1


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_checkpoint_is_not_run(protocol, tmp_path):
    target, path = tmp_path / "created", tmp_path / "run_epoch_1.pkl"
    for evil, reason in (
        (Call(open, str(target), "w"), rf"it calls {open.__module__}\.open"),
        (Call(eval, f"open({str(target)!r}, 'w')"), "it calls "),
        (Call(getattr, Linear, "loss"), "it calls "),
        (range(3), "it calls "),
        (Slots(), "a .*Slots that is more than its attributes"),
        (complex(1, 2), "it calls "),
    ):
        path.write_bytes(pickle.dumps({"model": evil}, protocol=protocol))
        with pytest.raises(ValueError, match=f"is not a readable pickle of plain data: {reason}"):
            load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        # A function called as old classes are made, with arguments and as a class is by name.
        (b"(S'x'\nios\nsystem\n.", "it calls os.system"),
        (b"(cos\nsystem\nS'x'\no.", "it calls os.system"),
        (
            b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85\x81.",
            "it makes a os.system from arguments",
        ),
        # Attributes set on a name, items on an instance, a state that is none.
        (b"\x80\x02cos\nsystem\n}X\x01\x00\x00\x00aK\x01sb.", ""),
        (b"\x80\x02cos\nsystem\n)\x81(K\x01K\x02u.", ""),
        (b"\x80\x02cos\nsystem\n)\x81K\x01b.", "a os.system that is more than its attributes"),
        (b"\x80\x02cos\nsystem\n)\x81}K\x01K\x02sb.", "a os.system that is more than its"),
        # Made on another base than object, or from what is no class.
        (b"ccopy_reg\n_reconstructor\n(cos\nsystem\nc__builtin__\nlist\n(ltR.", "more than its"),
        (b"ccopy_reg\n_reconstructor\n(I1\nc__builtin__\nobject\nNtR.", "more than its attributes"),
        # Objects as bytes, which would be pointers.
        (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
            b"(I1\n(I1\ntcnumpy\ndtype\n(X\x02\x00\x00\x00O8I00\nI01\ntR"
            b"(I3\nX\x01\x00\x00\x00|NNNI8\nI1\nI63\ntbI00\nC\x08AAAAAAAAtb.",
            "an array of objects without a list of them",
        ),
    ],
    ids=range(10),
)
def test_malformed_names(data, reason, tmp_path):
    path = tmp_path / "run_epoch_1.pkl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"is not a readable pickle of plain data: .*{reason}"):
        load_checkpoint(path)


def test_old_style_instance_of_python_2(tmp_path):
    path = tmp_path / "run_epoch_1.pkl"
    path.write_bytes(b"(dS'model'\n(icourse\nNet\n(dS'reg'\nF0.5\nsbs.")
    assert load_checkpoint(path) == {"model": {"__class__": "course.Net", "reg": 0.5}}


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
    for key in make_data():  # the mask would be lost on the way
        data = make_data()
        data[key] = np.ma.masked_equal(data[key], 0)
        with pytest.raises(TypeError, match=rf"data\['{key}'\] must be a plain array; got a m"):
            Solver(Linear(), data)


def test_a_learning_rate_as_an_array_decays_once_an_epoch():
    """It is one object in the configs of all parameters, and the caller's."""
    rate = np.array(0.5)
    model = TwoLayerNet(4, 3, 3)
    training = make_solver(model, num_epochs=2, lr_decay=0.5, optim_config={"learning_rate": rate})
    training.train()
    assert rate == 0.5
    assert {float(c["learning_rate"]) for c in training.optim_configs.values()} == {0.125}


def test_a_decay_beyond_any_integer_of_numpy():
    """It is multiplied by the learning rate, which may be NumPy's."""
    options = {"lr_decay": 1 << 64, "optim_config": {"learning_rate": np.array(2)}}
    training = make_solver(num_epochs=1, **options)
    with np.errstate(all="ignore"):
        training.train()
    assert training.optim_configs["W"]["learning_rate"] == 2.0**65
    with pytest.raises(TypeError, match="lr_decay must be a number; got 1000"):
        make_solver(lr_decay=10**400)


def test_counts_of_any_integer_type():
    """An int8 would overflow where it is multiplied."""
    counts = dict.fromkeys(("batch_size", "num_epochs", "print_every"), np.int8(3))
    training = make_solver(**counts, num_train_samples=np.uint8(7), num_val_samples=np.uint8(7))
    names = (*counts, "num_train_samples", "num_val_samples")
    assert all(type(getattr(training, name)) is int for name in names)
    training.train()
    assert len(training.loss_history) == 3 * (50 // 3)


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
