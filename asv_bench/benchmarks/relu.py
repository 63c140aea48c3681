from .common import DTYPES, IMPLS, PARTS, BackwardTimings, Tracks

CASES = ["relu 100x500", "relu 1000x1000"]


class ReLU(BackwardTimings):
    params = (IMPLS, DTYPES, CASES)


class ReLUTracks(Tracks):
    params = (PARTS, DTYPES, CASES)

    def setup_cache(self):
        return self.measured()
