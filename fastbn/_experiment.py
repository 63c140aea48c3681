"""``fastbn experiment``: the studies of `fastbn.experiments`, their tables and figures."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import json
import os
import sys
from typing import Any

from . import _options, experiments
from .experiments import _trainings

_MODULES = {
    "batchnorm": experiments.batchnorm,
    "weight-scale": experiments.weight_scale,
    "batch-size": experiments.batch_size,
    "speed": experiments.speed,
}


def _list_of(convert: Any) -> Any:
    """An argparse type: what `convert` makes of each of N,N,..."""

    def many(text: str) -> list[Any]:
        return [convert(part) for part in text.split(",")]

    return many


def _case(text: str) -> str:
    try:
        experiments.speed.cases(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _shown(default: Any) -> str | None:
    """A default as it would be typed; None for nothing and for what is too long."""
    values = default if isinstance(default, tuple) else (default,)
    if default in (None, "") or len(values) > 10:
        return None
    return ",".join(value if isinstance(value, str) else f"{value:.4g}" for value in values)


_count = _options.number(int, 1)
_width = _options.number(int, 1, 10**9)  # the product of two can be counted
_positive = _options.number(float, 0, above=True)
_scale = _options.number(float, 0)

# How each argument of a `run` is given on the command line. Its default is that of `run`.
_OPTIONS: dict[str, dict[str, Any]] = {
    "data": {
        "metavar": "DIR",
        "help": "folder of the CIFAR-10 python batches, instead of the handwritten digits that "
        "come with scikit-learn",
    },
    "normalization": {
        "choices": ("batchnorm", "layernorm"),
        "help": "what to compare with none",
    },
    "hidden": {
        "type": _list_of(_width),
        "metavar": "N,N,...",
        "help": "widths of the hidden layers",
    },
    "weight_scales": {
        "type": _list_of(_positive),
        "metavar": "X,X,...",
        "help": "standard deviations of the initial weights (default: 20 from 1e-4 to 1, at even "
        "distances of their logarithms)",
    },
    "batch_sizes": {
        "type": _list_of(_count),
        "metavar": "N,N,...",
        "help": "images of one step; the net without normalization gets the first",
    },
    "num_train": {"type": _count, "metavar": "N", "help": "training images"},
    "epochs": {"type": _count, "metavar": "N", "help": "passes over the training set"},
    "batch_size": {"type": _count, "metavar": "N", "help": "images of one step"},
    "learning_rate": {"type": _scale, "metavar": "X", "help": "of Adam"},
    "weight_scale": {
        "type": _scale,
        "metavar": "X",
        "help": "standard deviation of the initial weights",
    },
    "only": {
        "type": _case,
        "metavar": "TEXT",
        "help": "cases with this in their name (default: all)",
    },
    "dtype": {"choices": ("float32", "float64"), "help": "what to compute in"},
    "seed": {
        "type": _options.number(int, 0, 2**32 - 1),
        "metavar": "N",
        "help": "of the random numbers",
    },
    "seconds": {"type": _positive, "metavar": "X", "help": "for each case, at least"},
}


def add_command(commands: Any) -> None:
    """Add ``experiment`` to the subparsers."""
    experiment = commands.add_parser(
        "experiment",
        help="run one of the studies of normalization, or measure the speed",
        description="Run a study, print a table and what it shows, and write NAME.json and "
        "NAME.png (NAME-layernorm for layer normalization). What is finished is kept in the folder "
        "of the results: after an interruption the same command goes on from there.",
    )
    names = experiment.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, module in _MODULES.items():
        summary = module.run.__doc__.splitlines()[0]
        parser = names.add_parser(
            name, help=summary[0].lower() + summary[1:-1], description=summary
        )
        _add_options(parser, module)


def _add_options(parser: argparse.ArgumentParser, module: Any) -> None:
    parameters = inspect.signature(module.run).parameters
    for key, options in _OPTIONS.items():
        if key in parameters:
            default = parameters[key].default
            shown = _shown(default)
            text = options["help"] + (f" (default {shown})" if shown else "")
            name = "--" + key.replace("_", "-")
            parser.add_argument(name, **{**options, "default": default, "help": text})
    parser.add_argument(
        "--out",
        default="fastbn-experiments",
        metavar="DIR",
        help="folder of the results (default %(default)s)",
    )
    if "n_jobs" in parameters:
        parser.add_argument(
            "--jobs",
            type=_count,
            default=-1,
            metavar="N",
            help="trainings side by side (default: as many as there are cores)",
        )
    else:
        parser.add_argument(
            "--threads",
            type=_count,
            metavar="N",
            help="threads of fastbn and PyTorch (default: what the machine has); NumPy's BLAS has "
            "its own",
        )
    parser.set_defaults(run=lambda args: _run(parser, module, args))


def _run(parser: argparse.ArgumentParser, module: Any, args: argparse.Namespace) -> None:
    # Before the work, not after it.
    if importlib.util.find_spec("matplotlib") is None:
        raise _options.UserError(f"{args.name}.png needs matplotlib: pip install 'fastbn[train]'")
    parameters = inspect.signature(module.run).parameters
    options = {key: getattr(args, key) for key in _OPTIONS if key in parameters}
    if "data" in options:
        if importlib.util.find_spec("joblib") is None:
            raise _options.UserError("experiments need joblib: pip install 'fastbn[train]'")
        options["n_jobs"] = args.jobs
        options["data"] = _read(args)
    else:
        _options.set_threads(parser, args)
    try:
        os.makedirs(args.out, exist_ok=True)
        result = module.run(**options, out=args.out, progress=sys.stderr.isatty())
    except OSError as error:
        raise _options.UserError(f"cannot write to {args.out!r}: {error.strerror}") from error
    sentence = module.conclusion(result)
    print(module.table(result))
    print(sentence)
    text = json.dumps({**result, "conclusion": sentence}, indent=1, allow_nan=False)
    # So that the study of layer normalization does not replace that of batch normalization.
    kind = options.get("normalization", "batchnorm")
    path = os.path.join(args.out, args.name if kind == "batchnorm" else f"{args.name}-{kind}")
    _options.write(f"{path}.json", lambda file: file.write(text.encode() + b"\n"))
    figure = module.plot(result)
    _options.write(f"{path}.png", lambda file: figure.savefig(file, format="png", dpi=150))


def _read(args: argparse.Namespace) -> _trainings.Data:
    try:
        return _trainings.read(args.data, args.num_train, args.dtype)
    except (OSError, ValueError, ImportError) as error:
        raise _options.UserError(" ".join(str(error).split())) from error
