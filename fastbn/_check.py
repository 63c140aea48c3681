"""Argument checks of the public functions: one function and one message for each rule.

Checks come first and change nothing. A message names the argument, the rule and the value got.
"""

import math
import operator

import numpy as np

F2, F4, F8 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
_MAX_BYTES = np.iinfo(np.intp).max


class MissingKeyError(KeyError, ValueError):
    """A parameter dict lacks a key. A KeyError, as in the course, and a ValueError."""

    def __str__(self):
        return self.args[0]


def floats(names, *values):
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
    dtype = getattr(values[0], "dtype", None)
    if dtype is F8 or dtype is F4:
        for value in values:
            if type(value) is not np.ndarray or value.dtype is not dtype:
                break
            flags = value.flags
            if not (flags.c_contiguous and flags.aligned):
                break
        else:
            return dtype, *values
    arrays = [array(name, value) for name, value in zip(names, values, strict=True)]
    dtype = promotion(*(a.dtype for a in arrays))
    kernel = F4 if dtype == F2 else dtype
    return dtype, *(np.require(a, kernel, ["C", "A"]) for a in arrays)


def promotion(*dtypes):
    """What NumPy makes of arrays of these dtypes together; float64 instead of integers and bool."""
    dtype = np.result_type(*dtypes)
    return F8 if dtype.kind in "biu" else dtype.newbyteorder("=")


def _plain(name, value):
    if type(value) is not np.ndarray:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{name} must be a plain array; got a masked array")
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise TypeError(f"{name} must be an array of numbers; got {error}") from None
    return value


def array(name, value):
    """An array of real numbers, as it is: `floats` without the conversion."""
    value = _plain(name, value)
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise TypeError(
            f"{name} must hold real numbers of at most 64 bits; got dtype {value.dtype}"
        )
    return value


def cast(dtype, *arrays):
    """Results in the dtype that `floats` announced: only float16 needs a conversion."""
    if dtype == F2:
        with np.errstate(over="ignore"):  # a float16 overflow is infinity, not news
            arrays = tuple(a.astype(F2) for a in arrays)
    return arrays[0] if len(arrays) == 1 else arrays


def ndim(name, array, count, layout):
    """`array` has `count` axes, called `layout`."""
    if array.ndim != count:
        raise ValueError(f"{name} must be {layout}; got shape {array.shape}")


def shape(name, array, expected, why):
    """`array` has the shape `expected`; `why` says where that comes from."""
    if array.shape != expected:
        raise ValueError(f"{name} must have shape {expected} ({why}); got {array.shape}")


def size(name, *lengths):
    """An array of these lengths can be addressed at all. As in NumPy, a 0 excuses no other."""
    if math.prod(filter(None, lengths)) * 8 > _MAX_BYTES:
        raise ValueError(f"{name} would have shape {lengths}, more than memory can address")


def labels(y, N):
    """Class labels (N,) as intp; whether they are in range, the kernel says."""
    array = _plain("y", y)
    if array.dtype.kind not in "iu":
        raise TypeError(f"y must hold integer class labels; got dtype {array.dtype}")
    shape("y", array, (N,), "one label for every row of x")
    if array.dtype == np.uint64 and N and array.max() > _MAX_BYTES:
        array = np.minimum(array, _MAX_BYTES)  # out of range either way
    return np.require(array, np.intp, ["C", "A"])


def integer(name, value, minimum):
    """An integer of at least `minimum`, as int."""
    if type(value) is int and minimum <= value <= _MAX_BYTES:
        return value
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {value!r}") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}; got {number}")
    if number > _MAX_BYTES:
        raise ValueError(f"{name} must be at most {_MAX_BYTES}; got {number}")
    return number


def key(params, name, wanted):
    """``params[wanted]``; `name` is what the dict is called."""
    try:
        return params[wanted]
    except KeyError:
        message = f"{name} must have the key {wanted!r}; it has {list(params)}"
        raise MissingKeyError(message) from None
    except (TypeError, IndexError, ValueError):  # the last two from arrays
        raise TypeError(f"{name} must be a dict; got {type(params).__name__}") from None


def mapping(params, name, *methods):
    """`params` is a dict, or something like one that has `methods` as well as ``get``."""
    if type(params) is dict:
        return
    for method in ("get", *methods):
        if not hasattr(params, method):
            raise TypeError(f"{name} must be a dict; got {type(params).__name__}")


def number(params, name, wanted, default, most=math.inf):
    """``params.get(wanted, default)`` as a float from 0 to `most`."""
    value = params.get(wanted, default)
    if type(value) is not float:
        value = _float(f"{name}[{wanted!r}]", value)
    if not 0 <= value <= most:
        rule = "at least 0" if most == math.inf else f"from 0 to {most}"
        raise ValueError(f"{name}[{wanted!r}] must be {rule}; got {value}")
    return value


def _float(name, value):
    try:
        # What float() would take as well: text, and an array of one number.
        if isinstance(value, (str, bytes, bytearray)) or getattr(value, "ndim", 0):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number; got {value!r}") from None


def cache(value, kind, made_by):
    """A cache is one that `made_by` returned."""
    if not isinstance(value, kind):
        raise wrong_cache(value, made_by)
    return value


def unpack(value, count, made_by):
    """A cache that is a plain tuple of at least `count` items; the first `count` of them."""
    if not isinstance(value, (tuple, list)) or len(value) < count:
        raise wrong_cache(value, made_by)
    return value[:count]


def wrong_cache(value, made_by):
    """The error to raise for a cache that `made_by` did not return."""
    got = type(value).__name__
    if isinstance(value, (tuple, list)):
        got = f"a {got} of {len(value)}"
    return TypeError(f"cache must be the one that {made_by} returned; got {got}")
