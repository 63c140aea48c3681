"""Convolution (cross-correlation) of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _algorithm, _ext
from .._memory import empty
from .._threads import threads_for
from . import _check
from ._affine import column_sums, matmul
from ._im2col import im2col_6d, im2col_cython, output_size
from ._lazy import LazyArray
from ._relu import relu_forward

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from ..typing import Array, Cache, ConvParam

_BYTE = np.dtype(np.uint8)


def _geometry(x: Array, w: Array, b: Array, conv_param: Any) -> tuple[int, int, int, int, int]:
    """Check shapes and conv_param; (pad, stride, OH, OW, number of the algorithm)."""
    _check.ndim("x", x, 4, "(N, C, H, W)")
    _check.ndim("w", w, 4, "(F, C, HH, WW)")
    N, C, H, W = x.shape
    F, channels, HH, WW = w.shape
    if channels != C:
        raise ValueError(f"w must have the {C} channels of x, as (F, C, HH, WW); got {w.shape}")
    _check.shape("b", b, (F,), "one for every filter of w")
    stride = _check.integer(
        "conv_param['stride']", _check.key(conv_param, "conv_param", "stride"), 1
    )
    pad = _check.integer("conv_param['pad']", _check.key(conv_param, "conv_param", "pad"), 0)
    if not (1 <= HH <= H + 2 * pad and 1 <= WW <= W + 2 * pad):
        raise ValueError(
            f"w must have filters of at least 1x1 that fit the padded image"
            f" {H + 2 * pad}x{W + 2 * pad}; got {HH}x{WW}"
        )
    _check.size("x padded by conv_param['pad']", N, C, H + 2 * pad, W + 2 * pad)
    # A stride beyond the padded image is as good as one to its end, and cannot overflow in C.
    stride = min(stride, max(H, W) + 2 * pad)
    OH, OW = output_size(H, HH, pad, stride), output_size(W, WW, pad, stride)
    _check.size("out", N, F, OH, OW)
    if "algorithm" in conv_param:
        algorithm = _algorithm.checked("conv_param['algorithm']", conv_param["algorithm"])
    else:
        algorithm = _algorithm.get_conv_algorithm()
    return pad, stride, OH, OW, _ext.conv.ALGORITHMS[algorithm]


def _forward(x: Any, w: Any, b: Any, conv_param: Any, relu: bool = False) -> Any:
    """out; with relu, (out, max(out, 0))."""
    dtype, x, w, b = _check.floats(("x", "w", "b"), x, w, b)
    pad, stride, OH, OW, way = _geometry(x, w, b, conv_param)
    out = empty((len(x), len(w), OH, OW), x.dtype)
    rectified = None
    if not (x.size and w.size):
        out[...] = b[:, None, None]  # patches of nothing but padding
    elif w.shape[1:] == x.shape[1:] and pad == 0:
        out = _product(x, w, b).reshape(out.shape)
    else:
        if relu and dtype == x.dtype:
            rectified = empty(out.shape, out.dtype)
        num_threads = threads_for(out.size * w[0].size // 8)
        room = empty((_ext.conv.forward_scratch(x, w, pad, stride, way, num_threads),), _BYTE)
        _ext.conv.forward(x, w, b, pad, stride, way, out, rectified, room, num_threads)
    out = _check.cast(dtype, out)
    if not relu:
        return out
    return out, relu_forward(out)[0] if rectified is None else rectified


# Filters as large as the images: a fully connected layer.


def _product(x: Array, w: Array, b: Array) -> Array:
    return matmul(x.reshape(len(x), -1), w.reshape(len(w), -1).T, b)


def _product_backward(dout: Array, x: Array, w: Array) -> tuple[Array, Array, Array]:
    dout, rows = dout.reshape(dout.shape[:2]), x.reshape(len(x), -1)
    dx = matmul(dout, w.reshape(len(w), -1)).reshape(x.shape)
    return dx, matmul(dout.T, rows).reshape(w.shape), column_sums(dout)


def conv_forward_naive(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: ConvParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """Convolution, as the course defines it: cross-correlation plus a bias.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Images.
    w : array_like, (F, C, HH, WW)
        Filters.
    b : array_like, (F,)
        Biases.
    conv_param : dict
        ``stride`` (int, at least 1) and ``pad`` (int, zeros on each side of the image), and, if
        you like, ``algorithm``: see :func:`fastbn.set_conv_algorithm`.

    Returns
    -------
    out : ndarray, (N, F, H', W')
        ``H' = 1 + (H + 2 * pad - HH) // stride``, W' likewise.
    cache : tuple
        ``(x, w, b, conv_param)``.

    Raises
    ------
    TypeError, ValueError
        If an argument does not hold real numbers, shapes do not fit, a key is missing, the
        stride or padding is no such integer, the algorithm is unknown, or the filter is larger
        than the padded image.

    Notes
    -----
    With `x` padded by zeros, and ``i``, ``j`` the place in the output::

        out[n, f, i, j] = b[f] + sum(w[f] * x[n, :, i * stride : i * stride + HH,
                                                    j * stride : j * stride + WW])

    The name is the course's; the computation is the compiled one. The loops are in
    :func:`fastbn.reference.conv_forward_naive`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import conv_backward_naive, conv_forward_naive
    >>> x, w, b = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2)), np.zeros(1)
    >>> out, cache = conv_forward_naive(x, w, b, {"stride": 2, "pad": 0})
    >>> out
    array([[[[10., 18.],
             [42., 50.]]]])
    >>> dx, dw, db = conv_backward_naive(np.ones_like(out), cache)
    >>> dw
    array([[[[20., 24.],
             [36., 40.]]]])
    """
    return _forward(x, w, b, conv_param), (x, w, b, conv_param)


def conv_backward_naive(dout: ArrayLike, cache: Cache) -> tuple[Array, Array, Array]:
    """Gradient of a convolution.

    Parameters
    ----------
    dout : array_like, (N, F, H', W')
        Upstream gradient.
    cache : tuple
        From any of the convolution forward functions.

    Returns
    -------
    dx : ndarray, (N, C, H, W)
        Gradient of `x`.
    dw : ndarray, (F, C, HH, WW)
        Gradient of the filters.
    db : ndarray, (F,)
        Gradient of the biases.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not a convolution cache, or `dout` differs in shape from the output.

    Notes
    -----
    The sum over images in dw is cut into a number of shares that depends on the shapes alone, so
    every gradient is the same, to the bit, at any number of threads. A NaN or an infinity in `w`
    reaches every number of `dx` within the filter's size of what it belongs to, borders included:
    there it is multiplied by the zeros around `dout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import conv_backward_fast, conv_forward_fast
    >>> x, w, b = np.ones((2, 3, 8, 8)), np.ones((4, 3, 3, 3)), np.zeros(4)
    >>> out, cache = conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
    >>> dx, dw, db = conv_backward_fast(np.ones_like(out), cache)
    >>> dx.shape, dw.shape, db
    ((2, 3, 8, 8), (4, 3, 3, 3), array([128., 128., 128., 128.]))
    """
    x, w, b, conv_param = _check.unpack(cache, 4, "conv_forward_*")
    dtype, dout, x, w, b = _check.floats(("dout", "x", "w", "b"), dout, x, w, b)
    pad, stride, OH, OW, way = _geometry(x, w, b, conv_param)
    _check.shape("dout", dout, (len(x), len(w), OH, OW), "that of the output")
    if not (x.size and w.size):
        with np.errstate(invalid="ignore", over="ignore"):
            db = dout.sum(axis=(0, 2, 3), dtype=np.float64).astype(x.dtype)
        return _check.cast(dtype, np.zeros_like(x), np.zeros_like(w), db)
    if w.shape[1:] == x.shape[1:] and pad == 0:
        return _check.cast(dtype, *_product_backward(dout, x, w))
    num_threads = threads_for(dout.size * w[0].size // 4)
    dx, dw, db = empty(x.shape, x.dtype), np.empty_like(w), np.empty_like(b)
    room = empty((_ext.conv.backward_scratch(x, w, pad, stride, way, num_threads),), _BYTE)
    _ext.conv.backward(dout, x, w, pad, stride, way, dx, dw, db, room, num_threads)
    return _check.cast(dtype, dx, dw, db)


def _strides_columns(x: Any, w: Any, b: Any, conv_param: Any) -> Array:
    _, x, w, b = _check.floats(("x", "w", "b"), x, w, b)
    pad, stride, OH, OW, _ = _geometry(x, w, b, conv_param)
    return im2col_6d(x, w.shape[2], w.shape[3], pad, stride, OH, OW)


def conv_forward_strides(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: ConvParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """:func:`conv_forward_naive` with the cache of the course's fast layer.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Images.
    w : array_like, (F, C, HH, WW)
        Filters.
    b : array_like, (F,)
        Biases.
    conv_param : dict
        ``stride``, ``pad`` and, if you like, ``algorithm``.

    Returns
    -------
    out : ndarray, (N, F, H', W')
        The results.
    cache : tuple
        ``(x, w, b, conv_param, x_cols)``. `x_cols` (C * HH * WW, N * H' * W'), the image index
        slowest, is formed only if it is used.

    Raises
    ------
    TypeError, ValueError
        As in :func:`conv_forward_naive`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import conv_backward_strides, conv_forward_strides
    >>> x, w, b = np.ones((2, 3, 8, 8)), np.ones((4, 3, 3, 3)), np.zeros(4)
    >>> out, cache = conv_forward_strides(x, w, b, {"stride": 1, "pad": 1})
    >>> out.shape, cache[4].shape
    ((2, 4, 8, 8), (27, 128))
    >>> dx, dw, db = conv_backward_strides(np.ones_like(out), cache)
    """
    return _forward(x, w, b, conv_param), _strides_cache(x, w, b, conv_param)


def _strides_cache(x: Any, w: Any, b: Any, conv_param: Any) -> Cache:
    columns = LazyArray(lambda: _strides_columns(x, w, b, conv_param))
    return x, w, b, conv_param, columns


def conv_relu_forward(x: Any, w: Any, b: Any, conv_param: Any) -> tuple[Array, Cache]:
    """The relu is written while a block of the convolution is still in the cache."""
    out, rectified = _forward(x, w, b, conv_param, relu=True)
    return rectified, (_strides_cache(x, w, b, conv_param), out)


def conv_forward_im2col(
    x: ArrayLike, w: ArrayLike, b: ArrayLike, conv_param: ConvParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """Convolution by the column matrix: im2col, then one matrix product.

    For teaching and comparison: the matrix is HH * WW / stride^2 times as large as `x`.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Images.
    w : array_like, (F, C, HH, WW)
        Filters.
    b : array_like, (F,)
        Biases.
    conv_param : dict
        ``stride`` and ``pad``.

    Returns
    -------
    out : ndarray, (N, F, H', W')
        The results.
    cache : tuple
        ``(x, w, b, conv_param, x_cols)`` with `x_cols` (C * HH * WW, H' * W' * N), the image
        index fastest.

    Raises
    ------
    TypeError, ValueError
        As in :func:`conv_forward_naive`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import conv_backward_im2col, conv_forward_im2col
    >>> x, w, b = np.ones((2, 3, 8, 8)), np.ones((4, 3, 3, 3)), np.zeros(4)
    >>> out, cache = conv_forward_im2col(x, w, b, {"stride": 1, "pad": 1})
    >>> out.shape, cache[4].shape
    ((2, 4, 8, 8), (27, 128))
    >>> dx, dw, db = conv_backward_im2col(np.ones_like(out), cache)
    """
    dtype, x_, w_, b_ = _check.floats(("x", "w", "b"), x, w, b)
    pad, stride, OH, OW, _ = _geometry(x_, w_, b_, conv_param)
    F, C, HH, WW = w_.shape
    x_cols = im2col_cython(x_, HH, WW, pad, stride)
    product = matmul(x_cols.T, w_.reshape(F, C * HH * WW).T, b_)
    out = np.ascontiguousarray(product.reshape(OH, OW, len(x_), F).transpose(2, 3, 0, 1))
    return _check.cast(dtype, out), (x, w, b, conv_param, x_cols)


conv_forward_fast = conv_forward_strides
conv_backward_fast = conv_backward_naive
conv_backward_strides = conv_backward_naive
conv_backward_im2col = conv_backward_naive
