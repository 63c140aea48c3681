import numpy as np

from .common import Wrong, installed, limit_threads, reference


class BatchNormExperiment:
    """The study of batch normalization, small: two trainings of 36 steps."""

    param_names = ("impl", "dtype")
    params = (("fastbn", "reference"), ("float32", "float64"))
    timeout = 300
    repeat = (3, 10, 4.0)

    def setup(self, impl, dtype):
        limit_threads()
        installed("joblib")
        study = installed("fastbn.experiments.batchnorm")
        self.net = installed("fastbn.classifiers").FullyConnectedNet
        self.ours = self.net.layers
        rng = np.random.default_rng(0)
        self.data = {
            "X_train": rng.standard_normal((600, 3, 8, 8)),
            "y_train": rng.integers(10, size=600),
            "X_val": rng.standard_normal((100, 3, 8, 8)),
            "y_val": rng.integers(10, size=100),
        }
        self.run = lambda epochs: study.run(
            self.data, num_train=600, hidden=(100, 100), epochs=epochs, dtype=dtype, n_jobs=1
        )
        losses = []
        for layers in (self.ours, reference):
            self.net.layers = layers
            losses.append([t["loss_history"] for t in self.run(1)["trainings"]])
        # Twelve steps of Adam carry rounding errors on.
        if not np.allclose(*losses, rtol=np.finfo(dtype).eps ** 0.5, atol=0):
            raise Wrong(f"losses differ: {np.abs(np.subtract(*losses)).max():.3g}")
        self.net.layers = self.ours if impl == "fastbn" else reference

    def teardown(self, impl, dtype):
        self.net.layers = self.ours

    def time_run(self, impl, dtype):
        self.run(3)
