"""Patches of images as columns of a matrix, in the course's two orders, and their adjoints.

Rows are (c, i, j), the channel and the place in the filter. Columns are
  (oy, ox, n), the image fastest:  im2col, col2im (the course's im2col_cython, col2im_cython)
  (n, oy, ox), the image slowest:  im2col_6d, col2im_6d
The matrix is kh * kw / stride^2 times as large as the images, and is passed over once, in long
runs. All else happens in scratch that stays in a private cache. Every number of the output has one
owner, and what it is a sum of is added up in one order, however many threads there are.

A stride of s deals a padded axis out to s phases: place p goes to phase p % s, as number p // s.
For a filter's column j, the pixels of a row of windows are then a run of phase j % s, j // s on.

How either order is made: _turned.pxd and _planes.pxd.
"""
from cython cimport floating
from cython.parallel cimport prange
from numpy cimport ndarray

from ._arrays cimport data, scratch, single
from ._field cimport Field
from ._interrupt cimport Watch, begin, finish, first_of
from ._planes cimport Planes, col2im_6d_items, col2im_planes, im2col_6d_items, im2col_planes
from ._turned cimport Rows, col2im_items, col2im_rows, im2col_items, im2col_rows


cdef int _im2col(
    floating _, ndarray x, Field f, bint streaming, ndarray cols, ndarray work, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Rows lay = im2col_rows(&f, itemsize)
    cdef Py_ssize_t items = f.C * lay.blocks * lay.strips * lay.bands, worker
    cdef const floating *x0 = <const floating *>data(x, itemsize, f.N * f.C * f.H * f.W)
    cdef floating *cols0 = <floating *>data(
        cols, itemsize, f.C * f.kh * f.kw * f.OH * f.OW * f.N)
    cdef floating *work0 = <floating *>scratch(work, itemsize, num_threads * lay.total)
    cdef Watch watch
    begin(&watch, num_threads)
    f.watch = &watch
    for worker in prange(num_threads, nogil=True, schedule="static", num_threads=num_threads):
        im2col_items(x0, &f, &lay, first_of(items, worker, num_threads),
                     first_of(items, worker + 1, num_threads), streaming, cols0,
                     work0 + worker * lay.total)
    return finish(&watch)


cdef int _col2im(
    floating _, ndarray cols, Field f, ndarray x, ndarray work, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Rows lay = col2im_rows(&f, itemsize)
    cdef Py_ssize_t items = f.C * lay.blocks * lay.strips * lay.bands, worker
    cdef const floating *cols0 = <const floating *>data(
        cols, itemsize, f.C * f.kh * f.kw * f.OH * f.OW * f.N)
    cdef floating *x0 = <floating *>data(x, itemsize, f.N * f.C * f.H * f.W)
    cdef floating *work0 = <floating *>scratch(work, itemsize, num_threads * lay.total)
    cdef Watch watch
    begin(&watch, num_threads)
    f.watch = &watch
    for worker in prange(num_threads, nogil=True, schedule="static", num_threads=num_threads):
        col2im_items(cols0, &f, &lay, first_of(items, worker, num_threads),
                     first_of(items, worker + 1, num_threads), x0, work0 + worker * lay.total)
    return finish(&watch)


cdef int _im2col_6d(
    floating _, ndarray x, Field f, bint streaming, ndarray cols, ndarray work, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Planes lay = im2col_planes(&f, itemsize)
    cdef Py_ssize_t items = f.C * f.N * lay.bands, worker
    cdef const floating *x0 = <const floating *>data(x, itemsize, f.N * f.C * f.H * f.W)
    cdef floating *cols0 = <floating *>data(
        cols, itemsize, f.C * f.kh * f.kw * f.OH * f.OW * f.N)
    cdef floating *work0 = <floating *>scratch(work, itemsize, num_threads * lay.total)
    cdef Watch watch
    begin(&watch, num_threads)
    f.watch = &watch
    for worker in prange(num_threads, nogil=True, schedule="static", num_threads=num_threads):
        im2col_6d_items(x0, &f, &lay, first_of(items, worker, num_threads),
                        first_of(items, worker + 1, num_threads), streaming, cols0,
                        work0 + worker * lay.total)
    return finish(&watch)


cdef int _col2im_6d(
    floating _, ndarray cols, Field f, ndarray x, ndarray work, int num_threads
) except -1:
    cdef size_t itemsize = sizeof(floating)
    cdef Planes lay = col2im_planes(&f, itemsize)
    cdef Py_ssize_t items = f.C * f.N * lay.bands, worker
    cdef const floating *cols0 = <const floating *>data(
        cols, itemsize, f.C * f.kh * f.kw * f.OH * f.OW * f.N)
    cdef floating *x0 = <floating *>data(x, itemsize, f.N * f.C * f.H * f.W)
    cdef floating *work0 = <floating *>scratch(work, itemsize, num_threads * lay.total)
    cdef Watch watch
    begin(&watch, num_threads)
    f.watch = &watch
    for worker in prange(num_threads, nogil=True, schedule="static", num_threads=num_threads):
        col2im_6d_items(cols0, &f, &lay, first_of(items, worker, num_threads),
                        first_of(items, worker + 1, num_threads), x0, work0 + worker * lay.total)
    return finish(&watch)


cdef inline Field _field(
    Py_ssize_t N, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh, Py_ssize_t kw,
    Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW
) noexcept:
    cdef Field f
    f.N, f.C, f.H, f.W = N, C, H, W
    f.kh, f.kw, f.pad, f.stride, f.OH, f.OW = kh, kw, pad, stride, OH, OW
    f.watch = NULL  # each call's own: a kernel sets it
    return f


def scratch_size(Py_ssize_t N, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W, Py_ssize_t kh,
                 Py_ssize_t kw, Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH, Py_ssize_t OW,
                 Py_ssize_t itemsize, int num_threads):
    """Numbers of scratch that any of the four wants. The images are of one pixel at least."""
    cdef Field f = _field(N, C, H, W, kh, kw, pad, stride, OH, OW)
    cdef Py_ssize_t fast = max(im2col_rows(&f, itemsize).total,
                               col2im_rows(&f, itemsize).total)
    cdef Py_ssize_t slow = max(im2col_planes(&f, itemsize).total,
                               col2im_planes(&f, itemsize).total)
    return num_threads * max(fast, slow) + 16


def im2col(ndarray x not None, Py_ssize_t N, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W,
           Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH,
           Py_ssize_t OW, bint streaming, ndarray cols not None, ndarray work not None,
           int num_threads):
    """cols (C * kh * kw, OH * OW * N)"""
    cdef Field f = _field(N, C, H, W, kh, kw, pad, stride, OH, OW)
    if single(x):
        _im2col(<float>0, x, f, streaming, cols, work, num_threads)
    else:
        _im2col(<double>0, x, f, streaming, cols, work, num_threads)


def col2im(ndarray cols not None, Py_ssize_t N, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W,
           Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH,
           Py_ssize_t OW, ndarray x not None, ndarray work not None, int num_threads):
    """x[n, c, h, w] = sum of the columns' entries that were taken from there"""
    cdef Field f = _field(N, C, H, W, kh, kw, pad, stride, OH, OW)
    if single(cols):
        _col2im(<float>0, cols, f, x, work, num_threads)
    else:
        _col2im(<double>0, cols, f, x, work, num_threads)


def im2col_6d(ndarray x not None, Py_ssize_t N, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W,
              Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH,
              Py_ssize_t OW, bint streaming, ndarray cols not None, ndarray work not None,
              int num_threads):
    """cols (C * kh * kw, N, OH * OW)"""
    cdef Field f = _field(N, C, H, W, kh, kw, pad, stride, OH, OW)
    if single(x):
        _im2col_6d(<float>0, x, f, streaming, cols, work, num_threads)
    else:
        _im2col_6d(<double>0, x, f, streaming, cols, work, num_threads)


def col2im_6d(ndarray cols not None, Py_ssize_t N, Py_ssize_t C, Py_ssize_t H, Py_ssize_t W,
              Py_ssize_t kh, Py_ssize_t kw, Py_ssize_t pad, Py_ssize_t stride, Py_ssize_t OH,
              Py_ssize_t OW, ndarray x not None, ndarray work not None, int num_threads):
    """x from cols (C * kh * kw, N, OH * OW)"""
    cdef Field f = _field(N, C, H, W, kh, kw, pad, stride, OH, OW)
    if single(cols):
        _col2im_6d(<float>0, cols, f, x, work, num_threads)
    else:
        _col2im_6d(<double>0, cols, f, x, work, num_threads)
