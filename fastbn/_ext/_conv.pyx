"""Convolution of (N, C, H, W) by (F, C, kh, kw): implicit matrix products over patches of frames.

The matrix of patches (rows (c, i, j), K = C * kh * kw of them; columns the output pixels) is never
formed. A frame (_frames.pxd) is read in its place: the vectors of a tile are pixels under one
place of the filter. Where the rows of outputs do not fill vectors, pixels are packed side by side
into a panel first.

forward       out (F, pixels) = w (F, K) patches (K, pixels)
    task: a block of pixels (images, or a band of one)
      for each chunk of channels, DEPTH rows of patches or so
        copy them into a frame                                 (second-level cache)
        for each two vectors of pixels                         (first-level cache)
          for each MR filters: tile, straight into out         (packed filters: second level)

dx            the same of dout with the filters turned round, if the stride is 1. Else dx falls into
              stride x stride phases, each a product of dout with every stride-th place of the
              filters: every number of dx is written once, and nothing is added up in memory.

dw            dw (F, K) = sum over blocks of dout (F, pixels) patches' (pixels, K)
    task: a group of images x a chunk of channels
      for each block: copy its frame
        for each DF filters                                    (dout's rows: first-level cache)
          for each DX rows of patches: dot tile, vectors of pixels multiplied and added up
    then the groups' shares are added in order: how many depends on the shape alone
"""
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.string cimport memset
cimport numpy as cnp
from numpy cimport ndarray

from ._arrays cimport data, lined, single
from ._frames cimport (
    BLOCK, Cut, Phase, Product, RUNS, Run, copy_frame, cut_product, lanes, list_runs, next_phase,
    pack_filters, pack_rows, place_offsets,
)
from ._reduce cimport wide_sum
from ._tile cimport (
    DEPTH, DF, DX, FB_BYTES, MR, PIXELS_MAX, Split, THIN, TILE_MAX, WIDE, dot, first_row,
    split_rows, tile,
)

cdef enum:
    PACKING = 6    # a step of packing a panel costs as much as tiles for so many filters
    ROWS = 192     # rows of patches in a chunk of dw, about
    BLOCKS = 16    # blocks are made smaller rather than have fewer of them
    TASKS = 8      # the filters are parted rather than have fewer of them
    SHARES = 16    # tasks that dw is cut into, at least, if there are as many images


cdef inline Product _forward_product(
    Py_ssize_t N, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W, Py_ssize_t F, Py_ssize_t kh,
    Py_ssize_t kw, Py_ssize_t pad, Py_ssize_t stride
) noexcept nogil:
    cdef Product s
    s.N, s.C, s.H, s.W, s.F, s.kh, s.kw = N, C, H, W, F, kh, kw
    s.stride, s.top, s.left, s.turned = stride, pad, pad, False
    s.OH = (H + 2 * pad - kh) // stride + 1
    s.OW = (W + 2 * pad - kw) // stride + 1
    if kh == 1 and kw == 1 and stride == 1 and pad == 0:  # rows run on into each other
        s.W, s.H = H * W, 1
        s.OW, s.OH = s.W, 1
    s.out_H, s.out_W, s.step, s.row, s.column = s.OH, s.OW, 1, 0, 0
    s.tall, s.wide = kh, kw
    s.P = s.OH * s.OW
    s.K = C * kh * kw
    return s


cdef inline Product _turned_product(const Product *s) noexcept nogil:
    """dx out of dout. Of its rows m, padding included, row m * stride + a is phase a's row m; the
    grid begins with the first m that is inside for any a."""
    cdef Product d
    cdef Py_ssize_t above = max(<Py_ssize_t>0, s.top - min(s.stride, s.kh) + s.stride) // s.stride
    cdef Py_ssize_t before = max(<Py_ssize_t>0, s.left - min(s.stride, s.kw) + s.stride) // s.stride
    d.N, d.C, d.H, d.W, d.F, d.kh, d.kw = s.N, s.F, s.OH, s.OW, s.C, s.kh, s.kw
    d.stride, d.step, d.turned = 1, s.stride, True
    d.tall = (s.kh + s.stride - 1) // s.stride
    d.wide = (s.kw + s.stride - 1) // s.stride
    d.top = d.tall - 1 - above
    d.left = d.wide - 1 - before
    d.out_H, d.out_W = s.H, s.W
    d.row = above * s.stride - s.top
    d.column = before * s.stride - s.left
    d.OH = (s.H - 1 + s.top) // s.stride + 1 - above
    d.OW = (s.W - 1 + s.left) // s.stride + 1 - before
    d.P = d.OH * d.OW
    d.K = d.C * d.kh * d.kw
    return d


cdef inline Cut _cut(const Product *s, Py_ssize_t W) noexcept nogil:
    cdef Py_ssize_t vectors = (s.OW + W - 1) // W * W
    cdef Py_ssize_t block = min(<Py_ssize_t>BLOCK, s.N * s.P // BLOCKS // 32 * 32)
    return cut_product(s, max(<Py_ssize_t>BLOCK // 4, block),
                       max(<Py_ssize_t>1, DEPTH // (s.tall * s.wide)),
                       vectors * s.F > s.OW * (s.F + PACKING), W)


cdef inline Py_ssize_t _group(const Product *s) noexcept nogil:
    """Vectors of pixels in a tile."""
    return WIDE if s.F <= THIN else 2


cdef inline Split _split(const Product *s) noexcept nogil:
    """The filters' tiles."""
    cdef Split split = split_rows(s.F)
    if s.F <= THIN:
        split.tiles, split.rows, split.least, split.more = 1, THIN, 0, 0
    return split


cdef inline Py_ssize_t _panel_runs(
    const Run *rows, Py_ssize_t count, Py_ssize_t pixel, Py_ssize_t pixels, Py_ssize_t step,
    Run *runs
) noexcept nogil:
    """Of the block's pixels from number `pixel` on, the runs in a packed panel."""
    cdef Py_ssize_t r = pixel // rows[0].length, x = pixel % rows[0].length
    cdef Py_ssize_t found = 0, filled = 0
    while filled < pixels and r < count:
        runs[found].pos = rows[r].pos + x
        runs[found].dest = rows[r].dest + x * step
        runs[found].length = min(pixels - filled, rows[r].length - x)
        runs[found].skip = 0
        filled += runs[found].length
        found += 1
        x = 0
        r += 1
    return found


cdef inline Py_ssize_t _vector_runs(
    const Run *rows, Py_ssize_t count, Py_ssize_t vector, Py_ssize_t vectors, Py_ssize_t W,
    Py_ssize_t step, Run *runs
) noexcept nogil:
    """Some vectors, from number `vector` on: each a part of a row, a row's last one at its end."""
    cdef Py_ssize_t across = (rows[0].length + W - 1) // W, found = 0, last
    cdef Py_ssize_t r = vector // across, x = vector % across * W
    while found < vectors and r < count:
        last = min(x, max(<Py_ssize_t>0, rows[0].length - W))
        runs[found].pos = rows[r].pos + last
        runs[found].dest = rows[r].dest + last * step
        runs[found].length = min(W, rows[0].length)
        runs[found].skip = x - last
        found += 1
        x += W
        if x >= rows[0].length:
            x = 0
            r += 1
    return found


cdef inline bint _straight(
    const Run *runs, Py_ssize_t count, bint packed, bint adding, Py_ssize_t W, Py_ssize_t step
) noexcept nogil:
    """Whether tiles can go straight to out: whole vectors, none of them added to twice."""
    cdef Py_ssize_t r, filled = 0
    if step != 1:
        return False
    for r in range(count):
        if packed and runs[r].dest != runs[0].dest + filled:
            return False
        if not packed and (runs[r].length < W or adding and runs[r].skip):
            return False
        filled += runs[r].length
    return filled % W == 0


cdef void _tiles(
    const floating *frame, const Py_ssize_t *offset, const Py_ssize_t *iota, const Product *s,
    const Cut *cut, const Run *rows, Py_ssize_t count, Py_ssize_t depth, const floating *packed,
    const floating *start, bint adding, Py_ssize_t tile_first, Py_ssize_t tile_last,
    floating *out, floating *panel
) noexcept nogil:
    """A block of out, of `count` rows of outputs, one chunk of channels and some tiles of filters.

    start: what the sums begin with: the biases, or zeros when adding to out.
    """
    cdef floating whole[TILE_MAX]
    cdef Run runs[PIXELS_MAX]
    cdef const floating *b[WIDE]
    cdef floating *c[WIDE]
    cdef Py_ssize_t W = lanes(frame), width = rows[0].length
    cdef Py_ssize_t vectors = (
        (count * width + W - 1) // W if cut.packed else count * ((width + W - 1) // W))
    cdef Py_ssize_t group = _group(s), vector = 0, found, filled, here, last, q, f, i, r, t, v
    cdef const Py_ssize_t *step = iota if cut.packed else offset
    cdef Py_ssize_t plane = s.out_H * s.out_W
    cdef floating *to
    cdef bint straight
    cdef Split split = _split(s)
    while vector < vectors:
        # A thin tile has all its vectors, if in vain.
        here = group if group == WIDE else min(group, vectors - vector)
        if cut.packed:
            found = _panel_runs(rows, count, vector * W, group * W, s.step, runs)
            pack_rows(frame, offset, depth, runs, found, group * W, panel)
            for v in range(group):
                b[v] = panel + v * W
        else:
            found = _vector_runs(rows, count, vector, group, W, s.step, runs)
            for v in range(group):
                b[v] = frame + runs[min(v, found - 1)].pos
        straight = vectors - vector >= here and _straight(runs, found, cut.packed, adding, W,
                                                          s.step)
        for q in range(tile_first, tile_last):
            f = first_row(&split, q)
            last = first_row(&split, q + 1)
            if straight and last <= s.F:
                for v in range(here):
                    c[v] = out + f * plane + (
                        runs[0].dest + v * W if cut.packed else runs[v].dest)
                tile(last - f, <int>here, depth, packed + f * depth, <const floating *const *>b, step,
                     <const floating *>NULL if adding else start + f, <floating *const *>c, plane)
                continue
            for v in range(here):
                c[v] = whole + v * W
            tile(last - f, <int>here, depth, packed + f * depth, <const floating *const *>b, step,
                 start if adding else start + f, <floating *const *>c, group * W)
            filled = 0
            for r in range(found):
                for i in range(min(last, s.F) - f):
                    to = out + runs[r].dest + (f + i) * plane
                    if adding:
                        for t in range(runs[r].skip, runs[r].length):
                            to[t * s.step] += whole[i * group * W + filled + t]
                    else:
                        for t in range(runs[r].length):
                            to[t * s.step] = whole[i * group * W + filled + t]
                filled += runs[r].length if cut.packed else W
        vector += group


cdef void _product_task(
    const floating *x, const floating *packed, const floating *bias, const Product *s,
    const Cut *cut, const Py_ssize_t *offset, const Py_ssize_t *iota, Py_ssize_t block,
    Py_ssize_t part, Py_ssize_t parts, floating *out, floating *mine
) noexcept nogil:
    """A part of the filters of a block of out. packed: w in tiles, chunk of channels by chunk."""
    cdef floating zero[MR]
    cdef Run rows[RUNS]
    cdef Py_ssize_t n = block // (cut.bands * cut.strips) * cut.images
    cdef Py_ssize_t top = block // cut.strips % cut.bands * cut.lines
    cdef Py_ssize_t left = block % cut.strips * cut.columns
    cdef Py_ssize_t images = min(cut.images, s.N - n), lines = min(cut.lines, s.OH - top)
    cdef Py_ssize_t count, c = 0, channels, places
    cdef floating *panel = mine + cut.size
    cdef Split split = _split(s)
    cdef Phase phase
    for c in range(MR):
        zero[c] = 0
    c = 0
    while c < s.C:
        channels = min(cut.chunk, s.C - c)
        copy_frame(x, s, cut, n, images, c, channels, top, lines, left, mine)
        phase.a = -1
        while next_phase(s, &phase):
            count = list_runs(s, cut, &phase, images, top, lines, left, rows)
            places = phase.kh * phase.kw
            _tiles(<const floating *>mine, offset + cut.chunk * phase.before, iota, s, cut, rows,
                   count, channels * places,
                   packed + split.rows * (s.C * phase.before + c * places),
                   bias if c == 0 else <const floating *>zero, c > 0,
                   split.tiles * part // parts, split.tiles * (part + 1) // parts,
                   out + n * s.F * s.out_H * s.out_W, panel)
        c += channels


cdef void _pack_task(
    const floating *w, const Product *s, Py_ssize_t c, Py_ssize_t chunk, Py_ssize_t q,
    floating *packed
) noexcept nogil:
    """A tile of filters and a chunk of channels from c on. Turned, channels are w's filters."""
    cdef Split split = _split(s)
    cdef Py_ssize_t f = first_row(&split, q), last = first_row(&split, q + 1)
    cdef Py_ssize_t channels = min(chunk, s.C - c), places
    cdef Py_ssize_t row = s.kh * s.kw if s.turned else s.K
    cdef Py_ssize_t channel = s.F * s.kh * s.kw if s.turned else s.kh * s.kw
    cdef Phase phase
    phase.a = -1
    while next_phase(s, &phase):
        places = phase.kh * phase.kw
        pack_filters(w + f * row + c * channel + phase.a * s.kw + phase.b, min(last, s.F) - f, row,
                     channels, channel, phase.kh, s.step * s.kw, phase.kw, s.step, last - f,
                     packed + split.rows * (s.C * phase.before + c * places)
                     + f * channels * places)


cdef struct Sizes:
    # Of a product's scratch: the packed filters and biases, the offsets, what each thread has.
    Py_ssize_t shared, offsets, thread


cdef inline Sizes _sizes(const Product *s, Py_ssize_t W) noexcept nogil:
    cdef Cut cut = _cut(s, W)
    cdef Sizes sizes
    sizes.shared = _split(s).rows * (s.K + 1)
    sizes.offsets = 2 * cut.chunk * s.kh * s.kw
    sizes.thread = _line(cut.size + (cut.chunk * s.tall * s.wide * _group(s) + 1) * W)
    return sizes


cdef inline Py_ssize_t _line(Py_ssize_t numbers) noexcept nogil:
    """Up to whole cache lines."""
    return (numbers + 15) // 16 * 16


cdef void _product(
    const floating *x, const floating *w, const floating *b, const Product *s, floating *out,
    floating *shared, Py_ssize_t *offset, floating *threads, int num_threads
) noexcept nogil:
    """out, all of it. b: NULL for zeros."""
    cdef Py_ssize_t W = lanes(x), task, f, chunks, parts = 1
    cdef Split split = _split(s)
    cdef Cut cut = _cut(s, W)
    cdef Py_ssize_t depth = cut.chunk * s.kh * s.kw, size = _sizes(s, W).thread
    cdef floating *bias = shared + split.rows * s.K
    cdef Py_ssize_t *iota = offset + depth
    cdef Phase phase
    for f in range(split.rows):
        bias[f] = b[f] if b != NULL and f < s.F else 0
    for f in range(depth):
        iota[f] = _group(s) * W * f
    phase.a = -1
    while next_phase(s, &phase):
        place_offsets(s, &cut, &phase, offset + cut.chunk * phase.before)
    chunks = (s.C + cut.chunk - 1) // cut.chunk
    for task in prange(chunks * split.tiles, schedule="static", num_threads=num_threads):
        _pack_task(w, s, task // split.tiles * cut.chunk, cut.chunk, task % split.tiles, shared)
    if cut.blocks < TASKS:
        parts = min(split.tiles, TASKS // cut.blocks)
    for task in prange(cut.blocks * parts, schedule="static", num_threads=num_threads):
        _product_task(x, <const floating *>shared, <const floating *>bias, s, &cut,
                      <const Py_ssize_t *>offset, <const Py_ssize_t *>iota, task // parts,
                      task % parts, parts, out, threads + threadid() * size)


cdef struct Weights:
    # How dw is cut.
    Cut cut
    Py_ssize_t chunks, shares   # tasks: chunks of channels x groups of images
    Py_ssize_t rows             # of patches in a chunk, up to whole dot tiles
    Py_ssize_t width            # of a panel: pixels of a block in whole vectors
    Py_ssize_t thread           # numbers of scratch for a thread


cdef inline Weights _weights(const Product *s, Py_ssize_t W) noexcept nogil:
    cdef Weights cuts
    cdef Py_ssize_t taps = s.kh * s.kw
    cdef Py_ssize_t chunks = max(<Py_ssize_t>1, (s.K + ROWS - 1) // ROWS)
    cdef Py_ssize_t chunk = max(<Py_ssize_t>1, (s.C + chunks - 1) // chunks)
    # Vectors that reach beyond a row would multiply what is there, a NaN perhaps, by zero.
    cuts.cut = cut_product(s, BLOCK, chunk, s.OW % W != 0, W)
    cuts.chunks = (s.C + chunk - 1) // chunk
    cuts.shares = min(s.N, (SHARES + cuts.chunks - 1) // cuts.chunks)
    cuts.rows = (chunk * taps + DX - 1) // DX * DX
    cuts.width = (cuts.cut.images * cuts.cut.lines * cuts.cut.columns + W - 1) // W * W
    cuts.thread = _line(cuts.cut.size) + cuts.width * DF
    if cuts.cut.packed:
        cuts.thread += cuts.rows * cuts.width + W
    cuts.thread = _line(cuts.thread)
    return cuts


cdef inline const floating *_some_dout(
    const floating *dout, const Product *s, const Run *rows, Py_ssize_t count, Py_ssize_t filters,
    Py_ssize_t width, Py_ssize_t *distance, floating *copied
) noexcept nogil:
    """The block's pixels of DF filters, zeros after the last pixel and filter: in place if whole."""
    cdef Py_ssize_t r, i, t, filled = 0
    cdef const floating *line
    cdef bint whole = filters == DF and count * rows[0].length == width
    for r in range(count):
        whole = whole and rows[r].dest == rows[0].dest + r * rows[0].length
    if whole:
        distance[0] = s.P
        return dout + rows[0].dest
    distance[0] = width
    for i in range(DF):
        filled = i * width
        if i < filters:
            for r in range(count):
                line = dout + rows[r].dest + i * s.P
                for t in range(rows[r].length):
                    copied[filled + t] = line[t]
                filled += rows[r].length
        for t in range(filled, (i + 1) * width):
            copied[t] = 0
    return copied


cdef void _dw_block(
    const floating *dout, const floating *frame, const Product *s, const Run *rows,
    Py_ssize_t count, const Py_ssize_t *offset, const Py_ssize_t *at, Py_ssize_t depth,
    Py_ssize_t width, floating *share, floating *copied
) noexcept nogil:
    """share (F, depth; its rows K apart) += dout patches', over a block."""
    cdef floating sums[DF * DX]
    cdef Py_ssize_t W = lanes(frame), f = 0, k, i, j, distance = 0
    cdef const floating *d
    while f < s.F:
        d = _some_dout(dout + f * s.P, s, rows, count, min(<Py_ssize_t>DF, s.F - f), width, &distance,
                       copied)
        k = 0
        while k < depth:
            dot(width // W, d, distance, frame, offset + k, at, sums)
            if f + DF <= s.F and k + DX <= depth:
                for i in range(DF):
                    for j in range(DX):
                        share[(f + i) * s.K + k + j] += sums[i * DX + j]
            else:
                for i in range(min(<Py_ssize_t>DF, s.F - f)):
                    for j in range(min(<Py_ssize_t>DX, depth - k)):
                        share[(f + i) * s.K + k + j] += sums[i * DX + j]
            k += DX
        f += DF


cdef void _dw_task(
    const floating *dout, const floating *x, const Product *s, const Weights *cuts,
    const Py_ssize_t *offset, Py_ssize_t n, Py_ssize_t stop, Py_ssize_t c, floating *share,
    floating *mine, Py_ssize_t *own
) noexcept nogil:
    """Share (F, K) of images n to stop, at the places of a chunk of channels from c on."""
    cdef Run rows[RUNS]
    cdef Py_ssize_t at[RUNS]
    cdef Cut cut = cuts.cut
    cdef Py_ssize_t W = lanes(x), channels = min(cut.chunk, s.C - c), taps = s.kh * s.kw
    cdef Py_ssize_t images, top, left, lines, count, width, i, t, block
    cdef floating *copied = mine + _line(cut.size)
    cdef floating *panel = copied + cuts.width * DF
    cdef const floating *frame
    cdef Phase phase
    phase.a = -1
    next_phase(s, &phase)
    share += c * taps
    for i in range(s.F):
        memset(share + i * s.K, 0, channels * taps * sizeof(floating))
    while n < stop:
        images = min(cut.images, stop - n)
        for block in range(cut.bands * cut.strips):
            top = block // cut.strips * cut.lines
            left = block % cut.strips * cut.columns
            lines = min(cut.lines, s.OH - top)
            count = list_runs(s, &cut, &phase, images, top, lines, left, rows)
            width = (count * rows[0].length + W - 1) // W * W
            copy_frame(x, s, &cut, n, images, c, channels, top, lines, left, mine)
            frame = mine
            if cut.packed:
                pack_rows(frame, offset, channels * taps, rows, count, width, panel)
                frame = panel
            for t in range(width // W):
                at[t] = t * W if cut.packed else (
                    rows[t * W // rows[0].length].pos + t * W % rows[0].length)
            # Rows of patches that only fill up the last tile are read in vain.
            for i in range(cuts.rows):
                own[i] = 0 if i >= channels * taps else i * width if cut.packed else offset[i]
            _dw_block(dout + n * s.F * s.P, frame, s, rows, count, own, at,
                      channels * taps, width, share, copied)
        n += images


cdef void _add_shares(
    floating *shares, Py_ssize_t count, Py_ssize_t size, Py_ssize_t first, Py_ssize_t last,
    floating *dw
) noexcept nogil:
    """Numbers first to last of dw: the sum of the shares, in order."""
    cdef Py_ssize_t g, k
    for k in range(first, last):
        dw[k] = shares[k]
    for g in range(1, count):
        for k in range(first, last):
            dw[k] += shares[g * size + k]


cdef double _sum_filter(const floating *dout, const Product *s, Py_ssize_t f) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t n
    for n in range(s.N):
        total += wide_sum(dout + (n * s.F + f) * s.P, s.P)
    return total


cdef int _product_of(
    ndarray x, ndarray w, Py_ssize_t pad, Py_ssize_t stride, Product *s
) except -1:
    s[0] = _forward_product(
        cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(x, 2), cnp.PyArray_DIM(x, 3),
        cnp.PyArray_DIM(w, 0), cnp.PyArray_DIM(w, 2), cnp.PyArray_DIM(w, 3), pad, stride)
    return 0


cdef Sizes _forward_sizes(ndarray x, ndarray w, Py_ssize_t pad, Py_ssize_t stride):
    cdef Product s
    _product_of(x, w, pad, stride, &s)
    return _sizes(&s, FB_BYTES // cnp.PyArray_ITEMSIZE(x))


cdef Sizes _backward_sizes(ndarray x, ndarray w, Py_ssize_t pad, Py_ssize_t stride):
    cdef Product s, d
    cdef Sizes most, one
    cdef Py_ssize_t W = FB_BYTES // cnp.PyArray_ITEMSIZE(x)
    cdef Weights cuts
    _product_of(x, w, pad, stride, &s)
    cuts = _weights(&s, W)
    most.shared = cuts.shares * s.F * s.K if cuts.shares > 1 else 0
    most.offsets = cuts.rows
    most.thread = cuts.thread
    d = _turned_product(&s)
    if d.OH > 0 and d.OW > 0:
        one = _sizes(&d, W)
        most.shared = max(most.shared, one.shared)
        most.offsets = max(most.offsets, one.offsets)
        most.thread = max(most.thread, one.thread)
    return most


cdef Py_ssize_t _bytes(const Sizes *sizes, Py_ssize_t itemsize, int num_threads) noexcept nogil:
    return 64 + _line(sizes.offsets) * <Py_ssize_t>sizeof(Py_ssize_t) + itemsize * (
        _line(sizes.shared) + num_threads * sizes.thread)


def forward_scratch(ndarray x not None, ndarray w not None, Py_ssize_t pad, Py_ssize_t stride,
                    int num_threads):
    """Bytes of scratch for forward."""
    cdef Sizes sizes = _forward_sizes(x, w, pad, stride)
    return _bytes(&sizes, cnp.PyArray_ITEMSIZE(x), num_threads)


def backward_scratch(ndarray x not None, ndarray w not None, Py_ssize_t pad, Py_ssize_t stride,
                     int num_threads):
    """Bytes of scratch for backward."""
    cdef Sizes sizes = _backward_sizes(x, w, pad, stride)
    sizes.offsets *= 1 + num_threads
    return _bytes(&sizes, cnp.PyArray_ITEMSIZE(x), num_threads)


cdef int _forward(
    floating _, ndarray x, ndarray w, ndarray b, Py_ssize_t pad, Py_ssize_t stride, ndarray out,
    ndarray room, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Product s
    cdef Sizes sizes = _forward_sizes(x, w, pad, stride)
    _product_of(x, w, pad, stride, &s)
    cdef const floating *x0 = <const floating *>data(x, itemsize, s.N * s.C * s.H * s.W)
    cdef const floating *w0 = <const floating *>data(w, itemsize, s.F * s.K)
    cdef const floating *b0 = <const floating *>data(b, itemsize, s.F)
    cdef floating *out0 = <floating *>data(out, itemsize, s.N * s.F * s.P)
    cdef Py_ssize_t *offset = <Py_ssize_t *>lined(room, _bytes(&sizes, itemsize, num_threads))
    cdef floating *shared = <floating *>(offset + _line(sizes.offsets))
    with nogil:
        _product(x0, w0, b0, &s, out0, shared, offset, shared + _line(sizes.shared), num_threads)
    return 0


def forward(ndarray x not None, ndarray w not None, ndarray b not None, Py_ssize_t pad,
            Py_ssize_t stride, ndarray out not None, ndarray scratch not None, int num_threads):
    """out[n, f] = sum over c of x[n, c] * w[f, c] (cross-correlated) + b[f]"""
    if single(x):
        _forward(<float>0, x, w, b, pad, stride, out, scratch, num_threads)
    else:
        _forward(<double>0, x, w, b, pad, stride, out, scratch, num_threads)


cdef void _backward_data(
    const floating *dout, const floating *w, const Product *s, floating *dx, floating *shared,
    Py_ssize_t *offset, floating *threads, int num_threads
) noexcept nogil:
    cdef Product d = _turned_product(s)
    if s.stride > min(s.kh, s.kw):  # some numbers of x are under no place of any filter
        memset(dx, 0, s.N * s.C * s.H * s.W * sizeof(floating))
    if d.OH > 0 and d.OW > 0:
        _product(dout, w, <const floating *>NULL, &d, dx, shared, offset, threads, num_threads)


cdef void _backward_weights(
    const floating *dout, const floating *x, const Product *s, floating *dw, floating *shared,
    Py_ssize_t *offset, floating *threads, int num_threads
) noexcept nogil:
    cdef Weights cuts = _weights(s, lanes(x))
    cdef Py_ssize_t task, group, size = s.F * s.K
    cdef floating *shares = shared if cuts.shares > 1 else dw
    cdef Phase phase
    phase.a = -1
    next_phase(s, &phase)
    place_offsets(s, &cuts.cut, &phase, offset)
    for task in prange(cuts.shares * cuts.chunks, schedule="static", num_threads=num_threads):
        group = task // cuts.chunks
        _dw_task(dout, x, s, &cuts, <const Py_ssize_t *>offset, s.N * group // cuts.shares,
                 s.N * (group + 1) // cuts.shares, task % cuts.chunks * cuts.cut.chunk,
                 shares + group * size, threads + threadid() * cuts.thread,
                 offset + (1 + threadid()) * cuts.rows)
    if cuts.shares > 1:
        for task in prange(SHARES, schedule="static", num_threads=num_threads):
            _add_shares(shares, cuts.shares, size, size * task // SHARES,
                        size * (task + 1) // SHARES, dw)


cdef int _backward(
    floating _, ndarray dout, ndarray x, ndarray w, Py_ssize_t pad, Py_ssize_t stride, ndarray dx,
    ndarray dw, ndarray db, ndarray room, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Product s
    cdef Sizes sizes = _backward_sizes(x, w, pad, stride)
    cdef Py_ssize_t f
    _product_of(x, w, pad, stride, &s)
    cdef const floating *dout0 = <const floating *>data(dout, itemsize, s.N * s.F * s.P)
    cdef const floating *x0 = <const floating *>data(x, itemsize, s.N * s.C * s.H * s.W)
    cdef const floating *w0 = <const floating *>data(w, itemsize, s.F * s.K)
    cdef floating *dx0 = <floating *>data(dx, itemsize, s.N * s.C * s.H * s.W)
    cdef floating *dw0 = <floating *>data(dw, itemsize, s.F * s.K)
    cdef floating *db0 = <floating *>data(db, itemsize, s.F)
    sizes.offsets *= 1 + num_threads
    cdef Py_ssize_t *offset = <Py_ssize_t *>lined(room, _bytes(&sizes, itemsize, num_threads))
    cdef floating *shared = <floating *>(offset + _line(sizes.offsets))
    cdef floating *threads = shared + _line(sizes.shared)
    with nogil:
        for f in prange(s.F, schedule="static", num_threads=num_threads):
            db0[f] = <floating>_sum_filter(dout0, &s, f)
        _backward_data(dout0, w0, &s, dx0, shared, offset, threads, num_threads)
        _backward_weights(dout0, x0, &s, dw0, shared, offset, threads, num_threads)
    return 0


def backward(ndarray dout not None, ndarray x not None, ndarray w not None, Py_ssize_t pad,
             Py_ssize_t stride, ndarray dx not None, ndarray dw not None, ndarray db not None,
             ndarray scratch not None, int num_threads):
    """Gradients of forward with respect to x, w and b."""
    if single(x):
        _backward(<float>0, dout, x, w, pad, stride, dx, dw, db, scratch, num_threads)
    else:
        _backward(<double>0, dout, x, w, pad, stride, dx, dw, db, scratch, num_threads)
