"""Command line: ``fastbn train``, ``run``, ``verify``, ``bench``, ``dashboard`` and the others."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import fastbn

from . import _bench, _dashboard, _experiment, _options, _run, _train, _verify


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        Exit code: 0; 1 if data could not be read, results not be written or memory not be had;
        130 after Ctrl-C and 141 if nobody reads the output any more, as in a shell.

    Raises
    ------
    SystemExit
        With code 2 for wrong options, with code 0 after ``--help`` and ``--version``.
    """
    args = _parser().parse_args(argv)
    try:
        args.run(args)
        print(end="", flush=True)  # here, where a broken pipe can be caught, and not at exit
    except _options.UserError as error:
        return _fail(str(error))
    except MemoryError as error:
        return _fail(f"not enough memory: {error}" if str(error) else "not enough memory")
    except KeyboardInterrupt:
        print("fastbn: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # What is still in the buffer would raise again at exit: let it go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _fail(message: str) -> int:
    print(f"fastbn: error: {message}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastbn", description="Fast layers for NumPy nets.")
    parser.add_argument("--version", action="version", version=f"fastbn {fastbn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="print what this build and this machine are")
    info.set_defaults(run=lambda args: fastbn.show_config())
    for command in (_bench, _dashboard, _experiment, _run, _train, _verify):
        command.add_command(commands)
    return parser
