"""Compiled loops, one build of each for every CPU level; the best that this CPU has is chosen.

``FASTBN_ISA=v2|v3|v4`` forces a level. The modules are private: they trust their caller's shapes.
"""

import os
from importlib import import_module

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

#: The level in use; set by :func:`use_level`.
level = None


def available_levels():
    """Levels that are built and that this CPU can run, lowest first."""
    return tuple(
        name
        for name in runtime.levels_built
        if name == "plain" or int(name.removeprefix("v")) <= runtime.cpu_level
    )


def use_level(name):
    """Make every kernel of this package the one built for level `name`."""
    global level
    if name not in available_levels():
        raise ValueError(
            f"CPU level must be one of {', '.join(available_levels()) or 'none'} here; got {name!r}"
        )
    for kernel in (*KERNELS, *TOOLS):
        globals()[kernel] = import_module(f"{__name__}._{kernel}_{name}")
    level = name


def _choose():
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
