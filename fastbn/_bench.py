"""``fastbn bench``: the layers next to a peer and to the machine's limit, in one process.

Sides alternate and medians are compared, so that the machine's moods hit all alike. A side's turn
is a pause, one call that is not counted and a few that are: the idle threads of the side before go
on spinning for a while, and would be charged to the next. Every side gets fresh results and pays
for their memory, as its users do; but for the limit, which writes into memory that is there.

The limit of a memory-bound layer is moving the bytes that it cannot do without: for a forward pass
a copy of them, for a backward pass reading two arrays and writing one; with stores into the caches
or past them, whichever is faster. That of a product is the rate of multiply-adds in registers.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Iterator

import numpy as np

from . import _ext, _options, _threads, layers, reference
from ._atomic import atomic_write
from ._bench_cases import all_cases

_TURN = 3  # calls counted in a side's turn
_PAUSE = 0.005  # seconds
PEERS = ("torch", "reference")


def _seconds(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def numpy_run(case, module):
    """A function that runs a case on a module of layers: seconds of forward, and with backward."""
    backward = getattr(module, case.backward, None)

    def run():
        first, (_, cache) = _seconds(lambda: case.forward(module))
        second = _seconds(lambda: backward(case.dout, cache))[0] if backward else 0
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
    """The machine's rates on a given number of threads."""

    def __init__(self, dtype, num_threads):
        self.dtype, self.num_threads = np.dtype(dtype), num_threads
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
                lambda: _ext.probe.write(x, y, out.size, streaming, out, self.num_threads)
            )[0]

        plain, streamed = ([move(streaming) for _ in range(7)] for streaming in (False, True))
        streaming = statistics.median(streamed) < statistics.median(plain)
        return lambda: move(streaming)

    def read(self, array):
        """Seconds of reading an array."""
        return _seconds(lambda: _ext.probe.read(array, array.size, self._sums, self.num_threads))[0]

    def flops(self, rounds=200_000):
        """Operations a second in registers, all threads together."""
        seconds, flops = _seconds(
            lambda: _ext.probe.multiply_add(
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


def _limit_run(case, probe):
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
            if name == "reference" and len(times[name]) >= 2 * _TURN:
                continue  # slow, and no close race
            time.sleep(_PAUSE)
            run()
            times[name] += [run() for _ in range(_TURN)]
    return {
        name: tuple(statistics.median(t) for t in zip(*values, strict=True))
        for name, values in times.items()
    }


def run(
    peers: tuple[str, ...] = (),
    dtype: str = "float32",
    only: str = "",
    seconds: float = 2.0,
    json_file: str | None = None,
) -> Iterator[str]:
    """Measure, and yield the lines of a table.

    Parameters
    ----------
    peers : tuple of {"torch", "reference"}
        What to compare with.
    dtype : {"float32", "float64"}
        What to compute in.
    only : str
        Cases whose name holds this text; all by default.
    seconds : float
        For each case.
    json_file : str, optional
        A file for the seconds, too.

    Yields
    ------
    str
        Lines to print.

    Raises
    ------
    ValueError
        If no case has such a name.
    ImportError
        If "torch" is a peer and not installed.
    """
    cases = {name: make for name, make in all_cases() if only in name}
    if not cases:
        names = "; ".join(name for name, _ in all_cases())
        raise ValueError(f"no case has {only!r} in its name; there are {names}")
    num_threads = _threads.get_num_threads()
    torch = None
    if "torch" in peers:
        import torch

        torch.set_num_threads(num_threads)
    yield f"{dtype}, threads {num_threads}, level {_ext.level}"
    probe = Probe(dtype, num_threads)
    flops = max(probe.flops() for _ in range(7))
    yield f"multiply-adds in registers: {flops / 1e9:.1f} GFLOP/s"
    yield from probe.table()
    yield ""
    titles = "".join(f"  {'ratio to ' + peer:>20}" for peer in peers)
    yield f"{'':<38} {'milliseconds':>17}  {'share of limit':>15}  {'rate':>12}{titles}"
    titles = f"  {'forward':>11} {'+ back':>8}" * len(peers)
    yield (
        f"{'':<38} {'forward':>8} {'+ back':>8}  {'forward':>7} {'+ back':>7}"
        f"  {'+ back':>12}{titles}"
    )
    results = {}
    for name, make in cases.items():
        case = make(dtype)
        sides = {"fastbn": numpy_run(case, layers), "limit": _limit_run(case, probe)}
        if torch is not None:
            sides["torch"] = torch_run(case, torch)
        if "reference" in peers:
            sides["reference"] = numpy_run(case, reference)
        results[name] = times = measure(sides, seconds)
        yield _line(name, case, times, np.dtype(dtype).itemsize, peers)
    if json_file:
        with atomic_write(json_file) as file:
            file.write(json.dumps(results, indent=1).encode())


def _line(name, case, times, itemsize, peers):
    forward, both = times["fastbn"]
    limits = times["limit"]
    if case.flops[0]:
        rate = f"{sum(case.flops) / both / 1e9:6.1f} GFLOP/s"
    else:
        rate = f"{sum(case.moved) * itemsize / both / 1e9:7.1f} GB/s"
    line = (
        f"{name:<38} {1e3 * forward:8.3f} {1e3 * both:8.3f}  {limits[0] / forward:7.0%}"
        f" {limits[1] / both:7.0%}  {rate:>12}"
    )
    for peer in peers:
        line += f"  {times[peer][0] / forward:11.2f} {times[peer][1] / both:8.2f}"
    return line


def add_command(commands):
    """Add ``bench`` to the subparsers."""
    bench = commands.add_parser(
        "bench",
        help="time the layers next to a peer and to the machine's limit",
        description="Time the layers in one process with a peer, calls alternating, and with "
        "moving the bytes that they cannot do without (products: the rate of multiply-adds).",
    )
    bench.add_argument(
        "--peer",
        action="append",
        default=[],
        choices=PEERS,
        help="also time this; may be given twice",
    )
    bench.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    bench.add_argument(
        "--threads", type=_options.number(int, 1), metavar="N", help="threads of all sides"
    )
    bench.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    bench.add_argument(
        "--seconds",
        type=_options.number(float, 0, above=True),
        default=2.0,
        help="for each case (default %(default)s)",
    )
    bench.add_argument("--json", metavar="FILE", help="write the medians, in seconds, to a file")
    bench.set_defaults(run=lambda args: _run(bench, args))


def _run(parser, args):
    _options.set_threads(parser, args)
    lines = run(tuple(args.peer), args.dtype, args.only, args.seconds, args.json)
    try:
        for line in lines:
            print(line, flush=True)
    except ValueError as error:
        parser.error(f"argument --only: {error}")
    except ImportError as error:
        raise _options.UserError(f"--peer torch needs PyTorch, its CPU build: {error}") from None
    except OSError as error:
        raise _options.UserError(f"cannot write {args.json}: {error.strerror}") from None
