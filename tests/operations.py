"""One table of the public layer functions with good arguments: what the tests of rules run over.

Arrays are float64, C-ordered and writeable here; a test turns them into what it is about.
"""

import inspect
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastbn import layers


class Operation(NamedTuple):
    """A forward function, a backward function that takes its cache, and arguments."""

    forward: str
    backward: str
    arguments: Callable  # of a Generator; a dict in the order of the signature

    def run(self, module, arguments, dout):
        """(out, *gradients) of `module`'s two functions; `dout` makes the upstream gradient."""
        out, cache = getattr(module, self.forward)(*arguments.values())
        gradients = getattr(module, self.backward)(dout(out), cache)
        return out, *(gradients if isinstance(gradients, tuple) else (gradients,))


def _affine(rng):
    return {
        "x": rng.standard_normal((4, 2, 3)),
        "w": rng.standard_normal((6, 5)),
        "b": rng.standard_normal(5),
    }


def _relu(rng):
    return {"x": rng.standard_normal((3, 4, 5))}


def _statistics(rng, C):
    return {"running_mean": rng.standard_normal(C), "running_var": 1 + rng.random(C)}


def _batchnorm(mode):
    def arguments(rng):
        return {
            "x": 3 * rng.standard_normal((8, 6)),
            "gamma": 2 * rng.standard_normal(6),
            "beta": rng.standard_normal(6),
            "bn_param": {"mode": mode, "eps": 0.01, "momentum": 0.8, **_statistics(rng, 6)},
        }

    return arguments


def _spatial_batchnorm(mode):
    def arguments(rng):
        return {
            "x": 3 * rng.standard_normal((3, 4, 5, 2)),
            "gamma": 2 * rng.standard_normal(4),
            "beta": rng.standard_normal(4),
            "bn_param": {"mode": mode, "eps": 0.01, "momentum": 0.8, **_statistics(rng, 4)},
        }

    return arguments


def _layernorm(rng):
    return {
        "x": 3 * rng.standard_normal((5, 7)),
        "gamma": 2 * rng.standard_normal(7),
        "beta": rng.standard_normal(7),
        "ln_param": {"eps": 0.01},
    }


def _groupnorm(rng):
    return {
        "x": 3 * rng.standard_normal((2, 6, 3, 4)),
        "gamma": 2 * rng.standard_normal((1, 6, 1, 1)),
        "beta": rng.standard_normal((1, 6, 1, 1)),
        "G": 3,
        "gn_param": {"eps": 0.01},
    }


def _dropout(mode):
    def arguments(rng):
        return {
            "x": rng.standard_normal((4, 5, 3)),
            "dropout_param": {"mode": mode, "p": 0.6, "seed": 231},
        }

    return arguments


def _conv(rng):
    return {
        "x": rng.standard_normal((3, 2, 6, 5)),
        "w": rng.standard_normal((4, 2, 3, 2)),
        "b": rng.standard_normal(4),
        "conv_param": {"stride": 2, "pad": 1},
    }


def _pool(shape, height, width, stride):
    def arguments(rng):
        return {
            "x": rng.standard_normal(shape),
            "pool_param": {"pool_height": height, "pool_width": width, "stride": stride},
        }

    return arguments


def _names(pattern, variants):
    return [pattern.format(variant) for variant in variants]


#: Forward functions, backward functions, arguments: any backward takes the cache of any forward.
FAMILIES = [
    (["affine_forward"], ["affine_backward"], _affine),
    (["relu_forward"], ["relu_backward"], _relu),
    *(
        (["batchnorm_forward"], ["batchnorm_backward", "batchnorm_backward_alt"], _batchnorm(mode))
        for mode in ("train", "test")
    ),
    *(
        (["spatial_batchnorm_forward"], ["spatial_batchnorm_backward"], _spatial_batchnorm(mode))
        for mode in ("train", "test")
    ),
    (["layernorm_forward"], ["layernorm_backward"], _layernorm),
    (
        _names("spatial_{}groupnorm_forward", ("", "quick_")),
        _names("spatial_{}groupnorm_backward", ("", "quick_")),
        _groupnorm,
    ),
    *((["dropout_forward"], ["dropout_backward"], _dropout(mode)) for mode in ("train", "test")),
    (
        _names("conv_forward_{}", ("naive", "fast", "strides", "im2col")),
        _names("conv_backward_{}", ("naive", "fast", "strides", "im2col")),
        _conv,
    ),
    (
        _names("max_pool_forward_{}", ("naive", "fast", "reshape", "im2col")),
        _names("max_pool_backward_{}", ("naive", "fast", "reshape", "im2col")),
        _pool((2, 3, 4, 6), 2, 2, 2),
    ),
    (  # overlapping windows
        _names("max_pool_forward_{}", ("naive", "fast", "im2col")),
        _names("max_pool_backward_{}", ("naive", "fast", "im2col")),
        _pool((2, 3, 5, 7), 3, 2, 2),
    ),
]

OPERATIONS = [
    Operation(forward, backward, arguments)
    for forwards, backwards, arguments in FAMILIES
    for forward, backward in itertools.product(forwards, backwards)
]


def operation_id(operation):
    """A name for test ids; the two modes of an operation get the same one, and pytest a number."""
    return f"{operation.forward}-{operation.backward}"


def _loss(rng):
    return {"x": rng.standard_normal((4, 5)), "y": np.array([3, 0, 4, 4])}


def _columns(rng):
    return {"cols": rng.standard_normal((2 * 3 * 2, 3 * 3 * 3)), "N": 3, "C": 2, "H": 5, "W": 4}


_FIELD = {"field_height": 3, "field_width": 2, "padding": 1, "stride": 2}


def _im2col(rng):
    return {"x": rng.standard_normal((3, 2, 5, 4)), **_FIELD}


#: Functions without a backward twin.
OTHERS = {
    "softmax_loss": _loss,
    "svm_loss": _loss,
    "im2col_cython": _im2col,
    "im2col_indices": _im2col,
    "col2im_cython": lambda rng: {**_columns(rng), **_FIELD},
    "col2im_indices": lambda rng: {
        "cols": _columns(rng)["cols"],
        "x_shape": (3, 2, 5, 4),
        **_FIELD,
    },
    "col2im_6d_cython": lambda rng: {
        "cols": rng.standard_normal((2, 3, 2, 3, 3, 3)),
        **{"N": 3, "C": 2, "H": 5, "W": 4, "HH": 3, "WW": 2, "pad": 1, "stride": 2},
    },
    "get_im2col_indices": lambda rng: {"x_shape": (3, 2, 5, 4), **_FIELD},
}


def _backward_arguments(operation):
    def arguments(rng):
        out, cache = getattr(layers, operation.forward)(*operation.arguments(rng).values())
        return {"dout": rng.standard_normal(out.shape), "cache": cache}

    return arguments


#: Every public layer function and good arguments, in training mode where there is a choice.
FUNCTIONS = dict(OTHERS)
for _operation in OPERATIONS:
    FUNCTIONS.setdefault(_operation.forward, _operation.arguments)
    FUNCTIONS.setdefault(_operation.backward, _backward_arguments(_operation))


def public_functions(module):
    """Names of the functions that a star import of `module` gives, with the functions."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


def map_arrays(function, arguments):
    """`arguments` with `function` applied to every array of floats; dicts are copied."""
    result = {}
    for name, value in arguments.items():
        if isinstance(value, dict):
            value = map_arrays(function, value)
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            value = function(value)
        result[name] = value
    return result


def arrays_in(arguments):
    """The arrays of floats, also those within dicts."""
    found = []
    map_arrays(lambda array: found.append(array) or array, arguments)
    return found
