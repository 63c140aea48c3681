"""Training steps: loss, gradients, Adam's update."""

from .common import DTYPES, IMPLS, STEPS, StepTimings, StepTracks


class TrainingStep(StepTimings):
    params = (IMPLS, DTYPES, list(STEPS))


class TrainingStepTracks(StepTracks):
    params = (["both"], DTYPES, list(STEPS))

    def setup_cache(self):
        return self.measured()
