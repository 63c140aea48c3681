"""Max pooling over the planes of (P, H, W); P counts images times channels.

Outputs lie side by side in the vector lanes. For a stride of s, a row of the input is first dealt
out to s phases, phase p holding columns p, p + s, ...: then column o * s + j of all windows o is a run
of neighbours, in phase j % s from place j // s on. Phases are padded to whole groups of GROUP, and
loops run over whole groups: rows of an image are short, and what is left over of a vector costs more
than the vector.

The maxima of a row of windows are taken down the columns first, then across. The backward pass finds
them again rather than storing where they were: x is read from memory either way, and any forward
pass's cache will do. It keeps a ring of rows, enough for the windows that overlap: each plane has one
owner, and each row is written once.

Windows 2 x 2 that tile the plane need no phases, and have loops of their own.

Traffic with windows of area a that tile the plane, in units of x: forward 1 + 1/a, backward
2 + 1/a.
"""
from cython cimport floating
from cython.parallel cimport prange
from libc.string cimport memcpy, memset
from numpy cimport ndarray

from ._arrays cimport data, single
from ._stream cimport fastbn_stream, stream_end

cdef enum:
    GROUP = 16     # numbers: one zmm of float32
    PIECE = 256    # numbers that are streamed at once


cdef struct Shape:
    Py_ssize_t P, H, W, kh, kw, stride, OH, OW


cdef struct Layout:
    # Of a thread's scratch, in numbers.
    Py_ssize_t phase     # one phase of a row
    Py_ssize_t row       # all phases of a row
    Py_ssize_t ring      # rows in a ring
    Py_ssize_t outputs   # a row of windows, padded
    Py_ssize_t total


cdef inline Py_ssize_t _padded(Py_ssize_t n) noexcept nogil:
    return (n + GROUP - 1) // GROUP * GROUP


cdef inline Layout _layout(Shape s) noexcept nogil:
    cdef Layout l
    l.outputs = _padded(s.OW)
    l.phase = _padded(max(l.outputs + s.kw // s.stride, (s.W + s.stride - 1) // s.stride))
    l.row = l.phase * s.stride
    l.ring = s.kh
    # Two rings, a row's maxima down and across, what is left of dout, and rows to be streamed.
    l.total = 2 * l.ring * l.row + l.row + 2 * l.outputs + _padded(PIECE + 2 * s.W)
    return l


cdef inline void _keep_larger(
    const floating *x, Py_ssize_t padded, floating *largest
) noexcept nogil:
    """largest = max(largest, x); NaN wins."""
    cdef floating v, m
    cdef Py_ssize_t _group, lane
    for _group in range(padded // GROUP):
        for lane in range(GROUP):
            v = x[lane]
            m = largest[lane]
            m = v if v > m else m
            largest[lane] = v if v != v else m
        x += GROUP
        largest += GROUP


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


cdef inline void _collect(
    const floating *dealt, Py_ssize_t W, Py_ssize_t stride, Py_ssize_t phase, floating *x
) noexcept nogil:
    """The reverse of _deal."""
    cdef Py_ssize_t i, p
    if stride == 1:
        memcpy(x, dealt, W * sizeof(floating))
    elif stride == 2:
        for i in range(W // 2):
            x[2 * i] = dealt[i]
            x[2 * i + 1] = dealt[phase + i]
        if W % 2:
            x[W - 1] = dealt[W // 2]
    else:
        for p in range(min(stride, W)):
            for i in range((W - p + stride - 1) // stride):
                x[i * stride + p] = dealt[p * phase + i]


cdef inline void _across(
    const floating *column, Shape s, Layout l, floating *largest
) noexcept nogil:
    """Maxima of a row of windows from those of the columns, which are dealt out."""
    cdef Py_ssize_t j
    memcpy(largest, column, l.outputs * sizeof(floating))
    for j in range(1, s.kw):
        _keep_larger(column + j % s.stride * l.phase + j // s.stride, l.outputs, largest)


cdef void _max_pairs(
    const floating *upper, const floating *lower, Py_ssize_t n, floating *largest
) noexcept nogil:
    """Windows 2 x 2, two apart, in one pass."""
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
    const floating *x, Shape s, Layout l, floating *out, floating *scratch
) noexcept nogil:
    cdef floating *column = scratch
    cdef floating *dealt = scratch + l.row
    cdef floating *largest = dealt + l.row
    cdef const floating *row
    cdef floating v, m
    cdef Py_ssize_t i, c, k
    for i in range(s.OH):
        row = x + i * s.stride * s.W
        if s.kh == 2 and s.kw == 2 and s.stride == 2:
            _max_pairs(row, row + s.W, s.OW, out + i * s.OW)
            continue
        memcpy(column, row, s.W * sizeof(floating))
        for k in range(1, s.kh):
            row += s.W
            for c in range(s.W):
                v = row[c]
                m = column[c]
                m = v if v > m else m
                column[c] = v if v != v else m
        _deal(<const floating *>column, s.W, s.stride, l.phase, dealt)
        _across(<const floating *>dealt, s, l, largest)
        memcpy(out + i * s.OW, largest, s.OW * sizeof(floating))


cdef inline void _give_first(
    const floating *x, const floating *largest, Py_ssize_t padded, floating *left, floating *dx
) noexcept nogil:
    """Where x is the maximum, move what is left of the gradient to dx. NaN are maxima."""
    cdef floating g
    cdef bint hit
    cdef Py_ssize_t _group, lane
    for _group in range(padded // GROUP):
        for lane in range(GROUP):
            hit = (x[lane] == largest[lane]) | (x[lane] != x[lane])
            g = left[lane]
            dx[lane] += g if hit else 0
            left[lane] = 0 if hit else g
        x += GROUP
        largest += GROUP
        left += GROUP
        dx += GROUP


cdef struct Writer:
    # Rows on their way to the result: straight, or a piece at a time past the caches.
    bint streaming
    Py_ssize_t waiting


cdef inline floating *_next_row(Writer *w, floating *out, floating *piece) noexcept nogil:
    return piece + w.waiting if w.streaming else out


cdef inline void _row_done(
    Writer *w, floating *out, Py_ssize_t n, const floating *piece, bint last
) noexcept nogil:
    """out: where the row just written belongs."""
    if not w.streaming:
        return
    w.waiting += n
    if w.waiting >= PIECE or last:
        fastbn_stream(out + n - w.waiting, piece, w.waiting * sizeof(floating))
        w.waiting = 0


cdef void _backward_first_plane(
    const floating *dout, const floating *x, Shape s, Layout l, bint streaming, floating *dx,
    floating *scratch
) noexcept nogil:
    """The first maximum of a window in row-major order gets its whole gradient."""
    cdef floating *xs = scratch
    cdef floating *dxs = xs + l.ring * l.row
    cdef floating *column = dxs + l.ring * l.row
    cdef floating *largest = column + l.row
    cdef floating *left = largest + l.outputs
    cdef floating *piece = left + l.outputs
    cdef floating *to
    cdef Writer w
    cdef Py_ssize_t i, j, k, at, place, first, loaded = 0, done = 0
    w.streaming = streaming
    w.waiting = 0
    for i in range(s.OH):
        first = i * s.stride
        loaded = max(loaded, first)
        while loaded < first + s.kh:
            place = loaded % l.ring * l.row
            _deal(x + loaded * s.W, s.W, s.stride, l.phase, xs + place)
            memset(dxs + place, 0, l.row * sizeof(floating))
            loaded += 1
        memcpy(column, xs + first % l.ring * l.row, l.row * sizeof(floating))
        for k in range(1, s.kh):
            _keep_larger(<const floating *>xs + (first + k) % l.ring * l.row, l.row, column)
        _across(<const floating *>column, s, l, largest)
        memcpy(left, dout + i * s.OW, s.OW * sizeof(floating))
        for k in range(s.kh):
            place = (first + k) % l.ring * l.row
            for j in range(s.kw):
                at = place + j % s.stride * l.phase + j // s.stride
                _give_first(<const floating *>xs + at, <const floating *>largest, l.outputs,
                            left, dxs + at)
        while done < (first + s.stride if i + 1 < s.OH else s.H):
            to = _next_row(&w, dx + done * s.W, piece)
            if done < first + s.kh:
                _collect(<const floating *>dxs + done % l.ring * l.row, s.W, s.stride, l.phase, to)
            else:
                memset(to, 0, s.W * sizeof(floating))  # between windows, or below them all
            _row_done(&w, dx + done * s.W, s.W, <const floating *>piece, done + 1 == s.H)
            done += 1


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


cdef inline void _count(
    const floating *x, const floating *largest, Py_ssize_t padded, floating *count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(padded):
        count[i] += 1 if x[i] == largest[i] else 0


cdef inline void _give_share(
    const floating *x, const floating *largest, const floating *share, Py_ssize_t padded,
    floating *dx
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(padded):
        dx[i] = share[i] if (x[i] == largest[i]) | (largest[i] != largest[i]) else 0


cdef void _backward_shared_plane(
    const floating *dout, const floating *x, Shape s, Layout l, bint streaming, floating *dx,
    floating *scratch
) noexcept nogil:
    """Windows k x k that tile the plane; equal maxima share the gradient equally.

    A window with a NaN has no maximum: its gradient is NaN, as 0 / 0 is.
    """
    cdef floating *xs = scratch
    cdef floating *dxs = xs + l.ring * l.row
    cdef floating *column = dxs + l.ring * l.row
    cdef floating *largest = column + l.row
    cdef floating *share = largest + l.outputs
    cdef floating *piece = share + l.outputs
    cdef floating *to
    cdef Writer w
    cdef Py_ssize_t i, j, k, at, row, size = s.stride * s.W
    w.streaming = streaming
    w.waiting = 0
    for i in range(s.OH):
        row = i * s.stride
        if s.stride == 2:
            to = _next_row(&w, dx + row * s.W, piece)
            _share_pairs(x + row * s.W, x + row * s.W + s.W, dout + i * s.OW, s.OW, to, to + s.W)
            _row_done(&w, dx + row * s.W, size, <const floating *>piece, i + 1 == s.OH)
            continue
        for k in range(s.stride):
            _deal(x + (row + k) * s.W, s.W, s.stride, l.phase, xs + k * l.row)
        memcpy(column, xs, l.row * sizeof(floating))
        for k in range(1, s.stride):
            _keep_larger(<const floating *>xs + k * l.row, l.row, column)
        _across(<const floating *>column, s, l, largest)
        memset(share, 0, l.outputs * sizeof(floating))
        for k in range(s.stride):
            for j in range(s.stride):
                _count(<const floating *>xs + k * l.row + j * l.phase,
                       <const floating *>largest, l.outputs, share)
        for j in range(s.OW):
            share[j] = dout[i * s.OW + j] / share[j] if share[j] > 0 else largest[j]
        for k in range(s.stride):
            for j in range(s.stride):
                at = k * l.row + j * l.phase
                _give_share(<const floating *>xs + at, <const floating *>largest,
                            <const floating *>share, l.outputs, dxs + at)
            to = _next_row(&w, dx + (row + k) * s.W, piece)
            _collect(<const floating *>dxs + k * l.row, s.W, s.stride, l.phase, to)
            _row_done(&w, dx + (row + k) * s.W, s.W, <const floating *>piece,
                      row + k + 1 == s.H)


cdef void _backward_planes(
    const floating *dout, const floating *x, Shape s, Layout l, Py_ssize_t first,
    Py_ssize_t last, bint shared, bint streaming, floating *dx, floating *scratch
) noexcept nogil:
    cdef Py_ssize_t p, plane = s.H * s.W, window = s.OH * s.OW
    # The padding of phases is read: it must hold numbers, if any.
    memset(scratch, 0, l.total * sizeof(floating))
    for p in range(first, last):
        if shared:
            _backward_shared_plane(dout + p * window, x + p * plane, s, l, streaming,
                                   dx + p * plane, scratch)
        else:
            _backward_first_plane(dout + p * window, x + p * plane, s, l, streaming,
                                  dx + p * plane, scratch)
    if streaming:
        stream_end()


cdef void _forward_planes(
    const floating *x, Shape s, Layout l, Py_ssize_t first, Py_ssize_t last, floating *out,
    floating *scratch
) noexcept nogil:
    cdef Py_ssize_t p
    memset(scratch, 0, l.total * sizeof(floating))
    for p in range(first, last):
        _forward_plane(x + p * s.H * s.W, s, l, out + p * s.OH * s.OW, scratch)


cdef int _forward(
    floating _, ndarray x, Shape s, ndarray out, ndarray scratch, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Layout l = _layout(s)
    cdef const floating *x0 = <const floating *>data(x, itemsize, s.P * s.H * s.W)
    cdef floating *out0 = <floating *>data(out, itemsize, s.P * s.OH * s.OW)
    cdef floating *scratch0 = <floating *>data(scratch, itemsize, num_threads * l.total)
    cdef Py_ssize_t worker
    for worker in prange(num_threads, nogil=True, schedule="static", num_threads=num_threads):
        _forward_planes(x0, s, l, s.P * worker // num_threads,
                        s.P * (worker + 1) // num_threads, out0, scratch0 + worker * l.total)
    return 0


cdef int _backward(
    floating _, ndarray dout, ndarray x, Shape s, bint shared, bint streaming, ndarray dx,
    ndarray scratch, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Layout l = _layout(s)
    cdef const floating *dout0 = <const floating *>data(dout, itemsize, s.P * s.OH * s.OW)
    cdef const floating *x0 = <const floating *>data(x, itemsize, s.P * s.H * s.W)
    cdef floating *dx0 = <floating *>data(dx, itemsize, s.P * s.H * s.W)
    cdef floating *scratch0 = <floating *>data(scratch, itemsize, num_threads * l.total)
    cdef Py_ssize_t worker
    for worker in prange(num_threads, nogil=True, schedule="static", num_threads=num_threads):
        _backward_planes(dout0, x0, s, l, s.P * worker // num_threads,
                         s.P * (worker + 1) // num_threads, shared, streaming, dx0,
                         scratch0 + worker * l.total)
    return 0


cdef inline Shape _shape(
    Py_ssize_t P, Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride
) noexcept:
    cdef Shape s
    stride = min(stride, max(H, W))  # with a larger one there is a single window, too
    s.P, s.H, s.W, s.kh, s.kw, s.stride = P, H, W, kh, kw, stride
    s.OH, s.OW = (H - kh) // stride + 1, (W - kw) // stride + 1
    return s


def scratch_size(Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride):
    """Numbers of scratch that forward and backward want for every thread."""
    return _layout(_shape(1, H, W, kh, kw, stride)).total


def forward(ndarray x not None, Py_ssize_t P, Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh,
            Py_ssize_t kw, Py_ssize_t stride, ndarray out not None, ndarray scratch not None,
            int num_threads):
    """out[p, i, j] = max of the kh x kw window of x[p] at (i * stride, j * stride)"""
    cdef Shape s = _shape(P, H, W, kh, kw, stride)
    if single(x):
        _forward(<float>0, x, s, out, scratch, num_threads)
    else:
        _forward(<double>0, x, s, out, scratch, num_threads)


def backward(ndarray dout not None, ndarray x not None, Py_ssize_t P, Py_ssize_t H, Py_ssize_t W,
             Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t stride, bint shared, bint streaming,
             ndarray dx not None, ndarray scratch not None, int num_threads):
    """`shared` (only where kh == kw == stride tile the plane): equal maxima share the gradient.

    Otherwise the first gets all.
    """
    cdef Shape s = _shape(P, H, W, kh, kw, stride)
    if single(x):
        _backward(<float>0, dout, x, s, shared, streaming, dx, scratch, num_threads)
    else:
        _backward(<double>0, dout, x, s, shared, streaming, dx, scratch, num_threads)
