"""What the nets have in common: the choice of layers, regularisation, saving, argument checks."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import layers
from .._atomic import atomic_write

Arrays = dict[str, npt.NDArray[np.floating]]


class Net:
    """Base of the nets.

    Attributes
    ----------
    layers : module
        Where the layer functions come from. A class attribute, so that
        ``class ReferenceNet(FullyConnectedNet): layers = fastbn.reference`` is the same net on
        plain NumPy.
    params : dict of str to ndarray
        The learnable parameters.
    reg : float
        Strength of the L2 regularisation of the weights.
    """

    layers: ModuleType = layers

    def __init__(self, reg: float) -> None:
        self.params: Arrays = {}
        self.reg = check_number("reg", reg)

    def save(self, fname: str | os.PathLike[str]) -> None:
        """Write the parameters, and the running statistics if there are any, to an npz file.

        Parameters
        ----------
        fname : str or path-like
            The file, named as given. It is replaced as a whole or not at all.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        with atomic_write(fname) as file:
            np.savez(file, **self.params, **self._statistics())

    def load(self, fname: str | os.PathLike[str]) -> None:
        """Read what `save` wrote on a net of the same architecture.

        Parameters
        ----------
        fname : str or path-like
            The file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not an npz file of plain arrays, or its names or shapes are not those of this
            net. The net is then left as it was.
        """
        name = os.fspath(fname)
        with open(fname, "rb") as file:
            # A bare .npy, a text file, a damaged archive: NumPy and zipfile raise their own
            # exception for each.
            try:
                with np.load(file, allow_pickle=False) as archive:
                    arrays = {key: archive[key] for key in archive.files}
            except Exception as error:
                raise ValueError(f"{name} is not an npz file of plain arrays: {error}") from error
        params = {key: arrays.pop(key) for key in self.params if key in arrays}
        wanted = {key: value.shape for key, value in self.params.items()}
        got = {key: value.shape for key, value in params.items()}
        if got != wanted:
            raise ValueError(f"{name} must hold the parameters {wanted}; got {got}")
        self._set_statistics(arrays, name)
        self.params = params

    def _statistics(self) -> Arrays:
        """State beside the parameters that a prediction needs."""
        return {}

    def _set_statistics(self, arrays: Arrays, name: str) -> None:
        """Take that state from what the file `name` holds beside the parameters."""
        if arrays:
            raise ValueError(f"{name} must hold nothing but parameters; got {', '.join(arrays)}")

    def _weight_decay(self, grads: Arrays) -> float:
        """Return the L2 loss of all weights, and add its gradient to `grads`."""
        loss = 0.0
        if self.reg:
            for name, w in self.params.items():
                if name.startswith("W"):
                    # In float64 also for float32 weights: it is a sum over very many.
                    loss += 0.5 * self.reg * float(np.sum(w * w, dtype=np.float64))
                    grads[name] = grads[name] + self.reg * w
        return loss


def check_number(name: str, value: Any, most: float | None = None) -> float:
    """Return a number that is finite, not negative and at most `most` as a Python float.

    A NumPy float64 scalar would turn float32 parameters into float64.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number; got {value!r}") from None
    if not 0 <= number < float("inf"):
        raise ValueError(f"{name} must be finite and not negative; got {value!r}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be between 0 and {most}; got {value!r}")
    return number


def check_dtype(dtype: npt.DTypeLike) -> Any:
    """Return `dtype` as it was passed, if it is a floating one."""
    if not np.issubdtype(np.dtype(dtype), np.floating):
        raise TypeError(f"dtype must be a floating dtype; got {dtype!r}")
    return dtype
