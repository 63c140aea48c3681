"""Layer normalization: every row of (N, D) by its own mean and deviation.

A row is read from memory once: its statistics, and for the backward pass its two sums, are taken
while the row is in the first- or second-level cache. Traffic: forward one read and one write,
backward two reads and one write, and the D parameters.
"""
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport sqrt
from numpy cimport ndarray

from ._arrays cimport data, single
from ._interrupt cimport PIECE, Watch, begin, finish, pause, stopped, stopped_at
from ._normalize cimport large_part, rest
from ._reduce cimport (
    BLOCK, Moments, add_moments, add_products, beginning, block_squares, finite, underflow,
    variance,
)
from ._stream cimport Chunk, chunk_done, chunk_size, chunk_start, stream_end

cdef enum:
    ROWS = 16      # rows at most whose statistics are taken together
    NUMBERS = 4096  # of them: they are read again from the first-level cache
    STRIP = 64     # rows that are summed before the sums go into double


cdef void _row_moments(
    const floating *x, Py_ssize_t rows, Py_ssize_t D, Watch *watch, double *mean, double *m2
) noexcept nogil:
    """Row after row in each of two loops: a short row's sums wait for each other, rows do not."""
    cdef floating k[ROWS]
    cdef floating sum, squares
    cdef double inverse = 1.0 / D
    cdef Moments moments
    cdef Py_ssize_t n
    if D <= BLOCK:
        for n in range(rows):
            k[n] = beginning(x + n * D, D)
    for n in range(rows):
        if D <= BLOCK:
            squares = block_squares(x + n * D, D, k[n], &sum)
            if finite(squares) and not underflow(squares, sum, x[n * D], x[n * D + D - 1], k[n]):
                mean[n] = k[n] + sum * inverse
                m2[n] = squares - sum * (sum * inverse)
                continue
        moments.count = moments.mean = moments.m2 = 0
        add_moments(&moments, x + n * D, D, watch)
        mean[n], m2[n] = moments.mean, moments.m2


cdef void _normalize_row(
    const floating *x, const floating *gamma, const floating *beta, Py_ssize_t D, double mean,
    double rstd, bint relu, bint streaming, Watch *watch, floating *out
) noexcept nogil:
    cdef Chunk chunk
    cdef floating *to
    cdef floating high = large_part(mean, rstd, gamma[0]), scale = <floating>rstd
    cdef floating shift = <floating>(rest(mean, high) * rstd)
    cdef floating y
    cdef Py_ssize_t d = 0, i, size
    while d < D:
        size = chunk_size(out + d, D - d, streaming)
        if pause(watch, D - d, size):
            return
        to = chunk_start(&chunk, out + d, streaming)
        if relu:
            for i in range(size):
                y = ((x[d + i] - high) * scale + shift) * gamma[d + i] + beta[d + i]
                to[i] = y if (y > 0) | (y != y) else 0
        else:
            for i in range(size):
                to[i] = ((x[d + i] - high) * scale + shift) * gamma[d + i] + beta[d + i]
        chunk_done(out + d, to, size, streaming)
        d += size


cdef void _forward_rows(
    const floating *x, const floating *gamma, const floating *beta, Py_ssize_t rows,
    Py_ssize_t D, double eps, bint relu, bint streaming, Watch *watch, floating *out,
    double *mean, double *rstd
) noexcept nogil:
    cdef Py_ssize_t n
    _row_moments(x, rows, D, watch, mean, rstd)
    for n in range(rows):
        rstd[n] = 1 / sqrt(variance(rstd[n], D) + eps)
    for n in range(rows):
        _normalize_row(x + n * D, gamma, beta, D, mean[n], rstd[n], relu, streaming, watch,
                       out + n * D)
    if streaming:
        stream_end()


cdef struct Row:
    # What a row's gradient needs of it, with g = dout * gamma.
    double high, scale, shift   # xhat = (x - high) * scale + shift
    double mean_g, mean_gx      # of g and of g * xhat


cdef Row _row(
    const floating *dout, const floating *x, const floating *gamma, Py_ssize_t D,
    double mean, double rstd, Watch *watch
) noexcept nogil:
    cdef Row row
    cdef floating high = large_part(mean, rstd, gamma[0])
    cdef double total = 0, dot = 0, inverse = 1.0 / D
    add_products(dout, gamma, x, D, high, watch, &total, &dot)
    row.high = high
    row.scale = rstd
    row.shift = rest(mean, high) * rstd
    row.mean_g = total * inverse
    row.mean_gx = (dot * rstd + row.shift * total) * inverse
    return row


cdef void _add_rows(
    const floating *dout, const floating *x, Py_ssize_t rows, Py_ssize_t D, const Row *row,
    floating *dgamma, floating *dbeta
) noexcept nogil:
    """dgamma += sum over at most four rows of dout * xhat, dbeta of dout."""
    cdef floating high[4]
    cdef floating scale[4]
    cdef floating shift[4]
    cdef const floating *d1 = dout + D
    cdef const floating *d2 = dout + 2 * D
    cdef const floating *d3 = dout + 3 * D
    cdef const floating *x1 = x + D
    cdef const floating *x2 = x + 2 * D
    cdef const floating *x3 = x + 3 * D
    cdef Py_ssize_t n, d
    for n in range(rows):
        high[n] = <floating>row[n].high
        scale[n] = <floating>row[n].scale
        shift[n] = <floating>row[n].shift
    if rows == 4:
        for d in range(D):
            dgamma[d] += (dout[d] * ((x[d] - high[0]) * scale[0] + shift[0])
                          + d1[d] * ((x1[d] - high[1]) * scale[1] + shift[1])) + (
                          d2[d] * ((x2[d] - high[2]) * scale[2] + shift[2])
                          + d3[d] * ((x3[d] - high[3]) * scale[3] + shift[3]))
            dbeta[d] += (dout[d] + d1[d]) + (d2[d] + d3[d])
        return
    for n in range(rows):
        for d in range(D):
            dgamma[d] += dout[n * D + d] * ((x[n * D + d] - high[n]) * scale[n] + shift[n])
            dbeta[d] += dout[n * D + d]


cdef void _project_row(
    const floating *dout, const floating *x, const floating *gamma, Py_ssize_t D, Row row,
    bint streaming, Watch *watch, floating *dx
) noexcept nogil:
    """dx = rstd * (g - mean(g) - xhat * mean(g * xhat)); in the order that `project` has."""
    cdef Chunk chunk
    cdef floating *to
    cdef floating high = <floating>row.high, scale = <floating>row.scale
    cdef floating centre = <floating>(row.mean_g + row.shift * row.mean_gx)
    cdef floating slope = <floating>(-row.scale * row.mean_gx)
    cdef Py_ssize_t d = 0, i, size
    while d < D:
        size = chunk_size(dx + d, D - d, streaming)
        if pause(watch, D - d, size):
            return
        to = chunk_start(&chunk, dx + d, streaming)
        for i in range(size):
            to[i] = (dout[d + i] * gamma[d + i] - centre + (x[d + i] - high) * slope) * scale
        chunk_done(dx + d, to, size, streaming)
        d += size


cdef void _relu_gate(
    const floating *dout, const floating *x, const floating *gamma, const floating *beta,
    Py_ssize_t D, double mean, double rstd, floating *gated
) noexcept nogil:
    """The fused relu's gradient: dout where what _normalize_row gives is above 0."""
    cdef floating high = large_part(mean, rstd, gamma[0]), scale = <floating>rstd
    cdef floating shift = <floating>(rest(mean, high) * rstd)
    cdef Py_ssize_t d
    for d in range(D):
        gated[d] = dout[d] if ((x[d] - high) * scale + shift) * gamma[d] + beta[d] > 0 else 0


cdef inline void _clear(floating *x, Py_ssize_t n, Watch *watch) noexcept nogil:
    cdef Py_ssize_t i, size
    while n > 0 and not (n > PIECE and stopped(watch)):
        size = min(<Py_ssize_t>PIECE, n)
        for i in range(size):
            x[i] = 0
        x += size
        n -= size


cdef inline void _add(
    const floating *x, Py_ssize_t n, Watch *watch, double *total
) noexcept nogil:
    cdef Py_ssize_t i, size
    while n > 0 and not (n > PIECE and stopped(watch)):
        size = min(<Py_ssize_t>PIECE, n)
        for i in range(size):
            total[i] += x[i]
        x += size
        total += size
        n -= size


cdef void _backward_chunk(
    const floating *dout, const floating *x, const floating *gamma, const floating *beta,
    bint relu, const double *mean, const double *rstd, Py_ssize_t rows, Py_ssize_t D,
    bint streaming, Watch *watch, floating *dx, double *partial, floating *scratch
) noexcept nogil:
    """Four rows at a time, while they are in the first- or second-level cache.

    Sums over a strip of rows are carried in the array's dtype, over strips in double. scratch:
    2 * D numbers for them, and with relu 4 * D more.
    """
    cdef const floating *d
    cdef Row row[4]
    cdef Py_ssize_t n = 0, i, size, stop
    _clear(partial, 2 * D, watch)
    while n < rows:
        if stopped(watch):
            return
        stop = min(n + STRIP, rows)
        _clear(scratch, 2 * D, watch)
        while n < stop:
            size = min(<Py_ssize_t>4, stop - n)
            if pause(watch, (rows - n) * D, size * D):
                return
            d = dout + n * D
            if relu:
                for i in range(size):
                    _relu_gate(d + i * D, x + (n + i) * D, gamma, beta, D, mean[n + i],
                               rstd[n + i], scratch + (2 + i) * D)
                d = scratch + 2 * D
            for i in range(size):
                row[i] = _row(d + i * D, x + (n + i) * D, gamma, D, mean[n + i], rstd[n + i],
                              watch)
            _add_rows(d, x + n * D, size, D, row, scratch, scratch + D)
            for i in range(size):
                _project_row(d + i * D, x + (n + i) * D, gamma, D, row[i], streaming,
                             watch, dx + (n + i) * D)
            n += size
        _add(scratch, 2 * D, watch, partial)
    if streaming:
        stream_end()


cdef int _forward(
    floating _, ndarray x, Py_ssize_t N, Py_ssize_t D, ndarray gamma, ndarray beta, double eps,
    bint relu, bint streaming, ndarray out, ndarray stats, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef const floating *x0 = <const floating *>data(x, itemsize, N * D)
    cdef const floating *gamma0 = <const floating *>data(gamma, itemsize, D)
    cdef const floating *beta0 = <const floating *>data(beta, itemsize, D)
    cdef floating *out0 = <floating *>data(out, itemsize, N * D)
    cdef double *mean = <double *>data(stats, 8, 2 * N)
    cdef Py_ssize_t rows = max(<Py_ssize_t>1, min(<Py_ssize_t>ROWS, NUMBERS // D)), task
    cdef Watch watch
    begin(&watch, num_threads)
    for task in prange((N + rows - 1) // rows, nogil=True, schedule="static",
                       num_threads=num_threads):
        if stopped_at(&watch, task):
            continue
        _forward_rows(x0 + task * rows * D, gamma0, beta0, min(rows, N - task * rows), D, eps,
                      relu, streaming, &watch, out0 + task * rows * D, mean + task * rows,
                      mean + N + task * rows)
    return finish(&watch)


cdef int _backward(
    floating _, ndarray dout, ndarray x, Py_ssize_t N, Py_ssize_t D, Py_ssize_t chunks,
    ndarray gamma, ndarray beta, ndarray stats, bint relu, bint streaming, ndarray dx,
    ndarray dgamma, ndarray dbeta, ndarray partial, ndarray scratch, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Py_ssize_t size = scratch_size(D, relu)
    cdef const floating *dout0 = <const floating *>data(dout, itemsize, N * D)
    cdef const floating *x0 = <const floating *>data(x, itemsize, N * D)
    cdef const floating *gamma0 = <const floating *>data(gamma, itemsize, D)
    cdef const floating *beta0 = <const floating *>data(beta, itemsize, D)
    cdef const double *mean = <const double *>data(stats, 8, 2 * N)
    cdef floating *dx0 = <floating *>data(dx, itemsize, N * D)
    cdef floating *dgamma0 = <floating *>data(dgamma, itemsize, D)
    cdef floating *dbeta0 = <floating *>data(dbeta, itemsize, D)
    cdef double *partial0 = <double *>data(partial, 8, chunks * 2 * D)
    cdef floating *scratch0 = <floating *>data(scratch, itemsize, num_threads * size)
    cdef Py_ssize_t chunk, start, d
    cdef Watch watch
    begin(&watch, num_threads)
    with nogil:
        for chunk in prange(chunks, schedule="static", num_threads=num_threads):
            start = N * chunk // chunks
            _backward_chunk(dout0 + start * D, x0 + start * D, gamma0, beta0, relu,
                            mean + start, mean + N + start, N * (chunk + 1) // chunks - start, D,
                            streaming, &watch, dx0 + start * D, partial0 + chunk * 2 * D,
                            scratch0 + threadid() * size)
        for chunk in range(1, chunks):
            for d in range(2 * D):
                partial0[d] += partial0[chunk * 2 * D + d]
        for d in range(D):
            dgamma0[d] = <floating>partial0[d]
            dbeta0[d] = <floating>partial0[D + d]
    return finish(&watch)


cpdef Py_ssize_t scratch_size(Py_ssize_t D, bint relu):
    """Numbers of scratch that backward wants for every thread."""
    return (6 if relu else 2) * D


def forward(ndarray x not None, Py_ssize_t N, Py_ssize_t D, ndarray gamma not None,
            ndarray beta not None, double eps, bint relu, bint streaming, ndarray out not None,
            ndarray stats not None, int num_threads):
    """out = (x - mean) * rstd * gamma + beta; stats (2, N) receives mean and rstd."""
    if single(x):
        _forward(<float>0, x, N, D, gamma, beta, eps, relu, streaming, out, stats, num_threads)
    else:
        _forward(<double>0, x, N, D, gamma, beta, eps, relu, streaming, out, stats, num_threads)


def backward(ndarray dout not None, ndarray x not None, Py_ssize_t N, Py_ssize_t D,
             Py_ssize_t chunks, ndarray gamma not None, ndarray beta, ndarray stats not None,
             bint streaming, ndarray dx not None, ndarray dgamma not None, ndarray dbeta not None,
             ndarray partial not None, ndarray scratch not None, int num_threads):
    """dgamma and dbeta sum over rows: one partial (2, D) a chunk of rows, added in chunk order.

    The number of chunks must depend on the shape alone. With beta, dout is that of the fused relu's
    output; None if there was none.
    """
    cdef bint relu = beta is not None
    cdef ndarray any_beta = beta if relu else gamma
    if single(x):
        _backward(<float>0, dout, x, N, D, chunks, gamma, any_beta, stats, relu, streaming, dx,
                  dgamma, dbeta, partial, scratch, num_threads)
    else:
        _backward(<double>0, dout, x, N, D, chunks, gamma, any_beta, stats, relu, streaming, dx,
                  dgamma, dbeta, partial, scratch, num_threads)
