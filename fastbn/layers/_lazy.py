"""Arrays that some callers unpack from a cache and few look at."""


class LazyArray:
    """An array that is computed when somebody first uses it, and then kept.

    The course's fast layers put their column matrix into the cache. Forming it would cost more
    than the whole convolution, so the cache holds one of these in its place.
    """

    def __init__(self, compute):
        self._compute = compute
        self._array = None

    def _value(self):
        if self._array is None:
            self._array = self._compute()
        return self._array

    def __array__(self, dtype=None, copy=None):
        array = self._value()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __getattr__(self, name):
        if name.startswith("__"):  # protocols are asked of the type, not passed on
            raise AttributeError(name)
        return getattr(self._value(), name)

    def __getitem__(self, index):
        return self._value()[index]

    def __len__(self):
        return len(self._value())
