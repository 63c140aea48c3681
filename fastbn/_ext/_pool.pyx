"""Max pooling over the planes of (P, H, W); P counts images times channels.

A row of outputs is made by passes over whole rows of the input, outputs side by side in the vector
lanes. The backward pass finds the maxima again rather than storing where they were: x is read from
memory either way, and any forward pass's cache will do.

Traffic with windows of area a that tile the plane, in units of x: forward 1 + 1/a, backward
2 + 1/a. Each plane has one owner, so overlapping windows add up without a race.
"""
from cython cimport floating
from cython.parallel cimport prange, threadid


cdef inline void _keep_larger(
    const floating *x, Py_ssize_t n, Py_ssize_t stride, floating *largest
) noexcept nogil:
    """largest = max(largest, x[::stride]); NaN wins."""
    cdef floating v, m
    cdef Py_ssize_t i
    for i in range(n):
        v = x[i * stride]
        m = largest[i]
        largest[i] = v if (v > m) | (v != v) else m


cdef inline void _take_larger(
    const floating *x, Py_ssize_t n, Py_ssize_t stride, floating place, floating *largest,
    floating *where
) noexcept nogil:
    """_keep_larger, and where = place where x won; the first NaN wins for good."""
    cdef floating v, m
    cdef bint wins
    cdef Py_ssize_t i
    for i in range(n):
        v = x[i * stride]
        m = largest[i]
        wins = (v > m) | ((v != v) & (m == m))
        largest[i] = v if wins else m
        where[i] = place if wins else where[i]


cdef void _max_row(
    const floating *x, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride,
    Py_ssize_t n, floating *column, floating *largest
) noexcept nogil:
    """Maxima of one row of n windows: down the columns first, then across.

    column: W numbers of scratch. The strides 1 and 2 are spelled out so that the compiler knows
    them and can use vectors.
    """
    cdef Py_ssize_t i, j
    for i in range(W):
        column[i] = x[i]
    for i in range(1, kh):
        _keep_larger(x + i * W, W, 1, column)
    for i in range(n):
        largest[i] = column[i * stride]
    for j in range(1, kw):
        if stride == 1:
            _keep_larger(<const floating *>column + j, n, 1, largest)
        elif stride == 2:
            _keep_larger(<const floating *>column + j, n, 2, largest)
        else:
            _keep_larger(<const floating *>column + j, n, stride, largest)


cdef void _first_max_row(
    const floating *x, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride,
    Py_ssize_t n, floating *largest, floating *where
) noexcept nogil:
    """Maxima of one row of n windows, in row-major order, and how far into x each lies."""
    cdef Py_ssize_t i, j
    for i in range(n):
        largest[i] = x[i * stride]
        where[i] = 0
    for i in range(kh):
        for j in range(kw):
            if stride == 1:
                _take_larger(x + i * W + j, n, 1, <floating>(i * W + j), largest, where)
            elif stride == 2:
                _take_larger(x + i * W + j, n, 2, <floating>(i * W + j), largest, where)
            else:
                _take_larger(x + i * W + j, n, stride, <floating>(i * W + j), largest, where)


cdef void _max_pairs(
    const floating *upper, const floating *lower, Py_ssize_t n, floating *largest
) noexcept nogil:
    """_max_row for windows 2 x 2, two apart, in one pass."""
    cdef floating v, m
    cdef Py_ssize_t j
    for j in range(n):
        m = upper[2 * j]
        v = upper[2 * j + 1]
        m = v if (v > m) | (v != v) else m
        v = lower[2 * j]
        m = v if (v > m) | (v != v) else m
        v = lower[2 * j + 1]
        largest[j] = v if (v > m) | (v != v) else m


cdef void _forward_plane(
    const floating *x, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride,
    Py_ssize_t OH, Py_ssize_t OW, floating *out, floating *scratch
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(OH):
        if kh == 2 and kw == 2 and stride == 2:
            _max_pairs(x + 2 * i * W, x + 2 * i * W + W, OW, out + i * OW)
        else:
            _max_row(x + i * stride * W, W, kh, kw, stride, OW, scratch, out + i * OW)


cdef void _backward_first_plane(
    const floating *dout, const floating *x, Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh,
    Py_ssize_t kw, Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW, floating *dx,
    floating *scratch
) noexcept nogil:
    """The first maximum of a window in row-major order gets its whole gradient."""
    cdef floating *largest = scratch
    cdef floating *where = scratch + OW
    cdef floating *window
    cdef Py_ssize_t i, j
    for i in range(H * W):
        dx[i] = 0
    for i in range(OH):
        _first_max_row(x + i * stride * W, W, kh, kw, stride, OW, largest, where)
        for j in range(OW):
            window = dx + i * stride * W + j * stride
            window[<Py_ssize_t>where[j]] += dout[i * OW + j]


cdef void _share_pairs(
    const floating *upper, const floating *lower, const floating *dout, Py_ssize_t n,
    floating *dx_upper, floating *dx_lower
) noexcept nogil:
    """One row of n windows 2 x 2 that tile the plane: _backward_shared_plane in one pass."""
    cdef floating a, b, c, d, m, count, share, rest
    cdef Py_ssize_t j
    for j in range(n):
        a = upper[2 * j]
        b = upper[2 * j + 1]
        c = lower[2 * j]
        d = lower[2 * j + 1]
        m = a if a > b else b
        m = m if m > c else c
        m = m if m > d else d
        m = m if (a == a) & (b == b) & (c == c) & (d == d) else a + b + c + d
        count = ((<floating>1 if a == m else 0) + (<floating>1 if b == m else 0)
                 + (<floating>1 if c == m else 0) + (<floating>1 if d == m else 0))
        share = dout[j] / count
        rest = 0 if count > 0 else share * 0
        dx_upper[2 * j] = share if a == m else rest
        dx_upper[2 * j + 1] = share if b == m else rest
        dx_lower[2 * j] = share if c == m else rest
        dx_lower[2 * j + 1] = share if d == m else rest


cdef inline void _spread(
    const floating *x, Py_ssize_t n, Py_ssize_t k, floating *out
) noexcept nogil:
    """Every number k times over."""
    cdef Py_ssize_t i, j
    for i in range(n):
        for j in range(k):
            out[i * k + j] = x[i]


cdef void _backward_shared_plane(
    const floating *dout, const floating *x, Py_ssize_t W, Py_ssize_t k, Py_ssize_t OH,
    Py_ssize_t OW, floating *dx, floating *scratch
) noexcept nogil:
    """Windows k x k that tile the plane; equal maxima share the gradient equally.

    A window with a NaN has no maximum: its gradient is NaN, as 0 / 0 is. The maxima and shares of
    a row of windows are spread to the width of x, so that the passes over x need no strides.
    """
    cdef floating *largest = scratch
    cdef floating *share = scratch + OW
    cdef floating *wide_largest = scratch + 2 * OW
    cdef floating *wide_share = scratch + 2 * OW + W
    cdef const floating *rows
    cdef floating *out
    cdef floating m
    cdef Py_ssize_t i, j, d
    for i in range(OH):
        rows = x + i * k * W
        if k == 2:
            _share_pairs(rows, rows + W, dout + i * OW, OW, dx + 2 * i * W, dx + 2 * i * W + W)
            continue
        _max_row(rows, W, k, k, k, OW, wide_share, largest)
        _spread(<const floating *>largest, OW, k, wide_largest)
        for j in range(W):
            wide_share[j] = 0
        for d in range(k):
            for j in range(W):
                wide_share[j] += 1 if rows[d * W + j] == wide_largest[j] else 0
        for j in range(OW):
            share[j] = wide_share[j * k]
        for d in range(1, k):
            for j in range(OW):
                share[j] += wide_share[j * k + d]
        for j in range(OW):
            share[j] = dout[i * OW + j] / share[j] if share[j] > 0 else largest[j]
        _spread(<const floating *>share, OW, k, wide_share)
        for d in range(k):
            out = dx + (i * k + d) * W
            for j in range(W):
                m = wide_largest[j]
                out[j] = wide_share[j] if (rows[d * W + j] == m) | (m != m) else 0


def scratch_size(Py_ssize_t W):
    """Numbers of scratch that forward and backward want for every thread."""
    return 4 * W


def forward(const floating[:, :, ::1] x not None, Py_ssize_t kh, Py_ssize_t kw,
            Py_ssize_t stride, floating[:, :, ::1] out not None,
            floating[:, ::1] scratch not None, int num_threads):
    """out[p, i, j] = max of the kh x kw window of x[p] at (i * stride, j * stride)"""
    cdef Py_ssize_t W = x.shape[2], OH = out.shape[1], OW = out.shape[2], p
    for p in prange(x.shape[0], nogil=True, schedule="static", num_threads=num_threads):
        _forward_plane(&x[p, 0, 0], W, kh, kw, stride, OH, OW, &out[p, 0, 0],
                       &scratch[threadid(), 0])


def backward(const floating[:, :, ::1] dout not None, const floating[:, :, ::1] x not None,
             Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride, bint shared,
             floating[:, :, ::1] dx not None, floating[:, ::1] scratch not None,
             int num_threads):
    """`shared` (only where kh == kw == stride tile the plane): equal maxima share the gradient.

    Otherwise the first gets all; H * W must then be a whole number in the array's dtype.
    """
    cdef Py_ssize_t H = x.shape[1], W = x.shape[2], OH = dout.shape[1], OW = dout.shape[2], p
    for p in prange(x.shape[0], nogil=True, schedule="static", num_threads=num_threads):
        if shared:
            _backward_shared_plane(&dout[p, 0, 0], &x[p, 0, 0], W, kh, OH, OW, &dx[p, 0, 0],
                                   &scratch[threadid(), 0])
        else:
            _backward_first_plane(&dout[p, 0, 0], &x[p, 0, 0], H, W, kh, kw, stride, OH, OW,
                                  &dx[p, 0, 0], &scratch[threadid(), 0])
