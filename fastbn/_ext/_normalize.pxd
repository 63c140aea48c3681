"""What batch, layer and group normalization do to one contiguous run of numbers.

A mean is kept in double and used in two parts, `high` (rounded to the array's dtype) and `low`
(the rest): x - high is nearly exact where x is close to a large mean, so float32 data with mean
1e6 and deviation 1 keeps its digits. For float64 data `low` is zero.
"""
from cython cimport floating

from ._reduce cimport BLOCK, LANES, finite, fold


cdef inline double rounding(double mean, floating high) noexcept nogil:
    """high - mean; nothing where the mean is infinite."""
    return <double>high - mean if finite(mean) else 0


cdef inline void dot_centred(
    const floating *dout, const floating *x, Py_ssize_t n, floating high, floating low,
    double *total, double *dot
) noexcept nogil:
    """Add sum(dout) to *total and sum(dout * (x - mean)) to *dot."""
    cdef floating sums[LANES]
    cdef floating dots[LANES]
    cdef Py_ssize_t size, _group, lane
    while n > 0:
        size = min(<Py_ssize_t>BLOCK, n)
        for lane in range(LANES):
            sums[lane] = 0
            dots[lane] = 0
        for _group in range(size // LANES):
            for lane in range(LANES):
                sums[lane] += dout[lane]
                dots[lane] += dout[lane] * ((x[lane] - high) - low)
            dout += LANES
            x += LANES
        for lane in range(size % LANES):
            sums[lane] += dout[lane]
            dots[lane] += dout[lane] * ((x[lane] - high) - low)
        dout += size % LANES
        x += size % LANES
        n -= size
        total[0] += fold(sums)
        dot[0] += fold(dots)


cdef inline void scale_shift(
    const floating *x, Py_ssize_t n, floating high, floating scale, floating shift, floating *out
) noexcept nogil:
    """out = (x - high) * scale + shift"""
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = (x[i] - high) * scale + shift


cdef inline void scale_only(
    const floating *dout, Py_ssize_t n, floating scale, floating *dx
) noexcept nogil:
    """dx = dout * scale: the backward pass where the statistics were constants."""
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = dout[i] * scale


cdef inline void project(
    const floating *dout, const floating *x, Py_ssize_t n, floating centre,
    floating high, floating scale, floating slope, floating shift, floating *dx
) noexcept nogil:
    """dx = (dout - centre) * scale + (x - high) * slope + shift

    The mean of dout is taken off first: folded into `shift` it would cancel only after rounding.
    """
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = (dout[i] - centre) * scale + ((x[i] - high) * slope + shift)
