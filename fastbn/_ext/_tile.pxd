"""The register tiles, for both dtypes, and the edges around them."""
from cython cimport floating
from libc.string cimport memcpy

cdef extern from "_tile.h" nogil:
    enum: FB_MR
    enum: FB_STEP
    enum: FB_THIN
    enum: FB_WIDE
    enum: FB_DF
    enum: FB_DX
    enum: FB_BYTES
    void fb_tile_f(Py_ssize_t, int, Py_ssize_t, const float *, const float *const *,
                   const Py_ssize_t *, const float *, float *const *, Py_ssize_t)
    void fb_tile_d(Py_ssize_t, int, Py_ssize_t, const double *, const double *const *,
                   const Py_ssize_t *, const double *, double *const *, Py_ssize_t)
    void fb_dot_f(Py_ssize_t, const float *, Py_ssize_t, const float *, const Py_ssize_t *,
                  const Py_ssize_t *, float *)
    void fb_dot_d(Py_ssize_t, const double *, Py_ssize_t, const double *, const Py_ssize_t *,
                  const Py_ssize_t *, double *)

    void fb_deal_f(const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, float *, Py_ssize_t)
    void fb_deal_d(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *, Py_ssize_t)
    void fb_collect_f(const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, float *, Py_ssize_t)
    void fb_collect_d(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *, Py_ssize_t)
    void fb_turn_f(const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, float *)
    void fb_turn_d(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *)

cdef enum:
    MR = FB_MR                      # rows of a tile
    MR_STEP = FB_STEP               # it computes whole multiples of these
    NR_BYTES = 2 * FB_BYTES         # columns of a tile, in bytes
    TILE_MAX = FB_MR * 2 * FB_BYTES // 4  # numbers in a float32 tile, the larger of the two
    THIN = FB_THIN                  # up to so many rows make a tile of WIDE vectors
    WIDE = FB_WIDE
    PIXELS_MAX = FB_WIDE * FB_BYTES // 4  # numbers in the vectors of a thin tile
    DF = FB_DF                      # rows of the two factors of a dot tile
    DX = FB_DX
    DEPTH = 256                     # steps of a product whose two panels share the caches


cdef inline Py_ssize_t tile_columns(const floating *unused) noexcept nogil:
    return NR_BYTES // sizeof(floating)


cdef inline void tile(
    Py_ssize_t rows, int vectors, Py_ssize_t depth, const floating *a, const floating *const *b,
    const Py_ssize_t *offset, const floating *start, floating *const *c, Py_ssize_t ldc
) noexcept nogil:
    if floating is float:
        fb_tile_f(rows, vectors, depth, a, b, offset, start, c, ldc)
    else:
        fb_tile_d(rows, vectors, depth, a, b, offset, start, c, ldc)


cdef inline void dot(
    Py_ssize_t count, const floating *d, Py_ssize_t ldd, const floating *x,
    const Py_ssize_t *offset, const Py_ssize_t *at, floating *sums
) noexcept nogil:
    if floating is float:
        fb_dot_f(count, d, ldd, x, offset, at, sums)
    else:
        fb_dot_d(count, d, ldd, x, offset, at, sums)


cdef inline void deal(
    const floating *x, Py_ssize_t stride, Py_ssize_t deals, Py_ssize_t count, floating *to,
    Py_ssize_t width
) noexcept nogil:
    """to[d * width + i] = x[i * stride + d] for d < deals"""
    if floating is float:
        fb_deal_f(x, stride, deals, count, to, width)
    else:
        fb_deal_d(x, stride, deals, count, to, width)


cdef inline void collect(
    const floating *x, Py_ssize_t width, Py_ssize_t deals, Py_ssize_t count, floating *to,
    Py_ssize_t stride
) noexcept nogil:
    """to[i * stride + d] = x[d * width + i] for d < deals"""
    if floating is float:
        fb_collect_f(x, width, deals, count, to, stride)
    else:
        fb_collect_d(x, width, deals, count, to, stride)


cdef struct Split:
    # Rows go to tiles as evenly as whole steps can: a tile of one step waits for its own sums.
    Py_ssize_t tiles, rows   # rows: up to whole steps
    Py_ssize_t least, more   # steps of a tile, and so many tiles have one more


cdef inline Split split_rows(Py_ssize_t rows) noexcept nogil:
    cdef Split split
    cdef Py_ssize_t steps = (rows + MR_STEP - 1) // MR_STEP
    split.tiles = (rows + MR - 1) // MR
    split.rows = steps * MR_STEP
    split.least = steps // split.tiles
    split.more = steps % split.tiles
    return split


cdef inline Py_ssize_t first_row(const Split *split, Py_ssize_t tile) noexcept nogil:
    """Of a tile; of the one past the last, all rows."""
    if tile == split.tiles:
        return split.rows
    return (tile * split.least + min(tile, split.more)) * MR_STEP


cdef inline void pack_panel(
    const floating *a, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t row_stride,
    Py_ssize_t depth_stride, Py_ssize_t width, floating *panel
) noexcept nogil:
    """panel[p][i] = a[i, p] for `rows` rows, zeros up to `width`. It has room for two more."""
    cdef Py_ssize_t i, p
    if depth_stride == 1:
        if floating is float:
            fb_turn_f(a, rows, row_stride, depth, width, panel)
        else:
            fb_turn_d(a, rows, row_stride, depth, width, panel)
    elif row_stride == 1 and rows == tile_columns(a):
        for p in range(depth):
            memcpy(panel + p * width, a + p * depth_stride, NR_BYTES)
    elif row_stride == 1 and rows == MR:
        for p in range(depth):
            for i in range(MR):
                panel[p * width + i] = a[i + p * depth_stride]
    else:
        for p in range(depth):
            for i in range(rows):
                panel[p * width + i] = a[i * row_stride + p * depth_stride]
    if rows < width:
        for p in range(depth):
            for i in range(rows, width):
                panel[p * width + i] = 0


cdef inline void edge_tile(
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, const floating *a,
    const floating *b, const Py_ssize_t *offset, bint adding, floating *c, Py_ssize_t ldc
) noexcept nogil:
    """c = a b, or c += a b, where nothing but rows x columns of c may be touched."""
    cdef floating whole[TILE_MAX]
    cdef floating zero[MR]
    cdef const floating *at[2]
    cdef floating *to[2]
    cdef Py_ssize_t i, j, NR = tile_columns(c), W = NR // 2
    cdef int vectors = 2 if columns > W else 1
    cdef bint fits = rows % MR_STEP == 0 and columns == vectors * W
    for i in range(MR):
        zero[i] = 0
    at[0] = b
    at[1] = b + W
    to[0] = c if fits else whole
    to[1] = to[0] + W
    tile(rows, vectors, depth, a, <const floating *const *>at, offset,
         <const floating *>NULL if fits and adding else <const floating *>zero,
         <floating *const *>to, ldc if fits else NR)
    if fits:
        return
    for i in range(rows):
        for j in range(columns):
            if adding:
                c[i * ldc + j] += whole[i * NR + j]
            else:
                c[i * ldc + j] = whole[i * NR + j]
