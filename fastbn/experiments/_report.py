"""Words and tables of the experiments."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

_NAMES = {"batchnorm": "batch normalization", "layernorm": "layer normalization"}


def name(normalization: str | None) -> str:
    return _NAMES[normalization] if normalization else "no normalization"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def loss(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.4g}"


def listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def effect(normalization: str, best: float, baseline: float) -> str:
    """What a normalization does to the validation accuracy, as a clause."""
    if best == baseline:
        return (
            f"{name(normalization)} makes no difference to the validation accuracy "
            f"({percent(best)} with it and without)"
        )
    return (
        f"{name(normalization)} {'gains' if best > baseline else 'costs'} "
        f"{100 * abs(best - baseline):.3g} points of validation accuracy "
        f"({percent(best)} with it, {percent(baseline)} without)"
    )


def title(result: dict[str, Any]) -> str:
    """What all trainings of a result have in common."""
    options = result["options"]
    runs = [
        f"{len(list(run))} x {width}" for width, run in itertools.groupby(options["hidden"])
    ] or ["no"]
    data = result["data"][0].upper() + result["data"][1:]
    return (
        f"{data}, {result['num_train']} training images; {', '.join(runs)} hidden units, "
        f"Adam {options['learning_rate']:.3g}, {epochs(result)}"
    )


def epochs(result: dict[str, Any]) -> str:
    """How long the trainings were."""
    number = result["options"]["epochs"]
    return f"{number} epoch{'s' if number > 1 else ''}"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as need be: the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headers, *rows)
    )
