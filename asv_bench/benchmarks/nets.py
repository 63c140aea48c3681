import numpy as np

from fastbn import layers, reference
from fastbn.classifiers.fc_net import FullyConnectedNet

from .common import IMPLS


class FullyConnectedStep:
    """Loss and gradients of one minibatch of CIFAR-10's shape."""

    param_names = ("impl", "dtype", "normalization")
    params = (IMPLS, ["float32", "float64"], ["none", "batchnorm", "layernorm"])

    def setup(self, impl, dtype, normalization):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((100, 3, 32, 32))
        self.y = rng.integers(10, size=100)
        np.random.seed(0)
        self.net = FullyConnectedNet(
            [100] * 5,
            normalization=None if normalization == "none" else normalization,
            weight_scale=2e-2,
            dtype=np.dtype(dtype).type,
        )
        losses = []
        for module in (layers, reference):
            self.net.layers = module
            losses.append(self.net.loss(self.x, self.y)[0])
        np.testing.assert_allclose(*losses, rtol=1e-4)
        self.net.layers = {"fastbn": layers, "reference": reference}[impl]

    def time_step(self, impl, dtype, normalization):
        self.net.loss(self.x, self.y)
