"""Notebooks, whose ``%autoreload 2`` defines functions anew.

Before each cell it looks for modules whose files have changed. It runs them again, or gives the
function objects that it finds in them the new code. So it must find theirs, not ours: names are
put back while it works, and swapped again after it.
"""

from __future__ import annotations

import sys
from typing import Any

from . import _swap
from ._groups import OURS
from ._report import standing

_ATTRIBUTES = ("__code__", "__defaults__", "__kwdefaults__", "__doc__")
_AS_BUILT = [(f, [getattr(f, name) for name in _ATTRIBUTES]) for f in set(OURS.values())]


class _Cells:
    """What is done before and after each cell."""

    def __init__(self, shell: Any) -> None:
        self.events = shell.events
        self.suspended: list[_swap.Swap] = []
        self.events.register("pre_run_cell", self.before_reload)
        self.events.register("pre_run_cell", self.after_reload)
        self.events.register("post_run_cell", self.after)
        self.arrange()

    def arrange(self) -> None:
        """Have the first word and the last one: autoreload may have been loaded since."""
        callbacks = self.events.callbacks["pre_run_cell"]
        callbacks.remove(self.before_reload)
        callbacks.remove(self.after_reload)
        callbacks.insert(0, self.before_reload)
        callbacks.append(self.after_reload)

    def before_reload(self, info: Any) -> None:
        with _swap.lock:
            self.suspended = _swap.suspend(_swap.active.values())

    def after_reload(self, info: Any) -> None:
        with _swap.lock:
            _swap.resume(self.suspended)
            self.suspended = []
        for report in list(standing):
            report.refresh()

    def after(self, result: Any) -> None:
        if _mended():
            # A reload in the middle of a cell (%autoreload now) has found ours, and changed them;
            # what it would have changed is read from the file.
            for report in list(standing):
                report.reload()
        for report in list(standing):
            report.refresh()
        self.arrange()


def _mended() -> bool:
    """Make our functions what they were built as; whether that was needed."""
    changed = [f for f, built in _AS_BUILT if f.__code__ is not built[0]]
    for function, built in _AS_BUILT:
        if function in changed:
            for name, value in zip(_ATTRIBUTES, built, strict=True):
                setattr(function, name, value)
    return bool(changed)


_cells: dict[int, _Cells] = {}


def follow() -> list[dict[str, Any]]:
    """Follow the cells of the notebook that this is called in, if any; its globals, in a list."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        return []
    if id(shell) not in _cells:
        _cells[id(shell)] = _Cells(shell)
    return [shell.user_ns]
