"""Group normalization of (N, C, L): each image's channels in G groups, each a contiguous run.

A group (C/G * L numbers) is read from memory once if it fits the second-level cache. Traffic:
forward one read and one write, backward two reads and one write.
"""
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt

from ._normalize cimport dot_centred, rounding, scale_shift
from ._reduce cimport Moments, add_moments


cdef void _forward_group(
    const floating *x, const floating *gamma, const floating *beta, Py_ssize_t channels,
    Py_ssize_t L, double eps, floating *out, double *mean, double *rstd
) noexcept nogil:
    cdef Moments moments
    cdef floating high
    cdef double scale
    cdef Py_ssize_t c
    moments.count = moments.mean = moments.m2 = 0
    add_moments(&moments, x, channels * L)
    mean[0] = moments.mean
    rstd[0] = 1 / sqrt(moments.m2 / (channels * L) + eps)
    high = <floating>moments.mean
    for c in range(channels):
        scale = gamma[c] * rstd[0]
        scale_shift(x + c * L, L, high, <floating>scale,
                    <floating>(beta[c] + rounding(moments.mean, high) * scale), out + c * L)


cdef void _backward_group(
    const floating *dout, const floating *x, const floating *gamma, Py_ssize_t channels,
    Py_ssize_t L, double mean, double rstd, floating *dx, double *dgamma, double *dbeta
) noexcept nogil:
    """With g = dout * gamma: dx = rstd * (g - mean(g) - xhat * mean(g * xhat))."""
    cdef floating high = <floating>mean
    cdef floating low = <floating>-rounding(mean, high)
    cdef double total = 0, dot = 0, size = channels * L
    cdef floating scale = <floating>rstd, slope, shift, centre
    cdef Py_ssize_t c, i
    for c in range(channels):
        dbeta[c] = 0
        dgamma[c] = 0
        dot_centred(dout + c * L, x + c * L, L, high, low, &dbeta[c], &dgamma[c])
        dgamma[c] *= rstd
        total += gamma[c] * dbeta[c]
        dot += gamma[c] * dgamma[c]
    centre = <floating>(total / size)
    slope = <floating>(-rstd * rstd * dot / size)
    shift = <floating>(-rounding(mean, high) * rstd * rstd * dot / size)
    for c in range(channels):
        for i in range(c * L, c * L + L):
            dx[i] = (dout[i] * gamma[c] - centre) * scale + ((x[i] - high) * slope + shift)


def forward(const floating[:, :, ::1] x not None, const floating[::1] gamma not None,
            const floating[::1] beta not None, Py_ssize_t G, double eps,
            floating[:, :, ::1] out not None, double[:, ::1] stats not None, int num_threads):
    """stats (2, N * G) receives each group's mean and rstd."""
    cdef Py_ssize_t N = x.shape[0], channels = x.shape[1] // G, L = x.shape[2]
    cdef Py_ssize_t row, n, c
    for row in prange(N * G, nogil=True, schedule="static", num_threads=num_threads):
        n = row // G
        c = (row % G) * channels
        _forward_group(&x[n, c, 0], &gamma[c], &beta[c], channels, L, eps,
                       &out[n, c, 0], &stats[0, row], &stats[1, row])


def backward(const floating[:, :, ::1] dout not None, const floating[:, :, ::1] x not None,
             const floating[::1] gamma not None, const double[:, ::1] stats not None,
             floating[:, :, ::1] dx not None, floating[::1] dgamma not None,
             floating[::1] dbeta not None, double[:, :, ::1] partial not None, int num_threads):
    """partial (N, 2, C) receives every image's share of dgamma and dbeta; added in image order."""
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], L = x.shape[2]
    cdef Py_ssize_t G = stats.shape[1] // N, channels = C // G
    cdef Py_ssize_t row, n, c
    cdef double gamma_sum, beta_sum
    with nogil:
        for row in prange(N * G, schedule="static", num_threads=num_threads):
            n = row // G
            c = (row % G) * channels
            _backward_group(&dout[n, c, 0], &x[n, c, 0], &gamma[c], channels, L,
                            stats[0, row], stats[1, row], &dx[n, c, 0],
                            &partial[n, 0, c], &partial[n, 1, c])
        for c in range(C):
            gamma_sum = 0
            beta_sum = 0
            for n in range(N):
                gamma_sum += partial[n, 0, c]
                beta_sum += partial[n, 1, c]
            dgamma[c] = <floating>gamma_sum
            dbeta[c] = <floating>beta_sum
