"""Tables of the page."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

from . import _charts, _summary, _words
from ._html import Element, tag
from ._results import Case, Run, Setting
from ._summary import LIMIT, NUMPY, QUANTITIES, RATE, TORCH, Mean, OnMachine, Quantity


def table(
    caption: Any, head: Iterable[Element], bodies: Iterable[Any], class_: str = ""
) -> Element:
    """A table that scrolls within itself where it is too wide."""
    inner = tag(
        "table", tag("caption", caption), tag("thead", list(head)), list(bodies), class_=class_
    )
    return tag("div", inner, class_="scroll", **({"tabindex": 0} if class_ == "matrix" else {}))


def _heads(names: Iterable[Any]) -> Element:
    return tag("tr", [tag("th", name, scope="col") for name in names])


def _row(name: Any, *cells: Element) -> Element:
    return tag("tr", tag("th", name, scope="row"), cells)


def _small(text: str) -> Element:
    return tag("small", text)


def _breakable(name: str) -> list[Any]:
    """A name that may break between words in camel case, and between the lengths of a shape."""
    first, *rest = re.split(r"(?<=[a-z])(?=[A-Z])|(?<=\dx)(?=\d)", name)
    return [first, *([tag("wbr"), word] for word in rest)]


def _worse() -> Element:
    """The mark of what is slower than the peer."""
    return tag("span", " ▼", _hidden(" slower"), class_="mark")


def _hidden(text: str) -> Element:
    """For those who listen."""
    return tag("span", text, class_="hidden")


def _shown(number: float, quantity: Quantity) -> str:
    return _words.percent(number) if quantity is LIMIT else _words.times(number)


def _number_cell(
    number: float | None, quantity: Quantity, *more: Any, bare: bool = False
) -> Element:
    """A number, with its unit unless it is to be bare, and a mark if it is a slower one."""
    if number is None:
        dash = [tag("span", "\N{EN DASH} ", aria_hidden="true"), _hidden(_words.MISSING)]
        return tag("td", tag("span", dash if bare else _words.MISSING, class_="missing"), more)
    slower = quantity is not LIMIT and number < 1
    shown = _shown(number, quantity)
    text = tag("span", shown.rstrip(" ×%") if bare else shown, _worse() if slower else None)
    return tag("td", text, more, class_="slower" if slower else "number")


def _mean_cell(mean: Mean, quantity: Quantity) -> Element:
    """A mean with its extremes, and of how many it is if some are missing."""
    if mean.value is None:
        return _number_cell(None, quantity)
    below = [_small(_words.span(mean, quantity is LIMIT))]
    if mean.measured < mean.of:
        below.append(_small(f"{mean.measured} of {mean.of} cases"))
    return _number_cell(mean.value, quantity, below)


def _by_dtype(
    name: Sequence[Any], run: Run, dtypes: Sequence[str], layer: str | None = None
) -> Element:
    """A row of means for every dtype, under one name."""
    rows = []
    for dtype in dtypes:
        means = [_summary.mean(run, quantity, layer, dtype) for quantity in QUANTITIES]
        cells = [_mean_cell(m, q) for m, q in zip(means, QUANTITIES, strict=True)]
        rows.append(_row(_words.dtype_name(dtype), *cells))
    count = _words.count(max(len(_summary.cases(run, layer, dtype)) for dtype in dtypes), "case")
    rows[0].insert(0, tag("th", name, _small(count), scope="rowgroup", rowspan=len(dtypes)))
    return tag("tbody", rows)


_HEADS = ("dtype", "NumPy", "PyTorch", "Limit")


def by_layer(on: OnMachine) -> Element:
    """Means of every layer in every dtype, in one setting."""
    run, dtypes = on.newest, on.dtypes
    bodies = [_by_dtype(_breakable(layer), run, dtypes, layer) for layer in on.layers]
    caption = (
        "How many times as fast as NumPy and as PyTorch, and the share of the machine's limit. "
        f"Setting: {_words.setting_name(run.setting)}. Geometric means over the cases of a layer, "
        "forward and backward, and the lowest and the highest case."
    )
    return table(caption, [_heads(["Layer", *_HEADS])], bodies, "means")


def by_setting(on: OnMachine) -> Element:
    """Means over all layers in every setting and dtype."""
    others = _words.telling(on.settings)
    bodies = []
    for setting in on.settings:
        level, *rest = _words.setting_parts(setting, others)
        name = [*_level(level), _small(", ".join(rest))]
        bodies.append(_by_dtype(name, on.commits[0].runs[setting], on.dtypes))
    caption = (
        "How many times as fast as NumPy and as PyTorch, and the share of the machine's limit. "
        "Geometric means over the cases of all layers, forward and backward, and the lowest and "
        "the highest case."
    )
    return table(caption, [_heads(["CPU level", *_HEADS])], bodies, "means")


def _level(name: str) -> list[Any]:
    """Such as v4, and below it AVX-512."""
    level, _, flavour = name.rstrip(")").partition(" (")
    return [level, _small(flavour) if flavour else None]


def _threads(setting: Setting, others: Sequence[str]) -> list[Any]:
    """The number alone: the row says what of."""
    _, threads, *rest = _words.setting_parts(setting, others)
    return [threads.removesuffix("s").removesuffix(" thread"), [_small(text) for text in rest]]


def matrix(on: OnMachine, quantity: Quantity, dtype: str) -> Element:
    """Means of every layer in every setting."""
    settings, runs = on.settings, on.commits[0].runs
    what = {
        NUMPY: "How many times as fast as NumPy",
        TORCH: "How many times as fast as PyTorch",
        LIMIT: "Per cent of the machine's limit",
    }[quantity]
    caption = f"{what}, {_words.dtype_name(dtype)}"
    means = {
        layer: [_summary.mean(runs[s], quantity, layer, dtype).value for s in settings]
        for layer in on.layers
    }
    measured = [mean is not None for row in means.values() for mean in row]
    if not any(measured):
        return tag("p", f"{caption}: {_words.MISSING}.", class_="missing")
    others = _words.telling(settings)
    levels = [
        tag("th", _level(level), scope="colgroup", colspan=len(list(group)))
        for level, group in itertools.groupby(settings, _words.level_name)
    ]
    threads = [tag("th", _threads(setting, others), scope="col") for setting in settings]
    head = [
        tag("tr", tag("th", "CPU level", scope="row"), levels),
        tag("tr", tag("th", "threads", scope="row"), threads),
    ]
    rows = [
        _row(_breakable(layer), *(_number_cell(mean, quantity, bare=True) for mean in row))
        for layer, row in means.items()
    ]
    dash = "" if all(measured) else f" A dash: {_words.MISSING}."
    return table(f"{caption}.{dash}", head, [tag("tbody", rows)], "matrix")


def every_case(run: Run, units: dict[str, str]) -> Element:
    """All cases of a run, none left out."""
    heads = ["Case", "NumPy", "PyTorch", "Limit, rate"]
    bodies = []
    for layer in dict.fromkeys(case.layer for case in run.values):
        rows = [tag("tr", tag("th", layer, scope="rowgroup", colspan=len(heads)), class_="group")]
        unit = units.get(layer, "")
        rows += [_case_row(run, case, unit) for case in _summary.cases(run, layer, part=None)]
        bodies.append(tag("tbody", rows))
    caption = (
        f"Setting: {_words.setting_name(run.setting)}. Bars go from 1× in the middle to 100× at "
        "the right, and to the left where fastbn is slower."
    )
    return table(caption, [_heads(heads)], bodies, "cases")


def _case_row(run: Run, case: Case, unit: str) -> Element:
    cells = []
    for quantity in QUANTITIES:
        number = _summary.number(run, case, quantity)
        if _summary.failed(run, case, quantity):
            cells.append(tag("td", tag("span", "failed", class_="missing")))
        elif quantity is LIMIT:
            cells.append(_number_cell(number, quantity, _rate(run, case, unit)))
        else:
            bar = None if number is None else _charts.bar(number)
            cells.append(_number_cell(number, quantity, bar))
    small = f"{_words.dtype_name(case.dtype)}, {_words.part_name(case.part)}"
    return _row([*_breakable(case.name), _small(small)], *cells)


def _rate(run: Run, case: Case, unit: str) -> Element | None:
    rate, limit = (_summary.number(run, case, quantity) for quantity in (RATE, LIMIT))
    if rate is not None:
        return _small(_words.rate(rate, unit))
    return None if limit is None else _small(f"rate {_words.MISSING}")


def history(on: OnMachine) -> list[Element]:
    """The newest commit against each older one, in one setting; and the course of each layer."""
    newest = on.newest
    setting = newest.setting
    with_it = [(commit, commit.runs[setting]) for commit in on.commits if setting in commit.runs]
    if len(with_it) < 2:
        return []
    rows = []
    for commit, run in with_it:
        means = [_summary.mean(run, quantity) for quantity in QUANTITIES]
        since = _summary.change(newest, run, NUMPY)
        cell = tag("td", "this is the newest") if run is newest else _change_cell(since)
        name = [tag("code", commit.hash[:8]), _small(_words.day(commit.date))]
        rows.append(
            _row(name, *(_mean_cell(m, q) for m, q in zip(means, QUANTITIES, strict=True)), cell)
        )
    caption = (
        f"Setting: {_words.setting_name(setting)}. All dtypes, forward and backward. The last "
        "column is how many times as fast against NumPy the newest commit is as this one, over "
        "the cases that both have measured with the same version of the benchmark."
    )
    heads = ["Commit", "NumPy", "PyTorch", "Limit", "Newest against it"]
    return [
        table(caption, [_heads(heads)], [tag("tbody", rows)]),
        _courses([run for _, run in reversed(with_it)], on.layers),
    ]


def _change_cell(change: _summary.Change) -> Element:
    if change.value is None:
        return tag("td", tag("span", "no case in common", class_="missing"))
    return _number_cell(change.value, NUMPY, _small(_words.count(change.cases, "case")))


def _courses(runs: Sequence[Run], layers: Sequence[str]) -> Element:
    """A line for each layer from the oldest commit to the newest."""
    newest = runs[-1]
    rows = []
    for layer in layers:
        changes = [_summary.change(run, newest, NUMPY, layer).value for run in runs]
        oldest = next((run for run, n in zip(runs, changes, strict=True) if n is not None), newest)
        if oldest is newest:
            cells = [tag("td", tag("span", "nothing to compare", class_="missing"), colspan=2)]
        else:
            since = _summary.change(newest, oldest, NUMPY, layer)
            title = f"Speed-up of {layer} against NumPy from commit to commit"
            cells = [
                tag("td", _charts.sparkline(changes, title)),
                _number_cell(
                    since.value,
                    NUMPY,
                    _small(f"{_words.count(since.cases, 'case')} since {oldest.commit[:8]}"),
                ),
            ]
        rows.append(_row(_breakable(layer), *cells))
    caption = (
        "Each layer from the oldest commit to the newest: its speed-up against NumPy, over the "
        "cases in common with the newest."
    )
    return table(
        caption, [_heads(["Layer", "Course", "Newest against oldest"])], [tag("tbody", rows)]
    )


def facts(on: OnMachine, settings: Sequence[Setting]) -> Element:
    """The machine, the commit and the versions."""
    run = on.newest
    machine = on.machine
    memory = f"{int(run.ram) / 2**30:.1f} GiB" if run.ram.isdecimal() else run.ram
    known: dict[str, dict[str, None]] = {}  # name to its values, each once
    for setting in settings:
        for name, value in setting.others:
            if not name.startswith("FASTBN_"):
                known.setdefault(name, {})[value] = None
    unknown = [name for name, values in known.items() if not any(values)]
    rows = {
        "Machine": machine.name,
        "Processor": f"{machine.cpu}, {machine.arch}",
        "Cores": machine.cores,
        "Memory": memory,
        "System": run.os,
        "Commit": f"{run.commit} of {_words.day(run.date)}",
        "Measured": _words.day(run.measured),
        "CPU levels": ", ".join(dict.fromkeys(map(_words.level_name, settings))),
        "Threads": ", ".join(dict.fromkeys(map(_words.threads_name, settings))),
        **{
            name: ", ".join(value or "not recorded" for value in values)
            for name, values in known.items()
            if name not in unknown
        },
        **({"Versions not recorded": ", ".join(unknown)} if unknown else {}),
    }
    return table(
        "What was measured where. All sides run on the same machine and number of threads.",
        [],
        [
            tag(
                "tbody",
                [_row(name, tag("td", value or "not recorded")) for name, value in rows.items()],
            )
        ],
        "facts",
    )
