from .common import DTYPES, IMPLS, PARTS, BackwardTimings, PeakMemory, Tracks

CASES = ["batchnorm 100x500", "batchnorm 4096x1024"]
SPATIAL = ["spatial_batchnorm 8x512x7x7", "spatial_batchnorm 64x64x32x32"]


class BatchNorm(BackwardTimings):
    params = (IMPLS, DTYPES, CASES)


class BatchNormTracks(Tracks):
    params = (PARTS, DTYPES, CASES)

    def setup_cache(self):
        return self.measured()


class SpatialBatchNorm(BackwardTimings):
    params = (IMPLS, DTYPES, SPATIAL)


class SpatialBatchNormTracks(Tracks):
    params = (PARTS, DTYPES, SPATIAL)

    def setup_cache(self):
        return self.measured()


class SpatialBatchNormMemory(PeakMemory):
    params = (IMPLS, DTYPES, SPATIAL)

    def setup_cache(self):
        return self.verdicts()
