"""Images as a grid, and figures of training runs and filters.

The figures are drawn without pyplot: each is an object of its own (``figure.savefig(path)``; as the
last line of a notebook's cell it shows itself), and no global state is left behind. Matplotlib is
imported when one is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _check, _plots

__all__ = [
    "np",
    "visualize_grid",
    "vis_grid",
    "vis_nn",
    "plot_history",
    "plot_comparison",
    "plot_filters",
]

_GAP = (0.34, 0.71, 0.91)  # colour between filters

_HISTORIES = ("loss_history", "train_acc_history", "val_acc_history")


def visualize_grid(
    Xs: npt.ArrayLike, ubound: float = 255.0, padding: int = 1
) -> npt.NDArray[np.float64]:
    """Put images into a square grid, each scaled to its own range.

    Parameters
    ----------
    Xs : array_like, (N, H, W, C)
        Images, N >= 1.
    ubound : float, default 255.0
        Each image is scaled to 0 to `ubound`. One whose pixels are all alike becomes 0.
    padding : int, default 1
        Pixels of 0 between the images; there is no border around the grid.

    Returns
    -------
    ndarray of float64, (A * (H + padding) - padding, A * (W + padding) - padding, C)
        A = ceil(sqrt(N)) rows and columns, filled row by row; places without an image are 0.

    Raises
    ------
    ValueError
        If `Xs` is not 4-D, has no image or pixel, or holds NaN or infinity; if `ubound` is not
        finite or `padding` is negative.
    TypeError
        If `Xs` does not hold real numbers, `ubound` is not a number or `padding` is no integer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.vis_utils import visualize_grid
    >>> visualize_grid(np.zeros((5, 8, 8, 3))).shape  # 3 x 3 places, one line between them
    (26, 26, 3)
    """
    images = _images("Xs", Xs).astype(np.float64)
    ubound = _check.real("ubound", ubound)
    if not math.isfinite(ubound):
        raise ValueError(f"ubound must be finite; got {ubound}")
    padding = _check.integer("padding", padding, 0)
    low = images.min(axis=(1, 2, 3), keepdims=True)
    span = images.max(axis=(1, 2, 3), keepdims=True) - low
    images = ubound * ((images - low) / np.where(span == 0, 1, span))
    side = math.ceil(math.sqrt(len(images)))
    grid = _tile(images, side, side, padding, 0.0)
    return grid[: len(grid) - padding, : grid.shape[1] - padding]


def vis_grid(Xs: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """Put images into a square grid, all scaled together to 0 to 1.

    Parameters
    ----------
    Xs : array_like, (N, H, W, C)
        Images, N >= 1.

    Returns
    -------
    ndarray, (A * (H + 1), A * (W + 1), C)
        A = ceil(sqrt(N)) rows and columns, filled row by row; float64, or float32 if `Xs` is. Below
        and to the right of each image lies a line of 0, which is also where there is no image. If
        all pixels are alike, everything is 0.

    Raises
    ------
    ValueError
        If `Xs` is not 4-D, has no image or pixel, or holds NaN or infinity.
    TypeError
        If `Xs` does not hold real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.vis_utils import vis_grid
    >>> vis_grid(np.zeros((4, 8, 8, 3))).shape
    (18, 18, 3)
    """
    images = _images("Xs", Xs)
    side = math.ceil(math.sqrt(len(images)))
    return _to_unit(_tile(images, side, side, 1, images.min()))


def vis_nn(rows: Sequence[Sequence[npt.ArrayLike]]) -> npt.NDArray[np.floating]:
    """Put rows of images below one another, all scaled together to 0 to 1.

    Parameters
    ----------
    rows : sequence of sequences of array_like, (H, W, C)
        As many images of one shape in every row; for instance an image and its nearest neighbours.

    Returns
    -------
    ndarray, (R * (H + 1), D * (W + 1), C)
        For R rows of D images; float64, or float32 if the images are. Below and to the right of
        each image lies a line of what 1 becomes in the scaling: white for pixels of 0 to 1.

    Raises
    ------
    ValueError
        If there is no image or pixel, the rows differ in length or the images in shape, an image is
        not 3-D, or holds NaN or infinity.
    TypeError
        If the images do not hold real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.vis_utils import vis_nn
    >>> vis_nn([[np.zeros((8, 8, 3))] * 3] * 2).shape
    (18, 27, 3)
    """
    stack, R, D = _stacked(rows)
    return _to_unit(_tile(_images("rows", stack), R, D, 1, 1))


def _stacked(rows: Any) -> tuple[npt.NDArray[Any], int, int]:
    """The images of all rows as one array, how many rows, and how many images in each."""
    if isinstance(rows, np.ndarray) and rows.ndim == 5:  # no list of images, however many
        R, D, *shape = rows.shape
        return rows.reshape(R * D, *shape), R, D
    lengths = [len(row) for row in rows]
    if not lengths or len(set(lengths)) > 1:
        raise ValueError(f"rows must be one or more rows of one length; got the lengths {lengths}")
    arrays = [np.asarray(image) for row in rows for image in row]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) != 1:
        raise ValueError(f"rows must hold images of one shape; got the shapes {shapes}")
    return np.stack(arrays), len(lengths), lengths[0]


def _images(name: str, value: npt.ArrayLike) -> npt.NDArray[Any]:
    """Checked images (N, H, W, C), float64 or float32."""
    images = np.asarray(value)
    if images.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers; got dtype {images.dtype}")
    if images.ndim != 4 or images.size == 0:
        raise ValueError(
            f"{name} must be images (N, H, W, C) with at least one pixel; got shape {images.shape}"
        )
    images = images.astype(np.float32 if images.dtype == np.float32 else np.float64, copy=False)
    if not np.isfinite(images).all():
        raise ValueError(f"{name} must be finite; it holds NaN or infinity")
    return images


def _tile(
    images: npt.NDArray[Any], rows: int, columns: int, gap: int, background: float
) -> npt.NDArray[Any]:
    """Images row by row, each with `gap` lines of background below and to the right of it."""
    N, H, W, C = images.shape
    cells = np.full((rows * columns, H + gap, W + gap, C), background, images.dtype)
    cells[:N, :H, :W] = images
    grid = cells.reshape(rows, columns, H + gap, W + gap, C).swapaxes(1, 2)
    return grid.reshape(rows * (H + gap), columns * (W + gap), C)


def _to_unit(grid: npt.NDArray[Any]) -> npt.NDArray[Any]:
    low = grid.min()
    span = grid.max() - low
    unit: npt.NDArray[Any] = (grid - low) / (span if span else grid.dtype.type(1))
    return unit


def plot_history(history: Any, title: str | None = None) -> Any:
    """Draw the loss of every step and the accuracies of every epoch of one training.

    Parameters
    ----------
    history : Solver or mapping
        With ``loss_history``, ``train_acc_history`` and ``val_acc_history``. A loss of None,
        NaN or beyond 1e100 leaves a gap.
    title : str, optional
        Above both panels.

    Returns
    -------
    matplotlib.figure.Figure
        Not of pyplot.

    Raises
    ------
    TypeError, KeyError
        If `history` has no such histories, or one does not hold real numbers.
    ValueError
        If a history has not one axis.
    """
    losses, train, val = _histories(history)
    figure, (left, right) = _plots.panels(title, 10, 4.5, 2)
    steps = np.arange(1, len(losses) + 1)
    smooth, window = _running_mean(losses)
    left.plot(steps, losses, color=_plots.COLOURS[0], alpha=0.35, linewidth=0.8, label="each step")
    left.plot(steps, smooth, color=_plots.COLOURS[0], linewidth=2, label=f"mean of {window} steps")
    left.set(title="Training loss", xlabel="step", ylabel="loss")
    for i, (name, values) in enumerate((("training", train), ("validation", val))):
        right.plot(values, color=_plots.COLOURS[i], label=name, **_plots.marker(i))
    right.set(title="Accuracy", xlabel="epoch", ylabel="share of images")
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        # Below the panel, where no curve is.
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    return figure


def plot_comparison(histories: Mapping[str, Any], title: str | None = None) -> Any:
    """Draw several trainings together: loss, training accuracy and validation accuracy.

    Parameters
    ----------
    histories : mapping of str to Solver or mapping
        Label to what has ``loss_history``, ``train_acc_history`` and ``val_acc_history``; one or
        more.
    title : str, optional
        Above the three panels.

    Returns
    -------
    matplotlib.figure.Figure
        Not of pyplot. The losses are running means, on a logarithmic axis, against epochs, so that
        trainings of different batch sizes can be compared.

    Raises
    ------
    ValueError
        If there are no histories.
    TypeError, KeyError
        If `histories` is no mapping, or one of them lacks one of the three.
    """
    if not isinstance(histories, Mapping):
        raise TypeError(f"histories must be a mapping; got {type(histories).__name__}")
    if not histories:
        raise ValueError("histories must have at least one training; got none")
    figure, panels = _plots.panels(title, 12, 4.5, 3)
    for i, (label, history) in enumerate(histories.items()):
        losses, train, val = _histories(history)
        style, marker = {**_plots.style(i), "label": label}, _plots.marker(i)
        # The accuracies are of step 1 and of the end of every epoch.
        epochs = max(len(train) - 1, 1)
        steps = np.arange(1, len(losses) + 1) * (epochs / max(len(losses), 1))
        panels[0].plot(steps, _running_mean(losses)[0], **style)
        panels[1].plot(train, **style, **marker)
        panels[2].plot(val, **style, **marker)
    panels[0].set(title="Training loss, running mean", ylabel="loss")
    _plots.log_scale(panels[0])
    panels[1].set(title="Training accuracy", ylabel="share of images")
    panels[2].set(title="Validation accuracy", ylabel="share of images")
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _plots.legend_below(figure, panels[1])
    return figure


def plot_filters(w: npt.ArrayLike, title: str | None = None) -> Any:
    """Draw the filters of a convolution as an image grid.

    Parameters
    ----------
    w : array_like, (F, C, HH, WW)
        Filters, for instance ``net.params["W1"]`` of a `ThreeLayerConvNet`. Those of three channels
        are drawn in colour, of any other number each channel in grey. Every image is scaled to its
        own range.
    title : str, optional
        Above the grid.

    Returns
    -------
    matplotlib.figure.Figure
        Not of pyplot.

    Raises
    ------
    ValueError
        If `w` is not 4-D, is empty, or holds NaN or infinity.
    TypeError
        If `w` does not hold real numbers.
    """
    w = np.asarray(w)
    if w.ndim != 4 or w.size == 0:
        raise ValueError(f"w must be filters (F, C, HH, WW), not empty; got shape {w.shape}")
    if w.shape[1] != 3:
        w = w.reshape(-1, 1, *w.shape[2:])
    images = _images("w", w.transpose(0, 2, 3, 1))
    grid = visualize_grid(images, ubound=1.0)
    side = math.ceil(math.sqrt(len(images)))
    there = _tile(np.ones_like(images[..., 0:1]), side, side, 1, 0)[:-1, :-1, 0] > 0
    # Black would be taken for pixels.
    grid = np.where(there[..., None], grid, _GAP)[: np.flatnonzero(there.any(axis=1))[-1] + 1]
    figure, (axes,) = _plots.panels(title, 5, 0.4 + 5 * grid.shape[0] / grid.shape[1], 1)
    axes.imshow(grid, vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    return figure


#: A loss from which on it is as good as infinite: logarithmic axes end near 1e300, with a margin.
_DIVERGED = 1e100


def _histories(history: Any) -> list[npt.NDArray[np.float64]]:
    """The three histories as arrays, None as NaN."""
    if isinstance(history, Mapping):
        values = [_check.key(history, "history", name) for name in _HISTORIES]
    elif all(hasattr(history, name) for name in _HISTORIES):
        values = [getattr(history, name) for name in _HISTORIES]
    else:
        raise TypeError(
            f"history must be a Solver or a mapping with {', '.join(_HISTORIES)}; "
            f"got {type(history).__name__}"
        )
    arrays = []
    for name, value in zip(_HISTORIES, values, strict=True):
        array = np.asarray(value)
        if array.dtype.kind not in "biufO":  # O: of numbers and None
            raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}")
        if array.ndim != 1:
            raise ValueError(f"{name} must have one axis; got shape {array.shape}")
        arrays.append(array.astype(np.float64))
    arrays[0][~(np.abs(arrays[0]) < _DIVERGED)] = np.nan
    return arrays


def _running_mean(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], int]:
    """Means over the steps around each, at both ends over those that exist; and how many."""
    width = max(3, len(values) // 50 | 1)
    window = np.ones(width)

    def around(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        # "same" would be as long as the longer of the two.
        return np.convolve(numbers, window)[width // 2 : width // 2 + len(numbers)]

    if not len(values):
        return values, width
    return around(values) / around(np.ones(len(values))), width
