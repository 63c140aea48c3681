from .common import DTYPES, IMPLS, PARTS, BackwardTimings, Tracks

CASES = ["layernorm 100x500", "layernorm 1024x768"]


class LayerNorm(BackwardTimings):
    params = (IMPLS, DTYPES, CASES)


class LayerNormTracks(Tracks):
    params = (PARTS, DTYPES, CASES)

    def setup_cache(self):
        return self.measured()
