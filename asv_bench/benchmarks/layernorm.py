from .common import DTYPES, IMPLS, Layer


class LayerNorm(Layer):
    params = (IMPLS, DTYPES, ["16x16", "100x500", "1024x768", "8192x64", "64x4096"])

    def prepare(self, rng, dtype, case):
        shape = tuple(map(int, case.split("x")))
        x = rng.standard_normal(shape).astype(dtype)
        gamma, beta = rng.standard_normal((2, shape[1])).astype(dtype)
        return "layernorm_forward", "layernorm_backward", lambda: (x, gamma, beta, {})
