"""The notebooks' trainings on CIFAR-10, and the figures that they have printed.

They need the data: ``FASTBN_CIFAR10`` names the folder ``cifar-10-batches-py``, and all of them
then take some five minutes. Without it, the same trainings run on a folder of noise, which shows
that they run and learn.
"""

import os
import pickle

import numpy as np
import pytest

from fastbn.classifiers import FullyConnectedNet, ThreeLayerConvNet
from fastbn.data_utils import get_CIFAR10_data
from fastbn.solver import Solver

FOLDER = os.environ.get("FASTBN_CIFAR10")

published = pytest.mark.skipif(not FOLDER, reason="FASTBN_CIFAR10 names no folder of CIFAR-10")


@pytest.fixture(scope="module")
def cifar10():
    return get_CIFAR10_data(cifar10_dir=FOLDER)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A folder in the format of CIFAR-10: 100 images to train on, 30 to validate."""
    folder, rng = tmp_path_factory.mktemp("cifar-10-batches-py"), np.random.RandomState(0)
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        pixels = rng.randint(256, size=(26, 3072)).astype(np.uint8)
        batch = {"data": pixels, "labels": rng.randint(10, size=26).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return get_CIFAR10_data(100, 30, 26, cifar10_dir=folder)


@pytest.fixture(autouse=True)
def _notebook_seed():
    state = np.random.get_state()
    np.random.seed(231)
    yield
    np.random.set_state(state)


def train(model, data, num_train, **options):
    """A run on the first `num_train` images, all if None."""
    small = {key: data[key][:num_train] for key in ("X_train", "y_train")}
    small |= {key: data[key] for key in ("X_val", "y_val")}
    options = {"update_rule": "adam", "optim_config": {"learning_rate": 1e-3}} | options
    solver = Solver(model, small, verbose=False, **options)
    solver.train()
    return solver


def accuracies(solver, part="train"):
    return getattr(solver, f"{part}_acc_history")


def overfitted_net(data):
    """ConvolutionalNetworks.ipynb: 100 images until it knows them."""
    model = ThreeLayerConvNet(weight_scale=1e-2)
    return train(model, data, 100, num_epochs=15, batch_size=50)


def one_epoch(data):
    """ConvolutionalNetworks.ipynb, the cell after: one epoch over everything."""
    model = ThreeLayerConvNet(weight_scale=0.001, hidden_dim=500, reg=0.001)
    return train(model, data, None, num_epochs=1, batch_size=50)


def with_and_without_batchnorm(data):
    """BatchNormalization.ipynb: both nets are made, then trained, that with batch norm first."""
    nets = [
        FullyConnectedNet([100] * 5, weight_scale=2e-2, normalization=normalization)
        for normalization in ("batchnorm", None)
    ]
    return [train(net, data, 1000, num_epochs=10, batch_size=50) for net in nets]


def with_and_without_dropout(data):
    """Dropout.ipynb."""
    options = {"num_epochs": 25, "batch_size": 100, "optim_config": {"learning_rate": 5e-4}}
    return [
        train(FullyConnectedNet([500], dropout_keep_ratio=keep), data, 500, **options)
        for keep in (1, 0.25)
    ]


RATES = {"sgd": 5e-3, "sgd_momentum": 5e-3, "adam": 1e-3, "rmsprop": 1e-4}


def update_rules(data):
    """FullyConnectedNets.ipynb."""
    return {
        rule: train(
            FullyConnectedNet([100] * 5, weight_scale=5e-2),
            data,
            4000,
            num_epochs=5,
            batch_size=100,
            update_rule=rule,
            optim_config={"learning_rate": rate},
        )
        for rule, rate in RATES.items()
    }


@published
def test_published_convolutional_net(cifar10):
    solver = overfitted_net(cifar10)
    losses = [2.414060, 3.102925, 2.270330, 2.096705, 1.838880, 1.934188, 1.827912, 1.639574]
    np.testing.assert_allclose(solver.loss_history[:8], losses, rtol=0, atol=1e-6)
    for epoch, train_acc, val_acc in (
        (0, 0.200, 0.137),
        (1, 0.140, 0.087),
        (10, 0.900, 0.206),
        (15, 0.990, 0.220),
    ):
        assert accuracies(solver)[epoch] == pytest.approx(train_acc, abs=1e-9)
        assert accuracies(solver, "val")[epoch] == pytest.approx(val_acc, abs=1e-9)
    # The best parameters are back in the net.
    assert solver.check_accuracy(solver.X_train, solver.y_train) == pytest.approx(0.82)
    assert solver.check_accuracy(solver.X_val, solver.y_val) == pytest.approx(0.252)

    # The next cell draws on from here.
    solver = one_epoch(cifar10)
    for iteration, loss in (
        (1, 2.304740),
        (21, 2.098229),
        (41, 1.949788),
        (61, 1.888398),
        (81, 1.877093),
        (101, 1.851877),
        (961, 1.534668),
    ):
        assert solver.loss_history[iteration - 1] == pytest.approx(loss, abs=1e-6)
    assert accuracies(solver)[-1] == pytest.approx(0.504)
    assert accuracies(solver, "val")[-1] == pytest.approx(0.499)
    whole = solver.check_accuracy(cifar10["X_train"], cifar10["y_train"])
    assert whole == pytest.approx(0.4761836734693878, rel=1e-15)


@published
def test_published_batchnorm(cifar10):
    # float32 nets: the first figures are everybody's, later ones go apart by rounding.
    for solver, loss, start, first in zip(
        with_and_without_batchnorm(cifar10),
        (2.340974, 2.302332),
        ((0.107, 0.115), (0.129, 0.131)),
        ((0.314, 0.266), (0.283, 0.250)),
        strict=True,
    ):
        assert solver.loss_history[0] == pytest.approx(loss, abs=2e-6)
        for epoch, figures, bound in ((0, start, 1e-9), (1, first, 0.01)):
            for part, figure in zip(("train", "val"), figures, strict=True):
                assert accuracies(solver, part)[epoch] == pytest.approx(figure, abs=bound)
    assert accuracies(solver)[10] == pytest.approx(0.726, abs=0.05)
    assert accuracies(solver, "val")[10] == pytest.approx(0.335, abs=0.05)


@published
def test_published_dropout(cifar10):
    for solver, loss, start, first in zip(
        with_and_without_dropout(cifar10),
        (7.856643, 17.318478),
        ((0.260, 0.184), (0.230, 0.177)),
        ((0.416, 0.258), (0.378, 0.243)),
        strict=True,
    ):
        assert solver.loss_history[0] == pytest.approx(loss, rel=1e-6)
        for epoch, figures, bound in ((0, start, 1e-9), (1, first, 0.01)):
            for part, figure in zip(("train", "val"), figures, strict=True):
                assert accuracies(solver, part)[epoch] == pytest.approx(figure, abs=bound)


@published
def test_published_update_rules(cifar10):
    # The notebook's draws hang on every cell that was run before: no digits, but the level.
    figures = {
        "sgd": (0.372, 0.319),
        "sgd_momentum": (0.529, 0.369),
        "adam": (0.595, 0.38),
        "rmsprop": (0.532, 0.374),
    }
    for rule, solver in update_rules(cifar10).items():
        for part, figure in zip(("train", "val"), figures[rule], strict=True):
            assert accuracies(solver, part)[-1] == pytest.approx(figure, abs=0.06), rule


def test_the_trainings_run_on_noise(noise):
    assert noise["X_train"].shape == (100, 3, 32, 32) and noise["X_val"].shape == (30, 3, 32, 32)
    solver = overfitted_net(noise)
    assert len(solver.loss_history) == 30 and len(accuracies(solver)) == 16
    assert accuracies(solver)[-1] > 0.5  # classes by chance, known by heart: 0.1 is guessing
    assert len(one_epoch(noise).loss_history) == 2
    for solvers, steps in (
        (with_and_without_batchnorm(noise), 20),
        (with_and_without_dropout(noise), 25),
        (list(update_rules(noise).values()), 5),
    ):
        for solver in solvers:
            assert len(solver.loss_history) == steps
            assert np.isfinite(solver.loss_history).all()
            assert min(solver.loss_history) < solver.loss_history[0]
    normalized, plain = with_and_without_batchnorm(noise)
    assert accuracies(normalized)[-1] > accuracies(plain)[-1]
