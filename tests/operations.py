"""One table of the public layer functions with good arguments: what the tests of rules run over.

Arrays are float64, C-ordered and writeable here (`fastbn._arguments`); a test turns them into what
it is about.
"""

import inspect
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastbn import _arguments as arguments
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
        return out, *as_tuple(gradients)


def as_tuple(results):
    """What a function returns, as a tuple."""
    return results if isinstance(results, tuple) else (results,)


def _names(pattern, variants):
    return [pattern.format(variant) for variant in variants]


#: Forward functions, backward functions, arguments: any backward takes the cache of any forward.
FAMILIES = [
    (["affine_forward"], ["affine_backward"], arguments.affine((4, 2, 3), 5)),
    (["relu_forward"], ["relu_backward"], arguments.relu((3, 4, 5))),
    *(
        (
            ["batchnorm_forward"],
            ["batchnorm_backward", "batchnorm_backward_alt"],
            arguments.batchnorm(mode, (8, 6)),
        )
        for mode in ("train", "test")
    ),
    *(
        (
            ["spatial_batchnorm_forward"],
            ["spatial_batchnorm_backward"],
            arguments.batchnorm(mode, (3, 4, 5, 2)),
        )
        for mode in ("train", "test")
    ),
    (["layernorm_forward"], ["layernorm_backward"], arguments.layernorm((5, 7))),
    (
        _names("spatial_{}groupnorm_forward", ("", "quick_")),
        _names("spatial_{}groupnorm_backward", ("", "quick_")),
        arguments.groupnorm((2, 6, 3, 4), 3),
    ),
    *(
        (["dropout_forward"], ["dropout_backward"], arguments.dropout(mode, (4, 5, 3)))
        for mode in ("train", "test")
    ),
    (
        _names("conv_forward_{}", ("naive", "fast", "strides", "im2col")),
        _names("conv_backward_{}", ("naive", "fast", "strides", "im2col")),
        arguments.conv((3, 2, 6, 5), (4, 2, 3, 2), 2, 1),
    ),
    (
        _names("max_pool_forward_{}", ("naive", "fast", "reshape", "im2col")),
        _names("max_pool_backward_{}", ("naive", "fast", "reshape", "im2col")),
        arguments.pool((2, 3, 4, 6), 2, 2, 2),
    ),
    (  # overlapping windows
        _names("max_pool_forward_{}", ("naive", "fast", "im2col")),
        _names("max_pool_backward_{}", ("naive", "fast", "im2col")),
        arguments.pool((2, 3, 5, 7), 3, 2, 2),
    ),
]

OPERATIONS = [
    Operation(forward, backward, make)
    for forwards, backwards, make in FAMILIES
    for forward, backward in itertools.product(forwards, backwards)
]


def operation_id(operation):
    """A name for test ids; the two modes of an operation get the same one, and pytest a number."""
    return f"{operation.forward}-{operation.backward}"


_FIELD = ((3, 2, 5, 4), 3, 2, 1, 2)

#: Functions without a backward twin.
OTHERS = {
    "softmax_loss": arguments.loss(4, 5),
    "svm_loss": arguments.loss(4, 5),
    "im2col_cython": arguments.im2col(*_FIELD),
    "im2col_indices": arguments.im2col(*_FIELD),
    "col2im_cython": arguments.col2im_lengths(*_FIELD),
    "col2im_indices": arguments.col2im(*_FIELD),
    "col2im_6d_cython": arguments.col2im_6d(*_FIELD),
    "get_im2col_indices": arguments.im2col_places(*_FIELD),
}


def _backward_arguments(operation):
    def make(rng):
        out, cache = getattr(layers, operation.forward)(*operation.arguments(rng).values())
        return {"dout": rng.standard_normal(out.shape), "cache": cache}

    return make


#: Every public layer function and good arguments, in training mode where there is a choice.
FUNCTIONS = dict(OTHERS)
for _operation in OPERATIONS:
    FUNCTIONS.setdefault(_operation.forward, _operation.arguments)
    FUNCTIONS.setdefault(_operation.backward, _backward_arguments(_operation))


def _affine(rng):
    return {
        "x": rng.standard_normal((5, 2, 3)),
        "w": rng.standard_normal((6, 4)),
        "b": rng.standard_normal(4),
    }


def _conv(rng):
    return {
        "x": rng.standard_normal((2, 3, 6, 4)),
        "w": rng.standard_normal((4, 3, 3, 3)),
        "b": rng.standard_normal(4),
    }


def _norm(rng):
    return {"gamma": 1 + rng.random(4), "beta": rng.standard_normal(4)}


_CONV = {"conv_param": {"stride": 1, "pad": 1}}
#: A composed layer of layer_utils, without `_forward`, and good arguments of it.
COMPOSED = {
    "affine_relu": _affine,
    "affine_bn_relu": lambda rng: {**_affine(rng), **_norm(rng), "bn_param": {"mode": "train"}},
    "affine_ln_relu": lambda rng: {**_affine(rng), **_norm(rng), "ln_param": {}},
    "conv_relu": lambda rng: {**_conv(rng), **_CONV},
    "conv_bn_relu": lambda rng: {
        **_conv(rng),
        **_norm(rng),
        **_CONV,
        "bn_param": {"mode": "train"},
    },
    "conv_relu_pool": lambda rng: {
        **_conv(rng),
        **_CONV,
        "pool_param": {"pool_height": 2, "pool_width": 2, "stride": 2},
    },
}


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
