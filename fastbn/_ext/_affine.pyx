"""Matrix product out = a b + bias, and column sums, for the affine layers.

Our own product rather than NumPy's BLAS: after a parallel region OpenMP's idle workers spin and
starve BLAS's threads, and alternating the two costs several times what either takes alone.

    for each MC x NC block of out (a task; its owner alone writes it)
        for each DEPTH of the inner dimension
            pack b: DEPTH x NC in panels of two vectors       (second-level cache)
            for each MR rows of a
                pack MR x DEPTH                                (first-level cache)
                for each panel of b: tile
"""
from cython cimport floating
from cython.parallel cimport prange, threadid

from ._tile cimport DEPTH, MR, edge_tile, pack_panel, tile, tile_columns

cdef enum:
    MC = 96        # rows of a block: a multiple of every MR
    NC = 128       # columns of a block: a multiple of every NR
    COLUMNS = 64   # columns of a task that sums columns


cdef void _block(
    const floating *a, Py_ssize_t a_row, Py_ssize_t a_depth, const floating *b,
    Py_ssize_t b_depth, Py_ssize_t b_column, const floating *bias, Py_ssize_t rows,
    Py_ssize_t columns, Py_ssize_t K, floating *out, Py_ssize_t ldc, floating *scratch
) noexcept nogil:
    cdef floating *a_panel = scratch
    cdef floating *b_panels = scratch + MR * min(K, <Py_ssize_t>DEPTH)
    cdef Py_ssize_t NR = tile_columns(a)
    cdef Py_ssize_t i, j, k, depth, here, wide
    for i in range(rows):
        for j in range(columns):
            out[i * ldc + j] = bias[j] if bias != NULL else 0
    k = 0
    while k < K:
        depth = min(<Py_ssize_t>DEPTH, K - k)
        for j in range((columns + NR - 1) // NR):
            pack_panel(b + k * b_depth + j * NR * b_column, min(NR, columns - j * NR), depth,
                       b_column, b_depth, NR, b_panels + j * NR * depth)
        i = 0
        while i < rows:
            here = min(<Py_ssize_t>MR, rows - i)
            pack_panel(a + i * a_row + k * a_depth, here, depth, a_row, a_depth,
                       <Py_ssize_t>MR, a_panel)
            for j in range((columns + NR - 1) // NR):
                wide = min(NR, columns - j * NR)
                if here == MR and wide == NR:
                    tile(depth, <const floating *>a_panel,
                         <const floating *>b_panels + j * NR * depth, <const floating *>NULL,
                         out + i * ldc + j * NR, ldc)
                else:
                    edge_tile(depth, <const floating *>a_panel,
                              <const floating *>b_panels + j * NR * depth,
                              <const floating *>NULL, out + i * ldc + j * NR, ldc, here, wide)
            i += MR
        k += depth


def scratch_size(Py_ssize_t N, Py_ssize_t K):
    """Numbers of scratch that matmul wants for every thread, with out (M, N) and K inner."""
    # A block's last panel of b is whole even where its columns are not.
    return (min(N + NC // 2, <Py_ssize_t>NC) + MR) * min(K, <Py_ssize_t>DEPTH)


def matmul(const floating[:, :] a not None, const floating[:, :] b not None,
           const floating[:] bias, floating[:, ::1] out not None,
           floating[:, ::1] scratch not None, int num_threads):
    """out = a b (+ bias, which may be None). a and b may be transposed views."""
    cdef Py_ssize_t M = out.shape[0], N = out.shape[1], K = a.shape[1]
    cdef Py_ssize_t a_row = a.strides[0] // sizeof(floating)
    cdef Py_ssize_t a_depth = a.strides[1] // sizeof(floating)
    cdef Py_ssize_t b_depth = b.strides[0] // sizeof(floating)
    cdef Py_ssize_t b_column = b.strides[1] // sizeof(floating)
    cdef const floating *a0 = &a[0, 0] if K > 0 else NULL
    cdef const floating *b0 = &b[0, 0] if K > 0 else NULL
    cdef const floating *bias0 = &bias[0] if bias is not None else NULL
    cdef Py_ssize_t across = (N + NC - 1) // NC, task, i, j
    for task in prange((M + MC - 1) // MC * across, nogil=True, schedule="static",
                       num_threads=num_threads):
        i = task // across * MC
        j = task % across * NC
        _block(a0 + i * a_row, a_row, a_depth, b0 + j * b_column, b_depth, b_column,
               bias0 + j if bias0 != NULL else NULL, min(<Py_ssize_t>MC, M - i),
               min(<Py_ssize_t>NC, N - j), K, &out[i, j], N, &scratch[threadid(), 0])


cdef void _sum_columns(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width, floating *out
) noexcept nogil:
    cdef double total[COLUMNS]
    cdef Py_ssize_t n, c
    for c in range(width):
        total[c] = 0
    for n in range(rows):
        for c in range(width):
            total[c] += x[n * stride + c]
    for c in range(width):
        out[c] = <floating>total[c]


def column_sums(const floating[:, ::1] x not None, floating[::1] out not None, int num_threads):
    """out[j] = sum of x[:, j], carried in double"""
    cdef Py_ssize_t N = x.shape[0], D = x.shape[1], task
    for task in prange((D + COLUMNS - 1) // COLUMNS, nogil=True, schedule="static",
                       num_threads=num_threads):
        _sum_columns(&x[0, task * COLUMNS], N, D, min(<Py_ssize_t>COLUMNS, D - task * COLUMNS),
                     &out[task * COLUMNS])
