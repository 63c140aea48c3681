"""Results do not depend on threads; threads do not depend on luck."""

import concurrent.futures
import threading

import children
import numpy as np
import operations
import pytest
from threadpoolctl import threadpool_limits

import fastbn
from fastbn import _ext, _memory, _threads, layers
from fastbn.classifiers.cnn import ThreeLayerConvNet
from fastbn.classifiers.fc_net import FullyConnectedNet

COUNTS = (1, 2, 3, 5, 16)


def _normal(*shape):
    return np.random.default_rng(7).standard_normal(shape)


def _batchnorm(shape, mode):
    def arguments():
        C = shape[1]
        param = {"mode": mode, "running_mean": _normal(C), "running_var": np.ones(C)}
        return _normal(*shape), _normal(C), _normal(C), param

    return arguments


def _conv(shape, F, HH, WW, stride, pad):
    w = _normal(F, shape[1], HH, WW)
    return lambda: (_normal(*shape), w, _normal(F), {"stride": stride, "pad": pad})


def _pool(shape, size, stride):
    param = {"pool_height": size, "pool_width": size, "stride": stride}
    return lambda: (_normal(*shape), param)


def _labels(N, C):
    return lambda: (_normal(N, C), np.arange(N) % C)


_COLUMNS = (40, 5, 9, 8)  # images whose columns are taken, by 3 x 2, padding 1, stride 1

#: Name of a forward function or loss, and arguments that are cut into more tasks than threads.
BIG = [
    ("affine_forward", lambda: (_normal(130, 700), _normal(700, 300), _normal(300))),
    ("relu_forward", lambda: (_normal(3, 70000),)),
    ("batchnorm_forward", _batchnorm((5000, 30), "train")),  # rows cut into parts
    ("batchnorm_forward", _batchnorm((130, 1300), "train")),
    ("batchnorm_forward", _batchnorm((5000, 30), "test")),
    ("spatial_batchnorm_forward", _batchnorm((40, 2, 33, 31), "train")),
    ("spatial_batchnorm_forward", _batchnorm((6, 40, 9, 9), "train")),
    ("spatial_batchnorm_forward", _batchnorm((6, 40, 9, 9), "test")),
    ("layernorm_forward", lambda: (_normal(3000, 65), _normal(65), _normal(65), {})),
    (
        "spatial_groupnorm_forward",
        lambda: (_normal(40, 16, 8, 8), _normal(16), _normal(16), 4, {}),
    ),
    (
        "spatial_quick_groupnorm_forward",
        lambda: (_normal(40, 16, 8, 8), _normal(16), _normal(16), 4, {}),
    ),
    ("dropout_forward", lambda: (_normal(2, 90000), {"mode": "train", "p": 0.5, "seed": 1})),
    *(
        (f"conv_forward_{variant}", _conv((17, 40, 9, 9), 30, 3, 3, 1, 1))
        for variant in ("naive", "fast", "strides", "im2col")
    ),
    ("conv_forward_naive", _conv((19, 3, 31, 30), 25, 3, 3, 2, 1)),
    ("conv_forward_naive", _conv((1, 3, 60, 50), 300, 5, 3, 1, 0)),
    *(
        (f"max_pool_forward_{variant}", _pool((9, 7, 20, 22), 2, 2))
        for variant in ("naive", "fast", "reshape", "im2col")
    ),
    ("max_pool_forward_naive", _pool((9, 7, 20, 21), 3, 2)),
    ("softmax_loss", _labels(3000, 11)),
    ("svm_loss", _labels(3000, 11)),
    ("im2col_cython", lambda: (_normal(*_COLUMNS), 3, 2, 1, 1)),
    ("im2col_indices", lambda: (_normal(*_COLUMNS), 3, 2, 1, 1)),
    ("col2im_cython", lambda: (_normal(30, 9 * 9 * 40), *_COLUMNS, 3, 2, 1, 1)),
    ("col2im_indices", lambda: (_normal(30, 9 * 9 * 40), _COLUMNS, 3, 2, 1, 1)),
    ("col2im_6d_cython", lambda: (_normal(5, 3, 2, 40, 9, 9), *_COLUMNS, 3, 2, 1, 1)),
]


def _backwards(forward, arguments=()):
    """Names of the backward functions for a forward one (and its arguments)."""
    names = {o.backward for o in operations.OPERATIONS if o.forward == forward}
    window = arguments[-1] if "max_pool" in forward and arguments else {}
    if window and window["stride"] != window["pool_height"]:
        names.discard("max_pool_backward_reshape")  # its windows must tile the image
    return sorted(names)


def _results(name, arguments):
    """All that the function and its backward functions return, as a list of arrays."""
    returned = getattr(layers, name)(*arguments)
    backwards = _backwards(name, arguments)
    if not backwards:
        return list(operations.as_tuple(returned))
    out, cache = returned
    results = [out]
    for backward in backwards:
        results += operations.as_tuple(getattr(layers, backward)(np.cos(out), cache))
    for param in arguments:
        if isinstance(param, dict):
            results += [v for v in param.values() if isinstance(v, np.ndarray)]
    return results


def test_every_public_function_is_held_to_it():
    tested = {name for name, _ in BIG} | {b for name, _ in BIG for b in _backwards(name)}
    # It only numbers places; no kernel is called.
    assert set(operations.FUNCTIONS) - {"get_im2col_indices"} <= tested


@pytest.mark.parametrize("case", BIG, ids=lambda case: case[0])
def test_same_bits_at_any_number_of_threads_and_run_after_run(case, dtype, level, monkeypatch):
    monkeypatch.setattr(_threads, "SMALL", 0)
    _assert_same_bits(case, dtype)


@pytest.mark.parametrize("case", [c for c in BIG if c[0] == "batchnorm_forward"])
def test_same_bits_as_cut_for_arrays_in_memory(case, dtype, level, monkeypatch):
    monkeypatch.setattr(_threads, "SMALL", 0)
    monkeypatch.setattr("fastbn.layers._batchnorm._LARGE", 0)
    _assert_same_bits(case, dtype)


def _assert_same_bits(case, dtype):
    name, arguments = case
    arrays = [a.astype(dtype) if _is_float(a) else a for a in arguments()]
    expected = None
    for count in (*COUNTS, *COUNTS):
        fastbn.set_num_threads(count)
        fresh = [dict(a) if isinstance(a, dict) else a for a in arrays]
        results = [np.asarray(r).tobytes() for r in _results(name, fresh)]
        if expected is None:
            expected = results
        assert results == expected, f"{count} threads"


def _is_float(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


@pytest.fixture(autouse=True)
def _default_threads():
    yield
    fastbn.set_num_threads(None)


def test_concurrent_python_threads():
    def run(i):
        name, arguments = BIG[i % len(BIG)]
        if name.startswith("dropout"):  # NumPy's global stream is one for all threads
            return True
        arguments = list(arguments())
        return all(
            np.array_equal(a, b)
            for a, b in zip(_results(name, arguments), expected[i % len(BIG)], strict=True)
        )

    expected = [_results(name, list(arguments())) for name, arguments in BIG]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(2 * len(BIG))))


THE_GIL = """
import importlib, pkgutil, sys

enabled = getattr(sys, "_is_gil_enabled", lambda: True)
import numpy
before = enabled()
import fastbn
from fastbn import _ext

for level in _ext.available_levels():
    _ext.use_level(level)
for module in pkgutil.walk_packages(fastbn.__path__, "fastbn."):
    if not module.name.endswith("__main__") and "._ext._" not in module.name:
        importlib.import_module(module.name)
assert len([name for name in sys.modules if name.startswith("fastbn._ext._")]) > 10
assert enabled() is before
"""


def test_importing_fastbn_does_not_bring_the_gil_back(tmp_path):
    # Where there is no other interpreter nothing can change; CI has a free-threaded one.
    children.run(THE_GIL, tmp_path)


def _at_once(count, function):
    """[function(0), ..., function(count - 1)], each in a thread, all of them let go together."""
    start = threading.Barrier(count)

    def call(i):
        start.wait()
        return function(i)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=operations.operation_id)
def test_threads_share_arguments_and_caches(operation, monkeypatch):
    monkeypatch.setattr(_threads, "SMALL", 0)
    fastbn.set_num_threads(2)
    forward, backward = getattr(layers, operation.forward), getattr(layers, operation.backward)
    arguments = operation.arguments(np.random.default_rng(231))

    def call():
        # What a forward pass writes, running statistics and seeds, belongs to who calls.
        own = [dict(a) if isinstance(a, dict) else a for a in arguments.values()]
        return forward(*own)

    def bits(out, cache):
        gradients = backward(np.cos(out), cache)
        return [np.asarray(g).tobytes() for g in (out, *operations.as_tuple(gradients))]

    out, cache = call()
    expected = bits(out, cache)
    if operation.forward == "dropout_forward":  # draws from NumPy's stream, one for all threads
        results = _at_once(4, lambda i: [bits(out, cache) for _ in range(10)])
    else:
        results = _at_once(4, lambda i: [bits(*call()) for _ in range(5)] + [bits(out, cache)] * 5)
    assert all(result == expected for each in results for result in each)


@pytest.mark.parametrize("name", sorted(operations.OTHERS))
def test_threads_share_arguments_of_what_has_no_backward(name):
    arguments = operations.OTHERS[name](np.random.default_rng(231)).values()

    def bits():
        return [
            np.asarray(r).tobytes() for r in operations.as_tuple(getattr(layers, name)(*arguments))
        ]

    expected = bits()
    assert all(
        r == expected for each in _at_once(4, lambda i: [bits() for _ in range(10)]) for r in each
    )


def test_threads_share_nets():
    X, y = _normal(6, 3, 8, 8), np.arange(6) % 3
    small = {"num_classes": 3, "reg": 0.1, "dtype": np.float64}
    nets = [
        FullyConnectedNet([9, 7], input_dim=3 * 8 * 8, normalization="layernorm", **small),
        ThreeLayerConvNet((3, 8, 8), num_filters=4, filter_size=3, hidden_dim=5, **small),
    ]

    def bits(net):
        loss, gradients = net.loss(X, y)
        return [loss, *(gradients[name].tobytes() for name in sorted(gradients))]

    for net in nets:
        expected = bits(net)
        for each in _at_once(4, lambda i, net=net: [bits(net) for _ in range(5)]):
            assert each == [expected] * 5


def test_a_lazy_array_is_one_for_all_threads():
    x = _normal(2, 3, 6, 5)
    _, cache = layers.conv_forward_im2col(
        x, _normal(4, 3, 3, 3), _normal(4), {"stride": 1, "pad": 1}
    )
    columns = _at_once(8, lambda i: np.asarray(cache[-1]))
    assert all(array is columns[0] for array in columns)


def test_threads_share_the_memory_that_is_kept():
    sizes = (9000, 20000, 60000, 300000)

    def work(i):
        rng = np.random.default_rng(i)
        kept = []
        for _ in range(300):
            array = _memory.empty((int(rng.choice(sizes)),), np.dtype(float))
            array[:] = i  # a block handed out twice would show another's number
            kept.append(array)
            if len(kept) > 4:
                kept.pop(int(rng.integers(5)))
            if i == 0:
                fastbn.set_reuse_limit(int(rng.choice([0, 1 << 20, 1 << 24])))
            assert _ext.memory.held_now() >= 0
            if not all((array == i).all() for array in kept):
                return False
        return True

    limit = _ext.memory.get_limit()
    try:
        assert all(_at_once(4, work))
        assert _ext.memory.held_now() <= _ext.memory.get_limit()
        fastbn.set_reuse_limit(0)
        assert _ext.memory.held_now() == 0
    finally:
        fastbn.set_reuse_limit(limit)


def test_set_and_get():
    fastbn.set_num_threads(3)
    openmp = fastbn.show_config("dict")["build"]["openmp"]
    assert fastbn.get_num_threads() == (3 if openmp else 1)
    fastbn.set_num_threads(None)
    assert fastbn.get_num_threads() >= 1


def test_small_work_stays_on_one_thread():
    fastbn.set_num_threads(4)
    assert _threads.threads_for(_threads.SMALL - 1) == 1
    assert _threads.threads_for(_threads.SMALL) == fastbn.get_num_threads()


OWN = _threads._openmp_limit  # OpenMP's own number


def _granted(count):
    """What asking for `count` threads gives this build."""
    return count if _ext.runtime.openmp else 1


@pytest.mark.parametrize(
    ("asked", "busy", "left"), [(4, 0, 4), (4, 1, 3), (4, 4, 1), (4, 9, 1), (1, 3, 1)]
)
def test_threads_that_are_at_work_are_not_given_again(asked, busy, left, monkeypatch):
    monkeypatch.setattr(_ext.runtime, "busy", lambda: busy)
    fastbn.set_num_threads(asked)
    assert _threads.threads_for(_threads.SMALL) == _granted(left)
    assert fastbn.get_num_threads() == _granted(asked)


@pytest.mark.parametrize("count", [1, 2])
def test_a_call_is_counted_while_it_runs(count):
    """Each kernel's threads; none of them stays counted."""
    fastbn.set_num_threads(count)
    stop, found = threading.Event(), set()
    x = np.ones(1 << 20, np.float32)

    def call():
        while not stop.is_set():
            layers.relu_forward(x)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(call)
        while not future.done() and _granted(count) not in found:
            found.add(_ext.runtime.busy())
        stop.set()
        future.result()
    assert found <= {0, _granted(count)}
    for operation in operations.OPERATIONS:
        operation.run(layers, operation.arguments(np.random.default_rng(1)), np.cos)
    with pytest.raises(ValueError, match="y must"):
        layers.softmax_loss(np.ones((2, 3)), np.array([0, 3]))
    assert _ext.runtime.busy() == 0


@pytest.mark.parametrize("asked", [None, 1, OWN, OWN + 6])
@pytest.mark.parametrize("limit", [1, OWN, OWN + 1])
def test_threadpoolctl_limits_us(asked, limit):
    fastbn.set_num_threads(asked)
    before = fastbn.get_num_threads()
    if asked is not None:
        assert before == _granted(asked)
    with threadpool_limits(limit):
        # The one limit that cannot be seen, as get_num_threads says.
        unseen = limit == OWN and before > OWN
        assert fastbn.get_num_threads() == (before if unseen else min(before, limit))
    assert fastbn.get_num_threads() == before


def test_limits_that_change_while_calls_run():
    fastbn.set_num_threads(4)
    x = _normal(40, 3000)
    expected = layers.relu_forward(x)[0].tobytes()
    stop = threading.Event()

    def limited(limit):
        same = True
        while not stop.is_set():
            with threadpool_limits(limit):
                same = same and layers.relu_forward(x)[0].tobytes() == expected
        return same

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(limited, limit) for limit in (1, 3)]
        try:
            for count in (1, 2, 3, None, 4) * 20:
                fastbn.set_num_threads(count)
                assert layers.relu_forward(x)[0].tobytes() == expected
        finally:
            stop.set()
    assert all(future.result() for future in futures)
    fastbn.set_num_threads(4)
    assert fastbn.get_num_threads() == _granted(4)


def test_asked_for_within_a_limit():
    with threadpool_limits(1):
        fastbn.set_num_threads(OWN + 6)
        assert fastbn.get_num_threads() == 1
    assert fastbn.get_num_threads() == _granted(OWN + 6)


def test_a_limit_is_that_of_one_thread():
    fastbn.set_num_threads(OWN + 6)
    with threadpool_limits(1), concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(fastbn.get_num_threads).result() == _granted(OWN + 6)


IMPORT_WITHIN_A_LIMIT = """
import importlib
from threadpoolctl import threadpool_limits
from fastbn import _threads                    # OpenMP has to be there to be limited
with threadpool_limits(1):
    importlib.reload(_threads)
    _threads.set_num_threads(4)
    assert _threads.get_num_threads() == 1
    _threads.set_num_threads(None)
    assert _threads.get_num_threads() == 1
openmp = _threads.runtime.openmp
assert _threads.get_num_threads() == (_threads._default if openmp else 1)
_threads.set_num_threads(4)
assert _threads.get_num_threads() == (4 if openmp else 1)
"""


def test_import_within_a_limit(tmp_path):
    children.run(IMPORT_WITHIN_A_LIMIT, tmp_path)


MANY_CORES = """
import os
os.sched_getaffinity = lambda pid: range(1000)
os.environ.pop("FASTBN_NUM_THREADS", None)
os.environ.pop("OMP_NUM_THREADS", None)
from fastbn import _cores, _threads
assert _threads._default == min(_cores.cores(), _threads.MOST)
"""


def test_default_is_not_more_than_the_most(tmp_path):
    children.run(MANY_CORES, tmp_path)
