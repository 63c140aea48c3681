"""Adapters of PyTorch's samples: convolution, pooling, and columns of windows."""

import math

import numpy as np
import torch
from torch_counterparts import Counterpart, NoCounterpart, array_or, as_array, bind, largest

from fastbn import layers


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


def _images(tensor):
    """(N, C, H, W) of one image or several."""
    array = as_array(tensor)
    return array[None] if array.ndim == 3 else array


def _pad(x, padding, value):
    """Images with a border; and the function that takes it off again."""
    (top, left), (H, W) = padding, x.shape[2:]
    if min(padding) < 0:
        raise NoCounterpart("padding, which is NumPy's")
    padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)), constant_values=value)
    return padded, lambda dx: dx[:, :, top : top + H, left : left + W]


def conv2d(sample):
    a = bind(sample, "weight", "bias", stride=1, padding=0, dilation=1, groups=1)
    if {t.dtype for t in (a.weight, a.bias) if t is not None} != {sample.input.dtype}:
        raise NoCounterpart("dtypes that differ, which ours promotes")
    if a.groups != 1:
        raise NoCounterpart("groups")
    _undilated(a.dilation)
    stride = _equal(a.stride, "stride")
    x, w = _images(sample.input), as_array(a.weight)
    if a.padding == "valid":
        a.padding = 0
    if a.padding == "same":
        raise NoCounterpart("padding that differs by side")
    b = array_or(a.bias, 0, len(w), sample.input)
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
        yield Counterpart(run, (sample.input, a.weight, a.bias), terms, largest(x, w, b))


def max_pool2d(sample):
    a = bind(
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
    cols = as_array(sample.input)
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

        yield Counterpart(run, (sample.input,), height * width, largest(cols))
