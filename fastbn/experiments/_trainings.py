"""Trainings of fully connected nets that do not depend on one another."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _check, _ext, config, data_utils
from ..classifiers.fc_net import FullyConnectedNet
from ..solver import Solver, _check_data
from ._parallel import progress_bar, side_by_side
from ._store import Store

_NORMALIZATIONS = ("batchnorm", "layernorm")
_FINAL = 100  # steps that the final loss is a mean of, as in the course


class Data(NamedTuple):
    """Training and validation set of an experiment."""

    name: str
    arrays: dict[str, npt.NDArray[Any]]
    digest: str


class Training(NamedTuple):
    """What the result of a training depends on, the data and the versions aside."""

    normalization: str | None
    hidden: tuple[int, ...]
    weight_scale: float
    batch_size: int
    learning_rate: float
    epochs: int
    dtype: str
    seed: int
    # A notebook of the course trains several nets one after the other, on one stream of random
    # numbers. What it draws for others before this net's weights, and before its first batch:
    nets_before: int = 0
    nets_after: int = 0
    steps_before: int = 0

    def options(self, names: Iterable[str]) -> dict[str, Any]:
        """Those of its options, as JSON has them."""
        return {
            name: list(v) if name == "hidden" else v
            for name, v in self._asdict().items()
            if name in names
        }

    def steps(self, data: Data) -> int:
        return self.epochs * max(len(data.arrays["y_train"]) // self.batch_size, 1)


def read(data: Any, num_train: int, dtype: str) -> Data:
    """Return the data of an experiment.

    `data` is None for the digits, the path of a folder with CIFAR-10, a mapping with ``X_train``,
    ``y_train``, ``X_val`` and ``y_val``, or what this function returned. The first `num_train`
    training images are used, as in the course, and all validation images.
    """
    if isinstance(data, Data):
        return data
    num_train = _check.integer("num_train", num_train, 1)
    check_dtype(dtype)
    if data is None:
        name, arrays = "digits", data_utils.get_digits_data()
    elif isinstance(data, Mapping):
        name, arrays = "own data", data
    elif isinstance(data, (str, os.PathLike)):
        name, arrays = "CIFAR-10", data_utils.get_CIFAR10_data(cifar10_dir=data)
    else:
        raise TypeError(f"data must be a folder, a mapping or None; got {data!r}")
    _check_data(arrays)
    there = len(arrays["y_train"])
    if num_train > there:
        raise ValueError(
            f"num_train must be at most {there}, the training images of {name}; got {num_train}"
        )
    digest = hashlib.sha256()
    chosen = {}
    for key, number in (("X_train", num_train), ("y_train", num_train), ("X_val", None),
                        ("y_val", None)):  # fmt: skip
        array = np.asarray(arrays[key])[:number]
        if array.dtype.kind not in "biuf":
            raise TypeError(f"data[{key!r}] must hold real numbers; got dtype {array.dtype}")
        # The net would cast each batch to its dtype: the same numbers, again and again. A copy,
        # so that the whole of CIFAR-10 can go.
        array = array.astype(dtype) if key.startswith("X") else array.copy()
        chosen[key] = array
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return Data(name, chosen, digest.hexdigest())


def checked(normalization: str, **common: Any) -> Training:
    """A checked training, from which an experiment makes its own with ``_replace``."""
    if normalization not in _NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {_NORMALIZATIONS}; got {normalization!r}")
    hidden = sequence("hidden", common.pop("hidden"), 0)
    hidden = tuple(_check.integer("hidden", width, 1) for width in hidden)
    for name in ("batch_size", "epochs"):
        common[name] = _check.integer(name, common[name], 1)
    for name in ("learning_rate", "weight_scale"):
        common[name] = number(name, common[name])
    common["seed"] = _check.integer("seed", common["seed"], 0)
    if common["seed"] >= 2**32:
        raise ValueError(f"seed must be at most {2**32 - 1}; got {common['seed']}")
    return Training(normalization, hidden, **common)


def check_dtype(dtype: Any) -> None:
    # By name, as it is written to files.
    if not isinstance(dtype, str) or dtype not in ("float32", "float64"):
        raise ValueError(f"dtype must be 'float32' or 'float64'; got {dtype!r}")


def sequence(name: str, value: Any, least: int) -> list[Any]:
    """A list of what is not text, of at least so many."""
    if not np.iterable(value) or isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a sequence of numbers; got {value!r}")
    values = list(value)
    if len(values) < least:
        raise ValueError(f"{name} must hold at least {least}; got none")
    return values


def number(name: str, value: Any, zero: bool = True) -> float:
    """A finite number of at least 0, or above 0."""
    number = _check.real(name, value)
    if not 0 <= number < math.inf or (number == 0 and not zero):
        rule = "not negative" if zero else "positive"
        raise ValueError(f"{name} must be finite and {rule}; got {value!r}")
    return number


def run_all(
    trainings: Sequence[Training],
    data: Data,
    out: str | os.PathLike[str] | None,
    n_jobs: int | None,
    progress: bool,
) -> list[dict[str, Any]]:
    """Return a record for every training, those that `out` holds already without training anew."""
    if n_jobs is not None:
        n_jobs = _check.integer("n_jobs", n_jobs, -math.inf)
    store = Store(out, "trainings")
    # CPU levels round differently.
    where = {"versions": config.show_config("dict")["versions"], "level": _ext.level}
    keys = [
        {"training": training._asdict(), "data": data.digest, **where} for training in trainings
    ]
    records = [store.load(key) for key in keys]
    todo = [number for number, record in enumerate(records) if record is None]
    steps = [training.steps(data) for training in trainings]
    done = sum(steps) - sum(steps[number] for number in todo)
    with progress_bar(sum(steps), done, "step", progress) as bar:
        arguments = ((trainings[number], data) for number in todo)
        for i, record in side_by_side(train, arguments, n_jobs):
            number = todo[i]
            store.save(keys[number], record)
            records[number] = record
            bar.update(steps[number])
    return records


def train(training: Training, data: Data) -> dict[str, Any]:
    """Train one net; return its options, histories and what they come to, all strict JSON."""
    # Views as plain arrays of what joblib may have mapped into memory.
    arrays = {key: np.asarray(array) for key, array in data.arrays.items()}

    def draw_net() -> FullyConnectedNet:
        return FullyConnectedNet(
            training.hidden,
            input_dim=arrays["X_train"][0].size,
            normalization=training.normalization,
            weight_scale=training.weight_scale,
            dtype=training.dtype,
        )

    # A training may diverge, or its weights be too large for the dtype: that is a result.
    with np.errstate(all="ignore"):
        np.random.seed(training.seed)
        for _ in range(training.nets_before):
            draw_net()
        solver = Solver(
            draw_net(),
            arrays,
            update_rule="adam",
            optim_config={"learning_rate": training.learning_rate},
            batch_size=training.batch_size,
            num_epochs=training.epochs,
            # All, rather than a sample, for which the stream would be drawn from.
            num_train_samples=None,
            verbose=False,
        )
        for _ in range(training.nets_after):
            draw_net()
        for _ in range(training.steps_before):
            np.random.choice(len(arrays["y_train"]), training.batch_size)
        solver.train()

    losses = [_finite(loss) for loss in solver.loss_history]
    last = losses[-_FINAL:]
    finite = [loss for loss in last if loss is not None]
    return {
        **training._asdict(),
        "hidden": list(training.hidden),
        "loss_history": losses,
        "train_acc_history": [float(accuracy) for accuracy in solver.train_acc_history],
        "val_acc_history": [float(accuracy) for accuracy in solver.val_acc_history],
        "best_train_acc": float(max(solver.train_acc_history)),
        "best_val_acc": float(max(solver.val_acc_history)),
        "final_loss": _finite(math.fsum(finite) / len(last)) if len(finite) == len(last) else None,
    }


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def result(
    experiment: str, data: Data, options: dict[str, Any], records: list[dict[str, Any]]
) -> dict[str, Any]:
    """What an experiment returns."""
    return {
        "experiment": experiment,
        "data": data.name,
        "num_train": len(data.arrays["y_train"]),
        "options": options,
        "versions": config.show_config("dict")["versions"],
        "trainings": records,
    }
