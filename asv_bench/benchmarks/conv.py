import numpy as np

from fastbn import layers

from .common import DTYPES, IMPLS, Layer


class Conv(Layer):
    #: shape of x, filters, their side, stride, pad
    CASES = {
        "N100 C3 31x31 F25 3x3 s2 p1": ((100, 3, 31, 31), 25, 3, 2, 1),
        "N50 C3 32x32 F32 7x7 p3": ((50, 3, 32, 32), 32, 7, 1, 3),
        "N100 C32 32x32 F32 3x3 p1": ((100, 32, 32, 32), 32, 3, 1, 1),
        "N32 C256 14x14 F256 3x3 p1": ((32, 256, 14, 14), 256, 3, 1, 1),
    }
    params = (IMPLS, DTYPES, list(CASES))
    timeout = 120

    def prepare(self, rng, dtype, case):
        shape, filters, side, stride, pad = self.CASES[case]
        x = rng.standard_normal(shape).astype(dtype)
        w = rng.standard_normal((filters, shape[1], side, side)).astype(dtype)
        b = rng.standard_normal(filters).astype(dtype)
        param = {"stride": stride, "pad": pad}
        return "conv_forward_fast", "conv_backward_fast", lambda: (x, w, b, param)


class ConvMemory:
    """Peak memory of a training step's convolution, next to the same by the column matrix.

    What `setup` holds, x, w, b and dout, is in it: 24 MB in float32.
    """

    params = (("fast", "im2col"), DTYPES)
    param_names = ("variant", "dtype")

    def setup(self, variant, dtype):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((64, 32, 32, 32)).astype(dtype)
        self.w = rng.standard_normal((32, 32, 3, 3)).astype(dtype)
        self.b = np.zeros(32, dtype)
        self.dout = np.ones((64, 32, 32, 32), dtype)

    def peakmem_forward_and_backward(self, variant, dtype):
        forward = getattr(layers, f"conv_forward_{variant}")
        out, cache = forward(self.x, self.w, self.b, {"stride": 1, "pad": 1})
        getattr(layers, f"conv_backward_{variant}")(self.dout, cache)
