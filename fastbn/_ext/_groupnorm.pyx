"""Group normalization of (N, C, L): each image's channels in G groups, each a contiguous run.

A group (C/G * L numbers) is read from memory once if it fits the second-level cache. Traffic:
forward one read and one write, backward two reads and one write.
"""
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from numpy cimport ndarray

from ._arrays cimport data, single
from ._interrupt cimport Watch, begin, finish, pause, stopped_at
from ._normalize cimport large_part, rest, scale_shift
from ._reduce cimport Moments, add_moments, add_products, variance
from ._stream cimport Chunk, chunk_done, chunk_size, chunk_start, stream_end


cdef void _forward_group(
    const floating *x, const floating *gamma, const floating *beta, Py_ssize_t channels,
    Py_ssize_t L, double eps, bint streaming, Watch *watch, floating *out, double *mean,
    double *rstd
) noexcept nogil:
    cdef Moments moments
    cdef floating high
    cdef double scale
    cdef Py_ssize_t c
    moments.count = moments.mean = moments.m2 = 0
    add_moments(&moments, x, channels * L, watch)
    mean[0] = moments.mean
    rstd[0] = 1 / sqrt(variance(moments.m2, moments.count) + eps)
    high = large_part(moments.mean, rstd[0], gamma[0])
    for c in range(channels):
        scale = gamma[c] * rstd[0]
        scale_shift(x + c * L, L, high, <floating>scale,
                    <floating>(beta[c] + rest(moments.mean, high) * scale), False, streaming,
                    watch, out + c * L)
    if streaming:
        stream_end()


cdef void _project_channel(
    const floating *dout, const floating *x, Py_ssize_t n, floating gamma, floating centre,
    floating high, floating scale, floating slope, bint streaming, Watch *watch, floating *dx
) noexcept nogil:
    cdef Chunk chunk
    cdef floating *to
    cdef Py_ssize_t i, size
    while n > 0:
        size = chunk_size(dx, n, streaming)
        if pause(watch, n, size):
            return
        to = chunk_start(&chunk, dx, streaming)
        for i in range(size):
            to[i] = (dout[i] * gamma - centre + (x[i] - high) * slope) * scale
        chunk_done(dx, to, size, streaming)
        dout += size
        x += size
        dx += size
        n -= size


cdef void _backward_group(
    const floating *dout, const floating *x, const floating *gamma, Py_ssize_t channels,
    Py_ssize_t L, double mean, double rstd, bint streaming, Watch *watch, floating *dx,
    double *dgamma, double *dbeta
) noexcept nogil:
    """With g = dout * gamma: dx = rstd * (g - mean(g) - xhat * mean(g * xhat))."""
    cdef floating high = large_part(mean, rstd, gamma[0])
    cdef double off = rest(mean, high)
    cdef double total = 0, dot = 0, size = channels * L
    cdef double slope
    cdef Py_ssize_t c
    for c in range(channels):
        dbeta[c] = 0
        dgamma[c] = 0
        add_products(dout + c * L, <const floating *>NULL, x + c * L, L, high, watch, &dbeta[c],
                     &dgamma[c])
        dgamma[c] = (dgamma[c] + off * dbeta[c]) * rstd
        total += gamma[c] * dbeta[c]
        dot += gamma[c] * dgamma[c]
    slope = -rstd * dot / size
    for c in range(channels):
        _project_channel(dout + c * L, x + c * L, L, gamma[c],
                         <floating>(total / size - off * slope), high, <floating>rstd,
                         <floating>slope, streaming, watch, dx + c * L)
    if streaming:
        stream_end()


cdef int _forward(
    floating _, ndarray x, Py_ssize_t N, Py_ssize_t C, Py_ssize_t L, Py_ssize_t G, ndarray gamma,
    ndarray beta, double eps, bint streaming, ndarray out, ndarray stats, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef const floating *x0 = <const floating *>data(x, itemsize, N * C * L)
    cdef const floating *gamma0 = <const floating *>data(gamma, itemsize, C)
    cdef const floating *beta0 = <const floating *>data(beta, itemsize, C)
    cdef floating *out0 = <floating *>data(out, itemsize, N * C * L)
    cdef double *mean = <double *>data(stats, 8, 2 * N * G)
    cdef Py_ssize_t channels = C // G, row, c
    cdef Watch watch
    begin(&watch, num_threads)
    for row in prange(N * G, nogil=True, schedule="static", num_threads=num_threads):
        if stopped_at(&watch, row):
            continue
        c = row % G * channels
        _forward_group(x0 + row * channels * L, gamma0 + c, beta0 + c, channels, L, eps,
                       streaming, &watch, out0 + row * channels * L, mean + row,
                       mean + N * G + row)
    return finish(&watch)


cdef int _backward(
    floating _, ndarray dout, ndarray x, Py_ssize_t N, Py_ssize_t C, Py_ssize_t L, Py_ssize_t G,
    ndarray gamma, ndarray stats, bint streaming, ndarray dx, ndarray dgamma, ndarray dbeta,
    ndarray partial, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef const floating *dout0 = <const floating *>data(dout, itemsize, N * C * L)
    cdef const floating *x0 = <const floating *>data(x, itemsize, N * C * L)
    cdef const floating *gamma0 = <const floating *>data(gamma, itemsize, C)
    cdef const double *mean = <const double *>data(stats, 8, 2 * N * G)
    cdef floating *dx0 = <floating *>data(dx, itemsize, N * C * L)
    cdef floating *dgamma0 = <floating *>data(dgamma, itemsize, C)
    cdef floating *dbeta0 = <floating *>data(dbeta, itemsize, C)
    cdef double *partial0 = <double *>data(partial, 8, (N + 1) * 2 * C)
    cdef double *total = partial0 + N * 2 * C
    cdef Py_ssize_t channels = C // G, row, n, c
    cdef Watch watch
    begin(&watch, num_threads)
    with nogil:
        for row in prange(N * G, schedule="static", num_threads=num_threads):
            if stopped_at(&watch, row):
                continue
            c = row % G * channels
            _backward_group(dout0 + row * channels * L, x0 + row * channels * L, gamma0 + c,
                            channels, L, mean[row], mean[N * G + row], streaming,
                            &watch, dx0 + row * channels * L, partial0 + row // G * 2 * C + c,
                            partial0 + row // G * 2 * C + C + c)
        for c in range(2 * C):
            total[c] = 0
        for n in range(N):
            for c in range(2 * C):
                total[c] += partial0[n * 2 * C + c]
        for c in range(C):
            dgamma0[c] = <floating>total[c]
            dbeta0[c] = <floating>total[C + c]
    return finish(&watch)


def forward(ndarray x not None, Py_ssize_t N, Py_ssize_t C, Py_ssize_t L, Py_ssize_t G,
            ndarray gamma not None, ndarray beta not None, double eps, bint streaming,
            ndarray out not None, ndarray stats not None, int num_threads):
    """stats (2, N * G) receives each group's mean and rstd."""
    if single(x):
        _forward(<float>0, x, N, C, L, G, gamma, beta, eps, streaming, out, stats, num_threads)
    else:
        _forward(<double>0, x, N, C, L, G, gamma, beta, eps, streaming, out, stats, num_threads)


def backward(ndarray dout not None, ndarray x not None, Py_ssize_t N, Py_ssize_t C, Py_ssize_t L,
             Py_ssize_t G, ndarray gamma not None, ndarray stats not None, bint streaming,
             ndarray dx not None, ndarray dgamma not None, ndarray dbeta not None,
             ndarray partial not None, int num_threads):
    """partial (N + 1, 2, C): every image's share of dgamma and dbeta, and their sums in order."""
    if single(x):
        _backward(<float>0, dout, x, N, C, L, G, gamma, stats, streaming, dx, dgamma, dbeta,
                  partial, num_threads)
    else:
        _backward(<double>0, dout, x, N, C, L, G, gamma, stats, streaming, dx, dgamma, dbeta,
                  partial, num_threads)
