"""What the benchmarks share. Parameters are the same on every machine and for every commit.

The ruler is one for all commits: cases, clock, PyTorch's side and the NumPy reference come from the
checkout that this file is in, and only what is measured comes from the fastbn that is installed.
So a step in a graph is a change of fastbn, never one of what it is compared with.
"""

import abc
import importlib
import itertools
import math
import os
import sys
import types
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

# Its `__init__` is not run: it would ask for compiled modules.
_ruler = types.ModuleType("ruler")
_ruler.__path__ = [str(Path(__file__).parents[2] / "fastbn")]
sys.modules.setdefault("ruler", _ruler)
_cases = importlib.import_module("ruler._bench_cases")
timing = importlib.import_module("ruler._timing")
reference = importlib.import_module("ruler.reference")

IMPLS = ("fastbn", "reference", "torch")
DTYPES = ("float32", "float64")
PARTS = ("forward", "both")
CASES = dict(_cases.all_cases())
STEPS = dict(_cases.all_steps())


def installed(name="fastbn"):
    """Import what is measured; where this commit or machine has none, the benchmark is n/a."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise NotImplementedError(f"this commit has no {error.name}") from None
    except ImportError as error:
        if os.environ.get("FASTBN_ISA"):  # a CPU level that this machine or build has not
            raise NotImplementedError(str(error)) from None
        raise


def torch_or_none():
    """PyTorch, held to as many threads as fastbn."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(installed().get_num_threads())
    return torch


def limit_threads():
    """NumPy's BLAS gets as many threads as fastbn, so that no side has more than another."""
    threadpool_limits(installed().get_num_threads(), user_api="blas")


class Wrong(AssertionError):
    """fastbn's results are not the reference's: there is no time to be told."""


def check(name, dtype, ours, theirs, work, least=16, floor=0):
    """Raise `Wrong` unless two lists of arrays are the same up to rounding.

    Each number of a result sums ``work / result.size`` terms, or `least`. Rounding errors add up
    like a random walk; eight times that is far from any real mistake (as in ``tests/cases.py``).
    They are in proportion to the largest number of a result, or to `floor` where terms that are
    larger than it cancel.
    """
    if len(ours) != len(theirs):
        raise Wrong(f"{name}: {len(ours)} results, and {len(theirs)} of the reference")
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or (b.ndim and a.dtype != b.dtype):
            raise Wrong(
                f"{name}: result {i} is {a.dtype} {a.shape}; the reference's {b.dtype} {b.shape}"
            )
        terms = max(work / max(b.size, 1), least)
        tolerance = 8 * np.finfo(dtype).eps * terms**0.5 * np.abs(b).max(initial=floor)
        error = np.abs(a - b).max(initial=0)
        if not error <= tolerance:  # also for NaN
            raise Wrong(f"{name}: result {i} is off by {error:.3g}; rounding is {tolerance:.3g}")


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)


def results(case, module):
    """A case's results, backward ones after forward ones, without the cache."""
    np.random.seed(0)  # dropout draws from the stream
    out, cache = case.forward(module)
    if case.backward is None:
        return [out, cache]
    return [out, *_tuple(case.backward(module, cache))]


def checked(name, dtype):
    """A case whose results are right; the benchmark is n/a if this commit lacks its functions."""
    layers = installed("fastbn.layers")
    case = CASES[name](dtype)
    expected = results(case, reference)
    try:
        got = results(case, layers)
    except AttributeError as error:
        if error.obj is not layers:
            raise
        raise NotImplementedError(f"this commit has no {error.name}") from None
    check(name, dtype, got, expected, max(sum(case.moved), *case.flops), case.terms)
    return case


def checked_step(name, dtype):
    """A training step whose loss and gradients are right; n/a if this commit has no such net."""
    nets = installed("fastbn.classifiers")
    step = STEPS[name]
    found = []
    for module in (installed("fastbn.layers"), reference):
        np.random.seed(0)
        try:
            net = step.net(nets, dtype)
        except (AttributeError, TypeError) as error:
            raise NotImplementedError(f"this commit's nets: {error}") from None
        net.layers = module
        loss, grads = net.loss(*step.batch(dtype))
        found.append([loss, *(grads[name] for name in sorted(grads))])
    # Errors of five layers add up, and normalizing magnifies them. Gradients are between 1e-5 and
    # 0.1, but those of biases before a normalization, which are 0 but for rounding.
    check(name, dtype, *found, work=0, least=1e4, floor=1e-3)
    return step


def side(impl, case):
    """A case's forward pass on one side, and its backward pass from what that returned."""
    if impl != "torch":
        module = installed("fastbn.layers") if impl == "fastbn" else reference
        return lambda: case.forward(module), lambda result: case.backward(module, result[1])
    torch = torch_or_none()
    if torch is None or case.torch is None:
        raise NotImplementedError("PyTorch is not installed or has no such function")
    forward, inputs = case.torch(torch)
    dout = torch.from_numpy(case.dout)
    return forward, lambda out: torch.autograd.grad(out, inputs, dout, retain_graph=True)


def step_sides(step, dtype):
    """Each side's training step."""
    return timing.steps(
        step,
        dtype,
        installed("fastbn.classifiers"),
        installed("fastbn.optim").adam,
        {"fastbn": installed("fastbn.layers"), "reference": reference},
        torch_or_none(),
    )


def by_case(params, function):
    """(dtype, case) -> what the function says, None where it is n/a, or why it is wrong."""
    found = {}
    for dtype, case in itertools.product(*params[1:]):
        try:
            limit_threads()
            found[dtype, case] = function(case, dtype)
        except NotImplementedError as error:
            print(f"n/a: {case}, {dtype}: {error}")
            found[dtype, case] = None
        except Wrong as error:
            found[dtype, case] = str(error)
    return found


def told(found, dtype, case):
    """What `by_case` found; its `Wrong` is raised here, so that only that case fails."""
    if isinstance(found[dtype, case], str):
        raise Wrong(found[dtype, case])
    return found[dtype, case]


class Benchmark(abc.ABC):
    """What asv is to run is a subclass with parameters: it passes over abstract classes."""

    @property
    @abc.abstractmethod
    def params(self):
        """Values of each of `param_names`."""


class Timings(Benchmark):
    """Times a layer's forward pass.

    ``impl`` is a parameter, so the speed-up is the ratio of two columns. Before anything is timed
    fastbn must agree with the reference: a wrong kernel cannot post a time.
    """

    param_names = ("impl", "dtype", "case")
    timeout = 300
    repeat = (3, 10, 2.0)

    def setup(self, impl, dtype, case):
        limit_threads()
        self.forward, self.backward = side(impl, checked(case, dtype))

    def time_forward(self, impl, dtype, case):
        self.forward()


class BackwardTimings(Timings):
    """Times the backward pass, too."""

    def setup(self, impl, dtype, case):
        super().setup(impl, dtype, case)
        self.cache = self.forward()

    def time_backward(self, impl, dtype, case):
        self.backward(self.cache)


class StepTimings(Benchmark):
    """Times a training step."""

    param_names = ("impl", "dtype", "case")
    timeout = 300
    repeat = (3, 10, 2.0)

    def setup(self, impl, dtype, case):
        limit_threads()
        sides = step_sides(checked_step(case, dtype), dtype)
        if impl not in sides:
            raise NotImplementedError("PyTorch is not installed")
        self.step = sides[impl]

    def time_step(self, impl, dtype, case):
        self.step()


class PeakMemory(Benchmark):
    """The process's peak in a forward and a backward pass, its arguments and modules included.

    Results are checked in `setup_cache`, a process of its own: the reference's peak would hide
    fastbn's. Each subclass needs a `setup_cache` of its own, ``return self.verdicts()``: asv tells
    them apart by the line.
    """

    param_names = ("impl", "dtype", "case")
    timeout = 300

    def verdicts(self):
        return by_case(self.params, lambda name, dtype: bool(checked(name, dtype)))

    def setup(self, verdicts, impl, dtype, case):
        limit_threads()
        if not told(verdicts, dtype, case):
            raise NotImplementedError("this commit has no such function")
        self.forward, self.backward = side(impl, CASES[case](dtype))

    def peakmem_forward_and_backward(self, verdicts, impl, dtype, case):
        self.backward(self.forward())


class StepTracks(Benchmark):
    """Ratios of fastbn to its peers, calls alternating in one process.

    All is measured once, in `setup_cache`; the tracks look it up. asv tells caches apart by the
    line that `setup_cache` is on: each subclass needs one of its own, ``return self.measured()``.

    asv takes a step up for a regression. So the ratios are fastbn's time over the peer's, and
    asv.conf.json keeps those tracks out of the search of which more is better.
    """

    param_names = ("part", "dtype", "case")
    timeout = 900  # of setup_cache: the NumPy reference takes a second a call in places
    seconds = 0.25  # for each case, at least
    #: Bump it when cases, clock or reference change what is measured: asv then drops old results.
    version = "1"

    def measured(self):
        """(dtype, case) -> part -> what the tracks say."""
        return by_case(self.params, self.measure)

    def measure(self, name, dtype):
        sides = step_sides(checked_step(name, dtype), dtype)
        return self.compared(timing.measure(sides, self.seconds))

    def compared(self, times):
        """Part -> what the tracks say, from the seconds of each side."""
        found = {}
        for i, part in enumerate(PARTS):
            ours = times["fastbn"][i]
            found[part] = values = {
                "ratio": ours / times["reference"][i],
                "speedup": times["reference"][i] / ours,
            }
            if "torch" in times:
                values["torch_ratio"] = ours / times["torch"][i]
        return found

    def _track(self, found, part, dtype, case, what):
        return (told(found, dtype, case) or {part: {}})[part].get(what, math.nan)

    def track_ratio(self, found, part, dtype, case):
        return self._track(found, part, dtype, case, "ratio")

    track_ratio.unit = "fastbn time / NumPy time"

    def track_speedup(self, found, part, dtype, case):
        return self._track(found, part, dtype, case, "speedup")

    track_speedup.unit = "x"

    def track_torch_ratio(self, found, part, dtype, case):
        return self._track(found, part, dtype, case, "torch_ratio")

    track_torch_ratio.unit = "fastbn time / PyTorch time"


class Tracks(StepTracks):
    """The same for a layer; its rate, too, and its share of what the machine can do."""

    unit = "GB/s"  # of `track_rate`; a subclass of products says GFLOP/s

    def measure(self, name, dtype):
        case = checked(name, dtype)
        sides = {
            "fastbn": timing.numpy_run(case, installed("fastbn.layers")),
            "reference": timing.numpy_run(case, reference),
        }
        torch = torch_or_none()
        if torch is not None and case.torch is not None:
            sides["torch"] = timing.torch_run(case, torch)
        loops = getattr(installed("fastbn._ext"), "probe", None)
        if loops is not None:  # there is one since `fastbn bench`
            probe = timing.Probe(loops, dtype, installed().get_num_threads())
            sides["limit"] = timing.limit_run(case, probe)
        times = timing.measure(sides, self.seconds)
        found = self.compared(times)
        for i, part in enumerate(PARTS):
            amounts = case.flops if case.flops[0] else np.multiply(case.moved, case.dout.itemsize)
            seconds = times["fastbn"][i]
            found[part]["rate"] = float(sum(amounts[: i + 1])) / seconds / 1e9
            if "limit" in times:
                found[part]["limit_share"] = 100 * times["limit"][i] / seconds
        return found

    def track_rate(self, found, part, dtype, case):
        return self._track(found, part, dtype, case, "rate")

    def track_limit_share(self, found, part, dtype, case):
        return self._track(found, part, dtype, case, "limit_share")

    track_limit_share.unit = "%"
