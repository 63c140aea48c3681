"""What batch, layer and group normalization do to one contiguous run of numbers.

A mean is kept in double and used in two parts, `high` in the array's dtype and the rest, which
goes into what is added last: x - high is nearly exact where x is close to a large mean, so float32
data with mean 1e6 and deviation 1 keeps its digits. A mean small against the deviation is all rest:
then x - 0 is exact, and little is lost by adding last.

A fused relu acts on what would have been the output, and lets NaN through; its gradient is found
from the same output computed again.
"""
from cython cimport floating

from ._interrupt cimport Watch, pause
from ._reduce cimport finite
from ._stream cimport Chunk, chunk_done, chunk_size, chunk_start


cdef inline floating large_part(double mean, double rstd, floating _) noexcept nogil:
    """`high`: the mean, or 0 for one small against the deviation (float64 has no need of that)."""
    if floating is float:
        if -0.25 < mean * rstd < 0.25:
            return 0
    return <floating>mean


cdef inline double rest(double mean, floating high) noexcept nogil:
    """high - mean; nothing where the mean is infinite."""
    return <double>high - mean if finite(mean) else 0


cdef inline void relu_gate(
    const floating *dout, const floating *x, Py_ssize_t n, floating high, floating scale,
    floating shift, floating *gated
) noexcept nogil:
    """The fused relu's gradient: dout where the output, (x - high) * scale + shift, is above 0."""
    cdef Py_ssize_t i
    for i in range(n):
        gated[i] = dout[i] if (x[i] - high) * scale + shift > 0 else 0


cdef inline void scale_shift(
    const floating *x, Py_ssize_t n, floating high, floating scale, floating shift, bint relu,
    bint streaming, Watch *watch, floating *out
) noexcept nogil:
    """out = (x - high) * scale + shift"""
    cdef Chunk chunk
    cdef floating *to
    cdef floating y
    cdef Py_ssize_t i, size
    while n > 0:
        size = chunk_size(out, n, streaming)
        if pause(watch, n, size):
            return
        to = chunk_start(&chunk, out, streaming)
        if relu:
            for i in range(size):
                y = (x[i] - high) * scale + shift
                to[i] = y if (y > 0) | (y != y) else 0
        else:
            for i in range(size):
                to[i] = (x[i] - high) * scale + shift
        chunk_done(out, to, size, streaming)
        x += size
        out += size
        n -= size


cdef inline void scale_only(
    const floating *dout, Py_ssize_t n, floating scale, bint streaming, Watch *watch,
    floating *dx
) noexcept nogil:
    """dx = dout * scale: the backward pass where the statistics were constants."""
    cdef Chunk chunk
    cdef floating *to
    cdef Py_ssize_t i, size
    while n > 0:
        size = chunk_size(dx, n, streaming)
        if pause(watch, n, size):
            return
        to = chunk_start(&chunk, dx, streaming)
        for i in range(size):
            to[i] = dout[i] * scale
        chunk_done(dx, to, size, streaming)
        dout += size
        dx += size
        n -= size


cdef inline void project(
    const floating *dout, const floating *x, Py_ssize_t n, floating centre,
    floating high, floating scale, floating slope, bint streaming, Watch *watch, floating *dx
) noexcept nogil:
    """dx = (dout - centre + (x - high) * slope) * scale

    The scale comes last: slope * scale is of the order of dout / variance, which float32 cannot
    hold where it can hold dout / deviation. `centre`, the mean of dout and what `high` leaves of
    that of x, is taken off first: added later it would cancel only after rounding.
    """
    cdef Chunk chunk
    cdef floating *to
    cdef Py_ssize_t i, size
    while n > 0:
        size = chunk_size(dx, n, streaming)
        if pause(watch, n, size):
            return
        to = chunk_start(&chunk, dx, streaming)
        for i in range(size):
            to[i] = (dout[i] - centre + (x[i] - high) * slope) * scale
        chunk_done(dx, to, size, streaming)
        dout += size
        x += size
        dx += size
        n -= size
