"""Time fastbn, its NumPy reference and PyTorch next to each other, in one process.

    python asv_bench/side_by_side.py [--dtype float32] [--threads 2] [--only pool] [--json FILE]

Sides alternate and medians are compared, so that the machine's moods hit all alike. A side's turn
is a pause, one call that is not counted and a few that are: the idle threads of the side before
go on spinning for a while, and would be charged to the next. Every side gets fresh outputs, and
pays for their memory, as its users do. PyTorch is used if it is installed (the CPU build).
"""

import argparse
import json
import statistics
import time

import numpy as np

import fastbn
from fastbn import layers, reference

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

RNG = np.random.default_rng(0)
TURN = 3  # calls counted in a side's turn
PAUSE = 0.005  # seconds


def _batchnorm(shape, dtype):
    x, dout = RNG.standard_normal((2, *shape)).astype(dtype)
    gamma, beta = RNG.standard_normal((2, shape[1])).astype(dtype)
    prefix = "spatial_" if len(shape) == 4 else ""

    def numpy_side(module):
        forward = getattr(module, prefix + "batchnorm_forward")
        backward = getattr(module, prefix + "batchnorm_backward")
        return lambda: forward(x, gamma, beta, {"mode": "train"}), backward, dout

    def torch_side():
        mean, var = torch.zeros(shape[1], dtype=_torch(x).dtype), torch.ones(shape[1])
        var = var.to(mean.dtype)
        xt, g, b = (_torch(a, True) for a in (x, gamma, beta))
        return lambda: F.batch_norm(xt, mean, var, g, b, True), (xt, g, b), _torch(dout)

    return numpy_side, torch_side


def _layernorm(shape, dtype):
    x, dout = RNG.standard_normal((2, *shape)).astype(dtype)
    gamma, beta = RNG.standard_normal((2, shape[1])).astype(dtype)

    def torch_side():
        xt, g, b = (_torch(a, True) for a in (x, gamma, beta))
        return lambda: F.layer_norm(xt, shape[1:], g, b), (xt, g, b), _torch(dout)

    return (
        lambda module: (
            lambda: module.layernorm_forward(x, gamma, beta, {}),
            module.layernorm_backward,
            dout,
        ),
        torch_side,
    )


def _groupnorm(shape, G, dtype):
    x, dout = RNG.standard_normal((2, *shape)).astype(dtype)
    gamma, beta = RNG.standard_normal((2, shape[1])).astype(dtype)

    def torch_side():
        xt, g, b = (_torch(a, True) for a in (x, gamma, beta))
        return lambda: F.group_norm(xt, G, g, b), (xt, g, b), _torch(dout)

    return (
        lambda module: (
            lambda: module.spatial_groupnorm_forward(x, gamma, beta, G, {}),
            module.spatial_groupnorm_backward,
            dout,
        ),
        torch_side,
    )


def _pool(shape, size, stride, dtype):
    x = RNG.standard_normal(shape).astype(dtype)
    param = {"pool_height": size, "pool_width": size, "stride": stride}
    dout = RNG.standard_normal(layers.max_pool_forward_fast(x, param)[0].shape).astype(dtype)

    def torch_side():
        xt = _torch(x, True)
        return lambda: F.max_pool2d(xt, size, stride), (xt,), _torch(dout)

    return (
        lambda module: (
            lambda: module.max_pool_forward_fast(x, param),
            module.max_pool_backward_fast,
            dout,
        ),
        torch_side,
    )


def _conv(shape, filters, size, stride, pad, dtype):
    x = RNG.standard_normal(shape).astype(dtype)
    w = (0.1 * RNG.standard_normal((filters, shape[1], size, size))).astype(dtype)
    b = RNG.standard_normal(filters).astype(dtype)
    param = {"stride": stride, "pad": pad}
    dout = RNG.standard_normal(layers.conv_forward_fast(x, w, b, param)[0].shape).astype(dtype)

    def torch_side():
        xt, wt, bt = (_torch(a, True) for a in (x, w, b))
        return lambda: F.conv2d(xt, wt, bt, stride, pad), (xt, wt, bt), _torch(dout)

    return (
        lambda module: (
            lambda: module.conv_forward_fast(x, w, b, param),
            module.conv_backward_fast,
            dout,
        ),
        torch_side,
    )


def _affine(N, D, M, dtype):
    x = RNG.standard_normal((N, D)).astype(dtype)
    w = RNG.standard_normal((D, M)).astype(dtype)
    b = RNG.standard_normal(M).astype(dtype)
    dout = RNG.standard_normal((N, M)).astype(dtype)

    def torch_side():
        xt, wt, bt = (_torch(a, True) for a in (x, w, b))
        return lambda: torch.addmm(bt, xt, wt), (xt, wt, bt), _torch(dout)

    return (
        lambda module: (
            lambda: module.affine_forward(x, w, b),
            module.affine_backward,
            dout,
        ),
        torch_side,
    )


CASES = {
    "batchnorm 100x500": lambda d: _batchnorm((100, 500), d),
    "batchnorm 256x1024": lambda d: _batchnorm((256, 1024), d),
    "batchnorm 4096x1024": lambda d: _batchnorm((4096, 1024), d),
    "spatial batchnorm 8x512x7x7": lambda d: _batchnorm((8, 512, 7, 7), d),
    "spatial batchnorm 64x64x32x32": lambda d: _batchnorm((64, 64, 32, 32), d),
    "spatial batchnorm 64x64x56x56": lambda d: _batchnorm((64, 64, 56, 56), d),
    "layernorm 1024x768": lambda d: _layernorm((1024, 768), d),
    "groupnorm 32x64x32x32 G8": lambda d: _groupnorm((32, 64, 32, 32), 8, d),
    "maxpool 100x32x32x32 2x2/2": lambda d: _pool((100, 32, 32, 32), 2, 2, d),
    "maxpool 64x64x56x56 3x3/2": lambda d: _pool((64, 64, 56, 56), 3, 2, d),
    "conv N100 C3 31x31 F25 3x3 s2 p1": lambda d: _conv((100, 3, 31, 31), 25, 3, 2, 1, d),
    "conv N50 C3 32x32 F32 7x7 p3": lambda d: _conv((50, 3, 32, 32), 32, 7, 1, 3, d),
    "conv N100 C32 32x32 F32 3x3 p1": lambda d: _conv((100, 32, 32, 32), 32, 3, 1, 1, d),
    "conv N32 C256 14x14 F256 3x3 p1": lambda d: _conv((32, 256, 14, 14), 256, 3, 1, 1, d),
    "conv N64 C64 56x56 F64 1x1": lambda d: _conv((64, 64, 56, 56), 64, 1, 1, 0, d),
    "conv N16 C3 224x224 F64 7x7 s2 p3": lambda d: _conv((16, 3, 224, 224), 64, 7, 2, 3, d),
    "affine 100x3072x100": lambda d: _affine(100, 3072, 100, d),
    "affine 512x1024x1024": lambda d: _affine(512, 1024, 1024, d),
}


def _torch(array, grad=False):
    return torch.from_numpy(array).clone().requires_grad_(grad)


def _seconds(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def _numpy_times(forward, backward, dout):
    first, (_, cache) = _seconds(forward)
    second, _ = _seconds(lambda: backward(dout, cache))
    return first, first + second


def _torch_times(forward, inputs, dout):
    first, out = _seconds(forward)
    second, _ = _seconds(lambda: torch.autograd.grad(out, inputs, dout))
    return first, first + second


def measure(case, dtype, seconds):
    """Median (forward, forward + backward) milliseconds of every side, calls alternating."""
    numpy_side, torch_side = CASES[case](dtype)
    sides = {"fastbn": (numpy_side(layers), _numpy_times)}
    if torch is not None:
        sides["torch"] = (torch_side(), _torch_times)
    sides["reference"] = (numpy_side(reference), _numpy_times)
    times = {name: [] for name in sides}
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(times["fastbn"]) < 3 * TURN:
        for name, (arguments, run) in sides.items():
            if name == "reference" and len(times[name]) >= 2 * TURN:
                continue  # slow, and no close race
            time.sleep(PAUSE)
            run(*arguments)
            for _ in range(TURN):
                times[name].append(run(*arguments))
    return {
        name: [1e3 * statistics.median(t) for t in zip(*values, strict=True)]
        for name, values in times.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--only", default="", help="cases whose name holds this text")
    parser.add_argument("--seconds", type=float, default=3, help="for each case")
    parser.add_argument("--json", help="also write the milliseconds to this file")
    options = parser.parse_args()
    fastbn.set_num_threads(options.threads)
    if torch is not None:
        torch.set_num_threads(fastbn.get_num_threads())
    print(
        f"{options.dtype}, {fastbn.get_num_threads()} threads,"
        f" level {fastbn.show_config('dict')['cpu']['level in use']};"
        " milliseconds: forward, forward + backward; ratios over fastbn"
    )
    results = {}
    for case in CASES:
        if options.only not in case:
            continue
        results[case] = times = measure(case, options.dtype, options.seconds)
        line = f"{case:<36}"
        for name, (forward, both) in times.items():
            line += f" {name} {forward:8.3f} {both:8.3f}"
            if name != "fastbn":
                ours = times["fastbn"]
                line += f" ({forward / ours[0]:5.2f}x {both / ours[1]:5.2f}x)"
        print(line, flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
