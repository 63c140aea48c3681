"""The same arguments give the same bits: wherever the numbers lie, in any process.

Promised: at any number of threads and run after run (test_threads.py has the large cases), in any
process, at any alignment of the arguments, and whatever was in memory before. A row of layer
normalization, an image of group normalization or pooling, and what works number by number do not
depend on what else is in the batch. Not promised: the same bits at two CPU levels, whose sums are
added in other orders; nor of an image or a row among others in convolution, affine layers, losses
and batch normalization.
"""

import hashlib
import os
import subprocess
import sys

import numpy as np
import operations
import pytest
from test_threads import BIG, _results

import fastbn
from fastbn import _ext, _memory, _threads, layers


def _bits(name, arguments):
    fresh = [dict(a) if isinstance(a, dict) else a for a in arguments]
    return [np.asarray(result).tobytes() for result in _results(name, fresh)]


def _arguments(case, dtype):
    named = dict(enumerate(case[1]()))
    return operations.map_arrays(lambda array: array.astype(dtype), named)


@pytest.fixture(autouse=True)
def _as_before():
    limit = _ext.memory.get_limit()
    fastbn.set_num_threads(1)
    yield
    fastbn.set_num_threads(None)
    fastbn.set_reuse_limit(limit)


@pytest.mark.parametrize("family", operations.FAMILIES, ids=lambda family: family[0][0])
def test_more_threads_than_rows(family, dtype, monkeypatch):
    # One of a family's variants, which are one kernel. At 33 threads most have nothing to do.
    monkeypatch.setattr(_threads, "SMALL", 0)
    operation = operations.Operation(family[0][0], family[1][0], family[2])
    expected = None
    for count in (1, 4, 6, 7, 8, 33):
        fastbn.set_num_threads(count)
        arguments = operations.map_arrays(
            lambda array: array.astype(dtype), operation.arguments(np.random.default_rng(3))
        )
        results = operation.run(layers, arguments, np.cos)
        bits = [np.asarray(result).tobytes() for result in results]
        expected = expected or bits
        assert bits == expected, f"{count} threads"


def _placed(offset):
    """A copy of an array that begins so many bytes after the start of a page."""

    def place(array):
        memory = np.full(array.nbytes + 2 * 4096, 0xFF, np.uint8)  # NaN on both sides
        start = -memory.ctypes.data % 4096 + offset
        copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        assert not array.size or copy.ctypes.data % 4096 == offset
        return copy

    return place


@pytest.mark.parametrize("case", BIG, ids=lambda case: case[0])
def test_alignment(case, dtype, level):
    # Within a vector, within a cache line, and the first number the last of a page.
    arguments = _arguments(case, dtype)
    expected = _bits(case[0], arguments.values())
    itemsize = np.dtype(dtype).itemsize
    for offset in (0, itemsize, 8, 16, 32, 64 - itemsize, 4096 - itemsize):
        placed = operations.map_arrays(_placed(offset), arguments)
        assert _bits(case[0], placed.values()) == expected, f"{offset} bytes from a page"


@pytest.mark.parametrize("case", BIG, ids=lambda case: case[0])
def test_memory_that_is_used_again(case, dtype, level):
    # What NumPy's functions leave in memory that is released is anything; here all of it is NaN.
    arguments = _arguments(case, dtype)
    fastbn.set_reuse_limit(0)
    expected = _bits(case[0], arguments.values())
    fastbn.set_reuse_limit(256 << 20)
    fresh = [dict(a) if isinstance(a, dict) else a for a in arguments.values()]
    sizes = [np.asarray(result).nbytes for result in _results(case[0], fresh)]
    del fresh
    dirty = [_memory.empty((size,), np.dtype(np.uint8)) for size in sizes for _ in range(2)]
    for block in dirty:
        block[...] = 0xFF
    del dirty, block
    large = max(sizes) >= 1 << 15
    assert not large or _ext.memory.held_now() >= max(sizes)
    assert _bits(case[0], arguments.values()) == expected


DIGEST = """
import hashlib, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_bitwise import digest
from fastbn import _ext
for level in _ext.available_levels():
    _ext.use_level(level)
    print(level, digest())
"""


def digest():
    """Of all results of all functions."""
    whole = hashlib.sha256()
    for case in BIG:
        for dtype in (np.float32, np.float64):
            for bits in _bits(case[0], _arguments(case, dtype).values()):
                whole.update(bits)
    return whole.hexdigest()


def test_every_process_has_the_same_bits(tmp_path):
    expected = None
    for changed in (
        {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        {
            "PYTHONHASHSEED": "1",
            "FASTBN_NUM_THREADS": "3",
            "FASTBN_REUSE_LIMIT": "0",
            "MALLOC_PERTURB_": "165",  # glibc fills what it hands out and what it takes back
            "LC_ALL": "C",
        },
    ):
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, os.path.dirname(__file__)],
            cwd=tmp_path,
            env={**os.environ, **changed},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        expected = expected or done.stdout
        assert done.stdout == expected, changed
    assert len(expected.split()) == 2 * len(_ext.available_levels())


#: Pairs that take an image or a row by itself, and their arguments beside x.
ALONE = [
    ("relu_forward", "relu_backward", (40, 2, 7, 9), ()),
    ("layernorm_forward", "layernorm_backward", (40, 65), "norm"),
    ("layernorm_forward", "layernorm_backward", (6, 5000), "norm"),
    ("spatial_groupnorm_forward", "spatial_groupnorm_backward", (9, 6, 7, 9), "group"),
    *(
        (
            f"max_pool_forward_{variant}",
            f"max_pool_backward_{variant}",
            (9, 3, 10, 36),
            ({"pool_height": size, "pool_width": size, "stride": 2},),
        )
        for variant, size in (("naive", 2), ("fast", 2), ("fast", 3))
    ),
]


@pytest.mark.parametrize("forward, backward, shape, more", ALONE)
def test_what_else_is_in_the_batch(forward, backward, shape, more, dtype, level, num_threads, rng):
    x, dout = rng.standard_normal((2, *shape)).astype(dtype)
    gamma, beta = rng.standard_normal((2, shape[1])).astype(dtype)
    more = {"norm": (gamma, beta, {}), "group": (gamma, beta, 3, {})}.get(str(more), more)

    def run(x, dout):
        out, cache = getattr(layers, forward)(x, *more)
        dout = dout[:, :, : out.shape[2], : out.shape[3]] if out.ndim == 4 else dout
        return out, operations.as_tuple(getattr(layers, backward)(dout, cache))[0]

    whole = run(x, dout)
    other = x.copy()
    other[1:] = np.nan
    for rest in (x[:1], other):
        for all_of_it, some in zip(whole, run(rest, dout[: len(rest)]), strict=True):
            assert some[0].tobytes() == all_of_it[0].tobytes()
