import numpy as np

from fastbn import layers, reference

from .common import DTYPES, IMPLS


class Im2col:
    param_names = ("impl", "dtype")
    params = (IMPLS, DTYPES)
    SHAPE = (50, 16, 32, 32)

    def setup(self, impl, dtype):
        self.layers = {"fastbn": layers, "reference": reference}[impl]
        self.x = np.random.default_rng(0).standard_normal(self.SHAPE).astype(dtype)
        self.cols = layers.im2col_cython(self.x, 3, 3, 1, 1)
        np.testing.assert_array_equal(self.cols, reference.im2col_cython(self.x, 3, 3, 1, 1))

    def time_im2col(self, impl, dtype):
        self.layers.im2col_cython(self.x, 3, 3, 1, 1)

    def time_col2im(self, impl, dtype):
        self.layers.col2im_cython(self.cols, *self.SHAPE, 3, 3, 1, 1)
