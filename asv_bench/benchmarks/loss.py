import numpy as np

from fastbn import layers, reference

from .common import DTYPES, IMPLS


class Loss:
    param_names = ("impl", "dtype", "name", "shape")
    params = (IMPLS, DTYPES, ["softmax_loss", "svm_loss"], ["100x10", "4096x1000"])

    def setup(self, impl, dtype, name, shape):
        N, C = map(int, shape.split("x"))
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((N, C)).astype(dtype)
        self.y = rng.integers(C, size=N)
        self.loss = getattr({"fastbn": layers, "reference": reference}[impl], name)
        ours, theirs = (getattr(m, name)(self.x, self.y) for m in (layers, reference))
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4)
        np.testing.assert_allclose(ours[1], theirs[1], atol=1e-6)

    def time_loss(self, impl, dtype, name, shape):
        self.loss(self.x, self.y)
