"""Affine layers as convolutions: a net that slides gives what it gives crop by crop."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from fastbn import layers
from fastbn.classifiers import TwoLayerNet
from fastbn.convert import affine_to_conv

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "sliding_net.py"
SLIDE = {"stride": 1, "pad": 0}


def test_alexnet_slides():
    """7x7x512 -> 4096 -> 4096 -> 1000 over 12x12x512: the scores of 36 crops in one pass."""
    rng = np.random.default_rng(0)
    out = rng.standard_normal((1, 512, 12, 12), dtype=np.float32)
    places = [(y, x) for y in range(6) for x in range(6)]
    crops = np.stack([out[0, :, y : y + 7, x : x + 7] for y, x in places])
    single = crops[[0, 35]]
    # A layer at a time: the first has 411 MB of weights, and as much again as filters.
    for shape, M in (((512, 7, 7), 4096), ((4096, 1, 1), 4096), ((4096, 1, 1), 1000)):
        D = np.prod(shape)
        w = rng.random((D, M), dtype=np.float32)
        w -= 0.5
        w *= np.float32(np.sqrt(24 / D))
        b = rng.random(M, dtype=np.float32)
        w_conv, b_conv = affine_to_conv(w, b, shape)
        assert w_conv.shape == (M, *shape) and w_conv.dtype == np.float32
        out, _ = layers.conv_forward_fast(out, w_conv, b_conv, SLIDE)
        crops, _ = layers.affine_forward(crops, w, b)
        single = np.concatenate([layers.affine_forward(crop[None], w, b)[0] for crop in single])
        del w, w_conv
        if M != 1000:
            out, crops, single = (layers.relu_forward(a)[0] for a in (out, crops, single))
    assert out.shape == (1, 1000, 6, 6)
    scale = np.abs(crops).max()
    assert scale > 1
    # Sums of 25088 and of 4096 products, in two orders.
    np.testing.assert_allclose(out.reshape(1000, 36).T, crops, rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(single, crops[[0, 35]], rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("shape", [(3, 4, 2), (1, 1, 1), (5, 1, 3)], ids=str)
def test_same_size_is_the_affine_layer(shape, dtype, rng):
    D = int(np.prod(shape))
    x = rng.standard_normal((6, *shape)).astype(dtype)
    w, b = rng.standard_normal((D, 7)).astype(dtype), rng.standard_normal(7).astype(dtype)
    before = w.copy()
    w_conv, b_conv = affine_to_conv(w, b, shape)
    assert w_conv.shape == (7, *shape) and w_conv.flags.c_contiguous and w_conv.dtype == dtype
    assert not np.shares_memory(w_conv, w) and not np.shares_memory(b_conv, b)
    np.testing.assert_array_equal(w, before)
    out, _ = layers.conv_forward_fast(x, w_conv, b_conv, SLIDE)
    expected, _ = layers.affine_forward(x, w, b)
    np.testing.assert_allclose(out[:, :, 0, 0], expected, rtol=0, atol=50 * np.finfo(dtype).eps)


def test_small_numbers_by_hand():
    w_conv, b = affine_to_conv([[1, 10], [2, 20], [3, 30], [4, 40]], [5, 6], (1, 2, 2))
    np.testing.assert_array_equal(w_conv, [[[[1, 2], [3, 4]]], [[[10, 20], [30, 40]]]])
    np.testing.assert_array_equal(b, [5, 6])
    assert w_conv.dtype == b.dtype == np.float64


@pytest.mark.parametrize("order", ["C", "F"])
def test_two_layer_net_over_larger_images(order, rng):
    net = TwoLayerNet(3 * 4 * 5, 8, 6, weight_scale=0.3)
    params = {name: np.asarray(value, order=order) for name, value in net.params.items()}
    images = rng.standard_normal((2, 3, 7, 9))
    out = images
    for number, shape in ((1, (3, 4, 5)), (2, (8, 1, 1))):
        filters = affine_to_conv(params[f"W{number}"], params[f"b{number}"], shape)
        out, _ = layers.conv_forward_fast(out, *filters, SLIDE)
        if number == 1:
            out, _ = layers.relu_forward(out)
    assert out.shape == (2, 6, 4, 5)
    for y in range(4):
        for x in range(5):
            expected = net.loss(images[:, :, y : y + 4, x : x + 5])
            np.testing.assert_allclose(out[:, :, y, x], expected, rtol=0, atol=1e-13)


def test_after_convolution_and_pooling(rng):
    """As the docstring says: one step on the pooled volume is two on the image."""
    filters, bias = rng.standard_normal((4, 2, 3, 3)), rng.standard_normal(4)
    w, b = rng.standard_normal((4 * 2 * 2, 5)), rng.standard_normal(5)
    pool = {"pool_height": 2, "pool_width": 2, "stride": 2}

    def features(images):
        out, _ = layers.conv_forward_fast(images, filters, bias, SLIDE)
        return layers.max_pool_forward_fast(out, pool)[0]

    image = rng.standard_normal((1, 2, 10, 12))
    out, _ = layers.conv_forward_fast(features(image), *affine_to_conv(w, b, (4, 2, 2)), SLIDE)
    assert out.shape == (1, 5, 3, 4)
    for y in range(3):
        for x in range(4):
            crop = image[:, :, 2 * y : 2 * y + 6, 2 * x : 2 * x + 6]
            expected, _ = layers.affine_forward(features(crop), w, b)
            np.testing.assert_allclose(out[:, :, y, x], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("w", "b", "shape", "error", "message"),
    [
        (np.ones((6, 2)), np.ones(2), (2, 2, 2), ValueError, r"hold 6 numbers, .*\(2, 2, 2\)"),
        (np.ones((6, 2)), np.ones(3), (1, 2, 3), ValueError, r"b must have shape \(2,\)"),
        (np.ones(6), np.ones(2), (1, 2, 3), ValueError, r"w must be \(D, M\); got shape \(6,\)"),
        (np.ones((6, 2)), np.ones(2), (2, 3), ValueError, r"must be \(C, H, W\); got \(2, 3\)"),
        (np.ones((6, 2)), np.ones(2), 6, ValueError, r"must be \(C, H, W\); got 6"),
        (np.ones((6, 2)), np.ones(2), (1, 0, 6), ValueError, r"input_shape\[1\] must be at least"),
        (np.ones((6, 2)), np.ones(2), (1, 2.0, 3), TypeError, r"shape\[1\] must be an integer"),
        (np.ones((6, 2), complex), np.ones(2), (1, 2, 3), TypeError, "w must hold real numbers"),
    ],
)
def test_wrong_arguments(w, b, shape, error, message):
    with pytest.raises(error, match=message):
        affine_to_conv(w, b, shape)


def test_example(capsys):
    crops, passed = runpy.run_path(str(EXAMPLE))["main"](["--width", "64"])
    assert crops.shape == passed.shape == (1000, 6, 6)
    np.testing.assert_allclose(passed, crops, rtol=0, atol=1e-5 * np.abs(crops).max())
    printed = capsys.readouterr().out
    assert "volume (512, 12, 12) -> scores (1000, 6, 6), largest difference" in printed
    assert printed.count(" ms") == 2 and "ratio: " in printed
