"""The register tile, for both dtypes, and the edges around it."""
from cython cimport floating

cdef extern from "_tile.h" nogil:
    enum: FB_MR
    enum: FB_STEP
    enum: FB_BYTES
    void fb_tile_f(Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *, const float *,
                   const float *, float *, Py_ssize_t)
    void fb_tile_d(Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, const double *,
                   const double *, double *, Py_ssize_t)
    void fb_gather_f(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *,
                     const Py_ssize_t *, Py_ssize_t, Py_ssize_t, const float *, float *,
                     Py_ssize_t)
    void fb_gather_d(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *,
                     const Py_ssize_t *, Py_ssize_t, Py_ssize_t, const double *, double *,
                     Py_ssize_t)

cdef enum:
    MR = FB_MR                      # rows of a tile
    MR_STEP = FB_STEP               # it computes whole multiples of these
    NR_BYTES = 2 * FB_BYTES         # columns of a tile, in bytes
    TILE_MAX = FB_MR * 2 * FB_BYTES // 4  # numbers in a float32 tile, the larger of the two
    DEPTH = 384                     # steps of a product whose two panels share the caches


cdef inline Py_ssize_t tile_columns(const floating *unused) noexcept nogil:
    return NR_BYTES // sizeof(floating)


cdef inline void tile(
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t depth, const floating *a,
    const floating *b, const floating *start, floating *c, Py_ssize_t ldc
) noexcept nogil:
    if floating is float:
        fb_tile_f(rows, columns, depth, a, b, start, c, ldc)
    else:
        fb_tile_d(rows, columns, depth, a, b, start, c, ldc)


cdef inline void gather_tile(
    Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t lines, Py_ssize_t length,
    const floating *x, const Py_ssize_t *offset, Py_ssize_t line, Py_ssize_t step,
    const floating *b, floating *c, Py_ssize_t ldc
) noexcept nogil:
    if floating is float:
        fb_gather_f(rows, columns, lines, length, x, offset, line, step, b, c, ldc)
    else:
        fb_gather_d(rows, columns, lines, length, x, offset, line, step, b, c, ldc)


cdef inline void pack_panel(
    const floating *a, Py_ssize_t rows, Py_ssize_t depth, Py_ssize_t row_stride,
    Py_ssize_t depth_stride, Py_ssize_t width, floating *panel
) noexcept nogil:
    """panel[p][i] = a[i, p] for `rows` rows, zeros up to `width`."""
    cdef Py_ssize_t i, p
    if depth_stride == 1:
        for i in range(rows):
            for p in range(depth):
                panel[p * width + i] = a[i * row_stride + p]
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
    const floating *b, floating *c, Py_ssize_t ldc
) noexcept nogil:
    """c += a b where nothing but rows x columns of c may be touched."""
    cdef floating whole[TILE_MAX]
    cdef Py_ssize_t i, j, width = tile_columns(c)
    if rows % MR_STEP == 0 and columns % (width // 2) == 0:
        tile(rows, columns, depth, a, b, <const floating *>NULL, c, ldc)
        return
    for i in range(MR * width):
        whole[i] = 0
    tile(rows, columns, depth, a, b, <const floating *>NULL, whole, width)
    for i in range(rows):
        for j in range(columns):
            c[i * ldc + j] += whole[i * width + j]
