from .common import DTYPES, IMPLS, PARTS, BackwardTimings, Tracks

CASES = ["affine 100x3072x100", "affine 512x1024x1024"]


class Affine(BackwardTimings):
    params = (IMPLS, DTYPES, CASES)


class AffineTracks(Tracks):
    params = (PARTS, DTYPES, CASES)
    unit = "GFLOP/s"

    def setup_cache(self):
        return self.measured()
