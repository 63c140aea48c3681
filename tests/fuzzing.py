"""Calls of the public functions with arguments of every kind, from one source of chance.

`Fuzzer(random)` makes and judges one call at a time. The law: a call answers what
`fastbn.reference` answers, or raises ValueError, TypeError or MemoryError; good arguments are never
refused; nothing warns, and no argument changes. `random` is a ``random.Random``: one of Hypothesis'
in `test_fuzz.py`, which shrinks what it finds, a seeded one in the long run (`fuzz.py`).

Kinds of arguments: good (any layout, any dtype of numbers); with special numbers (NaN, infinities,
subnormals: finite answers at the same places); with huge ones, whose squares overflow (any answer);
bad (anything else: refused, or answered as the reference does if it does).
"""

import contextlib
import copy
import warnings

import numpy as np
from fuzz_targets import TARGETS

import fastbn
from fastbn import _ext, _threads, layer_utils, optim

GOOD, SPECIAL, HUGE, BAD = range(4)

FLOATS = ("f4", "f8")
NUMBERS = ("f2", "f4", "f8", ">f4", ">f8", "?", "i1", "u2", "i4", "i8", "u8", ">i4")
NOT_NUMBERS = ("c16", "g", "O", "U3", "S3", "M8[s]", "m8[s]", "V8")
SPECIAL_NUMBERS = (np.nan, np.inf, -np.inf, -0.0, 1e-45, 5e-324, 1e-310)
HUGE_NUMBERS = (1e18, -1e18, 3e38, 1e300, -1e308)

#: No length here is such that an array of it could be had and take minutes: tiny or beyond memory.
ABSURD = (
    None, -1, 0, 1, 2, 3, 7, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63), 10**30,
    1.5, 2.0, np.nan, np.inf, -np.inf, 1e-320, 1e308, "", "1", "train", "test", "direct", b"1",
    True, np.int8(3), np.uint64(1 << 63), np.float32(2), np.float16(0.5), np.array(2),
    np.array([2]), np.array(2.5), np.array([]), [2], [], (1, 2), {}, {"mode": "train"}, 1j,
    NotImplemented, Ellipsis, object, len, slice(None), range(3),
)  # fmt: skip
EXTRA_KEYS = ("mode", "eps", "momentum", "seed", "algorithm", "stride", "x", 0, None, (1,))


@contextlib.contextmanager
def settings_kept():
    """The package's settings, and NumPy's random stream, are afterwards what they were."""
    requested, stream = _threads._requested, np.random.get_state()
    algorithm, convention = fastbn.get_conv_algorithm(), fastbn.get_dropout_convention()
    limit = _ext.memory.get_limit()
    try:
        yield
    finally:
        _threads._requested = requested
        fastbn.set_conv_algorithm(algorithm)
        fastbn.set_dropout_convention(convention)
        fastbn.set_reuse_limit(limit)
        np.random.set_state(stream)


class Fuzzer:
    """Makes calls from `random` and judges them."""

    def __init__(self, random):
        self.random = random
        self.rng = np.random.default_rng(random.getrandbits(32))
        self.kind = GOOD
        self.calls = 0

    # Arguments

    def layout(self, array):
        """The same numbers elsewhere in memory."""
        random = self.random
        which = random.randrange(8)
        if which == 0 and array.ndim:
            return np.asfortranarray(array)
        if which == 1 and array.ndim:  # every second of a larger array, backwards
            axis = random.randrange(array.ndim)
            wide = np.repeat(np.flip(array, axis), 2, axis)
            return np.flip(wide, axis)[(slice(None),) * axis + (slice(None, None, 2),)]
        if which == 2:  # not aligned
            raw = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
            raw[...] = array
            return raw
        if which == 3:
            array = np.array(array)
            array.flags.writeable = False
            return array
        if which == 4 and array.ndim:
            axes = random.sample(range(array.ndim), array.ndim)
            return array.transpose(axes).copy().transpose(np.argsort(axes))
        if which == 5 and array.size:  # strides of 0
            first = array[(slice(0, 1),) * array.ndim]
            return np.broadcast_to(first, array.shape)
        if which == 6 and 0 < array.size < 100:
            return array.tolist()
        if which == 7 and array.ndim:  # rows that overlap
            flat = np.concatenate([array.ravel(), array.ravel()])
            strides = [array.itemsize * random.randint(0, 2) for _ in array.shape]
            reach = sum(s * (n - 1) for s, n in zip(strides, array.shape, strict=True) if n)
            if array.size and reach < flat.nbytes:
                return np.lib.stride_tricks.as_strided(flat, array.shape, strides)
        return array

    def cast(self, array, dtypes=NUMBERS):
        dtype = np.dtype(self.random.choice(dtypes))
        if dtype.kind in "biu":
            array = np.clip(np.nan_to_num(array), 0, 33) * 3
        with np.errstate(all="ignore"):
            return np.asarray(array.astype(dtype))

    def wild(self, array):
        array = np.array(array, copy=True)
        if array.dtype.kind == "f" and array.size:
            huge = self.random.random() < 0.3
            self.kind = max(self.kind, HUGE if huge else SPECIAL)
            with np.errstate(all="ignore"):
                for _ in range(self.random.randint(1, 3)):
                    place = self.random.randrange(array.size)
                    numbers = HUGE_NUMBERS if huge else SPECIAL_NUMBERS
                    array.flat[place] = self.random.choice(numbers)
        return array

    def bad_array(self, array):
        self.kind = BAD
        random = self.random
        which = random.randrange(9)
        if which == 0:
            return random.choice(ABSURD)
        if which == 1:
            try:
                with np.errstate(all="ignore"):
                    return array.astype(random.choice(NOT_NUMBERS))
            except (TypeError, ValueError):
                return None
        if which == 2:
            return np.ma.masked_array(array, array > 0)
        if which == 3:  # larger than any memory, with strides of 0
            shape = [random.choice((1, 3, 1 << 20, 1 << 40)) for _ in range(array.ndim or 1)]
            shape[0] = 1 << 44
            try:
                return np.broadcast_to(array.dtype.type(1), shape)
            except ValueError:
                return None
        if which == 4:
            return array[None]
        if which == 5 and array.ndim:
            return array.sum(axis=random.randrange(array.ndim))
        if which == 6 and array.ndim:
            axis = random.randrange(array.ndim)
            return np.concatenate([array, array.take([0] * min(1, array.shape[axis]), axis)], axis)
        if which == 7 and array.ndim:
            return array.take([], random.randrange(array.ndim))
        return array.T

    def array(self, array):
        """An array of any kind for a good one; most are good."""
        chance = self.random.random()
        if array.dtype.kind != "f":  # labels, indices
            if chance < 0.2:
                return self.bad_array(array)
            return self.layout(array) if chance < 0.6 else array
        if chance < 0.06:
            return self.bad_array(array)
        if chance < 0.16:
            array = self.wild(array)
        if chance < 0.4:
            array = self.cast(array)
        if self.random.random() < 0.4:
            array = self.layout(array)
        return array

    def value(self, value):
        """One of a parameter, bad now and then."""
        if isinstance(value, np.ndarray):
            return self.array(value)
        if isinstance(value, dict):
            return self.dict(value)
        if self.random.random() < 0.04:
            self.kind = BAD
            return self.random.choice(ABSURD)
        if isinstance(value, tuple) and value and self.random.random() < 0.1:
            self.kind = BAD
            value = list(value)
            value[self.random.randrange(len(value))] = self.random.choice(ABSURD)
            return self.random.choice((tuple, list))(value)
        return value

    def dict(self, params):
        params = {key: self.value(value) for key, value in params.items()}
        if self.random.random() < 0.06:
            self.kind = BAD
            which = self.random.randrange(3)
            if which == 0 and params:
                del params[self.random.choice(list(params))]
            elif which == 1:
                params[self.random.choice(EXTRA_KEYS)] = self.random.choice(ABSURD)
            else:
                return self.random.choice(ABSURD)
        return params

    def arguments(self, target):
        good = target.shapes(self.random)(self.rng)
        dtype = self.random.choice(FLOATS)
        good = {k: _floats(v, dtype) for k, v in good.items()}
        return {name: self.value(value) for name, value in good.items()}

    def cache(self, cache):
        """What could be handed over instead of a cache."""
        self.kind = BAD
        which = self.random.randrange(4)
        if which == 0 or not isinstance(cache, tuple):
            return self.random.choice(ABSURD)
        if which == 1:
            return cache[: self.random.randrange(len(cache) + 1)]
        items = list(cache)
        place = self.random.randrange(len(items))
        item = items[place]
        items[place] = self.bad_array(item) if isinstance(item, np.ndarray) else self.value(item)
        return tuple(items) if which == 2 or not hasattr(cache, "_make") else cache._make(items)

    # Calls

    def step(self):
        """One call, and the backward pass if there is one: "equal", "refused", "no memory"."""
        (target,) = self.random.choices(TARGETS, [target.share for target in TARGETS])
        self.target, self.called, self.given = target, target.forward, None
        self.kind = GOOD if target.strict else BAD
        arguments = self.arguments(target)
        self.given = arguments
        seed = self.random.getrandbits(32)
        theirs = _reference_arguments(arguments)  # before the call: running statistics are updated
        outcome, result = self.call(target.module, target.forward, arguments.values(), seed)
        if outcome != "answered":
            return outcome
        expected = None
        if target.twin is not None and not (self.kind == BAD and theirs is None):
            expected = self.expect(target.twin, target.forward, theirs, seed)
            if expected is not None:
                self.compare(result, expected, _arrays(arguments))
        if target.backward is None:
            return "equal"
        return self.backward(target, arguments, result, expected, seed)

    def backward(self, target, arguments, result, expected, seed):
        if not (isinstance(result, tuple) and len(result) == 2):
            raise AssertionError(f"{target.forward} returned {type(result)}")
        out, cache = result
        dout = self.rng.standard_normal(out.shape).astype(out.dtype)
        dout = self.array(dout) if self.random.random() < 0.5 else dout
        if self.random.random() < 0.15:
            cache = self.cache(cache)
            expected = None
        self.called, self.given = target.backward, {"dout": dout, "cache": cache}
        outcome, gradients = self.call(target.module, target.backward, (dout, cache), seed)
        if outcome != "answered":
            return outcome
        if (
            expected is not None
            and target.module is layer_utils
            and ("pool" in target.forward or _near_a_kink(expected[1], self.coarsest))
        ):  # numbers that repeat tie, but for rounding, for a window's maximum
            expected = None
        if expected is not None:
            theirs = _reference_arguments({"dout": dout})
            if theirs is not None:
                theirs = self.expect(target.twin, target.backward, [*theirs, expected[1]], seed)
            if theirs is not None:
                self.compare((gradients, None), (theirs, None), _arrays(arguments))
        return "equal"

    def call(self, module, name, arguments, seed):
        """(outcome, result) of ours."""
        self.calls += 1
        arguments = list(arguments)
        before = [_snapshot(a) for a in arguments]
        np.random.seed(seed)
        with warnings.catch_warnings():
            # The update rules are NumPy's arithmetic, and say as NumPy does that weights diverge.
            warnings.simplefilter("ignore" if module is optim else "error")
            # As a condition, which it may not be from Python 3.14 on.
            warnings.filterwarnings("ignore", "NotImplemented should not", DeprecationWarning)
            try:
                outcome = "answered", getattr(module, name)(*arguments)
            except MemoryError:
                outcome = "no memory", None
            except (TypeError, ValueError, *self.target.refusals) as error:
                if self.kind != BAD:
                    raise AssertionError(f"good arguments were refused: {error}") from error
                if not str(error):
                    raise AssertionError("an error without a word") from error
                outcome = "refused", None
        answered = outcome[0] == "answered"
        for a, b in zip(arguments, before, strict=True):
            if not _same(a, b, answered) and not (answered and module is optim):
                raise AssertionError("an argument was changed")
        return outcome

    def expect(self, module, name, arguments, seed):
        """The reference's answer in float64; None where it has none."""
        np.random.seed(seed)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                return getattr(module, name)(*arguments)
            except Exception:
                if self.kind != BAD:
                    raise
                return None

    def compare(self, result, expected, arguments):
        ours, theirs = _flat(result), _flat(expected)
        if len(ours) != len(theirs):
            raise AssertionError(f"{len(ours)} results, not {len(theirs)}")
        for a, e in zip(ours, theirs, strict=True):
            a, e = np.asarray(a), np.asarray(e)
            if a.shape != e.shape:
                raise AssertionError(f"shape {a.shape}, not {e.shape}")
            if a.dtype.kind in "iu":
                np.testing.assert_array_equal(a, e)
            elif a.dtype.kind == "f" and self.kind in (GOOD, SPECIAL):
                self.close(a, e, arguments)

    def close(self, a, e, arguments):
        """Finite at the same places, and equal there but for rounding.

        Whether an infinity becomes a NaN depends on the order of operations: gamma * (x - mean)
        + beta and gamma * x + (beta - gamma * mean) differ where gamma is infinite.
        """
        eps = max(float(np.finfo(a.dtype).eps), self.coarsest)
        if self.kind == SPECIAL:
            if self.target.module is layer_utils:
                return  # a relu makes 0 of -inf and NaN of NaN
            if "conv" in self.called and not all(map(np.size, arguments)):
                return  # images without pixels: no weight is multiplied by the padding
        finite = np.isfinite(e)
        differ = np.isfinite(a) & ~finite
        if "conv" not in self.called:
            differ |= np.isfinite(a) != finite
        if differ.any():
            raise AssertionError(f"not finite at {np.argwhere(differ)[:5]}")
        finite &= np.isfinite(a)
        scale = max(1.0, float(np.abs(e[finite]).max(initial=0)))
        if "norm" in self.called or "_bn_" in self.called or "_ln_" in self.called:
            # 1 / sqrt(1e-5): what a variance of 0 makes of rounding errors in x, which dgamma sums
            scale *= 3160
        np.testing.assert_allclose(a[finite], e[finite], rtol=0, atol=3000 * eps * scale)

    @property
    def coarsest(self):
        """eps of the coarsest dtype that went in: gradients may come in float64 all the same."""
        kinds = [v.dtype for v in _arrays(self.given) if v.dtype.kind == "f"]
        return max((float(np.finfo(dtype).eps) for dtype in kinds), default=0.0)


def _near_a_kink(caches, eps):
    """A relu's gradient jumps where what it got is rounded to the other side of 0."""
    relu_cache = next(cache for cache in caches if isinstance(cache, np.ndarray))
    size = np.abs(relu_cache)
    scale = max(1, size[np.isfinite(size)].max(initial=0))
    return bool((size < 3000 * 316 * max(eps, 2.3e-16) * scale).any())


def _floats(value, dtype):
    if isinstance(value, dict):
        return {k: _floats(v, dtype) for k, v in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == float:
        return value.astype(dtype)
    return value


def _arrays(value):
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [a for item in value for a in _arrays(item)]
    return []


def _reference_arguments(arguments):
    """Copies, arrays of numbers in float64; None if one is too large to copy."""

    def convert(value):
        if isinstance(value, np.ndarray):
            if value.size > 1 << 24:
                raise MemoryError
            if value.dtype.kind == "f" and value.dtype.itemsize <= 8:
                return np.array(value, np.float64)
            return value.copy()
        if isinstance(value, dict):
            return {k: convert(v) for k, v in value.items()}
        return copy.deepcopy(value)

    try:
        return [convert(value) for value in arguments.values()]
    except MemoryError:
        return None


def _flat(value):
    """The arrays and numbers of a result; a cache, which only the backward pass reads, is left."""
    if isinstance(value, tuple):
        if len(value) == 2 and not isinstance(value[1], np.ndarray):
            value = value[:1]  # (out, cache)
        return [a for item in value for a in _flat(item)]
    return [value]


def _snapshot(value):
    if isinstance(value, np.ndarray):
        if value.size > 1 << 24 or value.dtype == object:
            return value.dtype, value.shape
        if value.dtype.char == "g":  # whose bytes are not all the number's
            return value.dtype, value.shape, repr(value.tolist())
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: _snapshot(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_snapshot(item) for item in value]
    return None


_WRITTEN = ("running_mean", "running_var")


def _same(value, before, answered):
    """`value` is as it was; a call that answers may write running statistics, new arrays."""
    if isinstance(value, dict):
        after = {key: _snapshot(item) for key, item in value.items()}
        if answered:
            for key in _WRITTEN:
                after.pop(key, None), before.pop(key, None)
        return after == before
    return _snapshot(value) == before
