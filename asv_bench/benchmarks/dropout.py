from .common import DTYPES, IMPLS, PARTS, BackwardTimings, Tracks

CASES = ["dropout 100x500", "dropout 1000x1000"]


class Dropout(BackwardTimings):
    params = (IMPLS, DTYPES, CASES)


class DropoutTracks(Tracks):
    params = (PARTS, DTYPES, CASES)

    def setup_cache(self):
        return self.measured()
