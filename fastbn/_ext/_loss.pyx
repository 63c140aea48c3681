"""Losses over rows of class scores: one pass over a row while it is in the first-level cache.

Each row's loss is stored, and they are summed in row order, so that the total does not depend on
the number of threads.
"""
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport log
cimport numpy as cnp
from numpy cimport ndarray

from ._arrays cimport data, numbers, single
from ._interrupt cimport Watch, begin, finish, pause, stopped_at
from ._reduce cimport BLOCK, LANES

cdef extern from "_exp.h":
    double exp "fastbn_exp"(double x) noexcept nogil

cdef enum:
    PIECE = 256   # numbers whose exponentials are kept in double


cdef floating _largest(const floating *x, Py_ssize_t n) noexcept nogil:
    """The largest of n >= 1 numbers; NaN are passed over, unless x[0] is one."""
    cdef floating lanes[LANES]
    cdef floating largest = x[0]
    cdef Py_ssize_t i = 0, lane
    if n >= LANES:
        for lane in range(LANES):
            lanes[lane] = largest
        while i + LANES <= n:
            for lane in range(LANES):
                lanes[lane] = x[i + lane] if x[i + lane] > lanes[lane] else lanes[lane]
            i += LANES
        for lane in range(LANES):
            largest = lanes[lane] if lanes[lane] > largest else largest
    while i < n:
        largest = x[i] if x[i] > largest else largest
        i += 1
    return largest


cdef double _softmax_row(
    const floating *x, Py_ssize_t classes, Py_ssize_t y, double per_row, Watch *watch,
    floating *dx
) noexcept nogil:
    """Cross-entropy of one row, log(sum(exp(x - max))) - (x_y - max); dx = (p - [y]) / N."""
    cdef double lanes[LANES]
    cdef double piece[PIECE]
    cdef double largest = _largest(x, classes), total = 0, scale, of_y
    cdef Py_ssize_t start = 0, size, i, lane
    for lane in range(LANES):
        lanes[lane] = 0
    while start < classes:
        size = min(<Py_ssize_t>PIECE, classes - start)
        if pause(watch, classes - start, size):
            return 0
        for i in range(size):
            piece[i] = exp(x[start + i] - largest)
        for i in range(size):
            dx[start + i] = <floating>piece[i]
        i = 0
        while i + LANES <= size:
            for lane in range(LANES):
                lanes[lane] += piece[i + lane]
            i += LANES
        for lane in range(size - i):
            lanes[lane] += piece[i + lane]
        start += size
    for lane in range(LANES):
        total += lanes[lane]
    scale = per_row / total
    for i in range(classes):
        dx[i] = <floating>(dx[i] * scale)
    of_y = exp(x[y] - largest)
    dx[y] = <floating>(-(total - of_y) / total * per_row)
    return log(total) - (x[y] - largest)


cdef void _hinge(
    const floating *x, Py_ssize_t n, floating correct, floating step, Watch *watch,
    floating *dx, double *total, Py_ssize_t *violations
) noexcept nogil:
    """Add sum(max(0, x - correct + 1)) to *total and how many are above 0; those get `step`."""
    cdef double lanes[LANES]
    cdef floating counts[LANES]
    cdef floating margin
    cdef Py_ssize_t size, lane
    while n > 0:
        for lane in range(LANES):
            lanes[lane] = 0
            counts[lane] = 0
        size = min(<Py_ssize_t>BLOCK, n)
        if pause(watch, n, size):
            return
        n -= size
        while size > 0:
            for lane in range(min(<Py_ssize_t>LANES, size)):
                margin = x[lane] - correct + 1
                dx[lane] = step if margin > 0 else 0
                counts[lane] += 1 if margin > 0 else 0
                lanes[lane] += 0 if margin <= 0 else margin  # NaN, too, must reach the loss
            x += min(<Py_ssize_t>LANES, size)
            dx += min(<Py_ssize_t>LANES, size)
            size -= LANES
        for lane in range(LANES):
            total[0] += lanes[lane]
            violations[0] += <Py_ssize_t>counts[lane]


cdef double _svm_row(
    const floating *x, Py_ssize_t classes, Py_ssize_t y, double per_row, Watch *watch,
    floating *dx
) noexcept nogil:
    """Sum of max(0, x_j - x_y + 1) over j != y, and its gradient / N."""
    cdef double total = 0
    cdef Py_ssize_t violations = 0
    _hinge(x, y, x[y], <floating>per_row, watch, dx, &total, &violations)
    _hinge(x + y + 1, classes - y - 1, x[y], <floating>per_row, watch, dx + y + 1, &total,
           &violations)
    dx[y] = <floating>(-violations * per_row)
    return total


cdef double _rows(
    floating _, ndarray x, ndarray y, Py_ssize_t N, Py_ssize_t C, bint softmax, ndarray dx,
    ndarray losses, int num_threads
) except? -1:
    """dx of every row, and the mean of the rows' losses."""
    cdef const floating *x0 = <const floating *>data(x, sizeof(floating), N * C)
    cdef const Py_ssize_t *y0 = <const Py_ssize_t *>numbers(y, cnp.NPY_INTP, N)
    cdef floating *dx0 = <floating *>data(dx, sizeof(floating), N * C)
    cdef double *losses0 = <double *>data(losses, 8, N)
    cdef double per_row = 1.0 / N, total = 0
    cdef Py_ssize_t n
    cdef Watch watch
    begin(&watch, num_threads)
    with nogil:
        for n in prange(N, schedule="static", num_threads=num_threads):
            if stopped_at(&watch, n):
                continue
            if softmax:
                losses0[n] = _softmax_row(x0 + n * C, C, y0[n], per_row, &watch, dx0 + n * C)
            else:
                losses0[n] = _svm_row(x0 + n * C, C, y0[n], per_row, &watch, dx0 + n * C)
        for n in range(N):
            total += losses0[n]
    finish(&watch)
    return total / N


cdef double _either(
    ndarray x, ndarray y, Py_ssize_t N, Py_ssize_t C, bint softmax, ndarray dx, ndarray losses,
    int num_threads
) except? -1:
    if single(x):
        return _rows(<float>0, x, y, N, C, softmax, dx, losses, num_threads)
    return _rows(<double>0, x, y, N, C, softmax, dx, losses, num_threads)


def softmax(ndarray x not None, ndarray y not None, Py_ssize_t N, Py_ssize_t C,
            ndarray dx not None, ndarray losses not None, int num_threads):
    """Softmax cross-entropy, the mean over N >= 1 rows, and its gradient."""
    return _either(x, y, N, C, True, dx, losses, num_threads)


def svm(ndarray x not None, ndarray y not None, Py_ssize_t N, Py_ssize_t C,
        ndarray dx not None, ndarray losses not None, int num_threads):
    """Multi-class hinge loss with margin 1, the mean over N >= 1 rows, and its gradient."""
    return _either(x, y, N, C, False, dx, losses, num_threads)


def wrong_label(ndarray y not None, Py_ssize_t N, Py_ssize_t C):
    """Where in y the first number stands that is not from 0 to C - 1; -1 if nowhere."""
    cdef const Py_ssize_t *y0 = <const Py_ssize_t *>numbers(y, cnp.NPY_INTP, N)
    cdef Py_ssize_t n
    for n in range(N):
        if not 0 <= y0[n] < C:
            return n
    return -1
