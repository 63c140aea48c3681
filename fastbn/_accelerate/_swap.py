"""Names bound to other functions, and bound back: what was swapped where."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from types import ModuleType
from typing import Any

#: Held while names are bound, and never while modules are imported: importing holds locks of its
#: own.
lock = threading.RLock()


class Space:
    """A namespace: a module's, or the globals of who called."""

    def __init__(self, owner: ModuleType | dict[str, Any]) -> None:
        self.owner = owner
        self.names: dict[str, Any] = vars(owner) if isinstance(owner, ModuleType) else owner

    def bind(self, name: str, value: Any) -> None:
        """Bind a name; what a read-only module raises is raised."""
        if isinstance(self.owner, ModuleType):
            setattr(self.owner, name, value)  # not past a module that guards its names
        else:
            self.owner[name] = value


class Swap:
    """A name in a namespace that stands for ours in place of theirs."""

    def __init__(self, space: Space, name: str, key: Any, theirs: Any, ours: Any) -> None:
        self.space, self.name, self.key, self.theirs, self.ours = space, name, key, theirs, ours
        space.bind(name, ours)
        active[id(space.names), name] = self

    @property
    def stands(self) -> bool:
        """Whether nobody has bound the name anew."""
        return self.space.names.get(self.name) is self.ours

    def undo(self) -> None:
        """Put theirs back, unless the name is somebody else's by now."""
        if active.get((id(self.space.names), self.name)) is self:
            del active[id(self.space.names), self.name]
            if self.stands:
                self.space.bind(self.name, self.theirs)


#: What is swapped now, by namespace and name. A swap holds its namespace, so ids are not reused.
active: dict[tuple[int, str], Swap] = {}


def spaces(root: str, more: Iterable[ModuleType | dict[str, Any]]) -> list[Space]:
    """The namespaces of the modules of a package that are imported now, and more."""
    modules = [
        module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and (name == root or name.startswith(f"{root}."))
    ]
    found = {id(space.names): space for space in map(Space, [*modules, *more])}
    return list(found.values())


def suspend(swaps: Iterable[Swap]) -> list[Swap]:
    """Put theirs back for a moment; for which swaps that was done."""
    swaps = [swap for swap in swaps if swap.stands]
    for swap in swaps:
        swap.space.bind(swap.name, swap.theirs)
    return swaps


def resume(swaps: Iterable[Swap]) -> None:
    """End it. A name that was bound anew in the meantime is a swap no longer."""
    for swap in swaps:
        if swap.space.names.get(swap.name) is swap.theirs:
            swap.space.bind(swap.name, swap.ours)
        elif active.get((id(swap.space.names), swap.name)) is swap:
            del active[id(swap.space.names), swap.name]


def all_or_none(bindings: Iterable[tuple[Space, str, Any, Any, Any]]) -> list[Swap]:
    """Make swaps of these arguments; if one cannot be made, none stands and its error is raised."""
    made: list[Swap] = []
    try:
        for binding in bindings:
            made.append(Swap(*binding))
    except BaseException:
        for swap in reversed(made):
            swap.undo()
        raise
    return made
