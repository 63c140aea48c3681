"""Figures; Matplotlib is imported when one is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np


def _around(values: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Sums over the window around each value."""
    # "same" would be as long as the longer of the two.
    half = len(window) // 2
    return np.convolve(values, window)[half : half + len(values)]


def plot_history(history: dict[str, Any]) -> Any:
    """Draw the loss of every step and the accuracies of every epoch."""
    # Not pyplot: a Figure of its own draws with Agg and leaves no global state.
    from matplotlib.figure import Figure

    options = history["options"]
    figure = Figure(figsize=(10, 4), layout="constrained")
    widths = "-".join(str(width) for width in options["hidden"]) or "no hidden layer"
    figure.suptitle(
        f"{'CIFAR-10' if options['data'] else 'Digits'}: {widths}, "
        f"normalization {options['normalization']}, {options['optimizer']}"
    )
    left, right = figure.subplots(1, 2)

    losses = np.array(history["loss_history"])
    steps = np.arange(1, len(losses) + 1)
    # A mean over the steps around; at both ends over those that exist.
    window = np.ones(max(3, len(losses) // 50 | 1))
    smooth = _around(losses, window) / _around(np.ones_like(losses), window)
    left.plot(steps, losses, color="tab:blue", alpha=0.4, linewidth=0.8, label="each step")
    left.plot(steps, smooth, color="tab:blue", linewidth=2, label=f"mean of {len(window)} steps")
    left.set(title="Training loss", xlabel="step", ylabel="loss")

    epochs = np.arange(len(history["train_acc_history"]))
    right.plot(epochs, history["train_acc_history"], "o-", markersize=4, label="training")
    right.plot(epochs, history["val_acc_history"], "s-", markersize=4, label="validation")
    right.set(title="Accuracy", xlabel="epoch", ylabel="accuracy")
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure
