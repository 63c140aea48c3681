"""Bad input gets a clear TypeError or ValueError before any work, and changes nothing."""

import functools
import inspect
import re
import types

import numpy as np
import pytest
from operations import FAMILIES, FUNCTIONS, public_functions

from fastbn import _check, layers, reference

FORWARDS = {name for forwards, _, _ in FAMILIES for name in forwards}
BACKWARDS = {name for _, backwards, _ in FAMILIES for name in backwards}


def good(name):
    """Fresh good arguments of the function `name`."""
    return FUNCTIONS[name](np.random.default_rng(231))


def _snapshot(value):
    """Something that is equal as long as nobody changes `value`."""
    if isinstance(value, dict):
        return [(key, id(item), _snapshot(item)) for key, item in value.items()]
    if isinstance(value, tuple | list):
        return [(id(item), _snapshot(item)) for item in value]
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype, value.shape, value.tobytes()
    return repr(value)


def refuse(name, arguments, error, message):
    """The call raises exactly `error`, says `message`, and leaves everything as it was."""
    before = _snapshot(arguments)
    np.random.seed(7)
    with pytest.raises((TypeError, ValueError)) as caught:
        getattr(layers, name)(*arguments.values())
    assert np.random.random() == _FIRST_OF_SEED_7
    assert _snapshot(arguments) == before
    assert caught.type is error
    assert re.search(message, str(caught.value)), f"{message!r} is not in {str(caught.value)!r}"
    # Ours, not one that surfaced from within NumPy or a kernel.
    assert caught.traceback[-1].path.match("fastbn/_check.py") or caught.traceback[-1].path.match(
        "fastbn/layers/*.py"
    )


_FIRST_OF_SEED_7 = np.random.RandomState(7).random_sample()


def _shown(value):
    """A pattern for the value as a message shows it."""
    return re.escape(repr(value))


# Arrays


def _array_arguments():
    """(function, argument) for every argument that is an array of floats."""
    for name in FUNCTIONS:
        for argument, value in good(name).items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                yield name, argument


NOT_REAL_ARRAYS = {
    "complex": (lambda a: a.astype(complex), "hold real numbers.*got dtype complex128"),
    "object": (lambda a: a.astype(object), "hold real numbers.*got dtype object"),
    "text": (lambda a: a.astype(str), "hold real numbers.*got dtype <U32"),
    "longdouble": (lambda a: a.astype(np.longdouble), "hold .* at most 64 bits; got dtype float"),
    "dates": (lambda a: a.astype("M8[s]"), "hold real numbers.*got dtype datetime64"),
    "records": (lambda a: a.view([("value", "f8")]), "hold real numbers.*got dtype .*value"),
    "masked": (np.ma.masked_array, "be a plain array; got a masked array"),
    "None": (lambda a: None, "hold real numbers.*got dtype object"),
    "string": (lambda a: "abc", "hold real numbers.*got dtype <U3"),
    "dict": (lambda a: {"x": a}, "hold real numbers.*got dtype object"),
    "ragged": (lambda a: [[1.0, 2.0], [3.0]], "be an array of numbers; got .*inhomogeneous"),
}
if np.dtype(np.longdouble).itemsize == 8:
    del NOT_REAL_ARRAYS["longdouble"]  # there it is a float64 by another name


@pytest.mark.parametrize("kind", NOT_REAL_ARRAYS)
@pytest.mark.parametrize(("name", "argument"), list(_array_arguments()))
def test_arrays_must_hold_real_numbers(name, argument, kind):
    convert, message = NOT_REAL_ARRAYS[kind]
    arguments = good(name)
    arguments[argument] = convert(arguments[argument])
    refuse(name, arguments, TypeError, rf"^{argument} must {message}")


def test_which_arguments_are_arrays():
    found = set(_array_arguments())
    assert {name for name, _ in found} == set(FUNCTIONS) - {"get_im2col_indices"}
    assert {("affine_forward", "b"), ("relu_backward", "cache"), ("col2im_cython", "cols")} <= found


@pytest.mark.parametrize("kind", NOT_REAL_ARRAYS)
@pytest.mark.parametrize("key", ["running_mean", "running_var"])
@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("name", ["batchnorm_forward", "spatial_batchnorm_forward"])
def test_running_statistics_must_hold_real_numbers(name, mode, key, kind):
    convert, message = NOT_REAL_ARRAYS[kind]
    arguments = good(name)
    param = arguments["bn_param"]
    param["mode"], param[key] = mode, convert(param[key])
    if param[key] is None:  # as good as not given
        getattr(layers, name)(*arguments.values())
        assert param[key].shape == param["running_mean"].shape
        return
    refuse(name, arguments, TypeError, rf"^bn_param\['{key}'\] must {message}")


WRONG_SHAPES = [
    # function, argument, shape, what the message blames
    ("affine_forward", "x", (), r"x must be \(N, d1, ..., dk\)"),
    ("affine_forward", "x", (4, 7), r"w must have 7 rows.*\(4, 7\); got \(6, 5\)"),
    ("affine_forward", "w", (6,), r"w must be \(D, M\)"),
    ("affine_forward", "w", (5, 6), r"w must have 6 rows.*x \(4, 2, 3\)"),
    ("affine_forward", "w", (2, 3, 5), r"w must be \(D, M\)"),
    ("affine_forward", "b", (6,), r"b must have shape \(5,\)"),
    ("affine_forward", "b", (1, 5), r"b must have shape \(5,\)"),
    ("affine_forward", "b", (), r"b must have shape \(5,\)"),
    ("softmax_loss", "x", (20,), r"x must be \(N, C\)"),
    ("softmax_loss", "x", (4, 5, 1), r"x must be \(N, C\)"),
    ("svm_loss", "x", (20,), r"x must be \(N, C\)"),
    ("batchnorm_forward", "x", (8, 6, 1), r"x must be \(N, D\)"),
    ("batchnorm_forward", "x", (6,), r"x must be \(N, D\)"),
    ("batchnorm_forward", "gamma", (5,), r"gamma must have shape \(6,\)"),
    ("batchnorm_forward", "gamma", (1, 6), r"gamma must have shape \(6,\)"),
    ("batchnorm_forward", "gamma", (), r"gamma must have shape \(6,\)"),
    ("batchnorm_forward", "beta", (7,), r"beta must have shape \(6,\)"),
    ("batchnorm_forward", "beta", (8, 6), r"beta must have shape \(6,\)"),
    ("spatial_batchnorm_forward", "x", (3, 4), r"x must be \(N, C, H, W\)"),
    ("spatial_batchnorm_forward", "x", (3, 4, 5, 2, 1), r"x must be \(N, C, H, W\)"),
    ("spatial_batchnorm_forward", "gamma", (2,), r"gamma must have shape \(4,\)"),
    ("spatial_batchnorm_forward", "gamma", (1, 4, 1, 1), r"gamma must have shape \(4,\)"),
    ("spatial_batchnorm_forward", "beta", (3,), r"beta must have shape \(4,\)"),
    ("layernorm_forward", "x", (5, 7, 1), r"x must be \(N, D\)"),
    ("layernorm_forward", "x", (7,), r"x must be \(N, D\)"),
    ("layernorm_forward", "gamma", (5,), r"gamma must have shape \(7,\)"),
    ("layernorm_forward", "beta", (1, 7), r"beta must have shape \(7,\)"),
    ("spatial_groupnorm_forward", "x", (2, 6), r"x must be \(N, C, H, W\)"),
    ("spatial_groupnorm_forward", "gamma", (1, 5, 1, 1), r"gamma must be \(1, 6, 1, 1\) or \(6,\)"),
    ("spatial_groupnorm_forward", "gamma", (6, 1, 1), r"gamma must be \(1, 6, 1, 1\) or \(6,\)"),
    ("spatial_groupnorm_forward", "beta", (3,), r"beta must be \(1, 6, 1, 1\) or \(6,\)"),
    *(
        (f"conv_forward_{kind}", *row)
        for kind in ("naive", "fast", "strides", "im2col")
        for row in [
            ("x", (2, 6, 5), r"x must be \(N, C, H, W\)"),
            ("x", (1, 3, 2, 6, 5), r"x must be \(N, C, H, W\)"),
            ("x", (3, 5, 6, 5), r"w must have the 5 channels of x.*got \(4, 2, 3, 2\)"),
            ("w", (4, 2, 3), r"w must be \(F, C, HH, WW\)"),
            ("w", (4, 3, 3, 2), r"w must have the 2 channels of x"),
            ("w", (4, 2, 9, 2), r"w must have filters .* fit the padded image 8x7; got 9x2"),
            ("w", (4, 2, 3, 8), r"w must have filters .* fit the padded image 8x7; got 3x8"),
            ("w", (4, 2, 0, 2), r"w must have filters of at least 1x1 .*; got 0x2"),
            ("b", (3,), r"b must have shape \(4,\)"),
            ("b", (4, 1), r"b must have shape \(4,\)"),
        ]
    ),
    *(
        (f"max_pool_forward_{kind}", "x", *row)
        for kind in ("naive", "fast", "reshape", "im2col")
        for row in [
            ((3, 4, 6), r"x must be \(N, C, H, W\)"),
            ((2, 3, 4, 6, 1), r"x must be \(N, C, H, W\)"),
            ((2, 3, 1, 6), "window that fits the image 1x6; got 2x2"),
            ((2, 3, 4, 1), "window that fits the image 4x1; got 2x2"),
            ((2, 3, 0, 6), "window that fits the image 0x6; got 2x2"),
        ]
    ),
    ("max_pool_forward_reshape", "x", (2, 3, 5, 6), r"divide the image's sides \(5, 6\)"),
    ("max_pool_forward_reshape", "x", (2, 3, 4, 7), r"divide the image's sides \(4, 7\)"),
    *(
        (name, "x", *row)
        for name in ("im2col_cython", "im2col_indices")
        for row in [
            ((2, 5, 4), r"x must be \(N, C, H, W\)"),
            ((3, 2, 0, 4), r"must fit the padded image 2x6; got 3x2"),
        ]
    ),
    *(
        (name, "cols", shape, r"cols must have shape \(12, 27\) \(what im2col_cython returns\)")
        for name in ("col2im_cython", "col2im_indices")
        for shape in [(12, 26), (11, 27), (27, 12), (324,), (1, 12, 27)]
    ),
    ("col2im_6d_cython", "cols", (12, 27), r"cols must have shape \(2, 3, 2, 3, 3, 3\)"),
    ("col2im_6d_cython", "cols", (2, 3, 2, 3, 3, 2), r"cols must have shape \(2, 3, 2, 3, 3, 3\)"),
    ("relu_backward", "cache", (3, 4, 6), r"dout must have shape \(3, 4, 6\)"),
]


@pytest.mark.parametrize(("name", "argument", "shape", "message"), WRONG_SHAPES, ids=str)
def test_wrong_shapes(name, argument, shape, message):
    arguments = good(name)
    arguments[argument] = np.ones(shape)
    got = "" if "got" in message or "fits" in message else f".*got (shape )?{_shown(shape)}"
    if "divide" in message or name == "relu_backward":
        got = ".*got"
    refuse(name, arguments, ValueError, message + got)


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize("key", ["running_mean", "running_var"])
@pytest.mark.parametrize("shape", [(5,), (1, 6), (), (8, 6)], ids=str)
def test_wrong_shapes_of_running_statistics(key, shape, mode):
    arguments = good("batchnorm_forward")
    arguments["bn_param"].update({"mode": mode, key: np.ones(shape)})
    message = rf"bn_param\['{key}'\] must have shape \(6,\) .*; got {_shown(shape)}"
    refuse("batchnorm_forward", arguments, ValueError, message)


@pytest.mark.parametrize("change", ["longer", "shorter", "more axes", "fewer axes", "transposed"])
@pytest.mark.parametrize("name", sorted(BACKWARDS))
def test_dout_has_the_shape_of_the_output(name, change):
    arguments = good(name)
    dout = arguments["dout"]
    arguments["dout"] = {
        "longer": np.concatenate([dout, dout[:1]]),
        "shorter": dout[..., :-1],
        "more axes": dout[None],
        "fewer axes": dout[0],
        "transposed": np.ascontiguousarray(dout.swapaxes(0, 1)),
    }[change]
    message = rf"^dout must have shape .*{_shown(dout.shape)}.*; got "
    refuse(name, arguments, ValueError, message + _shown(arguments["dout"].shape))


# Parameter dicts

PARAMETERS = [
    (name, argument)
    for name in sorted(FORWARDS)
    for argument, value in good(name).items()
    if isinstance(value, dict)
]


@pytest.mark.parametrize(
    "value",
    [None, 3, "train", ["mode"], ("p", 1), {"mode"}, np.ones(3), np.zeros(2, [("mode", int)])],
    ids=repr,
)
@pytest.mark.parametrize(("name", "argument"), PARAMETERS)
def test_parameters_come_in_a_dict(name, argument, value):
    arguments = good(name) | {argument: value}
    message = f"^{argument} must be a dict; got {type(value).__name__}$"
    refuse(name, arguments, TypeError, message)


def test_which_functions_take_parameters():
    assert len(PARAMETERS) == 2 + 3 + 1 + 4 + 4


def test_batchnorm_must_be_able_to_write():
    arguments = good("batchnorm_forward")
    arguments["bn_param"] = types.MappingProxyType(arguments["bn_param"])
    message = "bn_param must be a dict; got mappingproxy"
    refuse("batchnorm_forward", arguments, TypeError, message)


REQUIRED = {
    "bn_param": ["mode"],
    "dropout_param": ["mode", "p"],
    "conv_param": ["stride", "pad"],
    "pool_param": ["pool_height", "pool_width", "stride"],
    "ln_param": [],
    "gn_param": [],
}


@pytest.mark.parametrize(
    ("name", "argument", "key"),
    [(name, argument, key) for name, argument in PARAMETERS for key in REQUIRED[argument]],
)
def test_missing_keys(name, argument, key):
    arguments = good(name)
    del arguments[argument][key]
    there = re.escape(str(list(arguments[argument])))
    message = rf"^{argument} must have the key '{key}'; it has {there}$"
    refuse(name, arguments, _check.MissingKeyError, message)
    with pytest.raises(KeyError):  # as in the course
        getattr(layers, name)(*arguments.values())


@pytest.mark.parametrize("mode", [m for m in ("train", "test")])
def test_dropout_needs_p_in_either_mode(mode):
    arguments = good("dropout_forward") | {"dropout_param": {"mode": mode}}
    message = "dropout_param must have the key 'p'"
    refuse("dropout_forward", arguments, _check.MissingKeyError, message)


ANY_INTEGER = [
    (1.0, TypeError, "an integer"),
    (1.5, TypeError, "an integer"),
    (float("nan"), TypeError, "an integer"),
    (True, TypeError, "an integer"),
    (np.True_, TypeError, "an integer"),
    ("1", TypeError, "an integer"),
    (None, TypeError, "an integer"),
    ([1], TypeError, "an integer"),
    (np.ones(2, int), TypeError, "an integer"),
    (np.float64(1), TypeError, "an integer"),
    (-1, ValueError, "at least"),
    (np.int8(-1), ValueError, "at least"),
    (-(2**70), ValueError, "at least"),
    (2**63, ValueError, "at most"),
    (2**200, ValueError, "at most"),
]
POSITIVE = [*ANY_INTEGER, (0, ValueError, "at least 1")]

NUMBER = [
    ("0.5", TypeError, "a number"),
    (b"1", TypeError, "a number"),
    (None, TypeError, "a number"),
    ([0.5], TypeError, "a number"),
    (np.array([0.5]), TypeError, "a number"),
    (0.5j, TypeError, "a number"),
    ({}, TypeError, "a number"),
    (10**400, TypeError, "a number"),
    (float("nan"), ValueError, "(at least|from) 0"),
    (-0.5, ValueError, "(at least|from) 0"),
    (-1, ValueError, "(at least|from) 0"),
    (float("-inf"), ValueError, "(at least|from) 0"),
]
SHARE = [
    *NUMBER,
    (1.5, ValueError, "from 0 to 1"),
    (2, ValueError, "from 0 to 1"),
    (float("inf"), ValueError, "from 0 to 1"),
]

MODES = ["Train", "", "eval", None, 1, True, b"train", ["train"], np.array(["train", "test"]), {}]


def _bad_values():
    """(function, dict, key, value, error, rule)"""
    rules = {
        ("bn_param", "eps"): NUMBER,
        ("bn_param", "momentum"): SHARE,
        ("ln_param", "eps"): NUMBER,
        ("gn_param", "eps"): NUMBER,
        ("dropout_param", "p"): [
            *SHARE,
            (0, ValueError, "above 0"),
            (0.0, ValueError, "above 0"),
        ],
        ("conv_param", "stride"): POSITIVE,
        ("conv_param", "pad"): ANY_INTEGER,
        ("pool_param", "pool_height"): POSITIVE,
        ("pool_param", "pool_width"): POSITIVE,
        ("pool_param", "stride"): POSITIVE,
    }
    for name, argument in PARAMETERS:
        for (params, key), values in rules.items():
            if params == argument:
                yield from ((name, argument, key, *row) for row in values)


@pytest.mark.parametrize(
    ("name", "argument", "key", "value", "error", "rule"), list(_bad_values()), ids=repr
)
def test_wrong_values_in_parameter_dicts(name, argument, key, value, error, rule):
    arguments = good(name)
    arguments[argument][key] = value
    if error is ValueError:
        # A number is shown as it is, or as the float or int that it stands for.
        got = re.escape(str(float(value) if "." in str(value) else value))
        got = rf"{got}(\.0)?"
    else:
        got = _shown(value)
    refuse(name, arguments, error, rf"^{argument}\['{key}'\] must be {rule}.*; got {got}$")


@pytest.mark.parametrize("mode", MODES, ids=repr)
@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("batchnorm_forward", "bn_param", 'Invalid forward batchnorm mode "{}"'),  # the course's
        ("spatial_batchnorm_forward", "bn_param", 'Invalid forward batchnorm mode "{}"'),
        ("dropout_forward", "dropout_param", "dropout_param['mode'] must be 'train' or 'test'"),
    ],
)
def test_unknown_modes(name, argument, message, mode):
    arguments = good(name)
    arguments[argument]["mode"] = mode
    shown = repr(mode) if "must" in message else str(mode)
    refuse(name, arguments, ValueError, "^" + re.escape(message.format(mode)))
    refuse(name, arguments, ValueError, re.escape(shown))


@pytest.mark.parametrize("mode", MODES, ids=repr)
def test_dropout_backward_reads_the_mode_anew(mode):
    arguments = good("dropout_backward")
    arguments["cache"][0]["mode"] = mode
    message = rf"dropout_param\['mode'\] must be 'train' or 'test'; got {_shown(mode)}"
    refuse("dropout_backward", arguments, ValueError, message)


def test_dropout_backward_in_training_needs_a_mask():
    arguments = good("dropout_backward")
    arguments["cache"] = (arguments["cache"][0], None)
    refuse("dropout_backward", arguments, ValueError, "cache must hold a mask for mode 'train'")


@pytest.mark.parametrize("mode", ["train", "test"])
@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), (2**32, ValueError), ("a", TypeError), (1.5, TypeError), ({}, TypeError)],
    ids=repr,
)
def test_wrong_seeds(seed, error, mode):
    arguments = good("dropout_forward")
    arguments["dropout_param"].update(seed=seed, mode=mode)
    message = rf"^dropout_param\['seed'\] must be a seed for np.random.seed .*got {_shown(seed)}$"
    refuse("dropout_forward", arguments, error, message)


# Integers that are arguments


def _integer_arguments():
    for name in FUNCTIONS:
        for argument, value in good(name).items():
            if isinstance(value, int):
                least = 0 if argument in ("padding", "pad", "N", "C", "H", "W") else 1
                for row in POSITIVE if least else ANY_INTEGER:
                    yield name, argument, *row


@pytest.mark.parametrize(
    ("name", "argument", "value", "error", "rule"), list(_integer_arguments()), ids=repr
)
def test_integers(name, argument, value, error, rule):
    arguments = good(name) | {argument: value}
    got = re.escape(str(value)) if error is ValueError else _shown(value)
    refuse(name, arguments, error, rf"^{argument} must be {rule}.*; got {got}$")


def test_which_arguments_are_integers():
    found = {(name, argument) for name, argument, *_ in _integer_arguments()}
    # Four of the field in each of six functions, N, C, H, W in two of them, and G in two.
    assert len(found) == 4 * 6 + 4 * 2 + 2


@pytest.mark.parametrize("name", ["get_im2col_indices", "col2im_indices"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, r"x_shape must be \(N, C, H, W\); got None"),
        (5, TypeError, r"x_shape must be \(N, C, H, W\); got 5"),
        ((3, 2, 5), ValueError, r"x_shape must be \(N, C, H, W\); got \(3, 2, 5\)"),
        ((3, 2, 5, 4, 1), ValueError, r"x_shape must be \(N, C, H, W\); got \(3, 2, 5, 4, 1\)"),
        ((3, 2.0, 5, 4), TypeError, r"x_shape\[1\] must be an integer; got 2.0"),
        ("3254", TypeError, r"x_shape\[0\] must be an integer; got '3'"),
        ((3, 2, -5, 4), ValueError, r"x_shape\[2\] must be at least 0; got -5"),
        ((3, 2, 5, 2**70), ValueError, r"x_shape\[3\] must be at most \d+; got 2\*?"),
    ],
    ids=str,
)
def test_x_shape(name, value, error, message):
    message = message.replace(r"2\*?", str(2**70))
    refuse(name, good(name) | {"x_shape": value}, error, "^" + message)


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "im2col" in n and "conv" not in n
                                  and "pool" not in n or n.startswith("col2im")])  # fmt: skip
@pytest.mark.parametrize(("height", "width"), [(8, 2), (3, 7), (2**40, 2), (3, 2**62)])
def test_fields_fit_the_padded_image(name, height, width):
    arguments = good(name)
    field = ("HH", "WW") if "HH" in arguments else ("field_height", "field_width")
    arguments.update(zip(field, (height, width), strict=True))
    message = f"{field[0]} and {field[1]} must fit the padded image 7x6; got {height}x{width}"
    refuse(name, arguments, ValueError, message)


@pytest.mark.parametrize("kind", ["naive", "fast", "reshape", "im2col"])
@pytest.mark.parametrize(("height", "width"), [(5, 2), (2, 7), (2**40, 2), (2, 2**62)])
def test_pooling_windows_fit_the_image(kind, height, width):
    arguments = good(f"max_pool_forward_{kind}")
    arguments["pool_param"].update(pool_height=height, pool_width=width)
    message = f"pool_param must .* window that fits the image 4x6; got {height}x{width}$"
    refuse(f"max_pool_forward_{kind}", arguments, ValueError, message)


@pytest.mark.parametrize(("height", "width", "stride"), [(2, 2, 1), (2, 1, 2), (4, 4, 4)])
def test_reshape_pooling_needs_tiles(height, width, stride):
    param = {"pool_height": height, "pool_width": width, "stride": stride}
    arguments = good("max_pool_forward_reshape") | {"pool_param": param}
    message = f"pool_param must have equal height, width and stride that.*got {_shown(param)}"
    refuse("max_pool_forward_reshape", arguments, ValueError, message)
    out, cache = layers.max_pool_forward_naive(arguments["x"], param)
    arguments = {"dout": np.ones_like(out), "cache": cache}
    message = f"cache must come from windows of equal .*got {_shown(param)}"
    refuse("max_pool_backward_reshape", arguments, ValueError, message)


@pytest.mark.parametrize("G", [4, 5, 7, 12, 2**62])
@pytest.mark.parametrize("name", ["spatial_groupnorm_forward", "spatial_quick_groupnorm_forward"])
def test_groups_divide_the_channels(name, G):
    message = f"^G must divide the 6 channels of x; got {G}$"
    refuse(name, good(name) | {"G": G}, ValueError, message)


@pytest.mark.parametrize("name", ["softmax_loss", "svm_loss"])
@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([0, 1, 2, 5], ValueError, r"y must hold labels from 0 to 4 .*; got 5"),
        ([0, -1, 2, 3], ValueError, r"y must hold labels from 0 to 4 .*; got -1"),
        ([0, -(2**63), 2, 3], ValueError, rf"labels from 0 to 4 .*; got {-(2**63)}"),
        (np.array([0, 1, 2, 2**64 - 1], np.uint64), ValueError, f"got {2**64 - 1}"),
        ([0, 1, 2], ValueError, r"y must have shape \(4,\) .*; got \(3,\)"),
        ([[0], [1], [2], [3]], ValueError, r"y must have shape \(4,\) .*; got \(4, 1\)"),
        (1, ValueError, r"y must have shape \(4,\) .*; got \(\)"),
        ([0.0, 1.0, 2.0, 3.0], TypeError, "y must hold integer class labels; got dtype float64"),
        ([True] * 4, TypeError, "y must hold integer class labels; got dtype bool"),
        (["0"] * 4, TypeError, "y must hold integer class labels; got dtype <U1"),
        (None, TypeError, "y must hold integer class labels; got dtype object"),
        ([0, 1, 2, 2**64], TypeError, "y must hold integer class labels; got dtype object"),
        ([0, [1], 2, 3], TypeError, "y must be an array of numbers; got"),
        (np.ma.masked_array([0, 1, 2, 3]), TypeError, "y must be a plain array; got a masked"),
    ],
    ids=str,
)
def test_labels(name, y, error, message):
    refuse(name, good(name) | {"y": y}, error, message)


def test_labels_of_no_classes():
    for name in ("softmax_loss", "svm_loss"):
        arguments = {"x": np.empty((2, 0)), "y": np.zeros(2, int)}
        refuse(name, arguments, ValueError, r"y must hold labels .*x has 0 columns.*; got 0")


# Sizes that no machine has


HUGE = [
    # function, arguments that are changed, message
    ("col2im_cython", {"N": 2**40}, r"cols must have shape \(12, \d+\)"),
    ("col2im_cython", {"C": 2**58}, r"x would have shape .*more than memory can address"),
    ("col2im_cython", {"N": 2**62}, r"x would have shape .*more than memory can address"),
    ("col2im_cython", {"N": 2**31, "C": 2**31}, r"x would have shape .*more than memory can"),
    ("col2im_cython", {"H": 2**62}, r"x would have shape .*more than memory can address"),
    ("col2im_cython", {"N": 0, "H": 2**62}, r"x would have shape .*more than memory can address"),
    ("col2im_cython", {"H": 2**30, "W": 2**30}, r"would have shape .*more than memory can"),
    ("col2im_cython", {"padding": 2**62}, r"x padded would have shape .*more than memory can"),
    ("col2im_cython", {"padding": 2**63 - 1, "stride": 2**63 - 1}, r"x padded would have shape"),
    ("col2im_6d_cython", {"N": 2**40}, r"cols must have shape \(2, 3, 2, \d+, 3, 3\)"),
    ("col2im_6d_cython", {"N": 2**60}, r"x would have shape .*more than memory can address"),
    ("col2im_6d_cython", {"pad": 2**62}, r"x padded would have shape .*more than memory can"),
    ("col2im_6d_cython", {"W": 2**40, "H": 2**40}, r"x would have shape .*more than memory can"),
    ("col2im_indices", {"x_shape": (2**40, 2, 5, 4)}, r"cols must have shape \(12, \d+\)"),
    ("col2im_indices", {"x_shape": (2**60, 2, 5, 4)}, r"x would have shape"),
    ("col2im_indices", {"padding": 2**62}, r"x padded would have shape .*more than memory can"),
    ("im2col_cython", {"padding": 2**62}, r"x padded would have shape .*more than memory can"),
    ("im2col_cython", {"padding": 2**30, "stride": 1}, r"x padded would have shape"),
    ("im2col_cython", {"padding": 2**27, "stride": 1}, r"cols would have shape"),
    ("im2col_indices", {"padding": 2**63 - 1}, r"x padded would have shape"),
    ("get_im2col_indices", {"padding": 2**62}, r"x padded would have shape"),
    ("get_im2col_indices", {"x_shape": (0, 2**62, 5, 4)}, r"x would have shape"),
    *(
        (f"conv_forward_{kind}", {"conv_param": {"stride": stride, "pad": pad}}, message)
        for kind in ("naive", "fast", "strides", "im2col")
        for stride, pad, message in [
            (1, 2**62, r"x padded by conv_param\['pad'\] would have shape .*more than memory"),
            (2**62, 2**62, r"x padded by conv_param\['pad'\] would have shape .*more than memory"),
            (2**63 - 1, 2**63 - 1, r"x padded by conv_param\['pad'\] would have shape"),
            (1, 2**31, r"x padded by conv_param\['pad'\] would have shape"),
            (1, 2**28, r"would have shape .*more than memory can address"),
        ]
    ),
]


@pytest.mark.parametrize(("name", "changed", "message"), HUGE, ids=str)
def test_sizes_that_no_machine_has(name, changed, message):
    refuse(name, good(name) | changed, ValueError, message)


@pytest.mark.parametrize("pad", [0, 1, 3, 50])
@pytest.mark.parametrize("stride", [100, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1])
def test_a_huge_stride_leaves_one_window(stride, pad):
    x, w, b, _ = good("conv_forward_naive").values()
    param = {"stride": stride, "pad": pad}
    out, cache = layers.conv_forward_fast(x, w, b, param)
    expected, expected_cache = reference.conv_forward_naive(x, w, b, param)
    corners = out.shape[2:]
    assert corners == expected.shape[2:] and (corners == (1, 1) or (stride, pad) == (100, 50))
    np.testing.assert_allclose(out, expected, atol=1e-12)
    for a, e in zip(
        layers.conv_backward_fast(out, cache),
        reference.conv_backward_naive(out, expected_cache),
        strict=True,
    ):
        np.testing.assert_allclose(a, e, atol=1e-11)
    np.testing.assert_array_equal(
        np.asarray(cache[4]), reference.im2col_cython(x, 3, 2, pad, stride).reshape(
            12, *corners, 3).transpose(0, 3, 1, 2).reshape(12, -1)
    )  # fmt: skip
    cols = layers.im2col_cython(x, 3, 2, pad, stride)
    np.testing.assert_array_equal(cols, reference.im2col_cython(x, 3, 2, pad, stride))
    np.testing.assert_array_equal(
        layers.col2im_cython(cols, *x.shape, 3, 2, pad, stride),
        reference.col2im_cython(cols, *x.shape, 3, 2, pad, stride),
    )
    np.testing.assert_equal(
        layers.get_im2col_indices(x.shape, 3, 2, pad, stride),
        reference.get_im2col_indices(x.shape, 3, 2, pad, stride),
    )
    if pad == 0:
        param = {"pool_height": 2, "pool_width": 3, "stride": stride}
        out, cache = layers.max_pool_forward_fast(x, param)
        expected, _ = reference.max_pool_forward_naive(x, param)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(
            layers.max_pool_backward_fast(out, cache),
            reference.max_pool_backward_naive(out, (x, param)),
        )


# Caches

WRONG_CACHES = {
    "None": None,
    "a number": 3,
    "a string": "reshape",
    "an empty tuple": (),
    "a tuple of one": (1,),
    "nothing but None": (None, None, None, None, None),
    "a tag and nothing": ("reshape", None),
    "a tag and an empty tuple": ("im2col", ()),
    "an object": object(),
    "a dict": {"x": 1},
    "a generator": (i for i in range(4)),
}


@pytest.mark.parametrize("kind", WRONG_CACHES)
@pytest.mark.parametrize("name", sorted(BACKWARDS))
def test_caches_of_no_layer(name, kind):
    arguments = good(name) | {"cache": WRONG_CACHES[kind]}
    error, message = TypeError, "^(cache|x|dropout_param|conv_param|pool_param) must .*; got "
    if name == "relu_backward" and kind in ("a number", "an empty tuple", "a tuple of one"):
        # These make an array: relu's cache is one.
        error, message = ValueError, r"^dout must have shape .* \(that of x\); got \(3, 4, 5\)$"
    refuse(name, arguments, error, message)


@functools.cache
def _cache_of(forward):
    return getattr(layers, forward)(*good(forward).values())[1]


def _foreign():
    for name in sorted(BACKWARDS):
        own = {f for forwards, backwards, _ in FAMILIES if name in backwards for f in forwards}
        for forward in sorted(FORWARDS - own):
            yield name, forward


@pytest.mark.parametrize(("name", "forward"), list(_foreign()))
def test_caches_of_other_layers(name, forward):
    arguments = good(name) | {"cache": _cache_of(forward)}
    before = _snapshot(arguments["dout"])
    with pytest.raises((TypeError, ValueError)) as caught:
        getattr(layers, name)(*arguments.values())
    assert caught.type in (TypeError, ValueError, _check.MissingKeyError)
    message = str(caught.value)
    assert re.match(r"(cache|x|w|dout|\w+_param) must (be|have|hold) .*(got|it has)", message)
    assert caught.traceback[-1].path.parent.name in ("fastbn", "layers")
    assert _snapshot(arguments["dout"]) == before


def test_pool_caches_with_an_unknown_tag():
    for name in sorted(n for n in BACKWARDS if "max_pool" in n):
        arguments = good(name)
        arguments["cache"] = ("strides", arguments["cache"])
        refuse(name, arguments, ValueError, '^Unrecognized method "strides"$')


def test_a_broken_cache_is_not_trusted(rng):
    """Users put caches together; shapes are checked again on the way back."""
    x, w, b, param = good("conv_forward_naive").values()
    dout = np.ones((3, 4, 3, 3))
    for cache, message in [
        ((x, w[:, :1], b, param), "w must have the 2 channels of x"),
        ((x, w, b[:3], param), r"b must have shape \(4,\)"),
        ((x[0], w, b, param), "x must be"),
        ((x, w, b, {"stride": 0, "pad": 1}), r"conv_param\['stride'\] must be at least 1; got 0"),
        ((x, w, b, {"stride": 1, "pad": 1}), "dout must have shape"),
    ]:
        arguments = {"dout": dout, "cache": cache}
        refuse("conv_backward_naive", arguments, ValueError, message)
    x, w, b = good("affine_forward").values()
    for cache, message in [
        ((x, w[:5], b), "w must have 6 rows"),
        ((x, w, b[:4]), "b must have shape"),
        ((x[:3], w, b), "dout must have shape"),
    ]:
        refuse("affine_backward", {"dout": np.ones((4, 5)), "cache": cache}, ValueError, message)


# All in all


def test_every_function_and_argument_is_tested():
    """A new argument must be put into one of the families above."""
    known = set(_array_arguments())
    known |= {(name, argument) for name, argument, *_ in _integer_arguments()}
    known |= set(PARAMETERS) | {(name, "cache") for name in BACKWARDS}
    known |= {(name, "x_shape") for name in ("get_im2col_indices", "col2im_indices")}
    known |= {(name, "y") for name in ("softmax_loss", "svm_loss")}
    assert known == {
        (name, argument)
        for name, function in public_functions(layers).items()
        for argument in inspect.signature(function).parameters
    }
