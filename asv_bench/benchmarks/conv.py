from .common import DTYPES, IMPLS, PARTS, BackwardTimings, PeakMemory, Tracks

CASES = [
    "conv 100x3x31x31 F25 3x3 s2 p1",
    "conv 50x3x32x32 F32 7x7 s1 p3",
    "conv 32x256x14x14 F256 3x3 s1 p1",
]


class Conv(BackwardTimings):
    params = (IMPLS, DTYPES, CASES)


class ConvTracks(Tracks):
    params = (PARTS, DTYPES, CASES)
    unit = "GFLOP/s"

    def setup_cache(self):
        return self.measured()


class ConvMemory(PeakMemory):
    params = (IMPLS, DTYPES, CASES)

    def setup_cache(self):
        return self.verdicts()
