"""A batch of CIFAR-10 in the version for Python: a pickle of pixels and classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import _plain_pickle

_SHAPE = (3, 32, 32)


def read_batch(name: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the pixels (N, 3, 32, 32) and classes (N,) of a batch, checked."""
    try:
        with open(name, "rb") as file:
            batch = _plain_pickle.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such CIFAR-10 batch: {name!r}") from None
    if not isinstance(batch, dict) or "data" not in batch or "labels" not in batch:
        raise ValueError(
            f"{name} is not a CIFAR-10 batch: it must hold a dict with the keys data and labels"
        )
    pixels = _flat_array(batch["data"])
    size = int(np.prod(_SHAPE))
    if pixels.ndim != 2 or pixels.shape[1] != size or pixels.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} is not a CIFAR-10 batch: data must be numbers of shape "
            f"(N, {size}); got {pixels.dtype} of shape {pixels.shape}"
        )
    labels = _flat_array(batch["labels"])
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name} is not a CIFAR-10 batch: labels must be {len(pixels)} integers; "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"{name} is not a CIFAR-10 batch: labels must be one or more of 0 to 9")
    return pixels.reshape(-1, *_SHAPE), labels.astype(np.int64)


def _flat_array(value: Any) -> npt.NDArray[Any]:
    """An array as it is, a flat list as an array, anything else as an array of one object.

    NumPy would walk into a nest of lists, which can be exponentially larger than its pickle.
    """
    if isinstance(value, np.ndarray):
        return value
    containers = list, tuple
    flat = isinstance(value, containers) and not any(isinstance(v, containers) for v in value)
    return np.asarray(value if flat else None)
