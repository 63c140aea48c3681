"""Drawings of the page: SVG that the page's style colours.

Places along a drawing are per cent of its width and sizes are pixels, so that text keeps its size
on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import _summary
from ._html import Element, tag
from ._results import Run
from ._summary import NUMPY, TORCH, Quantity
from ._words import dtype_name, times

_ROW = 52  # pixels of a layer: its name, NumPy, PyTorch
_TOP = 34


class Scale:
    """A logarithmic axis from below 1 to above it."""

    def __init__(self, numbers: Sequence[float]) -> None:
        low, high = min([0.7, *numbers]), max([2.0, *numbers])
        self.low, self.high = math.log(low / 1.1), math.log(high * 1.1)

    def place(self, number: float) -> str:
        """Where a number lies, in per cent."""
        share = (math.log(number) - self.low) / (self.high - self.low)
        return f"{2 + 96 * share:.2f}%"

    def ticks(self) -> list[float]:
        """Eight round numbers at most."""
        decades = range(math.floor(self.low / math.log(10)), math.ceil(self.high / math.log(10)))
        for steps in ((1, 2, 5), (1, 3), (1,)):
            ticks = [step * 10.0**decade for decade in decades for step in steps]
            ticks = [tick for tick in ticks if self.low <= math.log(tick) <= self.high]
            if len(ticks) <= 8:
                return ticks
        return ticks[:: math.ceil(len(ticks) / 8)]


def strips(run: Run, dtype: str, layers: Sequence[str], scale: Scale, key: str) -> Element:
    """Every case of every layer as a dot, and the means: against NumPy, and against PyTorch."""
    height = _TOP + _ROW * len(layers)
    one = scale.place(1)
    marks: list[Any] = [
        tag("rect", x=0, y=_TOP - 6, width=one, height=height - _TOP, class_="slower-side")
    ]
    for tick in scale.ticks():
        x, kind = scale.place(tick), "one" if tick == 1 else "grid"
        marks += [
            tag("line", x1=x, x2=x, y1=_TOP - 6, y2=height - 6, class_=kind),
            tag("text", f"{tick:g}×", x=x, y=_TOP - 13, text_anchor="middle", class_="tick"),
        ]
    said = []
    for i, layer in enumerate(layers):
        y = _TOP + _ROW * i
        marks += [
            tag("line", x1=0, x2="100%", y1=y - 6, y2=y - 6, class_="rule"),
            tag("text", layer, x=0, y=y + 10, class_="label"),
        ]
        means = []
        for quantity, below in ((NUMPY, 22), (TORCH, 35)):
            found, dots = _strip(run, quantity, layer, dtype, scale, y + below)
            marks += dots
            title = quantity.title
            means.append(f"no {title}" if found.value is None else f"{title} {times(found.value)}")
        marks.append(
            tag("text", " · ".join(means), x="100%", y=y + 10, text_anchor="end", class_="value")
        )
        said.append(f"{layer}: {', '.join(means)}")
    return tag(
        "svg",
        tag("title", f"How many times as fast fastbn is, {dtype_name(dtype)}", id=f"{key}-title"),
        tag("desc", f"Geometric means. {'; '.join(said)}.", id=f"{key}-text"),
        marks,
        class_="strips",
        role="img",
        width="100%",
        height=height,
        aria_labelledby=f"{key}-title {key}-text",
    )


def _strip(
    run: Run, quantity: Quantity, layer: str, dtype: str, scale: Scale, y: int
) -> tuple[_summary.Mean, list[Element]]:
    found = _summary.mean(run, quantity, layer, dtype)
    numbers = (_summary.number(run, c, quantity) for c in _summary.cases(run, layer, dtype))
    name = quantity.title.lower()
    dots = [_dot(name, scale.place(n), y) for n in sorted(n for n in numbers if n is not None)]
    if found.value is not None:
        low, high, x = map(scale.place, (found.low, found.high, found.value))
        dots.insert(0, tag("line", x1=low, x2=high, y1=y, y2=y, class_=f"range {name}"))
        dots.append(tag("line", x1=x, x2=x, y1=y - 6, y2=y + 6, class_=f"mean {name}"))
    return found, dots


def _dot(name: str, x: str, y: int) -> Element:
    if name == "numpy":
        return tag("circle", cx=x, cy=y, r=3.5, class_=name)
    # A path knows no per cent: it lies in a drawing that does.
    return tag("svg", tag("path", d="M0-4.5 4.5 0 0 4.5-4.5 0z", class_=name), x=x, y=y)


def bar(number: float) -> Element:
    """A bar from 1, in the middle, to the right for faster and to the left for slower: to 100."""
    length = min(abs(math.log(number)) / math.log(100), 1) * 50
    left = 50 - length if number < 1 else 50
    kind = "worse" if number < 1 else "better"
    return tag(
        "svg",
        tag("rect", x=f"{left:.1f}%", y=1, width=f"{length:.1f}%", height=3, class_=kind),
        tag("line", x1="50%", x2="50%", y1=0, y2=5, class_="one"),
        class_="bar",
        width="100%",
        height=5,
        aria_hidden="true",
    )


def sparkline(numbers: Sequence[float | None], title: str) -> Element:
    """A line through the numbers, the last of them dotted."""
    there = [(i, math.log(n)) for i, n in enumerate(numbers) if n is not None]
    low, high = min(n for _, n in there), max(n for _, n in there)
    # A change of a tenth shall not look like the end of the world.
    middle, half = (low + high) / 2, max(high - low, math.log(1.5)) / 2
    points = [
        (4 + 92 * i / max(len(numbers) - 1, 1), 12 - 9 * (n - middle) / half) for i, n in there
    ]
    return tag(
        "svg",
        tag("title", title),
        tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points)),
        tag("circle", cx=f"{points[-1][0]:.1f}", cy=f"{points[-1][1]:.1f}", r=2.5),
        class_="sparkline",
        role="img",
        viewBox="0 0 100 24",
        width=100,
        height=24,
    )
