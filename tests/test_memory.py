"""Where results live: alignment, reuse and its limit; and stores past the caches."""

import concurrent.futures
import gc
import os
import platform
import re
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import children
import numpy as np
import operations
import pytest

import fastbn
from fastbn import _check, _ext, _memory, layers, optim, reference

LIMIT = 256 << 20

#: What of `out_of_memory.py` is quick: results in the handler's memory, and conversions.
QUICK = ("--kind", "large", "half", "--threads", "1")


@pytest.fixture(autouse=True)
def nothing_held():
    """Each test begins with nothing held; the limit is put back."""
    fastbn.set_reuse_limit(0)
    fastbn.set_reuse_limit(LIMIT)
    yield
    fastbn.set_reuse_limit(LIMIT)


def _held():
    return _ext.memory.held_now()


@pytest.mark.parametrize("shape", [(), (0,), (3,), (100, 80), (100, 82), (1 << 20,), (3, 1 << 20)])
def test_arrays_are_ordinary(shape, dtype):
    array = _memory.empty(shape, np.dtype(dtype))
    assert type(array) is np.ndarray and array.shape == shape and array.dtype == dtype
    assert array.flags.owndata and array.flags.writeable and array.flags.c_contiguous
    array[...] = 1
    assert array.sum() == array.size
    if array.nbytes >= 1 << 15:
        assert array.ctypes.data % 64 == 0


def test_what_is_released_is_used_again():
    first = _memory.empty((1 << 16,), np.dtype(np.float32))
    address = first.ctypes.data
    assert _held() == 0
    del first
    held = _held()
    assert held >= 1 << 18
    smaller = _memory.empty((60000,), np.dtype(np.float32))  # within a quarter of the block
    assert smaller.ctypes.data == address and _held() == 0
    other = _memory.empty((1 << 16,), np.dtype(np.float32))
    assert other.ctypes.data != address
    del smaller
    much_smaller = _memory.empty((30000,), np.dtype(np.float32))
    assert much_smaller.ctypes.data != address and _held() == held


@pytest.mark.parametrize("numbers", [8192, 8193, 50001, 1 << 20, 1_048_560, 1_500_000, 5_000_001])
def test_every_size_is_used_again(numbers):
    # Blocks are rounded up, by much where they are in huge pages: the next of the size must match.
    array = _memory.empty((numbers,), np.dtype(np.float32))
    address = array.ctypes.data
    del array
    assert _memory.empty((numbers,), np.dtype(np.float32)).ctypes.data == address


def test_a_view_keeps_its_memory():
    array = _memory.empty((1 << 16,), np.dtype(np.float32))
    array[...] = 7
    view = array[5:10]
    del array
    assert _held() == 0
    other = _memory.empty((1 << 16,), np.dtype(np.float32))
    other[...] = 0
    assert (view == 7).all()


def test_the_limit_holds_and_zero_gives_everything_back():
    fastbn.set_reuse_limit(1 << 20)
    arrays = [_memory.empty((1 << 17,), np.dtype(np.float32)) for _ in range(5)]  # 512 KiB each
    del arrays
    gc.collect()
    assert 0 < _held() <= 1 << 20
    large = _memory.empty((1 << 20,), np.dtype(np.float64))
    held = _held()
    del large  # more than the limit by itself: given back, and nothing evicted for it
    assert _held() == held
    fastbn.set_reuse_limit(0)
    assert _held() == 0
    array = _memory.empty((1 << 17,), np.dtype(np.float32))
    del array
    assert _held() == 0


def test_the_oldest_is_evicted_first():
    fastbn.set_reuse_limit(3 << 18)
    old = _memory.empty((40000,), np.dtype(np.float32))
    new = _memory.empty((90000,), np.dtype(np.float32))
    del old
    del new
    both = _held()
    third = _memory.empty((70000,), np.dtype(np.float32))
    address = third.ctypes.data
    assert _held() == both  # neither fits
    del third
    assert _held() <= 3 << 18
    again = _memory.empty((70000,), np.dtype(np.float32))
    assert again.ctypes.data == address


def test_no_more_than_so_many_blocks_are_held():
    arrays = [_memory.empty((1 << 14,), np.dtype(np.float32)) for _ in range(100)]
    size = 64 + arrays[0].nbytes
    del arrays
    gc.collect()
    assert _held() == 64 * size
    large = _memory.empty((1 << 22,), np.dtype(np.float32))
    del large  # takes the place of the oldest
    assert _held() == 63 * size + (1 << 24) + 64


def test_small_blocks_are_not_held():
    array = _memory.empty((1 << 14,), np.dtype(np.float32))
    array.resize((100,), refcheck=False)
    held = _held()
    del array
    assert _held() == held


def test_as_many_axes_as_numpy_has():
    assert layers.relu_forward(np.ones((1,) * 32))[0].shape == (1,) * 32
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        assert layers.relu_forward(np.ones((1,) * 64))[0].shape == (1,) * 64


def test_resizing_keeps_the_numbers():
    array = _memory.empty((1 << 15,), np.dtype(np.float32))
    array[...] = np.arange(1 << 15)
    array.resize((1 << 16,), refcheck=False)
    np.testing.assert_array_equal(array[: 1 << 15], np.arange(1 << 15))
    assert not array[1 << 15 :].any()
    array.resize((10,), refcheck=False)
    np.testing.assert_array_equal(array, np.arange(10))


def test_too_much_memory_is_a_memory_error():
    with pytest.raises(MemoryError):
        _memory.empty((1 << 45,), np.dtype(np.float64))
    with pytest.raises(ValueError):
        _memory.empty((1 << 61, 1 << 61), np.dtype(np.float64))
    # NumPy 1.26 has a _core, too, with nothing in it.
    multiarray = (np._core if hasattr(np._core, "multiarray") else np.core).multiarray
    assert multiarray.get_handler_name() == "default_allocator"  # ours was put off again
    assert multiarray.get_handler_name(_memory.empty((1 << 16,), np.dtype(float))) == "fastbn"


@pytest.mark.parametrize("limit", [-1, 1.5, "1", None, True])
def test_a_bad_limit_is_an_error(limit):
    with pytest.raises((TypeError, ValueError), match="limit must be"):
        fastbn.set_reuse_limit(limit)


@pytest.mark.parametrize("text, held", [("0", False), ("", True), ("10000000", True)])
def test_the_environment_sets_the_limit(text, held):
    code = (
        "import numpy as np; from fastbn import _memory, _ext\n"
        "a = _memory.empty((1 << 16,), np.dtype('f4')); del a\n"
        "print(_ext.memory.held_now() > 0)"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "FASTBN_REUSE_LIMIT": text},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == str(held)


def test_a_bad_environment_is_an_error():
    run = subprocess.run(
        [sys.executable, "-P", "-c", "import fastbn"],
        env={**os.environ, "FASTBN_REUSE_LIMIT": "much"},
        capture_output=True,
        text=True,
    )
    assert run.returncode and "FASTBN_REUSE_LIMIT must be a number of bytes" in run.stderr


def test_show_config_says_what_is_held():
    array = _memory.empty((1 << 16,), np.dtype(np.float32))
    del array
    assert fastbn.show_config("dict")["memory"]["held for reuse"] == _held() > 0


def test_numpy_domain_of_tracemalloc_has_what_we_allocate():
    tracemalloc.start()
    try:
        array = _memory.empty((1 << 16,), np.dtype(np.float32))
        (trace,) = [t for t in tracemalloc.take_snapshot().traces if t.size == array.nbytes]
        assert trace.domain == np.lib.tracemalloc_domain
        del array
        assert not [t for t in tracemalloc.take_snapshot().traces if t.size == 1 << 18]
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or shutil.which("cc") is None,
    reason="needs a C compiler and the GNU C library",
)
def test_every_request_for_memory_is_refused_once():
    script = Path(__file__).with_name("out_of_memory.py")
    done = subprocess.run([sys.executable, script, *QUICK], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) requests refused", done.stdout)[1]) > 1000


class _Full(dict):
    """A dict that finds no memory for a new key."""

    def __setitem__(self, key, value):
        if key not in self and len(self) >= 3:
            raise MemoryError
        super().__setitem__(key, value)


def test_what_is_written_into_a_dict_is_all_or_nothing():
    old = {"mode": "train", "eps": 0.1, "m": 0}
    for params in (_Full(old), _Full(mode="train", eps=0.1)):
        before = dict(params)
        with pytest.raises(MemoryError):
            _check.update(params, {"m": 1, "v": 2})
        assert params == before
    params = _Full(old)
    _check.update(params, {"m": 1, "eps": 2})
    assert params == {"mode": "train", "eps": 2, "m": 1}

    param = _Full(mode="train", eps=0.1)
    x = np.ones((4, 2))
    with pytest.raises(MemoryError):
        layers.batchnorm_forward(x, x[0], x[1], param)
    assert param == {"mode": "train", "eps": 0.1}
    config = _Full(learning_rate=0.1, beta1=0.9)
    with pytest.raises(MemoryError):
        optim.adam(x, x, config)
    assert config == {"learning_rate": 0.1, "beta1": 0.9}


def test_calls_in_a_row_leave_nothing_behind(rng):
    """Numbers, arrays and what is held: no more after some rounds than before them."""

    def once():
        for operation in operations.OPERATIONS:
            operation.run(layers, operation.arguments(rng), np.cos)
            with pytest.raises(TypeError):
                getattr(layers, operation.forward)(None, *[*operation.arguments(rng).values()][1:])
            with pytest.raises((TypeError, ValueError)):
                getattr(layers, operation.backward)(rng.standard_normal((1, 2, 3)), None)
        x = rng.standard_normal((70, 4, 9, 9))
        out, cache = layers.conv_forward_fast(x, x[:4, :, :3, :3], x[0, :, 0, 0], CONV)
        layers.conv_backward_fast(out, cache)

    def size():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        for _ in range(20):
            once()
        sizes, held = [size()], _held()
        for _ in range(3):
            for _ in range(8):
                once()
            sizes.append(size())
        # What leaks does so in each of the eights: a byte a call is 1800. Other threads of the
        # process that runs the tests, pytest and NumPy keep a little now and then.
        assert min(np.diff(sizes)) < 1600, sizes
        assert _held() == held <= LIMIT
    finally:
        tracemalloc.stop()


CONV = {"stride": 1, "pad": 1}


# Without the GIL a thread may be about to take or to keep a block when another one forks.
FORKS = """
import os, signal, threading, warnings
import numpy as np
from fastbn._memory import empty

warnings.simplefilter("ignore")                # of forks beside threads
float32, done = np.dtype("f"), threading.Event()

def work():
    while not done.is_set():
        for _ in range(1000):
            empty((100, 100), float32)

threads = [threading.Thread(target=work) for _ in range(4)]
blocks = [empty((300 + i, 100), float32) for i in range(64)]
del blocks                                     # to be looked through
for thread in threads:
    thread.start()
statuses = []
for _ in range(300):
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        empty((100, 100), float32)
        os._exit(0)
    statuses.append(os.waitpid(child, 0)[1])
    if statuses[-1]:
        break
done.set()
assert not any(statuses), statuses
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_beside_threads_that_take_memory(tmp_path):
    children.run(FORKS, tmp_path)


def test_threads_that_come_and_go_leave_no_more_than_the_limit():
    fastbn.set_reuse_limit(1 << 21)
    x = np.ones((40, 3, 32, 32))

    def call(_):
        return layers.relu_forward(x)[0].sum()

    for _ in range(10):
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            assert set(pool.map(call, range(10))) == {x.sum()}
        assert 0 < _held() <= 1 << 21
    fastbn.set_reuse_limit(0)
    assert _held() == 0


FORK = """
import os
import numpy as np
import fastbn
from fastbn import _ext, _memory

def kept():
    return _memory.empty((1 << 16,), np.dtype("f4"))

array = kept()
array[...] = 3
del array
held = _ext.memory.held_now()
assert held > 1 << 18
child = os.fork()
if child == 0:
    assert _ext.memory.held_now() == held      # the parent's, copied
    array = kept()
    array[...] = 7
    del array
    fastbn.set_reuse_limit(0)
    os._exit(_ext.memory.held_now())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert _ext.memory.held_now() == held
assert (kept() == 3).all()                     # what the child wrote stayed there
"""

#: Arrays of ours that end with the interpreter: in a module, in a cycle, in other threads.
AT_EXIT = """
import atexit, threading
import numpy as np
from fastbn import _memory, layers

x = np.ones((40, 3, 32, 32))
out, cache = layers.relu_forward(x)
cycle = [layers.relu_forward(x)]
cycle.append(cycle)
atexit.register(lambda: layers.relu_forward(x))
atexit.register(lambda array: array.resize(10, refcheck=False), _memory.empty((1 << 16,), x.dtype))

def work():
    while True:
        layers.relu_forward(x)

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            FORK, marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"), id="fork"
        ),
        pytest.param(AT_EXIT, id="exit"),
    ],
)
def test_what_is_held_in_a_child_and_at_exit(code, tmp_path):
    environment = {name: v for name, v in os.environ.items() if name != "FASTBN_REUSE_LIMIT"}
    command = [sys.executable, "-c", code]
    options = {"env": environment, "capture_output": True, "text": True, "timeout": 120}
    run = subprocess.run(command, cwd=tmp_path, **options)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


# Sizes around a chunk of 1 KiB, and rows that begin anywhere on a line.
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 256), (5, 257), (2, 1300), (33, 67)])
@pytest.mark.parametrize("spatial", [False, True], ids=["columns", "images"])
def test_streaming_changes_no_bit(shape, spatial, dtype, level, num_threads, rng, monkeypatch):
    images = (*shape, 1, 1) if shape[1] > 200 else (*shape, 13, 17)
    x, dout = rng.standard_normal((2, *(images if spatial else shape))).astype(dtype)
    gamma, beta = rng.standard_normal((2, shape[1])).astype(dtype)
    pool = {"pool_height": 2, "pool_width": 2, "stride": 2 if shape[0] % 2 else 1}

    def everything():
        if spatial:
            out, cache = layers.spatial_batchnorm_forward(x, gamma, beta, {"mode": "train"})
            yield out
            yield from layers.spatial_batchnorm_backward(dout, cache)
            out, cache = layers.spatial_groupnorm_forward(x, gamma, beta, shape[1], {})
            yield out
            yield from layers.spatial_groupnorm_backward(dout, cache)
            if x.shape[2] > 1:
                out, cache = layers.max_pool_forward_fast(x, pool)
                yield out
                yield layers.max_pool_backward_fast(out, cache)
                tile = {"pool_height": 2, "pool_width": 2, "stride": 2}
                even = np.ascontiguousarray(x[:, :, :12, :16])
                out, cache = layers.max_pool_forward_fast(even, tile)
                yield out
                yield layers.max_pool_backward_fast(out, cache)
        else:
            for mode in ("train", "test"):
                out, cache = layers.batchnorm_forward(x, gamma, beta, {"mode": mode})
                yield out
                yield from layers.batchnorm_backward(dout, cache)
            out, cache = layers.layernorm_forward(x, gamma, beta, {})
            yield out
            yield from layers.layernorm_backward(dout, cache)
        yield layers.relu_forward(x)[0]
        yield layers.relu_backward(dout, x)
        yield layers.dropout_backward(dout, ({"mode": "train", "p": 0.5}, x))

    monkeypatch.setattr(_memory, "STREAM", 1 << 60)
    plain = list(everything())
    monkeypatch.setattr(_memory, "STREAM", 0)
    streamed = list(everything())
    for a, b in zip(plain, streamed, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(plain[-3], reference.relu_forward(x)[0])


def test_streaming_begins_with_arrays_that_fill_the_caches(monkeypatch):
    monkeypatch.setattr(_memory, "STREAM", 1000)
    small, large = np.empty(100, np.float32), np.empty(150, np.float32)
    assert not _memory.streams(small, small)
    assert _memory.streams(large, small)
    assert _memory.streams(small, small, small)
