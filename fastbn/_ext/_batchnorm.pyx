"""Batch normalization of (N, C, L): every channel c by the statistics of x[:, c, :].

The (N, D) case is L = 1, where a channel is a column; images are L = H * W.

Work is cut into tasks of (part, block): a block is a run of `width` channels, a part a run of
images or rows. With one part a task reads its channels for the statistics and at once again for the
output, so that the second read comes from a cache and memory is read once. With several, every part
is read twice, and the moments of the parts are merged in order: for too few channels to go round,
and for columns that are in a cache anyway (layers/_batchnorm.py has the rule and the reason). The
second time goes backwards, to begin with what was read last. The cut depends on the shape alone, so
results are the same at any thread count.

Planes of LONG numbers and more are passed over one at a time. Shorter ones are as columns are: a
block's channels lie side by side in an image, each number with its channel's parameters, and are
passed over together; for the sums over a channel its planes are gathered first.

Traffic: forward one read and one write, backward two reads and one write, of x's size.
"""
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport sqrt
from libc.string cimport memcpy
from numpy cimport ndarray

from ._arrays cimport data, single
from ._interrupt cimport Watch, begin, finish, first_of, pause, stopped
from ._normalize cimport large_part, project, relu_gate, rest, scale_only, scale_shift
from ._reduce cimport (
    BLOCK, STRIP, Moments, add_column_moments, add_moments, add_products, add_wide_products,
    finite, merge_columns, row_products, variance,
)
from ._stream cimport Chunk, Line, chunk_done, chunk_size, chunk_start, stream_end

cdef enum:
    LONG = 128     # numbers of a plane; width is 1 from here on, and width * L <= WIDTH below


cdef struct Cut:
    Py_ssize_t N, C, L
    Py_ssize_t width, blocks, parts
    Watch *watch


cdef struct Piece:
    Py_ssize_t channel, channels   # of the block
    Py_ssize_t rows                # of the part
    Py_ssize_t at                  # the first number, from that of x
    Py_ssize_t part


cdef inline Piece _piece(Cut cut, Py_ssize_t task) noexcept nogil:
    cdef Piece p
    cdef Py_ssize_t first
    p.part = task // cut.blocks
    p.channel = task % cut.blocks * cut.width
    p.channels = min(cut.width, cut.C - p.channel)
    first = cut.N * p.part // cut.parts
    p.rows = cut.N * (p.part + 1) // cut.parts - first
    p.at = (first * cut.C + p.channel) * cut.L
    return p


cdef inline Py_ssize_t _gather(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t L, floating *gathered
) noexcept nogil:
    """Planes of a channel one after another, as many as fill a block; returns how many."""
    cdef Py_ssize_t n
    rows = min(rows, BLOCK // L)
    for n in range(rows):
        memcpy(gathered + n * L, x + n * stride, L * sizeof(floating))
    return rows


cdef void _channel_moments(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t L, Watch *watch,
    double *mean, double *m2
) noexcept nogil:
    cdef floating gathered[BLOCK]
    cdef Moments moments
    cdef Py_ssize_t n = 0, here
    moments.count = moments.mean = moments.m2 = 0
    while n < rows:
        if L < LONG:
            here = _gather(x + n * stride, rows - n, stride, L, gathered)
            add_moments(&moments, <const floating *>gathered, here * L, watch)
        else:
            here = 1
            add_moments(&moments, x + n * stride, L, watch)
        if pause(watch, (rows - n) * L, here * L):
            return
        n += here
    mean[0] = moments.mean
    m2[0] = moments.m2


cdef void _moments(
    const floating *x, Cut cut, Piece p, double *mean, double *m2
) noexcept nogil:
    """Mean and sum of squared deviations of a piece's channels."""
    cdef Py_ssize_t c
    if cut.L == 1:
        add_column_moments(x, p.rows, cut.C, p.channels, cut.watch, mean, m2)
        return
    for c in range(p.channels):
        _channel_moments(x + c * cut.L, p.rows, cut.C * cut.L, cut.L, cut.watch, mean + c, m2 + c)


cdef void _finish_moments(
    const double *partial, Cut cut, Py_ssize_t channel, Py_ssize_t channels, double eps,
    double *stats
) noexcept nogil:
    """Merge the parts' moments in order; stats (3, C) receives mean, 1/sqrt(var + eps), var."""
    cdef double *mean = stats + channel
    cdef double *rstd = mean + cut.C
    cdef double *var = mean + 2 * cut.C
    cdef const double *new_mean
    cdef double numbers = cut.N * cut.L
    cdef Py_ssize_t c, part, first, last
    for c in range(channels):
        mean[c] = 0
        var[c] = 0
    for part in range(cut.parts):
        first = cut.N * part // cut.parts
        last = cut.N * (part + 1) // cut.parts
        new_mean = partial + 2 * part * cut.C + channel
        merge_columns(mean, var, <double>(first * cut.L), <double>((last - first) * cut.L),
                      new_mean, new_mean + cut.C, channels)
    for c in range(channels):
        var[c] = variance(var[c], numbers)
        rstd[c] = 1 / sqrt(var[c] + eps)


cdef inline void _output_line(
    const floating *gamma, const floating *beta, const double *mean, const double *rstd,
    Py_ssize_t channels, floating *high, floating *scale, floating *shift
) noexcept nogil:
    """out = (x - high) * scale + shift is (x - mean) * rstd * gamma + beta."""
    cdef Py_ssize_t c
    for c in range(channels):
        high[c] = large_part(mean[c], rstd[c], gamma[c])
        scale[c] = <floating>(gamma[c] * rstd[c])
        shift[c] = <floating>(beta[c] + rest(mean[c], high[c]) * gamma[c] * rstd[c])


cdef inline void _expand(floating *values, Py_ssize_t channels, Py_ssize_t L) noexcept nogil:
    """A number for every channel becomes L for every channel, in place."""
    cdef floating value
    cdef Py_ssize_t c, i
    if L == 1:
        return
    for c in range(channels - 1, -1, -1):
        value = values[c]
        for i in range(L):
            values[c * L + i] = value


cdef void _normalize_columns(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width, const floating *high,
    const floating *scale, const floating *shift, bint relu, bint streaming, Watch *watch,
    floating *out
) noexcept nogil:
    cdef Chunk chunk
    cdef floating *to
    cdef floating y
    cdef Py_ssize_t n, c, i, size
    for n in range(rows):
        if pause(watch, (n + 1) * width, width):
            return
        c = 0
        while c < width:
            size = chunk_size(out + n * stride + c, width - c, streaming)
            to = chunk_start(&chunk, out + n * stride + c, streaming)
            if relu:
                for i in range(size):
                    y = (x[n * stride + c + i] - high[c + i]) * scale[c + i] + shift[c + i]
                    to[i] = y if (y > 0) | (y != y) else 0
            else:
                for i in range(size):
                    to[i] = (x[n * stride + c + i] - high[c + i]) * scale[c + i] + shift[c + i]
            chunk_done(out + n * stride + c, to, size, streaming)
            c += size


cdef void _normalize(
    const floating *x, Cut cut, Piece p, const floating *gamma, const floating *beta,
    const double *mean, const double *rstd, bint relu, bint streaming, floating *out
) noexcept nogil:
    cdef Line line[3]
    cdef floating *high = <floating *>&line[0]
    cdef floating *scale = <floating *>&line[1]
    cdef floating *shift = <floating *>&line[2]
    cdef Py_ssize_t n, stride = cut.C * cut.L
    _output_line(gamma, beta, mean, rstd, p.channels, high, scale, shift)
    if cut.L < LONG:
        _expand(high, p.channels, cut.L)
        _expand(scale, p.channels, cut.L)
        _expand(shift, p.channels, cut.L)
        _normalize_columns(x, p.rows, stride, p.channels * cut.L, <const floating *>high,
                           <const floating *>scale, <const floating *>shift, relu, streaming,
                           cut.watch, out)
    else:
        for n in range(p.rows - 1, -1, -1):
            if pause(cut.watch, (n + 1) * cut.L, cut.L):
                return
            scale_shift(x + n * stride, cut.L, high[0], scale[0], shift[0], relu, streaming,
                        cut.watch, out + n * stride)


cdef void _column_sums(
    const floating *dout, const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width,
    const floating *high, const floating *scale, const floating *shift, bint relu, Watch *watch,
    double *total, double *dot
) noexcept nogil:
    """add_products for `width` neighbouring columns, a strip of rows at a time."""
    cdef Line line[6]
    cdef floating *sums = <floating *>&line[0]
    cdef floating *dots = <floating *>&line[1]
    cdef floating *gated = <floating *>&line[2]
    cdef Py_ssize_t n = 0, c, i, size, row, first, last
    cdef int overflow
    while n < rows:
        for c in range(width):
            sums[c] = 0
            dots[c] = 0
        first = n
        last = min(n + STRIP, rows)
        if pause(watch, (rows - n) * width, (last - n) * width):
            return
        while n < last:
            size = min(<Py_ssize_t>4, last - n)
            if relu:
                for i in range(size):
                    relu_gate_columns(dout + (n + i) * stride, x + (n + i) * stride, width,
                                      high, scale, shift, gated + i * width)
                row_products(<const floating *>gated, width, x + n * stride, stride, size, width,
                             high, sums, dots)
            else:
                row_products(dout + n * stride, stride, x + n * stride, stride, size, width,
                             high, sums, dots)
            n += size
        overflow = 0
        for c in range(width):
            overflow |= (sums[c] - sums[c] != 0) | (dots[c] - dots[c] != 0)
        if not overflow:
            for c in range(width):
                total[c] += sums[c]
                dot[c] += dots[c]
            continue
        for c in range(width):
            if finite(sums[c]) and finite(dots[c]):
                total[c] += sums[c]
                dot[c] += dots[c]
                continue
            for row in range(first, last):
                i = row * stride + c
                gated[0] = dout[i]
                if relu:
                    relu_gate(dout + i, x + i, 1, high[c], scale[c], shift[c], gated)
                add_wide_products(<const floating *>gated, <const floating *>NULL, x + i, 1,
                                  high[c], &total[c], &dot[c])


cdef inline void relu_gate_columns(
    const floating *dout, const floating *x, Py_ssize_t width, const floating *high,
    const floating *scale, const floating *shift, floating *gated
) noexcept nogil:
    """relu_gate with every column's own parameters."""
    cdef Py_ssize_t c
    for c in range(width):
        gated[c] = dout[c] if (x[c] - high[c]) * scale[c] + shift[c] > 0 else 0


cdef void _channel_sums(
    const floating *dout, const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t L,
    floating high, floating scale, floating shift, bint relu, Watch *watch, double *total,
    double *dot
) noexcept nogil:
    """sum(dout) and sum(dout * (x - high)) of one channel, a block at a time."""
    cdef floating some_dout[BLOCK]
    cdef floating some_x[BLOCK]
    cdef const floating *d
    cdef Py_ssize_t n = 0, here, i, size
    while n < rows:
        if pause(watch, (rows - n) * L, L):
            return
        if L < LONG:
            here = _gather(dout + n * stride, rows - n, stride, L, some_dout)
            _gather(x + n * stride, here, stride, L, some_x)
            d = <const floating *>some_dout
            if relu:
                relu_gate(d, <const floating *>some_x, here * L, high, scale, shift, some_dout)
            add_products(d, <const floating *>NULL, <const floating *>some_x, here * L, high,
                         watch, total, dot)
            n += here
            continue
        i = n * stride
        while i < n * stride + L:
            size = min(<Py_ssize_t>BLOCK, n * stride + L - i)
            if pause(watch, n * stride + L - i, size):
                return
            d = dout + i
            if relu:
                relu_gate(d, x + i, size, high, scale, shift, some_dout)
                d = <const floating *>some_dout
            add_products(d, <const floating *>NULL, x + i, size, high, watch, total, dot)
            i += size
        n += 1


cdef void _sums(
    const floating *dout, const floating *x, Cut cut, Piece p, const floating *gamma,
    const floating *beta, const double *mean, const double *rstd, bint relu,
    double *total, double *dot
) noexcept nogil:
    """sum(dout) and sum(dout * (x - mean)) of a piece's channels."""
    cdef Line line[3]
    cdef floating *high = <floating *>&line[0]
    cdef floating *scale = <floating *>&line[1]
    cdef floating *shift = <floating *>&line[2]
    cdef Py_ssize_t c
    _output_line(gamma, beta, mean, rstd, p.channels, high, scale, shift)
    for c in range(p.channels):
        total[c] = 0
        dot[c] = 0
    if cut.L == 1:
        _column_sums(dout, x, p.rows, cut.C, p.channels, <const floating *>high,
                     <const floating *>scale, <const floating *>shift, relu, cut.watch, total, dot)
    else:
        for c in range(p.channels):
            _channel_sums(dout + c * cut.L, x + c * cut.L, p.rows, cut.C * cut.L, cut.L,
                          high[c], scale[c], shift[c], relu, cut.watch, &total[c], &dot[c])
    for c in range(p.channels):
        dot[c] += rest(mean[c], high[c]) * total[c]


cdef void _finish_sums(
    double *partial, Cut cut, Py_ssize_t channel, Py_ssize_t channels, const double *rstd,
    floating *dgamma, floating *dbeta
) noexcept nogil:
    """Add the parts' sums in order, into the first part."""
    cdef Py_ssize_t c, part
    for part in range(1, cut.parts):
        for c in range(channel, channel + channels):
            partial[c] += partial[2 * part * cut.C + c]
            partial[cut.C + c] += partial[(2 * part + 1) * cut.C + c]
    for c in range(channel, channel + channels):
        dbeta[c] = <floating>partial[c]
        dgamma[c] = <floating>(partial[cut.C + c] * rstd[c])


cdef void _project_columns(
    const floating *dout, const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width,
    const floating *centre, const floating *high, const floating *scale, const floating *slope,
    const floating *bias, bint relu, bint constant, bint streaming, Watch *watch, floating *dx
) noexcept nogil:
    cdef Chunk chunk
    cdef Line line[1]
    cdef floating *gated = <floating *>&line[0]
    cdef const floating *d
    cdef floating *to
    cdef Py_ssize_t n, c, i, size, at
    for n in range(rows):
        if pause(watch, (n + 1) * width, width):
            return
        d = dout + n * stride
        if relu:
            relu_gate_columns(d, x + n * stride, width, high, scale, bias, gated)
            d = <const floating *>gated
        c = 0
        while c < width:
            at = n * stride + c
            size = chunk_size(dx + at, width - c, streaming)
            to = chunk_start(&chunk, dx + at, streaming)
            if constant:
                for i in range(size):
                    to[i] = d[c + i] * scale[c + i]
            else:
                for i in range(size):
                    to[i] = (d[c + i] - centre[c + i] + (x[at + i] - high[c + i]) * slope[c + i]
                             ) * scale[c + i]
            chunk_done(dx + at, to, size, streaming)
            c += size


cdef void _project_plane(
    const floating *dout, const floating *x, Py_ssize_t L, floating centre, floating high,
    floating scale, floating slope, floating bias, bint relu, bint constant, bint streaming,
    Watch *watch, floating *dx
) noexcept nogil:
    cdef floating gated[BLOCK]
    cdef const floating *d
    cdef Py_ssize_t i = 0, size
    while i < L:
        size = min(<Py_ssize_t>BLOCK, L - i) if relu else L
        if relu and pause(watch, L - i, size):
            return
        d = dout + i
        if relu:
            relu_gate(d, x + i, size, high, scale, bias, gated)
            d = <const floating *>gated
        if constant:
            scale_only(d, size, scale, streaming, watch, dx + i)
        else:
            project(d, x + i, size, centre, high, scale, slope, streaming, watch, dx + i)
        i += size


cdef void _project(
    const floating *dout, const floating *x, Cut cut, Piece p, const floating *gamma,
    const floating *beta, const double *mean, const double *rstd, const double *total,
    const double *dot, bint relu, bint constant, bint streaming, floating *dx
) noexcept nogil:
    """dx = gamma * rstd * (dout - mean(dout) - xhat * mean(dout * xhat)).

    If the statistics were constants (test mode), dx = gamma * rstd * dout.
    """
    cdef Line line[5]
    cdef floating *high = <floating *>&line[0]
    cdef floating *centre = <floating *>&line[1]
    cdef floating *scale = <floating *>&line[2]
    cdef floating *slope = <floating *>&line[3]
    cdef floating *bias = <floating *>&line[4]
    cdef Py_ssize_t n, c, stride = cut.C * cut.L
    cdef double s, share = 1.0 / (cut.N * cut.L)
    _output_line(gamma, beta, mean, rstd, p.channels, high, scale, bias)
    for c in range(p.channels):
        s = -rstd[c] * (rstd[c] * (dot[c] * share))  # rstd^2 may be no number
        slope[c] = <floating>s
        centre[c] = <floating>(total[c] * share - rest(mean[c], high[c]) * s)
    if cut.L < LONG:
        _expand(centre, p.channels, cut.L)
        _expand(high, p.channels, cut.L)
        _expand(scale, p.channels, cut.L)
        _expand(slope, p.channels, cut.L)
        _expand(bias, p.channels, cut.L)
        _project_columns(dout, x, p.rows, stride, p.channels * cut.L, <const floating *>centre,
                         <const floating *>high, <const floating *>scale,
                         <const floating *>slope, <const floating *>bias, relu, constant,
                         streaming, cut.watch, dx)
        return
    for n in range(p.rows - 1, -1, -1):
        if pause(cut.watch, (n + 1) * cut.L, cut.L):
            return
        _project_plane(dout + n * stride, x + n * stride, cut.L, centre[0], high[0], scale[0],
                       slope[0], bias[0], relu, constant, streaming, cut.watch, dx + n * stride)


cdef void _forward_tasks(
    const floating *x, Cut cut, Py_ssize_t first, Py_ssize_t last, const floating *gamma,
    const floating *beta, double eps, bint relu, bint streaming, bint sum_phase, bint out_phase,
    floating *out, double *stats, double *partial
) noexcept nogil:
    """Tasks [first, last): the sums of each, or the outputs, or both."""
    cdef Piece p
    cdef Py_ssize_t i
    for i in range(last - first):
        if stopped(cut.watch):
            break
        p = _piece(cut, first + i if sum_phase else last - 1 - i)
        if sum_phase:
            _moments(x + p.at, cut, p, partial + 2 * p.part * cut.C + p.channel,
                     partial + (2 * p.part + 1) * cut.C + p.channel)
        if sum_phase and out_phase:
            _finish_moments(partial, cut, p.channel, p.channels, eps, stats)
        if out_phase:
            _normalize(x + p.at, cut, p, gamma + p.channel, beta + p.channel, stats + p.channel,
                       stats + cut.C + p.channel, relu, streaming, out + p.at)
    if streaming:
        stream_end()


cdef void _backward_tasks(
    const floating *dout, const floating *x, Cut cut, Py_ssize_t first, Py_ssize_t last,
    const floating *gamma, const floating *beta, const double *stats, bint relu, bint constant,
    bint streaming, bint sum_phase, bint out_phase, floating *dx, floating *dgamma,
    floating *dbeta, double *partial
) noexcept nogil:
    cdef Piece p
    cdef Py_ssize_t i
    for i in range(last - first):
        if stopped(cut.watch):
            break
        p = _piece(cut, first + i if sum_phase else last - 1 - i)
        if sum_phase:
            _sums(dout + p.at, x + p.at, cut, p, gamma + p.channel, beta + p.channel,
                  stats + p.channel, stats + cut.C + p.channel, relu,
                  partial + 2 * p.part * cut.C + p.channel,
                  partial + (2 * p.part + 1) * cut.C + p.channel)
        if sum_phase and out_phase:
            _finish_sums(partial, cut, p.channel, p.channels, stats + cut.C, dgamma, dbeta)
        if out_phase:
            _project(dout + p.at, x + p.at, cut, p, gamma + p.channel, beta + p.channel,
                     stats + p.channel, stats + cut.C + p.channel, partial + p.channel,
                     partial + cut.C + p.channel, relu, constant, streaming, dx + p.at)
    if streaming:
        stream_end()


cdef inline Cut _cut(
    Py_ssize_t N, Py_ssize_t C, Py_ssize_t L, Py_ssize_t width, Py_ssize_t parts
) noexcept nogil:
    cdef Cut cut
    cut.N, cut.C, cut.L, cut.width, cut.parts = N, C, L, width, parts
    cut.blocks = (C + width - 1) // width
    cut.watch = NULL  # each call's own: a kernel sets it
    return cut


cdef int _forward(
    floating _, ndarray x, Cut cut, ndarray gamma, ndarray beta, double eps, bint relu,
    bint streaming, ndarray out, ndarray stats, ndarray partial, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef const floating *x0 = <const floating *>data(x, itemsize, cut.N * cut.C * cut.L)
    cdef const floating *gamma0 = <const floating *>data(gamma, itemsize, cut.C)
    cdef const floating *beta0 = <const floating *>data(beta, itemsize, cut.C)
    cdef floating *out0 = <floating *>data(out, itemsize, cut.N * cut.C * cut.L)
    cdef double *stats0 = <double *>data(stats, 8, 3 * cut.C)
    cdef double *partial0 = <double *>data(partial, 8, 2 * cut.parts * cut.C)
    cdef Py_ssize_t tasks = cut.parts * cut.blocks, worker
    cdef Watch watch
    begin(&watch, num_threads)
    cut.watch = &watch
    with nogil:
        for worker in prange(num_threads, schedule="static", num_threads=num_threads):
            _forward_tasks(x0, cut, first_of(tasks, worker, num_threads),
                           first_of(tasks, worker + 1, num_threads), gamma0, beta0, eps, relu,
                           streaming, True, cut.parts == 1, out0, stats0, partial0)
        if cut.parts > 1:
            _finish_moments(partial0, cut, 0, cut.C, eps, stats0)
            for worker in prange(num_threads, schedule="static", num_threads=num_threads):
                _forward_tasks(x0, cut, first_of(tasks, worker, num_threads),
                               first_of(tasks, worker + 1, num_threads), gamma0, beta0, eps, relu,
                               streaming, False, True, out0, stats0, partial0)
    return finish(&watch)


cdef int _normalize_only(
    floating _, ndarray x, Cut cut, ndarray gamma, ndarray beta, ndarray stats, bint relu,
    bint streaming, ndarray out, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef const floating *x0 = <const floating *>data(x, itemsize, cut.N * cut.C * cut.L)
    cdef const floating *gamma0 = <const floating *>data(gamma, itemsize, cut.C)
    cdef const floating *beta0 = <const floating *>data(beta, itemsize, cut.C)
    cdef floating *out0 = <floating *>data(out, itemsize, cut.N * cut.C * cut.L)
    cdef double *stats0 = <double *>data(stats, 8, 2 * cut.C)
    cdef Py_ssize_t tasks = cut.parts * cut.blocks, worker
    cdef Watch watch
    begin(&watch, num_threads)
    cut.watch = &watch
    for worker in prange(num_threads, nogil=True, schedule="static", num_threads=num_threads):
        _forward_tasks(x0, cut, first_of(tasks, worker, num_threads),
                       first_of(tasks, worker + 1, num_threads), gamma0, beta0, 0, relu,
                       streaming, False, True, out0, stats0, NULL)
    return finish(&watch)


cdef int _backward(
    floating _, ndarray dout, ndarray x, Cut cut, ndarray gamma, ndarray beta, ndarray stats,
    bint relu, bint constant, bint streaming, ndarray dx, ndarray dgamma, ndarray dbeta,
    ndarray partial, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef const floating *dout0 = <const floating *>data(dout, itemsize, cut.N * cut.C * cut.L)
    cdef const floating *x0 = <const floating *>data(x, itemsize, cut.N * cut.C * cut.L)
    cdef const floating *gamma0 = <const floating *>data(gamma, itemsize, cut.C)
    cdef const floating *beta0 = <const floating *>data(beta, itemsize, cut.C)
    cdef const double *stats0 = <const double *>data(stats, 8, 2 * cut.C)
    cdef floating *dx0 = <floating *>data(dx, itemsize, cut.N * cut.C * cut.L)
    cdef floating *dgamma0 = <floating *>data(dgamma, itemsize, cut.C)
    cdef floating *dbeta0 = <floating *>data(dbeta, itemsize, cut.C)
    cdef double *partial0 = <double *>data(partial, 8, 2 * cut.parts * cut.C)
    cdef Py_ssize_t tasks = cut.parts * cut.blocks, worker
    cdef Watch watch
    begin(&watch, num_threads)
    cut.watch = &watch
    with nogil:
        for worker in prange(num_threads, schedule="static", num_threads=num_threads):
            _backward_tasks(dout0, x0, cut, first_of(tasks, worker, num_threads),
                            first_of(tasks, worker + 1, num_threads), gamma0, beta0, stats0, relu,
                            constant, streaming, True, cut.parts == 1, dx0, dgamma0, dbeta0,
                            partial0)
        if cut.parts > 1:
            _finish_sums(partial0, cut, 0, cut.C, stats0 + cut.C, dgamma0, dbeta0)
            for worker in prange(num_threads, schedule="static", num_threads=num_threads):
                _backward_tasks(dout0, x0, cut, first_of(tasks, worker, num_threads),
                                first_of(tasks, worker + 1, num_threads), gamma0, beta0, stats0,
                                relu, constant, streaming, False, True, dx0, dgamma0, dbeta0,
                                partial0)
    return finish(&watch)


cdef int _blend(
    floating _, ndarray running, double momentum, ndarray batch, Py_ssize_t row, Py_ssize_t C,
    ndarray out
) except -1:
    cdef const floating *running0 = <const floating *>data(running, sizeof(floating), C)
    cdef const double *batch0 = <const double *>data(batch, 8, (row + 1) * C) + row * C
    cdef floating *out0 = <floating *>data(out, sizeof(floating), C)
    cdef Py_ssize_t c
    for c in range(C):
        out0[c] = <floating>(momentum * running0[c] + (1 - momentum) * batch0[c])
    return 0


def forward(ndarray x not None, Py_ssize_t N, Py_ssize_t C, Py_ssize_t L, Py_ssize_t width,
            Py_ssize_t parts, ndarray gamma not None, ndarray beta not None, double eps,
            bint relu, bint streaming, ndarray out not None, ndarray stats not None,
            ndarray partial not None, int num_threads):
    """Training mode. stats (3, C) receives mean, rstd and biased variance.

    width: channels of a block; parts: of N. partial (parts, 2, C) is scratch. relu: of the output.
    """
    cdef Cut cut = _cut(N, C, L, width, parts)
    if single(x):
        _forward(<float>0, x, cut, gamma, beta, eps, relu, streaming, out, stats, partial,
                 num_threads)
    else:
        _forward(<double>0, x, cut, gamma, beta, eps, relu, streaming, out, stats, partial,
                 num_threads)


def normalize(ndarray x not None, Py_ssize_t N, Py_ssize_t C, Py_ssize_t L, Py_ssize_t width,
              Py_ssize_t parts, ndarray gamma not None, ndarray beta not None,
              ndarray stats not None, bint relu, bint streaming, ndarray out not None,
              int num_threads):
    """The output for the mean and rstd of stats (2 or 3, C): test mode."""
    cdef Cut cut = _cut(N, C, L, width, parts)
    if single(x):
        _normalize_only(<float>0, x, cut, gamma, beta, stats, relu, streaming, out, num_threads)
    else:
        _normalize_only(<double>0, x, cut, gamma, beta, stats, relu, streaming, out, num_threads)


def backward(ndarray dout not None, ndarray x not None, Py_ssize_t N, Py_ssize_t C, Py_ssize_t L,
             Py_ssize_t width, Py_ssize_t parts, ndarray gamma not None, ndarray beta,
             ndarray stats not None, bint constant, bint streaming, ndarray dx not None,
             ndarray dgamma not None, ndarray dbeta not None, ndarray partial not None,
             int num_threads):
    """Gradients from the mean and rstd of stats. `constant`: they were given, not computed.

    With beta, dout is that of the fused relu's output; None if there was none.
    """
    cdef Cut cut = _cut(N, C, L, width, parts)
    cdef bint relu = beta is not None
    cdef ndarray any_beta = beta if relu else gamma
    if single(x):
        _backward(<float>0, dout, x, cut, gamma, any_beta, stats, relu, constant, streaming, dx,
                  dgamma, dbeta, partial, num_threads)
    else:
        _backward(<double>0, dout, x, cut, gamma, any_beta, stats, relu, constant, streaming, dx,
                  dgamma, dbeta, partial, num_threads)


def blend(ndarray running not None, double momentum, ndarray batch not None, Py_ssize_t row,
          Py_ssize_t C, ndarray out not None):
    """out = momentum * running + (1 - momentum) * batch[row]"""
    if single(running):
        _blend(<float>0, running, momentum, batch, row, C, out)
    else:
        _blend(<double>0, running, momentum, batch, row, C, out)


def given(ndarray mean not None, ndarray var not None, Py_ssize_t C, double eps,
          ndarray stats not None):
    """The mean and rstd of stats (2, C) from running statistics, all double."""
    cdef const double *mean0 = <const double *>data(mean, 8, C)
    cdef const double *var0 = <const double *>data(var, 8, C)
    cdef double *stats0 = <double *>data(stats, 8, 2 * C)
    cdef Py_ssize_t c
    for c in range(C):
        stats0[c] = mean0[c]
        stats0[C + c] = 1 / sqrt(var0[c] + eps)
