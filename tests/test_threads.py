"""Results do not depend on threads; threads do not depend on luck."""

import concurrent.futures
import subprocess
import sys

import numpy as np
import operations
import pytest
from threadpoolctl import threadpool_limits

import fastbn
from fastbn import _threads, layers

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
        return list(returned) if isinstance(returned, tuple) else [returned]
    out, cache = returned
    results = [out]
    for backward in backwards:
        gradients = getattr(layers, backward)(np.cos(out), cache)
        results += gradients if isinstance(gradients, tuple) else [gradients]
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


def test_threadpoolctl_limits_us():
    fastbn.set_num_threads(4)
    before = fastbn.get_num_threads()
    with threadpool_limits(1):
        assert fastbn.get_num_threads() == 1
    assert fastbn.get_num_threads() == before


FORK = """
import os, signal, sys
import numpy as np
import fastbn
from fastbn import layers

fastbn.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((16, 8, 40, 40))
expected = layers.relu_forward(x)[0]           # the parent has used OpenMP
conv = x, np.ones((3, 8, 3, 3)), np.zeros(3), {"stride": 1, "pad": 1}
expected_conv = layers.conv_forward_fast(*conv)[0]
child = os.fork()
if child == 0:
    signal.alarm(60)                           # a hang ends as a signal
    ok = fastbn.get_num_threads() == 1
    ok &= np.array_equal(layers.relu_forward(x)[0], expected)
    ok &= np.array_equal(layers.conv_forward_fast(*conv)[0], expected_conv)
    os._exit(0 if ok else 3)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert np.array_equal(layers.relu_forward(x)[0], expected)
"""


def test_forked_child_computes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FORK], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
