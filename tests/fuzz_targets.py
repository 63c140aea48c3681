"""What `fuzzing.py` calls: public functions, their twins, and good arguments of random shapes."""

import types
from collections.abc import Callable
from typing import NamedTuple

from fuzz_users import USERS

import fastbn
from fastbn import _arguments as make
from fastbn import (
    convert,
    gradient_check,
    layer_utils,
    layers,
    optim,
    reference,
    vis_utils,
)

#: Lengths of axes: none, one, odd, around vectors and tiles.
LENGTHS = (0, 1, 1, 2, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 33)


class Target(NamedTuple):
    """A function, what it has to equal, and a maker of good arguments of random shapes."""

    forward: str
    backward: str | None
    module: object
    twin: object
    shapes: Callable  # of a Random: a maker as in `fastbn._arguments`
    strict: bool = True  # good arguments are taken, and no number in them makes a warning
    refusals: tuple[type[Exception], ...] = ()  # besides ValueError and TypeError
    share: float = 1  # of the calls; less for what takes tens of milliseconds


def _lengths(random, count, most=2000):
    """`count` lengths whose product is not too much."""
    lengths = []
    for _ in range(count):
        lengths.append(random.choice([n for n in LENGTHS if n <= max(1, most)]))
        most //= max(1, lengths[-1])
    return tuple(lengths)


def _affine(random):
    return make.affine(_lengths(random, random.randint(2, 4)), random.choice(LENGTHS))


def _relu(random):
    return make.relu(_lengths(random, random.randint(0, 5)))


def _batchnorm(random):
    return make.batchnorm(random.choice(("train", "test")), _lengths(random, 2))


def _spatial(random):
    return make.batchnorm(random.choice(("train", "test")), _lengths(random, 4))


def _layernorm(random):
    return make.layernorm(_lengths(random, 2))


def _groupnorm(random):
    N, C, H, W = _lengths(random, 4)
    divisors = [g for g in range(1, C + 1) if C % g == 0] or [1]
    return make.groupnorm((N, C, H, W), random.choice(divisors))


def _dropout(random):
    return make.dropout(random.choice(("train", "test")), _lengths(random, random.randint(1, 4)))


def _field(random, H, W):
    """Filter height and width, stride and pad that fit an image."""
    pad = random.choice((0, 0, 1, 1, 2, 3))
    stride = random.choice((1, 1, 1, 2, 2, 3, 4, 6))
    if min(H, W) + 2 * pad < 1:
        pad = 1
    height = random.randint(1, min(H + 2 * pad, 11))
    width = random.randint(1, min(W + 2 * pad, 11))
    return height, width, stride, pad


def _conv(random):
    N, C, H, W = _lengths(random, 4)
    height, width, stride, pad = _field(random, H, W)
    F = random.choice(LENGTHS)
    return make.conv((N, C, H, W), (F, C, height, width), stride, pad)


def _pool(random):
    N, C, H, W = _lengths(random, 4)
    H, W = max(H, 1), max(W, 1)
    height, width = random.randint(1, min(H, 8)), random.randint(1, min(W, 8))
    return make.pool((N, C, H, W), height, width, random.choice((1, 2, 3, height)))


def _pool_tiled(random):
    N, C, H, W = _lengths(random, 4, 400)
    size = random.choice((1, 2, 3))
    return make.pool((N, C, max(1, H) * size, max(1, W) * size), size, size, size)


def _loss(random):
    N, C = _lengths(random, 2)
    return make.loss(N, max(1, C))


def _window(random):
    shape = _lengths(random, 4, 500)
    height, width, stride, pad = _field(random, *shape[2:])
    return shape, height, width, pad, stride


def _conv_bn(random):
    def arguments(rng):
        first = _conv(random)(rng)
        param = first.pop("conv_param")
        C = len(first["b"])
        norm = {"gamma": rng.standard_normal(C), "beta": rng.standard_normal(C)}
        return {**first, **norm, "conv_param": param, "bn_param": {"mode": "train"}}

    return arguments


def _conv_pool(random):
    def arguments(rng):
        first = _conv(random)(rng)
        x, w, param = first["x"], first["w"], first["conv_param"]
        H, W = ((x.shape[i] + 2 * param["pad"] - w.shape[i]) // param["stride"] + 1 for i in (2, 3))
        height, width = random.randint(1, H), random.randint(1, W)
        window = {"pool_height": height, "pool_width": width, "stride": random.randint(1, 3)}
        return {**first, "pool_param": window}

    return arguments


def _affine_norm(param, value):
    def shapes(random):
        N, D, M = _lengths(random, 3)
        return make.joined(
            make.affine((N, D), M),
            lambda rng: {
                **{"gamma": rng.standard_normal(M), "beta": rng.standard_normal(M)},
                param: dict(value),
            },
        )

    return shapes


#: Parts of a composed layer, and which arguments each takes after what the one before gives.
PARTS = {
    "affine": ("affine", ("x", "w", "b")),
    "conv": ("conv", ("x", "w", "b", "conv_param")),
    "bn": ("batchnorm", ("gamma", "beta", "bn_param")),
    "ln": ("layernorm", ("gamma", "beta", "ln_param")),
    "relu": ("relu", ()),
    "pool": ("max_pool", ("pool_param",)),
}


def _twin(name):
    """A composed layer of the reference's parts."""
    parts = name.split("_")
    steps = []
    for part in parts:
        function, wanted = PARTS[part]
        spatial = "spatial_" if part == "bn" and parts[0] == "conv" else ""
        variant = "_fast" if part in ("conv", "pool") else ""
        forward, backward = (
            getattr(reference, f"{spatial}{function}_{way}{variant}")
            for way in ("forward", "backward")
        )
        steps.append((forward, backward, wanted))
    order = [key for *_, wanted in steps for key in wanted]
    order.sort(key=lambda key: key.endswith("_param"))  # as in the signatures

    def run_forward(*values):
        given = dict(zip(order, values, strict=True))
        out, caches = (), []
        for forward, _, wanted in steps:
            out, cache = forward(*out, *(given[key] for key in wanted))
            out = (out,)
            caches.append(cache)
        return *out, caches

    def run_backward(dout, caches):
        rest = ()
        for (_, backward, _), cache in zip(reversed(steps), reversed(caches), strict=True):
            gradients = backward(dout, cache)
            if isinstance(gradients, tuple):
                dout, *more = gradients
                rest = *more, *rest
            else:
                dout = gradients
        return dout, *rest

    return types.SimpleNamespace(
        **{f"{name}_forward": run_forward, f"{name}_backward": run_backward}
    )


def _rule(*states):
    def shapes(random):
        shape = _lengths(random, random.randint(0, 3))

        def arguments(rng):
            config = {"learning_rate": 1e-2}
            for name in states if random.random() < 0.5 else ():
                config[name] = 3 if name == "t" else rng.random(shape)
            return {
                "w": rng.standard_normal(shape),
                "dw": rng.standard_normal(shape),
                "config": config,
            }

        return arguments

    return shapes


def _to_conv(random):
    C, H, W = _lengths(random, 3, 100)
    F = random.choice(LENGTHS)
    return lambda rng: {
        "w": rng.standard_normal((C * H * W, F)),
        "b": rng.standard_normal(F),
        "input_shape": (C, H, W),
    }


def _two_alike(random):
    shape = _lengths(random, random.randint(0, 3))
    return lambda rng: {"x": rng.standard_normal(shape), "y": rng.standard_normal(shape)}


def _pictures(random):
    N, H, W = _lengths(random, 3, 200)
    return lambda rng: {
        "Xs": rng.standard_normal((N, H, W, 3)),
        "ubound": 255.0,
        "padding": random.randrange(3),
    }


def _setting(*good):
    return lambda random: lambda rng: {"value": random.choice(good)}


def _targets():
    def add(forward, backward, shapes, module=layers, twin=reference):
        strict = module in (layers, layer_utils)
        found.append(Target(forward, backward, module, twin, shapes, strict))

    found: list[Target] = []
    for name, shapes in {
        "affine": _affine,
        "relu": _relu,
        "batchnorm": _batchnorm,
        "spatial_batchnorm": _spatial,
        "layernorm": _layernorm,
        "spatial_groupnorm": _groupnorm,
        "spatial_quick_groupnorm": _groupnorm,
        "dropout": _dropout,
    }.items():
        add(f"{name}_forward", f"{name}_backward", shapes)
    add("batchnorm_forward", "batchnorm_backward_alt", _batchnorm)
    for variant in ("naive", "fast", "strides", "im2col"):
        add(f"conv_forward_{variant}", f"conv_backward_{variant}", _conv)
    for variant in ("naive", "fast", "im2col"):
        add(f"max_pool_forward_{variant}", f"max_pool_backward_{variant}", _pool)
    add("max_pool_forward_reshape", "max_pool_backward_reshape", _pool_tiled)
    for name in ("softmax_loss", "svm_loss"):
        add(name, None, _loss)
    for name, maker in {
        "im2col_cython": make.im2col,
        "im2col_indices": make.im2col,
        "col2im_cython": make.col2im_lengths,
        "col2im_indices": make.col2im,
        "col2im_6d_cython": make.col2im_6d,
        "get_im2col_indices": make.im2col_places,
    }.items():
        add(name, None, lambda random, maker=maker: maker(*_window(random)))
    for name, shapes in {
        "affine_relu": _affine,
        "affine_bn_relu": _affine_norm("bn_param", {"mode": "train"}),
        "affine_ln_relu": _affine_norm("ln_param", {"eps": 1e-4}),
        "conv_relu": _conv,
        "conv_bn_relu": _conv_bn,
        "conv_relu_pool": _conv_pool,
    }.items():
        add(f"{name}_forward", f"{name}_backward", shapes, layer_utils, _twin(name))
    for name, states in {
        "sgd": (),
        "sgd_momentum": ("velocity",),
        "rmsprop": ("cache",),
        "adam": ("m", "v", "t"),
    }.items():
        add(name, None, _rule(*states), optim, None)
    add("affine_to_conv", None, _to_conv, convert, None)
    add("rel_error", None, _two_alike, gradient_check, None)
    add("visualize_grid", None, _pictures, vis_utils, None)
    add("set_num_threads", None, _setting(1, 2, 3, 5, None), fastbn, None)
    add("set_conv_algorithm", None, _setting("auto", "direct"), fastbn, None)
    add("set_dropout_convention", None, _setting("keep"), fastbn, None)
    add("set_reuse_limit", None, _setting(0, 1 << 20, 1 << 28), fastbn, None)
    functions = types.SimpleNamespace(**{name: user.call for name, user in USERS.items()})
    for name, user in USERS.items():

        def shapes(random, good=user.good):
            return lambda rng: good(random)

        found.append(
            Target(name, None, functions, None, shapes, user.strict, user.refusals, user.share)
        )
    return found


TARGETS = _targets()
