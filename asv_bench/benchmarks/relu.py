from .common import DTYPES, IMPLS, Layer


class ReLU(Layer):
    params = (IMPLS, DTYPES, ["16x16", "256x1024", "4096x4096"])

    def prepare(self, rng, dtype, case):
        x = rng.standard_normal(tuple(map(int, case.split("x")))).astype(dtype)
        return "relu_forward", "relu_backward", lambda: (x,)
