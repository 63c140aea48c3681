"""Matrix product out = a b + bias, and column sums, for the affine layers.

Our own product rather than NumPy's BLAS: after a parallel region OpenMP's idle workers spin and
starve BLAS's threads, and alternating the two costs several times what either takes alone.

    pack all of b: DEPTH after DEPTH of the inner dimension, in panels of two vectors
    for each block of out, MC x NC at most (a task; its owner alone writes it)
        for each DEPTH
            pack MC x DEPTH of a, in panels of MR rows     (second-level cache)
            for each panel of b                            (first-level cache)
                for each panel of a: tile

The bias is one more step of the product: a column of ones in a, a row in b.
"""
from cython cimport floating
from cython.parallel cimport prange, threadid
cimport numpy as cnp
from numpy cimport ndarray

from ._arrays cimport data, scratch, single, view
from ._interrupt cimport Watch, begin, finish, pause, stopped
from ._tile cimport (
    DEPTH, MR, NR_BYTES, Split, edge_tile, first_row, pack_panel, split_rows, tile_columns,
)

cdef enum:
    MC = 96        # rows of a block; halved twice, still a multiple of every MR
    NC = 512       # columns of a block; halved thrice, still a multiple of every NR
    TASKS = 8      # blocks are made smaller rather than have fewer of them
    COLUMNS = 64   # columns of a task that sums columns


cdef struct Steps:
    # Of a product's inner dimension: `blocks` of DEPTH, the first with the bias's step before it.
    Py_ssize_t K, blocks, bias
    Watch *watch


cdef inline Steps _steps(Py_ssize_t K, bint bias, Watch *watch) noexcept nogil:
    cdef Steps steps
    steps.K = K
    steps.watch = watch
    steps.blocks = max(<Py_ssize_t>1, (K + DEPTH - 1) // DEPTH)
    steps.bias = bias
    return steps


cdef inline Py_ssize_t _depth(const Steps *steps, Py_ssize_t block) noexcept nogil:
    """Steps of a block without the bias."""
    return min(<Py_ssize_t>DEPTH, steps.K - block * DEPTH)


cdef void _pack_b(
    const floating *b, Py_ssize_t b_depth, Py_ssize_t b_column, const floating *bias,
    const Steps *steps, Py_ssize_t block, Py_ssize_t columns, Py_ssize_t padded, floating *panel
) noexcept nogil:
    """A panel of b, of a block of steps: [step][column], zeros up to whole vectors."""
    cdef Py_ssize_t j, NR = tile_columns(b)
    if block == 0 and steps.bias:
        for j in range(NR):
            panel[j] = bias[j] if j < columns else 0
        panel += NR
    pack_panel(b + block * DEPTH * b_depth, columns, _depth(steps, block), b_column, b_depth, NR,
               panel)


cdef void _block(
    const floating *a, Py_ssize_t a_row, Py_ssize_t a_depth, const floating *packed,
    Py_ssize_t padded, const Steps *steps, Py_ssize_t rows, Py_ssize_t first, Py_ssize_t columns,
    floating *out, Py_ssize_t ldc, floating *panels
) noexcept nogil:
    """A block of out from column `first` on; packed is all of b, `padded` columns wide."""
    cdef Py_ssize_t NR = tile_columns(a)
    cdef Py_ssize_t iota[DEPTH + 1]
    cdef Split split = split_rows(rows)
    cdef Py_ssize_t block, i, j, q, r, depth, bias, here
    cdef floating *panel
    for i in range(DEPTH + 1):
        iota[i] = i * NR
    for block in range(steps.blocks):
        if stopped(steps.watch):
            return
        bias = steps.bias if block == 0 else 0
        depth = _depth(steps, block)
        for q in range(split.tiles):
            i = first_row(&split, q)
            here = first_row(&split, q + 1) - i
            panel = panels + i * (depth + bias)
            for r in range(bias * here):
                panel[r] = 1
            pack_panel(a + i * a_row + block * DEPTH * a_depth, min(here, rows - i), depth, a_row,
                       a_depth, here, panel + bias * here)
        depth += bias
        j = first
        while j < first + columns:
            for q in range(split.tiles):
                i = first_row(&split, q)
                edge_tile(min(first_row(&split, q + 1), rows) - i, min(NR, first + columns - j),
                          depth, <const floating *>panels + i * depth, packed + j * depth,
                          <const Py_ssize_t *>iota, block > 0, out + i * ldc + j - first, ldc)
            j += NR
        packed += padded * depth


def scratch_sizes(Py_ssize_t M, Py_ssize_t N, Py_ssize_t K, Py_ssize_t itemsize):
    """Numbers of scratch that matmul wants: shared, and for every thread."""
    cdef Py_ssize_t NR = NR_BYTES // itemsize
    # Rows go up to whole steps of a tile; transposing writes a little too much.
    return ((N + NR - 1) // NR * NR * (K + 1) + 16,
            ((min(M, <Py_ssize_t>MC) + MR) * (min(K, <Py_ssize_t>DEPTH) + 1) + 16) // 16 * 16)


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
    cdef Py_ssize_t panel = ((min(M, <Py_ssize_t>MC) + MR) * (min(K, <Py_ssize_t>DEPTH) + 1)
                             + 16) // 16 * 16
    cdef floating *packed = <floating *>scratch(shared, itemsize, padded * (K + 1))
    cdef floating *panels0 = <floating *>scratch(panels, itemsize, num_threads * panel)
    cdef Py_ssize_t tall = MC, wide = NC, across, task, i, j
    cdef Watch watch
    cdef Steps steps = _steps(K, bias is not None, &watch)
    if bias is not None:
        bias0 = <const floating *>data(bias, itemsize, N)
    while (M + tall - 1) // tall * ((N + wide - 1) // wide) < TASKS and wide > NC // 8:
        if tall > MC // 4 and tall > wide // 4:
            tall //= 2
        else:
            wide //= 2
    # As even as can be.
    tall = (M + (M + tall - 1) // tall - 1) // ((M + tall - 1) // tall)
    across = (N + wide - 1) // wide
    begin(&watch, num_threads)
    with nogil:
        for task in prange(steps.blocks * (padded // NR), schedule="static",
                           num_threads=num_threads):
            if stopped(&watch):
                continue
            i = task // (padded // NR)
            j = task % (padded // NR) * NR
            _pack_b(b0 + j * b_column, b_depth, b_column, bias0 + j if bias0 != NULL else NULL,
                    &steps, i, min(NR, N - j), padded,
                    packed + (i * DEPTH + (steps.bias if i > 0 else 0)) * padded
                    + j * (_depth(&steps, i) + (steps.bias if i == 0 else 0)))
        for task in prange((M + tall - 1) // tall * across, schedule="static",
                           num_threads=num_threads):
            i = task // across * tall
            j = task % across * wide
            _block(a0 + i * a_row, a_row, a_depth, <const floating *>packed, padded, &steps,
                   min(tall, M - i), j, min(wide, N - j), out0 + i * N + j, N,
                   panels0 + threadid() * panel)
    return finish(&watch)


def matmul(ndarray a not None, ndarray b not None, ndarray bias, ndarray out not None,
           ndarray shared not None, ndarray panels not None, int num_threads):
    """out = a b (+ bias, which may be None). a and b may be transposed views."""
    if single(out):
        _matmul(<float>0, a, b, bias, out, shared, panels, num_threads)
    else:
        _matmul(<double>0, a, b, bias, out, shared, panels, num_threads)


cdef void _sum_columns(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width, Watch *watch,
    floating *out
) noexcept nogil:
    cdef double total[COLUMNS]
    cdef Py_ssize_t n, c
    for c in range(width):
        total[c] = 0
    for n in range(rows):
        if pause(watch, (n + 1) * width, width):
            return
        for c in range(width):
            total[c] += x[n * stride + c]
    for c in range(width):
        out[c] = <floating>total[c]


cdef int _column_sums(floating _, ndarray x, ndarray out, int num_threads) except -1:
    cdef Py_ssize_t N = cnp.PyArray_DIM(x, 0), D = cnp.PyArray_DIM(x, 1), task
    cdef const floating *x0 = <const floating *>data(x, sizeof(floating), N * D)
    cdef floating *out0 = <floating *>data(out, sizeof(floating), D)
    cdef Watch watch
    begin(&watch, num_threads)
    for task in prange((D + COLUMNS - 1) // COLUMNS, nogil=True, schedule="static",
                       num_threads=num_threads):
        if not stopped(&watch):
            _sum_columns(x0 + task * COLUMNS, N, D,
                         min(<Py_ssize_t>COLUMNS, D - task * COLUMNS), &watch,
                         out0 + task * COLUMNS)
    return finish(&watch)


def column_sums(ndarray x not None, ndarray out not None, int num_threads):
    """out[j] = sum of x[:, j], carried in double; x is (N, D)"""
    if single(x):
        _column_sums(<float>0, x, out, num_threads)
    else:
        _column_sums(<double>0, x, out, num_threads)
