"""What the nets have in common: the choice of layers, normalization, regularisation, saving."""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .. import _check, _plain_pickle, layers
from .._atomic import atomic_write
from ..layers import _fused

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ..typing import Array

    Arrays = dict[str, Array]

_STATISTICS = ("running_mean", "running_var")


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
    normalization : {"batchnorm", "layernorm", None}
        What stands between a layer of weights and its relu.
    bn_params : list of dict
        One for every normalization layer; with batchnorm they hold the running statistics.
    """

    layers: ModuleType = layers
    dtype: Any

    def __init__(
        self, reg: float, normalization: str | None = None, use_batchnorm: bool | None = None
    ) -> None:
        self.params: Arrays = {}
        self.reg = check_number("reg", reg)
        self.normalization = _one_normalization(normalization, use_batchnorm)
        self.bn_params: list[dict[str, Any]] = []

    def _add_normalization(self, i: int, size: int) -> None:
        """Give layer `i`, of `size` features or channels, what its normalization needs."""
        self.params[f"gamma{i}"] = np.ones(size, self.dtype)
        self.params[f"beta{i}"] = np.zeros(size, self.dtype)
        self.bn_params.append({})

    def _norm_relu(self, direction: str) -> Any:
        """The normalization and the relu after it: one pass if `layers` are the compiled ones."""
        the_layers, name = self.layers, self.normalization
        if the_layers is layers:
            return getattr(_fused, f"{name}_relu_{direction}")
        normalize = getattr(the_layers, f"{name}_{direction}")

        def forward(x: Any, gamma: Any, beta: Any, param: Any) -> Any:
            out, norm_cache = normalize(x, gamma, beta, param)
            out, relu_cache = the_layers.relu_forward(out)
            return out, (norm_cache, relu_cache)

        def backward(dout: Any, caches: Any) -> Any:
            norm_cache, relu_cache = caches
            return normalize(the_layers.relu_backward(dout, relu_cache), norm_cache)

        return forward if direction == "forward" else backward

    def _set_mode(self, mode: str) -> None:
        # A layer norm does the same in both modes, and its dicts stay empty.
        if self.normalization == "batchnorm":
            for bn_param in self.bn_params:
                bn_param["mode"] = mode

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
        with atomic_write(_check.path("fname", fname)) as file:
            arrays: dict[str, Any] = {**self.params, **self._statistics()}
            np.savez(file, **arrays)

    def load(self, fname: str | os.PathLike[str]) -> None:
        """Read what `save` wrote on a net of the same architecture.

        Or what the course's own `save` wrote: an npy file with the dict of parameters.

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
        name = _check.path("fname", fname)
        with open(name, "rb") as file:
            # A bare .npy, a text file, a damaged archive: NumPy and zipfile raise their own
            # exception for each.
            try:
                arrays = _read(file)
            except Exception as error:
                raise ValueError(f"{name} is not an npz file of plain arrays: {error}") from error
        params = {key: arrays.pop(key) for key in self.params if key in arrays}
        wanted = {key: value.shape for key, value in self.params.items()}
        got = {key: value.shape for key, value in params.items()}
        if got != wanted:
            raise ValueError(f"{name} must hold the parameters {wanted}; got {got}")
        for key, value in (*params.items(), *arrays.items()):
            if value.dtype.kind != "f":
                raise ValueError(
                    f"{name} must hold floating numbers as {key}; got dtype {value.dtype}"
                )
        self._set_statistics(arrays, name)
        self.params = params

    def _statistics(self) -> Arrays:
        """State beside the parameters that a prediction needs."""
        return {
            f"{name}{i}": bn_param[name]
            for i, bn_param in enumerate(self.bn_params, start=1)
            for name in _STATISTICS
            if name in bn_param
        }

    def _set_statistics(self, arrays: Arrays, name: str) -> None:
        """Take that state from what the file `name` holds beside the parameters."""
        loaded = [
            {key: arrays.pop(f"{key}{i}") for key in _STATISTICS if f"{key}{i}" in arrays}
            for i in range(1, len(self.bn_params) + 1)
        ]
        if arrays:
            raise ValueError(f"{name} must hold nothing but parameters; got {', '.join(arrays)}")
        for i, statistics in enumerate(loaded, start=1):
            for key, value in statistics.items():
                if value.shape != self.params[f"gamma{i}"].shape:
                    raise ValueError(
                        f"{name} must hold {key}{i} of shape "
                        f"{self.params[f'gamma{i}'].shape}; got {value.shape}"
                    )
        for bn_param, statistics in zip(self.bn_params, loaded, strict=True):
            # A net that was saved before its first step has none: then this one starts afresh too.
            for key in _STATISTICS:
                bn_param.pop(key, None)
            bn_param.update(statistics)

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


def _read(file: BinaryIO) -> Arrays:
    """The arrays of an npz file, or of an npy file that holds a dict of them."""
    magic = file.read(6)
    file.seek(0)
    if magic != b"\x93NUMPY":
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    arrays = _plain_pickle.load_npy(file)
    params = arrays.item() if arrays.shape == () else None
    if not isinstance(params, dict) or not all(
        isinstance(value, np.ndarray) for value in params.values()
    ):
        raise ValueError("an npy file must hold a dict of arrays")
    return params


def _one_normalization(normalization: str | None, use_batchnorm: bool | None) -> str | None:
    if normalization not in ("batchnorm", "layernorm", None):
        raise ValueError(
            f'normalization must be "batchnorm", "layernorm" or None; got {normalization!r}'
        )
    if use_batchnorm is None:
        return normalization
    if normalization is not None:
        raise TypeError(
            "normalization and use_batchnorm are two spellings of one argument: "
            f"give one of them; got {normalization!r} and {use_batchnorm!r}"
        )
    return "batchnorm" if use_batchnorm else None


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


def check_dtype(dtype: DTypeLike) -> Any:
    """Return `dtype` as it was passed, if it is a floating one."""
    if not np.issubdtype(np.dtype(dtype), np.floating):
        raise TypeError(f"dtype must be a floating dtype; got {dtype!r}")
    return dtype
