"""``fastbn dashboard``: what airspeed velocity measured, as one page or one picture."""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
from typing import Any

from .. import _options
from . import _page, _picture, _results, _summary


def add_command(commands: Any) -> None:
    """Add ``dashboard`` to the subparsers."""
    dashboard = commands.add_parser(
        "dashboard",
        help="make a page of airspeed velocity's results",
        description="Write one page of HTML, which loads nothing, of what airspeed velocity "
        "measured: how many times as fast as NumPy and PyTorch, how near to the machine's limit, "
        "by layer, dtype, CPU level and threads, and from commit to commit.",
    )
    dashboard.add_argument(
        "results",
        metavar="RESULTS",
        help="asv's folder of results, such as asv_bench/.asv/results, or a machine's folder or a "
        "file in it",
    )
    dashboard.add_argument(
        "--out", metavar="FILE", help="the page (default dashboard.html, or none with --picture)"
    )
    dashboard.add_argument(
        "--picture",
        metavar="FILE",
        help="a picture of the means by layer on one machine, .svg or .png (needs matplotlib)",
    )
    dashboard.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "float64"),
        help="of the picture (default %(default)s)",
    )
    dashboard.set_defaults(run=lambda args: _run(dashboard, args))


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    format = os.path.splitext(args.picture or "")[1].lower()[1:]
    if args.picture is not None and format not in ("svg", "png"):
        parser.error(f"argument --picture: must end in .svg or .png; got {args.picture!r}")
    if args.picture is not None and importlib.util.find_spec("matplotlib") is None:
        raise _options.UserError("--picture needs matplotlib: pip install 'fastbn[train]'")
    results = _results.read(args.results)
    for problem in results.problems:
        print(f"fastbn: left out: {problem}", file=sys.stderr)
    # All is made before anything is written.
    page = _page.page(results) if args.out is not None or args.picture is None else None
    if args.picture is not None:
        picture = _drawn(results, args.dtype, format)
        _options.write(args.picture, lambda file: file.write(picture))
    if page is not None:
        _options.write(
            "dashboard.html" if args.out is None else args.out, lambda file: file.write(page)
        )


def _drawn(results: _results.Results, dtype: str, format: str) -> bytes:
    on, *others = _summary.by_machine(results.runs)
    if others:
        print(
            f"fastbn: the picture is of {on.machine.name}, which has the newest commit; "
            "for another machine, give its folder",
            file=sys.stderr,
        )
    if not _picture.means(on, dtype):
        raise _options.UserError(f"no {dtype} was measured, so there is no picture of it")
    content = io.BytesIO()
    _picture.save(_picture.draw(on, dtype), content, format)
    return content.getvalue()
