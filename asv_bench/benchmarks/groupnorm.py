from .common import DTYPES, IMPLS, PARTS, BackwardTimings, Tracks

CASES = ["spatial_groupnorm 8x512x7x7 G32", "spatial_groupnorm 32x64x32x32 G8"]


class GroupNorm(BackwardTimings):
    params = (IMPLS, DTYPES, CASES)


class GroupNormTracks(Tracks):
    params = (PARTS, DTYPES, CASES)

    def setup_cache(self):
        return self.measured()
