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

import json
from collections.abc import Iterator

import numpy as np

from . import _ext, _options, _threads, _timing, layers, reference
from ._atomic import atomic_write
from ._bench_cases import all_cases

PEERS = ("torch", "reference")


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
    probe = _timing.Probe(_ext.probe, dtype, num_threads)
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
        sides = {
            "fastbn": _timing.numpy_run(case, layers),
            "limit": _timing.limit_run(case, probe),
        }
        if torch is not None and case.torch is not None:
            sides["torch"] = _timing.torch_run(case, torch)
        if "reference" in peers:
            sides["reference"] = _timing.numpy_run(case, reference)
        results[name] = times = _timing.measure(sides, seconds)
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
        if peer in times:
            line += f"  {times[peer][0] / forward:11.2f} {times[peer][1] / both:8.2f}"
        else:  # it has no such function
            line += f"  {'-':>11} {'-':>8}"
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
        help="also time this; may be given twice (default: none)",
    )
    bench.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    bench.add_argument(
        "--threads",
        type=_options.number(int, 1),
        metavar="N",
        help="threads of fastbn, PyTorch and the limit; NumPy's BLAS has its own",
    )
    bench.add_argument(
        "--only", default="", metavar="TEXT", help="cases with this in their name (default: all)"
    )
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
