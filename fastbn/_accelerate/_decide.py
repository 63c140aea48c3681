"""Which functions of theirs are swapped, and why the others are left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._compare import Verdict, compare
from ._groups import GROUPS, Group, calls_others, misfit
from ._rows import Row


def decide(theirs: Mapping[str, tuple[str, Any]], verify: bool, unsolved: bool) -> list[Row]:
    """Return a row for every function of `theirs`: name -> (module, function).

    A group is swapped as a whole or left as a whole.
    """
    rows: dict[str, Row] = {}
    unwritten: set[str] = set()
    for group in GROUPS:
        functions = {name: theirs[name][1] for name in group.functions if name in theirs}
        reasons = _from_outside(group, functions, rows)
        verdicts: dict[str, Verdict] = {}
        # Dropout is always tried: by one name years mean opposite things.
        if not reasons and (verify or "dropout_forward" in functions):
            verdicts = compare(group, functions)
            for name, verdict in verdicts.items():
                needs = unwritten.intersection(_calls(functions[name]))
                if verdict.kind == "raises" and needs:
                    verdicts[name] = Verdict("unsolved", f"needs {min(needs)}, not written yet")
                elif verdict.kind == "raises" and set(group.calls) - theirs.keys():
                    verdicts[name] = Verdict("broken", verdict.reason)  # handed out without a part
            unwritten |= {name for name, found in verdicts.items() if found.kind == "unsolved"}
            skip = unsolved or not verify
            if "dropout_forward" in functions and "layernorm_forward" not in theirs:
                skip = False  # nothing shows which meaning of p is wanted: both came in 2018
            reasons = _from_inside(verdicts, skip)
        culprit = next(iter(reasons), "")
        for name in functions:
            verdict = verdicts.get(name, Verdict(""))
            reason = reasons.get(name) or (f"{culprit} is left" if culprit else verdict.reason)
            rows[name] = Row(
                theirs[name][0],
                name,
                not reasons,
                reason,
                verdict.kind,
                verdict.error,
            )
    return list(rows.values())


def _calls(function: Any) -> tuple[str, ...]:
    """Names that a function looks up."""
    return getattr(getattr(function, "__code__", None), "co_names", ())


def _from_outside(
    group: Group, functions: Mapping[str, Any], rows: Mapping[str, Row]
) -> dict[str, str]:
    """Name -> why it is left, without running anything."""
    reasons = {name: misfit(name, function) for name, function in functions.items()}
    for pair in group.pairs:
        there = [name for name in pair.functions if name in functions]
        for name in pair.functions[:2]:
            if there and name not in functions:
                reasons[there[0]] = reasons[there[0]] or f"there is no {name} beside it"
    for name, function in functions.items():
        if group.calls:
            left = [part for part in group.calls if part in rows and not rows[part].swapped]
            reasons[name] = (
                reasons[name]
                or (f"{left[0]} is left" if left else "")
                or calls_others(name, function)
            )
    return {name: reason for name, reason in reasons.items() if reason}


def _from_inside(verdicts: Mapping[str, Verdict], unsolved: bool) -> dict[str, str]:
    """Name -> why it is left, after a run."""
    reasons = {}
    for name, verdict in verdicts.items():
        unwritten = verdict.kind == "unsolved" and not unsolved
        if unwritten or verdict.kind in ("differs", "convention", "raises"):
            reasons[name] = verdict.reason
    return reasons
