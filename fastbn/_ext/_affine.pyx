"""Matrix product out = a b + bias, and column sums, for the affine layers.

Our own product rather than NumPy's BLAS: after a parallel region OpenMP's idle workers spin and
starve BLAS's threads, and alternating the two costs several times what either takes alone.

    pack all of b: DEPTH after DEPTH of the inner dimension, in panels of two vectors
    for each block of out, MC x NC at most (a task; its owner alone writes it)
        for each DEPTH                       (the block's panels of b: second-level cache)
            for each MR rows of a
                pack MR x DEPTH              (first-level cache)
                for each panel of b: tile
"""
from cython cimport floating
from cython.parallel cimport prange, threadid
cimport numpy as cnp
from numpy cimport ndarray

from ._arrays cimport data, single, view
from ._tile cimport (
    DEPTH, MR, NR_BYTES, Split, edge_tile, first_row, pack_panel, split_rows, tile_columns,
)

cdef enum:
    MC = 96        # rows of a block; halved twice, still a multiple of every MR
    NC = 256       # columns of a block; halved twice, still a multiple of every NR
    TASKS = 8      # blocks are made smaller rather than have fewer of them
    COLUMNS = 64   # columns of a task that sums columns


cdef void _block(
    const floating *a, Py_ssize_t a_row, Py_ssize_t a_depth, const floating *packed,
    Py_ssize_t padded, Py_ssize_t first, const floating *bias, Py_ssize_t rows,
    Py_ssize_t columns, Py_ssize_t K, floating *out, Py_ssize_t ldc, floating *panel
) noexcept nogil:
    """A block of out from column `first` on; packed is all of b, `padded` columns wide."""
    cdef Py_ssize_t NR = tile_columns(a)
    cdef Py_ssize_t iota[DEPTH]
    cdef Split split = split_rows(rows)
    cdef Py_ssize_t i, j, k = 0, q, depth, here, wide
    cdef const floating *b
    for i in range(DEPTH):
        iota[i] = i * NR
    for i in range(rows):
        for j in range(columns):
            out[i * ldc + j] = bias[j] if bias != NULL else 0
    while k < K:
        depth = min(<Py_ssize_t>DEPTH, K - k)
        for q in range(split.tiles):
            i = first_row(&split, q)
            here = first_row(&split, q + 1) - i
            pack_panel(a + i * a_row + k * a_depth, min(here, rows - i), depth, a_row, a_depth,
                       here, panel)
            j = 0
            while j < columns:
                wide = min(NR, columns - j)
                b = packed + k * padded + (first + j) * depth
                edge_tile(min(here, rows - i), wide, depth, <const floating *>panel, b,
                          <const Py_ssize_t *>iota, out + i * ldc + j, ldc)
                j += NR
        k += depth


def scratch_sizes(Py_ssize_t M, Py_ssize_t N, Py_ssize_t K, Py_ssize_t itemsize):
    """Numbers of scratch that matmul wants: shared, and for every thread."""
    cdef Py_ssize_t NR = NR_BYTES // itemsize
    return (N + NR - 1) // NR * NR * K, MR * min(K, <Py_ssize_t>DEPTH)


cdef int _matmul(
    floating _, ndarray a, ndarray b, ndarray bias, ndarray out, ndarray shared, ndarray panels,
    int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Py_ssize_t M = cnp.PyArray_DIM(out, 0), N = cnp.PyArray_DIM(out, 1)
    cdef Py_ssize_t K = cnp.PyArray_DIM(a, 1)
    cdef const floating *a0 = <const floating *>view(a, itemsize, M, K)
    cdef const floating *b0 = <const floating *>view(b, itemsize, K, N)
    cdef const floating *bias0 = NULL
    cdef floating *out0 = <floating *>data(out, itemsize, M * N)
    cdef Py_ssize_t a_row = cnp.PyArray_STRIDE(a, 0) // <Py_ssize_t>itemsize
    cdef Py_ssize_t a_depth = cnp.PyArray_STRIDE(a, 1) // <Py_ssize_t>itemsize
    cdef Py_ssize_t b_depth = cnp.PyArray_STRIDE(b, 0) // <Py_ssize_t>itemsize
    cdef Py_ssize_t b_column = cnp.PyArray_STRIDE(b, 1) // <Py_ssize_t>itemsize
    cdef Py_ssize_t NR = NR_BYTES // sizeof(floating), padded = (N + NR - 1) // NR * NR
    cdef Py_ssize_t panel = MR * min(K, <Py_ssize_t>DEPTH)
    cdef floating *packed = <floating *>data(shared, itemsize, padded * K)
    cdef floating *panels0 = <floating *>data(panels, itemsize, num_threads * panel)
    cdef Py_ssize_t tall = MC, wide = NC, down, across, task, i, j, k
    if bias is not None:
        bias0 = <const floating *>data(bias, itemsize, N)
    while (M + tall - 1) // tall * ((N + wide - 1) // wide) < TASKS and wide > NC // 4:
        if tall > MC // 4:
            tall //= 2
        else:
            wide //= 2
    down = (M + tall - 1) // tall
    across = (N + wide - 1) // wide
    with nogil:
        for task in prange((K + DEPTH - 1) // DEPTH * (padded // NR), schedule="static",
                           num_threads=num_threads):
            k = task // (padded // NR) * DEPTH
            j = task % (padded // NR) * NR
            pack_panel(b0 + k * b_depth + j * b_column, min(NR, N - j),
                       min(<Py_ssize_t>DEPTH, K - k), b_column, b_depth, NR,
                       packed + k * padded + j * min(<Py_ssize_t>DEPTH, K - k))
        for task in prange(down * across, schedule="static", num_threads=num_threads):
            i = task // across * tall
            j = task % across * wide
            _block(a0 + i * a_row, a_row, a_depth,
                   <const floating *>packed, padded, j,
                   bias0 + j if bias0 != NULL else NULL, min(tall, M - i), min(wide, N - j), K,
                   out0 + i * N + j, N, panels0 + threadid() * panel)
    return 0


def matmul(ndarray a not None, ndarray b not None, ndarray bias, ndarray out not None,
           ndarray shared not None, ndarray panels not None, int num_threads):
    """out = a b (+ bias, which may be None). a and b may be transposed views."""
    if single(out):
        _matmul(<float>0, a, b, bias, out, shared, panels, num_threads)
    else:
        _matmul(<double>0, a, b, bias, out, shared, panels, num_threads)


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


cdef int _column_sums(floating _, ndarray x, ndarray out, int num_threads) except -1:
    cdef Py_ssize_t N = cnp.PyArray_DIM(x, 0), D = cnp.PyArray_DIM(x, 1), task
    cdef const floating *x0 = <const floating *>data(x, sizeof(floating), N * D)
    cdef floating *out0 = <floating *>data(out, sizeof(floating), D)
    for task in prange((D + COLUMNS - 1) // COLUMNS, nogil=True, schedule="static",
                       num_threads=num_threads):
        _sum_columns(x0 + task * COLUMNS, N, D, min(<Py_ssize_t>COLUMNS, D - task * COLUMNS),
                     out0 + task * COLUMNS)
    return 0


def column_sums(ndarray x not None, ndarray out not None, int num_threads):
    """out[j] = sum of x[:, j], carried in double; x is (N, D)"""
    if single(x):
        _column_sums(<float>0, x, out, num_threads)
    else:
        _column_sums(<double>0, x, out, num_threads)
