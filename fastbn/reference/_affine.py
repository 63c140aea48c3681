"""Fully connected layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._dtype import working

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..typing import Array, Cache


@np.errstate(all="ignore")
def affine_forward(x: ArrayLike, w: ArrayLike, b: ArrayLike) -> tuple[Array, Cache]:
    """out = rows(x) @ w + b, where rows(x) flattens every example into one row."""
    rows, weights, bias, dtype = working(x, w, b)
    rows = rows.reshape(rows.shape[0], weights.shape[0])
    out = rows @ weights + bias
    return out.astype(dtype, copy=False), (x, w, b)


@np.errstate(all="ignore")
def affine_backward(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """dx = dout @ w.T in the shape of x, dw = rows(x).T @ dout, db = column sums of dout."""
    x, w, b = cache
    dout, rows, weights, _, dtype = working(dout, x, w, b)
    shape = rows.shape
    rows = rows.reshape(shape[0], weights.shape[0])
    dx = (dout @ weights.T).reshape(shape)
    dw = rows.T @ dout
    db = dout.sum(axis=0, dtype=np.float64)
    return dx.astype(dtype, copy=False), dw.astype(dtype, copy=False), db.astype(dtype, copy=False)
