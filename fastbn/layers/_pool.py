"""Max pooling of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .. import _ext
from .._memory import empty, streams
from .._threads import threads_for
from . import _check
from ._im2col import im2col_cython, output_size
from ._lazy import LazyArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from ..typing import Array, Cache, DType, PoolParam

    Window: TypeAlias = tuple[int, int, int, int, int]

_BYTE = np.dtype(np.uint8)


def _window(x: Array, pool_param: Any) -> Window:
    """Check x and pool_param; (height, width, stride, OH, OW)."""
    _check.ndim("x", x, 4, "(N, C, H, W)")
    height = _size(pool_param, "pool_height")
    width = _size(pool_param, "pool_width")
    stride = _size(pool_param, "stride")
    _, _, H, W = x.shape
    if height > H or width > W:
        raise ValueError(
            f"pool_param must describe a window that fits the image {H}x{W}; got {height}x{width}"
        )
    return (
        height,
        width,
        stride,
        output_size(H, height, 0, stride),
        output_size(W, width, 0, stride),
    )


def _size(pool_param: Any, key: str) -> int:
    value = _check.key(pool_param, "pool_param", key)
    if type(value) is int and 0 < value < 1 << 31:
        return value
    return _check.integer(f"pool_param[{key!r}]", value, 1)


def _tiles(x: Array, window: Window) -> bool:
    """Whether the windows are square and tile the image: the course's "reshape" case."""
    height, width, stride, _, _ = window
    return height == width == stride and not (x.shape[2] % height or x.shape[3] % width)


def _forward(x: Array, window: Window, want_places: bool = False) -> tuple[Array, Array | None]:
    """out, and the places of the maxima in their windows if they are wanted and can be told.

    x: as `_check.floats` gives it.
    """
    height, width, stride, OH, OW = window
    N, C, H, W = x.shape
    out = empty((N, C, OH, OW), x.dtype)
    places = None
    if out.size:
        if want_places and _ext.pool.has_places(height, width, stride):
            places = empty((out.size,), _BYTE)
        num_threads = threads_for(out.size * height * width)
        work = np.empty(_ext.pool.scratch_size(H, W, height, width, stride, num_threads), x.dtype)
        _ext.pool.forward(x, N * C, H, W, height, width, stride, out, places, work, num_threads)
    return out, places


def _backward(dout: Any, x: Any, pool_param: Any, places: Any, sharing: bool | None) -> Array:
    """places: of which window and shape of x they are, too; or None.

    sharing: whether equal maxima share the gradient; None: where windows tile the image.
    """
    dtype, dout, x = _check.floats(("dout", "x"), dout, x)
    window = height, width, stride, OH, OW = _window(x, pool_param)
    N, C, H, W = x.shape
    tiles = sharing is not False and _tiles(x, window)
    if sharing and not tiles:
        raise ValueError(
            "cache must come from windows of equal height, width and stride that tile the image;"
            f" got {dict(pool_param)}"
        )
    _check.shape("dout", dout, (N, C, OH, OW), "that of the output")
    dx = empty(x.shape, x.dtype)
    if x.size:
        # The dict in the cache is the caller's, who may have changed it since.
        if tiles or places is None or places[1:] != (window, x.shape):
            places = None
        else:
            places = places[0]
        if places is None and not tiles:
            _, places = _forward(x, window, want_places=True)
        num_threads = threads_for(2 * dout.size * height * width)
        work = np.empty(_ext.pool.scratch_size(H, W, height, width, stride, num_threads), x.dtype)
        _ext.pool.backward(
            dout,
            x,
            places,
            N * C,
            H,
            W,
            height,
            width,
            stride,
            tiles,
            streams(dout, x, dx),
            dx,
            work,
            num_threads,
        )
    return _check.cast(dtype, dx)


def _source(cache: Any) -> tuple[Any, Any, Any]:
    """(x, pool_param, places or None) of any forward variant's cache."""
    given = cache
    if isinstance(cache, (tuple, list)) and len(cache) == 2 and isinstance(cache[0], str):
        if cache[0] not in ("reshape", "im2col"):
            raise ValueError(f'Unrecognized method "{cache[0]}"')
        cache = cache[1]
    if isinstance(cache, (tuple, list)):
        if len(cache) == 2:
            return *cache, None
        if len(cache) == 3 and getattr(cache[1], "ndim", 0) == 6:
            size = cache[1].shape[3]
            return cache[0], {"pool_height": size, "pool_width": size, "stride": size}, None
        if len(cache) == 4:
            return cache[0], cache[3], LazyArray.source_of(cache[2])
    raise _check.wrong_cache(given, "max_pool_forward_*")


def max_pool_forward_naive(
    x: ArrayLike, pool_param: PoolParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """Max pooling.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Images.
    pool_param : dict
        ``pool_height``, ``pool_width`` and ``stride`` (ints, at least 1).

    Returns
    -------
    out : ndarray, (N, C, H', W')
        ``H' = 1 + (H - pool_height) // stride``, W' likewise. A window with a NaN gives NaN.
    cache : tuple
        ``(x, pool_param)``.

    Raises
    ------
    TypeError, ValueError
        If `x` is not (N, C, H, W) of real numbers, a key is missing, a size is not an integer
        of at least 1, or the window does not fit the image.

    Notes
    -----
    With ``i``, ``j`` the place in the output::

        out[n, c, i, j] = max(x[n, c, i * stride : i * stride + pool_height,
                                      j * stride : j * stride + pool_width])

    The name is the course's; the computation is the compiled one. The loops are in
    :func:`fastbn.reference.max_pool_forward_naive`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import max_pool_backward_naive, max_pool_forward_naive
    >>> x = np.array([[1.0, 2.0, 5.0], [4.0, 3.0, 0.0], [0.0, 1.0, 2.0]]).reshape(1, 1, 3, 3)
    >>> pool_param = {"pool_height": 2, "pool_width": 2, "stride": 1}
    >>> out, cache = max_pool_forward_naive(x, pool_param)
    >>> out[0, 0]
    array([[4., 5.],
           [4., 3.]])
    >>> max_pool_backward_naive(np.ones_like(out), cache)[0, 0]
    array([[0., 0., 1.],
           [2., 1., 0.],
           [0., 0., 0.]])
    """
    dtype, x_ = _check.floats(("x",), x)
    out, _ = _forward(x_, _window(x_, pool_param))
    return _check.cast(dtype, out), (x, pool_param)


def max_pool_backward_naive(dout: ArrayLike, cache: Cache) -> Array:
    """Gradient of max pooling; the first of equal maxima gets all of it.

    Parameters
    ----------
    dout : array_like, (N, C, H', W')
        Upstream gradient.
    cache : tuple
        From any of the max pooling forward functions.

    Returns
    -------
    dx : ndarray, (N, C, H, W)
        First in row-major order of the window; the first NaN where there is one. Overlapping
        windows add up.

    Raises
    ------
    TypeError, ValueError
        If `cache` is not a max pooling cache, or `dout` differs in shape from the output.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import max_pool_backward_naive
    >>> pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> max_pool_backward_naive([[[[8.0]]]], (np.zeros((1, 1, 2, 2)), pool_param))[0, 0]
    array([[8., 0.],
           [0., 0.]])
    """
    x, pool_param, places = _source(cache)
    return _backward(dout, x, pool_param, places, False)


def max_pool_forward_reshape(
    x: ArrayLike, pool_param: PoolParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """Max pooling with square windows that tile the image.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Images.
    pool_param : dict
        ``pool_height == pool_width == stride``, dividing H and W.

    Returns
    -------
    out : ndarray, (N, C, H', W')
        The maxima.
    cache : tuple
        ``(x, x_reshaped, out)``, `x_reshaped` being (N, C, H', size, W', size).

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_pool_forward_naive`, or if the windows do not tile the image.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import max_pool_backward_reshape, max_pool_forward_reshape
    >>> pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> out, cache = max_pool_forward_reshape(np.arange(16.0).reshape(1, 1, 4, 4), pool_param)
    >>> out[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    >>> max_pool_backward_reshape(np.ones_like(out), cache)[0, 0]
    array([[0., 0., 0., 0.],
           [0., 1., 0., 1.],
           [0., 0., 0., 0.],
           [0., 1., 0., 1.]])
    """
    dtype, x_ = _check.floats(("x",), x)
    return _forward_reshape(dtype, x_, x, _window(x_, pool_param), pool_param)


def _forward_reshape(
    dtype: DType, x_: Array, x: Any, window: Window, pool_param: Any
) -> tuple[Array, Cache]:
    if not _tiles(x_, window):
        raise ValueError(
            "pool_param must have equal height, width and stride that divide the image's sides"
            f" {x_.shape[2:]}; got {dict(pool_param)}"
        )
    size = window[0]
    out, _ = _forward(x_, window)
    N, C, H, W = x_.shape
    x_reshaped = x_.reshape(N, C, H // size, size, W // size, size)
    out = _check.cast(dtype, out)
    return out, (x, x_reshaped, out)


def max_pool_backward_reshape(dout: ArrayLike, cache: Cache) -> Array:
    """Gradient of max pooling with windows that tile the image; equal maxima share it equally.

    Parameters
    ----------
    dout : array_like, (N, C, H', W')
        Upstream gradient.
    cache : tuple
        From any of the max pooling forward functions, if its windows tile the image.

    Returns
    -------
    dx : ndarray, (N, C, H, W)
        A window with a NaN has no maximum and gets NaN.

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_pool_backward_naive`, or if the windows do not tile the image.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import max_pool_backward_reshape
    >>> pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> max_pool_backward_reshape([[[[8.0]]]], (np.zeros((1, 1, 2, 2)), pool_param))[0, 0]
    array([[2., 2.],
           [2., 2.]])
    """
    x, pool_param, _ = _source(cache)
    return _backward(dout, x, pool_param, None, True)


def max_pool_forward_im2col(
    x: ArrayLike, pool_param: PoolParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """Max pooling with windows of any size and stride.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Images.
    pool_param : dict
        ``pool_height``, ``pool_width`` and ``stride``.

    Returns
    -------
    out : ndarray, (N, C, H', W')
        The maxima.
    cache : tuple
        ``(x, x_cols, x_cols_argmax, pool_param)``. `x_cols`
        (pool_height * pool_width, H' * W' * N * C) and the row of each column's maximum are
        formed only if they are used.

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_pool_forward_naive`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import max_pool_backward_im2col, max_pool_forward_im2col
    >>> pool_param = {"pool_height": 3, "pool_width": 3, "stride": 2}
    >>> out, cache = max_pool_forward_im2col(np.arange(25.0).reshape(1, 1, 5, 5), pool_param)
    >>> out[0, 0]
    array([[12., 14.],
           [22., 24.]])
    >>> max_pool_backward_im2col(np.ones_like(out), cache).sum(axis=3)
    array([[[0., 0., 2., 0., 2.]]])
    """

    dtype, x_ = _check.floats(("x",), x)
    return _forward_im2col(dtype, x_, x, _window(x_, pool_param), pool_param)


def _forward_im2col(
    dtype: DType, x_: Array, x: Any, window: Window, pool_param: Any
) -> tuple[Array, Cache]:
    def columns() -> Array:
        _, x_ = _check.floats(("x",), x)
        height, width, stride, _, _ = _window(x_, pool_param)
        N, C, H, W = x_.shape
        return im2col_cython(x_.reshape(N * C, 1, H, W), height, width, 0, stride)

    out, places = _forward(x_, window, want_places=True)
    x_cols = LazyArray(columns)
    argmax = LazyArray(lambda: np.argmax(x_cols, axis=0), (places, window, x_.shape))
    return _check.cast(dtype, out), (x, x_cols, argmax, pool_param)


def max_pool_forward_fast(
    x: ArrayLike, pool_param: PoolParam | Mapping[str, Any]
) -> tuple[Array, Cache]:
    """Max pooling under the course's fast name.

    Parameters
    ----------
    x : array_like, (N, C, H, W)
        Images.
    pool_param : dict
        ``pool_height``, ``pool_width`` and ``stride``.

    Returns
    -------
    out : ndarray, (N, C, H', W')
        The maxima.
    cache : tuple
        ``("reshape", cache)`` of :func:`max_pool_forward_reshape` where square windows tile the
        image, else ``("im2col", cache)`` of :func:`max_pool_forward_im2col`.

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_pool_forward_naive`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import max_pool_backward_fast, max_pool_forward_fast
    >>> pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> out, cache = max_pool_forward_fast(np.arange(16.0).reshape(1, 1, 4, 4), pool_param)
    >>> out[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    >>> cache[0]
    'reshape'
    >>> max_pool_backward_fast(np.ones_like(out), cache)[0, 0]
    array([[0., 0., 0., 0.],
           [0., 1., 0., 1.],
           [0., 0., 0., 0.],
           [0., 1., 0., 1.]])
    """
    dtype, x_ = _check.floats(("x",), x)
    window = _window(x_, pool_param)
    method = "reshape" if _tiles(x_, window) else "im2col"
    forward = _forward_reshape if method == "reshape" else _forward_im2col
    out, cache = forward(dtype, x_, x, window, pool_param)
    return out, (method, cache)


def max_pool_backward_fast(dout: ArrayLike, cache: Cache) -> Array:
    """Gradient of :func:`max_pool_forward_fast`.

    Parameters
    ----------
    dout : array_like, (N, C, H', W')
        Upstream gradient.
    cache : tuple
        From any of the max pooling forward functions.

    Returns
    -------
    dx : ndarray, (N, C, H, W)
        Where square windows tile the image, equal maxima share the gradient equally; elsewhere
        the first gets all of it, as in the course's two variants.

    Raises
    ------
    TypeError, ValueError
        As in :func:`max_pool_backward_naive`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbn.layers import max_pool_backward_fast
    >>> pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    >>> max_pool_backward_fast([[[[8.0]]]], (np.zeros((1, 1, 2, 2)), pool_param))[0, 0]
    array([[2., 2.],
           [2., 2.]])
    """
    x, pool_param, places = _source(cache)
    return _backward(dout, x, pool_param, places, None)


max_pool_backward_im2col = max_pool_backward_naive
