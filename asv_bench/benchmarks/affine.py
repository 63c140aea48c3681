from .common import DTYPES, IMPLS, Layer


class Affine(Layer):
    params = (IMPLS, DTYPES, ["100x3072x100", "512x1024x1024"])

    def prepare(self, rng, dtype, case):
        N, D, M = map(int, case.split("x"))
        x = rng.standard_normal((N, D)).astype(dtype)
        w = (rng.standard_normal((D, M)) / D**0.5).astype(dtype)
        b = rng.standard_normal(M).astype(dtype)
        return "affine_forward", "affine_backward", lambda: (x, w, b)
