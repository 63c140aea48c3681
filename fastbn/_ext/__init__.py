"""Compiled loops, one build of each for every CPU level; the best that this CPU has is chosen.

``FASTBN_ISA=v2|v3|v4`` forces a level. The modules are private: they trust their caller's shapes.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # as they are at every level
    from . import _affine as affine
    from . import _batchnorm as batchnorm
    from . import _conv as conv
    from . import _dropout as dropout
    from . import _groupnorm as groupnorm
    from . import _im2col as im2col
    from . import _layernorm as layernorm
    from . import _loss as loss
    from . import _memory as memory
    from . import _pool as pool
    from . import _probe as probe
    from . import _relu as relu
    from . import _runtime as runtime

try:
    runtime = import_module(f"{__name__}._runtime")
    memory = import_module(f"{__name__}._memory")
except ModuleNotFoundError as error:  # a checkout that was never built, or for another Python
    raise ImportError(
        "fastbn's compiled modules are missing; build them with `pip install .`, or in place with"
        " `python setup.py build_ext --inplace`"
    ) from error
except ImportError as error:
    raise ImportError(
        f"fastbn's compiled modules are there but cannot be loaded: {error}. Is the OpenMP runtime"
        " of the compiler that built them installed (libgomp or libomp)?"
    ) from error

KERNELS = (
    "affine",
    "batchnorm",
    "conv",
    "dropout",
    "groupnorm",
    "im2col",
    "layernorm",
    "loss",
    "pool",
    "relu",
)

#: What else there is once a level: the measure of what the machine can do.
TOOLS = ("probe",)

__all__ = [
    "KERNELS",
    "TOOLS",
    "available_levels",
    "level",
    "use_level",
    "memory",
    "runtime",
    "affine",
    "batchnorm",
    "conv",
    "dropout",
    "groupnorm",
    "im2col",
    "layernorm",
    "loss",
    "pool",
    "probe",
    "relu",
]

#: The level in use; set by :func:`use_level`.
level: str = ""


def available_levels() -> tuple[str, ...]:
    """Levels that are built and that this CPU can run, lowest first."""
    return tuple(
        name
        for name in runtime.levels_built
        if name == "plain" or int(name.removeprefix("v")) <= runtime.cpu_level
    )


def use_level(name: str) -> None:
    """Make every kernel of this package the one built for level `name`."""
    global level
    if name not in available_levels():
        raise ValueError(
            f"CPU level must be one of {', '.join(available_levels()) or 'none'} here; got {name!r}"
        )
    for kernel in (*KERNELS, *TOOLS):
        globals()[kernel] = import_module(f"{__name__}._{kernel}_{name}")
    level = name


def _choose() -> str:
    wanted = os.environ.get("FASTBN_ISA", "").lower().removeprefix("x86-64-")
    if wanted:
        if wanted not in available_levels():
            raise ImportError(
                f"FASTBN_ISA must be one of {', '.join(available_levels())} on this CPU and"
                f" build; got {os.environ['FASTBN_ISA']!r}"
            )
        return wanted
    if not available_levels():
        raise ImportError(
            f"fastbn was built for {', '.join(runtime.levels_built)}, and this CPU has none of"
            " them; build it from source with -Dcpu_levels=[]"
        )
    return available_levels()[-1]


use_level(_choose())
