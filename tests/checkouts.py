"""Course checkouts in miniature: the layout of each year, with code of our own.

`write(folder, year)` writes a package with every function solved. Tests replace functions by wrong
ones, or take the solution away as the course hands it out.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import fastbn

YEARS = (2016, 2018, 2019, 2020, 2023, 2024)

#: What a student writes, by module. Plain loops, where the course asks for them.
SOLVED = {
    "affine_forward": """
        def affine_forward(x, w, b):
            return x.reshape(len(x), -1) @ w + b, (x, w, b)
    """,
    "affine_backward": """
        def affine_backward(dout, cache):
            x, w, b = cache
            return (dout @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ dout, dout.sum(axis=0)
    """,
    "relu_forward": """
        def relu_forward(x):
            return np.maximum(x, 0), x
    """,
    "relu_backward": """
        def relu_backward(dout, cache):
            return dout * (cache > 0)
    """,
    "softmax_loss": """
        def softmax_loss(x, y):
            e = np.exp(x - x.max(axis=1, keepdims=True))
            p = e / e.sum(axis=1, keepdims=True)
            rows = np.arange(len(x))
            loss = -np.log(p[rows, y]).mean()
            p[rows, y] -= 1
            return loss, p / len(x)
    """,
    "svm_loss": """
        def svm_loss(x, y):
            rows = np.arange(len(x))
            margins = np.maximum(0, x - x[rows, y][:, None] + 1)
            margins[rows, y] = 0
            dx = (margins > 0).astype(float)
            dx[rows, y] = -dx.sum(axis=1)
            return margins.sum() / len(x), dx / len(x)
    """,
    "batchnorm_forward": """
        def batchnorm_forward(x, gamma, beta, bn_param):
            eps, momentum = bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
            mean = bn_param.get("running_mean", np.zeros(x.shape[1]))
            var = bn_param.get("running_var", np.zeros(x.shape[1]))
            cache = None
            if bn_param["mode"] == "train":
                mu, v = x.mean(axis=0), x.var(axis=0)
                xhat = (x - mu) / np.sqrt(v + eps)
                out, cache = gamma * xhat + beta, (xhat, gamma, np.sqrt(v + eps))
                mean, var = (momentum * a + (1 - momentum) * b for a, b in ((mean, mu), (var, v)))
            else:
                out = gamma * (x - mean) / np.sqrt(var + eps) + beta
            bn_param["running_mean"], bn_param["running_var"] = mean, var
            return out, cache
    """,
    "batchnorm_backward": """
        def batchnorm_backward(dout, cache):
            xhat, gamma, std = cache
            d = dout * gamma
            dx = (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0)) / std
            return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
    """,
    "batchnorm_backward_alt": """
        def batchnorm_backward_alt(dout, cache):
            return batchnorm_backward(dout, cache)
    """,
    "layernorm_forward": """
        def layernorm_forward(x, gamma, beta, ln_param):
            std = np.sqrt(x.var(axis=1, keepdims=True) + ln_param.get("eps", 1e-5))
            xhat = (x - x.mean(axis=1, keepdims=True)) / std
            return gamma * xhat + beta, (xhat, gamma, std)
    """,
    "layernorm_backward": """
        def layernorm_backward(dout, cache):
            xhat, gamma, std = cache
            d = dout * gamma
            dx = d - d.mean(axis=1, keepdims=True) - xhat * (d * xhat).mean(axis=1, keepdims=True)
            return dx / std, (dout * xhat).sum(axis=0), dout.sum(axis=0)
    """,
    "dropout_forward": """
        def dropout_forward(x, dropout_param):
            p, mode, mask = dropout_param["p"], dropout_param["mode"], None
            if "seed" in dropout_param:
                np.random.seed(dropout_param["seed"])
            out = x
            if mode == "train":
                mask = (np.random.rand(*x.shape) < p) / p
                out = x * mask
            return out, (dropout_param, mask)
    """,
    "dropout_backward": """
        def dropout_backward(dout, cache):
            dropout_param, mask = cache
            return dout * mask if dropout_param["mode"] == "train" else dout
    """,
    "conv_forward_naive": """
        def conv_forward_naive(x, w, b, conv_param):
            s, p = conv_param["stride"], conv_param["pad"]
            (N, C, H, W), (F, _, HH, WW) = x.shape, w.shape
            xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
            out = np.zeros((N, F, 1 + (H + 2 * p - HH) // s, 1 + (W + 2 * p - WW) // s))
            for n, f, i, j in np.ndindex(*out.shape):
                out[n, f, i, j] = (xp[n, :, i*s:i*s + HH, j*s:j*s + WW] * w[f]).sum() + b[f]
            return out, (x, w, b, conv_param)
    """,
    "conv_backward_naive": """
        def conv_backward_naive(dout, cache):
            x, w, b, conv_param = cache
            s, p = conv_param["stride"], conv_param["pad"]
            xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
            dxp, dw = np.zeros_like(xp), np.zeros_like(w)
            HH, WW = w.shape[2:]
            for n, f, i, j in np.ndindex(*dout.shape):
                here = n, slice(None), slice(i*s, i*s + HH), slice(j*s, j*s + WW)
                dw[f] += dout[n, f, i, j] * xp[here]
                dxp[here] += dout[n, f, i, j] * w[f]
            H, W = x.shape[2:]
            return dxp[:, :, p:p + H, p:p + W], dw, dout.sum(axis=(0, 2, 3))
    """,
    "max_pool_forward_naive": """
        def max_pool_forward_naive(x, pool_param):
            h, w, s = (pool_param[key] for key in ("pool_height", "pool_width", "stride"))
            N, C, H, W = x.shape
            out = np.zeros((N, C, 1 + (H - h) // s, 1 + (W - w) // s))
            for i, j in np.ndindex(*out.shape[2:]):
                out[:, :, i, j] = x[:, :, i*s:i*s + h, j*s:j*s + w].max(axis=(2, 3))
            return out, (x, pool_param)
    """,
    "max_pool_backward_naive": """
        def max_pool_backward_naive(dout, cache):
            x, pool_param = cache
            h, w, s = (pool_param[key] for key in ("pool_height", "pool_width", "stride"))
            dx = np.zeros_like(x)
            for n, c, i, j in np.ndindex(*dout.shape):
                window = x[n, c, i*s:i*s + h, j*s:j*s + w]
                a, b = np.unravel_index(window.argmax(), window.shape)
                dx[n, c, i*s + a, j*s + b] += dout[n, c, i, j]
            return dx
    """,
    "spatial_batchnorm_forward": """
        def spatial_batchnorm_forward(x, gamma, beta, bn_param):
            N, C, H, W = x.shape
            rows = x.transpose(0, 2, 3, 1).reshape(-1, C)
            out, cache = batchnorm_forward(rows, gamma, beta, bn_param)
            return out.reshape(N, H, W, C).transpose(0, 3, 1, 2), cache
    """,
    "spatial_batchnorm_backward": """
        def spatial_batchnorm_backward(dout, cache):
            N, C, H, W = dout.shape
            rows = dout.transpose(0, 2, 3, 1).reshape(-1, C)
            dx, dgamma, dbeta = batchnorm_backward(rows, cache)
            return dx.reshape(N, H, W, C).transpose(0, 3, 1, 2), dgamma, dbeta
    """,
    "spatial_groupnorm_forward": """
        def spatial_groupnorm_forward(x, gamma, beta, G, gn_param):
            groups = x.reshape(len(x) * G, -1)
            std = np.sqrt(groups.var(axis=1, keepdims=True) + gn_param.get("eps", 1e-5))
            xhat = (groups - groups.mean(axis=1, keepdims=True)) / std
            xhat = xhat.reshape(x.shape)
            return gamma * xhat + beta, (xhat, gamma, std, G)
    """,
    "spatial_groupnorm_backward": """
        def spatial_groupnorm_backward(dout, cache):
            xhat, gamma, std, G = cache
            d, h = (a.reshape(len(xhat) * G, -1) for a in (dout * gamma, xhat))
            dx = d - d.mean(axis=1, keepdims=True) - h * (d * h).mean(axis=1, keepdims=True)
            sums = [a.sum(axis=(0, 2, 3), keepdims=True) for a in (dout * xhat, dout)]
            return ((dx / std).reshape(xhat.shape), *sums)
    """,
}

#: Dropout of 2016 and 2017: p is the share dropped.
DROPPING = SOLVED["dropout_forward"].replace(
    "(np.random.rand(*x.shape) < p) / p", "(np.random.rand(*x.shape) > p) / (1 - p)"
)

SINCE_2018 = ("layernorm", "spatial_groupnorm")

IM2COL = """
    import numpy as np

    def get_im2col_indices(x_shape, field_height, field_width, padding=1, stride=1):
        N, C, H, W = x_shape
        out_h = (H + 2 * padding - field_height) {divide} stride + 1
        out_w = (W + 2 * padding - field_width) {divide} stride + 1
        i = np.tile(np.repeat(np.arange(field_height), field_width), C)
        j = np.tile(np.arange(field_width), field_height * C)
        i = i[:, None] + stride * np.repeat(np.arange(out_h), out_w)
        j = j[:, None] + stride * np.tile(np.arange(out_w), int(out_h))
        return np.repeat(np.arange(C), field_height * field_width)[:, None], i, j

    def im2col_indices(x, field_height, field_width, padding=1, stride=1):
        p = padding
        k, i, j = get_im2col_indices(x.shape, field_height, field_width, p, stride)
        cols = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))[:, k, i, j]
        return cols.transpose(1, 2, 0).reshape(field_height * field_width * x.shape[1], -1)

    def col2im_indices(cols, x_shape, field_height=3, field_width=3, padding=1, stride=1):
        (N, C, H, W), p = x_shape, padding
        k, i, j = get_im2col_indices(x_shape, field_height, field_width, p, stride)
        x = np.zeros((N, C, H + 2 * p, W + 2 * p))
        np.add.at(x, (slice(None), k, i, j), cols.reshape(len(k), -1, N).transpose(2, 0, 1))
        return x[:, :, p:p + H, p:p + W]
"""

FAST_LAYERS = """
    import numpy as np
    {torch}
    try:
        from {here}im2col_cython import col2im_cython, im2col_cython
        from {here}im2col_cython import col2im_6d_cython
    except ImportError:
        print("please compile the extension")
    from {here}im2col import *

    def conv_forward_im2col(x, w, b, conv_param):
        s, p = conv_param["stride"], conv_param["pad"]
        N, C, H, W = x.shape
        F, _, h, v = w.shape
        cols = im2col_cython(x, h, v, p, s)
        out = w.reshape(F, -1) @ cols + b[:, None]
        shape = F, (H + 2 * p - h) // s + 1, (W + 2 * p - v) // s + 1, N
        return out.reshape(shape).transpose(3, 0, 1, 2), (x, w, b, conv_param, cols)

    def conv_backward_im2col(dout, cache):
        x, w, b, conv_param, cols = cache
        s, p = conv_param["stride"], conv_param["pad"]
        rows = dout.transpose(1, 2, 3, 0).reshape(len(w), -1)
        dx = col2im_cython(w.reshape(len(w), -1).T @ rows, *x.shape, *w.shape[2:], p, s)
        return dx, (rows @ cols.T).reshape(w.shape), dout.sum(axis=(0, 2, 3))

    def conv_forward_strides(x, w, b, conv_param):
        s, p = conv_param["stride"], conv_param["pad"]
        F, C, h, v = w.shape
        xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        windows = np.lib.stride_tricks.sliding_window_view(xp, (h, v), (2, 3))[:, :, ::s, ::s]
        cols = windows.transpose(1, 4, 5, 0, 2, 3).reshape(C * h * v, -1)
        out = (w.reshape(F, -1) @ cols + b[:, None]).reshape(F, len(x), *windows.shape[2:4])
        return np.ascontiguousarray(out.transpose(1, 0, 2, 3)), (x, w, b, conv_param, cols)

    def conv_backward_strides(dout, cache):
        x, w, b, conv_param, cols = cache
        s, p = conv_param["stride"], conv_param["pad"]
        (F, C, h, v), (N, _, oh, ow) = w.shape, dout.shape
        rows = dout.transpose(1, 0, 2, 3).reshape(F, -1)
        dcols = (w.reshape(F, -1).T @ rows).reshape(C, h, v, N, oh, ow)
        dx = col2im_6d_cython(dcols, *x.shape, h, v, p, s)
        return dx, (rows @ cols.T).reshape(w.shape), dout.sum(axis=(0, 2, 3))

    conv_forward_fast = conv_forward_strides
    conv_backward_fast = conv_backward_strides

    def max_pool_forward_fast(x, pool_param):
        h, w, s = (pool_param[key] for key in ("pool_height", "pool_width", "stride"))
        if h == w == s and x.shape[2] % h == 0 and x.shape[3] % w == 0:
            out, cache = max_pool_forward_reshape(x, pool_param)
            return out, ("reshape", cache)
        out, cache = max_pool_forward_im2col(x, pool_param)
        return out, ("im2col", cache)

    def max_pool_backward_fast(dout, cache):
        method, cache = cache
        if method == "reshape":
            return max_pool_backward_reshape(dout, cache)
        return max_pool_backward_im2col(dout, cache)

    def max_pool_forward_reshape(x, pool_param):
        N, C, H, W = x.shape
        s = pool_param["stride"]
        tiles = x.reshape(N, C, H // s, s, W // s, s)
        out = tiles.max(axis=(3, 5))
        return out, (x, tiles, out)

    def max_pool_backward_reshape(dout, cache):
        x, tiles, out = cache
        mask = tiles == out[:, :, :, None, :, None]
        share = dout[:, :, :, None, :, None] / mask.sum(axis=(3, 5), keepdims=True)
        return (mask * share).reshape(x.shape)

    def max_pool_forward_im2col(x, pool_param):
        return im2col(x, pool_param)  # a name that no year has

    def max_pool_backward_im2col(dout, cache):
        return col2im(dout, cache)
"""

LAYER_UTILS = """
    from {here}layers import *
    from {here}fast_layers import *

    def affine_relu_forward(x, w, b):
        a, fc_cache = affine_forward(x, w, b)
        out, relu_cache = relu_forward(a)
        return out, (fc_cache, relu_cache)

    def affine_relu_backward(dout, cache):
        fc_cache, relu_cache = cache
        return affine_backward(relu_backward(dout, relu_cache), fc_cache)

    def conv_relu_forward(x, w, b, conv_param):
        a, conv_cache = conv_forward_fast(x, w, b, conv_param)
        out, relu_cache = relu_forward(a)
        return out, (conv_cache, relu_cache)

    def conv_relu_backward(dout, cache):
        conv_cache, relu_cache = cache
        return conv_backward_fast(relu_backward(dout, relu_cache), conv_cache)

    def conv_bn_relu_forward(x, w, b, gamma, beta, conv_param, bn_param):
        a, conv_cache = conv_forward_fast(x, w, b, conv_param)
        an, bn_cache = spatial_batchnorm_forward(a, gamma, beta, bn_param)
        out, relu_cache = relu_forward(an)
        return out, (conv_cache, bn_cache, relu_cache)

    def conv_bn_relu_backward(dout, cache):
        conv_cache, bn_cache, relu_cache = cache
        dan = relu_backward(dout, relu_cache)
        da, dgamma, dbeta = spatial_batchnorm_backward(dan, bn_cache)
        return (*conv_backward_fast(da, conv_cache), dgamma, dbeta)

    def conv_relu_pool_forward(x, w, b, conv_param, pool_param):
        a, conv_cache = conv_forward_fast(x, w, b, conv_param)
        s, relu_cache = relu_forward(a)
        out, pool_cache = max_pool_forward_fast(s, pool_param)
        return out, (conv_cache, relu_cache, pool_cache)

    def conv_relu_pool_backward(dout, cache):
        conv_cache, relu_cache, pool_cache = cache
        ds = max_pool_backward_fast(dout, pool_cache)
        return conv_backward_fast(relu_backward(ds, relu_cache), conv_cache)

    # what a student added

    def generic_forward(x, w, b):
        return affine_relu_forward(x, w, b)

    def affine_bn_relu_forward(x, w, b, gamma, beta, bn_param):
        a, fc_cache = affine_forward(x, w, b)
        if bn_param.get("late"):
            a, relu_cache = relu_forward(a)
            out, bn_cache = batchnorm_forward(a, gamma, beta, bn_param)
        else:
            a, bn_cache = batchnorm_forward(a, gamma, beta, bn_param)
            out, relu_cache = relu_forward(a)
        return out, (fc_cache, bn_cache, relu_cache)

    def affine_bn_relu_backward(dout, cache):
        fc_cache, bn_cache, relu_cache = cache
        dout, dgamma, dbeta = batchnorm_backward(relu_backward(dout, relu_cache), bn_cache)
        return (*affine_backward(dout, fc_cache), dgamma, dbeta)
"""

FC_NET = """
    import numpy as np
    from {up}layers import *
    from {up}layer_utils import *

    class FullyConnectedNet:
        def __init__(self, hidden_dims, input_dim=3*32*32, num_classes=10, {dropout},
                     {normalization}, reg=0.0, weight_scale=1e-2, dtype=np.float32, seed=None):
            dims = [input_dim, *hidden_dims, num_classes]
            self.params, self.num_layers = dict(), len(dims) - 1
            for i in range(1, len(dims)):
                self.params[f"W{{i}}"] = weight_scale * np.random.randn(dims[i - 1], dims[i])
                self.params[f"b{{i}}"] = np.zeros(dims[i])

        def loss(self, X, y=None):
            caches, grads, p = [], dict(), self.params
            for i in range(1, self.num_layers):
                X, cache = affine_relu_forward(X, p[f"W{{i}}"], p[f"b{{i}}"])
                caches.append(cache)
            L = self.num_layers
            scores, cache = affine_forward(X, p[f"W{{L}}"], p[f"b{{L}}"])
            if y is None:
                return scores
            loss, dout = softmax_loss(scores, y)
            dout, grads[f"W{{L}}"], grads[f"b{{L}}"] = affine_backward(dout, cache)
            for i in range(L - 1, 0, -1):
                dout, grads[f"W{{i}}"], grads[f"b{{i}}"] = affine_relu_backward(dout, caches.pop())
            return loss, grads
"""

CNN = """
    import numpy as np
    from {up}layers import *
    from {up}fast_layers import *
    from {up}layer_utils import *

    class ThreeLayerConvNet:
        def __init__(self, input_dim=(3, 32, 32), num_filters=32, filter_size=7, hidden_dim=100,
                     num_classes=10, weight_scale=1e-3, reg=0.0, dtype=np.float32):
            C, H, W = input_dim
            shapes = {{"W1": (num_filters, C, filter_size, filter_size),
                      "W2": (num_filters * (H // 2) * (W // 2), hidden_dim),
                      "W3": (hidden_dim, num_classes)}}
            self.params = {{n: (weight_scale * np.random.randn(*s)).astype(dtype)
                           for n, s in shapes.items()}}
            for n, size in (("b1", num_filters), ("b2", hidden_dim), ("b3", num_classes)):
                self.params[n] = np.zeros(size, dtype)

        def loss(self, X, y=None):
            W1, W2, W3, b1, b2, b3 = (self.params[n] for n in ("W1", "W2", "W3", "b1", "b2", "b3"))
            conv_param = {{"stride": 1, "pad": (W1.shape[2] - 1) // 2}}
            pool_param = {{"pool_height": 2, "pool_width": 2, "stride": 2}}
            a, first = conv_relu_pool_forward(X, W1, b1, conv_param, pool_param)
            a, second = affine_relu_forward(a, W2, b2)
            scores, third = affine_forward(a, W3, b3)
            if y is None:
                return scores
            grads = dict()
            loss, d = softmax_loss(scores, y)
            d, grads["W3"], grads["b3"] = affine_backward(d, third)
            d, grads["W2"], grads["b2"] = affine_relu_backward(d, second)
            d, grads["W1"], grads["b1"] = conv_relu_pool_backward(d, first)
            return loss, grads
"""

OPTIM = """
    def sgd(w, dw, config=None):
        config = config or dict()
        config.setdefault("learning_rate", 1e-2)
        w -= config["learning_rate"] * dw
        return w, config
"""

SOLVER = """
    import numpy as np
    from {package} import optim

    class Solver:
        def __init__(self, model, data, **kwargs):
            self.model, self.data, self.loss_history = model, data, []
            self.config = kwargs.get("optim_config", dict())

        def train(self):
            for _ in range(5):
                loss, grads = self.model.loss(self.data["X_train"], self.data["y_train"])
                self.loss_history.append(float(loss))
                for name, w in self.model.params.items():
                    self.model.params[name], _ = optim.sgd(w, grads[name], dict(self.config))
"""


def layers_of(year):
    """Source of every function of the layers module of a year, solved."""
    functions = {
        name: source
        for name, source in SOLVED.items()
        if year >= 2018 or not name.startswith(SINCE_2018)
    }
    if year < 2018:
        functions["dropout_forward"] = DROPPING
    if year >= 2021:
        del functions["svm_loss"]
    return functions


def unsolved(name, raising=True):
    """The function as the course hands it out, in one of its two ways."""
    signature = next(line for line in SOLVED[name].splitlines() if "def " in line)
    results = "out, cache = None, None" if name.endswith("_forward") else "dx = None"
    result = "out, cache" if name.endswith("_forward") else "dx"
    cast = ["out = out.astype(x.dtype, copy=False)"] if name == "dropout_forward" else []
    body = [results, "pass", *cast, f"return {result}"]
    if raising:
        body = ["raise NotImplementedError"]
    return "\n".join([signature.strip(), *(f"    {line}" for line in body)])


def write(folder, year, package="cs231n", replace=None, extra=None):
    """Write a package into a folder; the package's folder.

    `replace`: source of functions of its layers by name, None for none; `extra`: text that is added
    to files, by name.
    """
    root = folder / package
    classifiers = root / "classifiers"
    classifiers.mkdir(parents=True)
    relative = year >= 2020
    names = {
        "package": package,
        "here": "." if relative else f"{package}.",
        "up": ".." if relative else f"{package}.",
        "torch": "import torch" if year == 2019 else "",
        "divide": "//" if year >= 2024 else "/",
        "dropout": {2016: "dropout=0", 2018: "dropout=1"}.get(
            year if year < 2019 else 2018 if year < 2021 else 0, "dropout_keep_ratio=1"
        ),
        "normalization": "use_batchnorm=False" if year < 2018 else "normalization=None",
    }
    functions = {**layers_of(year), **(replace or {})}
    sources = [textwrap.dedent(source).strip() for source in functions.values() if source]
    texts = {
        "__init__.py": "",
        "layers.py": "\n\n\n".join(["import numpy as np", *sources]) + "\n",
        "im2col.py": IM2COL,
        "fast_layers.py": FAST_LAYERS,
        "layer_utils.py": LAYER_UTILS,
        "optim.py": OPTIM,
        "solver.py": SOLVER,
        "classifiers/fc_net.py": FC_NET,
        "classifiers/cnn.py": CNN,
    }
    if year < 2021:
        texts["classifiers/__init__.py"] = ""
    for name, text in texts.items():
        if name not in ("layers.py",):
            text = textwrap.dedent(text.format(**names)).lstrip()
        (root / name).write_text(text + (extra or {}).get(name, ""))
    return root


def python(folder, *arguments, code=0, **environment):
    """Run Python in a folder, for what depends on what is imported: its stdout and stderr."""
    # IPython warns if another environment than that of this Python was activated in the shell.
    around = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-B", *arguments],
        cwd=folder,
        env={**around, "PYTHONPATH": str(Path(fastbn.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == code, result.stderr
    return result.stdout, result.stderr
