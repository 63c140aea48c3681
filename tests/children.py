"""Code that runs in a Python of its own, and an hour's work in a few lines to run there."""

import os
import subprocess
import sys
import textwrap

#: Forward and backward functions with work for two threads; `results` is all that they return.
STEPS = """
import hashlib, multiprocessing, os, signal
import numpy as np
import fastbn
from fastbn import layers

fastbn.set_num_threads(2)
rng = np.random.default_rng(0)
x = rng.standard_normal((16, 8, 40, 40))
w, b = rng.standard_normal((12, 8, 3, 3)), rng.standard_normal(12)
W, B = rng.standard_normal((8 * 40 * 40, 30)), rng.standard_normal(30)

def step(name, backward, *arguments):
    out, cache = getattr(layers, name + "_forward" + backward)(*arguments)
    gradients = getattr(layers, name + "_backward" + backward)(np.cos(out), cache)
    return out, *(gradients if isinstance(gradients, tuple) else (gradients,))

def results(_=None):
    arrays = [
        *step("conv", "_fast", x, w, b, {"stride": 1, "pad": 1}),
        *step("spatial_batchnorm", "", x, b[:8], b[:8], {"mode": "train"}),
        *step("batchnorm", "", x.reshape(-1, 40), x[0, 0, 0], x[0, 0, 1], {"mode": "train"}),
        *step("max_pool", "_fast", x, {"pool_height": 2, "pool_width": 2, "stride": 2}),
        *step("affine", "", x, W, B),
        *step("relu", "", x),
    ]
    return [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]

expected = results()                           # the parent has used OpenMP
assert fastbn.get_num_threads() == (2 if fastbn._ext.runtime.openmp else 1)
"""


def run(code, folder, timeout=120, **environment):
    """Run code as a script; raises with what it wrote to stderr unless it ends well.

    A variable that is None is taken out of the environment.
    """
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    changed = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, script],
        cwd=folder,
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
