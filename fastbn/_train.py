"""``fastbn train``: train a fully connected net and time a step of it."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import os
from typing import Any

import numpy as np

from . import _options, _threads, _timing, data_utils, optim, reference
from .classifiers.fc_net import FullyConnectedNet
from .config import show_config
from .solver import Solver
from .vis_utils import plot_history

# What trains the default net well, for each rule.
_LEARNING_RATES = {"sgd": 1e-1, "sgd_momentum": 2e-2, "rmsprop": 1e-3, "adam": 1e-3}


def add_command(commands: Any) -> None:
    """Add ``train`` to the subparsers."""
    train = commands.add_parser(
        "train",
        help="train a fully connected net and time it",
        description="Train a fully connected net, report accuracies and the time of a step, and "
        "write history.json and history.png.",
    )

    def add(name: str, *, help: str, **options: Any) -> None:
        if options.get("default") is not None:
            help += " (default %(default)s)"
        train.add_argument(name, help=help, **options)

    add(
        "--data",
        metavar="DIR",
        help="folder of the CIFAR-10 python batches, instead of the "
        "handwritten digits that come with scikit-learn",
    )
    count = _options.number(int, 1)
    for name, default in (("training", 49000), ("validation", 1000), ("test", 1000)):
        add(
            f"--num-{name}",
            type=count,
            metavar="N",
            help=f"{name} images of --data (default {default})",
        )
    add(
        "--normalization",
        choices=("batchnorm", "layernorm", "none"),
        default="batchnorm",
        help="what stands between an affine layer and its relu",
    )
    add(
        "--hidden",
        type=_widths,
        default="100,100,100",
        metavar="N,N,...",
        help="widths of the hidden layers; empty for a linear classifier",
    )
    add("--epochs", type=count, default=15, metavar="N", help="passes over the training set")
    add("--batch-size", type=count, default=50, metavar="N", help="images of one step")
    add("--optimizer", choices=tuple(_LEARNING_RATES), default="adam", help="update rule")
    add(
        "--learning-rate",
        type=_options.number(float, 0),
        metavar="X",
        help="step size (default "
        + ", ".join(f"{rate:g} for {rule}" for rule, rate in _LEARNING_RATES.items())
        + ")",
    )
    add(
        "--lr-decay",
        type=_options.number(float, 0, above=True),
        default=0.95,
        metavar="X",
        help="factor on the step size after every epoch",
    )
    add(
        "--weight-scale",
        type=_options.number(float, 0),
        default=0.05,
        metavar="X",
        help="standard deviation of the initial weights",
    )
    add("--reg", type=_options.number(float, 0), default=0.0, metavar="X", help="L2 regularisation")
    add(
        "--dropout",
        type=_options.number(float, 0, 1, above=True),
        default=1.0,
        metavar="KEEP",
        help="probability that dropout keeps a unit; 1 is no dropout",
    )
    add("--dtype", choices=("float32", "float64"), default="float32", help="of the whole net")
    add(
        "--seed",
        type=_options.number(int, 0, 2**32 - 1),
        default=0,
        metavar="N",
        help="of the random numbers",
    )
    add("--out", default="fastbn-run", metavar="DIR", help="folder of the results")
    add(
        "--threads",
        type=count,
        metavar="N",
        help="threads of the kernels (default: what the machine has)",
    )
    train.add_argument("--quiet", action="store_true", help="print the results only")
    train.set_defaults(run=lambda args: _run(train, args))


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    # What argparse could not see in a single option.
    counts = ("num_training", "num_validation", "num_test")
    if args.data is None and any(getattr(args, name) is not None for name in counts):
        parser.error("--num-training, --num-validation and --num-test need --data")
    _options.set_threads(parser, args)
    _train(args)


def _widths(text: str) -> list[int]:
    width = _options.number(int, 1)
    return [width(part) for part in text.split(",")] if text.strip() else []


def _train(args: argparse.Namespace) -> None:
    # Before the training, not after it.
    if importlib.util.find_spec("matplotlib") is None:
        raise _options.UserError("history.png needs matplotlib: pip install 'fastbn[train]'")
    data = _load_data(args)
    try:
        os.makedirs(args.out, exist_ok=True)
    except OSError as error:
        raise _options.UserError(
            f"cannot make the folder {args.out!r}: {error.strerror}"
        ) from error

    input_dim = data["X_train"][0].size
    widths = [input_dim, *args.hidden, 10]
    if max(a * b for a, b in itertools.pairwise(widths)) > _options.MOST:
        raise MemoryError(f"weights for the widths {args.hidden}")
    np.random.seed(args.seed)
    if args.learning_rate is None:
        args.learning_rate = _LEARNING_RATES[args.optimizer]
    net = FullyConnectedNet(
        args.hidden,
        input_dim=input_dim,
        dropout_keep_ratio=args.dropout,
        normalization=None if args.normalization == "none" else args.normalization,
        reg=args.reg,
        weight_scale=args.weight_scale,
        dtype=np.dtype(args.dtype),
    )
    for key in ("X_train", "X_val", "X_test"):
        data[key] = data[key].astype(args.dtype)
    steps = args.epochs * max(len(data["X_train"]) // args.batch_size, 1)
    solver = Solver(
        net,
        data,
        update_rule=args.optimizer,
        optim_config={"learning_rate": args.learning_rate},
        lr_decay=args.lr_decay,
        batch_size=args.batch_size,
        num_epochs=args.epochs,
        print_every=steps,
        verbose=not args.quiet,
    )
    solver.train()

    names = {"train": "train", "val": "validation", "test": "test"}
    accuracies = {
        key: float(solver.check_accuracy(data[f"X_{key}"], data[f"y_{key}"])) for key in names
    }
    for key, name in names.items():
        print(f"{name} accuracy: {accuracies[key]:.4f}")
    times = _time_steps(net, data, args)
    threads = "1 thread" if times["threads"] == 1 else f"up to {times['threads']} threads"
    print(
        f"training step: fastbn {1e3 * times['fastbn']:.3f} ms ({threads}), "
        f"NumPy {1e3 * times['numpy']:.3f} ms, ratio {times['ratio']:.2f}"
    )

    options = {key: value for key, value in vars(args).items() if key not in ("command", "run")}
    history = {
        "options": options,
        "loss_history": [float(loss) for loss in solver.loss_history],
        "train_acc_history": [float(acc) for acc in solver.train_acc_history],
        "val_acc_history": [float(acc) for acc in solver.val_acc_history],
        "accuracies": accuracies,
        "step_seconds": times,
        "versions": show_config("dict")["versions"],
    }
    _options.write(
        os.path.join(args.out, "history.json"), lambda file: file.write(_to_json(history))
    )
    widths = "-".join(str(width) for width in args.hidden) or "no hidden layer"
    figure = plot_history(
        history,
        f"{'CIFAR-10' if args.data else 'Digits'}: {widths}, "
        f"normalization {args.normalization}, {args.optimizer}",
    )
    _options.write(
        os.path.join(args.out, "history.png"),
        lambda file: figure.savefig(file, format="png", dpi=150),
    )


def _load_data(args: argparse.Namespace) -> data_utils.Data:
    try:
        if args.data is None:
            return data_utils.get_digits_data()
        counts = {
            name: getattr(args, name)
            for name in ("num_training", "num_validation", "num_test")
            if getattr(args, name) is not None
        }
        return data_utils.get_CIFAR10_data(**counts, cifar10_dir=args.data)
    except (OSError, ValueError, ImportError) as error:
        raise _options.UserError(" ".join(str(error).split())) from error


def _time_steps(
    net: FullyConnectedNet, data: data_utils.Data, args: argparse.Namespace
) -> dict[str, float]:
    """Return the median seconds of a training step, on the kernels and on plain NumPy."""
    X, y = data["X_train"][: args.batch_size], data["y_train"][: args.batch_size]
    rule = getattr(optim, args.optimizer)
    sides = {
        name: _timing.step_run(net, module, X, y, rule, args.learning_rate)
        for name, module in (("fastbn", net.layers), ("reference", reference))
    }
    medians = _timing.measure(sides, seconds=0.5)
    fast, plain = (medians[name][0] for name in sides)
    return {
        "fastbn": fast,
        "numpy": plain,
        "ratio": plain / fast,
        "threads": _threads.get_num_threads(),
    }


def _to_json(history: dict[str, Any]) -> bytes:
    """Encode as strict JSON, which has no NaN: a loss that diverged becomes null."""
    losses = [loss if math.isfinite(loss) else None for loss in history["loss_history"]]
    text = json.dumps({**history, "loss_history": losses}, indent=1, allow_nan=False)
    return text.encode() + b"\n"
