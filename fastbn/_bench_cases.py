"""What ``fastbn bench`` and the asv suite run: layers and training steps, the same in PyTorch.

Nothing of fastbn is imported: a case is given the module of layers to run on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """A layer on arrays of one shape."""

    forward: Callable[[Any], Any]  # (module of layers) -> out, cache
    backward: Callable[[Any, Any], Any] | None  # (module of layers, cache) -> gradients
    dout: np.ndarray
    torch: Callable[[Any], Any] | None  # (torch) -> forward, inputs to derive by
    moved: tuple[int, int] = (0, 0)  # numbers that forward and backward cannot but move
    flops: tuple[int, int] = (0, 0)  # or operations
    terms: int = 16  # numbers that each result sums, at least: what rounding errors go by


class Step(NamedTuple):
    """A training step of a net on a batch of images: loss, gradients and Adam's update."""

    net: Callable[[Any, str], Any]  # (package of nets, dtype) -> net
    twin: Callable[[Any], Any]  # (torch) -> the same net there
    shape: tuple[int, ...] = (50, 3, 32, 32)

    def batch(self, dtype):
        """Images and their classes."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal(self.shape).astype(dtype)
        return X, rng.integers(10, size=len(X))


def _normal(dtype, *shape):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def _norm(kind, shape, dtype, groups=None):
    x, dout = _normal(dtype, 2, *shape)
    gamma, beta = _normal(dtype, 2, shape[1])
    extra = (groups, {}) if groups else ({"mode": "train"},)
    statistics = shape[0] * (groups or 1) if groups or kind == "layernorm" else shape[1]

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
        lambda module, cache: getattr(module, f"{kind}_backward")(dout, cache),
        dout,
        torch_side,
        moved=(2 * x.size, 3 * x.size),
        terms=x.size // statistics,
    )


def _pool(shape, size, stride, dtype):
    x = _normal(dtype, *shape)
    param = {"pool_height": size, "pool_width": size, "stride": stride}
    dout = _normal(dtype, *shape[:2], *(1 + (n - size) // stride for n in shape[2:]))

    def torch_side(torch):
        xt = _tensor(torch, x)
        return lambda: torch.nn.functional.max_pool2d(xt, size, stride), (xt,)

    return Case(
        lambda module: module.max_pool_forward_fast(x, param),
        lambda module, cache: module.max_pool_backward_fast(dout, cache),
        dout,
        torch_side,
        moved=(x.size + dout.size, x.size + dout.size),
    )


def _relu(shape, dtype):
    x, dout = _normal(dtype, 2, *shape)

    def torch_side(torch):
        xt = _tensor(torch, x)
        return lambda: torch.nn.functional.relu(xt), (xt,)

    return Case(
        lambda module: module.relu_forward(x),
        lambda module, cache: module.relu_backward(dout, cache),
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
        lambda module, cache: module.dropout_backward(dout, cache),
        dout,
        torch_side,
        moved=(3 * x.size, 3 * x.size),
    )


def _conv(shape, filters, size, stride, pad, dtype):
    x, w = _normal(dtype, *shape), _normal(dtype, filters, shape[1], size, size) / 10
    b = _normal(dtype, filters)
    param = {"stride": stride, "pad": pad}
    dout = _normal(dtype, len(x), filters, *(1 + (n + 2 * pad - size) // stride for n in shape[2:]))

    def torch_side(torch):
        xt, wt, bt = (_tensor(torch, a) for a in (x, w, b))
        return lambda: torch.nn.functional.conv2d(xt, wt, bt, stride, pad), (xt, wt, bt)

    flops = 2 * dout.size * shape[1] * size * size
    return Case(
        lambda module: module.conv_forward_fast(x, w, b, param),
        lambda module, cache: module.conv_backward_fast(dout, cache),
        dout,
        torch_side,
        flops=(flops, 2 * flops),
    )


def _affine(N, D, M, dtype):
    x, w, b = _normal(dtype, N, D), _normal(dtype, D, M), _normal(dtype, M)
    dout = _normal(dtype, N, M)

    def torch_side(torch):
        xt, wt, bt = (_tensor(torch, a) for a in (x, w, b))
        return lambda: torch.addmm(bt, xt, wt), (xt, wt, bt)

    return Case(
        lambda module: module.affine_forward(x, w, b),
        lambda module, cache: module.affine_backward(dout, cache),
        dout,
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
        None,
        x,
        torch_side,
        moved=(2 * x.size, 0),
    )


def _im2col(shape, size, stride, pad, dtype):
    """Columns, and their sums back in an image; PyTorch's `unfold` has another order."""
    x = _normal(dtype, *shape)
    height, width = (1 + (n + 2 * pad - size) // stride for n in shape[2:])
    dout = _normal(dtype, shape[1] * size * size, height * width * len(x))
    return Case(
        lambda module: (module.im2col_cython(x, size, size, pad, stride), None),
        lambda module, cache: module.col2im_cython(dout, *shape, size, size, pad, stride),
        dout,
        None,
        moved=(x.size + dout.size, x.size + dout.size),
    )


def all_steps():
    """Name -> training step."""

    def fully_connected_twin(torch):
        nn, widths = torch.nn, [3 * 32 * 32] + [100] * 5
        hidden = [
            layer
            for a, b in zip(widths, widths[1:], strict=False)
            for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())
        ]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, 10))

    def convolutional_twin(torch):
        nn = torch.nn
        return nn.Sequential(
            nn.Conv2d(3, 32, 7, padding=3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 16 * 16, 100),
            nn.ReLU(),
            nn.Linear(100, 10),
        )

    yield (
        "step of FullyConnectedNet 5x100 batchnorm N50",
        Step(
            lambda nets, dtype: nets.FullyConnectedNet(
                [100] * 5, normalization="batchnorm", dtype=np.dtype(dtype).type
            ),
            fully_connected_twin,
        ),
    )
    yield (
        "step of ThreeLayerConvNet F32 7x7 N50",
        Step(
            lambda nets, dtype: nets.ThreeLayerConvNet(dtype=np.dtype(dtype).type),
            convolutional_twin,
        ),
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
    for shape, size, stride, pad in (((50, 3, 32, 32), 3, 1, 1), ((50, 16, 32, 32), 3, 1, 1)):
        yield (
            f"im2col {_times(shape)} {size}x{size} s{stride} p{pad}",
            lambda d, a=(shape, size, stride, pad): _im2col(*a, d),
        )
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
