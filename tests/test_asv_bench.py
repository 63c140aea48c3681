"""Every asv benchmark runs once: a benchmark nobody runs is wrong unnoticed.

On every implementation, and on the smallest parameters: of cases the one with least work, of all
others the first. The smallest case must be small; no time is asserted.
"""

import functools
import importlib
import importlib.util
import inspect
import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import fastbn
from fastbn import _ext, classifiers, layers
from fastbn import reference as installed_reference
from fastbn.layers import _fused

SUITE = Path(__file__).parents[1] / "asv_bench"
BENCHMARKS = SUITE / "benchmarks"
#: Operations, or numbers moved: a tenth of a second for the slowest of plain NumPy.
SMALL = 200_000_000
KINDS = ("time_", "timeraw_", "peakmem_", "track_")


def _import_suite():
    """Import the folder as a package, without its parent on the path, as asv does."""
    spec = importlib.util.spec_from_file_location(
        "benchmarks", BENCHMARKS / "__init__.py", submodule_search_locations=[str(BENCHMARKS)]
    )
    sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem != "__init__")
    return [importlib.import_module(f"benchmarks.{name}") for name in names]


MODULES = _import_suite()
common = sys.modules["benchmarks.common"]


def _methods(cls):
    return [name for name in dir(cls) if name.startswith(KINDS)]


#: As asv finds them: every class that a module has, its imported ones too, unless it is abstract.
CLASSES = [
    cls
    for module in MODULES
    for name, cls in vars(module).items()
    if inspect.isclass(cls) and not name.startswith("_")
    if not inspect.isabstract(cls) and _methods(cls)
]
NAMES = {
    f"{cls.__module__.removeprefix('benchmarks.')}.{cls.__name__}.{method}"
    for cls in CLASSES
    for method in _methods(cls)
}
OF_LAYERS = [
    cls for cls in CLASSES if issubclass(cls, (common.Timings, common.Tracks, common.PeakMemory))
]


@functools.cache
def work(name):
    if name in common.STEPS:
        step = common.STEPS[name]
        net = step.net(classifiers, "float32")
        return 6 * len(step.batch("float32")[0]) * sum(p.size for p in net.params.values())
    case = common.CASES[name]("float32")
    return max(sum(case.moved), sum(case.flops))


def smallest(cls):
    """The parameters to run with: all implementations, and one value of each of the others."""
    chosen = []
    for name, values in zip(
        getattr(cls, "param_names", ()), getattr(cls, "params", ()), strict=True
    ):
        if name == "case":
            case = min(values, key=work)
            assert work(case) <= SMALL, f"{cls.__name__} has no case small enough to test"
            values = [case]
        chosen.append(list(values) if name in ("impl", "part", "function") else [values[0]])
    return chosen


def run(cls, params):
    """Method -> what it returned, for each combination of parameters; None where it is n/a."""
    benchmark = cls()
    benchmark.params = params
    benchmark.seconds = 0
    cache = [benchmark.setup_cache()] if hasattr(benchmark, "setup_cache") else []
    found = {}
    for arguments in itertools.product(*params):
        try:
            if hasattr(benchmark, "setup"):
                benchmark.setup(*cache, *arguments)
        except NotImplementedError:
            found[arguments] = None
            continue
        found[arguments] = {n: getattr(benchmark, n)(*cache, *arguments) for n in _methods(cls)}
        if hasattr(benchmark, "teardown"):
            benchmark.teardown(*cache, *arguments)
    return found


@pytest.fixture(autouse=True)
def one_thread():
    """The suite sets the threads of NumPy's BLAS and of PyTorch: here they are put back."""
    stream = np.random.get_state()
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    fastbn.set_num_threads(1)
    with threadpool_limits():
        yield
    fastbn.set_num_threads(None)
    np.random.set_state(stream)
    if torch:
        torch.set_num_threads(before)


def test_there_is_one_for_every_kernel():
    assert set(_ext.KERNELS) <= {cls.__module__.removeprefix("benchmarks.") for cls in CLASSES}
    for cls in CLASSES:
        if issubclass(cls, common.Timings):
            tracks = getattr(sys.modules[cls.__module__], f"{cls.__name__}Tracks")
            assert tracks.params[1:] == cls.params[1:]


def test_asv_finds_the_same(tmp_path):
    found = tmp_path / "found.json"
    for command, *arguments in (("check", BENCHMARKS), ("discover", BENCHMARKS, found)):
        subprocess.run(
            [sys.executable, "-m", "asv.benchmark", command, *map(str, arguments)],
            cwd=tmp_path,
            check=True,
            timeout=120,
        )
    benchmarks = json.loads(found.read_text())
    assert {benchmark["name"] for benchmark in benchmarks} == NAMES
    # asv keeps a cache for each line that a setup_cache is on: an inherited one would be shared.
    keys = {}
    for benchmark in benchmarks:
        if "setup_cache_key" in benchmark:
            keys.setdefault(benchmark["setup_cache_key"], set()).add(
                benchmark["name"].rpartition(".")[0]
            )
    assert keys and all(len(classes) == 1 for classes in keys.values())


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_runs_with_each_implementation(cls):
    params = smallest(cls)
    has_torch = importlib.util.find_spec("torch") is not None
    for arguments, values in run(cls, params).items():
        if values is None:
            assert cls.__name__ == "Size" or (
                arguments[0] == "torch" and (not has_torch or "Im2col" in cls.__name__)
            )
        elif issubclass(cls, common.StepTracks):
            assert values["track_ratio"] > 0
            assert values["track_speedup"] == pytest.approx(1 / values["track_ratio"])
            torch_ratio = values["track_torch_ratio"]
            assert torch_ratio > 0 or not has_torch or cls.__name__ == "Im2colTracks"
            if issubclass(cls, common.Tracks):
                assert values["track_rate"] > 0 and values["track_limit_share"] > 0
        else:
            tracked = [value for name, value in values.items() if name.startswith("track_")]
            assert all(value > 0 or _ext.level == "plain" for value in tracked)


@pytest.mark.parametrize("dtype", common.DTYPES)
@pytest.mark.parametrize("cls", OF_LAYERS, ids=lambda cls: cls.__name__)
def test_what_is_wrong_posts_no_time(cls, dtype, monkeypatch):
    """A thousandth of the largest number is added to one number of one result."""

    def broken(function):
        def wrong(*args):
            results = function(*args)
            first = results[0] if isinstance(results, tuple) else results
            first = np.array(first)
            first.flat[0] += 1e-3 * np.abs(first).max()
            return (first, *results[1:]) if isinstance(results, tuple) else first

        return wrong

    params = smallest(cls)
    params[1] = [dtype]
    case = common.CASES[params[2][0]](dtype)
    calls = _calls(case)
    for name in calls:
        with monkeypatch.context() as patch:
            patch.setattr(layers, name, broken(getattr(layers, name)))
            with pytest.raises(common.Wrong, match="result .* is off by"):
                run(cls, params)
    with monkeypatch.context() as patch:
        patch.delattr(layers, calls[0])
        for values in run(cls, params).values():
            assert values is None or all(math.isnan(value) for value in values.values())


def _calls(case):
    """Names of the layers that a case calls."""

    class Spy:
        called = []

        def __getattr__(self, name):
            self.called.append(name)
            return getattr(layers, name)

    spy = Spy()
    common.results(case, spy)
    return spy.called


@pytest.mark.parametrize(
    ("net", "module", "name", "index"),
    [
        ("FullyConnectedNet", layers, "affine_backward", 0),
        ("FullyConnectedNet", layers, "affine_backward", 1),
        ("FullyConnectedNet", layers, "affine_backward", 2),
        ("FullyConnectedNet", layers, "softmax_loss", 0),
        ("FullyConnectedNet", layers, "softmax_loss", 1),
        ("FullyConnectedNet", _fused, "batchnorm_relu_backward", 0),
        ("FullyConnectedNet", _fused, "batchnorm_relu_backward", 1),
        ("FullyConnectedNet", _fused, "batchnorm_relu_backward", 2),
        ("ThreeLayerConvNet", layers, "affine_backward", 1),
        ("ThreeLayerConvNet", layers, "conv_backward_fast", 1),
        ("ThreeLayerConvNet", layers, "conv_backward_fast", 2),
    ],
)
def test_a_step_with_a_wrong_gradient_posts_no_time(net, module, name, index, monkeypatch):
    """A hundredth too much; in float32, whose rounding hides more."""
    right = getattr(module, name)

    def wrong(*args):
        results = list(right(*args))
        results[index] = 1.01 * results[index]
        return tuple(results)

    step = next(step for step in common.STEPS if net in step)
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(common.Wrong, match="is off by"):
        common.checked_step(step, "float32")


def test_a_wrong_call_or_training_posts_no_time(monkeypatch):
    package, experiments = sys.modules["benchmarks.package"], sys.modules["benchmarks.experiments"]
    for name in package.Call.params[2]:
        right = getattr(layers, name)
        with monkeypatch.context() as patch:
            patch.setattr(layers, name, lambda *args, right=right: (1.001 * right(*args)[0], None))
            with pytest.raises(common.Wrong, match=name):
                package.Call().setup("fastbn", "float32", name)
    right, net = layers.affine_forward, classifiers.FullyConnectedNet
    monkeypatch.setattr(net, "layers", net.layers)  # the benchmark changes it
    monkeypatch.setattr(
        layers, "affine_forward", lambda *args: (1.01 * (r := right(*args))[0], r[1])
    )
    with pytest.raises(common.Wrong, match="losses differ"):
        experiments.BatchNormExperiment().setup("fastbn", "float32")


def test_check_names_what_differs():
    right = [np.ones((3, 2), np.float32)]
    common.check("case", "float32", right, right, 6)
    for wrong, message in (
        ([], "0 results, and 1 of the reference"),
        ([np.ones((2, 3), np.float32)], r"float32 \(2, 3\); the reference's float32 \(3, 2\)"),
        ([np.ones((3, 2))], r"float64 \(3, 2\); the reference's float32 \(3, 2\)"),
        ([np.full((3, 2), np.nan, np.float32)], "off by nan"),
        ([np.full((3, 2), 1 + 1e-5, np.float32)], "off by 1e-05; rounding is 3.81e-06"),
    ):
        with pytest.raises(common.Wrong, match=message):
            common.check("case", "float32", wrong, right, 6)
    # Small results are held to their own size, unless they are what cancels to 0.
    small, other = [1e-9 * right[0]], [1.001e-9 * right[0]]
    with pytest.raises(common.Wrong, match="off by 1e-12; rounding is 3.81e-15"):
        common.check("case", "float32", other, small, 6)
    common.check("case", "float32", other, small, 6, floor=1e-3)


def test_the_ruler_is_this_checkouts():
    folder = Path(common.reference.__file__).parents[1]
    assert folder == SUITE.parent / "fastbn"
    assert common.reference is not installed_reference
    assert "fastbn" not in common.reference.relu_forward.__module__


def test_a_level_that_the_machine_lacks_is_not_an_error(monkeypatch):
    monkeypatch.setenv("FASTBN_ISA", "v9")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from benchmarks.common import installed\n"
        "try: installed()\n"
        "except NotImplementedError as error: print(error)"
    )
    child = subprocess.run(
        [sys.executable, "-P", "-c", code, str(SUITE)], capture_output=True, text=True, check=True
    )
    assert "FASTBN_ISA must be one of" in child.stdout


@pytest.mark.parametrize("cls", OF_LAYERS, ids=lambda cls: cls.__name__)
def test_without_that_level_every_number_is_missing(cls, monkeypatch):
    def installed(name="fastbn"):
        raise NotImplementedError(f"no {name} of this level")

    monkeypatch.setattr(common, "installed", installed)
    benchmark = cls()
    setup = getattr(benchmark, "setup", None)
    if not hasattr(benchmark, "setup_cache"):
        with pytest.raises(NotImplementedError):
            setup(*(values[0] for values in cls.params))
        return
    cache = benchmark.setup_cache()
    assert set(cache.values()) == {None}
    parameters = [values[0] for values in cls.params]
    for name in _methods(cls):
        if name.startswith("track_"):
            assert math.isnan(getattr(benchmark, name)(cache, *parameters))
        else:
            with pytest.raises(NotImplementedError):
                setup(cache, *parameters)


def test_only_tracks_of_which_less_is_better_can_regress():
    import asv.util

    config, levels = (
        asv.util.load_json(str(SUITE / name), js_comments=True)
        for name in ("asv.conf.json", "asv.levels.conf.json")
    )
    patterns = config["regressions_first_commits"]
    assert set(patterns.values()) == {None}
    silent = {
        name.rpartition(".")[2]
        for name in NAMES
        if any(re.match(pattern, name) for pattern in patterns)
    }
    assert silent == {"track_speedup", "track_rate", "track_limit_share", "track_cpu_level"}
    # The two configurations differ in what they run, not in how.
    assert levels.pop("matrix")["req"] == config.pop("matrix")["req"]
    assert levels == config
