"""Convolution at stride 1 with filters 3 or 5 rows tall, and its dx, in half the multiplications or
three fifths of them: float32. Written for 3 rows; of filters 5 rows tall a strip is two rows.

    task: a block of strips, four rows of outputs each
      for each chunk of channels
        a channel at a time: frame, then each strip's six rows become six others (_winograd.h),
        which go to six frames                                 (first-level cache)
        for each of the six: tiles, as of a filter one row tall, into sums
      the six sums of a strip become its four rows of outputs

The sums of a block stay in the caches; they and the frames are some PIXELS times 6 (F + chunk)
numbers for a thread. The transformed filters are twice or 1.2 times what the filters are.
"""
from cython.parallel cimport prange, threadid
from libc.string cimport memset

from ._frames cimport (
    Cut, Phase, Product, RUNS, Run, copy_frame, cut_product, list_runs, next_phase, place_offsets,
)
from ._interrupt cimport stopped
from ._product cimport (
    Sizes, block_tiles, lined_up, packing_pays, panels_size, rectify, split_filters, vectors_of,
)
from ._tile cimport DEPTH, FB_BYTES, Split, first_row

cdef extern from "_winograd.h" nogil:
    void fb_winograd_filter(const float *w, Py_ssize_t line, Py_ssize_t tall, double *u)
    void fb_winograd_input(const float *x, Py_ssize_t pitch, Py_ssize_t count, float *v,
                           Py_ssize_t distance)
    float fb_winograd_output(const float *m, Py_ssize_t distance, Py_ssize_t count, float bias,
                             Py_ssize_t strip, Py_ssize_t rows, float *out, Py_ssize_t line)

cdef enum:
    SIX = 6         # rows under a strip: as many products
    PIXELS = 128    # pixels of sums in a block, about: a row of each of its strips
    FEWEST = 16     # channels or filters that pay for the transforms


cdef struct Strips:
    # How a product is cut: into blocks of rows of strips.
    Product flat      # of the transformed rows: filters one row tall, the block's sums as its out
    Cut cut           # of that
    Cut rows          # of the images: a frame of one channel
    Py_ssize_t sums   # numbers of one of the six sums
    Sizes sizes


cdef inline bint applies(const Product *s) noexcept nogil:
    return (s.kh == 3 or s.kh == 5) and s.stride == 1 and s.step == 1


cdef inline Py_ssize_t strip_rows(const Product *s) noexcept nogil:
    """Rows of outputs of a strip."""
    return SIX + 1 - s.kh


cdef inline bint pays(const Product *s) noexcept nogil:
    """Whether the transforms cost less than they save."""
    return applies(s) and s.C >= FEWEST and s.F >= FEWEST and s.OH >= strip_rows(s)


cdef inline Strips cut_strips(const Product *s) noexcept nogil:
    cdef Strips strips
    cdef Py_ssize_t W = FB_BYTES // sizeof(float), strip = strip_rows(s), depth
    cdef Product flat = s[0]
    flat.H = flat.OH = (s.OH + strip - 1) // strip
    flat.kh = flat.tall = 1
    flat.top = 0
    flat.turned = False   # the offsets' order: the filters are turned when they are packed
    flat.P = flat.OH * flat.OW
    flat.K = s.C * s.kw
    # Short sums, since the transform of the sums magnifies their rounding errors.
    strips.cut = cut_product(&flat, PIXELS, max(<Py_ssize_t>1, DEPTH // (s.kh - 1) // s.kw),
                             packing_pays(s, W), W)
    strips.rows = strips.cut
    strips.rows.lines *= strip
    strips.rows.plane = (strips.rows.lines + s.kh - 1) * strips.rows.pitch
    strips.rows.size = strips.rows.plane + 2 * W
    flat.out_H = 1
    flat.out_W = lined_up(strips.cut.images * strips.cut.lines * strips.cut.columns)
    strips.flat = flat
    strips.sums = flat.F * flat.out_W + W
    depth = strips.cut.chunk * s.kw
    strips.sizes.shared = split_filters(s).rows * (SIX * flat.K + 2)
    strips.sizes.offsets = 2 * depth
    strips.sizes.thread = lined_up(
        strips.rows.size + SIX * (strips.cut.size + strips.sums)
        + panels_size(&flat, &strips.cut, depth, W))
    return strips


cdef inline void _pack_strips(
    const float *w, const Product *s, Py_ssize_t c, Py_ssize_t chunk, Py_ssize_t q, float *packed
) noexcept nogil:
    """A tile of filters and a chunk of channels from c on, transformed. Turned, they are read
    the other way round, and channels are w's filters."""
    cdef Split split = split_filters(s)
    cdef Py_ssize_t first = first_row(&split, q), last = first_row(&split, q + 1)
    cdef Py_ssize_t channels = min(chunk, s.C - c), k, j, r, t
    cdef Py_ssize_t places = s.kh * s.kw
    cdef Py_ssize_t row = places if s.turned else s.C * places
    cdef Py_ssize_t channel = s.F * places if s.turned else places
    cdef Py_ssize_t origin = places - 1 if s.turned else 0, step = -1 if s.turned else 1
    cdef double u[SIX]
    cdef const float *place
    cdef float *to
    packed += (split.rows * c + first * channels) * s.kw
    for k in range(channels):
        for j in range(s.kw):
            place = w + first * row + (c + k) * channel + origin + j * step
            for r in range(last - first):
                memset(u, 0, sizeof(u))
                if first + r < s.F:
                    fb_winograd_filter(place + r * row, s.kw * step, s.kh, u)
                to = packed + (k * s.kw + j) * (last - first) + r
                for t in range(SIX):
                    to[t * split.rows * s.C * s.kw] = <float>u[t]


cdef inline float _strips_task(
    const float *x, const float *packed, const float *bias, const float *zeros, const Product *s,
    const Strips *strips, const Py_ssize_t *offset, const Py_ssize_t *iota, Py_ssize_t block,
    float *out, float *rectified, float *mine
) noexcept nogil:
    """A block of out; NaN if not all of it is finite."""
    cdef Run runs[RUNS]
    cdef const Cut *cut = &strips.cut
    cdef Split split = split_filters(s)
    cdef Py_ssize_t n = block // (cut.bands * cut.strips) * cut.images
    cdef Py_ssize_t top = block // cut.strips % cut.bands * cut.lines
    cdef Py_ssize_t left = block % cut.strips * cut.columns
    cdef Py_ssize_t images = min(cut.images, s.N - n)
    cdef Py_ssize_t lines = min(cut.lines, strips.flat.OH - top)
    cdef Py_ssize_t columns = min(cut.columns, s.OW - left)
    cdef Py_ssize_t c = 0, strip = strip_rows(s), channels, i, k, y, t, f
    cdef float *frames = mine + strips.rows.size
    cdef float *sums = frames + SIX * cut.size
    cdef float *panels = sums + SIX * strips.sums
    cdef float finite = 0
    list_runs(cut, images, lines, columns, lines * columns, columns, runs)
    while c < s.C:
        if stopped(s.watch):
            return 0
        channels = min(cut.chunk, s.C - c)
        # In the order of the frames, since whole vectors run over into the next row.
        for i in range(images):
            for k in range(channels):
                copy_frame(x, s, &strips.rows, n + i, 1, c + k, 1, top * strip, lines * strip, left,
                           mine)
                for y in range(lines):
                    fb_winograd_input(mine + y * strip * cut.pitch, cut.pitch,
                                      columns + s.kw - 1,
                                      frames + i * cut.image + k * cut.plane + y * cut.pitch,
                                      cut.size)
        for t in range(SIX):
            block_tiles(<const float *>frames + t * cut.size, offset, iota, &strips.flat, cut, runs,
                        images * lines, 0, channels * s.kw, channels * s.kw,
                        packed + split.rows * s.kw * (t * s.C + c), zeros, c > 0, 0, split.tiles,
                        sums + t * strips.sums, panels)
        c += channels
    for f in range(s.F):
        for i in range(images):
            for y in range(lines):
                finite += fb_winograd_output(
                    sums + f * strips.flat.out_W + (i * lines + y) * columns, strips.sums, columns,
                    bias[f], strip, min(strip, s.OH - (top + y) * strip),
                    out + (((n + i) * s.F + f) * s.OH + (top + y) * strip) * s.OW + left, s.OW)
    if rectified != NULL:
        rectify(<const float *>out, s, n, images, top * strip, lines * strip, left, columns, 0, s.F,
                rectified)
    return finite


cdef inline bint winograd(
    const float *x, const float *w, const float *b, const Product *s, float *out,
    float *rectified, float *shared, Py_ssize_t *offset, float *threads, int num_threads
) noexcept nogil:
    """out, all of it; False if not all of it is finite. b: NULL for zeros; rectified: or NULL.

    An infinity or NaN in x spreads further than the filter's window does: then the direct way must
    tell where it belongs.
    """
    cdef Strips strips = cut_strips(s)
    cdef Py_ssize_t chunk = strips.cut.chunk, chunks = (s.C + chunk - 1) // chunk, task, f
    cdef Split split = split_filters(s)
    cdef float *bias = shared + SIX * split.rows * strips.flat.K
    cdef float *zeros = bias + split.rows
    cdef Py_ssize_t *iota = offset + chunk * s.kw
    cdef int infinite = 0
    cdef Phase phase
    for f in range(split.rows):
        bias[f] = b[f] if b != NULL and f < s.F else 0
        zeros[f] = 0
    for f in range(chunk * s.kw):
        iota[f] = vectors_of(s) * (FB_BYTES // sizeof(float)) * f
    phase.a = -1
    next_phase(&strips.flat, &phase)
    place_offsets(&strips.flat, &strips.cut, &phase, offset)
    for task in prange(chunks * split.tiles, schedule="static", num_threads=num_threads):
        if not stopped(s.watch):
            _pack_strips(w, s, task // split.tiles * chunk, chunk, task % split.tiles, shared)
    for task in prange(strips.cut.blocks, schedule="static", num_threads=num_threads):
        infinite += _strips_task(
            x, <const float *>shared, <const float *>bias, <const float *>zeros, s, &strips,
            <const Py_ssize_t *>offset, <const Py_ssize_t *>iota, task, out,
            rectified, threads + threadid() * strips.sizes.thread) != 0
    return infinite == 0
