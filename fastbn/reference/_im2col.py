"""Windows of an image as the columns of a matrix, and the way back.

Rows run over (channel, row in the field, column in the field). Columns run over
(output row, output column, image), the image fastest, unless a function says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._dtype import promote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from ..typing import Array, IntArray


def output_size(size: int, field: int, padding: int, stride: int) -> int:
    """Places a field has along one axis: 1 + floor((size + 2 * padding - field) / stride)."""
    if not 1 <= field <= size + 2 * padding:
        raise ValueError(
            f"a field of {field} does not fit an axis of {size} padded by {padding} on both sides"
        )
    return 1 + (size + 2 * padding - field) // stride


def pad_images(x: Array, padding: int) -> Array:
    """Frame every image with `padding` zeros."""
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def windows(x: Array, field_height: int, field_width: int, padding: int, stride: int) -> Array:
    """View of all windows, of shape (N, C, out_h, out_w, field_height, field_width)."""
    _, _, H, W = x.shape
    output_size(H, field_height, padding, stride)
    output_size(W, field_width, padding, stride)
    field = (field_height, field_width)
    dense = np.lib.stride_tricks.sliding_window_view(pad_images(x, padding), field, axis=(2, 3))
    return dense[:, :, ::stride, ::stride]


def im2col_cython(
    x: ArrayLike, field_height: int, field_width: int, padding: int, stride: int
) -> Array:
    """Columns of the windows of x, the image index running fastest."""
    x = np.asarray(x, dtype=promote(x)[1])
    patches = windows(x, field_height, field_width, padding, stride)
    N, C, out_h, out_w, _, _ = patches.shape
    cols = np.ascontiguousarray(patches.transpose(1, 4, 5, 2, 3, 0))
    return cols.reshape(C * field_height * field_width, out_h * out_w * N)


def col2im_cython(
    cols: ArrayLike,
    N: int,
    C: int,
    H: int,
    W: int,
    field_height: int,
    field_width: int,
    padding: int,
    stride: int,
) -> Array:
    """Add every column back onto the window it came from: the adjoint of im2col_cython."""
    out_h = output_size(H, field_height, padding, stride)
    out_w = output_size(W, field_width, padding, stride)
    cols = np.asarray(cols).reshape(C, field_height, field_width, out_h, out_w, N)
    cols = cols.transpose(0, 1, 2, 5, 3, 4)
    return col2im_6d_cython(cols, N, C, H, W, field_height, field_width, padding, stride)


@np.errstate(all="ignore")
def col2im_6d_cython(
    cols: ArrayLike, N: int, C: int, H: int, W: int, HH: int, WW: int, pad: int, stride: int
) -> Array:
    """The same from an array (C, HH, WW, N, out_h, out_w), with HH x WW the field."""
    out_h = output_size(H, HH, pad, stride)
    out_w = output_size(W, WW, pad, stride)
    cols = np.asarray(cols)
    _, dtype = promote(cols)
    cols = cols.reshape(C, HH, WW, N, out_h, out_w)
    x = np.zeros((N, C, H + 2 * pad, W + 2 * pad))
    # One place in the field at a time: for it alone no two windows meet in a pixel.
    for i in range(HH):
        for j in range(WW):
            rows = slice(i, i + stride * out_h, stride)
            columns = slice(j, j + stride * out_w, stride)
            x[:, :, rows, columns] += cols[:, i, j].transpose(1, 0, 2, 3)
    return x[:, :, pad : pad + H, pad : pad + W].astype(dtype)


def get_im2col_indices(
    x_shape: Sequence[int], field_height: int, field_width: int, padding: int = 1, stride: int = 1
) -> tuple[IntArray, IntArray, IntArray]:
    """Indices (k, i, j) such that padded[:, k, i, j] has shape (N, C*fh*fw, out_h*out_w)."""
    _, C, H, W = x_shape
    out_h = output_size(H, field_height, padding, stride)
    out_w = output_size(W, field_width, padding, stride)
    k, field_i, field_j = np.indices((C, field_height, field_width)).reshape(3, -1, 1)
    out_i, out_j = np.indices((out_h, out_w)).reshape(2, 1, -1)
    return k, field_i + stride * out_i, field_j + stride * out_j


def im2col_indices(
    x: ArrayLike, field_height: int, field_width: int, padding: int = 1, stride: int = 1
) -> Array:
    """im2col_cython by fancy indexing."""
    x = np.asarray(x, dtype=promote(x)[1])
    k, i, j = get_im2col_indices(x.shape, field_height, field_width, padding, stride)
    cols = pad_images(x, padding)[:, k, i, j]
    N, rows, places = cols.shape
    return cols.transpose(1, 2, 0).reshape(rows, places * N)


@np.errstate(all="ignore")
def col2im_indices(
    cols: ArrayLike,
    x_shape: Sequence[int],
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> Array:
    """col2im_cython by np.add.at, which adds where an index comes twice (x[index] += does not)."""
    N, C, H, W = x_shape
    k, i, j = get_im2col_indices(x_shape, field_height, field_width, padding, stride)
    cols = np.asarray(cols)
    _, dtype = promote(cols)
    cols = cols.reshape(k.shape[0], i.shape[1], N).transpose(2, 0, 1)
    x = np.zeros((N, C, H + 2 * padding, W + 2 * padding))
    places: Any = (slice(None), k, i, j)
    np.add.at(x, places, cols)
    return x[:, :, padding : padding + H, padding : padding + W].astype(dtype)
