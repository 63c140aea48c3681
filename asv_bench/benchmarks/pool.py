from .common import DTYPES, IMPLS, Layer


class MaxPool(Layer):
    #: shape, window, stride
    CASES = {
        "100x32x32x32 2x2/2": ((100, 32, 32, 32), 2, 2),
        "64x64x56x56 3x3/2": ((64, 64, 56, 56), 3, 2),
    }
    params = (IMPLS, DTYPES, list(CASES))

    def prepare(self, rng, dtype, case):
        shape, window, stride = self.CASES[case]
        x = rng.standard_normal(shape).astype(dtype)
        param = {"pool_height": window, "pool_width": window, "stride": stride}
        return "max_pool_forward_fast", "max_pool_backward_fast", lambda: (x, param)
