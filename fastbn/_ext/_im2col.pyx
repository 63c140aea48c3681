"""Patches of images as columns of a matrix, in the course's two orders, and their adjoints.

Rows are (c, i, j), the channel and the place in the filter. Columns are
  (oy, ox, n), the image fastest:  im2col, col2im (the course's im2col_cython, col2im_cython)
  (n, oy, ox), the image slowest:  im2col_6d, col2im_6d
Every output number is written by one task, so there are no races. Traffic: im2col writes
kh * kw / stride^2 times what it reads, col2im the reverse.
"""
from cython cimport floating
from cython.parallel cimport prange

cdef enum:
    IMAGES = 16   # images a task: a cache line of float32 columns


cdef inline Py_ssize_t _first(Py_ssize_t offset, Py_ssize_t stride) noexcept nogil:
    """The first o >= 0 with o * stride + offset >= 0."""
    return 0 if offset >= 0 else (stride - 1 - offset) // stride


cdef inline Py_ssize_t _stop(
    Py_ssize_t offset, Py_ssize_t stride, Py_ssize_t size, Py_ssize_t outputs
) noexcept nogil:
    """One past the last o < outputs with o * stride + offset < size."""
    if offset >= size:
        return 0
    return min(outputs, (size - 1 - offset) // stride + 1)


cdef void _im2col_row(
    const floating *x, Py_ssize_t N, Py_ssize_t image, Py_ssize_t H, Py_ssize_t W,
    Py_ssize_t di, Py_ssize_t dj, Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW, floating *row
) noexcept nogil:
    """One row of the matrix: x points at channel c of the first image."""
    cdef Py_ssize_t left = _first(dj, stride)
    cdef Py_ssize_t right = max(left, _stop(dj, stride, W, OW))
    cdef Py_ssize_t oy, ox, n, start, stop
    cdef const floating *line
    for oy in range(OH):
        if oy * stride + di < 0 or oy * stride + di >= H:
            for n in range(OW * N):
                row[oy * OW * N + n] = 0
            continue
        line = x + (oy * stride + di) * W + dj
        for n in range(left * N):
            row[oy * OW * N + n] = 0
        for n in range(right * N, OW * N):
            row[oy * OW * N + n] = 0
        start = 0
        while start < N:
            stop = min(start + IMAGES, N)
            for ox in range(left, right):
                for n in range(start, stop):
                    row[(oy * OW + ox) * N + n] = line[n * image + ox * stride]
            start = stop


cdef void _col2im_plane(
    const floating *cols, Py_ssize_t N, Py_ssize_t image, Py_ssize_t H, Py_ssize_t W,
    Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH,
    Py_ssize_t OW, Py_ssize_t first, Py_ssize_t last, floating *x
) noexcept nogil:
    """Channel c of the images first to last; cols points at row (c, 0, 0), x at x[0, c]."""
    cdef Py_ssize_t n, i, j, oy, ox, left, right
    cdef floating *line
    cdef const floating *row
    for n in range(first, last):
        for i in range(H * W):
            x[n * image + i] = 0
    for i in range(kh):
        for j in range(kw):
            row = cols + (i * kw + j) * OH * OW * N
            left = _first(j - pad, stride)
            right = _stop(j - pad, stride, W, OW)
            for oy in range(_first(i - pad, stride), _stop(i - pad, stride, H, OH)):
                line = x + (oy * stride + i - pad) * W + j - pad
                for ox in range(left, right):
                    for n in range(first, last):
                        line[n * image + ox * stride] += row[(oy * OW + ox) * N + n]


cdef void _im2col_6d_row(
    const floating *x, Py_ssize_t H, Py_ssize_t W, Py_ssize_t di, Py_ssize_t dj,
    Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW, floating *out
) noexcept nogil:
    cdef Py_ssize_t left = _first(dj, stride)
    cdef Py_ssize_t right = max(left, _stop(dj, stride, W, OW))
    cdef Py_ssize_t oy, ox
    cdef const floating *line
    for oy in range(OH):
        if oy * stride + di < 0 or oy * stride + di >= H:
            for ox in range(OW):
                out[oy * OW + ox] = 0
            continue
        line = x + (oy * stride + di) * W + dj
        for ox in range(left):
            out[oy * OW + ox] = 0
        for ox in range(left, right):
            out[oy * OW + ox] = line[ox * stride]
        for ox in range(right, OW):
            out[oy * OW + ox] = 0


cdef void _col2im_6d_plane(
    const floating *cols, Py_ssize_t row, Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh,
    Py_ssize_t kw, Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW, floating *x
) noexcept nogil:
    """One plane of one image; `row` is the distance of two rows of the matrix."""
    cdef Py_ssize_t i, j, oy, ox, left, right
    cdef floating *line
    cdef const floating *part
    for i in range(H * W):
        x[i] = 0
    for i in range(kh):
        for j in range(kw):
            left = _first(j - pad, stride)
            right = _stop(j - pad, stride, W, OW)
            for oy in range(_first(i - pad, stride), _stop(i - pad, stride, H, OH)):
                line = x + (oy * stride + i - pad) * W + j - pad
                part = cols + (i * kw + j) * row + oy * OW
                for ox in range(left, right):
                    line[ox * stride] += part[ox]


def im2col(const floating[:, :, :, ::1] x not None, Py_ssize_t kh, Py_ssize_t kw,
           Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW,
           floating[:, ::1] cols not None, int num_threads):
    """cols (C * kh * kw, OH * OW * N)"""
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], H = x.shape[2], W = x.shape[3], r
    for r in prange(C * kh * kw, nogil=True, schedule="static", num_threads=num_threads):
        _im2col_row(&x[0, r // (kh * kw), 0, 0], N, C * H * W, H, W, (r // kw) % kh - pad,
                    r % kw - pad, stride, OH, OW, &cols[r, 0])


def col2im(const floating[:, ::1] cols not None, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t pad,
           Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW,
           floating[:, :, :, ::1] x not None, int num_threads):
    """x[n, c, h, w] = sum of the columns' entries that were taken from there"""
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], H = x.shape[2], W = x.shape[3]
    cdef Py_ssize_t groups = (N + IMAGES - 1) // IMAGES, task, c, first
    for task in prange(C * groups, nogil=True, schedule="static", num_threads=num_threads):
        c = task // groups
        first = task % groups * IMAGES
        _col2im_plane(&cols[c * kh * kw, 0], N, C * H * W, H, W, kh, kw, pad, stride, OH, OW,
                      first, min(first + IMAGES, N), &x[0, c, 0, 0])


def im2col_6d(const floating[:, :, :, ::1] x not None, Py_ssize_t kh, Py_ssize_t kw,
              Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW,
              floating[:, :, ::1] cols not None, int num_threads):
    """cols (C * kh * kw, N, OH * OW)"""
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], H = x.shape[2], W = x.shape[3], task, r
    for task in prange(C * kh * kw * N, nogil=True, schedule="static", num_threads=num_threads):
        r = task // N
        _im2col_6d_row(&x[task % N, r // (kh * kw), 0, 0], H, W, (r // kw) % kh - pad,
                       r % kw - pad, stride, OH, OW, &cols[r, task % N, 0])


def col2im_6d(const floating[:, :, ::1] cols not None, Py_ssize_t kh, Py_ssize_t kw,
              Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW,
              floating[:, :, :, ::1] x not None, int num_threads):
    """cols (C * kh * kw, N, OH * OW): each plane of x gathers from its own rows."""
    cdef Py_ssize_t N = x.shape[0], C = x.shape[1], H = x.shape[2], W = x.shape[3], task, c, n
    for task in prange(N * C, nogil=True, schedule="static", num_threads=num_threads):
        n = task // C
        c = task % C
        _col2im_6d_plane(&cols[c * kh * kw, n, 0], N * OH * OW, H, W, kh, kw, pad, stride, OH,
                         OW, &x[n, c, 0, 0])
