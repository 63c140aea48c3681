"""Time of every layer and of training steps: NumPy, fastbn, and PyTorch where it is installed."""

from __future__ import annotations

import importlib.util
import math
import platform
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import (
    _bench_cases,
    _ext,
    _plots,
    _threads,
    _timing,
    classifiers,
    config,
    layers,
    optim,
    reference,
)
from .._algorithm import get_conv_algorithm
from . import _report, _trainings
from ._parallel import progress_bar
from ._store import Store

#: One of ``fastbn bench`` for every layer: the sizes of the course's assignments, or near them.
_LAYERS = (
    "affine 100x3072x100",
    "batchnorm 100x500",
    "spatial_batchnorm 64x64x32x32",
    "layernorm 1024x768",
    "spatial_groupnorm 32x64x32x32 G8",
    "conv 100x3x31x31 F25 3x3 s2 p1",
    "conv 50x3x32x32 F32 7x7 s1 p3",
    "max_pool 100x32x32x32 2x2/2",
    "relu 1000x1000",
    "dropout 1000x1000",
    "softmax_loss 1000x100",
    "svm_loss 1000x100",
)
_NAMES = {"reference": "NumPy", "torch": "PyTorch"}

_SIDES = {"fastbn": layers, "reference": reference}

Run = Callable[[], tuple[float, float]]


def run(
    *,
    only: str = "",
    dtype: str = "float32",
    seconds: float = 1.0,
    out: Any = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Time layers and training steps on fastbn, on plain NumPy and, if installed, on PyTorch.

    Parameters
    ----------
    only : str, default ""
        Cases whose name holds this text; all by default.
    dtype : {"float32", "float64"}, default "float32"
        What to compute in.
    seconds : float, default 1.0
        For each case, at least.
    out : path, optional
        Folder in which each finished case is kept, and looked for before it is begun.
    progress : bool, default False
        Show a bar with the time left, on stderr, if tqdm is installed.

    Returns
    -------
    dict
        Plain data, as `json` writes it: ``experiment``, ``options``, ``versions``, ``threads``,
        ``level``, ``peers`` and ``cases``. A case has its ``name`` and, for ``fastbn`` and each
        peer (``reference``, ``torch``), the median seconds of the forward pass, and of the forward
        and backward pass. A training step counts as both.

    Raises
    ------
    ValueError, TypeError
        For an option out of range or of the wrong type.
    OSError
        If a result cannot be written.

    Notes
    -----
    Sides alternate in one process, as in ``fastbn bench``. Cases run one after the other: side by
    side they would take the time from one another.

    Examples
    --------
    >>> from fastbn.experiments import speed
    >>> result = speed.run(only="relu", seconds=0.001)
    >>> [case["name"] for case in result["cases"]]
    ['relu 1000x1000']
    """
    _trainings.check_dtype(dtype)
    seconds = _trainings.number("seconds", seconds, zero=False)
    makers = cases(only)
    torch = _torch()
    peers = ("reference", "torch") if torch else ("reference",)
    described = config.show_config("dict")
    versions = {**described["versions"], **({"torch": torch.__version__} if torch else {})}
    # What times depend on; they are not to be found again on another machine.
    setting = {
        "dtype": dtype,
        "seconds": seconds,
        "versions": versions,
        "threads": _threads.get_num_threads(),
        "level": _ext.level,
        "conv_algorithm": get_conv_algorithm(),
        "host": platform.node(),
    }
    store = Store(out, "timings")
    keys = {name: {"case": name, **setting} for name in makers}
    found = {name: store.load(key) for name, key in keys.items()}
    done = sum(times is not None for times in found.values())
    torch_threads = torch.get_num_threads() if torch else None
    stream = np.random.get_state()  # nets and dropout draw from it
    try:
        if torch:
            torch.set_num_threads(setting["threads"])
        with progress_bar(len(makers), done, "case", progress) as bar:
            for name, make in makers.items():
                if found[name] is None:
                    times = _timing.measure(make(dtype, torch), seconds)
                    found[name] = {side: list(medians) for side, medians in times.items()}
                    store.save(keys[name], found[name])
                    bar.update(1)
    finally:
        np.random.set_state(stream)
        if torch:
            torch.set_num_threads(torch_threads)
    return {
        "experiment": "speed",
        "options": {"only": only, "dtype": dtype, "seconds": seconds},
        "versions": versions,
        "threads": setting["threads"],
        "level": setting["level"],
        "peers": list(peers),
        "cases": [{"name": name, **found[name]} for name in makers],
    }


def _torch() -> Any:
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch


def cases(only: str = "") -> dict[str, Callable[[str, Any], dict[str, Run]]]:
    """Return what is timed.

    Parameters
    ----------
    only : str, default ""
        Cases whose name holds this text; all by default.

    Returns
    -------
    dict
        Name to a function of the dtype and of torch, or None, that makes the sides.

    Raises
    ------
    ValueError
        If no case has such a name.
    """
    bench = dict(_bench_cases.all_cases())

    def layer(make: Any) -> Callable[[str, Any], dict[str, Run]]:
        def sides(dtype: str, torch: Any) -> dict[str, Run]:
            case = make(dtype)
            runs = {name: _timing.numpy_run(case, module) for name, module in _SIDES.items()}
            return {**runs, "torch": _timing.torch_run(case, torch)} if torch else runs

        return sides

    def step(step: Any) -> Callable[[str, Any], dict[str, Run]]:
        return lambda dtype, torch: _timing.steps(
            step, dtype, classifiers, optim.adam, _SIDES, torch
        )

    makers = {
        **{name: layer(bench[name]) for name in _LAYERS},
        **{name: step(training) for name, training in _bench_cases.all_steps()},
    }
    chosen = {name: make for name, make in makers.items() if only in name}
    if not chosen:
        raise ValueError(f"only must be in the name of a case ({'; '.join(makers)}); got {only!r}")
    return chosen


def _ratios(result: dict[str, Any], peer: str) -> list[float]:
    """The peer's time in fastbn's, forward and backward, of every case."""
    return [case[peer][1] / case["fastbn"][1] for case in result["cases"]]


def plot(result: dict[str, Any]) -> Any:
    """Draw for every case how many times as long the peers take.

    Parameters
    ----------
    result : dict
        What `run` returned.

    Returns
    -------
    matplotlib.figure.Figure
        Not of pyplot.
    """
    names = [case["name"] for case in result["cases"]]
    threads = "1 thread" if result["threads"] == 1 else f"up to {result['threads']} threads"
    figure, (axes,) = _plots.panels(
        f"Forward and backward pass, {result['options']['dtype']}, {threads}",
        9,
        2 + 0.32 * len(names),
        1,
    )
    rows = np.arange(len(names))
    axes.axvline(1, color="black", linewidth=1, label="fastbn")
    for i, peer in enumerate(result["peers"]):
        style = {**_plots.style(i), **_plots.marker(i), "linestyle": "", "markersize": 7}
        axes.plot(_ratios(result, peer), rows, label=_NAMES[peer], **style)
    axes.set(xlabel="time divided by fastbn's; right of the line fastbn is faster", xscale="log")
    _plots.plain_ticks(axes.xaxis)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, which="both", axis="x")
    axes.grid(alpha=0.3, axis="y")
    _plots.legend_below(figure, axes)
    return figure


def table(result: dict[str, Any]) -> str:
    """Return the times of forward and backward pass, and their ratios, as lines of text.

    Parameters
    ----------
    result : dict
        What `run` returned.

    Returns
    -------
    str
        A line for each case, below one of titles.
    """
    peers = result["peers"]
    headers = ["forward + backward, milliseconds", "fastbn"]
    headers += [title for peer in peers for title in (_NAMES[peer], "ratio")]
    rows = []
    for case in result["cases"]:
        row = [case["name"], f"{1e3 * case['fastbn'][1]:.3f}"]
        for peer in peers:
            row += [f"{1e3 * case[peer][1]:.3f}", f"{case[peer][1] / case['fastbn'][1]:.2f}"]
        rows.append(row)
    return _report.table(headers, rows)


def conclusion(result: dict[str, Any]) -> str:
    """Say in a sentence what the data shows.

    Parameters
    ----------
    result : dict
        What `run` returned.

    Returns
    -------
    str
        One sentence.
    """
    clauses = []
    for peer in result["peers"]:
        ratios = _ratios(result, peer)
        mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
        clauses.append(
            f"than {_NAMES[peer]} in {sum(ratio > 1 for ratio in ratios)} of {len(ratios)} cases "
            f"(at {mean:.2g} times its speed in the geometric mean)"
        )
    return f"Forward and backward, fastbn is faster {' and '.join(clauses)}."
