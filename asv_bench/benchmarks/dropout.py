from .common import DTYPES, IMPLS, Layer


class Dropout(Layer):
    params = (IMPLS, DTYPES, ["100x500", "1024x1024"])

    def prepare(self, rng, dtype, case):
        x = rng.standard_normal(tuple(map(int, case.split("x")))).astype(dtype)
        param = {"mode": "train", "p": 0.5, "seed": 0}
        return "dropout_forward", "dropout_backward", lambda: (x, param)
