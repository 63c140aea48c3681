"""Arrays that some callers unpack from a cache and few look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class LazyArray(NDArrayOperatorsMixin):
    """An array that is computed when somebody first uses it, and then kept.

    The course's fast layers put their column matrix into the cache. Forming it would cost more
    than the whole convolution, so the cache holds one of these in its place. It is computed from
    what the arguments hold at that time. `source`, if any, says the same in our own form: our
    backward functions look there, until somebody has used the array and may have changed it.
    """

    _array = None

    @staticmethod
    def source_of(value: Any) -> Any:
        """The source of a LazyArray that nobody has used; None of anything else."""
        if type(value) is LazyArray and value._array is None:
            return value._source
        return None

    def __init__(self, compute: Callable[[], Any], source: Any = None) -> None:
        object.__setattr__(self, "_compute", compute)
        object.__setattr__(self, "_source", source)

    def _value(self) -> Any:
        if self._array is None:
            # Of several threads that come here at once the first to be done is kept, for all.
            vars(self).setdefault("_array", self._compute())
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = np.asarray(self._value(), dtype)
        return array.copy() if copy and array is self._array else array

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        def plain(values: Iterable[Any]) -> tuple[Any, ...]:
            return tuple(v._value() if isinstance(v, LazyArray) else v for v in values)

        if "out" in kwargs:
            kwargs["out"] = plain(kwargs["out"])
        return getattr(ufunc, method)(*plain(inputs), **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:  # copies and pickles are of the array
        return np.asarray, (self._value(),)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols are asked of the type, not passed on
            raise AttributeError(name)
        return getattr(self._value(), name)

    def __setattr__(self, name: str, value: Any) -> None:  # the course assigns x_cols.shape
        setattr(self._value(), name, value)

    def __getitem__(self, index: Any) -> Any:
        return self._value()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._value()[index] = value

    def __len__(self) -> int:
        return len(self._value())
