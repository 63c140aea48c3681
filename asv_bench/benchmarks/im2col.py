from .common import DTYPES, IMPLS, PARTS, BackwardTimings, Tracks

CASES = ["im2col 50x3x32x32 3x3 s1 p1", "im2col 50x16x32x32 3x3 s1 p1"]


class Im2col(BackwardTimings):
    """im2col forward, col2im backward."""

    params = (IMPLS, DTYPES, CASES)


class Im2colTracks(Tracks):
    params = (PARTS, DTYPES, CASES)

    def setup_cache(self):
        return self.measured()
