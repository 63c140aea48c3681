"""A fully connected net that slides over a larger image, as a convolution.

The three affine layers of AlexNet take a volume of 512 x 7 x 7 and give 1000 scores. Turned into
filters, they take a volume of 512 x 12 x 12, which an image of 384 x 384 has where one of 224 x 224
has 7 x 7, and give the scores of all 6 x 6 crops in one pass.

    python sliding_net.py                  # AlexNet's sizes: 1.5 GB of memory, some 20 seconds
    python sliding_net.py --width 512      # narrower hidden layers
"""

import argparse
import time

import numpy as np

from fastbn.convert import affine_to_conv
from fastbn.layers import affine_forward, conv_forward_fast, relu_forward


def make_net(width, rng):
    """(w, b, shape of the volume it takes) of every affine layer."""
    layers = []
    for shape, M in (((512, 7, 7), width), ((width, 1, 1), width), ((width, 1, 1), 1000)):
        D = np.prod(shape)
        w = rng.standard_normal((D, M), dtype=np.float32) * np.float32(np.sqrt(2 / D))
        layers.append((w, np.zeros(M, np.float32), shape))
    return layers


def crop_scores(net, volume):
    """Scores (1000,) of one volume of 512 x 7 x 7, by the affine layers."""
    out = volume[None]
    for number, (w, b, _) in enumerate(net, start=1):
        out, _ = affine_forward(out, w, b)
        if number < len(net):
            out, _ = relu_forward(out)
    return out[0]


def slide(filters, volume):
    """Scores (1000, H - 6, W - 6) of all crops of a volume of 512 x H x W, by convolutions."""
    out = volume[None]
    for number, (w, b) in enumerate(filters, start=1):
        out, _ = conv_forward_fast(out, w, b, {"stride": 1, "pad": 0})
        if number < len(filters):
            out, _ = relu_forward(out)
    return out[0]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=4096, help="of the hidden layers (4096)")
    width = parser.parse_args(argv).width

    rng = np.random.default_rng(0)
    net = make_net(width, rng)
    filters = [affine_to_conv(w, b, shape) for w, b, shape in net]
    volume = rng.standard_normal((512, 12, 12), dtype=np.float32)

    def one_by_one():
        crops = [[volume[:, y : y + 7, x : x + 7] for x in range(6)] for y in range(6)]
        scores = np.array([[crop_scores(net, crop) for crop in row] for row in crops])
        return scores.transpose(2, 0, 1)

    results, seconds = {}, {}
    for name, run in (("one by one", one_by_one), ("one pass", lambda: slide(filters, volume))):
        run()  # once for warmth: fresh memory, threads that have yet to start
        start = time.perf_counter()
        results[name] = run()
        seconds[name] = time.perf_counter() - start

    crops, passed = results.values()
    error = np.abs(crops - passed).max() / np.abs(crops).max()
    print(f"volume {volume.shape} -> scores {passed.shape}, largest difference {error:.1e}")
    print(f"36 crops one by one: {1e3 * seconds['one by one']:.1f} ms")
    print(f"one pass:            {1e3 * seconds['one pass']:.1f} ms")
    print(f"ratio:               {seconds['one by one'] / seconds['one pass']:.1f}")
    return crops, passed


if __name__ == "__main__":
    main()
