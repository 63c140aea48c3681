"""One picture of the means by layer: NumPy is 1, bars are fastbn and PyTorch."""

from __future__ import annotations

import textwrap
from typing import Any

from .. import _plots
from . import _summary, _words
from ._results import Case, Run
from ._summary import NUMPY, TORCH, Mean, OnMachine

_HEIGHT = 0.36  # of a bar, in rows


def _torch_and_numpy(run: Run, case: Case) -> float | None:
    """How many times as fast as NumPy PyTorch is."""
    ours, ratio = _summary.number(run, case, NUMPY), _summary.number(run, case, TORCH)
    return None if ours is None or ratio is None else ours / ratio


def means(on: OnMachine, dtype: str) -> dict[str, tuple[Mean, Mean]]:
    """Layer to how many times as fast as NumPy fastbn and PyTorch are, forward and backward."""
    run = on.newest
    return {
        layer: (
            _summary.mean(run, NUMPY, layer, dtype),
            _summary.geometric_mean(
                _torch_and_numpy(run, case) for case in _summary.cases(run, layer, dtype)
            ),
        )
        for layer in on.layers
        if _summary.cases(run, layer, dtype)
    }


def draw(on: OnMachine, dtype: str) -> Any:
    """The figure of a machine's newest commit: legible 800 pixels wide, on a ground of its own.

    Returns
    -------
    matplotlib.figure.Figure
        Not of pyplot.
    """
    found = means(on, dtype)
    figure, (axes,) = _plots.panels(None, 8, 1.9 + 0.46 * len(found), 1)
    figure.suptitle(
        f"Speed of fastbn's layers, NumPy = 1\nforward and backward pass, {dtype}",
        fontsize=15,
    )
    for i, name in enumerate(("fastbn", "PyTorch")):
        colour, hatch = _plots.COLOURS[i], ("", "////")[i]
        for row, pair in enumerate(found.values()):
            place = row + (i - 0.5) * _HEIGHT
            label = name if row == 0 else None
            axes.barh(
                place, (pair[i].value or 1) - 1, _HEIGHT, left=1, color=colour, hatch=hatch,
                edgecolor="white", linewidth=0.5, label=label,
            )  # fmt: skip
            # Beside the bar and right of the line, also where the bar goes to the left.
            axes.annotate(
                _value(pair[i], i == 1), (max(pair[i].value or 1, 1), place), (4, 0),
                textcoords="offset points", va="center", fontsize=11,
            )  # fmt: skip
    axes.axvline(1, color="black", linewidth=1.5, label="NumPy")
    axes.set_xscale("log")
    numbers = [mean.value for pair in found.values() for mean in pair if mean.value is not None]
    axes.set_xlim(min([0.9, *numbers]) / 1.1, max([2.0, *numbers]) * 1.9)  # with room for numbers
    _plots.plain_ticks(axes.xaxis)
    axes.set_yticks(range(len(found)), list(found))
    axes.tick_params(labelsize=12)
    axes.invert_yaxis()
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3, axis="x")
    cases = sum(fastbn.of for fastbn, _ in found.values())
    axes.set_xlabel(_facts(on, cases), fontsize=10.5, loc="right")
    _plots.legend_below(figure, axes)
    return figure


def _value(mean: Mean, torch: bool) -> str:
    if mean.value is None:
        return f"PyTorch {_words.MISSING}" if torch else _words.MISSING
    text = _words.times(mean.value)
    return text if mean.measured == mean.of else f"{text} ({mean.measured} of {mean.of} cases)"


def _facts(on: OnMachine, cases: int) -> str:
    run = on.newest
    lines = (
        "Times as fast as the reference in plain NumPy, logarithmic; geometric means of "
        f"{_words.count(cases, 'case')}.",
        f"{on.machine.cpu or 'processor not recorded'}, {_words.setting_name(run.setting)}; "
        f"commit {run.commit[:8]} of {_words.day(run.date)}.",
    )
    return _plain("\n".join(part for line in lines for part in textwrap.wrap(line, 96)))


def _plain(text: str) -> str:
    """Text that Matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def save(figure: Any, file: Any, format: str) -> None:
    """Write the figure, the same bytes each time."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "fastbn"}):
        metadata = {"Date": None} if format == "svg" else {}
        figure.savefig(file, format=format, dpi=200, metadata=metadata)
