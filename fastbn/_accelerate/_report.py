"""The report, which does the swapping and undoes it."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, TracebackType
from typing import Any

from . import _rows, _swap
from ._compare import said
from ._decide import decide
from ._groups import GIVEN, GROUP_OF, GROUPS, HOMES, OURS
from ._hook import finder
from ._rows import Row
from ._swap import Space, Swap

#: Reports that have not been undone.
standing: list[Report] = []

_Theirs = dict[str, tuple[Space, Any]]


class Report:
    """What :func:`fastbn.accelerate` swapped, what it left and why.

    Attributes
    ----------
    target : str
        Name of the package or module.
    rows : list of Row
        One for every function of the course that it has: ``module``, ``name``, ``swapped``,
        ``reason``, ``found`` and ``error``.
    """

    def __init__(
        self, module: ModuleType, callers: list[dict[str, Any]], verify: bool, unsolved: bool
    ) -> None:
        self.target = module.__name__
        self.rows: list[Row] = []
        self._callers, self._verify, self._unsolved = callers, verify, unsolved
        self._swaps: list[Swap] = []
        self._problems: list[Row] = []
        self._homes: dict[str, ModuleType] = {"": module}
        self._root = self.target.partition(".")[0]
        if "__path__" in vars(module):  # not hasattr: a module's own __getattr__ may say anything
            self._root = self.target
            with _swap.lock:
                finder.provide(self.target)
            try:
                self._homes, self._problems = _import_homes(self.target)
            except BaseException:  # Ctrl-C
                self._withdraw()
                raise
        self._known: dict[str, dict[int, Any]] = {}
        #: Names that were ours before, and that undo() leaves alone.
        self._own: dict[tuple[int, str], Space] = {}
        with _swap.lock:
            standing.append(self)
            try:
                self._start()
            except BaseException:
                self.undo()
                raise

    def _start(self) -> None:
        theirs, own = self._find()
        if not theirs and not own:
            raise ValueError(self._nothing())
        for space in self._spaces():
            for name in OURS.keys() & space.names.keys():
                if self._is_loose(space, name):
                    self._own[id(space.names), name] = space
        self._decide(theirs, own)
        self._bind(theirs)

    @property
    def swapped(self) -> list[str]:
        """Names of the functions that are fastbn's now."""
        return [row.name for row in self.rows if row.swapped]

    @property
    def left(self) -> dict[str, str]:
        """Names of those that are not, and why."""
        return {row.name: row.reason for row in self.rows if not row.swapped}

    def __str__(self) -> str:
        return _rows.text(self.target, self.rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _rows.as_html(self.target, self.rows)

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.undo()

    def undo(self) -> None:
        """Put back what this call swapped; names that were bound anew since are left alone."""
        with _swap.lock:
            if self not in standing:
                return
            standing.remove(self)
            self._adopt()
            for swap in reversed(self._swaps):
                swap.undo()
            self._swaps = []
            self._withdraw()

    def _withdraw(self) -> None:
        """Take im2col_cython away again, unless another report on the package stands."""
        with _swap.lock:
            if all(report.target != self.target for report in standing):
                finder.withdraw(self.target)

    def theirs(self) -> dict[str, Any]:
        """Return the functions of theirs by name, whether swapped or not."""
        with _swap.lock:
            return {name: function for name, (_, function) in self._find()[0].items()}

    def refresh(self) -> None:
        """Swap anew what was defined anew, as by a reload; decide anew if it was."""
        with _swap.lock:
            if self in standing and all(
                report.target != self.target for report in standing[standing.index(self) + 1 :]
            ):  # the latest call decides
                self._take_homes()
                self._adopt()
                theirs, own = self._find()
                if self._seen != _codes(theirs):
                    self._decide(theirs, own)
                self._bind(theirs)

    def reload(self) -> None:
        """Run the course's modules again."""
        for module in self._homes.values():
            if sys.modules.get(module.__name__) is module:
                importlib.reload(module)

    # What there is

    def _take_homes(self) -> None:
        """Take in the course's modules that could not be imported at first, and were since."""
        if "" not in self._homes:
            for kind in HOMES:
                module = sys.modules.get(f"{self.target}.{kind}")
                if module is not None and kind not in self._homes:
                    self._homes[kind] = module
                    self._problems = [row for row in self._problems if row.name != kind]

    def _home(self, name: str) -> Space:
        """Where a function of the course is looked up."""
        kind = "" if "" in self._homes else GROUP_OF[name].home
        return Space(self._homes.get(kind, ModuleType(kind)))

    def _spaces(self) -> list[Space]:
        return _swap.spaces(self._root, [*self._homes.values(), *self._callers])

    def _find(self) -> tuple[_Theirs, list[Row]]:
        """Functions of theirs by name, whether swapped or not; rows of those that are ours."""
        theirs: _Theirs = {}
        own = []
        for name in OURS:
            home = self._home(name)
            value = home.names.get(name, self)
            swap = _swap.active.get((id(home.names), name))
            if value is self:
                continue
            if not _is_ours(value):
                theirs[name] = home, value
            elif swap is not None:
                theirs[name] = home, swap.theirs
            else:
                given = GROUP_OF[name].home == "im2col_cython"  # and none is compiled
                reason = "" if given else "is fastbn's already"
                own.append(Row(self._label(home), name, given, reason))
        return theirs, own

    def _label(self, home: Space) -> str:
        return str(home.names["__name__"]).removeprefix(f"{self.target}.")

    def _nothing(self) -> str:
        problems = "".join(f"; {row.name} {row.reason}" for row in self._problems)
        if "" in self._homes:
            return f"target must have functions of the course's layers; {self.target} has none"
        return (
            "target must be a course package, with functions of the course in its modules"
            f" {', '.join(HOMES)}; {self.target} has none{problems}"
        )

    # Swapping

    def _decide(self, theirs: _Theirs, own: list[Row]) -> None:
        """Make the rows."""
        suspended = _swap.suspend(_swap.active.values()) if self._verify else []
        try:  # theirs call theirs
            rows = decide(
                {name: (self._label(home), value) for name, (home, value) in theirs.items()},
                self._verify,
                self._unsolved,
            )
        finally:
            _swap.resume(suspended)
        self.rows = [*rows, *own, *self._problems]
        self._seen = _codes(theirs)

    def _bind(self, theirs: _Theirs) -> None:
        """Make it so in every namespace, group by group."""
        rows = {row.name: row for row in self.rows if row.name in theirs}
        keys = {name: (id(home.names), name) for name, (home, _) in theirs.items()}
        names_of: dict[int, list[str]] = {}
        for name, (_, function) in theirs.items():
            # Earlier objects too, which autoreload gave the code of the one that replaced them.
            self._known.setdefault(name, {})[id(function)] = function
            for known in self._known[name].values():
                if known is function or _code(known) is _code(function) is not None:
                    names_of.setdefault(id(known), []).append(name)
        wanted: dict[str, list[tuple[Space, str]]] = {name: [] for name in rows}
        for space in self._spaces():
            for bound, value in list(space.names.items()):
                swap = _swap.active.get((id(space.names), bound))
                if swap is not None and swap.stands:
                    name = swap.key[1]
                    if keys.get(name) == swap.key:  # not that of another package
                        swap.theirs = theirs[name][1]
                        if not rows[name].swapped:
                            swap.undo()
                elif id(value) in names_of:
                    names = names_of[id(value)]
                    wanted[bound if bound in names else names[0]].append((space, bound))
        for group in GROUPS:
            there = [name for name in group.functions if name in rows]
            if not all(rows[name].swapped for name in there):
                continue
            left = [name for name in group.calls if name in rows and not rows[name].swapped]
            if left:
                problem = f"{left[0]} is left"
            else:
                problem = self._swap(
                    (space, bound, keys[name], theirs[name][1], OURS[name])
                    for name in there
                    for space, bound in wanted[name]
                )
            for name in there:
                if problem:
                    rows[name] = rows[name]._replace(swapped=False, reason=problem)
        self.rows = [rows.get(row.name, row) for row in self.rows]

    def _swap(self, bindings: Any) -> str:
        """Make swaps; why none could be made, or ""."""
        try:
            self._swaps += _swap.all_or_none(bindings)
        except (AttributeError, TypeError) as error:
            return f"cannot be swapped: {said(error)}"
        return ""

    def _is_loose(self, space: Space, name: str) -> bool:
        """Whether a name is ours without a swap."""
        swap = (id(space.names), name) in _swap.active
        return space.names.get(name) is OURS[name] and not swap

    def _adopt(self) -> None:
        """Take ours in modules imported since for swaps: they took them from what was swapped."""
        homes = {id(self._home(name).names) for name in OURS}
        mine = {
            swap.name: swap
            for swap in self._swaps
            if swap.name in OURS and id(swap.space.names) in homes
        }
        for space in self._spaces():
            for name in mine.keys() & space.names.keys():
                if self._is_loose(space, name) and (id(space.names), name) not in self._own:
                    swap = mine[name]
                    self._swaps.append(Swap(space, name, swap.key, swap.theirs, swap.ours))


_IDS = {id(function) for function in OURS.values()}


def _is_ours(value: Any) -> bool:
    return id(value) in _IDS


def _codes(theirs: _Theirs) -> dict[str, Any]:
    """What shows that a function was defined anew, be it in place."""
    return {name: (function, _code(function)) for name, (_, function) in theirs.items()}


def _code(function: Any) -> Any:
    return getattr(function, "__code__", None)


def _import_homes(package: str) -> tuple[dict[str, ModuleType], list[Row]]:
    """The course's modules in a package by their names, and what could not be imported."""
    homes: dict[str, ModuleType] = {}
    problems: list[Row] = []
    for kind in HOMES:
        name = f"{package}.{kind}"
        if kind == "im2col_cython" and name not in sys.modules:
            continue  # nobody wants it
        try:
            homes[kind] = importlib.import_module(name)
        except (Exception, SystemExit) as error:
            if not (isinstance(error, ModuleNotFoundError) and error.name == name):
                # What the course hands out may be broken by the times, and what needs it with it.
                given = kind in GIVEN or any(problem.name in GIVEN for problem in problems)
                reason, found = (
                    f"cannot be imported: {said(error)}",
                    "broken" if given else "raises",
                )
                problems.append(Row(kind, kind, False, reason, found))
    return homes, problems
