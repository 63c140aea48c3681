"""What the commands of the command line share: types of options, errors, results on disk."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from . import _threads
from ._atomic import atomic_write

# NumPy counts the bytes of an array in 63 bits. What is within them and yet too large for the
# machine is a MemoryError.
MOST = 10**18


class UserError(Exception):
    """Something outside the program is wrong: one line on stderr, and no traceback."""


def number(
    kind: type, least: float, most: float = math.inf, above: bool = False
) -> Callable[[str], Any]:
    """Return an argparse type: an int or a finite float from `least` (or above it) to `most`."""
    rule = f"above {least:g}" if above else f"at least {least:g}"
    if most < math.inf:
        rule += f" and at most {most:.10g}"

    def convert(text: str) -> Any:
        word = "an integer" if kind is int else "a number"
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {word}; got {text!r}") from None
        if kind is int and MOST < value <= most:
            raise argparse.ArgumentTypeError(f"is too large; got {text!r}")
        if not least <= value <= most or (above and value == least) or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"must be {word} {rule}; got {text!r}")
        return value

    return convert


def write(path: str, fill: Callable[[Any], Any]) -> None:
    """Write a file whole, with `fill(file)`, and say so."""
    try:
        with atomic_write(path) as file:
            fill(file)
    except OSError as error:
        raise UserError(f"cannot write {path!r}: {error.strerror}") from error
    print(f"wrote {path}")


def set_threads(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Set the number of threads that ``--threads`` gives, if it was given."""
    if args.threads is not None:
        try:
            _threads.set_num_threads(args.threads)
        except ValueError as error:
            parser.error(f"argument --threads: {error}")
