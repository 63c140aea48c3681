"""Losses over class scores: each returns the loss and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._dtype import working

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..typing import Array


@np.errstate(all="ignore")
def svm_loss(x: ArrayLike, y: ArrayLike) -> tuple[np.float64, Array]:
    """loss = sum over j != y of max(0, x_j - x_y + 1), averaged over the examples."""
    scores, dtype = working(x)
    N = scores.shape[0]
    rows = np.arange(N)
    margins = np.maximum(0, scores - scores[rows, y][:, None] + 1)
    margins[rows, y] = 0
    loss = np.sum(margins, dtype=np.float64) / N  # N = 0: the mean of nothing, NaN
    # Every class inside the margin pulls its own score down and the right one up.
    dx = (margins > 0).astype(scores.dtype)
    dx[rows, y] -= dx.sum(axis=1)
    return dtype.type(loss), (dx / max(N, 1)).astype(dtype, copy=False)


@np.errstate(all="ignore")
def softmax_loss(x: ArrayLike, y: ArrayLike) -> tuple[np.float64, Array]:
    """loss = mean(log(sum exp(x)) - x_y), and dx = (softmax(x) - onehot(y)) / N."""
    scores, dtype = working(x)
    N = scores.shape[0]
    rows = np.arange(N)
    # The largest score becomes 0: exp cannot overflow and its sum is at least 1.
    shifted = scores - scores.max(axis=1, keepdims=True, initial=-np.inf)
    log_sum = np.log(np.sum(np.exp(shifted), axis=1, keepdims=True, dtype=np.float64))
    log_probs = shifted - log_sum
    loss = -np.sum(log_probs[rows, y]) / np.float64(N)
    dx = np.exp(log_probs)
    dx[rows, y] -= 1
    return dtype.type(loss), (dx / max(N, 1)).astype(dtype, copy=False)
