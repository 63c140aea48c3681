"""The page: one file of HTML that asks for no other."""

from __future__ import annotations

import importlib.resources
from typing import Any

from . import _charts, _summary, _tables, _words
from ._html import Element, document, tag
from ._results import Results, Run
from ._summary import LIMIT, NUMPY, QUANTITIES, TORCH, Mean, OnMachine, Quantity

_NOTES = (
    (
        "A number",
        "such as 2.00× says that fastbn takes half the time of the other side. Below 1 fastbn is "
        "slower, and the number has the mark ▼. Nothing is left out: what a run does not have says "
        "not measured, and what raised an error, took too long or gave another result than the "
        "reference says failed.",
    ),
    (
        "A mean",
        "is geometric, over cases of one machine, one commit and one setting, as many as it says. "
        "Training steps are made of layers, and count in no mean over layers.",
    ),
    (
        "NumPy",
        "is fastbn.reference: the same layers in plain vectorised NumPy, written as a good student "
        "of the course writes them. It is no tuned library; NumPy's own matrix product is, on as "
        "many threads as fastbn has.",
    ),
    (
        "PyTorch",
        "is its CPU build on as many threads, with its autograd for the backward pass.",
    ),
    (
        "The limit",
        "is what the machine itself can do, measured in the same run on the same threads: the time "
        "of moving the bytes that a layer cannot do without, or, for products, the rate of "
        "multiply-adds in registers. A share of the limit may be above 100 % where a layer needs "
        "fewer operations than counted or finds its data in a cache.",
    ),
)


def page(results: Results) -> bytes:
    """The page of all results."""
    machines = _summary.by_machine(results.runs)
    sections = [_machine(on, results, f"m{i}") for i, on in enumerate(machines)]
    names = [
        tag("li", tag("a", on.machine.name or "no name", href=f"#m{i}"))
        for i, on in enumerate(machines)
    ]
    lead = [
        "The layers of Stanford's course cs231n on fastbn's compiled kernels, against NumPy, "
        "PyTorch and the limit of the machine, as airspeed velocity measured them. ",
        tag("a", "How to read the numbers", href="#notes"),
        ".",
    ]
    header = tag("header", tag("h1", "How fast is fastbn?"), tag("p", lead, class_="lead"))
    if len(machines) > 1:
        header.append(tag("nav", tag("ul", names), aria_label="Machines"))
    body = tag("body", header, tag("main", sections, _notes(results)))
    return document(tag("html", _head(machines), body, lang="en"))


def _head(machines: list[OnMachine]) -> Element:
    style = importlib.resources.files(__package__).joinpath("style.css").read_text("utf-8")
    commit = machines[0].commits[0].hash[:8]
    # Nothing may be loaded, whatever the page holds; browsers ask for an icon if none is named.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"fastbn: speed at {commit}"),
        tag("link", rel="icon", href="data:,"),
        tag("style", style),
    )


def _machine(on: OnMachine, results: Results, key: str) -> Element:
    newest = on.newest
    runs = on.commits[0].runs
    others = _words.telling(on.settings)
    every = [
        tag(
            "details",
            tag("summary", f"{_words.setting_name(s, others)}: {len(runs[s].values)} rows"),
            _tables.every_case(runs[s], results.units),
        )
        for s in reversed(on.settings)
    ]
    title = " · ".join(part for part in (on.machine.name, on.machine.cpu) if part) or "no name"
    return tag(
        "section",
        tag("h2", title),
        tag(
            "p",
            f"Commit {on.commits[0].hash[:8]} of {_words.day(on.commits[0].date)}, measured "
            f"{_words.day(newest.measured)}. Setting: {_words.setting_name(newest.setting)}. "
            "Geometric means, forward and backward pass.",
        ),
        tag("div", [_card(newest, quantity, on.dtypes) for quantity in QUANTITIES], class_="cards"),
        _strips(on, key),
        tag("h3", "By layer", class_="sheet"),
        _tables.by_layer(on),
        tag("h3", "By CPU level and threads"),
        _tables.by_setting(on),
        _matrices(on),
        _history(on),
        tag("h3", "Machine and versions"),
        _tables.facts(on, on.settings),
        tag("h3", "Every case"),
        every,
        id=key,
        aria_label=title,
    )


def _card(run: Run, quantity: Quantity, dtypes: list[str]) -> Element:
    """One answer: a large number for every dtype."""
    title = {
        NUMPY: "times as fast as NumPy",
        TORCH: "times as fast as PyTorch",
        LIMIT: "of the machine's limit",
    }[quantity]
    answers = []
    for dtype in dtypes:
        mean = _summary.mean(run, quantity, dtype=dtype)
        answers += [tag("dt", _words.dtype_name(dtype)), tag("dd", _answer(mean, quantity))]
    return tag("section", tag("h3", title), tag("dl", answers), class_="card")


def _answer(mean: Mean, quantity: Quantity) -> list[Any]:
    if mean.value is None:
        return [tag("strong", _words.MISSING, class_="missing")]
    shown = _words.percent if quantity is LIMIT else _words.times
    cases = _words.count(mean.measured, "case")
    if mean.measured < mean.of:
        cases = f"{mean.measured} of {mean.of} cases"
    lines = [f"{cases}, {_words.span(mean, quantity is LIMIT)}"]
    if quantity is not LIMIT:
        lines.append(f"slower in {mean.below or 'none'}")
    return [tag("strong", shown(mean.value)), [tag("small", line) for line in lines]]


def _strips(on: OnMachine, key: str) -> Element:
    run = on.newest
    numbers = [
        number
        for case in _summary.cases(run)
        for quantity in (NUMPY, TORCH)
        if (number := _summary.number(run, case, quantity)) is not None
    ]
    scale = _charts.Scale(numbers)
    drawings = [
        tag(
            "div",
            tag("p", _words.dtype_name(dtype), class_="panel"),
            _charts.strips(run, dtype, on.layers, scale, f"{key}-strips{i}"),
        )
        for i, dtype in enumerate(on.dtypes)
    ]
    caption = tag(
        "figcaption",
        "Each dot is a case: ",
        tag("span", "● against NumPy", class_="key numpy"),
        ", ",
        tag("span", "◆ against PyTorch", class_="key torch"),
        ", ",
        tag("span", "❙ their geometric mean", class_="key"),
        ". Left of 1×, in the shaded part, fastbn is slower. The scale is logarithmic.",
    )
    return tag("figure", caption, tag("div", drawings, class_="pairs"))


def _matrices(on: OnMachine) -> list[Element]:
    if len(on.settings) == 1:
        return []  # it is all in the tables above
    tables = [_tables.matrix(on, quantity, dtype) for quantity in QUANTITIES for dtype in on.dtypes]
    return [tag("h3", "By layer, CPU level and threads"), tag("div", tables, class_="pairs")]


def _history(on: OnMachine) -> list[Element]:
    tables = _tables.history(on)
    return [tag("h3", "History"), *tables] if tables else []


def _notes(results: Results) -> Element:
    notes = [tag("p", tag("strong", name), f" {text}") for name, text in _NOTES]
    if results.problems:
        notes.append(
            tag(
                "div",
                tag("p", "These files could not be read, and nothing above is from them:"),
                tag("ul", [tag("li", problem) for problem in results.problems]),
            )
        )
    return tag("section", tag("h2", "How to read the numbers"), notes, class_="notes", id="notes")
