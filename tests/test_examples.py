"""The examples in the docstrings are run, those of the layers at every CPU level."""

import doctest
import importlib
import os
import pkgutil
import re
import sys

import checkouts
import numpy as np
import operations
import pytest

import fastbn
from fastbn import _memory, layer_utils, layers

#: Where there must be examples, so that a finder that finds nothing is noticed.
MODULES = {
    "fastbn._accelerate",
    "fastbn._algorithm",
    "fastbn._convention",
    "fastbn._memory",
    "fastbn._threads",
    "fastbn.classifiers.cnn",
    "fastbn.classifiers.fc_net",
    "fastbn.config",
    "fastbn.convert",
    "fastbn.data_utils",
    "fastbn.experiments.batch_size",
    "fastbn.experiments.batchnorm",
    "fastbn.experiments.speed",
    "fastbn.experiments.weight_scale",
    "fastbn.gradient_check",
    "fastbn.layer_utils",
    "fastbn.layers._affine",
    "fastbn.layers._batchnorm",
    "fastbn.layers._conv",
    "fastbn.layers._dropout",
    "fastbn.layers._groupnorm",
    "fastbn.layers._im2col",
    "fastbn.layers._layernorm",
    "fastbn.layers._loss",
    "fastbn.layers._pool",
    "fastbn.layers._relu",
    "fastbn.optim",
    "fastbn.solver",
    "fastbn.vis_utils",
}


def _examples():
    """The doctests of all modules, each where its function is defined."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for info in pkgutil.walk_packages(fastbn.__path__, "fastbn."):
        if info.name != "fastbn.__main__" and not info.name.startswith("fastbn._ext."):
            for test in finder.find(importlib.import_module(info.name), info.name, globs={}):
                if test.examples:
                    yield test


EXAMPLES = {test.name: test for test in _examples()}
OF_LAYERS = {name for name in EXAMPLES if re.match(r"fastbn\.layer(s|_utils)\.", name)}


def _module(name):
    return next(m for m in (name, name.rpartition(".")[0]) if m in sys.modules)


def test_the_examples_are_found():
    assert {_module(name) for name in EXAMPLES} == MODULES


def test_every_layer_has_an_example():
    source = "\n".join(e.source for name in OF_LAYERS for e in EXAMPLES[name].examples)
    public = operations.public_functions(layers) | operations.public_functions(layer_utils)
    assert len(public) > 40
    assert {name for name in public if not re.search(rf"\b{name}\(", source)} == set()
    for function in public.values():
        if not (function.__module__ == "fastbn.layer_utils" and "_backward" in function.__name__):
            assert f"{function.__module__}.{function.__qualname__}" in OF_LAYERS


def test_no_example_is_skipped():
    for test in EXAMPLES.values():
        assert not any(doctest.SKIP in example.options for example in test.examples), test.name


def _run(test):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    state, said = np.random.get_state(), []
    try:
        failed, attempted = runner.run(test, out=said.append, clear_globs=False)
    finally:
        np.random.set_state(state)
        test.globs.clear()
    assert not failed, "".join(said)
    assert attempted == len(test.examples)


@pytest.mark.parametrize("name", sorted(OF_LAYERS))
def test_example_of_a_layer(name, level):
    _run(EXAMPLES[name])


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - OF_LAYERS))
def test_example(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    limit = fastbn.show_config("dict")["memory"]["reuse limit"]
    if name == "fastbn._accelerate.accelerate":
        checkouts.write(tmp_path, 2023)
        monkeypatch.syspath_prepend(os.fspath(tmp_path))
    try:
        _run(EXAMPLES[name])
    finally:
        _memory.set_reuse_limit(limit)
        for module in [m for m in sys.modules if m.partition(".")[0] == "cs231n"]:
            del sys.modules[module]
