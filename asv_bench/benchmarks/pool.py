from .common import DTYPES, IMPLS, PARTS, BackwardTimings, Tracks

CASES = [
    "max_pool 16x64x13x13 3x3/2",
    "max_pool 100x32x32x32 2x2/2",
]


class MaxPool(BackwardTimings):
    params = (IMPLS, DTYPES, CASES)


class MaxPoolTracks(Tracks):
    params = (PARTS, DTYPES, CASES)

    def setup_cache(self):
        return self.measured()
