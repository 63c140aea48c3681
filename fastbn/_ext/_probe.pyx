"""What this machine can do at most, with the kernels' own means: what `fastbn bench` measures by.

Copying, reading, and reading two arrays to write one; each with stores into the caches or past
them. And the rate of multiply-adds in registers alone.
"""
from cython cimport floating
from cython.parallel cimport prange
from numpy cimport ndarray

from ._arrays cimport data, single
from ._reduce cimport block_sum
from ._stream cimport Chunk, chunk_done, chunk_size, chunk_start, stream_end

cdef extern from *:
    """
    #include "_tile.h"

    /* Multiply-adds on registers alone, in twelve chains: more than cover the latency of one.
       Returns something that depends on them all. */
    #define FASTBN_FMA(T, V, NAME) \\
        static double NAME(ptrdiff_t rounds) { \\
            V acc[12]; \\
            const V x = V##_set((T)0.5), y = V##_set((T)0.25); \\
            T out[FB_BYTES / sizeof(T)]; \\
            FB_UNROLL for (int i = 0; i < 12; i++) acc[i] = V##_set((T)i); \\
            for (ptrdiff_t r = 0; r < rounds; r++) \\
                FB_UNROLL for (int i = 0; i < 12; i++) acc[i] = acc[i] * x + y; \\
            for (int i = 1; i < 12; i++) acc[0] += acc[i]; \\
            V##_store(out, acc[0]); \\
            return out[0]; \\
        }
    #if FB_VECTORS
    FASTBN_FMA(float, fb_vf, fastbn_fma_f)
    FASTBN_FMA(double, fb_vd, fastbn_fma_d)
    #else
    static double fastbn_fma_f(ptrdiff_t rounds) { return 0 * rounds; }
    static double fastbn_fma_d(ptrdiff_t rounds) { return 0 * rounds; }
    #endif
    """
    enum: FB_BYTES
    double fastbn_fma_f(Py_ssize_t rounds) noexcept nogil
    double fastbn_fma_d(Py_ssize_t rounds) noexcept nogil

cdef enum:
    TASK = 1 << 14   # numbers


cdef void _pass(
    const floating *x, const floating *y, Py_ssize_t n, bint streaming, floating *out
) noexcept nogil:
    """out = x, or x + y unless y is NULL"""
    cdef Chunk chunk
    cdef floating *to
    cdef Py_ssize_t i, size
    while n > 0:
        size = chunk_size(out, n, streaming)
        to = chunk_start(&chunk, out, streaming)
        if y != NULL:
            for i in range(size):
                to[i] = x[i] + y[i]
            y += size
        else:
            for i in range(size):
                to[i] = x[i]
        chunk_done(out, to, size, streaming)
        x += size
        out += size
        n -= size
    if streaming:
        stream_end()


cdef int _write(
    floating _, ndarray x, ndarray y, Py_ssize_t n, bint streaming, ndarray out, int num_threads
) except -1:
    cdef const floating *x0 = <const floating *>data(x, sizeof(floating), n)
    cdef const floating *y0 = NULL
    cdef floating *out0 = <floating *>data(out, sizeof(floating), n)
    cdef Py_ssize_t task, at
    if y is not None:
        y0 = <const floating *>data(y, sizeof(floating), n)
    for task in prange((n + TASK - 1) // TASK, nogil=True, schedule="static",
                       num_threads=num_threads):
        at = task * TASK
        _pass(x0 + at, y0 + at if y0 != NULL else NULL, min(<Py_ssize_t>TASK, n - at), streaming,
              out0 + at)
    return 0


def write(ndarray x not None, ndarray y, Py_ssize_t n, bint streaming, ndarray out not None,
          int num_threads):
    """out = x, or x + y if y is not None, n numbers"""
    if single(x):
        _write(<float>0, x, y, n, streaming, out, num_threads)
    else:
        _write(<double>0, x, y, n, streaming, out, num_threads)


cdef double _read(floating _, ndarray x, Py_ssize_t n, ndarray sums, int num_threads) except? -1:
    cdef const floating *x0 = <const floating *>data(x, sizeof(floating), n)
    cdef Py_ssize_t tasks = (n + TASK - 1) // TASK, task
    cdef double *sums0 = <double *>data(sums, 8, tasks)
    cdef double total = 0
    for task in prange(tasks, nogil=True, schedule="static", num_threads=num_threads):
        sums0[task] = block_sum(x0 + task * TASK, min(<Py_ssize_t>TASK, n - task * TASK))
    for task in range(tasks):
        total += sums0[task]
    return total


def read(ndarray x not None, Py_ssize_t n, ndarray sums not None, int num_threads):
    """Sum of n numbers; sums: a number of scratch for every 16384 of them."""
    if single(x):
        return _read(<float>0, x, n, sums, num_threads)
    return _read(<double>0, x, n, sums, num_threads)


def multiply_add(int itemsize, Py_ssize_t rounds, ndarray sums not None, int num_threads):
    """Run `rounds` rounds on every thread; returns the multiplications and additions of each."""
    cdef double *sums0 = <double *>data(sums, 8, num_threads)
    cdef int worker
    for worker in prange(num_threads, nogil=True, schedule="static", num_threads=num_threads):
        sums0[worker] = fastbn_fma_f(rounds) if itemsize == 4 else fastbn_fma_d(rounds)
    return rounds * 12 * (FB_BYTES // itemsize) * 2
