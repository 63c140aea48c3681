"""``fastbn.accelerate``: the functions of a course checkout are swapped for ours, in place."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import _notebook, _rows
from ._hook import finder
from ._report import Report, standing

#: Names of the course's package.
COURSES = ("cs231n", "cs682")


def accelerate(target: ModuleType | str, *, verify: bool = False, unsolved: bool = False) -> Report:
    """Swap the functions of a cs231n checkout for fastbn's of the same names, in place.

    Parameters
    ----------
    target : module or str
        A package such as ``cs231n``, imported or not, or its dotted name. Its ``layers``,
        ``fast_layers``, ``im2col`` and ``layer_utils`` are imported; their functions are swapped
        in every module of the package that has them under whatever name, and among the caller's
        globals. Or one module: its own functions of such names are swapped, there and in the
        package that it belongs to.
    verify : bool, default False
        Run each function beside fastbn's on small float64 data first, and leave those that
        differ, that fail or that are not written yet: the report says which and by how much.
    unsolved : bool, default False
        With `verify`, swap functions that are not written yet too: those that raise
        NotImplementedError or return None.

    Returns
    -------
    Report
        What was swapped, what was left and why: ``rows``, ``swapped``, ``left``. Print it, or show
        it in a notebook. ``report.undo()`` puts everything back, and so does leaving a ``with``
        block on it.

    Raises
    ------
    TypeError
        If `target` is neither a module nor a str.
    ModuleNotFoundError
        If there is no module of that name.
    ValueError
        If `target` is no course package, has none of the course's functions, or is fastbn's own.

    Notes
    -----
    A forward function and its backward functions are swapped together, and only where names,
    order and defaults of the parameters are fastbn's. A function is known by what it is, not by
    what it is called: a helper of your own that happens to have a course name is left alone, and
    so is a composed layer that does not call just what the course's calls. Dropout is always
    tried first, since the years disagree on the meaning of ``p``: that of 2016 and 2017 is swapped
    after ``fastbn.set_dropout_convention("drop")``.

    What cannot be reached: functions held in class attributes, default arguments, closures and
    containers. A cache made before the swap goes to the backward function from before it.

    Python imports one package of a name: of several checkouts, accelerate or verify each in a
    process of its own, or else the first is what you get.

    Where nothing is compiled, ``im2col_cython`` can be imported from the package, too.

    Examples
    --------
    In a folder with a checkout of the course:

    >>> import fastbn
    >>> report = fastbn.accelerate("cs231n")
    >>> from cs231n.layers import affine_forward
    >>> affine_forward is fastbn.layers.affine_forward
    True
    >>> report.undo()
    >>> with fastbn.accelerate("cs231n", verify=True) as report:
    ...     print(report)
    cs231n: ... functions swapped, ... left
    ...
    """
    module = _module(target)
    callers = [sys._getframe(1).f_globals, *_notebook.follow()]
    return Report(module, callers, verify, unsolved)


def _module(target: Any) -> ModuleType:
    if isinstance(target, ModuleType):
        module = target
    elif isinstance(target, str):
        module = _imported(target)
    else:
        raise TypeError(f"target must be a module or its dotted name; got {target!r}")
    if module.__name__.partition(".")[0] == __name__.partition(".")[0]:
        raise ValueError(f"target must be a course package, not fastbn's own; got {target!r}")
    return module


def _imported(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"target must be a dotted name such as 'cs231n'; got {name!r}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that it imports
        raise ModuleNotFoundError(
            f"target must be a module that can be imported from sys.path; got {name!r}",
            name=error.name,
        ) from None


def when_imported(name: str, verify: bool, tell: Callable[[Report], None]) -> None:
    """Accelerate a package as soon as it is imported, which may be now; `tell` of the report."""

    def arrived(name: str) -> None:
        finder.forget(name)
        try:
            report = Report(sys.modules[name], _notebook.follow(), verify, unsolved=False)
        except ValueError:
            return  # it has that name and is something else
        tell(report)

    if name in sys.modules:
        arrived(name)
    else:
        finder.on_arrival(name, arrived)


def load_ipython_extension(ipython: Any) -> None:
    """Accelerate the course's package in a notebook: ``%load_ext fastbn``.

    ``cs231n`` or ``cs682`` is verified and accelerated when it is imported, if it was not yet, and
    a line says what was done. Functions are swapped anew after ``%autoreload`` has reloaded them.

    Parameters
    ----------
    ipython : IPython.InteractiveShell
        The shell.
    """
    for name in COURSES:
        when_imported(name, True, _tell)


def _tell(report: Report) -> None:
    print("fastbn:", _rows.summary(report.target, report.rows))
    for name, reason in report.left.items():
        print(f"  {name}: {reason}")


def unload_ipython_extension(ipython: Any) -> None:
    """Undo it: ``%unload_ext fastbn``.

    Parameters
    ----------
    ipython : IPython.InteractiveShell
        The shell.
    """
    for name in COURSES:
        finder.forget(name)
    for report in list(standing):
        if report.target in COURSES:
            report.undo()
