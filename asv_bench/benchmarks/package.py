"""What it costs to have fastbn: its size, its import, and calls that have next to nothing to do."""

import importlib.metadata
import io
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

from .common import DTYPES, check, installed, limit_threads, reference


class Import:
    """Import time in a fresh interpreter; NumPy's own is most of it."""

    def timeraw_import(self):
        return "import fastbn"

    def timeraw_import_numpy(self):
        return "import numpy"

    def track_import_beyond_numpy(self):
        code = (
            "import time, numpy; start = time.perf_counter(); import fastbn;"
            " print(time.perf_counter() - start)"
        )
        # -P: what is installed, not an unbuilt source tree that is the working directory.
        command = [sys.executable, "-P", "-c", code]
        runs = [
            subprocess.run(command, capture_output=True, check=True, text=True) for _ in range(5)
        ]
        return statistics.median(float(run.stdout) for run in runs)

    track_import_beyond_numpy.unit = "seconds"


class Size:
    """Of what is installed; n/a where fastbn is imported from a source tree."""

    def setup(self):
        package = Path(installed().__file__)
        try:
            files = importlib.metadata.files("fastbn") or []
        except importlib.metadata.PackageNotFoundError:
            files = []
        self.files = [path for file in files if (path := Path(file.locate())).is_file()]
        if package not in self.files:
            raise NotImplementedError(f"{package} is not of an installed wheel")
        self.files = [path for path in self.files if path.suffix != ".pyc"]

    def track_installed(self):
        return sum(path.stat().st_size for path in self.files)

    track_installed.unit = "bytes"

    def track_wheel(self):
        """The installed files, compressed as in a wheel: asv does not tell where the wheel is."""
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in self.files:
                archive.write(path)
        return wheel.getbuffer().nbytes

    track_wheel.unit = "bytes"


class Build:
    """What is running."""

    def track_cpu_level(self):
        """4 for x86-64-v4; n/a on other architectures."""
        level = installed("fastbn._ext").level
        return float("nan") if level == "plain" else int(level.removeprefix("v"))

    track_cpu_level.unit = "x86-64-v"


class Call:
    """Calls on arrays of a few numbers: checks, allocation and the way into compiled code."""

    param_names = ("impl", "dtype", "function")
    params = (
        ("fastbn", "reference"),
        DTYPES,
        (
            "affine_forward",
            "batchnorm_forward",
            "conv_forward_fast",
            "layernorm_forward",
            "max_pool_forward_fast",
            "relu_forward",
            "softmax_loss",
        ),
    )

    def setup(self, impl, dtype, function):
        limit_threads()
        rng = np.random.default_rng(0)
        x, w = rng.standard_normal((2, 2, 3)).astype(dtype)
        image, filters = rng.standard_normal((2, 1, 2, 4, 4)).astype(dtype)
        b, gamma, beta = rng.standard_normal((3, 3)).astype(dtype)
        self.arguments = {
            "affine_forward": (x, np.ascontiguousarray(w.T), b[:2]),
            "batchnorm_forward": (x, gamma, beta, {"mode": "train"}),
            "conv_forward_fast": (image, filters[..., :3, :3], b[:1], {"stride": 1, "pad": 1}),
            "layernorm_forward": (x, gamma, beta, {}),
            "max_pool_forward_fast": (
                image, {"pool_height": 2, "pool_width": 2, "stride": 2},
            ),
            "relu_forward": (x,),
            "softmax_loss": (x, np.array([0, 2])),
        }[function]  # fmt: skip
        layers = installed("fastbn.layers")
        if not hasattr(layers, function):
            raise NotImplementedError(f"this commit has no {function}")
        ours, theirs = (
            getattr(module, function)(*self.arguments)[0] for module in (layers, reference)
        )
        # Two rows to normalize: what they differ by may be small.
        check(function, dtype, [ours], [theirs], work=0, least=1024)
        self.call = getattr(layers if impl == "fastbn" else reference, function)

    def time_call(self, impl, dtype, function):
        self.call(*self.arguments)
