"""Max pooling over the planes of (P, H, W); P counts images times channels.

A row of outputs is made by one pass over its input row for every element of the window, outputs
side by side in the vector lanes. The backward pass finds the maxima again rather than storing
where they were: x is read from memory either way, and any forward pass's cache will do.

Traffic with windows of area a that tile the plane, in units of x: forward 1 + 1/a, backward
2 + 1/a. Each plane has one owner, so overlapping windows add up without a race.
"""
from cython cimport floating
from cython.parallel cimport prange, threadid


cdef inline void _take_larger(
    const floating *x, Py_ssize_t n, Py_ssize_t stride, floating k, floating *largest,
    floating *where
) noexcept nogil:
    """largest = max(largest, x[::stride]), where = k where x won; the first NaN wins for good."""
    cdef floating v, m
    cdef bint wins
    cdef Py_ssize_t i
    for i in range(n):
        v = x[i * stride]
        m = largest[i]
        wins = (v > m) | ((v != v) & (m == m))
        largest[i] = v if wins else m
        where[i] = k if wins else where[i]


cdef inline void _keep_larger(
    const floating *x, Py_ssize_t n, Py_ssize_t stride, floating *largest
) noexcept nogil:
    """_take_larger without the place."""
    cdef floating v, m
    cdef Py_ssize_t i
    for i in range(n):
        v = x[i * stride]
        m = largest[i]
        largest[i] = v if (v > m) | (v != v) else m


cdef void _max_row(
    const floating *x, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride,
    Py_ssize_t n, floating *largest, floating *where
) noexcept nogil:
    """Maxima of one row of n windows, and each one's number in its window if `where` is given.

    The strides 1 and 2 are spelled out so that the compiler knows them and can use vectors.
    """
    cdef Py_ssize_t i, j
    cdef const floating *row
    for i in range(n):
        largest[i] = x[i * stride]
        if where != NULL:
            where[i] = 0
    for i in range(kh):
        for j in range(kw):
            row = x + i * W + j
            if where == NULL:
                if stride == 1:
                    _keep_larger(row, n, 1, largest)
                elif stride == 2:
                    _keep_larger(row, n, 2, largest)
                else:
                    _keep_larger(row, n, stride, largest)
            elif stride == 1:
                _take_larger(row, n, 1, <floating>(i * kw + j), largest, where)
            elif stride == 2:
                _take_larger(row, n, 2, <floating>(i * kw + j), largest, where)
            else:
                _take_larger(row, n, stride, <floating>(i * kw + j), largest, where)


cdef void _forward_plane(
    const floating *x, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride,
    Py_ssize_t OH, Py_ssize_t OW, floating *out
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(OH):
        _max_row(x + i * stride * W, W, kh, kw, stride, OW, out + i * OW, <floating *>NULL)


cdef void _backward_first_plane(
    const floating *dout, const floating *x, Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh,
    Py_ssize_t kw, Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW, floating *dx,
    floating *scratch
) noexcept nogil:
    """The first maximum of a window in row-major order gets its whole gradient."""
    cdef floating *largest = scratch
    cdef floating *where = scratch + OW
    cdef Py_ssize_t i, j, k
    for i in range(H * W):
        dx[i] = 0
    for i in range(OH):
        _max_row(x + i * stride * W, W, kh, kw, stride, OW, largest, where)
        for j in range(OW):
            k = <Py_ssize_t>where[j]
            dx[(i * stride + k // kw) * W + j * stride + k % kw] += dout[i * OW + j]


cdef inline void _share_row(
    const floating *x, Py_ssize_t n, Py_ssize_t stride, const floating *largest,
    const floating *share, floating *dx
) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        dx[j * stride] = share[j] * (1 if x[j * stride] == largest[j] else 0)


cdef void _backward_shared_plane(
    const floating *dout, const floating *x, Py_ssize_t W, Py_ssize_t k, Py_ssize_t OH,
    Py_ssize_t OW, floating *dx, floating *scratch
) noexcept nogil:
    """Windows k x k that tile the plane; equal maxima share the gradient equally.

    A window with a NaN has no maximum: its gradient is NaN, as 0 / 0 is.
    """
    cdef floating *largest = scratch
    cdef floating *share = scratch + OW
    cdef const floating *row
    cdef Py_ssize_t i, j, di, dj
    for i in range(OH):
        _max_row(x + i * k * W, W, k, k, k, OW, largest, <floating *>NULL)
        for j in range(OW):
            share[j] = 0
        for di in range(k):
            for dj in range(k):
                row = x + (i * k + di) * W + dj
                for j in range(OW):
                    share[j] += 1 if row[j * k] == largest[j] else 0
        for j in range(OW):
            share[j] = dout[i * OW + j] / share[j]
        for di in range(k):
            for dj in range(k):
                if k == 2:
                    _share_row(x + (i * k + di) * W + dj, OW, 2, largest, share,
                               dx + (i * k + di) * W + dj)
                else:
                    _share_row(x + (i * k + di) * W + dj, OW, k, largest, share,
                               dx + (i * k + di) * W + dj)


def forward(const floating[:, :, ::1] x not None, Py_ssize_t kh, Py_ssize_t kw,
            Py_ssize_t stride, floating[:, :, ::1] out not None, int num_threads):
    """out[p, i, j] = max of the kh x kw window of x[p] at (i * stride, j * stride)"""
    cdef Py_ssize_t W = x.shape[2], OH = out.shape[1], OW = out.shape[2], p
    for p in prange(x.shape[0], nogil=True, schedule="static", num_threads=num_threads):
        _forward_plane(&x[p, 0, 0], W, kh, kw, stride, OH, OW, &out[p, 0, 0])


def backward(const floating[:, :, ::1] dout not None, const floating[:, :, ::1] x not None,
             Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride, bint shared,
             floating[:, :, ::1] dx not None, floating[:, ::1] scratch not None,
             int num_threads):
    """`shared` (only where kh == kw == stride tile the plane): equal maxima share the gradient.

    Otherwise the first gets all. scratch: 2 * OW numbers for every thread.
    """
    cdef Py_ssize_t H = x.shape[1], W = x.shape[2], OH = dout.shape[1], OW = dout.shape[2], p
    for p in prange(x.shape[0], nogil=True, schedule="static", num_threads=num_threads):
        if shared:
            _backward_shared_plane(&dout[p, 0, 0], &x[p, 0, 0], W, kh, OH, OW, &dx[p, 0, 0],
                                   &scratch[threadid(), 0])
        else:
            _backward_first_plane(&dout[p, 0, 0], &x[p, 0, 0], H, W, kh, kw, stride, OH, OW,
                                  &dx[p, 0, 0], &scratch[threadid(), 0])
