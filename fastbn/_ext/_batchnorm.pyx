"""Batch normalization of (N, C, L): every channel c by the statistics of x[:, c, :].

The (N, D) case is L = 1, where a channel is a column; images are L = H * W.

Work is cut into tasks of (part, block): `block` is a run of `width` channels (one channel of an
image; 64 or 128 columns, whole cache lines of every row), `part` is a run of images or rows. With
one part a task reads its channels for the statistics and at once again for the output, so the
second read comes from the second-level cache and memory is read once. With several, every part is
read twice, and the moments of the parts are merged in order: for too few channels to go round, and
for columns that are in the cache anyway (layers/_batchnorm.py has the rule and the reason).
`width` and the number of parts depend on the shape alone, so results are the same at any thread
count.

Traffic: forward one read and one write; backward two reads and one write.
"""
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.string cimport memcpy

from ._normalize cimport dot_centred, project, rounding, scale_only, scale_shift
from ._reduce cimport (
    BLOCK, LANES, Moments, add_moments, finite, lane_squares, lane_sums, merge, merge_wide,
)

cdef enum:
    WIDTH = 128    # the widest block of columns
    STRIP = 4096   # numbers of a block of columns that are summed before the sums go into double


cdef void _channel_moments(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t L, Moments *moments
) noexcept nogil:
    """Moments of one channel. Small planes are gathered, to sum whole blocks."""
    cdef floating gathered[BLOCK]
    cdef Py_ssize_t n, filled = 0
    if L > BLOCK // 4:
        for n in range(rows):
            add_moments(moments, x + n * stride, L)
        return
    for n in range(rows):
        if filled + L > BLOCK:
            add_moments(moments, <const floating *>gathered, filled)
            filled = 0
        memcpy(gathered + filled, x + n * stride, L * sizeof(floating))
        filled += L
    add_moments(moments, <const floating *>gathered, filled)


cdef void _strip_moments(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width, double count,
    double *mean, double *m2
) noexcept nogil:
    """Merge a strip of `rows` rows of at most LANES columns: add_moments, a column in each lane."""
    cdef floating centre[LANES]
    cdef floating residual[LANES]
    cdef floating squares[LANES]
    cdef floating d
    cdef double weight = rows / (count + rows), spread = count * weight, delta
    cdef bint fits = True
    cdef Moments moments
    cdef Py_ssize_t n, c
    if width == LANES:
        lane_sums(x, rows, stride, centre)
        for c in range(LANES):
            centre[c] /= rows
        lane_squares(x, rows, stride, <const floating *>centre, residual, squares)
    else:
        for c in range(width):
            centre[c] = 0
            residual[c] = 0
            squares[c] = 0
        for n in range(rows):
            for c in range(width):
                centre[c] += x[n * stride + c]
        for c in range(width):
            centre[c] /= rows
        for n in range(rows):
            for c in range(width):
                d = x[n * stride + c] - centre[c]
                residual[c] += d
                squares[c] += d * d
    for c in range(width):
        fits &= finite(squares[c] + mean[c])
    if not fits:
        for c in range(width):
            moments.count, moments.mean, moments.m2 = count, mean[c], m2[c]
            merge_wide(&moments, x + c, rows, stride)
            mean[c], m2[c] = moments.mean, moments.m2
        return
    for c in range(width):
        delta = centre[c] + <double>residual[c] / rows - mean[c]
        mean[c] += delta * weight
        m2[c] += squares[c] - <double>residual[c] * <double>residual[c] / rows + (
            delta * (delta * spread))


cdef void _column_moments(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width,
    double *mean, double *m2
) noexcept nogil:
    """Moments of `width` neighbouring columns, a strip of rows at a time.

    The strip is gathered first: rows a power of two apart would fall on the same few lines of the
    first-level cache, and push each other out before they are read again.
    """
    cdef floating gathered[STRIP]
    cdef Py_ssize_t n = 0, c, i, size
    while n < rows:
        size = min(STRIP // width, rows - n)
        for i in range(size):
            memcpy(gathered + i * width, x + (n + i) * stride, width * sizeof(floating))
        c = 0
        while c < width:
            _strip_moments(<const floating *>gathered + c, size, width,
                           min(<Py_ssize_t>LANES, width - c), <double>n, mean + c, m2 + c)
            c += LANES
        n += size


cdef void _moments(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width, Py_ssize_t L,
    double *mean, double *m2
) noexcept nogil:
    """Mean and sum of squared deviations of `width` channels over `rows` rows."""
    cdef Moments moments
    cdef Py_ssize_t c
    for c in range(width):
        mean[c] = 0
        m2[c] = 0
    if L == 1:
        _column_moments(x, rows, stride, width, mean, m2)
        return
    for c in range(width):
        moments.count = moments.mean = moments.m2 = 0
        _channel_moments(x + c * L, rows, stride, L, &moments)
        mean[c] = moments.mean
        m2[c] = moments.m2


cdef void _finish_moments(
    const double *partial, Py_ssize_t parts, Py_ssize_t N, Py_ssize_t C, Py_ssize_t L,
    Py_ssize_t width, double eps, double *stats
) noexcept nogil:
    """Merge the parts' moments in order; stats (3, C) receives mean, 1/sqrt(var + eps), var."""
    cdef Moments total
    cdef double variance
    cdef Py_ssize_t c, part
    for c in range(width):
        total.count = total.mean = total.m2 = 0
        for part in range(parts):
            merge(&total, <double>((N * (part + 1) // parts - N * part // parts) * L),
                  partial[2 * part * C + c], partial[(2 * part + 1) * C + c])
        variance = total.m2 / total.count
        stats[c] = total.mean
        stats[C + c] = 1 / sqrt(variance + eps)
        stats[2 * C + c] = variance


cdef void _normalize(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width, Py_ssize_t L,
    const floating *gamma, const floating *beta, const double *mean, const double *rstd,
    floating *out
) noexcept nogil:
    """out = (x - mean) * rstd * gamma + beta"""
    cdef floating high[WIDTH]
    cdef floating scale[WIDTH]
    cdef floating shift[WIDTH]
    cdef Py_ssize_t n, c
    for c in range(width):
        high[c] = <floating>mean[c]
        scale[c] = <floating>(gamma[c] * rstd[c])
        shift[c] = <floating>(beta[c] + rounding(mean[c], high[c]) * gamma[c] * rstd[c])
    # Last row first: it is the one most surely still in the cache.
    for n in range(rows - 1, -1, -1):
        if L == 1:
            for c in range(width):
                out[n * stride + c] = (x[n * stride + c] - high[c]) * scale[c] + shift[c]
        else:
            for c in range(width):
                scale_shift(x + n * stride + c * L, L, high[c], scale[c], shift[c],
                            out + n * stride + c * L)


cdef void _column_sums(
    const floating *dout, const floating *x, Py_ssize_t rows, Py_ssize_t stride,
    Py_ssize_t width, const double *mean, double *total, double *dot
) noexcept nogil:
    """dot_centred for `width` neighbouring columns, a strip of rows at a time."""
    cdef floating high[WIDTH]
    cdef floating low[WIDTH]
    cdef floating sums[WIDTH]
    cdef floating dots[WIDTH]
    cdef floating d
    cdef Py_ssize_t n, c, size
    for c in range(width):
        high[c] = <floating>mean[c]
        low[c] = <floating>-rounding(mean[c], high[c])
    while rows > 0:
        size = min(STRIP // width, rows)
        for c in range(width):
            sums[c] = 0
            dots[c] = 0
        for n in range(size):
            for c in range(width):
                d = dout[n * stride + c]
                sums[c] += d
                dots[c] += d * ((x[n * stride + c] - high[c]) - low[c])
        for c in range(width):
            total[c] += sums[c]
            dot[c] += dots[c]
        dout += size * stride
        x += size * stride
        rows -= size


cdef void _sums(
    const floating *dout, const floating *x, Py_ssize_t rows, Py_ssize_t stride,
    Py_ssize_t width, Py_ssize_t L, const double *mean, double *total, double *dot
) noexcept nogil:
    """sum(dout) and sum(dout * (x - mean)) of `width` channels over `rows` rows."""
    cdef Py_ssize_t n, c, at
    cdef floating high, low
    for c in range(width):
        total[c] = 0
        dot[c] = 0
    if L == 1:
        _column_sums(dout, x, rows, stride, width, mean, total, dot)
        return
    for c in range(width):
        high = <floating>mean[c]
        low = <floating>-rounding(mean[c], high)
        for n in range(rows):
            at = n * stride + c * L
            dot_centred(dout + at, x + at, L, high, low, &total[c], &dot[c])


cdef void _finish_sums(
    double *partial, Py_ssize_t parts, Py_ssize_t C, Py_ssize_t width, const double *rstd,
    floating *dgamma, floating *dbeta
) noexcept nogil:
    """Add the parts' sums in order, into the first part."""
    cdef Py_ssize_t c, part
    for c in range(width):
        for part in range(1, parts):
            partial[c] += partial[2 * part * C + c]
            partial[C + c] += partial[(2 * part + 1) * C + c]
        dbeta[c] = <floating>partial[c]
        dgamma[c] = <floating>(partial[C + c] * rstd[c])


cdef void _project(
    const floating *dout, const floating *x, Py_ssize_t rows, Py_ssize_t stride,
    Py_ssize_t width, Py_ssize_t L, const floating *gamma, const double *mean,
    const double *rstd, const double *total, const double *dot, double count, bint constant,
    floating *dx
) noexcept nogil:
    """dx = gamma * rstd * (dout - mean(dout) - xhat * mean(dout * xhat)).

    If the statistics were constants (test mode), dx = gamma * rstd * dout.
    """
    cdef floating high[WIDTH]
    cdef floating centre[WIDTH]
    cdef floating scale[WIDTH]
    cdef floating slope[WIDTH]
    cdef floating shift[WIDTH]
    cdef double s
    cdef Py_ssize_t n, c, at
    for c in range(width):
        high[c] = <floating>mean[c]
        scale[c] = <floating>(gamma[c] * rstd[c])
        s = -gamma[c] * rstd[c] * rstd[c] * rstd[c] * (dot[c] / count)
        slope[c] = <floating>s
        centre[c] = <floating>(total[c] / count)
        shift[c] = <floating>(rounding(mean[c], high[c]) * s)
    for n in range(rows - 1, -1, -1):
        at = n * stride
        if L == 1 and constant:
            for c in range(width):
                dx[at + c] = dout[at + c] * scale[c]
        elif L == 1:
            for c in range(width):
                dx[at + c] = (dout[at + c] - centre[c]) * scale[c] + (
                    (x[at + c] - high[c]) * slope[c] + shift[c])
        elif constant:
            for c in range(width):
                scale_only(dout + at + c * L, L, scale[c], dx + at + c * L)
        else:
            for c in range(width):
                project(dout + at + c * L, x + at + c * L, L, centre[c], high[c], scale[c],
                        slope[c], shift[c], dx + at + c * L)


cdef void _forward_task(
    const floating *x, Py_ssize_t N, Py_ssize_t C, Py_ssize_t L, Py_ssize_t block,
    Py_ssize_t part, Py_ssize_t parts, Py_ssize_t width, const floating *gamma,
    const floating *beta, double eps, bint sum_phase, bint out_phase,
    floating *out, double *stats, double *partial
) noexcept nogil:
    cdef Py_ssize_t c = block * width, here = min(width, C - block * width)
    cdef Py_ssize_t first = N * part // parts
    cdef Py_ssize_t rows = N * (part + 1) // parts - first, at = (first * C + c) * L
    if sum_phase:
        _moments(x + at, rows, C * L, here, L,
                 partial + 2 * part * C + c, partial + (2 * part + 1) * C + c)
    if sum_phase and out_phase:
        _finish_moments(partial + c, 1, N, C, L, here, eps, stats + c)
    if out_phase:
        _normalize(x + at, rows, C * L, here, L, gamma + c, beta + c,
                   stats + c, stats + C + c, out + at)


cdef void _backward_task(
    const floating *dout, const floating *x, Py_ssize_t N, Py_ssize_t C, Py_ssize_t L,
    Py_ssize_t block, Py_ssize_t part, Py_ssize_t parts, Py_ssize_t width,
    const floating *gamma, const double *stats, bint constant, bint sum_phase, bint out_phase,
    floating *dx, floating *dgamma, floating *dbeta, double *partial
) noexcept nogil:
    cdef Py_ssize_t c = block * width, here = min(width, C - block * width)
    cdef Py_ssize_t first = N * part // parts
    cdef Py_ssize_t rows = N * (part + 1) // parts - first, at = (first * C + c) * L
    if sum_phase:
        _sums(dout + at, x + at, rows, C * L, here, L, stats + c,
              partial + 2 * part * C + c, partial + (2 * part + 1) * C + c)
    if sum_phase and out_phase:
        _finish_sums(partial + c, 1, C, here, stats + C + c, dgamma + c, dbeta + c)
    if out_phase:
        _project(dout + at, x + at, rows, C * L, here, L, gamma + c, stats + c, stats + C + c,
                 partial + c, partial + C + c, <double>(N * L), constant, dx + at)


def forward(const floating[:, :, ::1] x not None, const floating[::1] gamma not None,
            const floating[::1] beta not None, double eps, Py_ssize_t width,
            floating[:, :, ::1] out not None, double[:, ::1] stats not None,
            double[:, :, ::1] partial not None, int num_threads):
    """Training mode. stats (3, C) receives mean, rstd and biased variance.

    partial (parts, 2, C) is scratch and says how many parts; width is the channels of a block.
    """
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], L = x.shape[2]
    cdef Py_ssize_t parts = partial.shape[0], blocks = (C + width - 1) // width, task
    with nogil:
        for task in prange(parts * blocks, schedule="static", num_threads=num_threads):
            _forward_task(&x[0, 0, 0], N, C, L, task % blocks, task // blocks, parts, width,
                          &gamma[0], &beta[0], eps, True, parts == 1,
                          &out[0, 0, 0], &stats[0, 0], &partial[0, 0, 0])
        if parts > 1:
            _finish_moments(&partial[0, 0, 0], parts, N, C, L, C, eps, &stats[0, 0])
            for task in prange(parts * blocks, schedule="static", num_threads=num_threads):
                _forward_task(&x[0, 0, 0], N, C, L, task % blocks, task // blocks, parts, width,
                              &gamma[0], &beta[0], eps, False, True,
                              &out[0, 0, 0], &stats[0, 0], &partial[0, 0, 0])


def normalize(const floating[:, :, ::1] x not None, const floating[::1] gamma not None,
              const floating[::1] beta not None, double[:, ::1] stats not None,
              Py_ssize_t width, Py_ssize_t parts, floating[:, :, ::1] out not None,
              int num_threads):
    """Test mode: the mean and rstd of stats (2 or 3, C) are given."""
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], L = x.shape[2]
    cdef Py_ssize_t blocks = (C + width - 1) // width, task
    for task in prange(parts * blocks, nogil=True, schedule="static", num_threads=num_threads):
        _forward_task(&x[0, 0, 0], N, C, L, task % blocks, task // blocks, parts, width,
                      &gamma[0], &beta[0], 0, False, True, &out[0, 0, 0], &stats[0, 0], NULL)


def backward(const floating[:, :, ::1] dout not None, const floating[:, :, ::1] x not None,
             const floating[::1] gamma not None, const double[:, ::1] stats not None,
             bint constant, Py_ssize_t width,
             floating[:, :, ::1] dx not None, floating[::1] dgamma not None,
             floating[::1] dbeta not None, double[:, :, ::1] partial not None, int num_threads):
    """Gradients from the mean and rstd of stats. `constant`: they were given, not computed."""
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], L = x.shape[2]
    cdef Py_ssize_t parts = partial.shape[0], blocks = (C + width - 1) // width, task
    with nogil:
        for task in prange(parts * blocks, schedule="static", num_threads=num_threads):
            _backward_task(&dout[0, 0, 0], &x[0, 0, 0], N, C, L, task % blocks, task // blocks,
                           parts, width, &gamma[0], &stats[0, 0], constant, True, parts == 1,
                           &dx[0, 0, 0], &dgamma[0], &dbeta[0], &partial[0, 0, 0])
        if parts > 1:
            _finish_sums(&partial[0, 0, 0], parts, C, C, &stats[1, 0], &dgamma[0], &dbeta[0])
            for task in prange(parts * blocks, schedule="static", num_threads=num_threads):
                _backward_task(&dout[0, 0, 0], &x[0, 0, 0], N, C, L, task % blocks,
                               task // blocks, parts, width, &gamma[0], &stats[0, 0], constant,
                               False, True, &dx[0, 0, 0], &dgamma[0], &dbeta[0],
                               &partial[0, 0, 0])
