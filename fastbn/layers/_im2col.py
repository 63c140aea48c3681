"""Patches of images as the columns of a matrix, under the course's names and in its orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .. import _ext
from .._memory import empty, streams
from .._threads import threads_for
from . import _check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from ..typing import Array, IntArray

    Shape: TypeAlias = tuple[int, int, int, int]
    Sizes: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int]


def output_size(size: int, filter_size: int, padding: int, stride: int) -> int:
    """Places where a filter fits on a padded axis, ``stride`` apart."""
    return (size + 2 * padding - filter_size) // stride + 1


_NAMES = ("field_height", "field_width", "padding", "stride")
_LARGE = 1 << 40  # numbers: so many could be addressed, but are worth a closer look


def field(
    shape: Sequence[int],
    field_height: int,
    field_width: int,
    padding: int,
    stride: int,
    names: tuple[str, ...] = _NAMES,
) -> tuple[int, int, int, int, int, int]:
    """Check the integers that describe patches of images of `shape`; with the output's sides."""
    field_height = _check.integer(names[0], field_height, 1)
    field_width = _check.integer(names[1], field_width, 1)
    padding = _check.integer(names[2], padding, 0)
    stride = _check.integer(names[3], stride, 1)
    N, C, H, W = shape
    if field_height > H + 2 * padding or field_width > W + 2 * padding:
        raise ValueError(
            f"{names[0]} and {names[1]} must fit the padded image"
            f" {H + 2 * padding}x{W + 2 * padding}; got {field_height}x{field_width}"
        )
    tall, wide = H + 2 * padding, W + 2 * padding
    # A bound for both sizes, soon found.
    large = (N + 1) * (C + 1) * (tall + 1) * (wide + 1) * field_height * field_width > _LARGE
    if large:
        _check.size("x padded", N, C, tall, wide)
    # A stride beyond the padded image is as good as one to its end, and cannot overflow in C.
    stride = min(stride, max(tall, wide))
    out_height = (tall - field_height) // stride + 1
    out_width = (wide - field_width) // stride + 1
    if large:
        _check.size("cols", C, field_height, field_width, out_height, out_width, N)
    return field_height, field_width, padding, stride, out_height, out_width


def _image_shape(
    N: int, C: int, H: int, W: int, names: Sequence[str] = ("N", "C", "H", "W")
) -> Shape:
    N, C, H, W = map(_check.integer, names, (N, C, H, W), (0, 0, 0, 0))
    if max(N, C, H, W) > 1024:  # four of these are not too many
        _check.size("x", N, C, H, W)
    return N, C, H, W


def _checked(x_shape: Any) -> Shape:
    try:
        lengths = tuple(x_shape)
    except TypeError:
        raise TypeError(f"x_shape must be (N, C, H, W); got {x_shape!r}") from None
    if len(lengths) != 4:
        raise ValueError(f"x_shape must be (N, C, H, W); got {lengths}")
    return _image_shape(*lengths, names=[f"x_shape[{axis}]" for axis in range(4)])


def _take(x: Array, sizes: Sizes, slowest: bool, cols: Array) -> None:
    """Columns of x; `sizes`: the kernels' arguments from N to OW.

    slowest: whether the image index is. Of one image both orders are the same, and that kernel
    the better one.
    """
    if not x.size:
        cols.fill(0)  # patches of nothing but padding
        return
    num_threads = threads_for(cols.size)
    kernel = _ext.im2col.im2col_6d if slowest else _ext.im2col.im2col
    work = _scratch(x, sizes, num_threads)
    # Whoever wants the matrix reads it all at once: that counts as well.
    kernel(x, *sizes, streams(cols, cols, x), cols, work, num_threads)


def _put_back(cols: Array, sizes: Sizes, slowest: bool, x: Array) -> None:
    """The adjoint of :func:`_take`."""
    if x.size:
        num_threads = threads_for(cols.size)
        kernel = _ext.im2col.col2im_6d if slowest else _ext.im2col.col2im
        kernel(cols, *sizes, x, _scratch(x, sizes, num_threads), num_threads)


def _scratch(x: Array, sizes: Sizes, num_threads: int) -> Array:
    # Often too large for malloc to keep: `empty` does.
    return empty((_ext.im2col.scratch_size(*sizes, x.itemsize, num_threads),), x.dtype)


def im2col_cython(
    x: ArrayLike, field_height: int, field_width: int, padding: int, stride: int
) -> Array:
    """Patches as columns, the image index varying fastest.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Images.
    field_height, field_width : int
        Size of a patch.
    padding, stride : int
        Zeros around the image, and the step between patches. Padding comes first here.

    Returns
    -------
    cols : ndarray, (C * field_height * field_width, out_height * out_width * N)
        Row ``(c * field_height + i) * field_width + j``, column
        ``(y * out_width + x) * N + n``.

    Raises
    ------
    TypeError, ValueError
        If `x` is not (N, C, H, W) of real numbers, or the field does not fit the padded image.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import im2col_cython
    >>> im2col_cython(np.arange(9.0).reshape(1, 1, 3, 3), 2, 2, padding=0, stride=1)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    dtype, x = _check.floats(("x",), x)
    _check.ndim("x", x, 4, "(N, C, H, W)")
    kh, kw, padding, stride, OH, OW = field(x.shape, field_height, field_width, padding, stride)
    N, C = x.shape[:2]
    cols = empty((C * kh * kw, OH * OW * N), x.dtype)
    _take(x, (*x.shape, kh, kw, padding, stride, OH, OW), N == 1, cols)
    return _check.cast(dtype, cols)


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
    """Adjoint of :func:`im2col_cython`: every entry is added to the pixel it came from.

    Parameters
    ----------
    cols : array_like, (C * field_height * field_width, out_height * out_width * N)
        Columns, the image index varying fastest.
    N, C, H, W : int
        Shape of the images.
    field_height, field_width, padding, stride : int
        As in :func:`im2col_cython`.

    Returns
    -------
    x : ndarray, (N, C, H, W)
        The images.

    Raises
    ------
    TypeError, ValueError
        If `cols` has another shape, or the field does not fit the padded image.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import col2im_cython
    >>> col2im_cython(np.ones((4, 4)), 1, 1, 3, 3, 2, 2, padding=0, stride=1)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    dtype, cols = _check.floats(("cols",), cols)
    shape = _image_shape(N, C, H, W)
    N, C = shape[:2]
    kh, kw, padding, stride, OH, OW = field(shape, field_height, field_width, padding, stride)
    _check.shape("cols", cols, (C * kh * kw, OH * OW * N), "what im2col_cython returns")
    x = empty(shape, cols.dtype)
    _put_back(cols, (*shape, kh, kw, padding, stride, OH, OW), N == 1, x)
    return _check.cast(dtype, x)


def col2im_6d_cython(
    cols: ArrayLike, N: int, C: int, H: int, W: int, HH: int, WW: int, pad: int, stride: int
) -> Array:
    """Add the entries of six-axis columns to the pixels they came from.

    Parameters
    ----------
    cols : array_like, (C, HH, WW, N, out_height, out_width)
        Columns, the image index varying slowest.
    N, C, H, W : int
        Shape of the images.
    HH, WW : int
        Size of the filter.
    pad, stride : int
        Zeros around the image, and the step between patches.

    Returns
    -------
    x : ndarray, (N, C, H, W)
        The images.

    Raises
    ------
    TypeError, ValueError
        If `cols` has another shape, or the filter does not fit the padded image.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import col2im_6d_cython
    >>> col2im_6d_cython(np.ones((1, 2, 2, 1, 2, 2)), 1, 1, 3, 3, 2, 2, pad=0, stride=1)[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    dtype, cols = _check.floats(("cols",), cols)
    shape = _image_shape(N, C, H, W)
    N, C = shape[:2]
    kh, kw, pad, stride, OH, OW = field(shape, HH, WW, pad, stride, ("HH", "WW", "pad", "stride"))
    _check.shape("cols", cols, (C, kh, kw, N, OH, OW), "channels, filter, images, output")
    x = empty(shape, cols.dtype)
    _put_back(cols, (*shape, kh, kw, pad, stride, OH, OW), True, x)
    return _check.cast(dtype, x)


def im2col_6d(x: Array, kh: int, kw: int, pad: int, stride: int, OH: int, OW: int) -> Array:
    """Columns with the image index slowest, (C * kh * kw, N * OH * OW), of checked arguments."""
    N, C = x.shape[:2]
    cols = empty((C * kh * kw, N * OH * OW), x.dtype)
    _take(x, (*x.shape, kh, kw, pad, stride, OH, OW), True, cols)
    return cols


def get_im2col_indices(
    x_shape: Sequence[int], field_height: int, field_width: int, padding: int = 1, stride: int = 1
) -> tuple[IntArray, IntArray, IntArray]:
    """Where each entry of the column matrix is found in the padded images.

    Parameters
    ----------
    x_shape : tuple of int
        (N, C, H, W).
    field_height, field_width, padding, stride : int
        As in :func:`im2col_cython`.

    Returns
    -------
    k, i, j : ndarray of int
        Channel (C * field_height * field_width, 1), row and column
        (C * field_height * field_width, out_height * out_width), so that
        ``x_padded[:, k, i, j]`` holds the patches.

    Raises
    ------
    TypeError, ValueError
        If the field does not fit the padded image.

    Examples
    --------
    >>> from fastbn.layers import get_im2col_indices
    >>> k, i, j = get_im2col_indices((1, 1, 3, 3), 2, 2, padding=0)
    >>> i
    array([[0, 0, 1, 1],
           [0, 0, 1, 1],
           [1, 1, 2, 2],
           [1, 1, 2, 2]])
    >>> j
    array([[0, 1, 0, 1],
           [1, 2, 1, 2],
           [0, 1, 0, 1],
           [1, 2, 1, 2]])
    """
    shape = _checked(x_shape)
    kh, kw, _, stride, OH, OW = field(shape, field_height, field_width, padding, stride)
    k, i, j = (a.reshape(-1, 1) for a in np.indices((shape[1], kh, kw)))
    y, x = (a.reshape(1, -1) for a in np.indices((OH, OW)))
    return k, i + stride * y, j + stride * x


def im2col_indices(
    x: ArrayLike, field_height: int, field_width: int, padding: int = 1, stride: int = 1
) -> Array:
    """:func:`im2col_cython` with the course's defaults.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Images.
    field_height, field_width, padding, stride : int
        As in :func:`im2col_cython`.

    Returns
    -------
    cols : ndarray, (C * field_height * field_width, out_height * out_width * N)
        The columns.

    Raises
    ------
    TypeError, ValueError
        As in :func:`im2col_cython`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import im2col_indices
    >>> im2col_indices(np.ones((2, 3, 8, 8)), 3, 3).shape
    (27, 128)
    """
    return im2col_cython(x, field_height, field_width, padding, stride)


def col2im_indices(
    cols: ArrayLike,
    x_shape: Sequence[int],
    field_height: int = 3,
    field_width: int = 3,
    padding: int = 1,
    stride: int = 1,
) -> Array:
    """:func:`col2im_cython` with the course's defaults.

    Parameters
    ----------
    cols : array_like, (C * field_height * field_width, out_height * out_width * N)
        Columns, the image index varying fastest.
    x_shape : tuple of int
        (N, C, H, W).
    field_height, field_width, padding, stride : int
        As in :func:`im2col_cython`.

    Returns
    -------
    x : ndarray, (N, C, H, W)
        The images.

    Raises
    ------
    TypeError, ValueError
        As in :func:`col2im_cython`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import col2im_indices
    >>> col2im_indices(np.ones((27, 128)), (2, 3, 8, 8)).shape
    (2, 3, 8, 8)
    """
    N, C, H, W = _checked(x_shape)
    return col2im_cython(cols, N, C, H, W, field_height, field_width, padding, stride)
