"""Argument checks of the public functions: one function and one message for each rule.

Checks come first and change nothing. A message names the argument, the rule and the value got.
Those of arrays are in layers/_check.py. What a function writes into a dict it got, running
statistics say, it writes last, by `update`.
"""

import math
import operator
import os
from typing import Any

import numpy as np

_MAX_BYTES = np.iinfo(np.intp).max


class MissingKeyError(KeyError, ValueError):
    """A parameter dict lacks a key. A KeyError, as in the course, and a ValueError."""

    def __str__(self) -> str:
        return str(self.args[0])


def integer(name: str, value: Any, minimum: float) -> int:
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


def key(params: Any, name: str, wanted: str) -> Any:
    """``params[wanted]``; `name` is what the dict is called."""
    try:
        return params[wanted]
    except KeyError:
        message = f"{name} must have the key {wanted!r}; it has {list(params)}"
        raise MissingKeyError(message) from None
    except (TypeError, IndexError, ValueError):  # the last two from arrays
        raise TypeError(f"{name} must be a dict; got {type(params).__name__}") from None


def mapping(params: Any, name: str, *methods: str) -> None:
    """`params` is a dict, or something like one that has `methods` as well as ``get``."""
    if type(params) is dict:
        return
    for method in ("get", *methods):
        if not hasattr(params, method):
            raise TypeError(f"{name} must be a dict; got {type(params).__name__}")


def number(
    params: Any, name: str, wanted: str, default: float | None, most: float = math.inf
) -> float:
    """``params.get(wanted, default)`` as a float from 0 to `most`."""
    value = params.get(wanted, default)
    if type(value) is not float:
        value = real(f"{name}[{wanted!r}]", value)
    if not 0 <= value <= most:
        rule = "at least 0" if most == math.inf else f"from 0 to {most}"
        raise ValueError(f"{name}[{wanted!r}] must be {rule}; got {value}")
    return value


def path(name: str, value: Any) -> str:
    """A path as str. Not a number, which `open` takes for a file that is open, and closes."""
    try:
        return os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{name} must be a path; got {value!r}") from None


def real(name: str, value: Any) -> float:
    """A number, as float; possibly not finite."""
    try:
        # What float() would take as well: text, and an array of one number.
        if isinstance(value, (str, bytes, bytearray)) or getattr(value, "ndim", None):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number; got {value!r}") from None


def update(params: Any, new: dict[str, Any]) -> None:
    """``params.update(new)``, or nothing at all: a dict that grows may find no memory halfway."""
    absent = object()
    before = {name: params.get(name, absent) for name in new}
    try:
        for name, value in new.items():
            params[name] = value
    except BaseException:
        for name, value in before.items():
            if value is not absent:
                params[name] = value
            elif name in params:
                del params[name]
        raise
