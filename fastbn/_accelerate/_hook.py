"""The import system: ``im2col_cython`` where there is none, and word when a package is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .. import im2col_cython

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # importlib.abc brings pathlib, tempfile, urllib and more: a third of all that is imported
    Loader = MetaPathFinder = object


class _Extension(Loader):
    """The course's compiled module, with our functions."""

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # an ordinary module

    def exec_module(self, module: ModuleType) -> None:
        names = ("im2col_cython", "col2im_cython", "col2im_6d_cython")
        vars(module).update({name: getattr(im2col_cython, name) for name in names})


class _Arrival(Loader):
    """Loads a package as its own loader does, then says so."""

    def __init__(self, loader: Any, arrived: Callable[[str], None]) -> None:
        self.loader, self.arrived = loader, arrived

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec) if self.loader else None

    def exec_module(self, module: ModuleType) -> None:
        # Whoever looks for the source later asks the loader: that is the package's own again.
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        if self.loader:  # a folder without __init__.py has none
            self.loader.exec_module(module)
        self.arrived(module.__name__)


class Finder(MetaPathFinder):
    """The first of ``sys.meta_path`` while there is something to do."""

    def __init__(self) -> None:
        #: Packages whose im2col_cython is ours if they have none.
        self.extensions: set[str] = set()
        self.arrivals: dict[str, Callable[[str], None]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for the two cases, after asking all others; else None."""
        package, _, name = fullname.rpartition(".")
        if name == "im2col_cython" and package in self.extensions:
            spec = self._others(fullname, path, target)
            return spec or ModuleSpec(fullname, _Extension(), origin="fastbn")
        if fullname in self.arrivals and fullname not in sys.modules:  # no reload
            spec = self._others(fullname, path, target)
            if spec is not None and (spec.loader is None or hasattr(spec.loader, "exec_module")):
                spec.loader = _Arrival(spec.loader, self.arrivals[fullname])
            return spec
        return None

    def _others(self, fullname: str, path: Any, target: Any) -> ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec: ModuleSpec | None = finder.find_spec(fullname, path, target)
                if spec is not None:
                    return spec
        return None

    def install(self) -> None:
        """Be asked from now on."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def provide(self, package: str) -> None:
        """Provide im2col_cython."""
        self.extensions.add(package)
        self.install()

    def withdraw(self, package: str) -> None:
        """Provide it no longer, and forget it where it was ours."""
        self.extensions.discard(package)
        name = f"{package}.im2col_cython"
        module = sys.modules.get(name)
        spec = getattr(module, "__spec__", None)
        if spec is not None and isinstance(spec.loader, _Extension):
            del sys.modules[name]
            if package in sys.modules:
                vars(sys.modules[package]).pop("im2col_cython", None)
        self._leave()

    def on_arrival(self, package: str, arrived: Callable[[str], None]) -> None:
        """Call `arrived` with the package's name once it is imported, before what is in it."""
        self.arrivals[package] = arrived
        self.install()

    def forget(self, package: str) -> None:
        """Call nobody."""
        self.arrivals.pop(package, None)
        self._leave()

    def _leave(self) -> None:
        if not self.extensions and not self.arrivals and self in sys.meta_path:
            sys.meta_path.remove(self)


finder = Finder()
