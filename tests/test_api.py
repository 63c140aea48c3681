"""What users can rely on whatever the layer: names, documentation, dtypes, memory, caches."""

import ast
import copy
import importlib
import inspect
import json
import os
import pickle
import pkgutil
import re
import shutil
import subprocess
import sys
from collections import UserDict
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import is_typeddict

import cases
import numpy as np
import operations
import pytest
from operations import FUNCTIONS, OPERATIONS, arrays_in, map_arrays, public_functions

import fastbn
from fastbn import (
    _cores,
    _ext,
    _threads,
    fast_layers,
    im2col,
    im2col_cython,
    layer_utils,
    layers,
    reference,
)

PACKAGE = Path(fastbn.__file__).parent

# Names and signatures


def test_the_table_of_operations_is_complete():
    assert set(FUNCTIONS) == set(public_functions(layers))
    for name, make in FUNCTIONS.items():
        arguments = make(np.random.default_rng(231))
        assert list(arguments) == list(inspect.signature(getattr(layers, name)).parameters)


def _parameters(function):
    """Names, kinds and defaults; only the public side is annotated."""
    parameters = inspect.signature(function).parameters.values()
    return [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]


def test_reference_has_the_same_functions():
    fast, plain = public_functions(layers), public_functions(reference)
    assert {name: _parameters(function) for name, function in fast.items()} == {
        name: _parameters(function) for name, function in plain.items()
    }


COURSE_NAMES = {
    fast_layers: {
        *(f"conv_{way}_{kind}" for way in ("forward", "backward") for kind in
          ("fast", "im2col", "strides")),
        *(f"max_pool_{way}_{kind}" for way in ("forward", "backward") for kind in
          ("fast", "im2col", "reshape")),
    },
    im2col: {"get_im2col_indices", "im2col_indices", "col2im_indices"},
    im2col_cython: {"im2col_cython", "col2im_cython", "col2im_6d_cython"},
    layer_utils: {
        f"{name}_{way}"
        for way in ("forward", "backward")
        for name in ("affine_relu", "affine_bn_relu", "affine_ln_relu", "conv_relu",
                     "conv_bn_relu", "conv_relu_pool")
    },
}  # fmt: skip


@pytest.mark.parametrize("module", COURSE_NAMES, ids=lambda module: module.__name__)
def test_the_courses_modules_have_the_courses_names(module):
    functions = public_functions(module)
    assert set(functions) >= COURSE_NAMES[module]
    same = set(functions) & set(public_functions(layers))
    assert same and all(functions[name] is getattr(layers, name) for name in same)


_LAYERS = {*public_functions(layers), *COURSE_NAMES[layer_utils]}

#: What a star import of a module of the course brings, np aside.
STAR_NAMES = {
    "layers": set(public_functions(layers)),
    "fast_layers": set(public_functions(fast_layers)),
    "im2col": COURSE_NAMES[im2col],
    "layer_utils": _LAYERS,
    "classifiers.fc_net": {*_LAYERS, "TwoLayerNet", "FullyConnectedNet"},
    "classifiers.cnn": {*_LAYERS, "ThreeLayerConvNet"},
    "optim": {"sgd", "sgd_momentum", "rmsprop", "adam"},
    "solver": {"Solver", "load_checkpoint"},
    "vis_utils": {"visualize_grid", "vis_grid", "vis_nn", "plot_comparison", "plot_filters",
                  "plot_history"},
    "gradient_check": {"rel_error", "grad_check_sparse",
                       *(f"eval_numerical_gradient{x}" for x in ("", "_array", "_blobs", "_net"))},
    "data_utils": {"load_pickle", "load_CIFAR_batch", "load_CIFAR10", "get_CIFAR10_data",
                   "get_digits_data", "load_tiny_imagenet", "load_imagenet_val", "load_models"},
}  # fmt: skip


@pytest.mark.parametrize("name", STAR_NAMES)
def test_star_imports_are_the_courses(name):
    namespace = {}
    exec(f"from fastbn.{name} import *", namespace)
    del namespace["__builtins__"]
    assert namespace.pop("np") is np
    # Names that land among a student's own: these and no others.
    assert set(namespace) == STAR_NAMES[name]
    for function in set(namespace) & set(public_functions(layers)):
        assert namespace[function] is getattr(layers, function)


def test_what_tab_completion_shows():
    """Functions and modules of the package, and no others; a module is imported when it is used."""
    modules = {info.name for info in pkgutil.iter_modules(fastbn.__path__)}
    public = {name for name in modules if not name.startswith("_")} - {"cli"}
    assert set(dir(fastbn)) == {*fastbn.__all__, *public, "__version__"}
    result = _python(
        "import sys, fastbn\n"
        "assert not {'fastbn.solver', 'fastbn.experiments', 'fastbn.typing'} & sys.modules.keys()\n"
        "print(fastbn.solver.Solver.__name__, fastbn.experiments.batchnorm.run.__name__)\n"
        "fastbn.solvers"
    )
    assert result.stdout.split() == ["Solver", "run"]
    assert "AttributeError: module 'fastbn' has no attribute 'solvers'" in result.stderr


def test_layer_utils_passes_layers_on():
    assert set(public_functions(layers)) <= set(public_functions(layer_utils))


# Documentation


def _public_modules():
    yield fastbn
    for info in pkgutil.walk_packages(fastbn.__path__, "fastbn."):
        if not any(part.startswith("_") for part in info.name.split(".")):
            yield importlib.import_module(info.name)


def _documented_functions():
    """Functions and classes that are public under some name, once each."""
    found = {}
    for module in _public_modules():
        if module.__name__.startswith("fastbn.reference"):
            continue  # documented in layers; there a line says how it is computed
        names = {*vars(module), *getattr(module, "__all__", ())}  # some are imported when used
        for name, value in ((name, getattr(module, name)) for name in sorted(names)):
            if name.startswith("_") or not (inspect.isfunction(value) or inspect.isclass(value)):
                continue
            # What a package imports it shows; what a module imports it uses.
            here = value.__module__ == module.__name__
            if here or hasattr(module, "__path__") and value.__module__.startswith("fastbn."):
                found[value] = f"{value.__module__}.{value.__qualname__}"
    return found


DOCUMENTED = _documented_functions()


def _section(doc, title):
    """Lines of a section of a numpydoc docstring, or None."""
    match = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return match and match[1].splitlines()


def _documented_parameters(doc):
    names = []
    for line in _section(doc, "Parameters") or ():
        if re.match(r"\*{0,2}\w", line):
            names += [name.strip(" *") for name in line.split(" : ")[0].split(",")]
    return names


def _returns_something(function):
    """Whether some `return` of the function itself, not of one within it, has a value."""
    body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function))).body[0].body
    pending, found = list(body), False
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Return) and node.value is not None:
            found |= not (isinstance(node.value, ast.Constant) and node.value.value is None)
        pending += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("function", DOCUMENTED, ids=DOCUMENTED.get)
def test_docstring_names_every_parameter_and_the_result(function):
    doc = inspect.getdoc(function)
    assert doc and doc.splitlines()[0].endswith((".", ":"))
    if is_typeddict(function):
        return  # its keys and their types say what it is
    parameters = inspect.signature(function).parameters
    expected = [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    documented = _documented_parameters(doc)
    # Options that come as **kwargs have names of their own, after the others.
    options = documented[len(expected) :] if len(expected) < len(parameters) else []
    assert documented == expected + options
    assert bool(options) == (len(expected) < len(parameters))
    if inspect.isfunction(function):
        assert bool(_section(doc, "Returns")) == _returns_something(function)


def test_what_is_documented():
    names = set(DOCUMENTED.values())
    assert {
        "fastbn._threads.set_num_threads",
        "fastbn.config.show_config",
        "fastbn._accelerate.accelerate",
        "fastbn.layers._conv.conv_forward_naive",
        "fastbn.layer_utils.conv_relu_pool_forward",
        "fastbn.solver.Solver",
        "fastbn.optim.adam",
        "fastbn.gradient_check.rel_error",
    } <= names


@pytest.mark.parametrize("name", sorted(public_functions(reference)))
def test_reference_says_how(name):
    assert inspect.getdoc(getattr(reference, name))


# Imports

#: Who may import whom: a room knows those of a lower number.
FLOORS = {
    "_ext": 0,
    "layers": 1,
    "fast_layers": 2,
    "im2col": 2,
    "im2col_cython": 2,
    "convert": 2,
    "layer_utils": 3,
    "_accelerate": 4,
    "classifiers": 4,
    "experiments": 5,
    "cli": 6,
}


def _room(module):
    """The part of the package that a module is in: its first name below fastbn, "" for the top."""
    return module.split(".")[1] if "." in module else ""


def _imports(path, module):
    """Full names that a source file imports, wherever in the file it does."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
                base = f"{above}.{base}".rstrip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _source_of(module):
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _graph():
    """Rooms with the rooms that they import, and with the outside modules."""
    inside, outside = {}, {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for name in _imports(path, module):
            if name.split(".")[0] == "fastbn":
                # `from fastbn import x`: a module x, or what fastbn/__init__.py calls x.
                room = _room(name)
                room = room if _source_of(f"fastbn.{room}").exists() or room == "_ext" else ""
                inside.setdefault(_room(module), set()).add(room)
            else:
                outside.setdefault(_room(module), set()).add(name.split(".")[0])
    return inside, outside


INSIDE, OUTSIDE = _graph()


def _reach(room):
    """Rooms that importing a room brings along, the top of the package aside."""
    reached, pending = set(), [room]
    while pending:
        for other in INSIDE.get(pending.pop(), ()):
            if other not in reached:
                reached.add(other)
                pending.append(other)
    return reached


def test_the_import_graph_is_seen():
    assert "_ext" in INSIDE["layers"] and "layers" in INSIDE["layer_utils"]
    assert "layers" in _reach("cli") and "numpy" in OUTSIDE["reference"]


@pytest.mark.parametrize("room", FLOORS)
def test_rooms_import_lower_rooms_only(room):
    higher = {other for other in FLOORS if FLOORS[other] >= FLOORS[room] and other != room}
    assert not _reach(room) & higher


def test_reference_imports_numpy_only():
    assert OUTSIDE["reference"] - {"__future__", "collections", "typing"} == {"numpy"}
    # What p means is said once for both; how it is computed, each for itself.
    assert _reach("reference") == {"reference", "_convention", "typing"}
    assert not INSIDE.get("_convention") and not OUTSIDE.get("_convention")


@pytest.mark.parametrize("room", ["solver", "optim", "gradient_check", "data_utils"])
def test_what_knows_no_layers(room):
    assert room in INSIDE or room in OUTSIDE
    assert not _reach(room) & {*FLOORS, "", "reference"}


def test_no_room_reaches_through_the_top():
    # `import fastbn` within the package would hide who imports whom.
    assert {room for room in INSIDE if "" in INSIDE[room]} <= {"cli", "experiments", "__main__"}


def _python(code, **environment):
    """stdout of `code` in a fresh interpreter; for what is decided at import."""
    kept = {k: v for k, v in os.environ.items() if k not in
            ("FASTBN_ISA", "FASTBN_NUM_THREADS", "OMP_NUM_THREADS")}  # fmt: skip
    return subprocess.run(
        # -P and the path: this very package, not the unbuilt one in the current folder.
        [sys.executable, "-P", "-X", "dev", "-W", "error", "-c", code],
        env={**kept, "PYTHONPATH": str(PACKAGE.parent), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_import_is_silent_and_light():
    result = _python(
        "import sys, json, fastbn, fastbn.layers, fastbn.layer_utils, fastbn.solver\n"
        "import fastbn.optim, fastbn.data_utils, fastbn.classifiers.cnn\n"
        "json.dump(sorted({name.split('.')[0] for name in sys.modules}), sys.stderr)"
    )
    assert result.returncode == 0 and result.stdout == ""
    imported = set(json.loads(result.stderr))
    heavy = {
        "matplotlib",
        "tqdm",
        "sklearn",
        "scipy",
        "joblib",
        "torch",
        "PIL",
        "imageio",
        "IPython",
    }
    assert not imported & heavy
    assert {"fastbn", "numpy"} <= imported


def test_import_brings_little_of_the_standard_library():
    result = _python(
        "import sys, json, numpy; before = set(sys.modules); import fastbn\n"
        "json.dump(sorted(set(sys.modules) - before), sys.stderr)"
    )
    assert result.returncode == 0
    brought = {name for name in json.loads(result.stderr) if not name.startswith("fastbn")}
    slow = {"html", "importlib.resources", "tempfile", "urllib.parse", "shutil", "http", "asyncio"}
    assert not brought & slow


# Arrays


def _upstream(rng, convert=lambda array: array):
    """What makes dout for an output: the same numbers, converted, each time."""

    def dout(out):
        return convert(np.random.default_rng(5).standard_normal(out.shape))

    return dout


def _bits(results):
    return [(array.dtype, array.shape, array.tobytes()) for array in results]


def _check_against_reference(operation, arguments, dout, expected_dtypes):
    """Values as the reference's on plain arrays of the same values, dtypes as given."""

    def plain(array):
        return np.array(array, array.dtype.newbyteorder("="), order="C")

    expected = operation.run(reference, map_arrays(plain, arguments), lambda out: plain(dout(out)))
    actual = operation.run(layers, map_arrays(lambda array: array, arguments), dout)
    for index, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert a.dtype == e.dtype == expected_dtypes[min(index, 1)]
        cases.assert_same(a, e, np.result_type(a, np.float16), 300)


def _results_in(dtypes):
    """The rule for dtypes: NumPy's promotion, and float64 instead of integers and bool."""
    dtype = np.result_type(*dtypes)
    return np.dtype(np.float64) if dtype.kind in "biu" else dtype.newbyteorder("=")


def _gives_dout_back(operation, arguments):
    return arguments.get("dropout_param", {}).get("mode") == "test"


every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=operations.operation_id)


@every_operation
@pytest.mark.parametrize(
    "dtype",
    [bool, np.int8, np.uint8, np.int32, np.int64, np.uint64, np.float16, np.float32, np.float64],
    ids=lambda dtype: dtype.__name__,
)
def test_dtypes(operation, dtype, rng):
    arguments = operation.arguments(rng)
    arguments = map_arrays(lambda array: (2 * np.abs(array)).astype(dtype), arguments)
    dout = _upstream(rng, lambda array: (3 * np.abs(array)).astype(dtype))
    result = _results_in([dtype])
    upstream = np.dtype(dtype) if _gives_dout_back(operation, arguments) else result
    _check_against_reference(operation, arguments, dout, (result, upstream))


@every_operation
@pytest.mark.parametrize(
    ("first", "others"),
    [
        (np.float32, np.float64),
        (np.float64, np.float32),
        (np.float32, np.int64),
        (np.float32, np.int8),
        (np.uint8, np.float32),
        (np.float16, np.float32),
        (np.float32, np.float16),
        (np.float16, np.int16),
    ],
    ids=lambda dtype: dtype.__name__,
)
def test_mixed_dtypes_follow_numpy(operation, first, others, rng):
    """x in one dtype, the other arrays in another, dout in float32."""
    arguments = operation.arguments(rng)
    arguments = map_arrays(lambda array: (2 * np.abs(array)).astype(others), arguments)
    arguments["x"] = arguments["x"].astype(first)
    dtypes = {array.dtype for array in _arrays_of_the_caller(arguments)}
    if arguments.get("bn_param", {}).get("mode") == "train":  # running ones do not take part
        dtypes = {arguments[name].dtype for name in ("x", "gamma", "beta")}
    out = _results_in(dtypes)
    gradients = _results_in([np.float32, out if "pool" not in operation.forward else first])
    if "relu" in operation.forward:
        gradients = _results_in([np.float32, first])
    if _gives_dout_back(operation, arguments):
        gradients = np.dtype(np.float32)
    dout = _upstream(rng, lambda array: array.astype(np.float32))
    _check_against_reference(operation, arguments, dout, (out, gradients))


def _unaligned(array):
    buffer = np.empty(array.nbytes + 1, np.uint8)
    result = buffer[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def _strided(array):
    buffer = np.zeros([2 * length for length in array.shape], array.dtype)
    result = buffer[tuple(slice(None, None, 2) for _ in array.shape)]
    result[...] = array
    return result


def _backwards(array):
    every_axis = tuple(slice(None, None, -1) for _ in array.shape)
    return np.ascontiguousarray(array[every_axis])[every_axis]


def _odd_strides(array):
    """As slicing leaves them: strides of axes of length 1 mean nothing, and may be anything."""
    strides = [
        -8888 if length == 1 else stride
        for length, stride in zip(array.shape, array.strides, strict=True)
    ]
    return np.lib.stride_tricks.as_strided(array, array.shape, strides)


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "negative strides": _backwards,
    "strided": _strided,
    "unaligned": _unaligned,
    "byte-swapped": lambda array: array.astype(array.dtype.newbyteorder()),
    "odd strides": _odd_strides,
    "subclass": lambda array: array.view(type("Subclass", (np.ndarray,), {})),
}


@every_operation
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layout_changes_nothing(operation, layout, dtype, rng):
    arguments = map_arrays(lambda array: array.astype(dtype), operation.arguments(rng))
    expected = operation.run(
        layers,
        map_arrays(np.copy, arguments),
        _upstream(rng, lambda array: array.astype(dtype)),
    )
    convert = LAYOUTS[layout]
    odd = map_arrays(convert, arguments)
    for array, original in zip(arrays_in(odd), arrays_in(arguments), strict=True):
        np.testing.assert_array_equal(array, original)
    actual = operation.run(layers, odd, _upstream(rng, lambda array: convert(array.astype(dtype))))
    if _gives_dout_back(operation, arguments):
        actual = expected[:1]
        expected = expected[:1]
    assert _bits(actual) == _bits(expected)
    assert {type(array) for array in actual} == {np.ndarray}


@every_operation
def test_broadcast_views_are_read_right(operation, rng):
    def first_everywhere(array):
        return np.broadcast_to(array[:1], array.shape)

    arguments = map_arrays(first_everywhere, operation.arguments(rng))
    assert all(array.strides[0] == 0 for array in arrays_in(arguments))
    plain = map_arrays(np.copy, arguments)
    assert _bits(operation.run(layers, arguments, _upstream(rng, first_everywhere))) == _bits(
        operation.run(layers, plain, _upstream(rng, lambda array: first_everywhere(array).copy()))
    )


@pytest.mark.parametrize("name", operations.OTHERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layout_changes_nothing_in_functions_without_a_gradient(name, layout, rng):
    arguments = FUNCTIONS[name](rng)
    expected = getattr(layers, name)(*arguments.values())
    odd = map_arrays(LAYOUTS[layout], arguments)
    if "y" in odd:
        odd["y"] = LAYOUTS[layout](odd["y"])
    np.testing.assert_equal(getattr(layers, name)(*odd.values()), expected)


@pytest.mark.parametrize("name", operations.OTHERS)
@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.int64, np.float16, np.float32], ids=lambda dtype: dtype.__name__
)
def test_dtypes_of_functions_without_a_gradient(name, dtype, rng):
    arguments = map_arrays(lambda array: (3 * array).astype(dtype), FUNCTIONS[name](rng))
    actual = getattr(layers, name)(*arguments.values())
    expected = getattr(reference, name)(*arguments.values())
    if not isinstance(actual, tuple):
        actual, expected = (actual,), (expected,)
    dtype = _results_in([dtype])
    for a, e in zip(actual, expected, strict=True):
        if isinstance(a, float):  # a loss; the reference rounds it to the dtype
            np.testing.assert_allclose(a, e, rtol=cases.tolerance(dtype))
        else:
            assert a.dtype == (np.intp if name == "get_im2col_indices" else dtype)
            cases.assert_same(a, e, dtype, 300)


def _arrays_of_the_caller(arguments):
    arrays = [value for value in arguments.values() if isinstance(value, np.ndarray)]
    for value in arguments.values():
        if isinstance(value, dict):
            arrays += _arrays_of_the_caller(value)
    return arrays


@every_operation
def test_inputs_are_read_only_and_results_new(operation, dtype, rng):
    arguments = map_arrays(lambda array: array.astype(dtype), operation.arguments(rng))
    inputs = _arrays_of_the_caller(arguments)
    douts = []

    def dout(out):
        douts.append(rng.standard_normal(out.shape).astype(dtype))
        douts[0].flags.writeable = False
        return douts[0]

    for array in inputs:
        array.flags.writeable = False
    before = _bits(inputs)
    results = operation.run(layers, arguments, dout)
    assert _bits(inputs) == before
    if _gives_dout_back(operation, arguments):
        assert results[0] is arguments["x"] and results[1] is douts[0]
        return
    for result in results:
        assert result.flags.c_contiguous and result.flags.writeable
        assert not any(np.may_share_memory(result, array) for array in [*inputs, *douts])
    for a in range(len(results)):
        assert not any(np.may_share_memory(results[a], other) for other in results[:a])


@pytest.mark.parametrize("name", operations.OTHERS)
def test_inputs_are_read_only_and_results_new_without_a_gradient(name, rng):
    arguments = FUNCTIONS[name](rng)
    inputs = _arrays_of_the_caller(arguments)
    for array in inputs:
        array.flags.writeable = False
    before = _bits(inputs)
    results = getattr(layers, name)(*arguments.values())
    assert _bits(inputs) == before
    for result in results if isinstance(results, tuple) else (results,):
        assert not any(np.may_share_memory(result, array) for array in inputs)


@every_operation
def test_a_cache_can_be_used_twice_and_after_the_gradient_was_changed(operation, rng):
    arguments = operation.arguments(rng)
    out, cache = getattr(layers, operation.forward)(*arguments.values())
    dout = rng.standard_normal(out.shape)
    backward = getattr(layers, operation.backward)
    first = backward(dout, cache)
    first = first if isinstance(first, tuple) else (first,)
    expected = _bits(first)
    if not _gives_dout_back(operation, arguments):
        out[...] = 0
        for array in first:
            array[...] = 0
    again = backward(dout, cache)
    assert _bits(again if isinstance(again, tuple) else (again,)) == expected


@every_operation
def test_lists_are_arrays_too(operation, rng):
    arguments = operation.arguments(rng)
    expected = operation.run(layers, map_arrays(np.copy, arguments), _upstream(rng))
    lists = map_arrays(lambda array: array.tolist(), arguments)
    actual = operation.run(layers, lists, _upstream(rng))
    assert _bits(actual) == _bits(expected)


# Caches


@pytest.mark.parametrize("name", ["naive", "fast", "strides", "im2col"])
def test_conv_caches(name, rng):
    arguments = FUNCTIONS["conv_forward_naive"](rng)
    values = list(arguments.values())
    out, cache = getattr(layers, f"conv_forward_{name}")(*values)
    assert type(cache) is tuple and len(cache) == (4 if name == "naive" else 5)
    assert all(item is value for item, value in zip(cache[:4], values, strict=True))


@pytest.mark.parametrize("name", ["fast", "strides", "im2col"])
def test_conv_columns_are_as_good_as_an_array(name, rng):
    arguments = FUNCTIONS["conv_forward_naive"](rng).values()
    _, (*_, columns) = getattr(layers, f"conv_forward_{name}")(*arguments)
    _, (*_, expected) = getattr(reference, f"conv_forward_{name}")(*arguments)
    left, right = rng.standard_normal((2, *expected.shape[::-1]))
    np.testing.assert_array_equal(columns, expected)
    np.testing.assert_array_equal(columns.T, expected.T)
    np.testing.assert_array_equal(columns[1:3, ::2], expected[1:3, ::2])
    np.testing.assert_array_equal(columns[1:] + columns[:-1] * 2, expected[1:] + expected[:-1] * 2)
    np.testing.assert_allclose(left @ columns, left @ expected, atol=1e-12)
    np.testing.assert_allclose(columns @ right, expected @ right, atol=1e-12)
    np.testing.assert_allclose(left.dot(columns), left @ expected, atol=1e-12)
    np.testing.assert_allclose(columns.dot(right), expected @ right, atol=1e-12)
    np.testing.assert_array_equal(1 - columns, 1 - expected)
    np.testing.assert_array_equal(-columns, -expected)
    np.testing.assert_array_equal(columns == expected, True)
    np.testing.assert_array_equal(np.exp(columns), np.exp(expected))
    np.testing.assert_array_equal(columns.sum(axis=1), expected.sum(axis=1))
    np.testing.assert_array_equal(np.asarray(columns, np.float32), expected.astype(np.float32))
    assert columns.shape == expected.shape and columns.dtype == expected.dtype
    assert len(columns) == len(expected) and columns.size == expected.size
    for twin in (copy.deepcopy(columns), pickle.loads(pickle.dumps(columns)), np.array(columns)):
        assert type(twin) is np.ndarray and not np.may_share_memory(twin, columns)
        np.testing.assert_array_equal(twin, expected)
    columns[0, 0] = 7
    assert columns[0, 0] == 7
    columns += 1
    assert columns[0, 0] == 8


def test_pool_caches(rng):
    x = rng.standard_normal((2, 3, 4, 6))
    tiling = {"pool_height": 2, "pool_width": 2, "stride": 2}
    overlapping = {"pool_height": 3, "pool_width": 2, "stride": 1}
    for param in (tiling, overlapping):
        out, cache = layers.max_pool_forward_naive(x, param)
        assert type(cache) is tuple and len(cache) == 2
        assert cache[0] is x and cache[1] is param

    for name in ("max_pool_forward_fast", "max_pool_forward_reshape"):
        out, cache = getattr(layers, name)(x, tiling)
        if name == "max_pool_forward_fast":
            tag, cache = cache
            assert tag == "reshape"
        kept, x_reshaped, kept_out = cache
        assert kept is x
        np.testing.assert_array_equal(x_reshaped, x.reshape(2, 3, 2, 2, 3, 2))
        np.testing.assert_array_equal(kept_out, out)

    for param in (tiling, overlapping):
        out, cache = layers.max_pool_forward_im2col(x, param)
        expected = reference.max_pool_forward_im2col(x, param)[1]
        assert len(cache) == 4 and cache[0] is x and cache[3] is param
        np.testing.assert_array_equal(cache[1], expected[1])
        np.testing.assert_array_equal(cache[2], expected[2])
        picked = cache[1][cache[2], np.arange(cache[2].size)]
        np.testing.assert_array_equal(np.sort(picked), np.sort(out, axis=None))
    tag, cache = layers.max_pool_forward_fast(x, overlapping)[1]
    assert tag == "im2col" and len(cache) == 4 and cache[0] is x


def test_other_caches(rng):
    x, w, b = affine = list(FUNCTIONS["affine_forward"](rng).values())
    cache = layers.affine_forward(*affine)[1]
    assert type(cache) is tuple and len(cache) == 3
    assert cache[0] is x and cache[1] is w and cache[2] is b
    assert layers.relu_forward(x)[1] is x
    for mode in ("train", "test"):
        param = {"mode": mode, "p": 0.5}
        kept, mask = layers.dropout_forward(x, param)[1]
        assert kept is param
        assert mask is None if mode == "test" else mask.shape == x.shape


def test_caches_written_by_hand_will_do(rng):
    """As notebooks do that never call the forward function."""
    x, dout = rng.standard_normal((2, 3, 4))
    np.testing.assert_array_equal(layers.relu_backward(dout, x), dout * (x > 0))
    w, b = rng.standard_normal((4, 2)), np.zeros(2)
    dx, dw, db = layers.affine_backward(dout[:, :2], [x, w, b])
    np.testing.assert_allclose(dx, dout[:, :2] @ w.T)
    mask = np.array([[2.0, 0, 0, 2]])
    dx = layers.dropout_backward(dout[:1], ({"mode": "train"}, mask))
    np.testing.assert_array_equal(dx, dout[:1] * mask)
    images, param = rng.standard_normal((1, 2, 4, 4)), {"stride": 1, "pad": 0}
    filters = rng.standard_normal((3, 2, 2, 2))
    made = layers.conv_backward_fast(np.ones((1, 3, 3, 3)), (images, filters, np.zeros(3), param))
    np.testing.assert_allclose(made[2], 9)


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("name", ["batchnorm_forward", "spatial_batchnorm_forward"])
def test_running_statistics_are_written_back_as_new_arrays(name, mode, dtype, rng):
    arguments = map_arrays(lambda array: array.astype(dtype), FUNCTIONS[name](rng))
    arguments["bn_param"]["mode"] = mode
    param = arguments["bn_param"]
    given = {key: param[key] for key in ("running_mean", "running_var")}
    copies = {key: value.copy() for key, value in given.items()}
    twin = map_arrays(np.copy, arguments)
    getattr(layers, name)(*arguments.values())
    getattr(reference, name)(*twin.values())
    for key in given:
        np.testing.assert_array_equal(given[key], copies[key])
        assert not np.may_share_memory(param[key], given[key])
        cases.assert_same(param[key], twin["bn_param"][key], dtype)
    assert set(param) == set(twin["bn_param"])


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(
    "dtype", [np.int64, np.float16, np.float32, np.float64], ids=lambda dtype: dtype.__name__
)
def test_running_statistics_start_in_the_dtype_of_x(mode, dtype, rng):
    x = (5 * rng.standard_normal((6, 3))).astype(dtype)
    params = [{"mode": mode}, {"mode": mode, "running_mean": None, "running_var": None}]
    for param in params:
        layers.batchnorm_forward(x, np.ones(3), np.zeros(3), param)
        assert list(param) == ["mode", "running_mean", "running_var"]
        for key in ("running_mean", "running_var"):
            assert param[key].dtype == _results_in([dtype]) and param[key].shape == (3,)
    if mode == "test":
        np.testing.assert_array_equal(params[0]["running_mean"], 0)
    else:
        expected = 0.1 * x.astype(np.float64).var(axis=0)
        eps = np.finfo(params[0]["running_var"].dtype).eps
        np.testing.assert_allclose(params[0]["running_var"], expected, rtol=4 * eps)


def test_parameter_dicts_may_be_any_mapping_and_have_other_keys(rng):
    for operation in OPERATIONS:
        arguments = operation.arguments(rng)
        expected = operation.run(layers, map_arrays(np.copy, arguments), _upstream(rng))
        for name, value in arguments.items():
            if isinstance(value, dict):
                arguments[name] = UserDict(layernorm=1, axis=0, **value)
        assert _bits(operation.run(layers, arguments, _upstream(rng))) == _bits(expected)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32])
def test_sizes_may_be_numpy_integers(kind, rng):
    for name in ("conv_forward_fast", "max_pool_forward_fast", "spatial_groupnorm_forward",
                 "im2col_cython", "col2im_6d_cython", "get_im2col_indices"):  # fmt: skip
        arguments = FUNCTIONS[name](rng)
        converted = {
            key: kind(value)
            if isinstance(value, int)
            else {k: kind(v) if isinstance(v, int) else v for k, v in value.items()}
            if isinstance(value, dict)
            else value
            for key, value in arguments.items()
        }
        expected = getattr(layers, name)(*arguments.values())
        actual = getattr(layers, name)(*converted.values())
        np.testing.assert_equal(np.asarray(actual[0]), np.asarray(expected[0]))


# Configuration


def test_show_config_as_a_dict():
    config = fastbn.show_config("dict")
    assert list(config) == ["versions", "build", "cpu", "threads", "memory"]
    assert config["versions"]["fastbn"] == fastbn.__version__
    assert config["versions"]["numpy"] == np.__version__
    assert config["build"]["compiler"] == _ext.runtime.compiler
    assert os.path.samefile(config["build"]["kernels"], PACKAGE / "_ext")
    assert config["cpu"]["level in use"] == _ext.level
    assert config["cpu"]["level in use"] in config["cpu"]["levels available"]
    assert set(config["cpu"]["levels available"]) <= set(config["cpu"]["levels built"])
    assert config["threads"]["in use"] == fastbn.get_num_threads()
    assert config["threads"]["cores for this process"] >= 1
    json.dumps(config)  # for bug reports


def test_show_config_prints_the_same(capsys):
    assert fastbn.show_config() is None
    printed = capsys.readouterr().out
    lines = {line.strip() for line in printed.splitlines()}
    for section, entries in fastbn.show_config("dict").items():
        assert section in lines
        for name, value in entries.items():
            shown = "-" if value is None else " ".join(value) if isinstance(value, list) else value
            assert f"{name:<24}{shown}" in lines
    assert max(map(len, lines)) < 200 and printed.endswith("\n")


@pytest.mark.parametrize("mode", ["json", None, 3, ["dict"]])
def test_show_config_knows_two_modes(mode):
    with pytest.raises(ValueError, match=rf"mode must be .*{re.escape(repr(mode))}"):
        fastbn.show_config(mode)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (257, ValueError),
        (2**70, ValueError),
        (1.0, TypeError),
        (True, TypeError),
        ("2", TypeError),
        ([2], TypeError),
    ],
    ids=repr,
)
def test_wrong_numbers_of_threads(value, error):
    before = fastbn.get_num_threads()
    with pytest.raises(error, match=rf"num_threads must be .*got {re.escape(repr(value))}"):
        fastbn.set_num_threads(value)
    assert fastbn.get_num_threads() == before


def test_threads_are_kept_until_none(monkeypatch):
    monkeypatch.setattr(_threads, "_requested", None)
    before = fastbn.get_num_threads()
    for value in (1, np.int64(3), 256):
        assert fastbn.set_num_threads(value) is None
        assert fastbn.get_num_threads() == (value if _ext.runtime.openmp else 1)
    fastbn.set_num_threads(None)
    assert fastbn.get_num_threads() == before


SHOW = "import fastbn; print(fastbn.show_config('dict')['cpu']['level in use'])"
LEVEL_SPELLINGS = [
    (spelling, level)
    for level in _ext.available_levels()
    for spelling in (level, level.upper(), f"x86-64-{level}")
]


@pytest.mark.parametrize(("spelling", "level"), LEVEL_SPELLINGS)
def test_isa_variable_chooses_a_level(spelling, level):
    result = _python(
        f"{SHOW}; import numpy as np; from fastbn import layers, _ext\n"
        "print(_ext.relu.__name__, layers.relu_forward(np.arange(-2., 2.))[0].tolist())",
        FASTBN_ISA=spelling,
    )
    assert result.stderr == ""
    assert result.stdout.split("\n")[:2] == [
        level,
        f"fastbn._ext._relu_{level} [0.0, 0.0, 0.0, 1.0]",
    ]


def test_without_the_isa_variable_the_best_level_is_used():
    for environment in ({}, {"FASTBN_ISA": ""}):
        assert _python(SHOW, **environment).stdout.strip() == _ext.available_levels()[-1]


@pytest.mark.parametrize("wrong", ["v9", "avx2", "x86-64"])
def test_wrong_isa_variable(wrong):
    result = _python(SHOW, FASTBN_ISA=wrong)
    assert result.returncode == 1 and result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ImportError: FASTBN_ISA must be one of ") and repr(wrong) in last
    assert all(level in last for level in _ext.available_levels())


def test_a_level_that_is_not_there_changes_nothing():
    before = _ext.level
    with pytest.raises(ValueError, match="CPU level must be one of .* got 'v9'"):
        _ext.use_level("v9")
    assert _ext.level == before and _ext.relu.__name__.endswith(f"_relu_{before}")


@pytest.mark.parametrize(
    ("stub", "message"),
    [
        (None, "fastbn's compiled modules are missing; build them with `pip install .`"),
        (b"no module", "fastbn's compiled modules are there but cannot be loaded: "),
    ],
    ids=["never built", "broken"],
)
def test_compiled_modules_that_do_not_load(stub, message, tmp_path):
    copy = tmp_path / "fastbn"
    binaries = shutil.ignore_patterns("__pycache__", *(f"*{s}" for s in EXTENSION_SUFFIXES))
    shutil.copytree(PACKAGE, copy, ignore=binaries)
    if stub is not None:
        (copy / "_ext" / f"_runtime{EXTENSION_SUFFIXES[0]}").write_bytes(stub)
    result = _python("import fastbn", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {message}")
    assert ("OpenMP" in last) == (stub is not None)


THREADS = "import fastbn; print(fastbn.get_num_threads(), fastbn._threads._default)"


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"FASTBN_NUM_THREADS": "3"}, 3),
        ({"FASTBN_NUM_THREADS": " 3 "}, 3),
        ({"FASTBN_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 3),
        ({"FASTBN_NUM_THREADS": "", "OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "many"}, _cores.cores()),
        ({}, _cores.cores()),
    ],
    ids=str,
)
def test_thread_variables(environment, threads):
    result = _python(THREADS, **environment)
    in_use = threads if _ext.runtime.openmp else 1
    assert result.stdout.split() == [str(in_use), str(threads)]


@pytest.mark.parametrize("wrong", ["0", "-2", "two", "1.5", "257"])
def test_wrong_thread_variable(wrong):
    result = _python(THREADS, FASTBN_NUM_THREADS=wrong)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last == (
        f"ValueError: FASTBN_NUM_THREADS must be an integer from 1 to 256; got {wrong!r}"
    )
