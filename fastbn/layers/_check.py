"""Argument checks of the layers: those of fastbn._check, and of arrays and caches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from .. import _ext
from .._check import _MAX_BYTES
from .._check import integer as integer
from .._check import key as key
from .._check import mapping as mapping
from .._check import number as number
from .._check import update as update

if TYPE_CHECKING:
    from ..typing import Array, DType

    C = TypeVar("C")

F2, F4, F8 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)

#: The dtype of arrays that kernels take as they are, else None.
plain_dtype = _ext.memory.plain_dtype


def floats(names: tuple[str, ...], *values: Any) -> tuple[Any, ...]:
    """Arrays as the kernels want them: one dtype, C order, aligned, native byte order.

    Parameters
    ----------
    names : tuple of str
        The arguments' names, for messages.
    *values : array_like

    Returns
    -------
    dtype : numpy.dtype
        Dtype of the results: NumPy's promotion, and float64 where that gives an integer or bool.
    *arrays : ndarray
        float32 or float64; float16 is computed in float32. An array that fits is not copied.
    """
    dtype = plain_dtype(values)
    if dtype is not None:
        return dtype, *values
    arrays = [array(name, value) for name, value in zip(names, values, strict=True)]
    dtype = promotion(*(a.dtype for a in arrays))
    kernel = F4 if dtype == F2 else dtype
    return dtype, *(np.require(a, kernel, ["C", "A"]) for a in arrays)


def promotion(*dtypes: DType) -> DType:
    """What NumPy makes of arrays of these dtypes together; float64 instead of integers and bool."""
    dtype = np.result_type(*dtypes)
    return F8 if dtype.kind in "biu" else dtype.newbyteorder("=")


def _plain(name: str, value: Any) -> Array:
    if type(value) is not np.ndarray:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name} must be a plain array; got a masked array")
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise TypeError(f"{name} must be an array of numbers; got {error}") from None
    return value


def array(name: str, value: Any) -> Array:
    """An array of real numbers, as it is: `floats` without the conversion."""
    value = _plain(name, value)
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise TypeError(
            f"{name} must hold real numbers of at most 64 bits; got dtype {value.dtype}"
        )
    return value


@overload
def cast(dtype: DType, array: Array, /) -> Array: ...
@overload
def cast(dtype: DType, first: Array, second: Array, /) -> tuple[Array, Array]: ...
@overload
def cast(
    dtype: DType, first: Array, second: Array, third: Array, /
) -> tuple[Array, Array, Array]: ...
def cast(dtype: DType, *arrays: Array) -> Any:
    """Results in the dtype that `floats` announced: only float16 needs a conversion."""
    if dtype == F2:
        with np.errstate(over="ignore"):  # a float16 overflow is infinity, not news
            arrays = tuple(a.astype(F2) for a in arrays)
    return arrays[0] if len(arrays) == 1 else arrays


def ndim(name: str, array: Array, count: int, layout: str) -> None:
    """`array` has `count` axes, called `layout`."""
    if array.ndim != count:
        raise ValueError(f"{name} must be {layout}; got shape {array.shape}")


def shape(name: str, array: Array, expected: tuple[int, ...], why: str) -> None:
    """`array` has the shape `expected`; `why` says where that comes from."""
    if array.shape != expected:
        raise ValueError(f"{name} must have shape {expected} ({why}); got {array.shape}")


def size(name: str, *lengths: int) -> None:
    """An array of these lengths can be addressed at all. As in NumPy, a 0 excuses no other."""
    if math.prod(filter(None, lengths)) * 8 > _MAX_BYTES:
        raise ValueError(f"{name} would have shape {lengths}, more than memory can address")


def labels(y: Any, N: int) -> Array:
    """Class labels (N,) as intp; whether they are in range, the kernel says."""
    array = _plain("y", y)
    if array.dtype.kind not in "iu":
        raise TypeError(f"y must hold integer class labels; got dtype {array.dtype}")
    shape("y", array, (N,), "one label for every row of x")
    if array.dtype == np.uint64 and N and array.max() > _MAX_BYTES:
        array = np.minimum(array, _MAX_BYTES)  # out of range either way
    return np.require(array, np.intp, ["C", "A"])


def cache(value: Any, kind: type[C], made_by: str) -> C:
    """A cache is one that `made_by` returned."""
    if not isinstance(value, kind):
        raise wrong_cache(value, made_by)
    return value


def unpack(value: Any, count: int, made_by: str) -> Any:
    """A cache that is a plain tuple of at least `count` items; the first `count` of them."""
    if not isinstance(value, (tuple, list)) or len(value) < count:
        raise wrong_cache(value, made_by)
    return value[:count]


def wrong_cache(value: Any, made_by: str) -> TypeError:
    """The error to raise for a cache that `made_by` did not return."""
    got = type(value).__name__
    if isinstance(value, (tuple, list)):
        got = f"a {got} of {len(value)}"
    return TypeError(f"cache must be the one that {made_by} returned; got {got}")
