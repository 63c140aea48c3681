"""Images laid out so that a filter's places are constant distances apart, and pixels in vectors.

A frame holds bands of rows of padded images. Where the outputs lie `stride` apart the columns of a
row are dealt out to `stride` phases, so that neighbouring outputs are neighbours in memory under
every place of the filter: what output (y, x) sees at (c, i, j) is frame[pos + offset], with pos of
the output and offset of the place alone.
"""
from cython cimport floating
from libc.string cimport memcpy, memset

from ._interrupt cimport Watch, stopped
from ._tile cimport FB_BYTES, deal


cdef enum:
    BLOCK = 512    # output pixels in a block, at most: what a set of packed filters is used for
    RUNS = 512     # runs of pixels in a block, at most
    FRAME = 1 << 18   # bytes of a frame, about: half of a second-level cache
    LARGE = 1 << 14   # numbers that take long enough to ask after them whether to give up


cdef struct Product:
    # A convolution, or its gradient with respect to its input: images x (N, C, H, W) become out
    # (N, F, out_H, out_W), by way of a grid of (OH, OW) places where filters are put down.
    #   step 1:  grid = out, (y, x) sees x from (y * stride - top, x * stride - left) on.
    #   turned:  stride 1. Out falls into step x step phases: phase (a, b) of the grid's (y, x) is
    #            out's (y * step + a + row, x * step + b + column), and sums every step-th place
    #            of the filters from (a, b) on, the other way round.
    Py_ssize_t N, C, H, W, F, kh, kw, stride, top, left, OH, OW
    Py_ssize_t out_H, out_W, step, row, column
    bint turned
    Py_ssize_t tall, wide       # of a phase's filters, at most: kh, kw if not turned
    Py_ssize_t K, P             # C * kh * kw, OH * OW
    Watch *watch


cdef struct Phase:
    Py_ssize_t a, b, kh, kw
    Py_ssize_t before           # places of the filters in the phases before


cdef struct Cut:
    # How a product is cut: a block is `images` images by `lines` rows by `columns` of outputs; a
    # frame holds what a block needs of `chunk` channels.
    Py_ssize_t images, lines, columns, chunk
    Py_ssize_t blocks, bands, strips
    bint packed                      # pixels side by side in panels; else vectors of rows
    Py_ssize_t down                  # rows of the frame from one row of outputs to the next
    Py_ssize_t pitch, plane, image   # of the frame: numbers from a row, channel, image to the next
    Py_ssize_t width, deals, size    # a row: deals x width numbers; of a frame


cdef struct Run:
    # Neighbouring outputs of a row.
    Py_ssize_t pos       # of the first in the frame
    Py_ssize_t dest      # in the results, from the block's first of filter 0 on
    Py_ssize_t length
    Py_ssize_t skip      # so many of them belong to the run before


cdef inline Py_ssize_t lanes(const floating *unused) noexcept nogil:
    return FB_BYTES // sizeof(floating)


cdef inline Cut cut_product(
    const Product *s, Py_ssize_t block, Py_ssize_t chunk, bint packed, Py_ssize_t W
) noexcept nogil:
    """Blocks of about `block` outputs, frames of `chunk` channels. W: numbers in a vector."""
    cdef Cut cut
    cdef Py_ssize_t tall, most
    cut.chunk = min(s.C, chunk)
    cut.packed = packed
    cut.deals = min(s.stride, s.kw)
    cut.columns = min(s.OW, block)
    cut.strips = (s.OW + cut.columns - 1) // cut.columns
    cut.width = cut.columns + (s.wide - 1) // s.stride
    cut.pitch = cut.deals * cut.width
    cut.lines = max(<Py_ssize_t>1, min(min(s.OH, <Py_ssize_t>RUNS), block // cut.columns))
    cut.bands = (s.OH + cut.lines - 1) // cut.lines
    cut.lines = (s.OH + cut.bands - 1) // cut.bands
    cut.down = min(s.stride, s.tall)  # rows that no filter sees are left out
    tall = (cut.lines - 1) * cut.down + s.tall
    cut.plane = tall * cut.pitch
    cut.image = cut.chunk * cut.plane
    cut.images = 1
    if cut.bands * cut.strips == 1:
        most = FRAME // (FB_BYTES // W * cut.chunk * tall * cut.pitch)
        most = min(most, min(RUNS // s.OH, block // s.P))
        cut.images = max(<Py_ssize_t>1, min(s.N, most))
    cut.blocks = (s.N + cut.images - 1) // cut.images * cut.bands * cut.strips
    # Whole vectors are written and read beyond the last row.
    cut.size = cut.images * cut.image + 2 * W
    return cut


cdef inline bint next_phase(const Product *s, Phase *phase) noexcept nogil:
    """Begin with a = -1; False after the last."""
    if phase.a < 0:
        phase.a, phase.b, phase.before = 0, 0, 0
    else:
        phase.before += phase.kh * phase.kw
        phase.b += 1
        if phase.b == min(s.step, s.kw):
            phase.a, phase.b = phase.a + 1, 0
            if phase.a == min(s.step, s.kh):
                return False
    phase.kh = (s.kh - phase.a + s.step - 1) // s.step
    phase.kw = (s.kw - phase.b + s.step - 1) // s.step
    return True


cdef inline void place_offsets(
    const Product *s, const Cut *cut, const Phase *phase, Py_ssize_t *offset
) noexcept nogil:
    """The places of a phase's filters, for one frame's channels."""
    cdef Py_ssize_t c, i, j
    for c in range(cut.chunk):
        for i in range(phase.kh):
            for j in range(phase.kw):
                if s.turned:
                    offset[0] = c * cut.plane + (s.tall - 1 - i) * cut.pitch + s.wide - 1 - j
                else:
                    offset[0] = (c * cut.plane + i * cut.pitch + j % s.stride * cut.width
                                 + j // s.stride)
                offset += 1


cdef inline void _copy_row(
    const floating *line, Py_ssize_t first, Py_ssize_t last, Py_ssize_t width,
    const floating *end, floating *to
) noexcept nogil:
    """to[first:last] = line[first:last], and zeros before and after, up to width.

    In whole vectors: what is too much is overwritten by what follows.
    """
    cdef Py_ssize_t t = 0, W = lanes(line)
    if line + last + W <= end:
        while t < first:
            memset(to + t, 0, FB_BYTES)
            t += W
        t = first
        while t < last:
            memcpy(to + t, line + t, FB_BYTES)
            t += W
        t = last
        while t < width:
            memset(to + t, 0, FB_BYTES)
            t += W
        return
    for t in range(first):
        to[t] = 0
    for t in range(first, last):
        to[t] = line[t]
    for t in range(last, width):
        to[t] = 0


cdef inline void all_inside(
    Py_ssize_t origin, Py_ssize_t step, Py_ssize_t deals, Py_ssize_t size, Py_ssize_t count,
    Py_ssize_t *first, Py_ssize_t *last
) noexcept nogil:
    """Of t = 0 .. count - 1, those for which origin + t * step + d is in 0 .. size - 1 for all d in
    0 .. deals - 1: first to last - 1."""
    first[0] = 0 if origin >= 0 else min(count, (step - 1 - origin) // step)
    last[0] = first[0]
    if size - deals - origin >= 0:
        last[0] = max(first[0], min(count, (size - deals - origin) // step + 1))


cdef inline void _deal_some(
    const floating *line, Py_ssize_t origin, Py_ssize_t stride, Py_ssize_t deals, Py_ssize_t size,
    Py_ssize_t t, Py_ssize_t stop, Py_ssize_t width, floating *to
) noexcept nogil:
    """Number by number: zeros for what is not in the line."""
    cdef Py_ssize_t d, at
    while t < stop:
        for d in range(deals):
            at = origin + t * stride + d
            to[d * width + t] = line[at] if 0 <= at < size else 0
        t += 1


cdef inline void copy_frame(
    const floating *x, const Product *s, const Cut *cut, Py_ssize_t n, Py_ssize_t images,
    Py_ssize_t c, Py_ssize_t channels, Py_ssize_t top, Py_ssize_t lines, Py_ssize_t left,
    floating *frame
) noexcept nogil:
    """The frame of `lines` rows of the grid from (top, left) on."""
    cdef const floating *end = x + s.N * s.C * s.H * s.W
    cdef Py_ssize_t i, k, _r, y, rest, first, last
    cdef Py_ssize_t tall = (lines - 1) * cut.down + s.tall
    cdef Py_ssize_t origin = left * s.stride - s.left  # column of the first number
    cdef const floating *plane
    cdef const floating *line
    cdef floating *row
    all_inside(origin, s.stride, cut.deals, s.W, cut.width, &first, &last)
    for i in range(images):
        for k in range(channels):
            if cut.plane > LARGE and stopped(s.watch):
                return
            row = frame + i * cut.image + k * cut.plane
            plane = x + ((n + i) * s.C + c + k) * s.H * s.W
            y = top * s.stride - s.top
            rest = cut.down
            for _r in range(tall):
                if cut.pitch > LARGE and stopped(s.watch):
                    return
                line = plane + y * s.W
                if y < 0 or y >= s.H:
                    memset(row, 0, cut.pitch * sizeof(floating))
                elif s.stride == 1:
                    _copy_row(line + origin, first, last, cut.width, end, row)
                else:
                    _deal_some(line, origin, s.stride, cut.deals, s.W, 0, first, cut.width, row)
                    deal(line + origin + first * s.stride, s.stride, cut.deals, last - first,
                         row + first, cut.width)
                    _deal_some(line, origin, s.stride, cut.deals, s.W, last, cut.width, cut.width,
                               row)
                row += cut.pitch
                y += 1
                rest -= 1
                if rest == 0:
                    y += s.stride - cut.down
                    rest = cut.down


cdef inline void list_runs(
    const Cut *cut, Py_ssize_t images, Py_ssize_t lines, Py_ssize_t columns, Py_ssize_t image,
    Py_ssize_t line, Run *runs
) noexcept nogil:
    """A block's rows of outputs, images x lines of them, which lie `image` and `line` apart."""
    cdef Py_ssize_t i, y
    for i in range(images):
        for y in range(lines):
            runs[0].pos = i * cut.image + y * cut.down * cut.pitch
            runs[0].dest = i * image + y * line
            runs[0].length = columns
            runs[0].skip = 0
            runs += 1


cdef inline void pack_rows(
    const floating *frame, const Py_ssize_t *offset, Py_ssize_t depth, const Run *runs,
    Py_ssize_t count, Py_ssize_t width, floating *panel
) noexcept nogil:
    """Runs of pixels, side by side, under each of `depth` places; zeros up to `width`.

    In whole vectors: what is too much is overwritten by the next run or row. `panel` needs room
    for one vector more.
    """
    cdef Py_ssize_t origin[2 * RUNS]
    cdef Py_ssize_t at[2 * RUNS]
    cdef Py_ssize_t p, r, t, vectors = 0, filled = 0, W = lanes(frame)
    cdef const floating *line
    cdef floating *to = panel
    for r in range(count):
        t = 0
        while t < runs[r].length:
            origin[vectors] = runs[r].pos + t
            at[vectors] = filled + t
            vectors += 1
            t += W
        filled += runs[r].length
    # Two or three vectors are what a tile's panel has: for so few a loop is most of the work.
    if vectors == 2 and filled == width:
        for p in range(depth):
            line = frame + offset[p]
            memcpy(to + at[0], line + origin[0], FB_BYTES)
            memcpy(to + at[1], line + origin[1], FB_BYTES)
            to += width
    elif vectors == 3 and filled == width:
        for p in range(depth):
            line = frame + offset[p]
            memcpy(to + at[0], line + origin[0], FB_BYTES)
            memcpy(to + at[1], line + origin[1], FB_BYTES)
            memcpy(to + at[2], line + origin[2], FB_BYTES)
            to += width
    else:
        for p in range(depth):
            line = frame + offset[p]
            for t in range(vectors):
                memcpy(to + at[t], line + origin[t], FB_BYTES)
            for t in range(filled, width):
                to[t] = 0
            to += width


cdef inline void pack_filters(
    const floating *w, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t channels, Py_ssize_t channel,
    Py_ssize_t kh, Py_ssize_t line, Py_ssize_t kw, Py_ssize_t step, Py_ssize_t width,
    Watch *watch, floating *panel
) noexcept nogil:
    """panel[(c, i, j)][r] = w[r * row + c * channel + i * line + j * step], zeros up to width."""
    cdef Py_ssize_t c, i, j, r
    cdef const floating *place
    for c in range(channels):
        for i in range(kh):
            for j in range(kw):
                if ((c * kh + i) * kw + j) % LARGE == LARGE - 1 and stopped(watch):
                    return
                place = w + c * channel + i * line + j * step
                for r in range(rows):
                    panel[r] = place[r * row]
                for r in range(rows, width):
                    panel[r] = 0
                panel += width
