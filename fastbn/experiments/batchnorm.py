"""A deep net with and without batch normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..vis_utils import plot_comparison
from . import _report, _trainings


def run(
    data: Any = None,
    *,
    normalization: str = "batchnorm",
    hidden: Sequence[int] = (100,) * 5,
    num_train: int = 1000,
    epochs: int = 10,
    batch_size: int = 50,
    learning_rate: float = 1e-3,
    weight_scale: float = 2e-2,
    dtype: str = "float32",
    seed: int = 231,
    out: Any = None,
    n_jobs: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train a fully connected net with and without normalization.

    Parameters
    ----------
    data : path or mapping, optional
        Folder of the CIFAR-10 batches, or ``X_train``, ``y_train``, ``X_val`` and ``y_val`` as of
        :mod:`fastbn.data_utils`. By default the digits that come with scikit-learn.
    normalization : {"batchnorm", "layernorm"}, default "batchnorm"
        What to compare with none.
    hidden : sequence of int, default five of 100
        Widths of the hidden layers.
    num_train : int, default 1000
        Training images, the first of those there are.
    epochs, batch_size : int, default 10 and 50
        Length of a training, and images of one step.
    learning_rate : float, default 1e-3
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
        Plain data, as `json` writes it: ``experiment``, ``data``, ``num_train``, ``options``,
        ``versions`` and ``trainings``, the normalized net's first. A training has its options,
        ``loss_history``, ``train_acc_history``, ``val_acc_history``, ``best_train_acc``,
        ``best_val_acc`` and ``final_loss``, the mean of up to 100 last steps; a loss that is not
        finite is None.

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
    The random numbers are those of the course's notebook, where one stream serves both nets in
    turn; so with CIFAR-10 its figures come out. Results are the same, to the bit, whatever `n_jobs`
    and the backend.

    Examples
    --------
    >>> from fastbn.experiments import batchnorm
    >>> result = batchnorm.run(hidden=[20, 20], num_train=200, epochs=1)
    >>> len(result["trainings"])
    2
    >>> print(batchnorm.conclusion(result))
    Within 1 epoch batch normalization ...
    """
    options: dict[str, Any] = {
        "normalization": normalization,
        "hidden": hidden,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_scale": weight_scale,
        "dtype": dtype,
        "seed": seed,
    }
    normalized = _trainings.checked(**options)
    data = _trainings.read(data, num_train, dtype)
    normalized = normalized._replace(nets_after=1)
    plain = normalized._replace(
        normalization=None, nets_before=1, nets_after=0, steps_before=normalized.steps(data)
    )
    records = _trainings.run_all([normalized, plain], data, out, n_jobs, progress)
    options = normalized.options(options)
    return _trainings.result("batchnorm", data, options, records)


def plot(result: dict[str, Any]) -> Any:
    """Draw the losses and accuracies of both nets.

    Parameters
    ----------
    result : dict
        What `run` returned.

    Returns
    -------
    matplotlib.figure.Figure
        Not of pyplot.
    """
    histories = {_report.name(t["normalization"]): t for t in result["trainings"]}
    batch_size = result["options"]["batch_size"]
    return plot_comparison(histories, f"{_report.title(result)}, batch {batch_size}")


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
    headers = ("", "first loss", "final loss", "best training", "best validation")
    rows = [
        (
            _report.name(training["normalization"]),
            _report.loss(training["loss_history"][0]),
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
    normalized, plain = result["trainings"]
    effect = _report.effect(
        normalized["normalization"], normalized["best_val_acc"], plain["best_val_acc"]
    )
    return f"Within {_report.epochs(result)} {effect}."
