"""PyTorch's samples of its operators, as arguments of our functions.

An adapter takes one sample (an input, positional and named arguments) and yields its counterparts,
or raises `NoCounterpart` with the reason. What our functions lack but NumPy has is done around
them: a batch of one, a row, axes in another order, a pad of zeros or of -inf, a scale of 1 and a
shift of 0 where the sample has none. Their gradients are held to PyTorch's all the same.
"""

import numpy as np
import torch_images
import torch_norms
from torch_counterparts import Counterpart, NoCounterpart, array_or, as_array, bind, largest

from fastbn import layers


def linear(sample):
    a = bind(sample, "weight", "bias")
    w = as_array(a.weight)
    x = as_array(sample.input).reshape(-1, w.shape[1])
    b = array_or(a.bias, 0, len(w), sample.input)

    def run():
        out, cache = layers.affine_forward(x, w.T, b)

        def backward(dout):
            dx, dw, db = layers.affine_backward(dout.reshape(out.shape), cache)
            return dx, dw.T, db

        return out, backward

    yield Counterpart(run, (sample.input, a.weight, a.bias), max(*x.shape, *w.shape), largest(x, w))


def relu(sample):
    x = as_array(sample.input)

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
    a = bind(sample, p=0.5, training=True)
    if a.training and 0 < a.p < 1:
        raise NoCounterpart("another random stream")
    keep = 1 - a.p  # ours is the share kept
    if not keep:
        raise NoCounterpart("dropping everything")
    x = as_array(sample.input)

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
    a = bind(
        sample, "target", weight=None, reduction="mean", ignore_index=-100, label_smoothing=0.0
    )
    if a.target.is_floating_point():
        raise NoCounterpart("probabilities as targets")
    if a.weight is not None:
        raise NoCounterpart("weights of classes")
    if a.label_smoothing:
        raise NoCounterpart("label smoothing")
    x = np.moveaxis(as_array(sample.input), 1, -1)
    places = x.shape
    rows, y = x.reshape(-1, places[-1]), as_array(a.target).reshape(-1)
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

    yield Counterpart(run, (sample.input,), rows.size, largest(rows))


def multi_margin_loss(sample):
    a = bind(sample, "target", p=1, margin=1.0, weight=None, reduction="mean")
    if a.p != 1:
        raise NoCounterpart("squared margins")
    if a.margin <= 0:
        raise NoCounterpart("a margin of 0 or less")
    if a.weight is not None:
        raise NoCounterpart("weights of classes")
    if a.reduction not in ("mean", "sum", "none"):
        raise NoCounterpart("reduction, which ours has not")
    x = as_array(sample.input)
    # Ours has a margin of 1: scores are measured in margins.
    x, y = np.atleast_2d(x) / x.dtype.type(a.margin), np.atleast_1d(as_array(a.target))
    classes = x.shape[1]  # PyTorch divides by their number as well

    def run():
        out, backward = _mean_of_rows(layers.svm_loss, x, y, a.reduction)
        return a.margin * out / classes, lambda dout: (backward(dout / classes),)

    yield Counterpart(run, (sample.input,), x.size, largest(x))


#: PyTorch's name of an operator, and the adapter of its samples.
ADAPTERS = {
    "nn.functional.conv2d": torch_images.conv2d,
    "nn.functional.max_pool2d": torch_images.max_pool2d,
    "nn.functional.batch_norm": torch_norms.batch_norm,
    "nn.functional.layer_norm": torch_norms.layer_norm,
    "native_layer_norm": torch_norms.native_layer_norm,
    "nn.functional.group_norm": torch_norms.group_norm,
    "nn.functional.instance_norm": torch_norms.instance_norm,
    "nn.functional.linear": linear,
    "nn.functional.relu": relu,
    "nn.functional.dropout": dropout,
    "nn.functional.cross_entropy": cross_entropy,
    "nn.functional.multi_margin_loss": multi_margin_loss,
    "nn.functional.unfold": torch_images.unfold,
    "nn.functional.fold": torch_images.fold,
}
