"""Adapters of PyTorch's samples: batch, layer, group and instance normalization."""

import math

import numpy as np
from torch_counterparts import Counterpart, NoCounterpart, array_or, as_array, bind, largest

from fastbn import layers


def _deviation(x, axis, eps):
    """The smallest deviation, and how large numbers are next to it."""
    if not x.size:
        return 1.0, 1.0
    x = x.astype(np.float64)
    deviation = np.sqrt(x.var(axis=axis) + eps).min()
    return deviation, max(1.0, np.abs(x).max() / deviation)


def batch_norm(sample):
    a = bind(
        sample,
        "running_mean",
        "running_var",
        "weight",
        "bias",
        training=False,
        momentum=0.1,
        eps=1e-5,
    )
    x = as_array(sample.input)
    if x.ndim < 2:
        raise NoCounterpart("input of one axis")
    N, C = x.shape[:2]
    if x.ndim > 2:
        x = x.reshape(N, C, x.shape[2], -1)
    kind = "batchnorm" if x.ndim == 2 else "spatial_batchnorm"
    gamma, beta = array_or(a.weight, 1, C, sample.input), array_or(a.bias, 0, C, sample.input)
    # PyTorch's momentum is the share of the new; any number, and of no effect on the output.
    shares = 0 <= a.momentum <= 1
    param = {"mode": "train" if a.training else "test", "eps": a.eps}
    param["momentum"] = 1 - a.momentum if shares else 0.9
    running = {k: getattr(a, k) for k in ("running_mean", "running_var")}
    param |= {k: as_array(v).copy() for k, v in running.items() if v is not None}
    before = dict(param)
    axes = (0, *range(2, x.ndim))
    if a.training:
        deviation, condition = _deviation(x, axes, a.eps)
    else:
        deviation = np.sqrt(param["running_var"].min() + a.eps)
        condition = (largest(x, param["running_mean"])) / min(deviation, 1)
    count = x.size // C
    for backward_name in [f"{kind}_backward"] + ["batchnorm_backward_alt"] * (x.ndim == 2):

        def run(backward_name=backward_name):
            param.update(before)
            out, cache = getattr(layers, f"{kind}_forward")(x, gamma, beta, param)
            backward = getattr(layers, backward_name)
            return out, lambda dout: backward(dout.reshape(out.shape), cache)

        def after():
            for key, tensor in running.items():
                expected = before.get(key) if tensor is None or not shares else as_array(tensor)
                if expected is None or not shares:
                    continue
                if a.training and key == "running_var":
                    # PyTorch's is unbiased, ours biased.
                    batch = (expected - param["momentum"] * before[key]) * ((count - 1) / count)
                    expected = param["momentum"] * before[key] + batch
                np.testing.assert_allclose(
                    param[key], expected, rtol=64 * np.finfo(x.dtype).eps, err_msg=key
                )

        scale = largest(gamma, beta) * condition / min(1, deviation)
        yield Counterpart(run, (sample.input, a.weight, a.bias), count, scale, after)


def _rows(sample, weight, bias, axes, eps):
    """Layer normalization over the last `axes` axes."""
    if eps < 0:
        raise NoCounterpart("eps below 0")
    x = as_array(sample.input)
    D = math.prod(x.shape[x.ndim - axes :])
    x = x.reshape(-1, D)
    gamma, beta = (array_or(t, v, D, sample.input).reshape(-1) for t, v in ((weight, 1), (bias, 0)))
    deviation, condition = _deviation(x, 1, eps)

    def run():
        out, cache = layers.layernorm_forward(x, gamma, beta, {"eps": eps})
        return out, lambda dout: layers.layernorm_backward(dout.reshape(out.shape), cache)

    scale = largest(gamma, beta) * condition / min(1, deviation)
    yield Counterpart(run, (sample.input, weight, bias), max(x.shape), scale)


def layer_norm(sample):
    a = bind(sample, "normalized_shape", "weight", "bias", eps=1e-5)
    return _rows(sample, a.weight, a.bias, len(a.normalized_shape), a.eps)


def native_layer_norm(sample):
    a = bind(sample, "normalized_shape", "weight", "bias", "eps")
    shape = tuple(a.normalized_shape)
    if not shape or shape != tuple(sample.input.shape[-len(shape) :]):
        raise NoCounterpart("normalized_shape, which ours reads off x")
    return _rows(sample, a.weight, a.bias, len(shape), a.eps)


def _groups(sample, G, weight, bias, eps):
    if eps < 0:
        raise NoCounterpart("eps below 0")
    x = as_array(sample.input)
    if x.ndim < 2:
        raise NoCounterpart("input of one axis")
    N, C = x.shape[:2]
    x = x.reshape(N, C, math.prod(x.shape[2:]), 1)
    G = C if G is None else G
    gamma, beta = array_or(weight, 1, C, sample.input), array_or(bias, 0, C, sample.input)
    scale, size = 1.0, x[:1].size // G
    if not C % G:
        deviation, condition = _deviation(x.reshape(N * G, -1 if N else size), 1, eps)
        scale = largest(gamma, beta) * condition / min(1, deviation)
    for kind in ("groupnorm", "quick_groupnorm"):

        def run(kind=kind):
            forward = getattr(layers, f"spatial_{kind}_forward")
            out, cache = forward(x, gamma, beta, G, {"eps": eps})
            backward = getattr(layers, f"spatial_{kind}_backward")
            return out, lambda dout: backward(dout.reshape(out.shape), cache)

        yield Counterpart(run, (sample.input, weight, bias), x.size, scale)


def group_norm(sample):
    a = bind(sample, "num_groups", weight=None, bias=None, eps=1e-5)
    return _groups(sample, a.num_groups, a.weight, a.bias, a.eps)


def instance_norm(sample):
    """A group of every channel; running statistics are PyTorch's alone."""
    a = bind(
        sample,
        running_mean=None,
        running_var=None,
        weight=None,
        bias=None,
        use_input_stats=True,
        momentum=0.1,
        eps=1e-5,
    )
    if not a.use_input_stats:
        raise NoCounterpart("running statistics of instances")
    return _groups(sample, None, a.weight, a.bias, a.eps)
