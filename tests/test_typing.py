"""The annotations, as far as they can be tested without a type checker; `.ci/run` runs mypy."""

import ast
import importlib
import inspect
import runpy
from pathlib import Path

import numpy as np
import operations
import pytest

import fastbn
from fastbn import _ext, layer_utils, layers, reference
from fastbn import typing as types

TYPED = Path(__file__).parent / "typed"
STUBS = {path.stem: path for path in (Path(fastbn.__file__).parent / "_ext").glob("_*.pyi")}
LEVELLED = {f"_{noun}" for noun in (*_ext.KERNELS, *_ext.TOOLS)}


def test_a_users_typed_code_runs(capsys):
    names = runpy.run_path(str(TYPED / "usage.py"))
    assert names["solver"].epoch == 4 and names["cols"].shape == (36, 72)
    assert "level in use" in capsys.readouterr().out


def test_typed_code_uses_every_public_layer():
    tree = ast.parse((TYPED / "usage.py").read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert set(operations.public_functions(layer_utils)) <= used
    assert set(fastbn.__all__) - used == {"load_ipython_extension", "set_reuse_limit",
                                          "unload_ipython_extension"}  # fmt: skip


@pytest.mark.parametrize("module", [layers, layer_utils, reference], ids=lambda m: m.__name__)
def test_layers_are_annotated(module):
    for name, function in operations.public_functions(module).items():
        signature = inspect.signature(function)
        assert all(isinstance(p.annotation, str) for p in signature.parameters.values()), name
        result = signature.return_annotation
        assert isinstance(result, str), name
        if "_forward" in name:
            assert result == "tuple[Array, Cache]"


@pytest.mark.parametrize("param", ["BatchNormParam", "NormParam", "DropoutParam", "ConvParam",
                                   "PoolParam"])  # fmt: skip
def test_required_keys_are_those_that_the_layers_miss(param, rng):
    """Of the dict of every forward function that takes one: without an optional key it runs."""
    tried = 0
    for name, make in operations.FUNCTIONS.items():
        annotations = inspect.signature(getattr(layers, name)).parameters
        for argument, parameter in annotations.items():
            if not parameter.annotation.startswith(f"{param} |"):
                continue
            kind = getattr(types, param)
            given = make(rng)
            assert set(given[argument]) <= kind.__required_keys__ | kind.__optional_keys__
            for key in list(given[argument]):
                arguments = make(rng)
                del arguments[argument][key]
                if key in kind.__required_keys__:
                    with pytest.raises(ValueError, match=f"must have the key '{key}'"):
                        getattr(layers, name)(**arguments)
                else:
                    getattr(layers, name)(**arguments)
                tried += 1
    assert tried


def test_there_is_a_stub_for_every_compiled_module():
    assert set(STUBS) == LEVELLED | {"_memory", "_runtime"}


@pytest.mark.parametrize("stub", sorted(STUBS))
@pytest.mark.parametrize("level", _ext.available_levels())
def test_stubs_say_what_is_compiled(stub, level):
    """Names, the order of parameters, and the types of what is not a function."""
    module = importlib.import_module(f"fastbn._ext.{stub}{f'_{level}' * (stub in LEVELLED)}")
    there = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    stubbed = set()
    for node in ast.parse(STUBS[stub].read_text()).body:
        if isinstance(node, ast.FunctionDef):
            stubbed.add(node.name)
            expected = [argument.arg for argument in node.args.args]
            assert list(inspect.signature(there[node.name]).parameters) == expected, node.name
        elif isinstance(node, ast.AnnAssign):
            stubbed.add(node.target.id)
            kind = eval(ast.unparse(node.annotation).split("[")[0], {"np": np})
            assert isinstance(there[node.target.id], kind)
    assert stubbed == set(there)
