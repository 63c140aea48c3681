"""How much the scale of the initial weights matters, with and without batch normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _plots
from . import _report, _trainings

#: Accuracy within which of the best a weight scale counts as one that works.
_NEAR = 0.1

_PANELS = {
    "best_val_acc": ("Best validation accuracy", "share of images"),
    "best_train_acc": ("Best training accuracy", "share of images"),
    "final_loss": ("Final training loss", "mean of up to 100 last steps"),
}


def run(
    data: Any = None,
    *,
    normalization: str = "batchnorm",
    hidden: Sequence[int] = (50,) * 7,
    weight_scales: Sequence[float] = tuple(np.logspace(-4, 0, 20).tolist()),
    num_train: int = 1000,
    epochs: int = 10,
    batch_size: int = 50,
    learning_rate: float = 1e-3,
    dtype: str = "float32",
    seed: int = 231,
    out: Any = None,
    n_jobs: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Train a deep net from weights of many scales, with and without normalization.

    Parameters
    ----------
    data : path or mapping, optional
        Folder of the CIFAR-10 batches, or ``X_train``, ``y_train``, ``X_val`` and ``y_val`` as of
        :mod:`fastbn.data_utils`. By default the digits that come with scikit-learn.
    normalization : {"batchnorm", "layernorm"}, default "batchnorm"
        What to compare with none.
    hidden : sequence of int, default seven of 50
        Widths of the hidden layers.
    weight_scales : sequence of float, default twenty from 1e-4 to 1
        Standard deviations of the initial weights, at even distances of their logarithms.
    num_train : int, default 1000
        Training images, the first of those there are.
    epochs, batch_size : int, default 10 and 50
        Length of a training, and images of one step.
    learning_rate : float, default 1e-3
        Of Adam.
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
        As of :func:`fastbn.experiments.batchnorm.run`. For each scale there is a training with
        normalization and one without.

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
    Every training starts its own stream at `seed`: the initial weights differ by their scale alone,
    and the batches are the same.

    Examples
    --------
    >>> from fastbn.experiments import weight_scale
    >>> options = {"weight_scales": [1e-3, 1e-1], "hidden": [20, 20], "num_train": 200, "epochs": 1}
    >>> result = weight_scale.run(**options)
    >>> [training["weight_scale"] for training in result["trainings"]]
    [0.001, 0.001, 0.1, 0.1]
    """
    scales = [
        _trainings.number("weight_scales", scale, zero=False)
        for scale in _trainings.sequence("weight_scales", weight_scales, 1)
    ]
    options: dict[str, Any] = {
        "normalization": normalization,
        "hidden": hidden,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "dtype": dtype,
        "seed": seed,
    }
    common = _trainings.checked(**options, weight_scale=scales[0])
    data = _trainings.read(data, num_train, dtype)
    trainings = [
        common._replace(weight_scale=scale, normalization=kind)
        for scale in scales
        for kind in (normalization, None)
    ]
    records = _trainings.run_all(trainings, data, out, n_jobs, progress)
    options = common.options(options) | {"weight_scales": scales}
    return _trainings.result("weight-scale", data, options, records)


def plot(result: dict[str, Any]) -> Any:
    """Draw the best accuracies and the final loss against the scale.

    Parameters
    ----------
    result : dict
        What `run` returned.

    Returns
    -------
    matplotlib.figure.Figure
        Not of pyplot.
    """
    title = f"{_report.title(result)}, batch {result['options']['batch_size']}"
    figure, panels = _plots.panels(title, 12, 4.5, 3)
    for axes, (key, (title, ylabel)) in zip(panels, _PANELS.items(), strict=True):
        for i, (name, trainings) in enumerate(_by_normalization(result).items()):
            # A loss that diverged leaves a gap.
            values = [np.nan if t[key] is None else t[key] for t in trainings]
            scales = [t["weight_scale"] for t in trainings]
            axes.plot(scales, values, label=name, **_plots.style(i), **_plots.marker(i))
        axes.set(title=title, ylabel=ylabel, xlabel="weight scale", xscale="log")
        axes.grid(alpha=0.3)
    _plots.log_scale(panels[2])
    _plots.legend_below(figure, panels[0])
    return figure


def _by_normalization(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    trainings = result["trainings"]
    return {_report.name(trainings[i]["normalization"]): trainings[i::2] for i in (0, 1)}


def table(result: dict[str, Any]) -> str:
    """Return the accuracies and losses as lines of text.

    Parameters
    ----------
    result : dict
        What `run` returned.

    Returns
    -------
    str
        A line for each scale, below two of titles.
    """
    short = (result["options"]["normalization"], "none")
    headers = ["weight scale", *(f"{what} {s}" for what in ("val", "train", "loss") for s in short)]
    rows = []
    for pair in zip(*_by_normalization(result).values(), strict=True):
        row = [f"{pair[0]['weight_scale']:.2e}"]
        for key in ("best_val_acc", "best_train_acc"):
            row += [_report.percent(training[key]) for training in pair]
        rows.append([*row, *(_report.loss(training["final_loss"]) for training in pair)])
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
    groups = _by_normalization(result)
    best = max(training["best_val_acc"] for training in result["trainings"])
    near, near_plain = (
        sum(training["best_val_acc"] >= best - _NEAR for training in trainings)
        for trainings in groups.values()
    )
    name, total = next(iter(groups)), len(result["trainings"]) // 2
    effect = "no more and no less"
    if near != near_plain:
        effect = "less" if near > near_plain else "more"
    return (
        f"With {name} {near} of {total} weight scales come within 10 points of the best validation "
        f"accuracy ({_report.percent(best)}), without it {near_plain}: by this count it makes the "
        f"training depend {effect} on the weight scale."
    )
