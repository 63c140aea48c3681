"""Numbers, dates and settings in words."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence

from ._results import Setting
from ._summary import Mean

MISSING = "not measured"

_PARTS = {"both": "forward and backward", "forward": "forward", "backward": "backward"}
_LEVELS = {"v2": "v2 (SSE4.2)", "v3": "v3 (AVX2)", "v4": "v4 (AVX-512)"}


def times(number: float) -> str:
    """Such as 12.3×; what is below 1 is never rounded to 1."""
    if number >= 999.5:
        return f"{number:,.0f}×"
    text = f"{number:#.3g}".rstrip(".")
    return "0.999×" if number < 1 and float(text) >= 1 else f"{text}×"


def percent(number: float) -> str:
    return f"{number:.3g} %" if number < 1 else f"{number:,.0f} %"


def rate(number: float, unit: str) -> str:
    return f"{times(number).rstrip('×')} {unit}".strip()


def span(mean: Mean, share: bool) -> str:
    """The extremes of a mean, in its unit."""
    show = percent if share else times
    low, high = show(mean.low), show(mean.high)
    return f"{low.rstrip(' %×')}\N{EN DASH}{high}"


def count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def day(milliseconds: int | None) -> str:
    """A date in UTC."""
    if milliseconds is None:
        return "date not recorded"
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return f"{moment:%Y-%m-%d}"


def dtype_name(dtype: str) -> str:
    return dtype or "dtype not recorded"


def part_name(part: str) -> str:
    return _PARTS.get(part, part)


def level_name(setting: Setting) -> str:
    return _LEVELS.get(setting.level, setting.level) or "best CPU level"


def threads_name(setting: Setting) -> str:
    if setting.threads == "1":
        return "1 thread"
    return f"{setting.threads} threads" if setting.threads else "threads not set"


def setting_parts(setting: Setting, others: Sequence[str] = ()) -> list[str]:
    """Level and threads, and of the other variables those that tell settings apart."""
    known = dict(setting.others)
    words = [f"{name} {known.get(name) or 'not set'}" for name in others]
    return [level_name(setting), threads_name(setting), *words]


def setting_name(setting: Setting, others: Sequence[str] = ()) -> str:
    return ", ".join(setting_parts(setting, others))


def telling(settings: Sequence[Setting]) -> list[str]:
    """Variables by which settings of the same level and threads differ."""
    names = set()
    for one, other in itertools.combinations(settings, 2):
        if one[:2] == other[:2]:
            names |= {name for name, _ in {*one.others} ^ {*other.others}}
    return sorted(names)
