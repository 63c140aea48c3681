"""Every benchmark runs once on its first parameters: a benchmark nobody runs is wrong unnoticed."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "asv_bench" / "benchmarks"


def _load(name):
    """Import a benchmark module as asv does, as part of the package of that folder."""
    path = BENCHMARKS / (name + ".py")
    search = [str(BENCHMARKS)] if name == "__init__" else None
    full = "benchmarks" if name == "__init__" else f"benchmarks.{name}"
    spec = importlib.util.spec_from_file_location(full, path, submodule_search_locations=search)
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module


_load("__init__")
_load("common")
CLASSES = [
    value
    for path in sorted(BENCHMARKS.glob("*.py"))
    if path.stem not in ("__init__", "common")
    for value in vars(_load(path.stem)).values()
    if isinstance(value, type) and value.__module__ == f"benchmarks.{path.stem}"
]


def test_there_is_one_for_every_kernel():
    from fastbn._ext import KERNELS

    assert set(KERNELS) <= {cls.__module__.removeprefix("benchmarks.") for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_runs_with_each_implementation(cls):
    params = getattr(cls, "params", ())
    for impl in params[0] if params else (None,):
        arguments = [impl, *(values[0] for values in params[1:])] if params else []
        benchmark = cls()
        if hasattr(benchmark, "setup"):
            benchmark.setup(*arguments)
        ran = [
            getattr(benchmark, n)(*arguments)
            for n in dir(benchmark)
            if n.startswith(("time_", "timeraw_", "peakmem_"))
        ]
        assert ran
