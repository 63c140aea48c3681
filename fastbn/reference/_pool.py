"""Max pooling of images: loop by loop, by a reshape, and by columns.

Where several values of a window share the maximum, the naive and the im2col functions give the
gradient to the first of them in row-major order, the reshape functions an equal part to each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._dtype import promote
from ._im2col import col2im_cython, im2col_cython, output_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from ..typing import Array, Cache, PoolParam


def _geometry(pool_param: Any) -> tuple[int, int, int]:
    return pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]


def _tiles(x: ArrayLike, pool_param: Any) -> bool:
    """Whether the windows cover the images without gap or overlap, and are square."""
    height, width, stride = _geometry(pool_param)
    _, _, H, W = np.shape(x)
    output_size(H, height, 0, stride)  # else an image without pixels would be tiled by anything
    output_size(W, width, 0, stride)
    return height == width == stride and H % height == 0 and W % width == 0


def _inputs(cache: Cache) -> tuple[Any, Any]:
    """Return (x, pool_param) from the cache of any of the forward functions."""
    if isinstance(cache[0], str):
        _, cache = cache
    if len(cache) == 3:
        x, x_reshaped, _ = cache
        height, width = x_reshaped.shape[3], x_reshaped.shape[5]
        return x, {"pool_height": height, "pool_width": width, "stride": height}
    return cache[0], cache[-1]


@np.errstate(all="ignore")
def max_pool_forward_naive(
    x: ArrayLike, pool_param: PoolParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """out[n, c, i, j] = the maximum of the window that starts at (i*stride, j*stride)."""
    height, width, stride = _geometry(pool_param)
    images = np.asarray(x, dtype=promote(x)[1])
    N, C, H, W = images.shape
    out_h, out_w = output_size(H, height, 0, stride), output_size(W, width, 0, stride)
    out = np.empty((N, C, out_h, out_w), dtype=images.dtype)
    for n in range(N):
        for c in range(C):
            for i in range(out_h):
                for j in range(out_w):
                    top, left = i * stride, j * stride
                    out[n, c, i, j] = images[n, c, top : top + height, left : left + width].max()
    return out, (x, pool_param)


@np.errstate(all="ignore")
def max_pool_backward_naive(dout: ArrayLike, cache: Cache) -> Array:
    """Every output hands its gradient to the first maximum of its window."""
    x, pool_param = _inputs(cache)
    height, width, stride = _geometry(pool_param)
    _, dtype = promote(dout, x)
    images, dout = np.asarray(x), np.asarray(dout)
    N, C, out_h, out_w = dout.shape
    dx = np.zeros(images.shape)
    for n in range(N):
        for c in range(C):
            for i in range(out_h):
                for j in range(out_w):
                    top, left = i * stride, j * stride
                    window = images[n, c, top : top + height, left : left + width]
                    row, column = np.unravel_index(np.argmax(window), window.shape)
                    # Added, since windows that overlap may share their maximum.
                    dx[n, c, top + row, left + column] += dout[n, c, i, j]
    return dx.astype(dtype)


@np.errstate(all="ignore")
def max_pool_forward_reshape(
    x: ArrayLike, pool_param: PoolParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """The maximum over two axes of x seen as (N, C, out_h, height, out_w, width)."""
    images = np.asarray(x, dtype=promote(x)[1])
    if not _tiles(images, pool_param):
        raise ValueError(f"{pool_param} does not tile images of shape {images.shape[2:]}")
    height, width, _ = _geometry(pool_param)
    N, C, H, W = images.shape
    x_reshaped = images.reshape(N, C, H // height, height, W // width, width)
    out = x_reshaped.max(axis=3).max(axis=4)
    return out, (x, x_reshaped, out)


@np.errstate(all="ignore")
def max_pool_backward_reshape(dout: ArrayLike, cache: Cache) -> Array:
    """The maxima of a window share its gradient equally; a window with a NaN has NaN gradients."""
    x, pool_param = _inputs(cache)
    if len(cache) != 3:
        cache = max_pool_forward_reshape(x, pool_param)[1]
    _, x_reshaped, out = cache
    _, dtype = promote(dout, x)
    share = np.asarray(dout, dtype=np.float64)[:, :, :, None, :, None]
    is_max = x_reshaped == out[:, :, :, None, :, None]
    # Nothing equals a NaN, so there the count is 0 and 0 / 0 spreads the NaN.
    dx: Array = np.where(is_max, share, 0.0) / is_max.sum(axis=(3, 5), keepdims=True)
    return dx.reshape(np.shape(x)).astype(dtype, copy=False)


@np.errstate(all="ignore")
def max_pool_forward_im2col(
    x: ArrayLike, pool_param: PoolParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """The maximum of every column, where each channel of each image counts as one image."""
    height, width, stride = _geometry(pool_param)
    images = np.asarray(x)
    N, C, H, W = images.shape
    out_h, out_w = output_size(H, height, 0, stride), output_size(W, width, 0, stride)
    x_cols = im2col_cython(images.reshape(N * C, 1, H, W), height, width, 0, stride)
    x_cols_argmax = np.argmax(x_cols, axis=0)
    out = x_cols[x_cols_argmax, np.arange(x_cols.shape[1])]
    out = out.reshape(out_h, out_w, N, C).transpose(2, 3, 0, 1)
    return out, (x, x_cols, x_cols_argmax, pool_param)


@np.errstate(all="ignore")
def max_pool_backward_im2col(dout: ArrayLike, cache: Cache) -> Array:
    """The first maximum of every column gets its gradient, and the columns are added back."""
    x, pool_param = _inputs(cache)
    if len(cache) != 4:
        cache = max_pool_forward_im2col(x, pool_param)[1]
    _, x_cols, x_cols_argmax, _ = cache
    height, width, stride = _geometry(pool_param)
    N, C, H, W = np.shape(x)
    _, dtype = promote(dout, x)
    dx_cols = np.zeros(x_cols.shape, dtype=dtype)
    dout_flat = np.asarray(dout).transpose(2, 3, 0, 1).reshape(-1)
    dx_cols[x_cols_argmax, np.arange(x_cols.shape[1])] = dout_flat
    return col2im_cython(dx_cols, N * C, 1, H, W, height, width, 0, stride).reshape(N, C, H, W)


def max_pool_forward_fast(
    x: ArrayLike, pool_param: PoolParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """The reshape way where the windows tile the images in squares, else the im2col way."""
    if _tiles(x, pool_param):
        out, cache = max_pool_forward_reshape(x, pool_param)
        return out, ("reshape", cache)
    out, cache = max_pool_forward_im2col(x, pool_param)
    return out, ("im2col", cache)


def max_pool_backward_fast(dout: ArrayLike, cache: Cache) -> Array:
    """The gradient in the way that the forward function took."""
    if isinstance(cache[0], str):
        method, cache = cache
    else:
        method = "reshape" if _tiles(*_inputs(cache)) else "im2col"
    if method == "reshape":
        return max_pool_backward_reshape(dout, cache)
    if method == "im2col":
        return max_pool_backward_im2col(dout, cache)
    raise ValueError(f'Unrecognized method "{method}"')
