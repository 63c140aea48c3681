"""Inverted dropout. The random numbers are NumPy's: the course's figures depend on its stream."""
from cython cimport floating
from cython.parallel cimport prange

cdef enum:
    CHUNK = 16384


cdef void _forward(
    const floating *x, const double *uniform, Py_ssize_t n, double keep,
    floating *out, floating *mask
) noexcept nogil:
    cdef floating scale = <floating>(1 / keep)
    cdef Py_ssize_t i
    for i in range(n):
        mask[i] = scale if uniform[i] < keep else 0
    for i in range(n):
        out[i] = x[i] * mask[i]


cdef void _backward(
    const floating *dout, const floating *mask, Py_ssize_t n, floating *dx
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = dout[i] * mask[i]


def forward(const floating[::1] x not None, const double[::1] uniform not None, double keep,
            floating[::1] out not None, floating[::1] mask not None, int num_threads):
    """mask = (uniform < keep) / keep; out = x * mask"""
    cdef Py_ssize_t n = x.shape[0], chunk, start
    for chunk in prange((n + CHUNK - 1) // CHUNK, nogil=True, schedule="static",
                        num_threads=num_threads):
        start = chunk * CHUNK
        _forward(&x[start], &uniform[start], min(<Py_ssize_t>CHUNK, n - start), keep,
                 &out[start], &mask[start])


def backward(const floating[::1] dout not None, const floating[::1] mask not None,
             floating[::1] dx not None, int num_threads):
    """dx = dout * mask"""
    cdef Py_ssize_t n = dout.shape[0], chunk, start
    for chunk in prange((n + CHUNK - 1) // CHUNK, nogil=True, schedule="static",
                        num_threads=num_threads):
        start = chunk * CHUNK
        _backward(&dout[start], &mask[start], min(<Py_ssize_t>CHUNK, n - start), &dx[start])
