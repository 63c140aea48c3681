"""Layer normalization: every row of (N, D) by its own mean and deviation.

A row is read from memory once: its statistics, and for the backward pass its two sums, are taken
while the row is in the first- or second-level cache. Traffic: forward one read and one write,
backward two reads and one write, and the D parameters.
"""
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport sqrt

from ._normalize cimport rounding
from ._reduce cimport BLOCK, LANES, Moments, add_moments, fold

cdef enum:
    STRIP = 64  # rows that are summed before the sums go into double


cdef void _forward_row(
    const floating *x, const floating *gamma, const floating *beta, Py_ssize_t D, double eps,
    floating *out, double *mean, double *rstd
) noexcept nogil:
    cdef Moments moments
    cdef floating high, scale, shift
    cdef Py_ssize_t d
    moments.count = moments.mean = moments.m2 = 0
    add_moments(&moments, x, D)
    mean[0] = moments.mean
    rstd[0] = 1 / sqrt(moments.m2 / D + eps)
    high = <floating>moments.mean
    scale = <floating>rstd[0]
    shift = <floating>(rounding(moments.mean, high) * rstd[0])
    for d in range(D):
        out[d] = ((x[d] - high) * scale + shift) * gamma[d] + beta[d]


cdef void _backward_row(
    const floating *dout, const floating *x, const floating *gamma, Py_ssize_t D,
    double mean, double rstd, floating *dx, floating *dgamma, floating *dbeta
) noexcept nogil:
    """With g = dout * gamma: dx = rstd * (g - mean(g) - xhat * mean(g * xhat))."""
    cdef floating sums[LANES]
    cdef floating dots[LANES]
    cdef floating high = <floating>mean
    cdef floating scale = <floating>rstd, shift = <floating>(rounding(mean, high) * rstd)
    cdef floating g, xhat, mean_g, mean_gx
    cdef double total = 0, dot = 0
    cdef Py_ssize_t start = 0, stop, lane, d
    while start < D:
        stop = min(start + <Py_ssize_t>BLOCK, D)
        for lane in range(LANES):
            sums[lane] = 0
            dots[lane] = 0
        d = start
        while d + LANES <= stop:
            for lane in range(LANES):
                xhat = (x[d + lane] - high) * scale + shift
                g = dout[d + lane] * gamma[d + lane]
                sums[lane] += g
                dots[lane] += g * xhat
            d += LANES
        for lane in range(stop - d):
            xhat = (x[d + lane] - high) * scale + shift
            g = dout[d + lane] * gamma[d + lane]
            sums[lane] += g
            dots[lane] += g * xhat
        total += fold(sums)
        dot += fold(dots)
        start = stop
    mean_g = <floating>(total / D)
    mean_gx = <floating>(dot / D)
    # Two loops: for one with three outputs GCC gives up on proving that nothing overlaps.
    for d in range(D):
        dgamma[d] += dout[d] * ((x[d] - high) * scale + shift)
        dbeta[d] += dout[d]
    for d in range(D):
        xhat = (x[d] - high) * scale + shift
        dx[d] = scale * (dout[d] * gamma[d] - mean_g - xhat * mean_gx)


def forward(const floating[:, ::1] x not None, const floating[::1] gamma not None,
            const floating[::1] beta not None, double eps,
            floating[:, ::1] out not None, double[:, ::1] stats not None, int num_threads):
    """out = (x - mean) * rstd * gamma + beta; stats (2, N) receives mean and rstd."""
    cdef Py_ssize_t n, N = x.shape[0], D = x.shape[1]
    for n in prange(N, nogil=True, schedule="static", num_threads=num_threads):
        _forward_row(&x[n, 0], &gamma[0], &beta[0], D, eps,
                     &out[n, 0], &stats[0, n], &stats[1, n])


cdef void _backward_chunk(
    const floating *dout, const floating *x, const floating *gamma, const double *mean,
    const double *rstd, Py_ssize_t rows, Py_ssize_t D, floating *dx, double *partial,
    floating *strip
) noexcept nogil:
    """Sums over a strip of rows are carried in the array's dtype, over strips in double."""
    cdef Py_ssize_t n = 0, d, stop
    for d in range(2 * D):
        partial[d] = 0
    while n < rows:
        stop = min(n + STRIP, rows)
        for d in range(2 * D):
            strip[d] = 0
        while n < stop:
            _backward_row(dout + n * D, x + n * D, gamma, D, mean[n], rstd[n], dx + n * D,
                          strip, strip + D)
            n += 1
        for d in range(2 * D):
            partial[d] += strip[d]


def backward(const floating[:, ::1] dout not None, const floating[:, ::1] x not None,
             const floating[::1] gamma not None, const double[:, ::1] stats not None,
             floating[:, ::1] dx not None, floating[::1] dgamma not None,
             floating[::1] dbeta not None, double[:, :, ::1] partial not None,
             floating[:, ::1] strips not None, int num_threads):
    """dgamma and dbeta sum over rows: one partial (2, D) a chunk of rows, added in chunk order.

    The number of chunks, partial.shape[0], must depend on the shape alone. strips: 2 * D numbers
    of scratch for every thread.
    """
    cdef Py_ssize_t N = x.shape[0], D = x.shape[1], chunks = partial.shape[0]
    cdef Py_ssize_t chunk, start, d
    cdef double gamma_sum, beta_sum
    with nogil:
        for chunk in prange(chunks, schedule="static", num_threads=num_threads):
            start = N * chunk // chunks
            _backward_chunk(&dout[start, 0], &x[start, 0], &gamma[0], &stats[0, start],
                            &stats[1, start], N * (chunk + 1) // chunks - start, D,
                            &dx[start, 0], &partial[chunk, 0, 0], &strips[threadid(), 0])
        for d in range(D):
            gamma_sum = 0
            beta_sum = 0
            for chunk in range(chunks):
                gamma_sum += partial[chunk, 0, d]
                beta_sum += partial[chunk, 1, d]
            dgamma[d] = <floating>gamma_sum
            dbeta[d] = <floating>beta_sum
