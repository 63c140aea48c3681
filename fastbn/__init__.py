"""The cs231n layer API on compiled kernels.

Replace ``cs231n.`` by ``fastbn.`` in a file's imports; see :mod:`fastbn.layers`.
"""

import importlib
from typing import TYPE_CHECKING

from ._algorithm import get_conv_algorithm, set_conv_algorithm
from ._convention import get_dropout_convention, set_dropout_convention
from ._ext import runtime as _runtime
from ._memory import set_reuse_limit
from ._threads import get_num_threads, set_num_threads
from .config import show_config

if TYPE_CHECKING:
    from ._accelerate import accelerate, load_ipython_extension, unload_ipython_extension

__all__ = [
    "accelerate",
    "get_conv_algorithm",
    "get_dropout_convention",
    "get_num_threads",
    "load_ipython_extension",
    "set_conv_algorithm",
    "set_dropout_convention",
    "set_num_threads",
    "set_reuse_limit",
    "show_config",
    "unload_ipython_extension",
]

__version__: str = _runtime.version

_MODULES = (
    "classifiers",
    "config",
    "convert",
    "data_utils",
    "experiments",
    "fast_layers",
    "gradient_check",
    "im2col",
    "im2col_cython",
    "layer_utils",
    "layers",
    "optim",
    "reference",
    "solver",
    "typing",
    "vis_utils",
)


def __dir__() -> list[str]:
    return sorted((*__all__, *_MODULES, "__version__"))


if not TYPE_CHECKING:  # which would take any name for one of these

    def __getattr__(name):
        """Import what takes time when it is first asked for."""
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name in __all__:  # which needs all layers
            return getattr(importlib.import_module(f"{__name__}._accelerate"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
