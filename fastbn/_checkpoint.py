"""What a checkpoint of a Solver holds, and whether a run can go on from one."""

from __future__ import annotations

import contextlib
import numbers
import os
from typing import Any

import numpy as np

from . import _plain_pickle

#: Attributes of a Solver that change as it trains, and their types.
PROGRESS = {
    "optim_configs": dict,
    "epoch": int,
    "iteration": int,
    "best_val_acc": numbers.Real,
    "best_params": dict,
    "loss_history": list,
    "train_acc_history": list,
    "val_acc_history": list,
}
_TYPES = {"model": dict, "update_rule": str, "random_state": dict, **PROGRESS}


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The dict in a pickle, with a model in it; a ValueError if it is none."""
    with open(path, "rb") as file:
        checkpoint = _plain_pickle.load(file, names=True)
    if not isinstance(checkpoint, dict) or "model" not in checkpoint:
        raise ValueError(f"{os.fspath(path)} is not a checkpoint: it must hold a dict with a model")
    return checkpoint


def state_of(model: Any) -> dict[str, Any]:
    """The parameters of a model and all other attributes that are plain data, by name."""
    state = {"__class__": f"{type(model).__module__}.{type(model).__qualname__}"}
    for name, value in getattr(model, "__dict__", {}).items():
        # Others are what code makes of its arguments: dtypes, modules, functions.
        with contextlib.suppress(TypeError):
            state[name] = _plain_pickle.plain(name, value)
    return state | {"params": _plain_pickle.plain("model.params", model.params)}


def plain(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint that is nothing but plain data; a TypeError names what is none."""
    return {name: _plain_pickle.plain(name, value) for name, value in checkpoint.items()}


def check(name: str, checkpoint: dict[str, Any], settings: dict[str, Any], params: Any) -> None:
    """A ValueError, unless a run with these settings and parameters can go on from a checkpoint.

    `name` is what the checkpoint is called.
    """
    lacking = [key for key in (*_TYPES, *settings) if key not in checkpoint]
    if lacking:
        raise ValueError(
            f"{name} must hold what training goes on from; it lacks {', '.join(lacking)}"
        )
    for key, kind in _TYPES.items():
        if not isinstance(checkpoint[key], kind):
            got = type(checkpoint[key]).__name__
            raise ValueError(f"{name} must hold {key} of type {kind.__name__}; got {got}")
    for key, value in settings.items():
        if not _equal(value, checkpoint[key]):
            raise ValueError(
                f"{key} must be that of {name}, {checkpoint[key]!r}; the solver has {value!r}"
            )
    own, saved = _shapes(params), checkpoint["model"].get("params")
    for arrays in (saved, checkpoint["best_params"] or saved):
        if _shapes(arrays) != own:
            raise ValueError(
                f"{name} must hold parameters of the model's shapes, {own}; got {_shapes(arrays)}"
            )
    if checkpoint["optim_configs"].keys() != own.keys():
        raise ValueError(
            f"{name} must hold optim_configs of the parameters {list(own)}; "
            f"got {list(checkpoint['optim_configs'])}"
        )


def _shapes(params: Any) -> dict[str, tuple[int, ...]] | None:
    return {key: np.shape(w) for key, w in params.items()} if isinstance(params, dict) else None


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(value, b[key]) for key, value in a.items())
    return np.array_equal(a, b)
