"""Images laid out so that a filter's places are constant distances apart, and pixels in vectors.

A frame holds bands of rows of padded images. Where the outputs lie `stride` apart the columns of a
row are dealt out to `stride` phases, so that neighbouring outputs are neighbours in memory under
every place of the filter: what output (y, x) sees at (c, i, j) is frame[pos + offset], with pos of
the output and offset of the place alone.
"""
from cython cimport floating
from libc.string cimport memcpy

from ._tile cimport DEPTH, FB_BYTES


cdef enum:
    BLOCK = 512    # output pixels in a block, at most: what a set of packed filters is used for
    RUNS = 512     # runs of pixels in a block, at most
    FRAME = 1 << 18   # bytes of a frame, about: half of a second-level cache


cdef struct Product:
    # out[n, f, y, x] = start[f] + sum over c, i, j of
    #     w[f, c, i, j] x[n, c, y * stride + i - top, x * stride + j - left]
    # top and left may be negative. Out is a part of larger planes: (y, x) is found at
    # out_origin + y * out_line + x * out_step.
    Py_ssize_t N, C, H, W, F, kh, kw, top, left, stride, OH, OW
    Py_ssize_t out_plane, out_origin, out_line, out_step
    Py_ssize_t K, P       # C * kh * kw, OH * OW


cdef struct Cut:
    # How a product is cut: a block is `images` images by `lines` rows by `columns` of outputs; a
    # frame holds what a block needs of `chunk` channels.
    Py_ssize_t images, lines, columns, chunk
    Py_ssize_t blocks, bands, strips
    bint packed                      # pixels side by side in panels; else vectors of rows
    Py_ssize_t pitch, plane, image   # of the frame: numbers from a row, channel, image to the next
    Py_ssize_t wide, phases, size


cdef struct Run:
    # Neighbouring outputs of a row.
    Py_ssize_t pos       # of the first in the frame
    Py_ssize_t dest      # in out, from the block's first image and filter 0 on
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
    cut.phases = min(s.stride, s.kw)
    cut.columns = min(s.OW, block)
    cut.strips = (s.OW + cut.columns - 1) // cut.columns
    cut.wide = cut.columns + (s.kw - 1) // s.stride
    cut.pitch = cut.phases * cut.wide
    cut.lines = max(<Py_ssize_t>1, min(s.OH, block // cut.columns))
    cut.bands = (s.OH + cut.lines - 1) // cut.lines
    cut.lines = (s.OH + cut.bands - 1) // cut.bands
    tall = (cut.lines - 1) * s.stride + s.kh
    cut.plane = tall * cut.pitch
    cut.image = cut.chunk * cut.plane
    cut.images = 1
    if cut.bands * cut.strips == 1:
        most = FRAME // (FB_BYTES // W * cut.chunk * tall * cut.pitch)
        most = min(most, min(RUNS // s.OH, block // s.P))
        cut.images = max(<Py_ssize_t>1, min(s.N, most))
    cut.blocks = (s.N + cut.images - 1) // cut.images * cut.bands * cut.strips
    # Whole vectors are read beyond the last run.
    cut.size = cut.images * cut.image + 2 * W
    return cut


cdef inline void place_offsets(
    const Product *s, const Cut *cut, Py_ssize_t *offset
) noexcept nogil:
    """The places of a filter, for one frame's channels."""
    cdef Py_ssize_t c, i, j
    for c in range(cut.chunk):
        for i in range(s.kh):
            for j in range(s.kw):
                offset[0] = (c * cut.plane + i * cut.pitch + j % s.stride * cut.wide
                             + j // s.stride)
                offset += 1


cdef inline void _copy_row(
    const floating *line, const Product *s, const Cut *cut, Py_ssize_t left, floating *to
) noexcept nogil:
    """What outputs from column `left` on see of a row, to its phases, with the padding."""
    cdef Py_ssize_t phase, first, last, t, origin
    for phase in range(cut.phases):
        # to[t] = line[t * stride + origin] where that is in the row
        origin = left * s.stride + phase - s.left
        first = 0 if origin >= 0 else min(cut.wide, (s.stride - 1 - origin) // s.stride)
        last = first if origin >= s.W else max(
            first, min(cut.wide, (s.W - 1 - origin) // s.stride + 1))
        for t in range(first):
            to[t] = 0
        if s.stride == 1:
            for t in range(first, last):
                to[t] = line[t + origin]
        elif s.stride == 2:
            for t in range(first, last):
                to[t] = line[2 * t + origin]
        else:
            for t in range(first, last):
                to[t] = line[t * s.stride + origin]
        for t in range(last, cut.wide):
            to[t] = 0
        to += cut.wide


cdef inline void copy_frame(
    const floating *x, const Product *s, const Cut *cut, Py_ssize_t images, Py_ssize_t channels,
    Py_ssize_t top, Py_ssize_t lines, Py_ssize_t left, floating *frame
) noexcept nogil:
    """The frame of `lines` rows of outputs from (top, left) on; x at the first image, channel."""
    cdef Py_ssize_t n, c, r, t, y, tall = (lines - 1) * s.stride + s.kh
    cdef floating *row
    for n in range(images):
        for c in range(channels):
            for r in range(tall):
                if r % s.stride >= s.kh:
                    continue
                row = frame + n * cut.image + c * cut.plane + r * cut.pitch
                y = top * s.stride - s.top + r
                if y < 0 or y >= s.H:
                    for t in range(cut.pitch):
                        row[t] = 0
                else:
                    _copy_row(x + ((n * s.C + c) * s.H + y) * s.W, s, cut, left, row)


cdef inline Py_ssize_t list_runs(
    const Product *s, const Cut *cut, Py_ssize_t images, Py_ssize_t top, Py_ssize_t lines,
    Py_ssize_t left, Run *runs
) noexcept nogil:
    """The block's rows of outputs, each a run."""
    cdef Py_ssize_t n, y, count = 0
    for n in range(images):
        for y in range(lines):
            runs[count].pos = n * cut.image + y * s.stride * cut.pitch
            runs[count].dest = (n * s.F * s.out_plane + s.out_origin
                                + (top + y) * s.out_line + left * s.out_step)
            runs[count].length = min(cut.columns, s.OW - left)
            runs[count].skip = 0
            count += 1
    return count


cdef inline void pack_rows(
    const floating *frame, const Py_ssize_t *offset, Py_ssize_t depth, const Run *runs,
    Py_ssize_t count, Py_ssize_t width, floating *panel
) noexcept nogil:
    """Runs of pixels, side by side, under each of `depth` places; zeros up to `width`.

    In whole vectors: what is too much is overwritten by the next run or row. `panel` needs room
    for one vector more.
    """
    cdef Py_ssize_t p, r, t, W = lanes(frame)
    cdef const floating *line
    cdef floating *to
    for p in range(depth):
        to = panel + p * width
        for r in range(count):
            line = frame + runs[r].pos + offset[p]
            t = 0
            while t < runs[r].length:
                memcpy(to + t, line + t, FB_BYTES)
                t += W
            to += runs[r].length
        while to < panel + (p + 1) * width:
            to[0] = 0
            to += 1


cdef inline void pack_filters(
    const floating *w, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t channels, Py_ssize_t channel,
    Py_ssize_t kh, Py_ssize_t line, Py_ssize_t kw, Py_ssize_t step, Py_ssize_t width,
    floating *panel
) noexcept nogil:
    """panel[(c, i, j)][r] = w[r * row + c * channel + i * line + j * step], zeros up to width."""
    cdef Py_ssize_t c, i, j, r
    cdef const floating *place
    for c in range(channels):
        for i in range(kh):
            for j in range(kw):
                place = w + c * channel + i * line + j * step
                for r in range(rows):
                    panel[r] = place[r * row]
                for r in range(rows, width):
                    panel[r] = 0
                panel += width
