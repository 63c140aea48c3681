"""A kernel's arguments: NumPy arrays, checked in nanoseconds where a memoryview takes 0.3 us.

A kernel's `def` takes them as they are and calls the body for their dtype; the body asks `data` for
each array's numbers, of the dtype and of at least the size that it will use.
"""
cimport numpy as cnp
from numpy cimport ndarray


cdef inline bint single(ndarray x) noexcept:
    """Whether x is float32; float64 otherwise, or `data` will refuse it."""
    return cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32


cdef inline int _refuse(object x, int typenum, Py_ssize_t size) except -1:
    raise ValueError(f"a kernel wants {size} contiguous numbers of type {typenum}; got {x.dtype}"
                     f" of shape {x.shape} and strides {x.strides}")


cdef inline bint _fits(ndarray x, int typenum, Py_ssize_t size) noexcept:
    cdef Py_ssize_t there = 1, axis
    for axis in range(cnp.PyArray_NDIM(x)):
        there *= cnp.PyArray_DIM(x, axis)
    return (cnp.PyArray_TYPE(x) == typenum and cnp.PyArray_IS_C_CONTIGUOUS(x)
            and there >= size)


cdef inline void *data(ndarray x, size_t itemsize, Py_ssize_t size) except? NULL:
    """The numbers of a C-contiguous array of floats of this many bytes; `size` of them at least."""
    return numbers(x, cnp.NPY_FLOAT32 if itemsize == 4 else cnp.NPY_FLOAT64, size)


cdef inline void *numbers(ndarray x, int typenum, Py_ssize_t size) except? NULL:
    """data of another dtype."""
    if not _fits(x, typenum, size):
        _refuse(x, typenum, size)
    return cnp.PyArray_DATA(x)


cdef inline void *view(
    ndarray x, size_t itemsize, Py_ssize_t rows, Py_ssize_t columns
) except? NULL:
    """The first of an aligned (rows, columns) array of floats with any strides."""
    if (cnp.PyArray_NDIM(x) != 2 or cnp.PyArray_DIM(x, 0) != rows
            or cnp.PyArray_DIM(x, 1) != columns or not cnp.PyArray_ISALIGNED(x)
            or cnp.PyArray_TYPE(x) != (cnp.NPY_FLOAT32 if itemsize == 4 else cnp.NPY_FLOAT64)):
        _refuse(x, cnp.NPY_FLOAT32 if itemsize == 4 else cnp.NPY_FLOAT64, rows * columns)
    return cnp.PyArray_DATA(x)


cdef inline void *scratch(ndarray x, size_t itemsize, Py_ssize_t size) except? NULL:
    """data from the first whole cache line on: x has 16 numbers more than `size`.

    Vectors that touch two lines at every access cost twice as much.
    """
    return <void *>((<size_t>data(x, itemsize, size + 16) + 63) & ~<size_t>63)


cdef inline void *lined(ndarray x, Py_ssize_t size) except? NULL:
    """Scratch of mixed kinds: `size` bytes, 64 of them for the start on a cache line."""
    return <void *>((<size_t>numbers(x, cnp.NPY_UINT8, size) + 63) & ~<size_t>63)
