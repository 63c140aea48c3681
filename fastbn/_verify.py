"""``fastbn verify``: the functions of a course checkout beside ours."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from . import _ext, _options, _threads
from ._accelerate import accelerate
from ._accelerate._compare import seconds

_COUNTED = {
    "agrees": "agree",
    "differs": "differ",
    "raises": "raise an error",
    "unsolved": "not written yet",
    "convention": "right and yet different",
}


def run(package: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Compare, and yield what there is to print and to keep of each function.

    Parameters
    ----------
    package : str
        Dotted name of a package or module.

    Yields
    ------
    line : str
        A line of the table.
    result : dict
        ``module``, ``name``, ``found``, ``error``, ``reason``, ``wrong`` and ``seconds`` (theirs
        and fastbn's). All is plain JSON: an error that is not finite is None.

    Raises
    ------
    ModuleNotFoundError, ValueError
        If there is no such course package.
    """
    with accelerate(package, verify=True) as report:
        pass  # undone: theirs are timed as they are
    theirs = report.theirs()
    for row in report.rows:
        if not row.found and not row.reason:
            continue  # im2col_cython, which is ours where none is compiled
        times = seconds(row.name, theirs) if row.found == "agrees" else None
        text = "" if row.error is None else f"{row.error:.1e}"
        error = row.error if row.error is not None and math.isfinite(row.error) else None
        ratio = f"{times[0] / times[1]:.1f}x" if times else ""
        said = "" if row.found == "agrees" else row.reason
        line = f"{row.module:<14} {row.name:<27} {text:>8} {ratio:>9}  {said}".rstrip()
        yield (
            line,
            {
                **{"module": row.module, "name": row.name, "found": row.found, "error": error},
                **{"reason": said, "wrong": row.wrong, "seconds": times},
            },
        )


def add_command(commands: Any) -> None:
    """Add ``verify`` to the subparsers."""
    verify = commands.add_parser(
        "verify",
        help="run a course checkout's functions beside fastbn's",
        description="Run each function of a course checkout beside fastbn's on small data, and "
        "print the errors, as shares of the largest number, and how much faster fastbn's are on "
        "larger data. The exit code is 1 if a function is wrong or its module cannot be imported; "
        "not to be written yet is not. Of several checkouts, verify each from its own folder.",
    )
    verify.add_argument("package", metavar="PACKAGE", help="such as cs231n, from this folder")
    verify.add_argument("--json", metavar="FILE", help="write the table to a file, too")
    verify.set_defaults(run=lambda args: _run(verify, args))


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if sys.path[0] not in ("", os.getcwd()):
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    package = args.package.rstrip(os.sep)  # as a shell completes the name of a folder
    results: list[dict[str, Any]] = []
    try:
        for line, result in run(package):
            if not results:
                print(f"{package}: {_place(package)}")
                print(f"float64, threads {_threads.get_num_threads()}, level {_ext.level}")
                print(f"{'':<14} {'':<27} {'error':>8} {'speed-up':>9}")
            results.append(result)
            print(line, flush=True)
    except (ModuleNotFoundError, ValueError) as error:
        parser.error(f"argument PACKAGE: {error}")
    except Exception as error:  # of their modules, as they are imported
        raise _options.UserError(
            f"{package} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    counts = Counter(_COUNTED.get(result["found"], "not compared") for result in results)
    print(", ".join(f"{counts[w]} {w}" for w in (*_COUNTED.values(), "not compared") if counts[w]))
    if args.json:
        content = json.dumps(
            {"package": package, "folder": _place(package), "functions": results},
            indent=1,
            allow_nan=False,
        )
        _options.write(args.json, lambda file: file.write(content.encode()))
    wrong = [result["name"] for result in results if result["wrong"]]
    if wrong:
        raise _options.UserError(f"wrong in {package}: {', '.join(wrong)}")


def _place(package: str) -> str:
    """Where an imported package lies, since many checkouts have one name."""
    module = sys.modules[package]
    places = list(getattr(module, "__path__", ())) or [vars(module).get("__file__", "")]
    return os.pathsep.join(map(os.path.abspath, places))
