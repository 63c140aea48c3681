"""What is swapped: the course's functions by the module they live in, and what belongs together."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import _arguments as arguments
from .. import layer_utils

Shape = arguments.Shape
Maker = arguments.Maker


class Probe(NamedTuple):
    """Arguments on which two implementations must agree."""

    make: Maker
    where: str = ""
    #: Where right functions may differ, and are left then, but not wrong.
    convention: bool = False
    #: In test mode the course needs no gradient.
    backward: bool = True


class Pair(NamedTuple):
    """A forward function with its backward ones, or a function that has none."""

    functions: tuple[str, ...]
    #: What backward returns; of a lone function what it returns.
    results: tuple[str, ...]
    probes: tuple[Probe, ...]
    #: Arguments to take the time with.
    timed: Maker


class Group(NamedTuple):
    """Functions that are swapped together or not at all, and the module that defines them."""

    home: str
    pairs: tuple[Pair, ...]
    #: Of a composed layer: the functions that its forward pass calls, in order.
    calls: tuple[str, ...] = ()

    @property
    def functions(self) -> list[str]:
        """All names."""
        return [name for pair in self.pairs for name in pair.functions]


def _pair(
    name: str,
    results: str,
    timed: Maker,
    *probes: Probe,
    backwards: tuple[str, ...] = ("backward",),
    pattern: str = "{0}_{1}",
) -> Pair:
    functions = tuple(pattern.format(name, way) for way in ("forward", *backwards))
    return Pair(functions, tuple(results.split()), probes, timed)


_GRADIENTS = "dx dw db"
_NORM_GRADIENTS = "dx dgamma dbeta"
_FIELD = (3, 3, 1, 2)  # square: the course's compiled im2col is wrong for others


def _conv(name: str, timed: Maker, *probes: Probe) -> Pair:
    small = Probe(arguments.conv((3, 2, 5, 7), (4, 2, 3, 3), 2, 1))
    return _pair(name, _GRADIENTS, timed, small, *probes, pattern="conv_{1}_{0}")


def _pool(name: str, timed: Maker, *probes: Probe) -> Pair:
    small = Probe(arguments.pool((2, 3, 4, 6), 2, 2, 2))
    return _pair(name, "dx", timed, small, *probes, pattern="max_pool_{1}_{0}")


def _ties(rng: Any) -> dict[str, Any]:
    param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    return {"x": rng.integers(0, 3, (2, 3, 6, 6)).astype(float), "pool_param": param}


def _zeros(rng: Any) -> dict[str, Any]:
    return {"x": rng.integers(-1, 2, (4, 5)).astype(float)}


def _norm(
    name: str,
    make: Callable[[str, Shape], Maker],
    small: Shape,
    large: Shape,
    backwards: tuple[str, ...] = ("backward",),
) -> Pair:
    return _pair(
        name,
        _NORM_GRADIENTS,
        make("train", large),
        Probe(make("train", small)),
        Probe(make("test", small), "in test mode", backward=False),
        backwards=backwards,
    )


def _groupnorm(name: str) -> Pair:
    make = arguments.groupnorm
    small = Probe(make((2, 6, 3, 4), 3))
    return _pair(name, _NORM_GRADIENTS, make((16, 32, 16, 16), 4), small)


def _one(name: str, results: str, small: Maker, large: Maker) -> Pair:
    return Pair((name,), tuple(results.split()), (Probe(small),), large)


def _composed(name: str, results: str, *makers: Callable[[int], Maker]) -> Pair:
    """`makers` take 0 for the small arguments and 1 for the large ones."""
    small, large = (arguments.joined(*(make(size) for make in makers)) for size in (0, 1))
    return _pair(name, results, large, Probe(small))


def _affine_of(size: int) -> Maker:
    return arguments.affine(*(((4, 2, 3), 5), ((200, 1000), 100))[size])


def _conv_of(size: int) -> Maker:
    return arguments.conv(*(((3, 2, 4, 6), (4, 2, 3, 3)), ((50, 3, 32, 32), (32, 3, 3, 3)))[size],
                          1, 1)  # fmt: skip


def _norm_of(width: Shape) -> Callable[[int], Maker]:
    return lambda size: arguments.batchnorm("train", (2, width[size]))


def _layernorm_of(size: int) -> Maker:
    return arguments.layernorm((2, (5, 100)[size]))


def _pool_of(size: int) -> Maker:
    return arguments.pool((1, 1, 2, 2), 2, 2, 2)


_BIG_CONV = arguments.conv((50, 3, 32, 32), (32, 3, 3, 3), 1, 1)
_BIG_POOL = arguments.pool((50, 32, 32, 32), 2, 2, 2)
# Loops in Python are slow.
_SLOW_CONV = arguments.conv((4, 3, 16, 16), (8, 3, 3, 3), 1, 1)
_SLOW_POOL = arguments.pool((4, 8, 16, 16), 2, 2, 2)
_IMAGES = (20, 8, 32, 32)

GROUPS = (
    Group("layers", (
        _pair("affine", _GRADIENTS, _affine_of(1), Probe(_affine_of(0))),
    )),
    Group("layers", (
        _pair("relu", "dx", arguments.relu((1000, 1000)), Probe(arguments.relu((3, 4, 5))),
              Probe(_zeros, "at x = 0", convention=True)),
    )),
    Group("layers", (
        _norm("batchnorm", arguments.batchnorm, (8, 6), (500, 500),
              ("backward", "backward_alt")),
    )),
    Group("layers", (
        _norm("spatial_batchnorm", arguments.batchnorm, (3, 4, 5, 2), (16, 32, 16, 16)),
    )),
    Group("layers", (
        _pair("layernorm", _NORM_GRADIENTS, arguments.layernorm((500, 500)),
              Probe(arguments.layernorm((5, 7)))),
    )),
    Group("layers", (_groupnorm("spatial_groupnorm"),)),
    Group("layers", (_groupnorm("spatial_quick_groupnorm"),)),
    Group("layers", (
        _pair("dropout", "dx", arguments.dropout("train", (1000, 1000)),
              Probe(arguments.dropout("train", (40, 50))),
              Probe(arguments.dropout("test", (4, 5, 3)), "in test mode")),
    )),
    Group("layers", (
        _conv("naive", _SLOW_CONV,
              Probe(arguments.conv((3, 2, 5, 6), (4, 2, 3, 2), 1, 0),
                    "with filters that are not square")),
    )),
    Group("layers", (
        _pool("naive", _SLOW_POOL,
              Probe(arguments.pool((2, 3, 5, 7), 3, 3, 2), "on overlapping windows"),
              Probe(_ties, "at tied maxima", convention=True)),
    )),
    Group("layers", (
        _one("softmax_loss", "loss dx", arguments.loss(5, 4), arguments.loss(1000, 100)),
    )),
    Group("layers", (
        _one("svm_loss", "loss dx", arguments.loss(5, 4), arguments.loss(1000, 100)),
    )),
    Group("fast_layers", (
        _conv("fast", _BIG_CONV), _conv("strides", _BIG_CONV), _conv("im2col", _BIG_CONV),
    )),
    Group("fast_layers", (
        _pool("fast", _BIG_POOL), _pool("reshape", _BIG_POOL), _pool("im2col", _BIG_POOL),
    )),
    Group("im2col", (
        _one("get_im2col_indices", "k i j", arguments.im2col_places((3, 2, 5, 7), *_FIELD),
             arguments.im2col_places(_IMAGES, 3, 3, 1, 1)),
        _one("im2col_indices", "cols", arguments.im2col((3, 2, 5, 7), *_FIELD),
             arguments.im2col(_IMAGES, 3, 3, 1, 1)),
        _one("col2im_indices", "x", arguments.col2im((3, 2, 5, 7), *_FIELD),
             arguments.col2im(_IMAGES, 3, 3, 1, 1)),
    )),
    Group("im2col_cython", (
        _one("im2col_cython", "cols", arguments.im2col((3, 2, 5, 7), *_FIELD),
             arguments.im2col(_IMAGES, 3, 3, 1, 1)),
        _one("col2im_cython", "x", arguments.col2im_lengths((3, 2, 5, 7), *_FIELD),
             arguments.col2im_lengths(_IMAGES, 3, 3, 1, 1)),
        _one("col2im_6d_cython", "x", arguments.col2im_6d((3, 2, 5, 7), *_FIELD),
             arguments.col2im_6d(_IMAGES, 3, 3, 1, 1)),
    )),
    Group("layer_utils", (_composed("affine_relu", _GRADIENTS, _affine_of),),
          ("affine_forward", "relu_forward")),
    Group("layer_utils", (
        _composed("affine_bn_relu", _GRADIENTS + " dgamma dbeta", _affine_of, _norm_of((5, 100))),
    ), ("affine_forward", "batchnorm_forward", "relu_forward")),
    Group("layer_utils", (
        _composed("affine_ln_relu", _GRADIENTS + " dgamma dbeta", _affine_of, _layernorm_of),
    ), ("affine_forward", "layernorm_forward", "relu_forward")),
    Group("layer_utils", (_composed("conv_relu", _GRADIENTS, _conv_of),),
          ("conv_forward_fast", "relu_forward")),
    Group("layer_utils", (
        _composed("conv_bn_relu", _GRADIENTS + " dgamma dbeta", _conv_of, _norm_of((4, 32))),
    ), ("conv_forward_fast", "spatial_batchnorm_forward", "relu_forward")),
    Group("layer_utils", (_composed("conv_relu_pool", _GRADIENTS, _conv_of, _pool_of),),
          ("conv_forward_fast", "relu_forward", "max_pool_forward_fast")),
)  # fmt: skip

#: The course's modules that functions are taken from, in the order of import.
HOMES = ("layers", "im2col", "fast_layers", "layer_utils", "im2col_cython")

#: Complete in what the course hands out: there is no homework in them.
GIVEN = ("fast_layers", "im2col", "im2col_cython")

GROUP_OF = {name: group for group in GROUPS for name in group.functions}

OURS = {name: getattr(layer_utils, name) for name in GROUP_OF}


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any]] | None:
    """Names and defaults of the parameters, or None if that cannot be known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    stars: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    return [(stars.get(p.kind, "") + p.name, p.default) for p in signature.parameters.values()]


def misfit(name: str, theirs: Any) -> str:
    """Why a function cannot be replaced by ours of that name, from the outside; "" if it can."""
    if not callable(theirs) or inspect.isclass(theirs):
        return f"is no function: {type(theirs).__name__}"
    got, expected = parameters(theirs), parameters(OURS[name])
    if got is None or expected is None:
        # Compiled functions have no signature. The course's own are in a module of their own.
        return "" if GROUP_OF[name].home == "im2col_cython" else "its parameters cannot be known"
    if got != expected:
        here, there = (", ".join(_written(p) for p in ps) for ps in (got, expected))
        return f"takes ({here}), fastbn's takes ({there})"
    return ""


def _written(parameter: tuple[str, Any]) -> str:
    name, default = parameter
    return name if default is inspect.Parameter.empty else f"{name}={default!r}"


def calls_others(name: str, theirs: Any) -> str:
    """Why a composed layer is not the course's: it calls something else; "" if it is."""
    # A user's helper of this name may do what it likes. What it is made of is swapped anyway.
    calls = GROUP_OF[name].calls
    called = getattr(getattr(theirs, "__code__", None), "co_names", ())
    if name.endswith("_backward"):  # its calls may be nested: they stand in any order
        calls = tuple(call.replace("_forward", "_backward") for call in reversed(calls))
        called = tuple(sorted((c.removesuffix("_alt") for c in called), key=_index_in(calls)))
    if called == calls:
        return ""
    return f"is not the course's, which calls {', '.join(calls)} and nothing else"


def _index_in(names: tuple[str, ...]) -> Callable[[str], int]:
    return lambda name: names.index(name) if name in names else len(names)
