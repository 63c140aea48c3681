"""Convolution of (N, C, H, W) by (F, C, kh, kw): implicit matrix products over patches of frames.

The matrix of patches (rows (c, i, j), K = C * kh * kw of them; columns the output pixels) is never
formed. A frame (_frames.pxd) is read in its place: the vectors of a tile are pixels under one
place of the filter. Where the rows of outputs do not fill vectors, pixels are packed side by side
into a panel first.

forward       out (F, pixels) = w (F, K) patches (K, pixels): _product.pxd, or _winograd.pxd

dx            the same of dout with the filters turned round, if the stride is 1. Else dx falls into
              stride x stride phases, each a product of dout with every stride-th place of the
              filters: every number of dx is written once, and nothing is added up in memory.

dw            dw (F, K) = sum over blocks of dout (F, pixels) patches' (pixels, K)
    task: a group of images x a chunk of channels
      for each block: copy its frame
        for each SOME rows of patches                          (first-level cache)
          for each DF filters                                  (dout's rows: first-level cache)
            for each DX of the rows: dot tile, vectors of pixels multiplied and added up
    then the groups' shares are added in order: how many depends on the shape alone
"""
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.string cimport memset
cimport numpy as cnp
from numpy cimport ndarray

from ._arrays cimport data, lined, single
from ._frames cimport (
    Cut, Phase, Product, RUNS, Run, copy_frame, cut_product, lanes, list_runs, next_phase,
    pack_rows, place_offsets,
)
from ._interrupt cimport Watch, begin, finish, stopped, stopped_at
from ._product cimport Sizes, direct, direct_sizes, forward_product, lined_up, turned_product
from ._reduce cimport wide_sum
from ._winograd cimport Strips, applies, cut_strips, pays, winograd
from ._tile cimport DF, DX, FB_BYTES, dot

cdef enum:
    ROWS = 192     # rows of patches in a chunk of dw, about
    VECTORS = 64   # of pixels in a block, at most: adding up lanes costs as much as some five
    SOME = 3 * DX  # rows of patches that share the first-level cache with a tile's rows of dout
    SHARES = 16    # tasks that dw is cut into, at least, if there are as many images
    SHARED = 1 << 20   # numbers of all shares, at most
    FILTERS = 64 * DF  # between two looks at whether to give up
    CLEARED = 1 << 24  # bytes, likewise


cdef struct Weights:
    # How dw is cut.
    Cut cut
    Py_ssize_t chunks, shares   # tasks: chunks of channels x groups of images
    Py_ssize_t rows, filters    # of patches in a chunk, and of dout, up to whole dot tiles
    Py_ssize_t width            # of a panel: pixels of a block in whole vectors
    Py_ssize_t thread           # numbers of scratch for a thread


cdef inline Weights _weights(const Product *s, Py_ssize_t W) noexcept nogil:
    cdef Weights cuts
    cdef Py_ssize_t taps = s.kh * s.kw
    cdef Py_ssize_t chunks = max(<Py_ssize_t>1, (s.K + ROWS - 1) // ROWS)
    cdef Py_ssize_t chunk = max(<Py_ssize_t>1, (s.C + chunks - 1) // chunks)
    # Vectors that reach beyond a row would multiply what is there, a NaN perhaps, by zero.
    cuts.cut = cut_product(s, VECTORS * W, chunk, s.OW % W != 0, W)
    cuts.chunks = (s.C + chunk - 1) // chunk
    cuts.shares = min(s.N, (SHARES + cuts.chunks - 1) // cuts.chunks)
    cuts.shares = max(<Py_ssize_t>1, min(cuts.shares, SHARED // (s.F * s.K)))
    cuts.rows = (chunk * taps + DX - 1) // DX * DX
    cuts.width = (cuts.cut.images * cuts.cut.lines * cuts.cut.columns + W - 1) // W * W
    cuts.filters = (s.F + DF - 1) // DF * DF
    cuts.thread = lined_up(cuts.cut.size) + cuts.width * cuts.filters
    if cuts.cut.packed:
        cuts.thread += cuts.rows * cuts.width + W
    cuts.thread = lined_up(cuts.thread)
    return cuts


cdef inline const floating *_block_of_dout(
    const floating *dout, const Product *s, const Run *rows, Py_ssize_t count, Py_ssize_t width,
    Py_ssize_t *distance, floating *copied
) noexcept nogil:
    """The block's pixels of all filters: as they lie, or copied with zeros up to whole vectors."""
    cdef Py_ssize_t r, f, t, filled
    cdef const floating *line
    cdef bint whole = s.F % DF == 0 and count * rows[0].length == width
    for r in range(count):
        whole = whole and rows[r].dest == rows[0].dest + r * rows[0].length
    if whole:
        distance[0] = s.P
        return dout + rows[0].dest
    distance[0] = width
    for f in range((s.F + DF - 1) // DF * DF):
        if stopped_at(s.watch, f + 1):
            break
        filled = f * width
        if f < s.F:
            for r in range(count):
                line = dout + rows[r].dest + f * s.P
                for t in range(rows[r].length):
                    copied[filled + t] = line[t]
                filled += rows[r].length
        for t in range(filled, (f + 1) * width):
            copied[t] = 0
    return copied


cdef void _dw_block(
    const floating *dout, Py_ssize_t distance, const floating *frame, const Weights *cuts,
    const Py_ssize_t *offset, const Py_ssize_t *at, Py_ssize_t depth, Py_ssize_t count,
    Watch *watch, floating *share
) noexcept nogil:
    """share, tile by tile, += dout patches', over `count` vectors of a block."""
    cdef Py_ssize_t first = 0, f, k
    while first < depth:
        f = 0
        while f < cuts.filters:
            if f % FILTERS == 0 and stopped(watch):
                return
            k = first
            while k < min(depth, first + SOME):
                dot(count, dout + f * distance, distance, frame, offset + k, at,
                    share + f * cuts.rows + k * DF)
                k += DX
            f += DF
        first += SOME


cdef void _dw_task(
    const floating *dout, const floating *x, const Product *s, const Weights *cuts,
    const Py_ssize_t *offset, Py_ssize_t n, Py_ssize_t stop, Py_ssize_t c, floating *share,
    floating *mine, Py_ssize_t *own
) noexcept nogil:
    """The share of images n to stop, for a chunk of channels from c on: tiles DF x DX."""
    cdef Run rows[RUNS]
    cdef Py_ssize_t at[RUNS]
    cdef Cut cut = cuts.cut
    cdef Py_ssize_t W = lanes(x), channels = min(cut.chunk, s.C - c)
    cdef Py_ssize_t depth = channels * s.kh * s.kw, distance = 0
    cdef Py_ssize_t images, top, left, lines, count, width, i, t, block
    cdef floating *copied = mine + lined_up(cut.size)
    cdef floating *panel = copied + cuts.width * cuts.filters
    cdef const floating *frame
    cdef const floating *d
    cdef Phase phase
    phase.a = -1
    next_phase(s, &phase)
    memset(share, 0, cuts.filters * cuts.rows * sizeof(floating))
    while n < stop:
        images = min(cut.images, stop - n)
        for block in range(cut.bands * cut.strips):
            if stopped(s.watch):
                return
            top = block // cut.strips * cut.lines
            left = block % cut.strips * cut.columns
            lines = min(cut.lines, s.OH - top)
            count = images * lines
            list_runs(&cut, images, lines, min(cut.columns, s.OW - left), s.F * s.P, s.OW, rows)
            width = (count * rows[0].length + W - 1) // W * W
            copy_frame(x, s, &cut, n, images, c, channels, top, lines, left, mine)
            frame = mine
            if cut.packed:
                pack_rows(frame, offset, depth, rows, count, width, panel)
                frame = panel
            for t in range(width // W):
                at[t] = t * W if cut.packed else (
                    rows[t * W // rows[0].length].pos + t * W % rows[0].length)
            # Rows of patches that only fill up the last tile are read in vain.
            for i in range(cuts.rows):
                own[i] = 0 if i >= depth else i * width if cut.packed else offset[i]
            d = _block_of_dout(dout + n * s.F * s.P + top * s.OW + left, s, rows, count, width,
                               &distance, copied)
            _dw_block(d, distance, frame, cuts, <const Py_ssize_t *>own, <const Py_ssize_t *>at,
                      depth, width // W, s.watch, share)
        n += images


cdef void _add_shares(
    const floating *shares, const Product *s, const Weights *cuts, Py_ssize_t f, floating *dw
) noexcept nogil:
    """Filters f to f + DF of dw: the sum of the shares, in order."""
    cdef Py_ssize_t task = cuts.filters * cuts.rows, taps = s.kh * s.kw, chunk, depth, k, i, g
    cdef const floating *tiles
    cdef floating total
    for chunk in range(cuts.chunks):
        tiles = shares + chunk * task + f * cuts.rows
        if stopped(s.watch):
            return
        depth = min(cuts.cut.chunk, s.C - chunk * cuts.cut.chunk) * taps
        for i in range(min(<Py_ssize_t>DF, s.F - f)):
            for k in range(depth):
                total = 0
                for g in range(cuts.shares):
                    total += tiles[g * cuts.chunks * task + k // DX * DX * DF + i * DX + k % DX]
                dw[(f + i) * s.K + chunk * cuts.cut.chunk * taps + k] = total


cdef double _sum_filter(const floating *dout, const Product *s, Py_ssize_t f) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t n
    for n in range(s.N):
        if stopped_at(s.watch, n):
            return 0
        total += wide_sum(dout + (n * s.F + f) * s.P, s.P, s.watch)
    return total


cdef int _product_of(
    ndarray x, ndarray w, Py_ssize_t pad, Py_ssize_t stride, Watch *watch, Product *s
) except -1:
    s[0] = forward_product(
        cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(x, 2), cnp.PyArray_DIM(x, 3),
        cnp.PyArray_DIM(w, 0), cnp.PyArray_DIM(w, 2), cnp.PyArray_DIM(w, 3), pad, stride,
        watch)
    return 0


cdef enum:
    # The ways to do a product: Winograd's for float32 where it pays, never, wherever it applies.
    AUTO
    DIRECT
    WINOGRAD


cdef inline bint _by_winograd(const Product *s, Py_ssize_t itemsize, int way) noexcept nogil:
    if itemsize != sizeof(float) or way == DIRECT:
        return False
    return applies(s) if way == WINOGRAD else pays(s)


cdef inline void _make_room(Sizes *sizes, const Sizes *other) noexcept nogil:
    sizes.shared = max(sizes.shared, other.shared)
    sizes.offsets = max(sizes.offsets, other.offsets)
    sizes.thread = max(sizes.thread, other.thread)


cdef Sizes _product_sizes(const Product *s, Py_ssize_t itemsize, int way) noexcept nogil:
    cdef Sizes sizes = direct_sizes(s, FB_BYTES // itemsize)
    cdef Strips strips
    if _by_winograd(s, itemsize, way):
        strips = cut_strips(s)
        _make_room(&sizes, &strips.sizes)
    return sizes


cdef Sizes _forward_sizes(ndarray x, ndarray w, Py_ssize_t pad, Py_ssize_t stride, int way):
    cdef Product s
    _product_of(x, w, pad, stride, NULL, &s)
    return _product_sizes(&s, cnp.PyArray_ITEMSIZE(x), way)


cdef Sizes _backward_sizes(ndarray x, ndarray w, Py_ssize_t pad, Py_ssize_t stride, int way):
    cdef Product s, d
    cdef Sizes most, other
    cdef Weights cuts
    _product_of(x, w, pad, stride, NULL, &s)
    cuts = _weights(&s, FB_BYTES // cnp.PyArray_ITEMSIZE(x))
    most.shared = cuts.shares * cuts.chunks * cuts.filters * cuts.rows
    most.offsets = cuts.rows
    most.thread = cuts.thread
    d = turned_product(&s)
    if d.OH > 0 and d.OW > 0:
        other = _product_sizes(&d, cnp.PyArray_ITEMSIZE(x), way)
        _make_room(&most, &other)
    return most


cdef void _product(
    const floating *x, const floating *w, const floating *b, const Product *s, int way,
    floating *out, floating *rectified, floating *shared, Py_ssize_t *offset, floating *threads,
    int num_threads
) noexcept nogil:
    if floating is float:
        if _by_winograd(s, sizeof(float), way) and winograd(
                x, w, b, s, out, rectified, shared, offset, threads, num_threads):
            return
    direct(x, w, b, s, out, rectified, shared, offset, threads, num_threads)


cdef Py_ssize_t _bytes(const Sizes *sizes, Py_ssize_t itemsize, int num_threads) noexcept nogil:
    return 64 + lined_up(sizes.offsets) * <Py_ssize_t>sizeof(Py_ssize_t) + itemsize * (
        lined_up(sizes.shared) + num_threads * sizes.thread)


def forward_scratch(ndarray x not None, ndarray w not None, Py_ssize_t pad, Py_ssize_t stride,
                    int way, int num_threads):
    """Bytes of scratch for forward."""
    cdef Sizes sizes = _forward_sizes(x, w, pad, stride, way)
    return _bytes(&sizes, cnp.PyArray_ITEMSIZE(x), num_threads)


def backward_scratch(ndarray x not None, ndarray w not None, Py_ssize_t pad, Py_ssize_t stride,
                     int way, int num_threads):
    """Bytes of scratch for backward."""
    cdef Sizes sizes = _backward_sizes(x, w, pad, stride, way)
    sizes.offsets *= 1 + num_threads
    return _bytes(&sizes, cnp.PyArray_ITEMSIZE(x), num_threads)


cdef int _forward(
    floating _, ndarray x, ndarray w, ndarray b, Py_ssize_t pad, Py_ssize_t stride, int way,
    ndarray out, ndarray rectified, ndarray room, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Product s
    cdef Sizes sizes = _forward_sizes(x, w, pad, stride, way)
    cdef Watch watch
    _product_of(x, w, pad, stride, &watch, &s)
    cdef const floating *x0 = <const floating *>data(x, itemsize, s.N * s.C * s.H * s.W)
    cdef const floating *w0 = <const floating *>data(w, itemsize, s.F * s.K)
    cdef const floating *b0 = <const floating *>data(b, itemsize, s.F)
    cdef floating *out0 = <floating *>data(out, itemsize, s.N * s.F * s.P)
    cdef floating *rectified0 = NULL
    if rectified is not None:
        rectified0 = <floating *>data(rectified, itemsize, s.N * s.F * s.P)
    cdef Py_ssize_t *offset = <Py_ssize_t *>lined(room, _bytes(&sizes, itemsize, num_threads))
    cdef floating *shared = <floating *>(offset + lined_up(sizes.offsets))
    begin(&watch, num_threads)
    with nogil:
        _product(x0, w0, b0, &s, way, out0, rectified0, shared, offset,
                 shared + lined_up(sizes.shared), num_threads)
    return finish(&watch)


def forward(ndarray x not None, ndarray w not None, ndarray b not None, Py_ssize_t pad,
            Py_ssize_t stride, int way, ndarray out not None, ndarray rectified,
            ndarray scratch not None, int num_threads):
    """out[n, f] = sum over c of x[n, c] * w[f, c] (cross-correlated) + b[f]

    rectified: None, or for max(out, 0).
    """
    if single(x):
        _forward(<float>0, x, w, b, pad, stride, way, out, rectified, scratch, num_threads)
    else:
        _forward(<double>0, x, w, b, pad, stride, way, out, rectified, scratch, num_threads)


cdef void _backward_data(
    const floating *dout, const floating *w, const Product *s, int way, floating *dx,
    floating *shared, Py_ssize_t *offset, floating *threads, int num_threads
) noexcept nogil:
    cdef Product d = turned_product(s)
    cdef Py_ssize_t i, bytes = s.N * s.C * s.H * s.W * <Py_ssize_t>sizeof(floating)
    if s.stride > min(s.kh, s.kw):  # some numbers of x are under no place of any filter
        for i in range((bytes + CLEARED - 1) // CLEARED):
            if stopped(s.watch):
                return
            memset(<char *>dx + i * CLEARED, 0, min(<Py_ssize_t>CLEARED, bytes - i * CLEARED))
    if d.OH > 0 and d.OW > 0:
        _product(dout, w, <const floating *>NULL, &d, way, dx, <floating *>NULL, shared, offset,
                 threads, num_threads)


cdef void _backward_weights(
    const floating *dout, const floating *x, const Product *s, floating *dw, floating *shared,
    Py_ssize_t *offset, floating *threads, int num_threads
) noexcept nogil:
    cdef Weights cuts = _weights(s, lanes(x))
    cdef Py_ssize_t task, group, size = cuts.filters * cuts.rows
    cdef Phase phase
    phase.a = -1
    next_phase(s, &phase)
    place_offsets(s, &cuts.cut, &phase, offset)
    for task in prange(cuts.shares * cuts.chunks, schedule="static", num_threads=num_threads):
        if stopped(s.watch):
            continue
        group = task // cuts.chunks
        _dw_task(dout, x, s, &cuts, <const Py_ssize_t *>offset, s.N * group // cuts.shares,
                 s.N * (group + 1) // cuts.shares, task % cuts.chunks * cuts.cut.chunk,
                 shared + task * size, threads + threadid() * cuts.thread,
                 offset + (1 + threadid()) * cuts.rows)
    for task in prange(cuts.filters // DF, schedule="static", num_threads=num_threads):
        _add_shares(<const floating *>shared, s, &cuts, task * DF, dw)


cdef int _backward(
    floating _, ndarray dout, ndarray x, ndarray w, Py_ssize_t pad, Py_ssize_t stride, int way,
    ndarray dx, ndarray dw, ndarray db, ndarray room, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Product s
    cdef Sizes sizes = _backward_sizes(x, w, pad, stride, way)
    cdef Py_ssize_t f
    cdef Watch watch
    _product_of(x, w, pad, stride, &watch, &s)
    cdef const floating *dout0 = <const floating *>data(dout, itemsize, s.N * s.F * s.P)
    cdef const floating *x0 = <const floating *>data(x, itemsize, s.N * s.C * s.H * s.W)
    cdef const floating *w0 = <const floating *>data(w, itemsize, s.F * s.K)
    cdef floating *dx0 = <floating *>data(dx, itemsize, s.N * s.C * s.H * s.W)
    cdef floating *dw0 = <floating *>data(dw, itemsize, s.F * s.K)
    cdef floating *db0 = <floating *>data(db, itemsize, s.F)
    sizes.offsets *= 1 + num_threads
    cdef Py_ssize_t *offset = <Py_ssize_t *>lined(room, _bytes(&sizes, itemsize, num_threads))
    cdef floating *shared = <floating *>(offset + lined_up(sizes.offsets))
    cdef floating *threads = shared + lined_up(sizes.shared)
    begin(&watch, num_threads)
    with nogil:
        for f in prange(s.F, schedule="static", num_threads=num_threads):
            if stopped_at(&watch, f):
                continue
            db0[f] = <floating>_sum_filter(dout0, &s, f)
        _backward_data(dout0, w0, &s, way, dx0, shared, offset, threads, num_threads)
        _backward_weights(dout0, x0, &s, dw0, shared, offset, threads, num_threads)
    return finish(&watch)


def backward(ndarray dout not None, ndarray x not None, ndarray w not None, Py_ssize_t pad,
             Py_ssize_t stride, int way, ndarray dx not None, ndarray dw not None,
             ndarray db not None, ndarray scratch not None, int num_threads):
    """Gradients of forward with respect to x, w and b."""
    if single(x):
        _backward(<float>0, dout, x, w, pad, stride, way, dx, dw, db, scratch, num_threads)
    else:
        _backward(<double>0, dout, x, w, pad, stride, way, dx, dw, db, scratch, num_threads)


#: The ways to do a product, by name.
ALGORITHMS = {"auto": AUTO, "direct": DIRECT, "winograd": WINOGRAD}
