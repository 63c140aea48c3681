"""Inverted dropout. The random numbers are NumPy's: the course's figures depend on its stream.

Traffic: forward two reads (the random numbers are doubles) and two writes, backward two reads and
one write.
"""
from cython cimport floating
from cython.parallel cimport prange
from numpy cimport ndarray

from ._arrays cimport data, single
from ._interrupt cimport Watch, begin, finish, stopped
from ._stream cimport Chunk, chunk_done, chunk_size, chunk_start, stream_end

cdef enum:
    TASK = 16384


cdef void _forward_task(
    const floating *x, const double *uniform, Py_ssize_t n, double keep,
    floating *out, floating *mask
) noexcept nogil:
    cdef floating scale = <floating>(1 / keep)
    cdef Py_ssize_t i
    for i in range(n):
        mask[i] = scale if uniform[i] < keep else 0
    for i in range(n):
        out[i] = x[i] * mask[i]


cdef void _backward_task(
    const floating *dout, const floating *mask, Py_ssize_t n, bint streaming, floating *dx
) noexcept nogil:
    cdef Chunk chunk
    cdef floating *to
    cdef Py_ssize_t i, size
    while n > 0:
        size = chunk_size(dx, n, streaming)
        to = chunk_start(&chunk, dx, streaming)
        for i in range(size):
            to[i] = dout[i] * mask[i]
        chunk_done(dx, to, size, streaming)
        dout += size
        mask += size
        dx += size
        n -= size
    if streaming:
        stream_end()


cdef int _forward(
    floating _, ndarray x, ndarray uniform, Py_ssize_t n, double keep, ndarray out, ndarray mask,
    int num_threads
) except -1:
    cdef const floating *x0 = <const floating *>data(x, sizeof(floating), n)
    cdef const double *uniform0 = <const double *>data(uniform, 8, n)
    cdef floating *out0 = <floating *>data(out, sizeof(floating), n)
    cdef floating *mask0 = <floating *>data(mask, sizeof(floating), n)
    cdef Py_ssize_t task, at
    cdef Watch watch
    begin(&watch, num_threads)
    for task in prange((n + TASK - 1) // TASK, nogil=True, schedule="static",
                       num_threads=num_threads):
        at = task * TASK
        if not stopped(&watch):
            _forward_task(x0 + at, uniform0 + at, min(<Py_ssize_t>TASK, n - at), keep, out0 + at,
                          mask0 + at)
    return finish(&watch)


cdef int _backward(
    floating _, ndarray dout, ndarray mask, Py_ssize_t n, bint streaming, ndarray dx,
    int num_threads
) except -1:
    cdef const floating *dout0 = <const floating *>data(dout, sizeof(floating), n)
    cdef const floating *mask0 = <const floating *>data(mask, sizeof(floating), n)
    cdef floating *dx0 = <floating *>data(dx, sizeof(floating), n)
    cdef Py_ssize_t task, at
    cdef Watch watch
    begin(&watch, num_threads)
    for task in prange((n + TASK - 1) // TASK, nogil=True, schedule="static",
                       num_threads=num_threads):
        at = task * TASK
        if not stopped(&watch):
            _backward_task(dout0 + at, mask0 + at, min(<Py_ssize_t>TASK, n - at), streaming,
                           dx0 + at)
    return finish(&watch)


def forward(ndarray x not None, ndarray uniform not None, Py_ssize_t n, double keep,
            ndarray out not None, ndarray mask not None, int num_threads):
    """mask = (uniform < keep) / keep; out = x * mask; n numbers"""
    if single(x):
        _forward(<float>0, x, uniform, n, keep, out, mask, num_threads)
    else:
        _forward(<double>0, x, uniform, n, keep, out, mask, num_threads)


def backward(ndarray dout not None, ndarray mask not None, Py_ssize_t n, bint streaming,
             ndarray dx not None, int num_threads):
    """dx = dout * mask"""
    if single(dout):
        _backward(<float>0, dout, mask, n, streaming, dx, num_threads)
    else:
        _backward(<double>0, dout, mask, n, streaming, dx, num_threads)
