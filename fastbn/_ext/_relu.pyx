"""Rectified linear unit. Traffic: forward one read and one write, backward two reads, one write."""
from cython cimport floating
from cython.parallel cimport prange

cdef enum:
    CHUNK = 16384  # elements a task: small enough to balance, large enough to stream


cdef void _forward(const floating *x, Py_ssize_t n, floating *out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = x[i] if (x[i] > 0) | (x[i] != x[i]) else 0  # NaN stays NaN, -0.0 becomes 0.0


cdef void _backward(
    const floating *dout, const floating *x, Py_ssize_t n, floating *dx
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = dout[i] if x[i] > 0 else 0


def forward(const floating[::1] x not None, floating[::1] out not None, int num_threads):
    """out = max(x, 0)"""
    cdef Py_ssize_t n = x.shape[0], chunk
    for chunk in prange((n + CHUNK - 1) // CHUNK, nogil=True, schedule="static",
                        num_threads=num_threads):
        _forward(&x[chunk * CHUNK], min(<Py_ssize_t>CHUNK, n - chunk * CHUNK), &out[chunk * CHUNK])


def backward(const floating[::1] dout not None, const floating[::1] x not None,
             floating[::1] dx not None, int num_threads):
    """dx = dout where x > 0, else 0"""
    cdef Py_ssize_t n = x.shape[0], chunk
    for chunk in prange((n + CHUNK - 1) // CHUNK, nogil=True, schedule="static",
                        num_threads=num_threads):
        _backward(&dout[chunk * CHUNK], &x[chunk * CHUNK],
                  min(<Py_ssize_t>CHUNK, n - chunk * CHUNK), &dx[chunk * CHUNK])
