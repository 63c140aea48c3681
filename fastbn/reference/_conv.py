"""Convolution (cross-correlation) of images: loop by loop, and as one matrix product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._dtype import working
from ._im2col import (
    col2im_6d_cython,
    col2im_cython,
    im2col_cython,
    output_size,
    pad_images,
    windows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from ..typing import Array, Cache, ConvParam


@np.errstate(all="ignore")
def conv_forward_naive(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: ConvParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """out[n, f, i, j] = b[f] + sum(w[f] * window), the window starting at (i*stride, j*stride)."""
    stride, pad = conv_param["stride"], conv_param["pad"]
    images, filters, bias, dtype = working(x, w, b)
    N, _, H, W = images.shape
    F, _, HH, WW = filters.shape
    out_h, out_w = output_size(H, HH, pad, stride), output_size(W, WW, pad, stride)
    padded = pad_images(images, pad)
    out = np.empty((N, F, out_h, out_w), dtype=dtype)
    for n in range(N):
        for f in range(F):
            for i in range(out_h):
                for j in range(out_w):
                    top, left = i * stride, j * stride
                    window = padded[n, :, top : top + HH, left : left + WW]
                    out[n, f, i, j] = np.sum(window * filters[f], dtype=np.float64) + bias[f]
    return out, (x, w, b, conv_param)


@np.errstate(all="ignore")
def conv_backward_naive(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Every output hands its gradient to its window, its filter and its bias."""
    x, w, b, conv_param = cache[:4]
    stride, pad = conv_param["stride"], conv_param["pad"]
    dout, images, filters, bias, dtype = working(dout, x, w, b)
    N, F, out_h, out_w = dout.shape
    _, _, H, W = images.shape
    _, _, HH, WW = filters.shape
    padded = pad_images(images, pad)
    dpadded, dw, db = np.zeros(padded.shape), np.zeros(filters.shape), np.zeros(bias.shape)
    for n in range(N):
        for f in range(F):
            for i in range(out_h):
                for j in range(out_w):
                    rows = slice(i * stride, i * stride + HH)
                    columns = slice(j * stride, j * stride + WW)
                    dpadded[n, :, rows, columns] += filters[f] * dout[n, f, i, j]
                    dw[f] += padded[n, :, rows, columns] * dout[n, f, i, j]
                    db[f] += dout[n, f, i, j]
    dx = dpadded[:, :, pad : pad + H, pad : pad + W]
    return dx.astype(dtype), dw.astype(dtype), db.astype(dtype)


@np.errstate(all="ignore")
def conv_forward_im2col(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: ConvParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """out = filters @ columns + b, with the columns ordered (out_h, out_w, N)."""
    stride, pad = conv_param["stride"], conv_param["pad"]
    images, filters, bias, dtype = working(x, w, b)
    N, C, H, W = images.shape
    F, _, HH, WW = filters.shape
    out_h, out_w = output_size(H, HH, pad, stride), output_size(W, WW, pad, stride)
    x_cols = im2col_cython(images, HH, WW, pad, stride)
    out = filters.reshape(F, C * HH * WW) @ x_cols + bias.reshape(F, 1)
    out = out.reshape(F, out_h, out_w, N).transpose(3, 0, 1, 2)
    return out.astype(dtype, copy=False), (x, w, b, conv_param, x_cols)


@np.errstate(all="ignore")
def conv_backward_im2col(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """dw = dout @ columns.T, dcolumns = filters.T @ dout, and dx adds the columns back."""
    # The columns are made anew: the fifth item of the cache does not tell its order.
    x, w, b, conv_param = cache[:4]
    stride, pad = conv_param["stride"], conv_param["pad"]
    dout, images, filters, _, dtype = working(dout, x, w, b)
    N, F, out_h, out_w = dout.shape
    _, C, H, W = images.shape
    _, _, HH, WW = filters.shape
    x_cols = im2col_cython(images, HH, WW, pad, stride)
    dout_rows = dout.transpose(1, 2, 3, 0).reshape(F, out_h * out_w * N)
    db = np.sum(dout_rows, axis=1, dtype=np.float64)
    dw = (dout_rows @ x_cols.T).reshape(filters.shape)
    dx_cols = filters.reshape(F, C * HH * WW).T @ dout_rows
    dx = col2im_cython(dx_cols, N, C, H, W, HH, WW, pad, stride)
    return dx.astype(dtype, copy=False), dw.astype(dtype, copy=False), db.astype(dtype, copy=False)


def _columns(images: Array, HH: int, WW: int, pad: int, stride: int) -> Array:
    """Columns ordered (N, out_h, out_w), the image running slowest."""
    patches = windows(images, HH, WW, pad, stride)
    N, C, out_h, out_w, _, _ = patches.shape
    return patches.transpose(1, 4, 5, 0, 2, 3).reshape(C * HH * WW, N * out_h * out_w)


@np.errstate(all="ignore")
def conv_forward_strides(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: ConvParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """out = filters @ columns + b, with the columns ordered (N, out_h, out_w)."""
    stride, pad = conv_param["stride"], conv_param["pad"]
    images, filters, bias, dtype = working(x, w, b)
    N, C, H, W = images.shape
    F, _, HH, WW = filters.shape
    out_h, out_w = output_size(H, HH, pad, stride), output_size(W, WW, pad, stride)
    x_cols = _columns(images, HH, WW, pad, stride)
    out = filters.reshape(F, C * HH * WW) @ x_cols + bias.reshape(F, 1)
    out = out.reshape(F, N, out_h, out_w).transpose(1, 0, 2, 3)
    return np.ascontiguousarray(out, dtype=dtype), (x, w, b, conv_param, x_cols)


@np.errstate(all="ignore")
def conv_backward_strides(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """conv_backward_im2col with the columns ordered (N, out_h, out_w)."""
    x, w, b, conv_param = cache[:4]
    stride, pad = conv_param["stride"], conv_param["pad"]
    dout, images, filters, _, dtype = working(dout, x, w, b)
    N, F, out_h, out_w = dout.shape
    _, C, H, W = images.shape
    _, _, HH, WW = filters.shape
    x_cols = _columns(images, HH, WW, pad, stride)
    dout_rows = dout.transpose(1, 0, 2, 3).reshape(F, N * out_h * out_w)
    db = np.sum(dout_rows, axis=1, dtype=np.float64)
    dw = (dout_rows @ x_cols.T).reshape(filters.shape)
    dx_cols = filters.reshape(F, C * HH * WW).T @ dout_rows
    dx_cols = dx_cols.reshape(C, HH, WW, N, out_h, out_w)
    dx = col2im_6d_cython(dx_cols, N, C, H, W, HH, WW, pad, stride)
    return dx.astype(dtype, copy=False), dw.astype(dtype, copy=False), db.astype(dtype, copy=False)


conv_forward_fast = conv_forward_strides
conv_backward_fast = conv_backward_strides
