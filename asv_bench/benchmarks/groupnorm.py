from .common import DTYPES, IMPLS, Layer


class GroupNorm(Layer):
    params = (IMPLS, DTYPES, ["8x32x14x14", "32x64x32x32"])

    def prepare(self, rng, dtype, case):
        shape = tuple(map(int, case.split("x")))
        x = rng.standard_normal(shape).astype(dtype)
        gamma, beta = rng.standard_normal((2, 1, shape[1], 1, 1)).astype(dtype)
        return (
            "spatial_groupnorm_forward",
            "spatial_groupnorm_backward",
            lambda: (x, gamma, beta, 8, {}),
        )
