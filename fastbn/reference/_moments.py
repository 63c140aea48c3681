"""Mean and variance, and the gradient through them: what all the normalizations share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..typing import Array


def mean_over(a: Array, axis: int) -> Any:
    """Mean over `axis` (kept, length 1), summed in float64; 0 where there is nothing to average."""
    total = np.sum(a, axis=axis, dtype=np.float64, keepdims=True)
    return total / max(a.shape[axis], 1)


def subtract(x: Array, mean: Array) -> Array:
    """x - mean in the dtype of x, rounded once.

    A float32 cannot hold the mean of large values well enough (near 1e6 its steps are 0.06), so
    the difference is taken with the float64 mean and only then rounded.
    """
    return np.subtract(x, mean, out=np.empty_like(x), casting="same_kind")


def centre(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """Return x - mean (dtype of x), the mean and the biased variance (float64, axis kept)."""
    mean = mean_over(x, axis)
    centred = subtract(x, mean)
    # The second pass over the centred values is what keeps mean(x^2) - mean(x)^2, and with it
    # the cancellation of two large numbers, out of the variance.
    var = mean_over(np.square(centred, dtype=np.float64), axis)
    return centred, mean, var


def normalize_backward(dxhat: Array, xhat: Array, std: Array, axis: int) -> Any:
    """Gradient of xhat = (x - mean) / std, where mean and std depend on x along `axis`.

    dx = (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)) / std
    """
    dtype = dxhat.dtype
    slope = mean_over(dxhat * xhat, axis).astype(dtype)
    return (subtract(dxhat, mean_over(dxhat, axis)) - xhat * slope) / std.astype(dtype)
