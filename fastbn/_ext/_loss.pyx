"""Losses over rows of class scores: one pass over a row while it is in the first-level cache.

Each row's loss is stored and summed by the caller in row order, so that the total does not depend
on the number of threads.
"""
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport exp, log


cdef double _softmax_row(
    const floating *x, Py_ssize_t classes, Py_ssize_t y, double per_row, floating *dx
) noexcept nogil:
    """Cross-entropy of one row, log(sum(exp(x - max))) - (x_y - max); dx = (p - [y]) / N."""
    cdef double largest = x[0], total = 0, e
    cdef Py_ssize_t j
    for j in range(1, classes):
        if x[j] > largest:
            largest = x[j]
    for j in range(classes):
        e = exp(x[j] - largest)
        total += e
        dx[j] = <floating>e
    for j in range(classes):
        dx[j] = <floating>(dx[j] * (per_row / total))
    dx[y] = <floating>((exp(x[y] - largest) / total - 1) * per_row)
    return log(total) - (x[y] - largest)


cdef double _svm_row(
    const floating *x, Py_ssize_t classes, Py_ssize_t y, double per_row, floating *dx
) noexcept nogil:
    """Sum of max(0, x_j - x_y + 1) over j != y, and its gradient / N."""
    cdef floating correct = x[y], margin
    cdef double total = 0
    cdef Py_ssize_t j, violations = 0
    for j in range(classes):
        margin = x[j] - correct + 1
        if j == y:
            margin = 0
        dx[j] = <floating>per_row if margin > 0 else 0
        violations += margin > 0
        if not margin <= 0:  # also NaN, which must reach the loss
            total += margin
    dx[y] = <floating>(-violations * per_row)
    return total


def softmax(const floating[:, ::1] x not None, const Py_ssize_t[::1] y not None,
            floating[:, ::1] dx not None, double[::1] losses not None, int num_threads):
    """Softmax cross-entropy of every row, and the gradient of the rows' mean."""
    cdef Py_ssize_t n, N = x.shape[0], C = x.shape[1]
    cdef double per_row = 1.0 / N
    for n in prange(N, nogil=True, schedule="static", num_threads=num_threads):
        losses[n] = _softmax_row(&x[n, 0], C, y[n], per_row, &dx[n, 0])


def svm(const floating[:, ::1] x not None, const Py_ssize_t[::1] y not None,
        floating[:, ::1] dx not None, double[::1] losses not None, int num_threads):
    """Multi-class hinge loss of every row with margin 1, and the gradient of the rows' mean."""
    cdef Py_ssize_t n, N = x.shape[0], C = x.shape[1]
    cdef double per_row = 1.0 / N
    for n in prange(N, nogil=True, schedule="static", num_threads=num_threads):
        losses[n] = _svm_row(&x[n, 0], C, y[n], per_row, &dx[n, 0])
