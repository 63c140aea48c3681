"""Sides that do the same work, and the clock that times them in turn.

What is timed comes as an argument, and nothing of fastbn is imported: the asv suite holds every
commit's layers to the clock and the probe of one checkout.
"""

from __future__ import annotations

import copy
import statistics
import time

import numpy as np

_TURN = 3  # calls counted in a side's turn
_PAUSE = 0.005  # seconds


def _seconds(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def numpy_run(case, module):
    """A function that runs a case on a module of layers: seconds of forward, and with backward."""

    def run():
        first, (_, cache) = _seconds(lambda: case.forward(module))
        if case.backward is None:
            return first, first
        second, _ = _seconds(lambda: case.backward(module, cache))
        return first, first + second

    return run


def torch_run(case, torch):
    """As `numpy_run`, for PyTorch."""
    forward, inputs = case.torch(torch)
    dout = torch.from_numpy(case.dout)

    def run():
        first, out = _seconds(forward)
        if inputs is None:
            return first, first
        second, _ = _seconds(lambda: torch.autograd.grad(out, inputs, dout))
        return first, first + second

    return run


class Probe:
    """The machine's rates on a given number of threads; `loops` is the compiled ``_ext.probe``."""

    def __init__(self, loops, dtype, num_threads):
        self.loops, self.dtype, self.num_threads = loops, np.dtype(dtype), num_threads
        self._sums = np.zeros(1 << 16)

    def arrays(self, numbers, count):
        """`count` arrays of `numbers` numbers."""
        return [np.ones(numbers, self.dtype) for _ in range(count)]  # zeros would share a page

    def mover(self, arrays):
        """A function that passes over all of `arrays`, writing the last: seconds.

        Its stores go past the caches if that is faster here.
        """
        *sources, out = arrays
        x, y = sources[0], sources[1] if len(sources) > 1 else None

        def move(streaming):
            return _seconds(
                lambda: self.loops.write(x, y, out.size, streaming, out, self.num_threads)
            )[0]

        plain, streamed = ([move(streaming) for _ in range(7)] for streaming in (False, True))
        streaming = statistics.median(streamed) < statistics.median(plain)
        return lambda: move(streaming)

    def read(self, array):
        """Seconds of reading an array."""
        return _seconds(lambda: self.loops.read(array, array.size, self._sums, self.num_threads))[0]

    def flops(self, rounds=200_000):
        """Operations a second in registers, all threads together."""
        seconds, flops = _seconds(
            lambda: self.loops.multiply_add(
                self.dtype.itemsize, rounds, self._sums, self.num_threads
            )
        )
        return flops * self.num_threads / seconds

    def table(self):
        """Lines of bytes -> GB/s for copying, reading, and two reads and a write."""
        yield f"{'':>10} {'copy':>8} {'read':>8} {'2 in, 1 out':>12}   GB/s, read and written"
        for mib in (0.25, 1, 4, 16, 64):
            numbers = int(mib * (1 << 20)) // self.dtype.itemsize
            arrays = self.arrays(numbers, 3)
            copy, read, three = (
                statistics.median(f() for _ in range(15))
                for f in (
                    self.mover(arrays[1:]),
                    lambda array=arrays[0]: self.read(array),
                    self.mover(arrays),
                )
            )
            size = arrays[0].nbytes / 1e9
            yield f"{mib:>6} MiB {2 * size / copy:8.1f} {size / read:8.1f} {3 * size / three:12.1f}"


def steps(step, dtype, classifiers, rule, layers, torch=None):
    """Sides that make a training step: name -> what `measure` runs.

    `classifiers` has the nets, `rule` is Adam, `layers` the module of layers of each side.
    """
    X, y = step.batch(dtype)
    net = step.net(classifiers, dtype)
    sides = {name: step_run(net, module, X, y, rule, 1e-3) for name, module in layers.items()}
    return {**sides, "torch": torch_step_run(step.twin(torch), X, y, torch)} if torch else sides


def step_run(net, module, X, y, rule, learning_rate):
    """A function that makes a training step on a copy of `net` on a module of layers.

    It returns its seconds, twice.
    """
    net = copy.deepcopy(net)
    net.layers = module
    configs = {name: {"learning_rate": learning_rate} for name in net.params}

    def step():
        _, grads = net.loss(X, y)
        for name, w in net.params.items():
            net.params[name], configs[name] = rule(w, grads[name], configs[name])

    def run():
        seconds, _ = _seconds(step)
        return seconds, seconds

    return run


def torch_step_run(net, X, y, torch):
    """As `step_run`, for a PyTorch net and Adam."""
    xt, yt = torch.from_numpy(X), torch.from_numpy(y)
    net = net.to(xt.dtype)
    adam = torch.optim.Adam(net.parameters())

    def step():
        adam.zero_grad()
        torch.nn.functional.cross_entropy(net(xt), yt).backward()
        adam.step()

    def run():
        seconds, _ = _seconds(step)
        return seconds, seconds

    return run


def limit_run(case, probe):
    """As `numpy_run`, for the machine's limit."""
    if case.flops[0]:

        def multiply():
            flops = probe.flops(20_000)  # here and now: processors slow down when they are hot
            return case.flops[0] / flops, sum(case.flops) / flops

        return multiply
    forward = probe.mover(probe.arrays(case.moved[0] // 2, 2))
    backward = probe.mover(probe.arrays(case.moved[1] // 3, 3))

    def run():
        first = forward()
        return first, first + (backward() if case.moved[1] else 0)

    return run


def measure(sides, seconds):
    """Side -> medians of the seconds of forward, and of forward and backward; calls alternate."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(times["fastbn"]) < 3 * _TURN:
        for name, run in sides.items():
            spent = sum(both for _, both in times[name])
            if name == "reference" and len(times[name]) >= 2 * _TURN and spent > seconds / 4:
                continue  # slow, and no close race: its turns are the others'
            time.sleep(_PAUSE)
            run()
            times[name] += [run() for _ in range(_TURN)]
    return {
        name: tuple(statistics.median(t) for t in zip(*values, strict=True))
        for name, values in times.items()
    }
