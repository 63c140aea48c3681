"""PyTorch's samples of its operators, as arguments of our functions.

An adapter takes one sample (an input, positional and named arguments) and yields its counterparts,
or raises `NoCounterpart` with the reason. What our functions lack but NumPy has is done around
them: a batch of one, a row, axes in another order, a pad of zeros or of -inf, a scale of 1 and a
shift of 0 where the sample has none. Their gradients are held to PyTorch's all the same.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from fastbn import layers


class NoCounterpart(Exception):
    """Our functions have nothing that a sample could be turned into."""


class Counterpart(NamedTuple):
    """A call of ours that must give what PyTorch gives."""

    #: () -> (out, backward); backward(dout) -> gradients; all in PyTorch's shapes
    run: Callable
    #: the tensors that the gradients belong to; None where the sample has no such tensor
    leaves: tuple
    #: length of the longest sum
    terms: int
    #: size of the largest term of a sum, for a dout of order one
    scale: float
    #: called once PyTorch has run: more to compare
    after: Callable = lambda: None


def _bind(sample, *names, **defaults):
    """The sample's arguments by name; in the order of `names` where they have none."""
    given = dict(zip(names, sample.args, strict=False)) | sample.kwargs
    unknown = set(given) - set(names) - set(defaults)
    assert not unknown, f"an argument that the adapter does not know: {unknown}"
    return SimpleNamespace(**{**dict.fromkeys(names), **defaults, **given})


def _array(tensor):
    return tensor.detach().numpy()


def _or(tensor, value, length, like):
    """The tensor as an array, or so many values where there is none."""
    return np.full(length, value, _array(like).dtype) if tensor is None else _array(tensor)


def _pair(value):
    value = (value,) if isinstance(value, int) else tuple(value)
    return value * 2 if len(value) == 1 else value


def _equal(value, what):
    first, second = _pair(value)
    if first != second:
        raise NoCounterpart(f"{what} differs by axis")
    return first


def _undilated(dilation):
    if _pair(dilation) != (1, 1):
        raise NoCounterpart("dilation")


def _size(*arrays):
    """The product of their largest numbers."""
    return float(np.prod([np.abs(a).max(initial=1) for a in arrays]))


def _images(tensor):
    """(N, C, H, W) of one image or several."""
    array = _array(tensor)
    return array[None] if array.ndim == 3 else array


def _pad(x, padding, value):
    """Images with a border; and the function that takes it off again."""
    (top, left), (H, W) = padding, x.shape[2:]
    if min(padding) < 0:
        raise NoCounterpart("padding, which is NumPy's")
    padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)), constant_values=value)
    return padded, lambda dx: dx[:, :, top : top + H, left : left + W]


def conv2d(sample):
    a = _bind(sample, "weight", "bias", stride=1, padding=0, dilation=1, groups=1)
    if {t.dtype for t in (a.weight, a.bias) if t is not None} != {sample.input.dtype}:
        raise NoCounterpart("dtypes that differ, which ours promotes")
    if a.groups != 1:
        raise NoCounterpart("groups")
    _undilated(a.dilation)
    stride = _equal(a.stride, "stride")
    x, w = _images(sample.input), _array(a.weight)
    if a.padding == "valid":
        a.padding = 0
    if a.padding == "same":
        raise NoCounterpart("padding that differs by side")
    b = _or(a.bias, 0, len(w), sample.input)
    padding = _pair(a.padding)
    for variant in ("naive", "fast", "strides", "im2col"):
        if padding[0] == padding[1]:
            images, crop, pad = x, lambda dx: dx, padding[0]
        else:
            (images, crop), pad = _pad(x, padding, 0), 0

        def run(variant=variant, images=images, crop=crop, pad=pad):
            forward = getattr(layers, f"conv_forward_{variant}")
            out, cache = forward(images, w, b, {"stride": stride, "pad": pad})

            def backward(dout):
                dx, *others = getattr(layers, f"conv_backward_{variant}")(
                    dout.reshape(out.shape), cache
                )
                return crop(dx), *others

            return out, backward

        terms = max(w[0].size, w[:, 0].size, x[:, 0].size) if x.size and w.size else 1
        yield Counterpart(run, (sample.input, a.weight, a.bias), terms, _size(x, w, b))


def max_pool2d(sample):
    a = _bind(
        sample,
        "kernel_size",
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
        return_indices=False,
    )
    _undilated(a.dilation)
    height, width = _pair(a.kernel_size)
    stride = _equal(a.kernel_size if a.stride is None else a.stride, "stride")
    padding = _pair(a.padding)
    if 2 * padding[0] > height or 2 * padding[1] > width:
        raise NoCounterpart("padding, which is NumPy's")
    if not sample.input.shape[-3]:
        raise NoCounterpart("no channels, which are none to pool")
    if a.ceil_mode:
        sizes = [
            torch.nn.functional.max_pool2d(
                sample.input, a.kernel_size, stride, padding, ceil_mode=ceil
            ).shape
            for ceil in (False, True)
        ]
        if sizes[0] != sizes[1]:
            raise NoCounterpart("ceil_mode, where it adds windows")
    x, crop = _pad(_images(sample.input), padding, -np.inf)
    param = {"pool_height": height, "pool_width": width, "stride": stride}
    variants = ["naive", "fast", "im2col"]
    if height == width == stride and not x.shape[2] % height and not x.shape[3] % width:
        variants.append("reshape")
    for variant in variants:

        def run(variant=variant):
            out, cache = getattr(layers, f"max_pool_forward_{variant}")(x, param)
            backward = getattr(layers, f"max_pool_backward_{variant}")
            return out, lambda dout: (crop(backward(dout.reshape(out.shape), cache)),)

        yield Counterpart(run, (sample.input,), height * width, 1.0)


def _deviation(x, axis, eps):
    """The smallest deviation, and how large numbers are next to it."""
    if not x.size:
        return 1.0, 1.0
    x = x.astype(np.float64)
    deviation = np.sqrt(x.var(axis=axis) + eps).min()
    return deviation, max(1.0, np.abs(x).max() / deviation)


def batch_norm(sample):
    a = _bind(
        sample,
        "running_mean",
        "running_var",
        "weight",
        "bias",
        training=False,
        momentum=0.1,
        eps=1e-5,
    )
    x = _array(sample.input)
    if x.ndim < 2:
        raise NoCounterpart("input of one axis")
    N, C = x.shape[:2]
    if x.ndim > 2:
        x = x.reshape(N, C, x.shape[2], -1)
    kind = "batchnorm" if x.ndim == 2 else "spatial_batchnorm"
    gamma, beta = _or(a.weight, 1, C, sample.input), _or(a.bias, 0, C, sample.input)
    # PyTorch's momentum is the share of the new; any number, and of no effect on the output.
    shares = 0 <= a.momentum <= 1
    param = {"mode": "train" if a.training else "test", "eps": a.eps}
    param["momentum"] = 1 - a.momentum if shares else 0.9
    running = {k: getattr(a, k) for k in ("running_mean", "running_var")}
    param |= {k: _array(v).copy() for k, v in running.items() if v is not None}
    before = dict(param)
    axes = (0, *range(2, x.ndim))
    if a.training:
        deviation, condition = _deviation(x, axes, a.eps)
    else:
        deviation = np.sqrt(param["running_var"].min() + a.eps)
        condition = (_size(x, param["running_mean"])) / min(deviation, 1)
    count = x.size // C
    for backward_name in [f"{kind}_backward"] + ["batchnorm_backward_alt"] * (x.ndim == 2):

        def run(backward_name=backward_name):
            param.update(before)
            out, cache = getattr(layers, f"{kind}_forward")(x, gamma, beta, param)
            backward = getattr(layers, backward_name)
            return out, lambda dout: backward(dout.reshape(out.shape), cache)

        def after():
            for key, tensor in running.items():
                expected = before.get(key) if tensor is None or not shares else _array(tensor)
                if expected is None or not shares:
                    continue
                if a.training and key == "running_var":
                    # PyTorch's is unbiased, ours biased.
                    batch = (expected - param["momentum"] * before[key]) * ((count - 1) / count)
                    expected = param["momentum"] * before[key] + batch
                np.testing.assert_allclose(
                    param[key], expected, rtol=64 * np.finfo(x.dtype).eps, err_msg=key
                )

        scale = _size(gamma, beta) * condition / min(1, deviation)
        yield Counterpart(run, (sample.input, a.weight, a.bias), count, scale, after)


def _rows(sample, weight, bias, axes, eps):
    """Layer normalization over the last `axes` axes."""
    if eps < 0:
        raise NoCounterpart("eps below 0")
    x = _array(sample.input)
    D = math.prod(x.shape[x.ndim - axes :])
    x = x.reshape(-1, D)
    gamma, beta = (_or(t, v, D, sample.input).reshape(-1) for t, v in ((weight, 1), (bias, 0)))
    deviation, condition = _deviation(x, 1, eps)

    def run():
        out, cache = layers.layernorm_forward(x, gamma, beta, {"eps": eps})
        return out, lambda dout: layers.layernorm_backward(dout.reshape(out.shape), cache)

    scale = _size(gamma, beta) * condition / min(1, deviation)
    yield Counterpart(run, (sample.input, weight, bias), max(x.shape), scale)


def layer_norm(sample):
    a = _bind(sample, "normalized_shape", "weight", "bias", eps=1e-5)
    return _rows(sample, a.weight, a.bias, len(a.normalized_shape), a.eps)


def native_layer_norm(sample):
    a = _bind(sample, "normalized_shape", "weight", "bias", "eps")
    shape = tuple(a.normalized_shape)
    if not shape or shape != tuple(sample.input.shape[-len(shape) :]):
        raise NoCounterpart("normalized_shape, which ours reads off x")
    return _rows(sample, a.weight, a.bias, len(shape), a.eps)


def _groups(sample, G, weight, bias, eps):
    if eps < 0:
        raise NoCounterpart("eps below 0")
    x = _array(sample.input)
    if x.ndim < 2:
        raise NoCounterpart("input of one axis")
    N, C = x.shape[:2]
    x = x.reshape(N, C, math.prod(x.shape[2:]), 1)
    G = C if G is None else G
    gamma, beta = _or(weight, 1, C, sample.input), _or(bias, 0, C, sample.input)
    scale, size = 1.0, x[:1].size // G
    if not C % G:
        deviation, condition = _deviation(x.reshape(N * G, -1 if N else size), 1, eps)
        scale = _size(gamma, beta) * condition / min(1, deviation)
    for kind in ("groupnorm", "quick_groupnorm"):

        def run(kind=kind):
            forward = getattr(layers, f"spatial_{kind}_forward")
            out, cache = forward(x, gamma, beta, G, {"eps": eps})
            backward = getattr(layers, f"spatial_{kind}_backward")
            return out, lambda dout: backward(dout.reshape(out.shape), cache)

        yield Counterpart(run, (sample.input, weight, bias), x.size, scale)


def group_norm(sample):
    a = _bind(sample, "num_groups", weight=None, bias=None, eps=1e-5)
    return _groups(sample, a.num_groups, a.weight, a.bias, a.eps)


def instance_norm(sample):
    """A group of every channel; running statistics are PyTorch's alone."""
    a = _bind(
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


def linear(sample):
    a = _bind(sample, "weight", "bias")
    w = _array(a.weight)
    x = _array(sample.input).reshape(-1, w.shape[1])
    b = _or(a.bias, 0, len(w), sample.input)

    def run():
        out, cache = layers.affine_forward(x, w.T, b)

        def backward(dout):
            dx, dw, db = layers.affine_backward(dout.reshape(out.shape), cache)
            return dx, dw.T, db

        return out, backward

    yield Counterpart(run, (sample.input, a.weight, a.bias), max(*x.shape, *w.shape), _size(x, w))


def relu(sample):
    x = _array(sample.input)

    def run():
        out, cache = layers.relu_forward(x)

        def backward(dout):
            dx = layers.relu_backward(dout, cache)
            # The course's x > 0 stops the gradient of a NaN; PyTorch hands it on.
            assert not dx[np.isnan(x)].any()
            return (np.where(np.isnan(x), dout, dx),)

        return out, backward

    yield Counterpart(run, (sample.input,), 1, 1.0)


def dropout(sample):
    a = _bind(sample, p=0.5, training=True)
    if a.training and 0 < a.p < 1:
        raise NoCounterpart("another random stream")
    keep = 1 - a.p  # ours is the share kept
    if not keep:
        raise NoCounterpart("dropping everything")
    x = _array(sample.input)

    def run():
        state = np.random.get_state()
        try:
            out, cache = layers.dropout_forward(
                x, {"mode": "train" if a.training else "test", "p": keep}
            )
        finally:
            np.random.set_state(state)
        return out, lambda dout: (layers.dropout_backward(dout, cache),)

    yield Counterpart(run, (sample.input,), 1, 1.0)


def _mean_of_rows(loss, x, y, reduction):
    """out and backward of a loss that is a mean over rows, as PyTorch reduces it."""
    if reduction == "none":
        each = [loss(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
        dx = np.concatenate([d for _, d in each])
        return np.array([value for value, _ in each]), lambda dout: dx * dout.reshape(-1, 1)
    value, dx = loss(x, y)
    factor = {"mean": 1, "sum": len(x)}[reduction]
    return np.asarray(value * factor), lambda dout: dx * (factor * dout)


def cross_entropy(sample):
    a = _bind(
        sample, "target", weight=None, reduction="mean", ignore_index=-100, label_smoothing=0.0
    )
    if a.target.is_floating_point():
        raise NoCounterpart("probabilities as targets")
    if a.weight is not None:
        raise NoCounterpart("weights of classes")
    if a.label_smoothing:
        raise NoCounterpart("label smoothing")
    x = np.moveaxis(_array(sample.input), 1, -1)
    places = x.shape
    rows, y = x.reshape(-1, places[-1]), _array(a.target).reshape(-1)
    counted = y != a.ignore_index

    def run():
        out, backward_rows = _mean_of_rows(
            layers.softmax_loss, rows[counted], y[counted], a.reduction
        )

        def backward(dout):
            dx = np.zeros_like(rows)
            dx[counted] = backward_rows(dout)
            return (np.moveaxis(dx.reshape(places), -1, 1),)

        return out, backward

    yield Counterpart(run, (sample.input,), rows.size, _size(rows))


def multi_margin_loss(sample):
    a = _bind(sample, "target", p=1, margin=1.0, weight=None, reduction="mean")
    if a.p != 1:
        raise NoCounterpart("squared margins")
    if a.margin <= 0:
        raise NoCounterpart("a margin of 0 or less")
    if a.weight is not None:
        raise NoCounterpart("weights of classes")
    if a.reduction not in ("mean", "sum", "none"):
        raise NoCounterpart("reduction, which ours has not")
    x = _array(sample.input)
    # Ours has a margin of 1: scores are measured in margins.
    x, y = np.atleast_2d(x) / x.dtype.type(a.margin), np.atleast_1d(_array(a.target))
    classes = x.shape[1]  # PyTorch divides by their number as well

    def run():
        out, backward = _mean_of_rows(layers.svm_loss, x, y, a.reduction)
        return a.margin * out / classes, lambda dout: (backward(dout / classes),)

    yield Counterpart(run, (sample.input,), x.size, _size(x))


def _field(kernel_size, dilation=1, padding=0, stride=1):
    _undilated(dilation)
    return *_pair(kernel_size), _pair(padding), _equal(stride, "stride")


def _columns(cols, N, places):
    """(rows, places * N), N the fastest, as (N, rows, places)."""
    return cols.reshape(len(cols), places, N).transpose(2, 0, 1)


def _flat(cols):
    """The other way round."""
    N, rows, places = cols.shape
    return cols.transpose(1, 2, 0).reshape(rows, places * N)


def _places(shape, height, width, padding, stride):
    """Rows and columns of places that a window has."""
    return tuple(
        1 + (s + 2 * padding - k) // stride for s, k in zip(shape, (height, width), strict=True)
    )


def unfold(sample):
    height, width, padding, stride = _field(*sample.args, **sample.kwargs)
    x, crop = _pad(_images(sample.input), padding, 0)
    field = (height, width, 0, stride)
    places = _places(x.shape[2:], *field)
    for kind in ("cython", "indices"):

        def run(kind=kind):
            cols = getattr(layers, f"im2col_{kind}")(x, *field)
            shape = x.shape if kind == "cython" else (x.shape,)

            def backward(dout):
                back = getattr(layers, f"col2im_{kind}")
                return (crop(back(_flat(dout), *shape, *field)),)

            return _columns(cols, len(x), math.prod(places)), backward

        yield Counterpart(run, (sample.input,), height * width, 1.0)


def fold(sample):
    """PyTorch has no samples of fold: the columns that unfold makes of its own, put back."""
    height, width, padding, stride = _field(*sample.args[1:], **sample.kwargs)
    cols = _array(sample.input)
    N, rows, places = cols.shape
    H, W = sample.args[0]
    padded = (N, rows // (height * width), H + 2 * padding[0], W + 2 * padding[1])
    field = (height, width, 0, stride)
    _, crop = _pad(np.empty((1, 1, H, W)), padding, 0)
    for kind in ("cython", "indices", "6d_cython"):

        def run(kind=kind):
            if kind == "6d_cython":
                six = cols.reshape(N, padded[1], height, width, *_places(padded[2:], *field))
                six = six.transpose(1, 2, 3, 0, 4, 5)
                x = layers.col2im_6d_cython(six, *padded, *field)
            elif kind == "cython":
                x = layers.col2im_cython(_flat(cols), *padded, *field)
            else:
                x = layers.col2im_indices(_flat(cols), padded, *field)

            def backward(dout):
                dx = np.pad(dout, ((0, 0), (0, 0), *((p, p) for p in padding)))
                return (_columns(layers.im2col_cython(dx, *field), N, places),)

            return crop(x), backward

        yield Counterpart(run, (sample.input,), height * width, _size(cols))


#: PyTorch's name of an operator, and the adapter of its samples.
ADAPTERS = {
    "nn.functional.conv2d": conv2d,
    "nn.functional.max_pool2d": max_pool2d,
    "nn.functional.batch_norm": batch_norm,
    "nn.functional.layer_norm": layer_norm,
    "native_layer_norm": native_layer_norm,
    "nn.functional.group_norm": group_norm,
    "nn.functional.instance_norm": instance_norm,
    "nn.functional.linear": linear,
    "nn.functional.relu": relu,
    "nn.functional.dropout": dropout,
    "nn.functional.cross_entropy": cross_entropy,
    "nn.functional.multi_margin_loss": multi_margin_loss,
    "nn.functional.unfold": unfold,
    "nn.functional.fold": fold,
}
