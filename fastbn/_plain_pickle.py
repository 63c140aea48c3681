"""Pickles that hold plain data, and an unpickler that cannot run anything.

Plain data are containers, text, numbers and arrays of numbers. Allowing NumPy's own constructors
by name would not be enough to read them. The state of a pickled dtype can claim that the bytes of
an array are object pointers, and NumPy would follow them. So every name is answered with a stand-in
of this module, which checks what it is given and builds the array itself.

Pickles of the course hold more: a model, an update rule, arrays of objects. Those can be read as
well, as plain data: of an instance what it holds, of a class or function the name. A name is then
answered with a stand-in that can be neither called nor looked into.
"""

from __future__ import annotations

import pickle
import re
import struct
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]")
_PIECE = 1 << 20  # bytes
_PLAIN_TYPES = (str, bytes, bytearray, int, float, complex, bool, type(None), np.number, np.bool_)


def load(f: IO[bytes], names: bool = False) -> Any:
    """Read a pickle, with byte strings of Python 2 decoded as Latin-1.

    Parameters
    ----------
    f : binary file object
        Open for reading.
    names : bool, default False
        Read what has a name, too: an instance as the dict of its attributes and, under
        ``"__class__"``, the name of its class; a class or function as its name; arrays of objects.

    Returns
    -------
    object
        What the pickle holds.

    Raises
    ------
    ValueError
        If the pickle is malformed, cut short, or names anything but a plain array; with `names`,
        if it calls anything that it names, or makes an instance in a way of its own. Nothing that
        it names is imported or called.
    """
    unpickler = _NamesUnpickler if names else _Unpickler
    try:
        return _unwrap(unpickler(f, encoding="latin1").load(), {})
    except OSError:
        raise
    # A damaged pickle raises nearly anything, as the documentation of pickle says.
    except Exception as error:
        name = getattr(f, "name", "the stream")
        kind = "data" if names else "arrays"
        reason = str(error) or type(error).__name__
        raise ValueError(f"{name} is not a readable pickle of plain {kind}: {reason}") from error


def load_npy(file: IO[bytes]) -> npt.NDArray[Any]:
    """Read an npy file, whose objects, if it holds any, are read as by `load` with `names`.

    Parameters
    ----------
    file : binary file object
        Open for reading.

    Returns
    -------
    ndarray

    Raises
    ------
    ValueError
        If it is no npy file, or its objects cannot be read.
    """
    version = np.lib.format.read_magic(file)
    reader = "read_array_header_1_0" if version == (1, 0) else "read_array_header_2_0"
    shape, fortran, dtype = getattr(np.lib.format, reader)(file)
    if not dtype.hasobject:
        # What is there, and not, as NumPy does, room for what the header claims.
        content = np.frombuffer(bytearray(file.read()), dtype)
        return content.reshape(shape, order="F" if fortran else "C")
    array = load(file, names=True)
    if not isinstance(array, np.ndarray):
        raise ValueError(f"the file must hold an array; got a {type(array).__name__}")
    return array


def plain(name: str, value: Any) -> Any:
    """Return `value` as data that `load` reads; an array as it is, a container as a new one.

    Parameters
    ----------
    name : str
        What the value is called, for messages.
    value : object
        A nest of dicts, lists and tuples of text, bytes, numbers, None and arrays of numbers.

    Returns
    -------
    object
        `value`, with subclasses of dict and ndarray turned into these.

    Raises
    ------
    TypeError
        If anything in it is something else.
    """
    if type(value) in (str, bytes, int, float, bool, type(None)):
        return value
    if isinstance(value, np.generic | np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        if _PLAIN_DTYPE.fullmatch(value.dtype.str[1:]):
            return value if isinstance(value, np.generic) else np.asarray(value)
    elif isinstance(value, dict):
        return {
            plain(f"a key of {name}", key): plain(f"{name}[{key!r}]", item)
            for key, item in value.items()
        }
    elif type(value) in (list, tuple):
        return type(value)(plain(f"{name}[{i}]", item) for i, item in enumerate(value))
    got = f"{type(value).__name__}"
    if isinstance(value, np.ndarray | np.generic):
        got += f" of {value.dtype}"
    raise TypeError(f"{name} must be numbers, text, arrays of numbers or a nest of them; got {got}")


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
        dtype = _dtype(dtype)
        if dtype.hasobject:
            if type(content) is not list:  # bytes would be pointers
                raise pickle.UnpicklingError("an array of objects without a list of them")
            self.value = np.empty(len(content), object)
            for index, item in enumerate(content):  # NumPy would walk into a nest
                self.value[index] = item
            self.value = self.value.reshape(shape, order=order)
            return
        if isinstance(content, str):  # a byte string of Python 2
            content = content.encode("latin1")
        # The buffer is read-only, or belongs to the pickle: copy.
        self.value = np.frombuffer(content, dtype).reshape(shape, order=order).copy("A")


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


class _Named(type):
    """The type of what a class or function is answered with. One such is its own name only."""

    label: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise pickle.UnpicklingError(f"it calls {cls.label}")


class _Instance(_StandIn, metaclass=_Named):
    """An instance of a class of the pickle; `attributes` is what it holds."""

    def __new__(cls, *args: Any) -> Any:
        if args:
            raise pickle.UnpicklingError(f"it makes a {cls.label} from arguments")
        instance = object.__new__(cls)
        instance.attributes = {}
        return instance

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError(f"a {type(self).label} that is more than its attributes")
        self.attributes = state


class _Reconstructor(_StandIn):
    """copyreg._reconstructor: how protocols 0 and 1 make an instance."""

    def __new__(cls, made: Any, base: Any, state: Any) -> Any:
        plain_base = isinstance(base, _Named) and base.label in (
            "__builtin__.object",
            "builtins.object",
        )
        if not isinstance(made, _Named) or not plain_base or state is not None:
            raise pickle.UnpicklingError("an instance that is more than its attributes")
        return made.__new__(made)


class _AnyDtype(_Dtype):
    """numpy.dtype where arrays of objects are read, too."""

    def __init__(self, name: str, *flags: Any) -> None:
        if name in ("O", "O4", "O8"):
            self.value = np.dtype(object)
        else:
            super().__init__(name, *flags)


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


_NAMES = {(module, "_reconstructor"): _Reconstructor for module in ("copy_reg", "copyreg")}


# The one in Python, of which joblib makes its own, too: its memo is a dict. That in C is an array
# as long as the highest number in the file, which can be 32 GB for a file of ten bytes.
class _Unpickler(pickle._Unpickler):
    # Without sets, which no plain data has.
    dispatch = {
        code: method
        for code, method in pickle._Unpickler.dispatch.items()
        if code not in (pickle.ADDITEMS[0], pickle.FROZENSET[0])
    }

    def __init__(self, file: IO[bytes], *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._file_read = lambda size: _read(file, size)

    def load_bytearray8(self) -> None:  # a writable array; Python would fill a claim with zeros
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    def load_setitem(self) -> None:
        _check_key(self.stack[-2])
        super().load_setitem()

    def load_setitems(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        super().load_setitems()

    def load_dict(self) -> None:
        for key in self.stack[::2]:
            _check_key(key)
        super().load_dict()

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no plain array needs"
            ) from None


class _NamesUnpickler(_Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module, name)) or _NAMES.get((module, name))
        if stand_in is _Dtype:
            return _AnyDtype
        return stand_in or _Named(name, (_Instance,), {"label": f"{module}.{name}"})


def _read(file: IO[bytes], size: int) -> bytes:
    """At most `size` bytes, with no more room made at once than a piece; a claim may be any."""
    if size <= _PIECE:
        return file.read(size)
    parts = []
    while size > 0 and (part := file.read(min(size, _PIECE))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _check_key(key: Any) -> None:
    # n levels of (x, x) are n tuples, but the hash of the outermost goes 2**n ways.
    parts = [key]
    for number, part in enumerate(parts):
        if number == 1000:
            raise pickle.UnpicklingError("a key of a dict that is a nest of tuples")
        if isinstance(part, tuple):
            parts.extend(part)


def _dtype(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array whose dtype is not one")
    return dtype.value


def _unwrap(value: Any, done: dict[int, Any]) -> Any:
    """Replace the stand-ins in a nest of containers by what they stand for."""
    if isinstance(value, _Array) and not value.value.dtype.hasobject:
        return value.value
    if isinstance(value, _AnyDtype):
        return value.value
    if isinstance(value, _Named):
        return value.label
    if isinstance(value, _PLAIN_TYPES):
        return value
    # A container is done once, however often it is referred to: n levels of [x, x] are n lists,
    # and 2**n ways to the innermost. By id, which is safe as the nest keeps all of them alive.
    if id(value) not in done:
        if isinstance(value, dict):
            result = {_unwrap(key, done): _unwrap(item, done) for key, item in value.items()}
        elif isinstance(value, (list, tuple)):
            result = type(value)(_unwrap(item, done) for item in value)
        elif isinstance(value, _Instance):
            result = {"__class__": type(value).label, **_unwrap(value.attributes, done)}
        elif isinstance(value, _Array):
            result = value.value
            for index in np.ndindex(result.shape):
                result[index] = _unwrap(result[index], done)
        else:
            raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
        done[id(value)] = result
    return done[id(value)]
