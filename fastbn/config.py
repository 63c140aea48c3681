"""What this installation is and does here."""

import os
import platform
from typing import Any, Literal, overload

import numpy as np

from . import _cores, _ext, _memory, _threads

__all__ = ["show_config"]


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dict"]) -> dict[str, dict[str, Any]]: ...
def show_config(mode: str = "stdout") -> dict[str, dict[str, Any]] | None:
    """Show versions, compiler, CPU level, OpenMP, threads and memory.

    Parameters
    ----------
    mode : {"stdout", "dict"}
        Print for people, or return a dict.

    Returns
    -------
    dict or None
        With ``mode="dict"``: ``versions``, ``build``, ``cpu``, ``threads`` and ``memory``, each a
        dict.

    Raises
    ------
    ValueError
        If `mode` is neither.

    Examples
    --------
    >>> import fastbn
    >>> config = fastbn.show_config("dict")
    >>> config["versions"]["fastbn"] == fastbn.__version__
    True
    """
    if mode not in ("stdout", "dict"):
        raise ValueError(f"mode must be 'stdout' or 'dict'; got {mode!r}")
    runtime = _ext.runtime
    config: dict[str, dict[str, Any]] = {
        "versions": {
            "fastbn": runtime.version,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "build": {
            "compiler": runtime.compiler,
            "build type": runtime.buildtype,
            "openmp": runtime.openmp or None,
            "kernels": os.path.dirname(runtime.__file__),
        },
        "cpu": {
            "machine": platform.machine(),
            "level in use": _ext.level,
            "levels built": list(runtime.levels_built),
            "levels available": list(_ext.available_levels()),
            "FASTBN_ISA": os.environ.get("FASTBN_ISA"),
        },
        "threads": {
            "in use": _threads.get_num_threads(),
            "cores for this process": _cores.cores(),
            "FASTBN_NUM_THREADS": os.environ.get("FASTBN_NUM_THREADS"),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
        "memory": {
            "last cache": runtime.last_cache or None,
            "streamed from": _memory.STREAM,
            "held for reuse": _ext.memory.held_now(),
            "reuse limit": _ext.memory.get_limit(),
            "FASTBN_REUSE_LIMIT": os.environ.get("FASTBN_REUSE_LIMIT"),
        },
    }
    if mode == "dict":
        return config
    for section, entries in config.items():
        print(section)
        for name, value in entries.items():
            if isinstance(value, list):
                value = " ".join(value)
            print(f"  {name:<24}{'-' if value is None else value}")
    return None
