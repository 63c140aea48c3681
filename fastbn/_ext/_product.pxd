"""The product under a convolution and its dx: tiles over blocks of pixels (_frames.pxd).

    task: a block of pixels, and if there are few blocks a part of the filters
      for each chunk of channels, DEPTH rows of patches or so
        copy them into a frame                                 (second-level cache)
        for each phase of dx
          for each FILTERS bytes of packed filters             (second-level cache)
            for each two vectors of pixels                     (first-level cache)
              for each MR of these filters: tile, straight into out

The phases of dx, which lie between each other in out, go to sheets, one each, which are collected
into out at the end of the task.
"""
from cython cimport floating
from cython.parallel cimport prange, threadid

from ._frames cimport (
    BLOCK, Cut, Phase, Product, RUNS, Run, all_inside, copy_frame, cut_product, lanes, list_runs,
    next_phase, pack_filters, pack_rows, place_offsets,
)
from ._interrupt cimport Watch, stopped
from ._tile cimport (
    DEPTH, FB_BYTES, MR, PIXELS_MAX, Split, THIN, TILE_MAX, WIDE, collect, first_row, split_rows,
    tile,
)

cdef enum:
    FILTERS = 3 << 16  # bytes of packed filters that share a second-level cache with a frame
    PACKING = 6    # a step of packing a panel costs as much as tiles for so many filters
    BLOCKS = 16    # blocks are made smaller rather than have fewer of them
    SHEETS = 1 << 16   # numbers of all sheets, about: half of a second-level cache
    TASKS = 8      # the filters are parted rather than have fewer of them


cdef inline Product forward_product(
    Py_ssize_t N, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W, Py_ssize_t F, Py_ssize_t kh,
    Py_ssize_t kw, Py_ssize_t pad, Py_ssize_t stride, Watch *watch
) noexcept nogil:
    cdef Product s
    s.watch = watch
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


cdef inline Product turned_product(const Product *s) noexcept nogil:
    """dx out of dout. Of its rows m, padding included, row m * stride + a is phase a's row m; the
    grid begins with the first m that is inside for any a."""
    cdef Product d = s[0]
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


cdef inline bint packing_pays(const Product *s, Py_ssize_t W) noexcept nogil:
    """Whether packing pixels side by side costs less than vectors that are not full."""
    return (s.OW + W - 1) // W * W * s.F > s.OW * (s.F + PACKING)


cdef inline Py_ssize_t sheets_of(const Product *s) noexcept nogil:
    """Phases of dx that have places of the filters."""
    return min(s.step, s.kh) * min(s.step, s.kw)


cdef inline Py_ssize_t sheet_line(const Product *s, const Cut *cut) noexcept nogil:
    """Numbers of a filter in a sheet."""
    return lined_up(cut.images * cut.lines * cut.columns)


cdef inline Cut cut_direct(const Product *s, Py_ssize_t W) noexcept nogil:
    cdef Py_ssize_t block = min(<Py_ssize_t>BLOCK, s.N * s.P // BLOCKS // 32 * 32)
    if s.step > 1:
        block = min(block, SHEETS // (sheets_of(s) * s.F))
    return cut_product(s, max(<Py_ssize_t>BLOCK // 4, block),
                       max(<Py_ssize_t>1, DEPTH // (s.tall * s.wide)),
                       packing_pays(s, W), W)


cdef inline Py_ssize_t vectors_of(const Product *s) noexcept nogil:
    """Vectors of pixels in a tile."""
    return WIDE if s.F <= THIN else 2


cdef inline Split split_filters(const Product *s) noexcept nogil:
    """The filters' tiles."""
    cdef Split split = split_rows(s.F)
    if s.F <= THIN:
        split.tiles, split.rows, split.least, split.more = 1, THIN, 0, 0
    return split


cdef inline Py_ssize_t _panel_runs(
    const Run *rows, Py_ssize_t count, Py_ssize_t pixel, Py_ssize_t pixels, Run *runs
) noexcept nogil:
    """Of the block's pixels from number `pixel` on, the runs in a packed panel."""
    cdef Py_ssize_t r = pixel // rows[0].length, x = pixel % rows[0].length
    cdef Py_ssize_t found = 0, filled = 0
    while filled < pixels and r < count:
        runs[found].pos = rows[r].pos + x
        runs[found].dest = rows[r].dest + x
        runs[found].length = min(pixels - filled, rows[r].length - x)
        runs[found].skip = 0
        filled += runs[found].length
        found += 1
        x = 0
        r += 1
    return found


cdef inline Py_ssize_t _vector_runs(
    const Run *rows, Py_ssize_t count, Py_ssize_t vector, Py_ssize_t vectors, Py_ssize_t W,
    Run *runs
) noexcept nogil:
    """Some vectors, from number `vector` on: each a part of a row, a row's last one at its end."""
    cdef Py_ssize_t across = (rows[0].length + W - 1) // W, found = 0, last
    cdef Py_ssize_t r = vector // across, x = vector % across * W
    while found < vectors and r < count:
        last = min(x, max(<Py_ssize_t>0, rows[0].length - W))
        runs[found].pos = rows[r].pos + last
        runs[found].dest = rows[r].dest + last
        runs[found].length = min(W, rows[0].length)
        runs[found].skip = x - last
        found += 1
        x += W
        if x >= rows[0].length:
            x = 0
            r += 1
    return found


cdef inline bint _straight(
    const Run *runs, Py_ssize_t count, bint packed, bint adding, Py_ssize_t W
) noexcept nogil:
    """Whether tiles can go straight to out: whole vectors, none of them added to twice."""
    cdef Py_ssize_t r, filled = 0
    for r in range(count):
        if packed and runs[r].dest != runs[0].dest + filled:
            return False
        if not packed and (runs[r].length < W or adding and runs[r].skip):
            return False
        filled += runs[r].length
    return filled % W == 0


cdef inline void block_tiles(
    const floating *frame, const Py_ssize_t *offset, const Py_ssize_t *iota, const Product *s,
    const Cut *cut, const Run *rows, Py_ssize_t count, Py_ssize_t first, Py_ssize_t depth,
    Py_ssize_t full, const floating *packed, const floating *start, bint adding,
    Py_ssize_t tile_first, Py_ssize_t tile_last, floating *out, floating *panels
) noexcept nogil:
    """A block of out, of `count` rows of outputs, by some tiles of filters.

    Of a chunk of channels with `full` places, those from `first` on, `depth` of them.
    start: what the sums begin with: the biases, or zeros when adding to out.
    """
    cdef floating whole[TILE_MAX]
    cdef Run runs[PIXELS_MAX]
    cdef const floating *b[WIDE]
    cdef floating *c[WIDE]
    cdef Py_ssize_t W = lanes(frame), width = rows[0].length, group = vectors_of(s)
    cdef Py_ssize_t vectors = (
        (count * width + W - 1) // W if cut.packed else count * ((width + W - 1) // W))
    cdef Py_ssize_t some = max(
        <Py_ssize_t>1, FILTERS // (MR * depth * <Py_ssize_t>sizeof(floating)))
    cdef Py_ssize_t tile_stop, vector, found, filled, here, last, q, f, i, r, t, v
    cdef const Py_ssize_t *step = iota if cut.packed else offset + first
    cdef Py_ssize_t plane = s.out_H * s.out_W
    cdef const floating *a
    cdef floating *panel
    cdef floating *to
    cdef bint straight, fresh = True
    cdef Split split = split_filters(s)
    while tile_first < tile_last:
        if stopped(s.watch):
            return
        tile_stop = min(tile_last, tile_first + some)
        vector = 0
        while vector < vectors:
            # A thin tile has all its vectors, if in vain.
            here = group if group == WIDE else min(group, vectors - vector)
            if cut.packed:
                found = _panel_runs(rows, count, vector * W, group * W, runs)
                panel = panels + vector * W * depth
                if fresh:
                    pack_rows(frame, offset + first, depth, runs, found, group * W, panel)
                for v in range(group):
                    b[v] = panel + v * W
            else:
                found = _vector_runs(rows, count, vector, group, W, runs)
                for v in range(group):
                    b[v] = frame + runs[min(v, found - 1)].pos
            straight = vectors - vector >= here and _straight(runs, found, cut.packed, adding, W)
            for q in range(tile_first, tile_stop):
                f = first_row(&split, q)
                last = first_row(&split, q + 1)
                a = packed + f * full + first * (last - f)
                if straight and last <= s.F:
                    for v in range(here):
                        c[v] = out + f * plane + (
                            runs[0].dest + v * W if cut.packed else runs[v].dest)
                    tile(last - f, <int>here, depth, a, <const floating *const *>b, step,
                         <const floating *>NULL if adding else start + f, <floating *const *>c,
                         plane)
                    continue
                for v in range(here):
                    c[v] = whole + v * W
                tile(last - f, <int>here, depth, a, <const floating *const *>b, step,
                     start if adding else start + f, <floating *const *>c, group * W)
                filled = 0
                for r in range(found):
                    for i in range(min(last, s.F) - f):
                        to = out + runs[r].dest + (f + i) * plane
                        if adding:
                            for t in range(runs[r].skip, runs[r].length):
                                to[t] += whole[i * group * W + filled + t]
                        else:
                            for t in range(runs[r].length):
                                to[t] = whole[i * group * W + filled + t]
                    filled += runs[r].length if cut.packed else W
            vector += group
        fresh = False
        tile_first = tile_stop


cdef inline void rectify(
    const floating *out, const Product *s, Py_ssize_t n, Py_ssize_t images, Py_ssize_t top,
    Py_ssize_t lines, Py_ssize_t left, Py_ssize_t columns, Py_ssize_t f, Py_ssize_t stop,
    floating *rectified
) noexcept nogil:
    """rectified = max(out, 0) as the relu layer has it, on a block that is still in the cache: of
    the filters f to stop."""
    cdef Py_ssize_t i, k, y, t, first
    cdef const floating *row
    cdef floating *to
    lines = min(lines, s.OH - top)
    columns = min(columns, s.OW - left)
    for i in range(images):
        for k in range(f, stop):
            for y in range(top, top + lines):
                first = (((n + i) * s.F + k) * s.OH + y) * s.OW + left
                row = out + first
                to = rectified + first
                for t in range(columns):
                    to[t] = row[t] if (row[t] > 0) | (row[t] != row[t]) else 0


cdef inline void _collect_sheets(
    const floating *sheets, Py_ssize_t sheet, const Product *s, Py_ssize_t n, Py_ssize_t images,
    Py_ssize_t top, Py_ssize_t lines, Py_ssize_t left, Py_ssize_t columns, Py_ssize_t f,
    Py_ssize_t stop, floating *out
) noexcept nogil:
    """The block of out between the first and last row and column that its phases have there."""
    cdef Py_ssize_t wide = min(s.step, s.kw), origin = s.column + left * s.step
    cdef Py_ssize_t i, k, y, a, b, t, at, down, first, last
    cdef const floating *line
    cdef floating *to
    all_inside(origin, s.step, wide, s.out_W, columns, &first, &last)
    for i in range(images):
        for k in range(f, stop):
            for y in range(lines):
                for a in range(min(s.step, s.kh)):
                    down = s.row + a + (top + y) * s.step
                    if down < 0 or down >= s.out_H:
                        continue
                    line = sheets + (a * wide * s.F + k) * sheet + (i * lines + y) * columns
                    to = out + (((n + i) * s.F + k) * s.out_H + down) * s.out_W
                    collect(line + first, s.F * sheet, wide, last - first,
                            to + origin + first * s.step, s.step)
                    for at in range(columns - (last - first)):  # the ones around these
                        t = at if at < first else at + last - first
                        for b in range(wide):
                            if 0 <= origin + t * s.step + b < s.out_W:
                                to[origin + t * s.step + b] = line[b * s.F * sheet + t]


cdef inline void _product_task(
    const floating *x, const floating *packed, const floating *bias, const Product *s,
    const Cut *cut, const Py_ssize_t *offset, const Py_ssize_t *iota, Py_ssize_t block,
    Py_ssize_t part, Py_ssize_t parts, floating *out, floating *rectified, floating *mine
) noexcept nogil:
    """A part of the filters of a block of out. packed: w in tiles, chunk of channels by chunk."""
    cdef floating zero[MR]
    cdef Run rows[RUNS]
    cdef Py_ssize_t n = block // (cut.bands * cut.strips) * cut.images
    cdef Py_ssize_t top = block // cut.strips % cut.bands * cut.lines
    cdef Py_ssize_t left = block % cut.strips * cut.columns
    cdef Py_ssize_t images = min(cut.images, s.N - n), lines = min(cut.lines, s.OH - top)
    cdef Py_ssize_t columns = min(cut.columns, s.OW - left)
    cdef Py_ssize_t c = 0, sheet = 0, channels, full, piece, pieces, first, f, stop
    cdef bint adding
    cdef floating *sheets = mine + cut.size
    cdef floating *panels = sheets
    cdef floating *to = out + n * s.F * s.P + top * s.OW + left
    cdef Split split = split_filters(s)
    cdef Phase phase
    cdef Product flat = s[0]  # as the tiles see it
    for f in range(MR):
        zero[f] = 0
    f = first_row(&split, split.tiles * part // parts)
    stop = min(s.F, first_row(&split, split.tiles * (part + 1) // parts))
    if s.step == 1:
        list_runs(cut, images, lines, columns, s.F * s.P, s.OW, rows)
    else:
        flat.out_H, flat.out_W = 1, sheet_line(s, cut)
        sheet = flat.out_W
        panels += sheets_of(s) * s.F * sheet
        list_runs(cut, images, lines, columns, lines * columns, columns, rows)
    while c < s.C:
        channels = min(cut.chunk, s.C - c)
        copy_frame(x, s, cut, n, images, c, channels, top, lines, left, mine)
        phase.a = -1
        while next_phase(s, &phase):
            if stopped(s.watch):
                return
            if s.step > 1:
                to = sheets + (phase.a * min(s.step, s.kw) + phase.b) * s.F * sheet
            full = channels * phase.kh * phase.kw
            pieces = (full + DEPTH - 1) // DEPTH
            for piece in range(pieces):  # one, unless the filters are large
                first = full * piece // pieces
                adding = c > 0 or piece > 0
                block_tiles(<const floating *>mine, offset + cut.chunk * phase.before, iota, &flat,
                            cut, rows, images * lines, first,
                            full * (piece + 1) // pieces - first, full,
                            packed + split.rows * (
                                s.C * phase.before + c * phase.kh * phase.kw),
                            <const floating *>zero if adding else bias, adding,
                            split.tiles * part // parts, split.tiles * (part + 1) // parts, to,
                            panels)
        c += channels
    if s.step > 1:
        _collect_sheets(<const floating *>sheets, sheet, s, n, images, top, lines, left, columns, f,
                        stop, out)
    if rectified != NULL:
        rectify(<const floating *>out, s, n, images, top, lines, left, cut.columns, f, stop,
                rectified)


cdef inline void _pack_task(
    const floating *w, const Product *s, Py_ssize_t c, Py_ssize_t chunk, Py_ssize_t q,
    floating *packed
) noexcept nogil:
    """A tile of filters and a chunk of channels from c on. Turned, channels are w's filters."""
    cdef Split split = split_filters(s)
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
                     s.watch, packed + split.rows * (s.C * phase.before + c * places)
                     + f * channels * places)


cdef struct Sizes:
    # Of a product's scratch: the packed filters and biases, the offsets, what each thread has.
    Py_ssize_t shared, offsets, thread


cdef inline Py_ssize_t panels_size(
    const Product *s, const Cut *cut, Py_ssize_t depth, Py_ssize_t W
) noexcept nogil:
    """Numbers of a block's packed pixels, at `depth` places."""
    cdef Py_ssize_t panel = vectors_of(s) * W
    cdef Py_ssize_t pixels = cut.images * cut.lines * cut.columns
    return ((pixels + panel - 1) // panel * panel * depth if cut.packed else 0) + W


cdef inline Sizes direct_sizes(const Product *s, Py_ssize_t W) noexcept nogil:
    cdef Cut cut = cut_direct(s, W)
    cdef Sizes sizes
    sizes.shared = split_filters(s).rows * (s.K + 1)
    sizes.offsets = 2 * cut.chunk * s.kh * s.kw
    sizes.thread = cut.size + panels_size(
        s, &cut, min(<Py_ssize_t>DEPTH, cut.chunk * s.tall * s.wide), W)
    if s.step > 1:
        sizes.thread += sheets_of(s) * s.F * sheet_line(s, &cut)
    sizes.thread = lined_up(sizes.thread)
    return sizes


cdef inline Py_ssize_t lined_up(Py_ssize_t numbers) noexcept nogil:
    """Up to whole cache lines."""
    return (numbers + 15) // 16 * 16


cdef inline void direct(
    const floating *x, const floating *w, const floating *b, const Product *s, floating *out,
    floating *rectified, floating *shared, Py_ssize_t *offset, floating *threads, int num_threads
) noexcept nogil:
    """out, all of it. b: NULL for zeros; rectified: NULL if not wanted."""
    cdef Py_ssize_t W = lanes(x), task, f, chunks, parts = 1
    cdef Split split = split_filters(s)
    cdef Cut cut = cut_direct(s, W)
    cdef Py_ssize_t depth = cut.chunk * s.kh * s.kw, size = direct_sizes(s, W).thread
    cdef floating *bias = shared + split.rows * s.K
    cdef Py_ssize_t *iota = offset + depth
    cdef Phase phase
    for f in range(split.rows):
        bias[f] = b[f] if b != NULL and f < s.F else 0
    for f in range(depth):
        iota[f] = vectors_of(s) * W * f
    phase.a = -1
    while next_phase(s, &phase):
        place_offsets(s, &cut, &phase, offset + cut.chunk * phase.before)
    chunks = (s.C + cut.chunk - 1) // cut.chunk
    for task in prange(chunks * split.tiles, schedule="static", num_threads=num_threads):
        if not stopped(s.watch):
            _pack_task(w, s, task // split.tiles * cut.chunk, cut.chunk, task % split.tiles, shared)
    if cut.blocks < TASKS:
        parts = min(split.tiles, TASKS // cut.blocks)
    for task in prange(cut.blocks * parts, schedule="static", num_threads=num_threads):
        if stopped(s.watch):
            continue
        _product_task(x, <const floating *>shared, <const floating *>bias, s, &cut,
                      <const Py_ssize_t *>offset, <const Py_ssize_t *>iota, task // parts,
                      task % parts, parts, out, rectified, threads + threadid() * size)
