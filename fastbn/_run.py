"""``fastbn run``: a script, as Python runs it, with the course's functions swapped for ours."""

from __future__ import annotations

import argparse
import builtins
import os
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType
from typing import Any

from ._accelerate import COURSES, when_imported
from ._accelerate._report import Report


def add_command(commands: Any) -> None:
    """Add ``run`` to the subparsers."""
    run = commands.add_parser(
        "run",
        help="run a script with the course's functions swapped for fastbn's",
        description="Run a Python script as `python SCRIPT` does. The functions of the package "
        "cs231n or cs682 are swapped for fastbn's when the script imports it.",
    )
    run.add_argument(
        "--package",
        action="append",
        metavar="NAME",
        help="another package to accelerate; may be given twice",
    )
    run.add_argument(
        "--verify",
        action="store_true",
        help="leave the functions that differ from fastbn's or are not written yet",
    )
    run.add_argument(
        "--report", action="store_true", help="say on stderr what was swapped and what was left"
    )
    run.add_argument("script", metavar="SCRIPT", help="a Python file")
    run.add_argument("args", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    run.set_defaults(run=lambda args: _run(run, args))


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    path = os.path.abspath(args.script)
    loader = SourceFileLoader("__main__", path)
    try:
        source = loader.get_data(path)
    except OSError as error:
        parser.error(f"argument SCRIPT: cannot read {args.script!r}: {error.strerror}")

    told = []

    def tell(report: Report) -> None:
        told.append(report.target)
        if args.report:
            print(report, file=sys.stderr)

    packages = args.package or COURSES
    for name in packages:
        when_imported(name, args.verify, tell)
    sys.argv = [args.script, *args.args]
    if not sys.flags.safe_path:  # `python -P` leaves the script's folder out
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    # Not runpy.run_path: it takes __main__ away when the script ends, and threads, pickles and
    # functions at exit still want it.
    main = ModuleType("__main__")
    vars(main).update(__file__=path, __loader__=loader, __builtins__=builtins)
    sys.modules["__main__"] = main
    try:
        exec(loader.source_to_code(source, path), vars(main))
    except SystemExit:
        raise
    except BaseException as error:
        # As Python ends a script: with its own traceback, not with ours on top.
        error.__traceback__ = _within(error.__traceback__, path)
        sys.excepthook(type(error), error, error.__traceback__)
        raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 1) from None
    finally:
        if args.report and not told:
            names = " or ".join(packages)
            print(
                f"fastbn: nothing swapped: no course package {names} was imported", file=sys.stderr
            )


def _within(traceback: TracebackType | None, script: str) -> TracebackType | None:
    """The traceback from the script's first frame on."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename != script:
        traceback = traceback.tb_next
    return traceback
