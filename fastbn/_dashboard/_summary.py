"""What the results say: means over cases, and how they changed from commit to commit.

A mean is over cases of one run: one machine, one commit, one setting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ._results import Case, Machine, Run, Setting


class Quantity(NamedTuple):
    """A number that the page shows, and how it comes from a metric."""

    metric: str
    title: str
    convert: Callable[[float], float]
    unit: str


#: It is made of layers, and counts in no mean over them.
STEP = "TrainingStep"

#: How many times as fast as a peer, or per cent of the limit: more is better in all.
NUMPY = Quantity("ratio", "NumPy", lambda ratio: 1 / ratio, "×")
TORCH = Quantity("torch_ratio", "PyTorch", lambda ratio: 1 / ratio, "×")
LIMIT = Quantity("limit_share", "limit", float, " %")
RATE = Quantity("rate", "rate", float, "")
QUANTITIES = (NUMPY, TORCH, LIMIT)


class Mean(NamedTuple):
    """A geometric mean, of how many of how many cases, and its extremes."""

    value: float | None
    measured: int
    of: int
    low: float
    high: float
    below: int  # cases under 1


class Commit(NamedTuple):
    """The runs of one commit on one machine, by setting."""

    hash: str
    date: int | None
    runs: dict[Setting, Run]


class OnMachine(NamedTuple):
    """What was measured on one machine, the newest commit first."""

    machine: Machine
    commits: list[Commit]

    @property
    def settings(self) -> list[Setting]:
        """Those of the newest commit: lower levels first, fewer threads first.

        Of those alike in both, the one that most commits were measured in is last.
        """

        def rank(setting: Setting) -> tuple[object, ...]:
            measured = sum(setting in commit.runs for commit in self.commits)
            return (_natural(setting.level), _natural(setting.threads), measured, setting.others)

        return sorted(self.commits[0].runs, key=rank)

    @property
    def layers(self) -> list[str]:
        """Names of what any commit has: alphabetical, the training step last."""
        return sorted({case.layer for case in self._cases()}, key=lambda name: (name == STEP, name))

    @property
    def dtypes(self) -> list[str]:
        """Those of any commit."""
        return sorted({case.dtype for case in self._cases()})

    def _cases(self) -> Iterator[Case]:
        for commit in self.commits:
            for run in commit.runs.values():
                yield from run.values

    @property
    def newest(self) -> Run:
        """The newest commit in the setting of which most is known.

        Of those alike, at the highest level and number of threads: a level that the machine lacks
        has results, too, all n/a.
        """
        runs = self.commits[0].runs

        def known(setting: Setting) -> int:
            return sum(len(numbers) for numbers in runs[setting].values.values())

        return runs[max(reversed(self.settings), key=known)]


def by_machine(runs: Iterable[Run]) -> list[OnMachine]:
    """The runs of each machine. The machine of the newest commit comes first."""
    machines: dict[Machine, dict[str, Commit]] = {}
    for run in runs:
        commits = machines.setdefault(run.machine, {})
        commit = commits.setdefault(run.commit, Commit(run.commit, run.date, {}))
        commit.runs[run.setting] = run
    found = [
        OnMachine(machine, sorted(commits.values(), key=_newest_first))
        for machine, commits in machines.items()
    ]
    return sorted(found, key=lambda on: (_newest_first(on.commits[0]), on.machine))


def _newest_first(commit: Commit) -> tuple[float, str]:
    return (math.inf if commit.date is None else -commit.date, commit.hash)


def _natural(text: str) -> tuple[object, ...]:
    """An order in which 10 comes after 9, and what nobody set, which is the most, last."""
    number = re.search(r"\d{1,9}", text)
    return (not text, int(number[0]) if number else 0, text)


def number(run: Run, case: Case, quantity: Quantity) -> float | None:
    """A number of a run; None if it was not measured or failed."""
    value = run.values.get(case, {}).get(quantity.metric)
    return None if value is None else quantity.convert(value)


def failed(run: Run, case: Case, quantity: Quantity) -> bool:
    """Whether a benchmark was run and came to nothing."""
    return run.values.get(case, {}).get(quantity.metric, math.nan) is None


def geometric_mean(numbers: Iterable[float | None]) -> Mean:
    """The mean of the numbers that are there."""
    numbers = list(numbers)
    there = [number for number in numbers if number is not None]
    if not there:
        return Mean(None, 0, len(numbers), math.nan, math.nan, 0)
    value = math.exp(math.fsum(map(math.log, there)) / len(there))
    below = sum(number < 1 for number in there)
    return Mean(value, len(there), len(numbers), min(there), max(there), below)


def cases(
    run: Run, layer: str | None = None, dtype: str | None = None, part: str | None = "both"
) -> list[Case]:
    """Cases of a run, in the order of the results.

    Of one layer or of all of them, of a dtype, of a part.
    """
    return [
        case
        for case in run.values
        if (case.layer == layer if layer else case.layer != STEP)
        and dtype in (None, case.dtype)
        and part in (None, case.part)
    ]


def mean(run: Run, quantity: Quantity, layer: str | None = None, dtype: str | None = None) -> Mean:
    """The mean over cases of forward and backward pass."""
    return geometric_mean(number(run, case, quantity) for case in cases(run, layer, dtype))


class Change(NamedTuple):
    """How much faster than an older run a newer one is, and over how many cases."""

    value: float | None
    cases: int


def change(newer: Run, older: Run, quantity: Quantity, layer: str | None = None) -> Change:
    """The mean of the newer number in the older, over the cases that both have.

    Benchmarks of another version measured something else: their cases do not count.
    """
    ratios = []
    for case in cases(newer, layer):
        key = (case.layer, quantity.metric)
        if newer.versions.get(key) == older.versions.get(key):
            now, then = number(newer, case, quantity), number(older, case, quantity)
            ratios.append(None if now is None or then is None else now / then)
    found = geometric_mean(ratios)
    return Change(found.value, found.measured)
