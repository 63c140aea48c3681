"""What both orders of columns (_im2col.pyx) share: places of windows on an axis, and runs."""
from cython cimport floating
from libc.string cimport memcpy

from ._interrupt cimport Watch
from ._stream cimport fastbn_stream, prefetch

cdef enum:
    BLOCK = 16       # numbers of a side of what is transposed at once: a cache line of float32
    AHEAD = 4096     # bytes of a run that are asked for while another is read
    FEW = 512        # bytes: shorter runs are not streamed, their ends would be most of them


cdef struct Field:
    Py_ssize_t N, C, H, W, kh, kw, pad, stride, OH, OW
    Watch *watch


cdef inline Py_ssize_t padded(Py_ssize_t n) noexcept nogil:
    return (n + BLOCK - 1) // BLOCK * BLOCK


cdef inline Py_ssize_t parts_of(Py_ssize_t n, Py_ssize_t most) noexcept nogil:
    """Parts of at most `most` that n is cut into; one if there is nothing."""
    return max(<Py_ssize_t>1, (n + most - 1) // most)


cdef inline Py_ssize_t first_window(Py_ssize_t offset, Py_ssize_t stride) noexcept nogil:
    """The first o >= 0 with o * stride + offset >= 0."""
    return 0 if offset >= 0 else (stride - 1 - offset) // stride


cdef inline Py_ssize_t stop_window(
    Py_ssize_t offset, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t outputs
) noexcept nogil:
    """One past the last o < outputs with o * stride + offset < size."""
    if offset >= size:
        return 0
    return min(outputs, (size - 1 - offset) // stride + 1)


cdef inline Py_ssize_t places_beyond(Py_ssize_t k, Py_ssize_t stride) noexcept nogil:
    """Places of a phase that windows of k lie on, beyond one for each window."""
    return (k - 1) // stride


cdef inline void put(
    const floating *x, Py_ssize_t n, bint streaming, floating *out
) noexcept nogil:
    if streaming and n * <Py_ssize_t>sizeof(floating) >= FEW:
        fastbn_stream(out, x, n * sizeof(floating))
    else:
        memcpy(out, x, n * sizeof(floating))


cdef inline void add_run(const floating *x, Py_ssize_t n, floating *out) noexcept nogil:
    cdef Py_ssize_t t
    for t in range(n):
        out[t] += x[t]


cdef inline void fetch(const floating *x, Py_ssize_t n) noexcept nogil:
    """Ask for the beginning of a run of n numbers that is wanted next: the processor guesses on."""
    cdef Py_ssize_t t, line = 64 // <Py_ssize_t>sizeof(floating)
    n = min(n, AHEAD // <Py_ssize_t>sizeof(floating))
    for t in range(n // line):
        prefetch(x + t * line)
