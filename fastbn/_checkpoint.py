"""What a checkpoint of a Solver holds, and whether a run can go on from one."""

from __future__ import annotations

import contextlib
import numbers
import os
import reprlib
from typing import Any

import numpy as np

from . import _check, _plain_pickle

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
    name = _check.path("path", path)
    with open(name, "rb") as file:
        checkpoint = _plain_pickle.load(file, names=True)
    if not isinstance(checkpoint, dict) or "model" not in checkpoint:
        raise ValueError(f"{name} is not a checkpoint: it must hold a dict with a model")
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


def check(name: str, checkpoint: dict[str, Any], settings: dict[str, Any], model: Any) -> None:
    """A ValueError, unless a run of a model with these settings can go on from a checkpoint.

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
    for key in ("epoch", "iteration"):
        if checkpoint[key] < 0:
            raise ValueError(f"{name} must hold {key} of at least 0; got {checkpoint[key]}")
    for key, value in settings.items():
        if not _equal(value, checkpoint[key]):
            raise ValueError(
                f"{key} must be that of {name}, {reprlib.repr(checkpoint[key])}; "
                f"the solver has {value!r}"
            )
    own, saved = _arrays(model.params), checkpoint["model"].get("params")
    for arrays in (saved, checkpoint["best_params"] or saved):
        if _arrays(arrays) != own:
            raise ValueError(
                f"{name} must hold parameters of the model's shapes and dtypes, {own}; "
                f"got {_arrays(arrays)}"
            )
    # Batch and layer normalization have parameters of the same names and shapes.
    kinds = [getattr(model, "normalization", None), checkpoint["model"].get("normalization")]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{name} must hold a model of normalization {kinds[0]!r}; got {reprlib.repr(kinds[1])}"
        )
    names, configs = model.params.keys(), checkpoint["optim_configs"]
    if configs.keys() != names or not all(isinstance(c, dict) for c in configs.values()):
        raise ValueError(
            f"{name} must hold optim_configs, dicts, of the parameters {list(names)}; "
            f"got {reprlib.repr(configs)}"
        )
    for key in checkpoint["model"].keys() - {"__class__", "params"}:
        if not isinstance(key, str) or _is_of_class(model, key):
            raise ValueError(f"{name} must hold attributes of the model; got {key!r}")
    _check_random_state(name, checkpoint["random_state"])


def _is_of_class(model: Any, name: str) -> bool:
    """Whether a name is Python's own, a method or a property, none of which is ever saved."""
    value = getattr(type(model), name, None)
    return name.startswith("__") or callable(value) or hasattr(value, "__set__")


def _check_random_state(name: str, state: dict[str, Any]) -> None:
    """A ValueError unless `numpy.random` can take on a state."""
    try:
        # NumPy does not check how far the numbers of a block are used up, and reads on from there.
        for block, position in (("key", "pos"), ("buffer", "buffer_pos")):
            inner = {**state, **state["state"]}
            if block in inner and not 0 <= inner[position] <= len(inner[block]):
                raise ValueError(f"{position} is {inner[position]!r}")
        # It may change half of a state before it finds what is wrong with the other.
        kind = type(np.random.get_bit_generator())  # type: ignore[attr-defined]  # not in the stub
        np.random.RandomState(kind()).set_state(state)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{name} must hold a state of numpy.random as random_state: {error}"
        ) from error


def _arrays(params: Any) -> dict[str, tuple[tuple[int, ...], str]] | None:
    """Shape and dtype of each parameter; no shape for what is no array."""
    if not isinstance(params, dict):
        return None
    return {
        key: (w.shape, str(w.dtype)) if isinstance(w, np.ndarray) else ((), type(w).__name__)
        for key, w in params.items()
    }


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(value, b[key]) for key, value in a.items())
    if isinstance(b, (list, tuple, dict)):
        # NumPy would copy a nest out, which may be far larger than its file. This goes no deeper
        # than what the solver has.
        return (
            isinstance(a, (list, tuple))
            and not isinstance(b, dict)
            and len(a) == len(b)
            and all(map(_equal, a, b))
        )
    return np.array_equal(a, b)
