from .common import DTYPES, IMPLS, Layer


class BatchNorm(Layer):
    params = (IMPLS, DTYPES, ["16x16", "100x500", "256x1024", "4096x1024"])

    def prepare(self, rng, dtype, case):
        shape = tuple(map(int, case.split("x")))
        x = rng.standard_normal(shape).astype(dtype)
        gamma, beta = rng.standard_normal((2, shape[1])).astype(dtype)
        name = "spatial_batchnorm" if len(shape) == 4 else "batchnorm"
        arguments = (x, gamma, beta)
        return f"{name}_forward", f"{name}_backward", lambda: (*arguments, {"mode": "train"})


class SpatialBatchNorm(BatchNorm):
    params = (IMPLS, DTYPES, ["8x512x7x7", "64x64x32x32", "64x64x56x56"])
