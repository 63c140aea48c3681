"""What was swapped, what was left and why, as text and as a table."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import NamedTuple


class Row(NamedTuple):
    """A function of theirs."""

    module: str
    name: str
    swapped: bool
    #: Why it was left; or what there is to say of one that was swapped.
    reason: str = ""
    #: What running it has shown, if it was run: the kind and the error of a `Verdict`.
    found: str = ""
    error: float | None = None

    @property
    def wrong(self) -> bool:
        """Whether it is known to give wrong results, or none where it should."""
        return self.found in ("differs", "raises")


def summary(target: str, rows: list[Row]) -> str:
    """One line."""
    swapped = sum(row.swapped for row in rows)
    return f"{target}: {swapped} functions swapped, {len(rows) - swapped} left"


def _by_module(rows: list[Row]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(module, names swapped), and (name, remark) where there is something to say."""
    swapped = [row for row in rows if row.swapped]
    names = [
        (module, ", ".join(row.name for row in group))
        for module, group in groupby(swapped, lambda row: row.module)
    ]
    words = {True: "swapped", False: "left"}
    return names, [(r.name, f"{words[r.swapped]}: {r.reason}") for r in rows if r.reason]


def text(target: str, rows: list[Row]) -> str:
    """Several lines."""
    names, remarks = _by_module(rows)
    lines = [summary(target, rows)]
    width = max([len(module) for module, _ in names], default=0)
    for module, swapped in names:
        first, rest = f"  {module:<{width}}  ", " " * (width + 4)
        lines += textwrap.wrap(swapped, 100, initial_indent=first, subsequent_indent=rest)
    width = max([len(name) for name, _ in remarks], default=0)
    lines += [f"  {name:<{width}}  {remark}" for name, remark in remarks]
    return "\n".join(lines)


def as_html(target: str, rows: list[Row]) -> str:
    """A table for a notebook."""
    import html  # with its table of entities, for notebooks alone

    names, remarks = _by_module(rows)
    cell = '<td style="text-align: left">'
    body = "".join(
        f"<tr>{cell}<code>{html.escape(left)}</code></td>{cell}{html.escape(right)}</td></tr>"
        for left, right in (*names, *remarks)
    )
    return f"<table><caption>{html.escape(summary(target, rows))}</caption>{body}</table>"
