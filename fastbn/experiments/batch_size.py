"""How much the batch size matters to batch normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import _check
from ..vis_utils import plot_comparison
from . import _report, _trainings


def run(
    data: Any = None,
    *,
    normalization: str = "batchnorm",
    hidden: Sequence[int] = (100,) * 5,
    batch_sizes: Sequence[int] = (5, 10, 50),
    num_train: int = 1000,
    epochs: int = 10,
    learning_rate: float = 10**-3.5,
    weight_scale: float = 2e-2,
    dtype: str = "float32",
    seed: int = 231,
    out: Any = None,
    n_jobs: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train a normalized net with several batch sizes, and one without normalization.

    Parameters
    ----------
    data : path or mapping, optional
        Folder of the CIFAR-10 batches, or ``X_train``, ``y_train``, ``X_val`` and ``y_val`` as of
        :mod:`fastbn.data_utils`. By default the digits that come with scikit-learn.
    normalization : {"batchnorm", "layernorm"}, default "batchnorm"
        What to compare with none.
    hidden : sequence of int, default five of 100
        Widths of the hidden layers.
    batch_sizes : sequence of int, default (5, 10, 50)
        Images of one step. The net without normalization gets the first.
    num_train : int, default 1000
        Training images, the first of those there are.
    epochs : int, default 10
        Length of a training. A smaller batch means more steps.
    learning_rate : float, default 10**-3.5
        Of Adam.
    weight_scale : float, default 2e-2
        Standard deviation of the initial weights.
    dtype : {"float32", "float64"}, default "float32"
        Of the nets.
    seed : int, default 231
        Of the stream of random numbers.
    out : path, optional
        Folder in which each finished training is kept, and looked for before it is begun.
    n_jobs : int, optional
        Trainings side by side, as of joblib, in whatever backend is active there.
    progress : bool, default False
        Show a bar with the time left, on stderr, if tqdm is installed.

    Returns
    -------
    dict
        As of :func:`fastbn.experiments.batchnorm.run`; the training without normalization comes
        first.

    Raises
    ------
    ValueError, TypeError
        For an option out of range or of the wrong type, or data that is not what it should be.
    ImportError
        If joblib or, for the digits, scikit-learn is not installed.
    OSError
        If the data cannot be read or a result not be written.

    Notes
    -----
    Every training starts its own stream at `seed`, and so from the same weights.

    Examples
    --------
    >>> from fastbn.experiments import batch_size
    >>> result = batch_size.run(batch_sizes=[10, 50], hidden=[20, 20], num_train=200, epochs=1)
    >>> [training["batch_size"] for training in result["trainings"]]
    [10, 10, 50]
    """
    sizes = _trainings.sequence("batch_sizes", batch_sizes, 1)
    sizes = [_check.integer("batch_sizes", size, 1) for size in sizes]
    options: dict[str, Any] = {
        "normalization": normalization,
        "hidden": hidden,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "weight_scale": weight_scale,
        "dtype": dtype,
        "seed": seed,
    }
    common = _trainings.checked(**options, batch_size=sizes[0])
    data = _trainings.read(data, num_train, dtype)
    trainings = [
        common._replace(normalization=None),
        *(common._replace(batch_size=size) for size in sizes),
    ]
    records = _trainings.run_all(trainings, data, out, n_jobs, progress)
    options = common.options(options) | {"batch_sizes": sizes}
    return _trainings.result("batch-size", data, options, records)


def _label(training: dict[str, Any]) -> str:
    return f"{_report.name(training['normalization'])}, batch {training['batch_size']}"


def plot(result: dict[str, Any]) -> Any:
    """Draw the losses and accuracies of all nets against epochs.

    Parameters
    ----------
    result : dict
        What `run` returned.

    Returns
    -------
    matplotlib.figure.Figure
        Not of pyplot.
    """
    histories = {_label(training): training for training in result["trainings"]}
    return plot_comparison(histories, _report.title(result))


def table(result: dict[str, Any]) -> str:
    """Return the accuracies and losses as lines of text.

    Parameters
    ----------
    result : dict
        What `run` returned.

    Returns
    -------
    str
        A line for each net, below one of titles.
    """
    headers = ("", "steps", "final loss", "best training", "best validation")
    rows = [
        (
            _label(training),
            str(len(training["loss_history"])),
            _report.loss(training["final_loss"]),
            _report.percent(training["best_train_acc"]),
            _report.percent(training["best_val_acc"]),
        )
        for training in result["trainings"]
    ]
    return _report.table(headers, rows)


def conclusion(result: dict[str, Any]) -> str:
    """Say in a sentence what the data shows.

    Parameters
    ----------
    result : dict
        What `run` returned.

    Returns
    -------
    str
        One sentence.
    """
    plain, *normalized = result["trainings"]
    first = normalized[0]
    best = max(training["best_val_acc"] for training in normalized)
    sizes = [str(t["batch_size"]) for t in normalized if t["best_val_acc"] == best]
    effect = _report.effect(first["normalization"], first["best_val_acc"], plain["best_val_acc"])
    return (
        f"With {_report.name(first['normalization'])} the validation accuracy is highest at batch "
        f"size {_report.listed(sizes)} ({_report.percent(best)}); at batch size "
        f"{first['batch_size']} {effect}."
    )
