"""Columns with the image fastest: im2col and col2im.

A row of a channel's planes, of all images or a block of them, is transposed to
(phase, place, n), BLOCK pixels of BLOCK images at a time. Of such rows, im2col holds a ring of
those that a row of windows lies on, and a row of zeros: what the matrix has at (c, i, j) for a row
of windows is a run of one of them. col2im adds such runs up to rows that it then transposes back.
Wide rows are worked on in strips.
"""
from cython cimport floating
from libc.string cimport memcpy, memset

from ._field cimport (
    BLOCK, Field, add_run, fetch, first_window, padded, parts_of, places_beyond, put, stop_window,
)
from ._interrupt cimport stopped
from ._stream cimport prefetch, stream_end

cdef enum:
    RING = 1 << 18   # bytes of im2col's rows: half of a private cache
    RUN = 1 << 13    # bytes of the matrix that are written in a run, where the rows are short
    SUMS = 1 << 17   # bytes of col2im's rows, which are passed over kh * kw times


cdef struct Rows:
    # Of a thread's scratch where the image is fastest: rows of (phase, place, n), in numbers.
    Py_ssize_t images     # n of a row; all of them, or a multiple of BLOCK
    Py_ssize_t blocks     # that the images are cut into
    Py_ssize_t across     # places of a strip: windows in im2col, places of pixels in col2im
    Py_ssize_t strips     # that a row is cut into
    Py_ssize_t rows       # of the images, at once
    Py_ssize_t band       # rows of windows in im2col, of pixels in col2im, at once
    Py_ssize_t bands      # that those are cut into
    Py_ssize_t phase      # from one phase to the next
    Py_ssize_t blank      # from the beginning of a row to `images` numbers that belong to no place
    Py_ssize_t row        # from one row to the next
    Py_ssize_t zeros      # im2col: to a row of zeros
    Py_ssize_t column     # to where the pixels of a row are found, a Py_ssize_t each
    Py_ssize_t total


cdef inline void _set_images(const Field *f, Py_ssize_t most, Rows *lay) noexcept nogil:
    """Blocks of at most `most` images, in whole lines and of about one size."""
    lay.blocks = parts_of(f.N, max(<Py_ssize_t>BLOCK, most // BLOCK * BLOCK))
    lay.images = f.N
    if lay.blocks > 1:
        lay.images = padded(parts_of(f.N, lay.blocks))
        lay.blocks = parts_of(f.N, lay.images)


cdef inline void _set_rows(
    const Field *f, Py_ssize_t places, size_t itemsize, Rows *lay
) noexcept nogil:
    """Where things are: `places` of each phase of each row."""
    lay.phase = padded(places * lay.images)
    lay.blank = min(f.stride, f.kw) * lay.phase
    lay.row = lay.blank + padded(lay.images)
    lay.zeros = lay.rows * lay.row
    lay.column = lay.zeros + padded(lay.across * lay.images)
    lay.total = lay.column + padded(f.W * <Py_ssize_t>(sizeof(Py_ssize_t) // itemsize))


cdef inline Rows im2col_rows(const Field *f, size_t itemsize) noexcept nogil:
    cdef Rows lay
    cdef Py_ssize_t beyond = places_beyond(f.kw, f.stride)
    cdef Py_ssize_t column = (min(f.kh, f.H) + 1) * min(f.stride, f.kw)
    cdef Py_ssize_t most = RING // <Py_ssize_t>itemsize // column
    # Strips repeat the places beyond their windows: rather fewer images than narrow strips.
    cdef Py_ssize_t least = min(f.OW, max(<Py_ssize_t>8, 4 * beyond))
    _set_images(f, most // (least + beyond), &lay)
    lay.strips = parts_of(f.OW, max(<Py_ssize_t>1, most // lay.images - beyond))
    lay.across = parts_of(f.OW, lay.strips)
    lay.strips = parts_of(f.OW, lay.across)
    lay.band = parts_of(RUN // <Py_ssize_t>itemsize, lay.across * lay.images)
    lay.bands = parts_of(f.OH, lay.band)
    lay.band = parts_of(f.OH, lay.bands)
    lay.rows = (lay.band - 1) * f.stride + f.kh
    if lay.strips == 1:   # of narrow rows, enough at once to fill a block of pixels
        lay.rows = max(lay.rows, f.kh + (2 * BLOCK - 1) // f.W)
    lay.rows = min(lay.rows, f.H)
    _set_rows(f, lay.across + beyond, itemsize, &lay)
    return lay


cdef inline Rows col2im_rows(const Field *f, size_t itemsize) noexcept nogil:
    cdef Rows lay
    cdef Py_ssize_t places = _places(f)
    cdef Py_ssize_t most = SUMS // <Py_ssize_t>itemsize // min(f.stride, f.kw)
    _set_images(f, most // min(places, <Py_ssize_t>BLOCK), &lay)
    lay.strips = parts_of(places, max(<Py_ssize_t>1, most // lay.images))
    lay.across = parts_of(places, lay.strips)
    lay.strips = parts_of(places, lay.across)
    lay.band = max(<Py_ssize_t>1, most // (lay.across * lay.images))
    if lay.strips == 1:   # of narrow rows, enough at once to fill a block of pixels
        lay.band = max(lay.band, 1 + (2 * BLOCK - 1) // f.W)
    lay.bands = parts_of(f.H, lay.band)
    lay.band = parts_of(f.H, lay.bands)
    lay.rows = lay.band
    _set_rows(f, lay.across, itemsize, &lay)
    return lay


cdef inline Py_ssize_t _places(const Field *f) noexcept nogil:
    """Places of a phase that are pixels and lie in a window, from pad // stride on."""
    return max(<Py_ssize_t>1, min((f.pad + f.W - 1) // f.stride + 1,
                                  f.OW + places_beyond(f.kw, f.stride)) - f.pad // f.stride)


cdef inline void _find_columns(
    const Field *f, const Rows *lay, Py_ssize_t first, Py_ssize_t places, Py_ssize_t *column
) noexcept nogil:
    """Where each pixel of a row is among `places` places from `first` on; if not, in the blank."""
    cdef Py_ssize_t x, place = f.pad // f.stride - first, phase = f.pad % f.stride
    cdef Py_ssize_t phases = min(f.stride, f.kw)
    for x in range(f.W):
        if phase < phases and 0 <= place < places:
            column[x] = phase * lay.phase + place * lay.images
        else:
            column[x] = lay.blank
        phase += 1
        if phase == f.stride:
            phase = 0
            place += 1


cdef inline void _find_block(
    const Field *f, const Rows *lay, const Py_ssize_t *column, Py_ssize_t pixel,
    Py_ssize_t count, Py_ssize_t *place
) noexcept nogil:
    """Where in the ring of rows `count` pixels of a plane are."""
    cdef Py_ssize_t t, y = pixel // f.W, x = pixel % f.W
    cdef Py_ssize_t row = y % lay.rows * lay.row
    for t in range(count):
        place[t] = row + column[x]
        x += 1
        if x == f.W:
            x = 0
            y += 1
            row = y % lay.rows * lay.row


cdef inline void _turn(const floating *x, floating *out) noexcept nogil:
    """A column of a block."""
    cdef Py_ssize_t t
    for t in range(BLOCK):
        out[t] = x[t * BLOCK]


cdef inline void _transpose_in(
    const floating *x, const Field *f, const Rows *lay, const Py_ssize_t *column,
    Py_ssize_t first, Py_ssize_t last, Py_ssize_t count, floating *rows
) noexcept nogil:
    """Pixels first to last of a channel of `count` images to the ring; x: of the first image.

    Blocks that would not be whole are moved back over what is there already.
    """
    cdef floating block[BLOCK * BLOCK]
    cdef Py_ssize_t place[BLOCK]
    cdef Py_ssize_t image = f.C * f.H * f.W, pixel, n = 0, k, t
    cdef Py_ssize_t images = min(<Py_ssize_t>BLOCK, count)
    cdef Py_ssize_t pixels = min(<Py_ssize_t>BLOCK, last - first)
    cdef Py_ssize_t ahead = last-first
    cdef const floating *from_
    while n < count:
        n = min(n, count - images)
        pixel = first
        while pixel < last:
            pixel = min(pixel, last - pixels)
            _find_block(f, lay, column, pixel, pixels, place)
            from_ = x + n * image + pixel
            if images < BLOCK or pixels < BLOCK:
                for k in range(images):
                    for t in range(pixels):
                        rows[place[t] + n + k] = from_[k * image + t]
            else:
                for k in range(BLOCK):
                    memcpy(block + k * BLOCK, from_, BLOCK * sizeof(floating))
                    prefetch(from_ + ahead)
                    if sizeof(floating) == 8:
                        prefetch(from_ + ahead + BLOCK // 2)
                    from_ += image
                for t in range(BLOCK):
                    _turn(<const floating *>block + t, rows + place[t] + n)
            pixel += pixels
        n += images


cdef inline void _transpose_out(
    const floating *rows, const Field *f, const Rows *lay, const Py_ssize_t *column,
    Py_ssize_t first, Py_ssize_t last, Py_ssize_t count, floating *x
) noexcept nogil:
    """The other way."""
    cdef floating block[BLOCK * BLOCK]
    cdef Py_ssize_t place[BLOCK]
    cdef Py_ssize_t image = f.C * f.H * f.W, pixel, n = 0, k, t
    cdef Py_ssize_t images = min(<Py_ssize_t>BLOCK, count)
    cdef Py_ssize_t pixels = min(<Py_ssize_t>BLOCK, last - first)
    cdef floating *to
    while n < count:
        n = min(n, count - images)
        pixel = first
        while pixel < last:
            pixel = min(pixel, last - pixels)
            _find_block(f, lay, column, pixel, pixels, place)
            to = x + n * image + pixel
            if images < BLOCK or pixels < BLOCK:
                for k in range(images):
                    for t in range(pixels):
                        to[k * image + t] = rows[place[t] + n + k]
            else:
                for t in range(BLOCK):
                    memcpy(block + t * BLOCK, rows + place[t] + n, BLOCK * sizeof(floating))
                for k in range(BLOCK):
                    _turn(<const floating *>block + k, to + k * image)
                    prefetch(to + k * image + last - first)
                    if sizeof(floating) == 8:
                        prefetch(to + k * image + last - first + BLOCK // 2)
            pixel += pixels
        n += images


cdef inline void im2col_items(
    const floating *x, const Field *f, const Rows *lay, Py_ssize_t item, Py_ssize_t end,
    bint streaming, floating *cols, floating *work
) noexcept nogil:
    """Items are (channel, block of images, strip, band of rows of windows)."""
    cdef Py_ssize_t *column = <Py_ssize_t *>(work + lay.column)
    cdef Py_ssize_t left = 0, right = f.W, ox = 0, across = 0, n = 0, count = 0, c = 0, last = 0
    cdef Py_ssize_t part, top, rows, oy, y, i, j, t
    cdef bint fresh = True
    cdef const floating *images = x
    cdef const floating *run
    cdef floating *to
    memset(work, 0, lay.column * sizeof(floating))
    for item in range(item, end):
        part = item // lay.bands
        top = item % lay.bands * lay.band
        rows = min(lay.band, f.OH - top)
        if fresh or top == 0:
            fresh = False
            ox = part % lay.strips * lay.across
            across = min(lay.across, f.OW - ox)
            n = part // lay.strips % lay.blocks * lay.images
            count = min(lay.images, f.N - n)
            c = part // lay.strips // lay.blocks
            images = x + (n * f.C + c) * f.H * f.W
            left = max(<Py_ssize_t>0, ox * f.stride - f.pad)
            right = max(left, min(f.W, (ox + across - 1) * f.stride + f.kw - f.pad))
            last = 0
            if lay.strips > 1:   # strips have their padding elsewhere
                memset(work, 0, lay.zeros * sizeof(floating))
            _find_columns(f, lay, ox, across + places_beyond(f.kw, f.stride), column)
        y = top * f.stride - f.pad
        if min(y + (rows - 1) * f.stride + f.kh, f.H) > last:
            last = max(last, y)
            y = min(max(<Py_ssize_t>0, y) + lay.rows, f.H)
            if lay.strips == 1:
                _transpose_in(images, f, lay, <const Py_ssize_t *>column, last * f.W, y * f.W,
                              count, work)
            else:
                for t in range(last, y):
                    _transpose_in(images, f, lay, <const Py_ssize_t *>column, t * f.W + left,
                                  t * f.W + right, count, work)
            last = y
        for i in range(f.kh):
            for j in range(f.kw):
                if stopped(f.watch):
                    return
                for oy in range(top, top + rows):
                    y = oy * f.stride - f.pad + i
                    run = work + lay.zeros
                    if 0 <= y < f.H:
                        run = (work + y % lay.rows * lay.row + j % f.stride * lay.phase
                               + j // f.stride * lay.images)
                    to = cols + n + f.N * (
                        (((c * f.kh + i) * f.kw + j) * f.OH + oy) * f.OW + ox)
                    if count == f.N:
                        put(run, across * f.N, streaming, to)
                    else:
                        for t in range(across):
                            put(run + t * lay.images, count, streaming, to + t * f.N)
    if streaming:
        stream_end()


cdef inline void col2im_items(
    const floating *cols, const Field *f, const Rows *lay, Py_ssize_t item, Py_ssize_t end,
    floating *x, floating *work
) noexcept nogil:
    """Items are (channel, block of images, strip, band of rows)."""
    cdef Py_ssize_t *column = <Py_ssize_t *>(work + lay.column)
    cdef Py_ssize_t first, across, left, right, top, bottom, n, count, c, part
    cdef Py_ssize_t y, i, j, oy, low, high, t
    cdef const floating *run
    cdef floating *sums
    cdef floating *images
    for item in range(item, end):
        part = item // lay.bands
        top = item % lay.bands * lay.band
        bottom = min(top + lay.band, f.H)
        first = f.pad // f.stride + part % lay.strips * lay.across
        across = min(lay.across, f.pad // f.stride + _places(f) - first)
        left = max(<Py_ssize_t>0, first * f.stride - f.pad) if part % lay.strips else 0
        right = f.W
        if part % lay.strips + 1 < lay.strips:
            right = (first + across) * f.stride - f.pad
        n = part // lay.strips % lay.blocks * lay.images
        count = min(lay.images, f.N - n)
        c = part // lay.strips // lay.blocks
        images = x + (n * f.C + c) * f.H * f.W
        _find_columns(f, lay, first, across, column)
        memset(work, 0, lay.zeros * sizeof(floating))
        for i in range(f.kh):
            for j in range(f.kw):
                if stopped(f.watch):
                    return
                low = max(first, j // f.stride)
                high = min(first + across, j // f.stride + f.OW)
                for oy in range(first_window(i - f.pad - top, f.stride),
                                stop_window(i - f.pad, f.stride, bottom, f.OH)):
                    y = oy * f.stride - f.pad + i
                    sums = (work + y % lay.rows * lay.row + j % f.stride * lay.phase
                            + (low - first) * lay.images)
                    run = cols + n + f.N * (
                        (((c * f.kh + i) * f.kw + j) * f.OH + oy) * f.OW + low - j // f.stride)
                    fetch(run + f.OH * f.OW * f.N, (high - low) * count)
                    if count == f.N:
                        add_run(run, (high - low) * f.N, sums)
                    else:
                        for t in range(high - low):
                            add_run(run + t * f.N, count, sums + t * lay.images)
        if lay.strips == 1:
            _transpose_out(<const floating *>work, f, lay, <const Py_ssize_t *>column,
                           top * f.W, bottom * f.W, count, images)
        else:
            for y in range(top, bottom):
                _transpose_out(<const floating *>work, f, lay, <const Py_ssize_t *>column,
                               y * f.W + left, y * f.W + right, count, images)
