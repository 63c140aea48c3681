"""What the benchmarks share. Parameters are the same on every machine."""

import numpy as np

from fastbn import layers, reference

IMPLS = ("fastbn", "reference")
DTYPES = ("float32", "float64")


class Layer:
    """Times a forward and a backward function; a subclass names the cases and makes the arguments.

    ``impl`` is a parameter, so the speed-up is the ratio of two columns. Before anything is timed
    both implementations must agree: a wrong kernel cannot post a time.
    """

    param_names = ("impl", "dtype", "case")

    def prepare(self, rng, dtype, case):
        """(forward's name, backward's name, forward's arguments) for one case."""
        raise NotImplementedError

    def setup(self, impl, dtype, case):
        rng = np.random.default_rng(0)
        forward, backward, arguments = self.prepare(rng, dtype, case)
        results = {}
        for name, module in (("fastbn", layers), ("reference", reference)):
            self.forward = getattr(module, forward)
            self.backward = getattr(module, backward)
            out, self.cache = self.forward(*arguments())
            self.dout = np.ones_like(out)
            results[name] = (out, *_tuple(self.backward(self.dout, self.cache)))
            if name == impl:
                chosen = self.forward, self.backward, self.cache
        for ours, theirs in zip(*results.values(), strict=True):
            scale = max(1, np.abs(theirs).max(initial=0))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * scale)
        self.forward, self.backward, self.cache = chosen
        self.arguments = arguments()

    def time_forward(self, impl, dtype, case):
        self.forward(*self.arguments)

    def time_backward(self, impl, dtype, case):
        self.backward(self.dout, self.cache)


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)
