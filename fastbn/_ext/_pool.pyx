"""Max pooling over the planes of (P, H, W); P counts images times channels.

Outputs lie side by side in the vector lanes. For a stride of s, the input is first dealt out to
s * s phases: phase (a, b) holds rows a, a + s, ... and of those the columns b, b + s, .... Then
what the windows have at (i, j) is, for all windows, a run of phase (i % s, j % s), i // s rows and
j // s columns on. A band of some rows of windows is worked on at once. Its runs are long; the rows
of an image are short, and for one of them a loop takes longer to start than to run. Also, reading
at once, a place further on, what was just written makes a processor wait for the store.

The maxima of windows are taken down the columns first, then across: in which row a column has its
first maximum is the same for all windows that have the column. The backward pass needs one byte a
window, the place of its first maximum (row-major, i * kw + j); one plane after another is zeroed
and added to, so that overlapping windows have one owner, and the plane is in the cache meanwhile.

Windows 2 x 2 that tile the plane have loops of their own; strides above FAR, windows of more than
256, and larger tiles whose maxima share the gradient, are worked on a window at a time.

Traffic with windows of area a that tile the plane, in units of x: forward 1 + 1/a, backward
1 + 1/a, or 2 + 1/a where the maxima are found again.
"""
from cython cimport floating
from cython.parallel cimport prange
from libc.math cimport INFINITY, NAN
from libc.string cimport memcpy, memset
cimport numpy as cnp
from numpy cimport ndarray

from ._arrays cimport data, numbers, scratch, single
from ._interrupt cimport Watch, begin, finish, first_of, pause
from ._stream cimport fastbn_stream, stream_end

cdef enum:
    GROUP = 16     # numbers that rows are padded to: one zmm of float32
    PLANE = 1 << 14   # numbers of a plane that is completed in scratch and then streamed
    BAND = 32      # rows of windows at most
    FAR = 8
    MOST = 256     # places in a window that a byte can tell apart


cdef struct Shape:
    Py_ssize_t P, H, W, kh, kw, stride, OH, OW
    Watch *watch


cdef struct Layout:
    # Of a thread's scratch, in numbers; whole groups.
    Py_ssize_t width      # a row of a phase, or of windows: windows may reach beyond the columns
    Py_ssize_t band       # rows of windows
    Py_ssize_t stack      # small planes of which a band has all rows
    Py_ssize_t apart      # rows from one of them to the next
    Py_ssize_t run        # a band of them
    Py_ssize_t phase      # a phase: the rows that the windows of a band lie on
    Py_ssize_t total


cdef inline Py_ssize_t _padded(Py_ssize_t n) noexcept nogil:
    return (n + GROUP - 1) // GROUP * GROUP


cdef inline Layout _layout(Shape s) noexcept nogil:
    cdef Layout lay
    cdef Py_ssize_t phases = s.stride * s.stride
    lay.width = _padded(max(s.OW + (s.kw - 1) // s.stride, (s.W + s.stride - 1) // s.stride))
    lay.band = max(<Py_ssize_t>1, min(<Py_ssize_t>BAND, 4096 // (phases * lay.width)))
    lay.apart = s.OH + (max(s.kh, s.stride) - 1) // s.stride
    lay.stack = max(<Py_ssize_t>1, lay.band // lay.apart)
    lay.run = lay.band * lay.width
    lay.phase = lay.run + (max(s.kh, s.stride) - 1) // s.stride * lay.width
    lay.total = phases * lay.phase + 2 * s.stride * lay.run + 3 * lay.run + _padded(s.W)
    if s.stride > FAR:
        lay.total = 0
    # Backward: a plane, and two rows of one.
    lay.total = max(lay.total, _padded(min(s.H * s.W, <Py_ssize_t>PLANE)) + 4 * _padded(s.W))
    return lay


cdef inline void _keep_larger(
    const floating *x, Py_ssize_t n, floating *largest
) noexcept nogil:
    """largest = max(largest, x); NaN wins."""
    cdef floating v, m
    cdef Py_ssize_t i
    for i in range(n):
        v = x[i]
        m = largest[i]
        m = v if v > m else m
        largest[i] = v if v != v else m


cdef inline void _deal(
    const floating *x, Py_ssize_t W, Py_ssize_t stride, Py_ssize_t phase, floating *dealt
) noexcept nogil:
    """A row of the input to its phases. The strides 1 and 2 are spelled out for the vectors."""
    cdef Py_ssize_t i, p
    if stride == 1:
        memcpy(dealt, x, W * sizeof(floating))
    elif stride == 2:
        for i in range(W // 2):
            dealt[i] = x[2 * i]
            dealt[phase + i] = x[2 * i + 1]
        if W % 2:
            dealt[W // 2] = x[W - 1]
    else:
        for p in range(min(stride, W)):
            for i in range((W - p + stride - 1) // stride):
                dealt[p * phase + i] = x[i * stride + p]


cdef inline void _max_pairs(
    const floating *upper, const floating *lower, Py_ssize_t n, floating *largest
) noexcept nogil:
    """Windows 2 x 2, two apart, in one pass."""
    cdef floating a, b, c, d
    cdef Py_ssize_t j
    for j in range(n):
        a = upper[2 * j]
        b = upper[2 * j + 1]
        c = lower[2 * j]
        d = lower[2 * j + 1]
        b = a if a != a else (b if (b != b) | (b > a) else a)
        d = c if c != c else (d if (d != d) | (d > c) else c)
        largest[j] = b if b != b else (d if (d != d) | (d > b) else b)


cdef void _max_tiles(const floating *x, Shape s, floating *out) noexcept nogil:
    """Windows 2 x 2 that lie two apart: all of a plane.

    Rows are padded where the plane goes on below: what is too much is written over by the next.
    """
    cdef Py_ssize_t i, padded = _padded(s.OW)
    for i in range(s.OH):
        if pause(s.watch, 2 * (i + 1) * s.W, 2 * s.W):
            return
        if (2 * i + 1) * s.W + 2 * padded <= s.H * s.W and i * s.OW + padded <= s.OH * s.OW:
            _max_pairs(x + 2 * i * s.W, x + 2 * i * s.W + s.W, padded, out + i * s.OW)
        else:
            _max_pairs(x + 2 * i * s.W, x + 2 * i * s.W + s.W, s.OW, out + i * s.OW)


cdef void _far_plane(
    const floating *x, Shape s, floating *out, floating *column
) noexcept nogil:
    """Windows far apart, one at a time."""
    cdef floating v, m
    cdef Py_ssize_t i, o, j, k
    for i in range(s.OH):
        memcpy(column, x + i * s.stride * s.W, s.W * sizeof(floating))
        for k in range(1, s.kh):
            if pause(s.watch, (i * s.stride + k + 1) * s.W, s.W):
                return
            _keep_larger(x + (i * s.stride + k) * s.W, s.W, column)
        for o in range(s.OW):
            m = column[o * s.stride]
            for j in range(o * s.stride + 1, o * s.stride + s.kw):
                v = column[j]
                m = v if (v > m) | (v != v) else m
            out[i * s.OW + o] = m


# Places are small whole numbers, exact in floating, and are moved to by a step of 0 or 1 times the
# distance: out of two stores on one condition GCC makes a branch.

cdef inline void _take_larger(
    const floating *x, Py_ssize_t n, floating place, floating *largest, floating *where
) noexcept nogil:
    """_keep_larger, and where = place where x won; the first NaN wins for good."""
    cdef floating v, m, w, t
    cdef Py_ssize_t i
    for i in range(n):
        v = x[i]
        m = largest[i]
        w = where[i]
        t = 1 if (v > m) | ((v != v) & (m == m)) else 0
        m = v if v > m else m
        largest[i] = v if v != v else m
        where[i] = w + t * (place - w)


cdef inline void _raise_nan(
    Py_ssize_t n, floating rows, floating *largest, floating *where
) noexcept nogil:
    """NaN become infinities that stand higher up than any other: comparisons do the rest."""
    cdef floating m, w, up
    cdef Py_ssize_t i
    for i in range(n):
        m = largest[i]
        w = where[i]
        up = 0 if m == m else rows
        where[i] = w - up
        largest[i] = m if m == m else <floating>INFINITY


cdef inline void _take_first(
    const floating *x, const floating *x_where, Py_ssize_t n, floating place,
    floating *largest, floating *where, floating *which
) noexcept nogil:
    """which = place where x is larger, or as large and higher up."""
    cdef floating v, m, vw, mw, p, t
    cdef Py_ssize_t i
    for i in range(n):
        v = x[i]
        m = largest[i]
        vw = x_where[i]
        mw = where[i]
        p = which[i]
        t = 1 if (v > m) | ((v == m) & (vw < mw)) else 0
        largest[i] = v if v > m else m
        where[i] = mw + t * (vw - mw)
        which[i] = p + t * (place - p)


cdef inline void _deal_rows(
    const floating *x, Shape s, Py_ssize_t top, Py_ssize_t rows, Layout lay, floating *xs
) noexcept nogil:
    """Rows [top, top + rows) of a plane to their phases."""
    cdef Py_ssize_t r, width, padded = 2 * _padded((s.W + 1) // 2)
    for r in range(rows):
        # In whole vectors, unless that would read beyond the plane.
        width = padded if s.stride == 2 and (top + r) * s.W + padded <= s.H * s.W else s.W
        _deal(x + (top + r) * s.W, width, s.stride, lay.phase,
              xs + r % s.stride * s.stride * lay.phase + r // s.stride * lay.width)


cdef void _forward_plane(
    const floating *x, Shape s, Layout lay, floating *out, floating *work
) noexcept nogil:
    """The maxima alone."""
    cdef floating *dealt = work
    cdef floating *largest = dealt + s.stride * lay.run
    cdef floating *column = largest + lay.run
    cdef Py_ssize_t first = 0, here, i, j, k
    while first < s.OH:
        here = min(lay.band, s.OH - first)
        if pause(s.watch, (s.OH - first) * lay.width, here * lay.width):
            return
        for i in range(here):
            memcpy(column, x + (first + i) * s.stride * s.W, s.W * sizeof(floating))
            for k in range(1, s.kh):
                if pause(s.watch, (i * s.kh + k + 1) * s.W, s.W):
                    return
                _keep_larger(x + ((first + i) * s.stride + k) * s.W, s.W, column)
            _deal(<const floating *>column, s.W, s.stride, lay.run, dealt + i * lay.width)
        memcpy(largest, dealt, here * lay.width * sizeof(floating))
        for j in range(1, s.kw):
            if pause(s.watch, (j + 1) * here * lay.width, here * lay.width):
                return
            _keep_larger(<const floating *>dealt + j % s.stride * lay.run + j // s.stride,
                         here * lay.width - j // s.stride, largest)
        for i in range(here):
            memcpy(out + (first + i) * s.OW, largest + i * lay.width, s.OW * sizeof(floating))
        first += here


cdef void _first_planes(
    const floating *x, Py_ssize_t planes, Shape s, Layout lay, floating *out,
    unsigned char *places, floating *work
) noexcept nogil:
    """The maxima, and the place of the first of each window in row-major order.

    Of at most `stack` planes, one below the other; the windows between two of them are idle.
    """
    cdef Py_ssize_t phases = min(s.stride, s.kw)
    cdef floating *xs = work
    cdef floating *column = xs + s.stride * s.stride * lay.phase
    cdef floating *row = column + s.stride * lay.run
    cdef floating *largest = row + s.stride * lay.run
    cdef floating *highest = largest + lay.run
    cdef floating *which = highest + lay.run
    cdef unsigned char *some_places = <unsigned char *>column
    cdef floating m, h
    cdef Py_ssize_t i, j, k, o, p, q, at, here, run, first = 0
    while first < s.OH:
        here = min(lay.band, s.OH - first)
        if pause(s.watch, (s.OH - first) * lay.width, here * lay.width):
            return
        run = ((planes - 1) * lay.apart + here) * lay.width
        for q in range(planes):
            _deal_rows(x + q * s.H * s.W, s, first * s.stride, (here - 1) * s.stride + s.kh, lay,
                       xs + q * lay.apart * lay.width)
        for p in range(phases):
            memcpy(column + p * lay.run, xs + p * lay.phase, run * sizeof(floating))
            memset(row + p * lay.run, 0, run * sizeof(floating))
            for k in range(1, s.kh):
                at = (k % s.stride * s.stride + p) * lay.phase + k // s.stride * lay.width
                _take_larger(<const floating *>xs + at, run, <floating>k, column + p * lay.run,
                             row + p * lay.run)
            _raise_nan(run, <floating>s.kh, column + p * lay.run, row + p * lay.run)
        memcpy(largest, column, run * sizeof(floating))
        memcpy(highest, row, run * sizeof(floating))
        memset(which, 0, run * sizeof(floating))
        for j in range(1, s.kw):
            at = j % s.stride * lay.run + j // s.stride
            _take_first(<const floating *>column + at, <const floating *>row + at,
                        run - j // s.stride, <floating>j, largest, highest, which)
        for o in range(run):
            m = largest[o]
            h = highest[o]
            largest[o] = m if h >= 0 else <floating>NAN
            some_places[o] = <unsigned char><int>(
                (h if h >= 0 else h + s.kh) * s.kw + which[o])
        for q in range(planes):
            for i in range(here):
                at = (q * s.OH + first + i) * s.OW
                o = (q * lay.apart + i) * lay.width
                memcpy(out + at, largest + o, s.OW * sizeof(floating))
                memcpy(places + at, some_places + o, s.OW)
        first += here


cdef void _scatter_plane(
    const floating *dout, const unsigned char *places, Shape s, const Py_ssize_t *steps,
    floating *dx
) noexcept nogil:
    """Every window's gradient to the place of its maximum; steps: how far into dx that is."""
    cdef floating *window
    cdef Py_ssize_t i, o
    memset(dx, 0, s.H * s.W * sizeof(floating))
    for i in range(s.OH):
        if pause(s.watch, (i + 1) * s.W, s.W):
            return
        window = dx + i * s.stride * s.W
        for o in range(s.OW):
            window[steps[places[i * s.OW + o]]] += dout[i * s.OW + o]
            window += s.stride


cdef void _share_pairs(
    const floating *upper, const floating *lower, const floating *dout, Py_ssize_t n,
    floating *dx_upper, floating *dx_lower
) noexcept nogil:
    """One row of n windows 2 x 2 that tile the plane: the maxima share the gradient."""
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


cdef void _share_tiles(
    const floating *dout, const floating *x, Shape s, floating *dx, floating *work
) noexcept nogil:
    """Windows 2 x 2 that tile the plane; equal maxima share the gradient. Padded as _max_tiles."""
    cdef Py_ssize_t i, at, padded = _padded(s.OW)
    for i in range(s.OH):
        if pause(s.watch, 2 * (i + 1) * s.W, 2 * s.W):
            return
        at = 2 * i * s.W
        if at + s.W + 2 * padded <= s.H * s.W and i * s.OW + padded <= s.OH * s.OW:
            _share_pairs(x + at, x + at + s.W, dout + i * s.OW, padded, work, work + 2 * padded)
            memcpy(dx + at, work, s.W * sizeof(floating))
            memcpy(dx + at + s.W, work + 2 * padded, s.W * sizeof(floating))
        else:
            _share_pairs(x + at, x + at + s.W, dout + i * s.OW, s.OW, dx + at, dx + at + s.W)


cdef void _share_windows(
    const floating *dout, const floating *x, Shape s, bint shared, floating *dx
) noexcept nogil:
    """One window at a time: the first maximum gets the gradient, or equal ones share it.

    Shared, a window with a NaN has no maximum: its gradient is NaN, as 0 / 0 is.
    """
    cdef floating v, m
    cdef Py_ssize_t i, o, r, c, at, best, count
    memset(dx, 0, s.H * s.W * sizeof(floating))
    for i in range(s.OH):
        for o in range(s.OW):
            if pause(s.watch, (i * s.OW + o + 1) * s.kh * s.kw, s.kh * s.kw):
                return
            best = i * s.stride * s.W + o * s.stride
            m = x[best]
            count = 0
            for r in range(i * s.stride, i * s.stride + s.kh):
                for at in range(r * s.W + o * s.stride, r * s.W + o * s.stride + s.kw):
                    v = x[at]
                    if (v > m) | ((v != v) & (m == m)):
                        m = v
                        best = at
                        count = 0
                    count += v == m
            if not shared:
                dx[best] += dout[i * s.OW + o]
                continue
            for r in range(i * s.stride, i * s.stride + s.kh):
                for c in range(o * s.stride, o * s.stride + s.kw):
                    if m != m:
                        dx[r * s.W + c] = m
                    elif x[r * s.W + c] == m:
                        dx[r * s.W + c] = dout[i * s.OW + o] / count


cdef void _forward_planes(
    const floating *x, Shape s, Layout lay, Py_ssize_t first, Py_ssize_t last, floating *out,
    unsigned char *places, floating *work
) noexcept nogil:
    cdef Py_ssize_t p, plane = s.H * s.W, windows = s.OH * s.OW
    # The padding of phases is read: it must hold numbers, if any.
    memset(work, 0, lay.total * sizeof(floating))
    if places != NULL:
        p = first
        while p < last:
            if pause(s.watch, (last - p) * plane, min(lay.stack, last - p) * plane):
                return
            _first_planes(x + p * plane, min(lay.stack, last - p), s, lay, out + p * windows,
                          places + p * windows, work)
            p += lay.stack
        return
    for p in range(first, last):
        if pause(s.watch, (p + 1) * plane, plane):
            return
        if s.stride > FAR:
            _far_plane(x + p * plane, s, out + p * windows, work)
        elif s.kh == 2 and s.kw == 2 and s.stride == 2:
            _max_tiles(x + p * plane, s, out + p * windows)
        else:
            _forward_plane(x + p * plane, s, lay, out + p * windows, work)


cdef void _backward_planes(
    const floating *dout, const floating *x, const unsigned char *places, Shape s,
    Py_ssize_t first, Py_ssize_t last, bint shared, bint streaming, floating *dx, floating *work,
    floating *rows
) noexcept nogil:
    cdef Py_ssize_t steps[MOST]
    cdef Py_ssize_t p, i, plane = s.H * s.W, windows = s.OH * s.OW
    cdef floating *to
    streaming &= plane <= PLANE
    for i in range(MOST):  # a place that is in no such window can do no harm
        steps[i] = i // s.kw * s.W + i % s.kw if i < s.kh * s.kw else 0
    for p in range(first, last):
        if pause(s.watch, (p + 1) * plane, plane):
            break
        to = work if streaming else dx + p * plane
        if places != NULL:
            _scatter_plane(dout + p * windows, places + p * windows, s, steps, to)
        elif shared and s.stride == 2:
            _share_tiles(dout + p * windows, x + p * plane, s, to, rows)
        else:
            _share_windows(dout + p * windows, x + p * plane, s, shared, to)
        if streaming:
            fastbn_stream(dx + p * plane, work, plane * sizeof(floating))
    if streaming:
        stream_end()


cdef int _forward(
    floating _, ndarray x, Shape s, ndarray out, ndarray places, ndarray work, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Layout lay = _layout(s)
    cdef const floating *x0 = <const floating *>data(x, itemsize, s.P * s.H * s.W)
    cdef floating *out0 = <floating *>data(out, itemsize, s.P * s.OH * s.OW)
    cdef floating *work0 = <floating *>scratch(work, itemsize, num_threads * lay.total)
    cdef unsigned char *places0 = NULL
    cdef Py_ssize_t worker
    cdef Watch watch
    s.watch = &watch
    if places is not None:
        places0 = <unsigned char *>numbers(places, cnp.NPY_UINT8, s.P * s.OH * s.OW)
    begin(&watch, num_threads)
    for worker in prange(num_threads, nogil=True, schedule="static", num_threads=num_threads):
        _forward_planes(x0, s, lay, first_of(s.P, worker, num_threads),
                        first_of(s.P, worker + 1, num_threads), out0, places0,
                        work0 + worker * lay.total)
    return finish(&watch)


cdef int _backward(
    floating _, ndarray dout, ndarray x, ndarray places, Shape s, bint shared, bint streaming,
    ndarray dx, ndarray work, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Layout lay = _layout(s)
    cdef const floating *dout0 = <const floating *>data(dout, itemsize, s.P * s.OH * s.OW)
    cdef const floating *x0 = <const floating *>data(x, itemsize, s.P * s.H * s.W)
    cdef floating *dx0 = <floating *>data(dx, itemsize, s.P * s.H * s.W)
    cdef floating *work0 = <floating *>scratch(work, itemsize, num_threads * lay.total)
    cdef const unsigned char *places0 = NULL
    cdef Py_ssize_t worker
    cdef Watch watch
    s.watch = &watch
    if places is not None:
        places0 = <const unsigned char *>numbers(places, cnp.NPY_UINT8, s.P * s.OH * s.OW)
    begin(&watch, num_threads)
    for worker in prange(num_threads, nogil=True, schedule="static", num_threads=num_threads):
        _backward_planes(dout0, x0, places0, s, first_of(s.P, worker, num_threads),
                         first_of(s.P, worker + 1, num_threads), shared, streaming, dx0,
                         work0 + worker * lay.total,
                         work0 + (worker + 1) * lay.total - 4 * _padded(s.W))
    return finish(&watch)


cdef inline Shape _shape(
    Py_ssize_t P, Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride
) noexcept:
    cdef Shape s
    stride = min(stride, max(H, W))  # with a larger one there is a single window, too
    s.P, s.H, s.W, s.kh, s.kw, s.stride = P, H, W, kh, kw, stride
    s.OH, s.OW = (H - kh) // stride + 1, (W - kw) // stride + 1
    s.watch = NULL  # each call's own: a kernel sets it
    return s


def scratch_size(Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride,
                 int num_threads):
    """Numbers of scratch that forward and backward want."""
    return num_threads * _layout(_shape(1, H, W, kh, kw, stride)).total + 16


def has_places(Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride):
    """Whether forward can say where the maxima are."""
    return stride <= FAR and kh <= MOST and kw <= MOST and kh * kw <= MOST


def forward(ndarray x not None, Py_ssize_t P, Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh,
            Py_ssize_t kw, Py_ssize_t stride, ndarray out not None, ndarray places,
            ndarray work not None, int num_threads):
    """out[p, i, j] = max of the kh x kw window of x[p] at (i * stride, j * stride)

    places, if not None, receives i * kw + j of every window's first maximum, as uint8.
    """
    cdef Shape s = _shape(P, H, W, kh, kw, stride)
    if single(x):
        _forward(<float>0, x, s, out, places, work, num_threads)
    else:
        _forward(<double>0, x, s, out, places, work, num_threads)


def backward(ndarray dout not None, ndarray x not None, ndarray places, Py_ssize_t P,
             Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride,
             bint shared, bint streaming, ndarray dx not None, ndarray work not None,
             int num_threads):
    """To the maxima at `places` all of a window's gradient. Without them, x is searched.

    `shared` (then kh == kw == stride tile the plane, and places is None): to equal maxima equally.
    """
    cdef Shape s = _shape(P, H, W, kh, kw, stride)
    if single(x):
        _backward(<float>0, dout, x, places, s, shared, streaming, dx, work, num_threads)
    else:
        _backward(<double>0, dout, x, places, s, shared, streaming, dx, work, num_threads)
