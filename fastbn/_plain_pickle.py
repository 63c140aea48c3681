"""An unpickler that cannot run anything: it knows plain containers, numbers and arrays of them.

Allowing NumPy's own constructors by name would not be enough. The state of a pickled dtype can
claim that the bytes of an array are object pointers, and NumPy would follow them. So every name is
answered with a stand-in of this module, which checks what it is given and builds the array itself.
"""

from __future__ import annotations

import pickle
import re
from typing import Any, BinaryIO

import numpy as np

_PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]")
_PLAIN_TYPES = (str, bytes, bytearray, int, float, complex, bool, type(None), np.number, np.bool_)


def load(f: BinaryIO) -> Any:
    """Read a pickle, with byte strings of Python 2 decoded as Latin-1.

    Parameters
    ----------
    f : binary file object
        Open for reading.

    Returns
    -------
    object
        What the pickle holds.

    Raises
    ------
    Exception
        If the pickle is malformed (nearly any exception may come out, as the documentation of
        `pickle` says) or names anything but a plain array (`pickle.UnpicklingError`).
    """
    return _unwrap(_Unpickler(f, encoding="latin1").load(), {})


class _StandIn:
    """What a name in the pickle is answered with."""

    # Without this method, the pickle could set any attribute of the stand-in.
    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a state where none is expected")


class _Ndarray(_StandIn):
    """numpy.ndarray: only ever the first argument of _Reconstruct."""


class _Dtype(_StandIn):
    """numpy.dtype of a number or bool; the state holds its byte order."""

    def __init__(self, name: str, *flags: Any) -> None:
        if not isinstance(name, str) or not _PLAIN_DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"dtype {name!r} is not that of plain numbers")
        self.value = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        # A byte order of "|" (single bytes) or "=" leaves the dtype as it is.
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class _Array(_StandIn):
    """An array; `value` is there as soon as its content is."""

    def fill(self, content: Any, dtype: Any, shape: Any, order: Any) -> None:
        if isinstance(content, str):  # a byte string of Python 2
            content = content.encode("latin1")
        # The buffer is read-only, or belongs to the pickle: copy.
        self.value = np.frombuffer(content, _dtype(dtype)).reshape(shape, order=order).copy("A")


class _Reconstruct(_Array):
    """multiarray._reconstruct: an empty array, filled by its state."""

    def __init__(self, subtype: Any, *rest: Any) -> None:
        if subtype is not _Ndarray:
            raise pickle.UnpicklingError("an array of a type other than numpy.ndarray")

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        self.fill(content, dtype, shape, "F" if is_fortran else "C")


class _FromBuffer(_Array):
    """numeric._frombuffer: an array of protocol 5."""

    def __init__(self, content: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.fill(content, dtype, shape, order)


class _Scalar(_StandIn):
    """multiarray.scalar: one number."""

    def __new__(cls, dtype: Any, content: Any) -> Any:
        if isinstance(content, str):
            content = content.encode("latin1")
        return np.frombuffer(content, _dtype(dtype), count=1)[0]


class _Encode(_StandIn):
    """_codecs.encode: how Python 3 writes bytes in protocols up to 2."""

    def __new__(cls, text: Any, encoding: Any) -> Any:
        # Other codecs decompress.
        if encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
        return text.encode("latin1")


class _EmptyBytes(_StandIn):
    """bytes(): how those protocols write no bytes at all."""

    def __new__(cls) -> Any:
        return b""


_STAND_INS: dict[tuple[str, str], type[_StandIn]] = {
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Encode,
    ("__builtin__", "bytes"): _EmptyBytes,
}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _Reconstruct
    _STAND_INS[f"{_core}.multiarray", "scalar"] = _Scalar
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _FromBuffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no plain array needs"
            ) from None


def _dtype(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array whose dtype is not one")
    return dtype.value


def _unwrap(value: Any, done: dict[int, Any]) -> Any:
    """Replace the stand-ins in a nest of containers by their arrays."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _PLAIN_TYPES):
        return value
    # A container is done once, however often it is referred to: n levels of [x, x] are n lists,
    # and 2**n ways to the innermost. By id, which is safe as the nest keeps all of them alive.
    if id(value) not in done:
        if isinstance(value, dict):
            result = {_unwrap(key, done): _unwrap(item, done) for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            result = type(value)(_unwrap(item, done) for item in value)
        else:
            raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
        done[id(value)] = result
    return done[id(value)]
