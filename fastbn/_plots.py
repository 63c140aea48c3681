"""What the figures have in common; Matplotlib is imported when one is drawn."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's colours, which colour-blind people can tell apart; with a marker and a dash for
# each, for print without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", "-.", ":")


def style(i: int) -> dict[str, Any]:
    """How the curve number `i` is drawn."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": _DASHES[i % len(_DASHES)]}


def marker(i: int) -> dict[str, Any]:
    """How its points are drawn."""
    return {"marker": MARKERS[i % len(MARKERS)], "markersize": 4}


def panels(title: str | None, width: float, height: float, columns: int) -> tuple[Any, Any]:
    """A figure of so many inches, and the axes of its panels from left to right."""
    # Not pyplot: a Figure of its own draws with Agg and leaves no global state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if title is not None:
        figure.suptitle(title)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def log_scale(axes: Any) -> None:
    """Make the y axis logarithmic, unless nothing is there that such an axis could show."""
    if any((line.get_ydata() > 0).any() for line in axes.get_lines()):
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)


def plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis with 0.2, 0.5, 1, ... where its range is small enough for that."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = axis.get_view_interval()
    if high / low < 1000:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Any, axes: Any) -> None:
    """List what is labelled in `axes` below all panels, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 4)
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=3
    )
