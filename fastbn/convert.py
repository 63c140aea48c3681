"""Nets that slide: a fully connected layer as a convolution."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .layers import _check

__all__ = ["affine_to_conv"]


def affine_to_conv(
    w: ArrayLike, b: ArrayLike, input_shape: Sequence[int]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Turn the weights of an affine layer into the filters of a convolution.

    On volumes of the shape that the affine layer takes, the convolution gives the same numbers. On
    larger ones it gives those of every crop of that shape, in one pass: neighbouring crops share
    most of their work.

    Parameters
    ----------
    w : array_like, (D, M)
        Weights of the affine layer.
    b : array_like, (M,)
        Its biases.
    input_shape : (int, int, int)
        C, H and W of the volume that the affine layer takes, with ``C * H * W = D``. (D, 1, 1) for
        an affine layer that follows another.

    Returns
    -------
    w_conv : ndarray, (M, C, H, W)
        Filters.
    b : ndarray, (M,)
        Biases. Both are new arrays in C order.

    Raises
    ------
    TypeError, ValueError
        If `w` or `b` does not hold real numbers, or a shape does not fit.

    Notes
    -----
    Convolve with ``{"stride": 1, "pad": 0}``. A stride of s on the volume is one of s times the
    strides before it on the image, as if the net slid over the image so far at a time. Crops of
    the image itself are another matter if a layer before pads: its zeros surround the larger
    image, not every crop.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.convert import affine_to_conv
    >>> from fastbn.layers import affine_forward, conv_forward_fast
    >>> w, b = np.random.randn(3 * 4 * 4, 10), np.zeros(10)
    >>> w_conv, b_conv = affine_to_conv(w, b, (3, 4, 4))
    >>> image = np.random.randn(1, 3, 8, 8)
    >>> scores, _ = conv_forward_fast(image, w_conv, b_conv, {"stride": 1, "pad": 0})
    >>> scores.shape
    (1, 10, 5, 5)
    >>> crop, _ = affine_forward(image[:, :, 1:5, 2:6], w, b)
    >>> np.allclose(scores[:, :, 1, 2], crop)
    True
    """
    lengths = tuple(input_shape) if np.iterable(input_shape) else ()
    if len(lengths) != 3:
        raise ValueError(f"input_shape must be (C, H, W); got {input_shape!r}")
    C, H, W = (_check.integer(f"input_shape[{i}]", size, 1) for i, size in enumerate(lengths))
    _, w, b = _check.floats(("w", "b"), w, b)
    _check.ndim("w", w, 2, "(D, M)")
    D, M = w.shape
    if C * H * W != D:
        raise ValueError(f"input_shape must hold {D} numbers, the rows of w; got {lengths}")
    _check.shape("b", b, (M,), "the columns of w")
    return np.array(w.T, order="C").reshape(M, C, H, W), b.copy()
