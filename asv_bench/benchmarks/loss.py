from .common import DTYPES, IMPLS, Timings, Tracks

CASES = ["softmax_loss 100x10", "softmax_loss 1000x100", "svm_loss 1000x100"]


class Loss(Timings):
    """A loss gives its gradient at once: there is no backward pass."""

    params = (IMPLS, DTYPES, CASES)


class LossTracks(Tracks):
    params = (["both"], DTYPES, CASES)

    def setup_cache(self):
        return self.measured()
