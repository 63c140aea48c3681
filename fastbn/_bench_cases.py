"""What ``fastbn bench`` runs: the layers on arrays of some shapes, and the same in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from . import layers


class Case(NamedTuple):
    """A layer on arrays of one shape."""

    forward: Callable[[Any], Any]  # (module of layers) -> out, cache
    backward: str  # its name in a module of layers
    dout: np.ndarray
    torch: Callable[[Any], Any]  # (torch) -> forward, inputs to derive by, dout
    moved: tuple[int, int] = (0, 0)  # numbers that forward and backward cannot but move
    flops: tuple[int, int] = (0, 0)  # or operations


def _normal(dtype, *shape):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def _norm(kind, shape, dtype, groups=None):
    x, dout = _normal(dtype, 2, *shape)
    gamma, beta = _normal(dtype, 2, shape[1])
    extra = (groups, {}) if groups else ({"mode": "train"},)

    def torch_side(torch):
        xt, g, b = (_tensor(torch, a) for a in (x, gamma, beta))
        F = torch.nn.functional
        if kind == "layernorm":
            return lambda: F.layer_norm(xt, shape[1:], g, b), (xt, g, b)
        if groups:
            return lambda: F.group_norm(xt, groups, g, b), (xt, g, b)
        mean, var = torch.zeros_like(g), torch.ones_like(g)
        mean, var = mean.detach(), var.detach()
        return lambda: F.batch_norm(xt, mean, var, g, b, True), (xt, g, b)

    return Case(
        lambda module: getattr(module, f"{kind}_forward")(x, gamma, beta, *extra),
        f"{kind}_backward",
        dout,
        torch_side,
        moved=(2 * x.size, 3 * x.size),
    )


def _pool(shape, size, stride, dtype):
    x = _normal(dtype, *shape)
    param = {"pool_height": size, "pool_width": size, "stride": stride}
    out = layers.max_pool_forward_fast(x, param)[0]

    def torch_side(torch):
        xt = _tensor(torch, x)
        return lambda: torch.nn.functional.max_pool2d(xt, size, stride), (xt,)

    return Case(
        lambda module: module.max_pool_forward_fast(x, param),
        "max_pool_backward_fast",
        _normal(dtype, *out.shape),
        torch_side,
        moved=(x.size + out.size, x.size + out.size),
    )


def _relu(shape, dtype):
    x, dout = _normal(dtype, 2, *shape)

    def torch_side(torch):
        xt = _tensor(torch, x)
        return lambda: torch.nn.functional.relu(xt), (xt,)

    return Case(
        lambda module: module.relu_forward(x),
        "relu_backward",
        dout,
        torch_side,
        moved=(2 * x.size, 3 * x.size),
    )


def _dropout(shape, dtype):
    x, dout = _normal(dtype, 2, *shape)
    param = {"mode": "train", "p": 0.5}

    def torch_side(torch):
        xt = _tensor(torch, x)
        return lambda: torch.nn.functional.dropout(xt, 0.5), (xt,)

    return Case(
        lambda module: module.dropout_forward(x, param),
        "dropout_backward",
        dout,
        torch_side,
        moved=(3 * x.size, 3 * x.size),
    )


def _conv(shape, filters, size, stride, pad, dtype):
    x, w = _normal(dtype, *shape), _normal(dtype, filters, shape[1], size, size) / 10
    b = _normal(dtype, filters)
    param = {"stride": stride, "pad": pad}
    out = layers.conv_forward_fast(x, w, b, param)[0]

    def torch_side(torch):
        xt, wt, bt = (_tensor(torch, a) for a in (x, w, b))
        return lambda: torch.nn.functional.conv2d(xt, wt, bt, stride, pad), (xt, wt, bt)

    flops = 2 * out.size * shape[1] * size * size
    return Case(
        lambda module: module.conv_forward_fast(x, w, b, param),
        "conv_backward_fast",
        _normal(dtype, *out.shape),
        torch_side,
        flops=(flops, 2 * flops),
    )


def _affine(N, D, M, dtype):
    x, w, b = _normal(dtype, N, D), _normal(dtype, D, M), _normal(dtype, M)

    def torch_side(torch):
        xt, wt, bt = (_tensor(torch, a) for a in (x, w, b))
        return lambda: torch.addmm(bt, xt, wt), (xt, wt, bt)

    return Case(
        lambda module: module.affine_forward(x, w, b),
        "affine_backward",
        _normal(dtype, N, M),
        torch_side,
        flops=(2 * N * D * M, 4 * N * D * M),
    )


def _loss(kind, N, C, dtype):
    """A loss gives its gradient at once: all of it is the forward pass."""
    x = _normal(dtype, N, C)
    y = np.random.default_rng(0).integers(C, size=N)

    def torch_side(torch):
        xt, yt = _tensor(torch, x), torch.from_numpy(y)
        F = torch.nn.functional

        def both():
            # PyTorch's margin loss is a mean over classes, too.
            loss = F.cross_entropy(xt, yt) if kind == "softmax" else C * F.multi_margin_loss(xt, yt)
            return torch.autograd.grad(loss, xt)

        return both, None

    return Case(
        lambda module: getattr(module, f"{kind}_loss")(x, y),
        "",
        x,
        torch_side,
        moved=(2 * x.size, 0),
    )


def all_cases():
    """Name -> maker of the case, taking the dtype."""
    sizes = {
        "batchnorm": [(100, 500), (256, 1024), (4096, 1024), (1000, 20000), (333, 1001)],
        "spatial_batchnorm": [
            (8, 512, 7, 7), (32, 128, 14, 14), (64, 64, 32, 32), (64, 64, 56, 56),
        ],
        "layernorm": [(100, 500), (1024, 768), (8192, 64), (64, 4096), (333, 1001)],
    }  # fmt: skip
    for kind, shapes in sizes.items():
        for shape in shapes:
            yield f"{kind} {_times(shape)}", lambda d, k=kind, s=shape: _norm(k, s, d)
    for shape, G in (((32, 64, 32, 32), 8), ((8, 512, 7, 7), 32)):
        yield (
            f"spatial_groupnorm {_times(shape)} G{G}",
            lambda d, s=shape, g=G: _norm("spatial_groupnorm", s, d, g),
        )
    for shape, size, stride in (
        ((100, 32, 32, 32), 2, 2),
        ((64, 64, 56, 56), 2, 2),
        ((64, 64, 56, 56), 3, 2),
        ((64, 64, 56, 56), 3, 1),
        ((16, 64, 13, 13), 3, 2),
    ):
        yield (
            f"max_pool {_times(shape)} {size}x{size}/{stride}",
            lambda d, a=(shape, size, stride): _pool(*a, d),
        )
    for shape in ((100, 500), (1000, 1000), (64, 64, 56, 56)):
        yield f"relu {_times(shape)}", lambda d, s=shape: _relu(s, d)
    for shape in ((100, 500), (1000, 1000)):
        yield f"dropout {_times(shape)}", lambda d, s=shape: _dropout(s, d)
    for kind, shape in (
        ("softmax", (100, 10)),
        ("softmax", (1000, 100)),
        ("softmax", (10000, 1000)),
        ("svm", (1000, 100)),
    ):
        yield f"{kind}_loss {_times(shape)}", lambda d, k=kind, s=shape: _loss(k, *s, d)
    for shape, filters, size, stride, pad in (
        ((100, 3, 31, 31), 25, 3, 2, 1),
        ((50, 3, 32, 32), 32, 7, 1, 3),
        ((16, 3, 224, 224), 64, 7, 2, 3),
        ((64, 64, 56, 56), 64, 1, 1, 0),
        ((100, 32, 32, 32), 32, 3, 1, 1),
        ((64, 64, 32, 32), 64, 3, 1, 1),
        ((32, 128, 28, 28), 128, 3, 1, 1),
        ((32, 256, 14, 14), 256, 3, 1, 1),
        ((64, 96, 27, 27), 256, 5, 1, 2),
        # and shapes on no list
        ((16, 3, 227, 227), 96, 11, 4, 0),
        ((100, 1, 28, 28), 8, 5, 1, 2),
        ((64, 16, 33, 29), 1, 3, 1, 1),
        ((4, 112, 112, 112), 64, 3, 1, 1),
        ((1, 64, 56, 56), 64, 3, 1, 1),
        ((32, 64, 57, 55), 70, 3, 2, 1),
        ((64, 128, 8, 8), 256, 8, 1, 0),
    ):
        yield (
            f"conv {_times(shape)} F{filters} {size}x{size} s{stride} p{pad}",
            lambda d, a=(shape, filters, size, stride, pad): _conv(*a, d),
        )
    for shape in ((100, 3072, 100), (512, 1024, 1024), (10000, 64, 64), (64, 64, 10000)):
        yield f"affine {_times(shape)}", lambda d, s=shape: _affine(*s, d)


def _times(shape):
    return "x".join(map(str, shape))


def _tensor(torch, array):
    return torch.from_numpy(array).clone().requires_grad_(True)
