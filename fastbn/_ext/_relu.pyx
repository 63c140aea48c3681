"""Rectified linear unit. Traffic: forward one read and one write, backward two reads, one write."""
from cython cimport floating
from cython.parallel cimport prange
from numpy cimport ndarray

from ._arrays cimport data, single
from ._interrupt cimport Watch, begin, finish, stopped
from ._stream cimport Chunk, chunk_done, chunk_size, chunk_start, stream_end

cdef enum:
    TASK = 16384  # numbers: few enough to balance, enough to stream


cdef void _forward_task(
    const floating *x, Py_ssize_t n, bint streaming, floating *out
) noexcept nogil:
    cdef Chunk chunk
    cdef floating *to
    cdef Py_ssize_t i, size
    while n > 0:
        size = chunk_size(out, n, streaming)
        to = chunk_start(&chunk, out, streaming)
        for i in range(size):
            to[i] = x[i] if (x[i] > 0) | (x[i] != x[i]) else 0  # NaN stays NaN, -0.0 becomes 0.0
        chunk_done(out, to, size, streaming)
        x += size
        out += size
        n -= size
    if streaming:
        stream_end()


cdef void _backward_task(
    const floating *dout, const floating *x, Py_ssize_t n, bint streaming, floating *dx
) noexcept nogil:
    cdef Chunk chunk
    cdef floating *to
    cdef Py_ssize_t i, size
    while n > 0:
        size = chunk_size(dx, n, streaming)
        to = chunk_start(&chunk, dx, streaming)
        for i in range(size):
            to[i] = dout[i] if x[i] > 0 else 0
        chunk_done(dx, to, size, streaming)
        dout += size
        x += size
        dx += size
        n -= size
    if streaming:
        stream_end()


cdef int _forward(
    floating _, ndarray x, Py_ssize_t n, bint streaming, ndarray out, int num_threads
) except -1:
    cdef const floating *x0 = <const floating *>data(x, sizeof(floating), n)
    cdef floating *out0 = <floating *>data(out, sizeof(floating), n)
    cdef Py_ssize_t task
    cdef Watch watch
    begin(&watch, num_threads)
    for task in prange((n + TASK - 1) // TASK, nogil=True, schedule="static",
                       num_threads=num_threads):
        if not stopped(&watch):
            _forward_task(x0 + task * TASK, min(<Py_ssize_t>TASK, n - task * TASK), streaming,
                          out0 + task * TASK)
    return finish(&watch)


cdef int _backward(
    floating _, ndarray dout, ndarray x, Py_ssize_t n, bint streaming, ndarray dx,
    int num_threads
) except -1:
    cdef const floating *dout0 = <const floating *>data(dout, sizeof(floating), n)
    cdef const floating *x0 = <const floating *>data(x, sizeof(floating), n)
    cdef floating *dx0 = <floating *>data(dx, sizeof(floating), n)
    cdef Py_ssize_t task
    cdef Watch watch
    begin(&watch, num_threads)
    for task in prange((n + TASK - 1) // TASK, nogil=True, schedule="static",
                       num_threads=num_threads):
        if not stopped(&watch):
            _backward_task(dout0 + task * TASK, x0 + task * TASK,
                           min(<Py_ssize_t>TASK, n - task * TASK), streaming, dx0 + task * TASK)
    return finish(&watch)


def forward(ndarray x not None, Py_ssize_t n, bint streaming, ndarray out not None,
            int num_threads):
    """out = max(x, 0), n numbers"""
    if single(x):
        _forward(<float>0, x, n, streaming, out, num_threads)
    else:
        _forward(<double>0, x, n, streaming, out, num_threads)


def backward(ndarray dout not None, ndarray x not None, Py_ssize_t n, bint streaming,
             ndarray dx not None, int num_threads):
    """dx = dout where x > 0, else 0"""
    if single(x):
        _backward(<float>0, dout, x, n, streaming, dx, num_threads)
    else:
        _backward(<double>0, dout, x, n, streaming, dx, num_threads)
