"""Types of arguments and results, for annotations.

Nothing here is needed to use the layers. A type checker knows of a dict that is annotated which
keys it must have::

    from fastbn.typing import ConvParam

    conv_param: ConvParam = {"stride": 1, "pad": 1}

Functions take any mapping with these keys, also one that holds more; so a dict without an
annotation, as the course's code has them, is right as well.

The dtype of a result is NumPy's promotion of several arguments, some of them in a cache. That
cannot be said in a type; so it is `Any`, and a result may be assigned to an array of your dtype.
"""

import os
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Array",
    "ArrayLike",
    "BatchNormParam",
    "Cache",
    "ConvParam",
    "DType",
    "DropoutParam",
    "IntArray",
    "NormParam",
    "PoolParam",
    "SolverOptions",
]

#: A result: an array of floating dtype, unless its description says otherwise.
Array: TypeAlias = NDArray[Any]

#: A floating dtype that a result has from an argument.
Floating = TypeVar("Floating", bound=np.floating[Any])

#: The dtype of an array.
DType: TypeAlias = np.dtype[Any]

#: Labels or indices.
IntArray: TypeAlias = NDArray[np.integer[Any]]

#: What a forward function keeps for its backward function, in the forms that the layers describe.
Cache: TypeAlias = Any


class BatchNormParam(TypedDict):
    """The `bn_param` of :func:`fastbn.layers.batchnorm_forward`; ``mode`` is required."""

    mode: Literal["train", "test"]
    eps: NotRequired[float]
    momentum: NotRequired[float]
    running_mean: NotRequired[Array]
    running_var: NotRequired[Array]


class NormParam(TypedDict):
    """The `ln_param` of layer and the `gn_param` of group normalization; nothing is required."""

    eps: NotRequired[float]


class DropoutParam(TypedDict):
    """The `dropout_param` of :func:`fastbn.layers.dropout_forward`; ``seed`` is optional."""

    p: float
    mode: Literal["train", "test"]
    seed: NotRequired[int]


class ConvParam(TypedDict):
    """The `conv_param` of :func:`fastbn.layers.conv_forward_naive`; ``algorithm`` is optional."""

    stride: int
    pad: int
    algorithm: NotRequired[Literal["auto", "direct", "winograd"]]


class PoolParam(TypedDict):
    """The `pool_param` of :func:`fastbn.layers.max_pool_forward_naive`; all are required."""

    pool_height: int
    pool_width: int
    stride: int


class SolverOptions(TypedDict, total=False):
    """The keyword arguments of :class:`fastbn.solver.Solver`; all are optional."""

    update_rule: str
    optim_config: Mapping[str, Any]
    lr_decay: float
    batch_size: int
    num_epochs: int
    num_train_samples: int | None
    num_val_samples: int | None
    checkpoint_name: str | os.PathLike[str] | None
    print_every: int
    verbose: bool
