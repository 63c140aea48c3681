"""Columns with the image slowest: im2col_6d and col2im_6d.


"""
from cython cimport floating
from libc.string cimport memcpy, memset

from ._field cimport (
    BLOCK, Field, add_run, fetch, first_window, padded, parts_of, places_beyond, put, stop_window,
)
from ._interrupt cimport stopped
from ._stream cimport stream_end

cdef enum:
    RUN = 1 << 13    # bytes of the matrix that are written in a run, where the rows are short
    BAND = 1 << 16   # bytes of a plane's band, dealt out
    FAR = 8          # a stride that leaves few of its phases to use


cdef struct Planes:
    # Of a thread's scratch where the image is slowest, in numbers.
    bint tiled            # whether a row's phases are as long as a row of windows, but for a pixel
    Py_ssize_t band       # rows of windows; in col2im_6d rows of pixels of each phase
    Py_ssize_t bands      # that a plane is cut into
    Py_ssize_t width      # a dealt row of one phase
    Py_ssize_t phase      # from one phase of columns to the next
    Py_ssize_t close      # to the rows of windows without gaps
    Py_ssize_t part       # from one phase of those to the next
    Py_ssize_t total


cdef inline Planes _planes(
    const Field *f, Py_ssize_t rows, Py_ssize_t more, size_t itemsize
) noexcept nogil:
    """`rows`: that bands are cut from; `more`: rows of each phase that a band has beside them."""
    cdef Planes lay
    cdef Py_ssize_t parts = min(f.stride, f.kh), phases = min(f.stride, f.kw), most
    lay.tiled = f.stride <= FAR and f.OW == (f.W + f.stride - 1) // f.stride
    # Rows are dealt out, or handled in whole groups, up to a group beyond their end.
    lay.width = padded(max(f.OW + places_beyond(f.kw, f.stride),
                           (f.pad + f.W - 1) // f.stride + 1)) + BLOCK
    if lay.tiled:
        phases = f.stride
        lay.width = f.OW
    most = BAND // <Py_ssize_t>itemsize // (parts * phases * lay.width)
    lay.bands = parts_of(rows, max(<Py_ssize_t>1, most - more))
    lay.band = parts_of(rows, lay.bands)
    lay.bands = parts_of(rows, lay.band)
    lay.phase = padded((lay.band + more) * lay.width) + BLOCK
    lay.close = parts * phases * lay.phase
    lay.part = (lay.band + more) * f.OW
    lay.total = lay.close + padded(parts * lay.part) + BLOCK
    return lay


cdef inline Planes im2col_planes(const Field *f, size_t itemsize) noexcept nogil:
    return _planes(f, f.OH, places_beyond(f.kh, f.stride), itemsize)


cdef inline Planes col2im_planes(const Field *f, size_t itemsize) noexcept nogil:
    return _planes(f, (f.pad + f.H - 1) // f.stride + 1 - f.pad // f.stride, 0, itemsize)


cdef inline void _split(
    const floating *x, Py_ssize_t n, floating *even, floating *odd
) noexcept nogil:
    cdef Py_ssize_t t
    for t in range(n):
        even[t] = x[2 * t]
        odd[t] = x[2 * t + 1]


cdef inline void _join(
    const floating *even, const floating *odd, Py_ssize_t n, floating *x
) noexcept nogil:
    cdef Py_ssize_t t
    for t in range(n):
        x[2 * t] = even[t]
        x[2 * t + 1] = odd[t]


cdef inline void _deal(
    const floating *x, const Field *f, const Planes *lay, Py_ssize_t room, floating *dealt
) noexcept nogil:
    """A row of the image to its phases; `room`: numbers from its beginning to the plane's end."""
    cdef Py_ssize_t p, t, start, stop, shift = 0 if lay.tiled else f.pad
    if lay.tiled and f.stride == 2:
        # In whole vectors: what is too much is written over by the next row.
        t = padded(f.OW)
        _split(x, t if 2 * t <= room else f.W // 2, dealt, dealt + lay.phase)
        if f.W % 2:
            dealt[f.OW - 1] = x[f.W - 1]
            dealt[lay.phase + f.OW - 1] = 0
    elif f.stride == 1:
        memcpy(dealt + shift, x, f.W * sizeof(floating))
    else:
        for p in range(f.stride if lay.tiled else min(f.stride, f.kw)):
            start = first_window(p - shift, f.stride)
            stop = stop_window(p - shift, f.stride, f.W, lay.width)
            for t in range(start, stop):
                dealt[p * lay.phase + t] = x[p - shift + t * f.stride]


cdef inline void _gather(
    const floating *dealt, const Field *f, const Planes *lay, Py_ssize_t room, floating *x
) noexcept nogil:
    """_deal, backwards; `room`: numbers from x on that may be written and will be again."""
    cdef Py_ssize_t p, q, t, shift = 0 if lay.tiled else f.pad
    if lay.tiled and f.stride == 2:
        t = padded(f.OW)
        _join(dealt, dealt + lay.phase, t if 2 * t <= room else f.W // 2, x)
        if f.W % 2:
            x[f.W - 1] = dealt[f.OW - 1]
    elif f.stride == 1:
        memcpy(x, dealt + shift, f.W * sizeof(floating))
    else:
        p = shift % f.stride
        q = shift // f.stride
        for t in range(f.W):
            x[t] = dealt[p * lay.phase + q] if lay.tiled or p < f.kw else 0
            p += 1
            if p == f.stride:
                p = 0
                q += 1


cdef inline Py_ssize_t _shift(const Field *f, Py_ssize_t j) noexcept nogil:
    """By how many places column j of the filter is off the windows' own: (j - pad) / stride."""
    return (j - f.pad + f.pad * f.stride) // f.stride - f.pad


cdef inline void _clear_columns(
    Py_ssize_t rows, Py_ssize_t width, Py_ssize_t shift, floating *x
) noexcept nogil:
    """Zeros in those windows for which a place `shift` on is in another row."""
    cdef Py_ssize_t o, k
    for o in range(max(<Py_ssize_t>0, width - shift) if shift > 0 else 0,
                   width if shift > 0 else min(width, -shift)):
        for k in range(rows):
            x[k * width + o] = 0


cdef inline void _copy_shifted(
    const floating *x, Py_ssize_t rows, Py_ssize_t width, Py_ssize_t shift, floating *out
) noexcept nogil:
    """out[k, o] = x[k, o + shift], or 0 beyond the row: in one go, and the ends mended."""
    cdef Py_ssize_t n = max(<Py_ssize_t>0, rows * width - (shift if shift > 0 else -shift))
    if shift > 0:
        memcpy(out, x + shift, n * sizeof(floating))
    else:
        memcpy(out - shift, x, n * sizeof(floating))
    _clear_columns(rows, width, shift, out)


cdef inline void _add_shifted(
    floating *x, Py_ssize_t rows, Py_ssize_t width, Py_ssize_t shift, floating *out
) noexcept nogil:
    """out[k, o + shift] += x[k, o]; what belongs beyond the row is cleared from x before."""
    cdef Py_ssize_t n = max(<Py_ssize_t>0, rows * width - (shift if shift > 0 else -shift))
    _clear_columns(rows, width, shift, x)
    if shift > 0:
        add_run(<const floating *>x, n, out + shift)
    else:
        add_run(<const floating *>x - shift, n, out)


cdef inline void _copy_rows(
    const floating *x, Py_ssize_t rows, Py_ssize_t step, Py_ssize_t width, floating *out
) noexcept nogil:
    """Rows `step` apart, close to each other. In groups: the next row writes over what is too much.
    """
    cdef Py_ssize_t _k, t, groups = padded(width) // BLOCK
    for _k in range(rows):
        for t in range(groups):
            memcpy(out + t * BLOCK, x + t * BLOCK, BLOCK * sizeof(floating))
        x += step
        out += width


cdef inline void im2col_6d_items(
    const floating *x, const Field *f, const Planes *lay, Py_ssize_t item, Py_ssize_t end,
    bint streaming, floating *cols, floating *work
) noexcept nogil:
    """Items are (channel, image, band)."""
    cdef Py_ssize_t parts = min(f.stride, f.kh)
    cdef Py_ssize_t phases = f.stride if lay.tiled else min(f.stride, f.kw)
    cdef Py_ssize_t n, c, top, here, y, i, j, k, low, high, rows, shift, step
    cdef floating *close = work + lay.close
    cdef floating *to
    cdef const floating *dealt = work
    cdef const floating *image
    cdef const floating *run
    memset(work, 0, lay.total * sizeof(floating))
    for item in range(item, end):
        top = item % lay.bands * lay.band
        here = min(lay.band, f.OH - top)
        n = item // lay.bands % f.N
        c = item // lay.bands // f.N
        image = x + (n * f.C + c) * f.H * f.W
        fetch(image + f.C * f.H * f.W, f.H * f.W)
        # Row k of part i is row y = (top + k) * stride + i - pad of the image.
        for i in range(0 if f.stride == 1 and lay.tiled else parts):
            for k in range(here + places_beyond(f.kh - i, f.stride)):
                y = (top + k) * f.stride + i - f.pad
                to = work + i * phases * lay.phase + k * lay.width
                if 0 <= y < f.H:
                    _deal(image + y * f.W, f, lay, (f.H - y) * f.W, to)
                else:
                    for j in range(phases):
                        memset(to + j * lay.phase, 0, lay.width * sizeof(floating))
        for j in range(f.kw):
            if stopped(f.watch):
                return
            shift = _shift(f, j)
            run = close
            step = lay.part
            if lay.tiled and f.stride > 1 and shift == 0:   # they are close as they are
                run = dealt + (j - f.pad) * lay.phase
                step = phases * lay.phase
            else:
                for i in range(parts):
                    rows = here + places_beyond(f.kh - i, f.stride)
                    to = close + i * lay.part
                    if not lay.tiled:
                        _copy_rows(dealt + (i * phases + j % f.stride) * lay.phase
                                   + j // f.stride, rows, lay.width, f.OW, to)
                    elif f.stride > 1:
                        _copy_shifted(
                            dealt + (i * phases + j - f.pad - shift * f.stride) * lay.phase,
                            rows, f.OW, shift, to)
                    else:
                        low = min(rows, max(<Py_ssize_t>0, f.pad - top))
                        high = max(low, min(rows, f.H + f.pad - top))
                        memset(to, 0, low * f.OW * sizeof(floating))
                        _copy_shifted(image + (top + low - f.pad) * f.W, high - low, f.OW, shift,
                                      to + low * f.OW)
                        memset(to + high * f.OW, 0, (rows - high) * f.OW * sizeof(floating))
            for i in range(f.kh):
                put(run + i % f.stride * step + i // f.stride * f.OW, here * f.OW, streaming,
                    cols + top * f.OW
                    + (((c * f.kh + i) * f.kw + j) * f.N + n) * f.OH * f.OW)
    if streaming:
        stream_end()


cdef inline void col2im_6d_items(
    const floating *cols, const Field *f, const Planes *lay, Py_ssize_t item, Py_ssize_t end,
    floating *x, floating *work
) noexcept nogil:
    """Items are (channel, image, band)."""
    cdef Py_ssize_t parts = min(f.stride, f.kh)
    cdef Py_ssize_t phases = f.stride if lay.tiled else min(f.stride, f.kw)
    cdef Py_ssize_t n, c, first, here, top, bottom, y, i, j, k, low, high, shift, step
    cdef floating *dealt = work
    cdef floating *close = work + lay.close
    cdef floating *image
    cdef floating *to
    cdef const floating *from_
    memset(work, 0, lay.total * sizeof(floating))
    for item in range(item, end):
        # Row y of the image is row k of part i, y = (first + k) * stride + i - pad.
        first = f.pad // f.stride + item % lay.bands * lay.band
        here = min(lay.band, (f.pad + f.H - 1) // f.stride + 1 - first)
        n = item // lay.bands % f.N
        c = item // lay.bands // f.N
        image = x + (n * f.C + c) * f.H * f.W
        top = max(<Py_ssize_t>0, first * f.stride - f.pad)
        bottom = min(f.H, (first + here) * f.stride - f.pad)
        if lay.tiled and f.stride == 1:
            dealt = image + top * f.W
            memset(dealt, 0, (bottom - top) * f.W * sizeof(floating))
        else:
            memset(dealt, 0, lay.close * sizeof(floating))
        for j in range(f.kw):
            if stopped(f.watch):
                return
            shift = _shift(f, j)
            to = close
            step = lay.part
            if lay.tiled and shift == 0:   # at once to where they belong
                to = dealt + (j - f.pad) * lay.phase
                step = phases * lay.phase
            else:
                memset(close, 0, parts * lay.part * sizeof(floating))
            for i in range(f.kh):
                low = max(first, i // f.stride)
                high = min(first + here, i // f.stride + f.OH)
                from_ = (cols + (((c * f.kh + i) * f.kw + j) * f.N + n) * f.OH * f.OW
                         + (low - i // f.stride) * f.OW)
                fetch(from_ + (high - low) * f.OW, (high - low) * f.OW)
                add_run(from_, (high - low) * f.OW,
                        to + i % f.stride * step + (low - first) * f.OW)
            if to != close:
                continue
            for i in range(parts):
                if lay.tiled:
                    _add_shifted(close + i * lay.part, here, f.OW, shift,
                                 dealt + (i * phases + j - f.pad - shift * f.stride) * lay.phase)
                    continue
                for k in range(here):
                    add_run(<const floating *>close + i * lay.part + k * f.OW, f.OW,
                            dealt + (i * phases + j % f.stride) * lay.phase + k * lay.width
                            + j // f.stride)
        if lay.tiled and f.stride == 1:
            continue
        for y in range(top, bottom):
            i = (y + f.pad) % f.stride
            k = (y + f.pad) // f.stride - first
            if i < parts:
                _gather(<const floating *>dealt + i * phases * lay.phase + k * lay.width, f, lay,
                        (bottom - y) * f.W, image + y * f.W)
            else:
                memset(image + y * f.W, 0, f.W * sizeof(floating))
