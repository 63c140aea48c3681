"""Convolution of (N, C, H, W) by (F, C, kh, kw): implicit matrix products over patch panels.

The matrix of patches (rows (c, i, j), K = C * kh * kw of them; columns the output pixels) is never
formed: panels of it, two vectors wide, are packed where they are used.

forward       out (F, pixels) = w (F, K) patches (K, pixels)
    task: PANELS panels of pixels, which may run on from one image into the next
      for each DEPTH of K
        pack the patches, DEPTH x PANELS panels                (second-level cache)
        for each panel of pixels                               (first-level cache)
          for each MR filters: tile, straight into out

dx            patches' gradient (K, pixels) = w' (K, F) dout (F, pixels), then col2im
    task: a group of images x a chunk of channels, which it owns in dx
      for each PANELS panels of the group's pixels
        tiles into a strip of the patches' gradient            (second-level cache)
        add the strip to dx

dw            dw' (K, F) = sum over images of patches (K, pixels) dout' (pixels, F)
    task: a group of images x a chunk of channels
      for each image, for each band of output rows
        copy the band's input rows into a frame of zeros, transpose dout
        gather tiles: patches are read in place from the frame
    then the groups' shares are added in order: how many depends on the shape alone
"""
from cython cimport floating
from cython.parallel cimport prange, threadid

from ._patches cimport Shape, add_patches, copy_band, pack_dout, pack_patches
from ._reduce cimport wide_sum
from ._tile cimport (
    DEPTH, MR, MR_STEP, NR_BYTES, TILE_MAX, gather_tile, pack_panel, tile, tile_columns,
)

cdef enum:
    PANELS = 8      # panels of pixels in a block
    ROWS = 192      # rows of patches in a chunk of channels, about
    BAND = 128      # output pixels in a band, about: its panel of dout' in the first-level cache


cdef void _forward_task(
    const floating *x, const floating *packed, const floating *bias, const Shape *s,
    Py_ssize_t first, Py_ssize_t last, floating *out, floating *scratch
) noexcept nogil:
    """Output pixels first to last. packed: w in panels of MR filters, DEPTH after DEPTH."""
    cdef floating whole[TILE_MAX]
    cdef Py_ssize_t NR = tile_columns(x), panels = (last - first + NR - 1) // NR
    cdef Py_ssize_t tall = (s.F + MR - 1) // MR * MR
    cdef Py_ssize_t k = 0, depth, panel, pixel, count, q, f, rows, i, t, at, origin
    cdef bint inside
    cdef const floating *start
    while k < s.K:
        depth = min(<Py_ssize_t>DEPTH, s.K - k)
        for panel in range(panels):
            pixel = first + panel * NR
            pack_patches(x, s, pixel, min(NR, last - pixel), k, depth,
                         scratch + panel * NR * depth)
        for panel in range(panels):
            pixel = first + panel * NR
            count = min(NR, last - pixel)
            inside = count == NR and pixel % s.P + NR <= s.P
            origin = pixel // s.P * s.F * s.P + pixel % s.P
            for q in range(tall // MR):
                f = q * MR
                rows = min(<Py_ssize_t>MR, s.F - f)
                start = bias + f if k == 0 else NULL
                if inside and rows % MR_STEP == 0:
                    tile(rows, NR, depth, packed + tall * k + f * depth,
                         <const floating *>scratch + panel * NR * depth, start,
                         out + origin + f * s.P, s.P)
                    continue
                if k > 0:
                    for i in range(rows):
                        for t in range(count):
                            at = (pixel + t) // s.P * s.F * s.P + (pixel + t) % s.P
                            whole[i * NR + t] = out[at + (f + i) * s.P]
                tile(rows, count, depth, packed + tall * k + f * depth,
                     <const floating *>scratch + panel * NR * depth, start, whole, NR)
                for t in range(count):
                    at = (pixel + t) // s.P * s.F * s.P + (pixel + t) % s.P
                    for i in range(rows):
                        out[at + (f + i) * s.P] = whole[i * NR + t]
        k += depth


cdef void _pack_turned(
    const floating *w, const Shape *s, Py_ssize_t c, floating *packed
) noexcept nogil:
    """w' of a chunk of channels, in panels of MR rows of patches."""
    cdef Py_ssize_t rows = min(s.chunk, s.C - c) * s.kh * s.kw
    cdef Py_ssize_t f = 0, depth, q, r, here
    while f < s.F:
        depth = min(<Py_ssize_t>DEPTH, s.F - f)
        for q in range(s.padded // MR):
            r = q * MR
            here = max(<Py_ssize_t>0, min(<Py_ssize_t>MR, rows - r))
            pack_panel(w + f * s.K + c * s.kh * s.kw + r, here, depth, 1, s.K, <Py_ssize_t>MR,
                       packed + s.padded * f + r * depth)
        f += depth


cdef void _dx_task(
    const floating *dout, const floating *packed, const Shape *s, Py_ssize_t n, Py_ssize_t c,
    floating *dx, floating *scratch
) noexcept nogil:
    """dx of a group of images from n on and a chunk of channels from c on.

    packed: that chunk's w' in panels of MR rows of patches, DEPTH filters after DEPTH.
    """
    cdef Py_ssize_t NR = tile_columns(dout), width = PANELS * NR
    cdef Py_ssize_t images = min(s.group, s.N - n), channels = min(s.chunk, s.C - c)
    cdef Py_ssize_t pixel = n * s.P, last = (n + images) * s.P
    cdef Py_ssize_t f, depth, panel, panels, count, q, r, i
    cdef floating *strip = scratch + PANELS * NR * DEPTH + NR
    cdef floating zero[MR]
    for i in range(MR):
        zero[i] = 0
    for i in range(images):
        for r in range(channels * s.H * s.W):
            dx[((n + i) * s.C + c) * s.H * s.W + r] = 0
    while pixel < last:
        count = min(width, last - pixel)
        panels = (count + NR - 1) // NR
        f = 0
        while f < s.F:
            depth = min(<Py_ssize_t>DEPTH, s.F - f)
            for panel in range(panels):
                pack_dout(dout, s, pixel + panel * NR, min(NR, count - panel * NR), f, depth,
                          scratch + panel * NR * depth)
            for panel in range(panels):
                for q in range(s.padded // MR):
                    r = q * MR
                    tile(s.padded - r, NR, depth, packed + s.padded * f + r * depth,
                         <const floating *>scratch + panel * NR * depth,
                         <const floating *>zero if f == 0 else <const floating *>NULL,
                         strip + r * width + panel * NR, width)
            f += depth
        add_patches(<const floating *>strip, s, c, channels, pixel, count, width, dx)
        pixel += count


cdef void _dw_task(
    const floating *dout, const floating *x, const Shape *s, Py_ssize_t n, Py_ssize_t stop,
    Py_ssize_t c, Py_ssize_t lines, floating *share, floating *scratch, Py_ssize_t *offset
) noexcept nogil:
    """Share (padded, F up to whole panels) of images n to stop and a chunk of channels."""
    cdef Py_ssize_t NR = tile_columns(x), panels = (s.F + NR - 1) // NR
    cdef Py_ssize_t channels = min(s.chunk, s.C - c), rows = channels * s.kh * s.kw
    cdef Py_ssize_t wide = (s.OW - 1) * s.stride + s.kw, tall, band, y, q, r, panel
    cdef floating *turned = scratch
    cdef floating *frame = scratch + NR * lines * s.OW
    for r in range(s.padded * panels * NR):
        share[r] = 0
    while n < stop:
        y = 0
        while y < s.OH:
            band = min(lines, s.OH - y)
            tall = (band - 1) * s.stride + s.kh
            copy_band(x + (n * s.C + c) * s.H * s.W, s, channels, y * s.stride - s.pad, tall,
                      wide, frame)
            for r in range(s.padded):
                # Rows that only fill up the last tile read a number that exists, in vain.
                offset[r] = 0 if r >= rows else (
                    (r // (s.kh * s.kw) * tall + r // s.kw % s.kh) * wide + r % s.kw)
            for panel in range(panels):
                pack_panel(dout + (n * s.F + panel * NR) * s.P + y * s.OW,
                           min(NR, s.F - panel * NR), band * s.OW, s.P, 1, NR, turned)
                for q in range(s.padded // MR):
                    r = q * MR
                    gather_tile(s.padded - r, s.F - panel * NR, band, s.OW,
                                <const floating *>frame, offset + r, s.stride * wide, s.stride,
                                <const floating *>turned,
                                share + r * panels * NR + panel * NR, panels * NR)
            y += band
        n += 1


cdef void _add_shares(
    const floating *shares, const Shape *s, Py_ssize_t groups, Py_ssize_t distance,
    Py_ssize_t c, floating *dw
) noexcept nogil:
    """dw[f, k] of a chunk of channels: the groups' shares, added in order."""
    cdef Py_ssize_t NR = tile_columns(shares), wide = (s.F + NR - 1) // NR * NR
    cdef Py_ssize_t r, f, g
    cdef floating total
    for r in range(min(s.chunk, s.C - c) * s.kh * s.kw):
        for f in range(s.F):
            total = 0
            for g in range(groups):
                total += shares[g * distance + r * wide + f]
            dw[f * s.K + c * s.kh * s.kw + r] = total


cdef double _sum_filter(const floating *dout, const Shape *s, Py_ssize_t f) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t n
    for n in range(s.N):
        total += wide_sum(dout + (n * s.F + f) * s.P, s.P)
    return total


cdef Shape _shape(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] w, Py_ssize_t pad,
    Py_ssize_t stride, const floating[:, :, :, ::1] out
):
    cdef Shape s
    cdef Py_ssize_t chunks
    s.N, s.C, s.H, s.W = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.F, s.kh, s.kw, s.pad, s.stride = w.shape[0], w.shape[2], w.shape[3], pad, stride
    s.OH, s.OW = out.shape[2], out.shape[3]
    s.K = s.C * s.kh * s.kw
    s.P = s.OH * s.OW
    chunks = max(<Py_ssize_t>1, (s.K + ROWS - 1) // ROWS)
    s.chunk = max(<Py_ssize_t>1, (s.C + chunks - 1) // chunks)
    s.padded = (s.chunk * s.kh * s.kw + MR - 1) // MR * MR
    s.group = max(<Py_ssize_t>1, PANELS * NR_BYTES // <Py_ssize_t>sizeof(floating) // s.P)
    return s


cdef Py_ssize_t _lines(const Shape *s) noexcept nogil:
    """Output rows in a band."""
    return min(s.OH, max(<Py_ssize_t>1, BAND // s.OW))


cdef Py_ssize_t _shares(const Shape *s) noexcept nogil:
    """Groups of images that dw is summed over: enough tasks, by the shape alone."""
    cdef Py_ssize_t chunks = (s.C + s.chunk - 1) // s.chunk
    return min(s.N, max(<Py_ssize_t>1, 16 // chunks))


def scratch_sizes(const floating[:, :, :, ::1] x not None,
                  const floating[:, :, :, ::1] w not None, Py_ssize_t pad, Py_ssize_t stride,
                  const floating[:, :, :, ::1] out not None):
    """Numbers that forward and backward want: (forward shared, forward a thread,
    backward shared, backward a thread, offsets a thread)."""
    cdef Shape s = _shape(x, w, pad, stride, out)
    cdef Py_ssize_t NR = NR_BYTES // sizeof(floating)
    cdef Py_ssize_t filters = (s.F + MR - 1) // MR * MR, wide = (s.F + NR - 1) // NR * NR
    cdef Py_ssize_t chunks = (s.C + s.chunk - 1) // s.chunk, lines = _lines(&s)
    cdef Py_ssize_t block = PANELS * NR * DEPTH + NR
    cdef Py_ssize_t frame = s.chunk * ((lines - 1) * s.stride + s.kh) * (
        (s.OW - 1) * s.stride + s.kw)
    return (filters * (s.K + 1), block,
            max(chunks * s.padded * s.F, _shares(&s) * chunks * s.padded * wide),
            max(block + s.padded * PANELS * NR, NR * lines * s.OW + frame), s.padded)


def forward(const floating[:, :, :, ::1] x not None, const floating[:, :, :, ::1] w not None,
            const floating[::1] b not None, Py_ssize_t pad, Py_ssize_t stride,
            floating[:, :, :, ::1] out not None, floating[::1] shared not None,
            floating[:, ::1] scratch not None, int num_threads):
    """out[n, f] = sum over c of x[n, c] * w[f, c] (cross-correlated) + b[f]"""
    cdef Shape s = _shape(x, w, pad, stride, out)
    cdef Py_ssize_t block = PANELS * (NR_BYTES // <Py_ssize_t>sizeof(floating))
    cdef Py_ssize_t panels = (s.F + MR - 1) // MR, panel, task, k, depth, f
    cdef const floating *w0 = &w[0, 0, 0, 0]
    cdef const floating *x0 = &x[0, 0, 0, 0]
    cdef floating *packed = &shared[0]
    cdef floating *bias = packed + panels * MR * s.K
    with nogil:
        for f in range(panels * MR):
            bias[f] = b[f] if f < s.F else 0
        k = 0
        while k < s.K:
            depth = min(<Py_ssize_t>DEPTH, s.K - k)
            for panel in prange(panels, schedule="static", num_threads=num_threads):
                pack_panel(w0 + panel * MR * s.K + k, min(<Py_ssize_t>MR, s.F - panel * MR),
                           depth, s.K, 1, <Py_ssize_t>MR,
                           packed + panels * MR * k + panel * MR * depth)
            k = k + depth
        for task in prange((s.N * s.P + block - 1) // block, schedule="static",
                           num_threads=num_threads):
            _forward_task(x0, <const floating *>packed, <const floating *>bias, &s,
                          task * block, min((task + 1) * block, s.N * s.P), &out[0, 0, 0, 0],
                          &scratch[threadid(), 0])


def backward(const floating[:, :, :, ::1] dout not None,
             const floating[:, :, :, ::1] x not None, const floating[:, :, :, ::1] w not None,
             Py_ssize_t pad, Py_ssize_t stride,
             floating[:, :, :, ::1] dx not None, floating[:, :, :, ::1] dw not None,
             floating[::1] db not None, floating[::1] shared not None,
             floating[:, ::1] scratch not None, Py_ssize_t[:, ::1] offsets not None,
             int num_threads):
    """Gradients of forward with respect to x, w and b."""
    cdef Shape s = _shape(x, w, pad, stride, dout)
    cdef Py_ssize_t NR = NR_BYTES // sizeof(floating), wide = (s.F + NR - 1) // NR * NR
    cdef Py_ssize_t chunks = (s.C + s.chunk - 1) // s.chunk, task, f
    cdef Py_ssize_t groups = (s.N + s.group - 1) // s.group
    cdef Py_ssize_t shares = _shares(&s), lines = _lines(&s)
    cdef const floating *w0 = &w[0, 0, 0, 0]
    cdef const floating *x0 = &x[0, 0, 0, 0]
    cdef const floating *dout0 = &dout[0, 0, 0, 0]
    cdef floating *dx0 = &dx[0, 0, 0, 0]
    cdef floating *shared0 = &shared[0]
    with nogil:
        for f in prange(s.F, schedule="static", num_threads=num_threads):
            db[f] = <floating>_sum_filter(dout0, &s, f)
        for task in prange(chunks, schedule="static", num_threads=num_threads):
            _pack_turned(w0, &s, task * s.chunk, shared0 + task * s.padded * s.F)
        for task in prange(groups * chunks, schedule="static", num_threads=num_threads):
            _dx_task(dout0, <const floating *>shared0 + task % chunks * s.padded * s.F, &s,
                     task // chunks * s.group, task % chunks * s.chunk, dx0,
                     &scratch[threadid(), 0])
        # dx is done with the packed filters: the same memory now holds dw's shares.
        for task in prange(shares * chunks, schedule="static", num_threads=num_threads):
            _dw_task(dout0, x0, &s, s.N * (task // chunks) // shares,
                     s.N * (task // chunks + 1) // shares, task % chunks * s.chunk, lines,
                     shared0 + task * s.padded * wide, &scratch[threadid(), 0],
                     &offsets[threadid(), 0])
        for task in prange(chunks, schedule="static", num_threads=num_threads):
            _add_shares(<const floating *>shared0 + task * s.padded * wide, &s, shares,
                        chunks * s.padded * wide, task * s.chunk, &dw[0, 0, 0, 0])
