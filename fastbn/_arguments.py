"""Good arguments of the layer functions, in the order of their signatures.

Each function here takes shapes and returns a maker: of a ``numpy.random.Generator``, a dict of
arguments. ``fastbn verify`` runs a course's functions on them, and the tests run ours. Arrays are
float64, C-ordered and writeable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Shape = tuple[int, ...]
#: Of a ``numpy.random.Generator``, a dict of arguments.
Maker = Callable[[Any], dict[str, Any]]


def affine(shape: Shape, width: int) -> Maker:
    """x of a shape, `width` columns of w."""
    return lambda rng: {
        "x": rng.standard_normal(shape),
        "w": rng.standard_normal((math.prod(shape[1:]), width)),
        "b": rng.standard_normal(width),
    }


def relu(shape: Shape) -> Maker:
    """x of a shape."""
    return lambda rng: {"x": rng.standard_normal(shape)}


def batchnorm(mode: str, shape: Shape) -> Maker:
    """(N, D) or, for the spatial one, (N, C, H, W)."""

    def arguments(rng: Any) -> dict[str, Any]:
        x = 3 * rng.standard_normal(shape)
        C = shape[1]
        gamma, beta = 2 * rng.standard_normal(C), rng.standard_normal(C)
        running = {"running_mean": rng.standard_normal(C), "running_var": 1 + rng.random(C)}
        bn_param = {"mode": mode, "eps": 0.01, "momentum": 0.8, **running}
        return {"x": x, "gamma": gamma, "beta": beta, "bn_param": bn_param}

    return arguments


def layernorm(shape: Shape) -> Maker:
    """(N, D)."""
    return lambda rng: {
        "x": 3 * rng.standard_normal(shape),
        "gamma": 2 * rng.standard_normal(shape[1]),
        "beta": rng.standard_normal(shape[1]),
        "ln_param": {"eps": 0.01},
    }


def groupnorm(shape: Shape, G: int) -> Maker:
    """(N, C, H, W); gamma and beta as the course's notebooks have them."""
    return lambda rng: {
        "x": 3 * rng.standard_normal(shape),
        "gamma": 2 * rng.standard_normal((1, shape[1], 1, 1)),
        "beta": rng.standard_normal((1, shape[1], 1, 1)),
        "G": G,
        "gn_param": {"eps": 0.01},
    }


def dropout(mode: str, shape: Shape) -> Maker:
    """p is 0.6, so that it is not its opposite."""
    return lambda rng: {
        "x": rng.standard_normal(shape),
        "dropout_param": {"mode": mode, "p": 0.6, "seed": 231},
    }


def conv(x: Shape, w: Shape, stride: int, pad: int) -> Maker:
    """Shapes of x and w."""
    return lambda rng: {
        "x": rng.standard_normal(x),
        "w": rng.standard_normal(w),
        "b": rng.standard_normal(w[0]),
        "conv_param": {"stride": stride, "pad": pad},
    }


def pool(shape: Shape, height: int, width: int, stride: int) -> Maker:
    """x of a shape, and the window."""
    return lambda rng: {
        "x": rng.standard_normal(shape),
        "pool_param": {"pool_height": height, "pool_width": width, "stride": stride},
    }


def loss(N: int, C: int) -> Maker:
    """Scores and classes."""
    return lambda rng: {"x": rng.standard_normal((N, C)), "y": rng.integers(C, size=N)}


def _places(shape: Shape, height: int, width: int, padding: int, stride: int) -> tuple[int, int]:
    _, _, H, W = shape
    return (H + 2 * padding - height) // stride + 1, (W + 2 * padding - width) // stride + 1


def _window(height: int, width: int, padding: int, stride: int) -> dict[str, int]:
    return {"field_height": height, "field_width": width, "padding": padding, "stride": stride}


def im2col(shape: Shape, *window: int) -> Maker:
    """x of a shape; height, width, padding and stride of the window, here and below."""
    return lambda rng: {"x": rng.standard_normal(shape), **_window(*window)}


def im2col_places(shape: Shape, *window: int) -> Maker:
    """The shape of x instead of x."""
    return lambda rng: {"x_shape": shape, **_window(*window)}


def _columns(rng: Any, shape: Shape, window: Shape) -> Any:
    height, width = window[:2]
    return rng.standard_normal(
        (shape[1] * height * width, shape[0] * math.prod(_places(shape, *window)))
    )


def col2im(shape: Shape, *window: int) -> Maker:
    """Columns of an x of a shape."""
    return lambda rng: {
        "cols": _columns(rng, shape, window),
        "x_shape": shape,
        **_window(*window),
    }


def col2im_lengths(shape: Shape, *window: int) -> Maker:
    """The same with the shape as four numbers."""
    return lambda rng: {
        "cols": _columns(rng, shape, window),
        **dict(zip("NCHW", shape, strict=True)),
        **_window(*window),
    }


def col2im_6d(shape: Shape, height: int, width: int, pad: int, stride: int) -> Maker:
    """Columns with an axis for each of their indices."""
    return lambda rng: {
        "cols": rng.standard_normal(
            (shape[1], height, width, shape[0], *_places(shape, height, width, pad, stride))
        ),
        **dict(zip("NCHW", shape, strict=True)),
        **{"HH": height, "WW": width, "pad": pad, "stride": stride},
    }


def joined(first: Maker, *others: Maker) -> Maker:
    """Arguments of composed layers: those of the first, and of each other what is new."""

    def arguments(rng: Any) -> dict[str, Any]:
        result = first(rng)
        for other in others:
            for name, value in other(rng).items():
                result.setdefault(name, value)
        return result

    return arguments
