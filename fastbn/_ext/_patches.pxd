"""Patches of images: how the matrix products of a convolution read them and add to them.

Pixels are output pixels, numbered through the whole batch: pixel q is pixel q % P of image q // P.
"""
from cython cimport floating
from libc.string cimport memcpy

from ._tile cimport NR_BYTES, tile_columns


cdef struct Shape:
    Py_ssize_t N, C, H, W, F, kh, kw, pad, stride, OH, OW
    Py_ssize_t K, P       # C * kh * kw, OH * OW
    Py_ssize_t group      # images of a task
    Py_ssize_t chunk      # channels of a task
    Py_ssize_t padded     # its rows of patches, up to whole tiles


cdef inline void pack_patches(
    const floating *x, const Shape *s, Py_ssize_t pixel, Py_ssize_t count,
    Py_ssize_t k, Py_ssize_t depth, floating *panel
) noexcept nogil:
    """Rows k to k + depth of the patches at `count` pixels, numbered through the whole batch.

    At stride 1 a run is copied as a whole panel row, whatever its length: what is too much is
    overwritten by the next run or row. `panel` needs room for one row more.
    """
    cdef const floating *end = x + s.N * s.C * s.H * s.W
    cdef const floating *plane[NR_BYTES]
    cdef Py_ssize_t top[NR_BYTES]
    cdef Py_ssize_t left[NR_BYTES]
    cdef Py_ssize_t length[NR_BYTES]
    cdef Py_ssize_t NR = tile_columns(x), runs = 0, filled = 0
    cdef Py_ssize_t p, r, t, c, i, j, y, first, last
    cdef const floating *line
    cdef floating *to
    # The panel's runs: neighbouring pixels of one output row.
    while filled < count:
        p = (pixel + filled) % s.P
        plane[runs] = x + (pixel + filled) // s.P * s.C * s.H * s.W
        top[runs] = p // s.OW * s.stride - s.pad
        left[runs] = p % s.OW * s.stride - s.pad
        length[runs] = min(s.OW - p % s.OW, count - filled)
        filled += length[runs]
        runs += 1
    c = k // (s.kh * s.kw)
    i = k // s.kw % s.kh
    j = k % s.kw
    for p in range(depth):
        to = panel + p * NR
        for r in range(runs):
            y = top[r] + i
            if y < 0 or y >= s.H:
                for t in range(length[r]):
                    to[t] = 0
                to += length[r]
                continue
            line = plane[r] + (c * s.H + y) * s.W + left[r] + j
            first = 0
            last = length[r]
            if left[r] + j < 0:
                first = min(last, (s.stride - 1 - left[r] - j) // s.stride)
            if left[r] + j + (last - 1) * s.stride >= s.W:
                last = max(first, (s.W - 1 - left[r] - j + s.stride) // s.stride)
            if s.stride == 1 and line >= x and line + NR <= end:
                memcpy(to, line, NR_BYTES)
            elif s.stride == 1:
                for t in range(first, last):
                    to[t] = line[t]
            elif s.stride == 2:
                for t in range(first, last):
                    to[t] = line[t * 2]
            else:
                for t in range(first, last):
                    to[t] = line[t * s.stride]
            for t in range(first):
                to[t] = 0
            for t in range(last, length[r]):
                to[t] = 0
            to += length[r]
        for t in range(count, NR):
            to[t - count] = 0
        j += 1
        if j == s.kw:
            j = 0
            i += 1
            if i == s.kh:
                i = 0
                c += 1


cdef inline void pack_dout(
    const floating *dout, const Shape *s, Py_ssize_t pixel, Py_ssize_t count, Py_ssize_t f,
    Py_ssize_t depth, floating *panel
) noexcept nogil:
    """Filters f to f + depth of dout at `count` pixels, copied as pack_patches does."""
    cdef const floating *end = dout + s.N * s.F * s.P
    cdef Py_ssize_t NR = tile_columns(dout), filled, length, q, t
    cdef const floating *line
    for q in range(depth):
        filled = 0
        while filled < count:
            line = dout + ((pixel + filled) // s.P * s.F + f + q) * s.P + (pixel + filled) % s.P
            length = min(s.P - (pixel + filled) % s.P, count - filled)
            if line + NR <= end:
                memcpy(panel + q * NR + filled, line, NR_BYTES)
            else:
                for t in range(length):
                    panel[q * NR + filled + t] = line[t]
            filled += length
        for t in range(count, NR):
            panel[q * NR + t] = 0


cdef inline void add_patches(
    const floating *strip, const Shape *s, Py_ssize_t c, Py_ssize_t channels, Py_ssize_t pixel,
    Py_ssize_t count, Py_ssize_t width, floating *dx
) noexcept nogil:
    """col2im of a strip: `channels` channels from c on, `count` pixels from `pixel` on."""
    cdef Py_ssize_t filled = 0, p, y, x0, length, ch, i, j, t, first, last
    cdef floating *plane
    cdef floating *line
    cdef const floating *row
    while filled < count:
        p = (pixel + filled) % s.P
        length = min(s.OW - p % s.OW, count - filled)
        plane = dx + ((pixel + filled) // s.P * s.C + c) * s.H * s.W
        for ch in range(channels):
            for i in range(s.kh):
                y = p // s.OW * s.stride - s.pad + i
                if y < 0 or y >= s.H:
                    continue
                for j in range(s.kw):
                    row = strip + ((ch * s.kh + i) * s.kw + j) * width + filled
                    x0 = p % s.OW * s.stride - s.pad + j
                    line = plane + (ch * s.H + y) * s.W + x0
                    first = 0
                    last = length
                    if x0 < 0:
                        first = min(last, (s.stride - 1 - x0) // s.stride)
                    if x0 + (last - 1) * s.stride >= s.W:
                        last = max(first, (s.W - 1 - x0 + s.stride) // s.stride)
                    if s.stride == 1:
                        for t in range(first, last):
                            line[t] += row[t]
                    else:
                        for t in range(first, last):
                            line[t * s.stride] += row[t]
        filled += length


cdef inline void copy_band(
    const floating *x, const Shape *s, Py_ssize_t channels, Py_ssize_t top, Py_ssize_t tall,
    Py_ssize_t wide, floating *frame
) noexcept nogil:
    """Rows top to top + tall of the padded image, `wide` numbers each, of `channels` planes."""
    cdef Py_ssize_t c, y, t, first = min(s.pad, wide), last = max(first, min(wide, s.W + s.pad))
    cdef const floating *line
    for c in range(channels):
        for y in range(top, top + tall):
            if y < 0 or y >= s.H:
                for t in range(wide):
                    frame[t] = 0
            else:
                line = x + (c * s.H + y) * s.W - s.pad
                for t in range(first):
                    frame[t] = 0
                for t in range(first, last):
                    frame[t] = line[t]
                for t in range(last, wide):
                    frame[t] = 0
            frame += wide
