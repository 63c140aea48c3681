"""Every request for memory fails once: ``python tests/out_of_memory.py``.

Each layer function, composed layer and update rule is called again and again, its k-th request for
memory refused, for k = 1, 2, ... until the call goes through: those of the package, those of NumPy
and, with ``--objects``, Python's own. The law: MemoryError or the right answer; arguments and
settings as they were; nothing leaked; the next call answers right. Needs a C compiler and the GNU C
library: `out_of_memory.c` stands before its allocator.

Not ours: NumPy 2.4's iterator forgets to say MemoryError, which Python turns into SystemError; it
counts as MemoryError. CPython 3.11 loses what it was passing to a function where it is refused a
cell for a closure, so leaks are not looked for with ``--objects``.
"""

import argparse
import copy
import ctypes
import gc
import itertools
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import operations
from fuzz_targets import TARGETS
from fuzzing import _arrays, _same, _snapshot

import fastbn
from fastbn import _ext, _threads, layer_utils, layers, optim
from fastbn.layers._lazy import LazyArray

SOURCE = Path(__file__).with_suffix(".c")
FOREVER = 1 << 40
KINDS = ("small", "large", "half", "strided")


# The cases: (name, function, arguments)


def _forwards():
    """(module, forward, backward or None, arguments of a Generator)"""
    for operation in operations.OPERATIONS:
        yield layers, operation.forward, operation.backward, operation.arguments
    for name, arguments in operations.OTHERS.items():
        yield layers, name, None, arguments
    for target in TARGETS:
        if target.module in (layer_utils, optim):
            chance = random.Random(231)
            for _ in range(2):  # a rule with states and without
                while not all(a.size for a in _arrays(_made(target.shapes(chance)))):
                    pass
                state = chance.getstate()
                yield target.module, target.forward, target.backward, _again(target, state)


def _again(target, state):
    def arguments(rng):
        chance = random.Random()
        chance.setstate(state)
        made = _made(target.shapes(chance), rng)
        while not all(a.size for a in _arrays(made)):
            made = _made(target.shapes(chance), rng)
        return made

    return arguments


def _made(maker, rng=None):
    return maker(rng or np.random.default_rng(231))


def _of_kind(kind, arguments):
    """The arguments larger than a block that is kept, in float16, or strided."""

    def convert(array):
        if kind == "half":
            return array.astype(np.float16)
        return np.repeat(array, 2, -1)[..., ::2] if kind == "strided" and array.ndim else array

    if kind == "large":
        first = next(iter(arguments.values()))
        if not isinstance(first, np.ndarray) or not first.ndim:
            return arguments
        times = -(-(1 << 16) // first.nbytes)
        rows = {"x", "y", "w", "dw", "config"} if "dw" in arguments else {"x", "y"}

        def tile(value):
            if isinstance(value, dict):
                return {key: tile(item) for key, item in value.items()}
            return np.concatenate([value] * times) if np.ndim(value) else value

        return {k: tile(v) if k in rows else v for k, v in arguments.items()}
    return operations.map_arrays(convert, arguments)


def cases(kind):
    for module, forward, backward, make in _forwards():
        arguments = _of_kind(kind, make(np.random.default_rng(231)))
        function = getattr(module, forward)
        yield f"{forward} {kind}", function, list(arguments.values())
        if backward is None:
            continue
        out, cache = function(*copy.deepcopy(list(arguments.values())))
        dout = np.cos(out)
        yield f"{backward} of {forward} {kind}", getattr(module, backward), [dout, cache]
        for i, lazy in enumerate(_lazy(cache)):
            yield f"array {i} in the cache of {forward} {kind}", _compute, [lazy]


def _lazy(cache):
    if isinstance(cache, LazyArray):
        return [cache]
    return [a for item in cache for a in _lazy(item)] if isinstance(cache, tuple) else []


def _compute(lazy):
    return lazy._compute()


# What is asked of each


def _bits(result):
    """The numbers of a result, whose caches hold arrays that are made when used."""
    if isinstance(result, dict):
        return {key: _bits(value) for key, value in result.items()}
    if isinstance(result, tuple | list):
        return [_bits(value) for value in result]
    return None if isinstance(result, LazyArray) else np.asarray(result).tobytes()


def _settings():
    core = np._core if hasattr(np._core, "multiarray") else np.core  # 1.26 has an empty _core
    return (
        core.multiarray.get_handler_name(),
        _ext.memory.get_limit(),
        _threads._requested,
        fastbn.get_conv_algorithm(),
        fastbn.get_dropout_convention(),
    )


class Case:
    """A function and its arguments, and what it answers where memory is enough."""

    def __init__(self, allocator, leaks, function, arguments):
        self.allocator, self.leaks = allocator, leaks
        self.function, self.arguments = function, arguments
        self.expected = self.call()[1]
        assert self.call()[1] == self.expected
        self.requests = self.call(0, 0)[2]

    def call(self, passes=None, failures=0):
        """(MemoryError or None, bits or None, requests), and the law about arguments."""
        arguments = [dict(a) if isinstance(a, dict) else a for a in self.arguments]
        before = [_snapshot(a) for a in arguments]
        settings = _settings()
        if self.function is optim.sgd:  # works in place
            arguments[0] = arguments[0].copy()
        np.random.seed(231)
        error = result = None
        requests = 0
        try:
            if passes is not None:
                self.allocator.oom_arm(passes, failures)
            result = self.function(*arguments)
        except MemoryError:
            error = True
        except SystemError as wrong:  # as above
            error = "without" in str(wrong) and "exception" in str(wrong)
            assert error, wrong
        finally:
            requests = self.allocator.oom_disarm()
        if error:
            for a, b in zip(arguments, before, strict=True):
                assert _same(a, b, False), f"an argument was changed: {a}"
        assert _settings() == settings, f"settings were changed: {_settings()}"
        return error, None if error else _bits(result), requests

    def fail(self, passes, failures):
        """The law, where the requests after so many are refused, several times over."""
        allocated = []
        for i in range(8):
            error, bits, _ = self.call(passes, failures)
            assert error or bits == self.expected, "a wrong answer"
            del bits
            if i == 4:  # it grew each time; not with what only the collector finds?
                gc.collect()
            allocated.append(self.allocator.oom_bytes())
            if not self.grows(allocated[-4:]):
                break
        assert not self.grows(allocated[-4:]), f"memory leaks: {allocated} bytes"
        assert self.call()[1] == self.expected, "a wrong answer by the next call"

    def grows(self, allocated):
        return self.leaks and all(a < b for a, b in itertools.pairwise(allocated))


def run(kinds, only, threads, forever):
    allocator = ctypes.CDLL(None)
    allocator.oom_disarm.restype = allocator.oom_bytes.restype = ctypes.c_long
    allocator.oom_arm.argtypes = ctypes.c_long, ctypes.c_long
    leaks = os.environ.get("PYTHONMALLOC") != "malloc"
    gc.disable()
    _threads.SMALL = 0
    findings = calls = points = 0
    for kind in kinds:
        for name, function, arguments in cases(kind):
            if only not in name:
                continue
            for num_threads in threads:
                fastbn.set_num_threads(num_threads)
                case = Case(allocator, leaks, function, arguments)
                for k in range(case.requests + 1):
                    for failures in (1, FOREVER) if forever else (1,):
                        points += 1
                        try:
                            case.fail(k, failures)
                        except Exception as wrong:
                            findings += 1
                            text = f"{type(wrong).__name__}: {wrong}"[:300]
                            print(f"{name}, {num_threads} threads, request {k}: {text}", flush=True)
                calls += 1
        gc.collect()
    print(f"{calls} calls, {points} requests refused, {findings} findings")
    return 1 if findings else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=KINDS)
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--objects", action="store_true", help="Python's own requests, too")
    parser.add_argument("--forever", action="store_true", help="also: all from the k-th on")
    args = parser.parse_args()
    if "FASTBN_OUT_OF_MEMORY" in os.environ:
        return run(args.kind, args.only, args.threads, args.forever)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "out_of_memory.so")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(library), "FASTBN_OUT_OF_MEMORY": "1"}
        if args.objects:
            environment["PYTHONMALLOC"] = "malloc"
        return subprocess.run([sys.executable, *sys.argv], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
