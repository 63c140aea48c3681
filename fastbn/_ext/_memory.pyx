"""Memory for results: on cache lines, in huge pages where large, and used again when released.

A fresh page costs a fault and is zeroed by the system, which for results of some megabytes can take
longer than the arithmetic. So arrays from MINIMUM bytes up get their memory from a handler of ours
(NumPy Enhancement Proposal 49: they are ordinary arrays that own their data), which keeps what they
release, `limit` bytes in all, for the next array of about that size.

A block begins with one cache line that holds its size. The data come after it.
"""
cimport numpy as cnp
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_INCREF
from libc.string cimport memcpy, memmove, memset, strcpy

cdef extern from *:
    """
    #include <stdlib.h>
    #if defined(_WIN32)
      #include <malloc.h>
      #define fastbn_aligned_alloc(alignment, size) _aligned_malloc(size, alignment)
      #define fastbn_aligned_free _aligned_free
      #include <windows.h>
      static SRWLOCK fastbn_mutex = SRWLOCK_INIT;
      static void fastbn_lock(void) { AcquireSRWLockExclusive(&fastbn_mutex); }
      static void fastbn_unlock(void) { ReleaseSRWLockExclusive(&fastbn_mutex); }
      static int fastbn_hold_at_fork(void) { return 0; }
    #else
      #include <pthread.h>
      static pthread_mutex_t fastbn_mutex = PTHREAD_MUTEX_INITIALIZER;
      static void fastbn_lock(void) { pthread_mutex_lock(&fastbn_mutex); }
      static void fastbn_unlock(void) { pthread_mutex_unlock(&fastbn_mutex); }
      static int fastbn_hold_at_fork(void) {
        return pthread_atfork(fastbn_lock, fastbn_unlock, fastbn_unlock);
      }
      static void *fastbn_aligned_alloc(size_t alignment, size_t size) {
        void *block; /* unlike aligned_alloc, of any size */
        return posix_memalign(&block, alignment, size) ? NULL : block;
      }
      #define fastbn_aligned_free free
    #endif
    #if defined(__linux__)
      #include <sys/mman.h>
      #define fastbn_use_huge_pages(block, size) (void)madvise(block, size, MADV_HUGEPAGE)
    #else
      #define fastbn_use_huge_pages(block, size) (void)(block)
    #endif
    """
    void lock "fastbn_lock"() noexcept nogil
    void unlock "fastbn_unlock"() noexcept nogil
    int fastbn_hold_at_fork() noexcept nogil
    void *fastbn_aligned_alloc(size_t alignment, size_t size) noexcept nogil
    void fastbn_aligned_free(void *block) noexcept nogil
    void fastbn_use_huge_pages(void *block, size_t size) noexcept nogil

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *ctx, size_t size) noexcept nogil
        void *(*calloc)(void *ctx, size_t count, size_t size) noexcept nogil
        void *(*realloc)(void *ctx, void *data, size_t size) noexcept nogil
        void (*free)(void *ctx, void *data, size_t size) noexcept nogil
    ctypedef struct PyDataMem_Handler:
        char name[127]
        unsigned char version
        PyDataMemAllocator allocator
    ctypedef struct PyArrayObject_fields:
        PyObject *mem_handler
    cnp.ndarray PyArray_SimpleNew(int nd, cnp.npy_intp *lengths, int typenum)
    cnp.ndarray PyArray_SimpleNewFromData(int nd, cnp.npy_intp *lengths, int typenum, void *data)

cdef extern from "Python.h":
    int PyTraceMalloc_Track(unsigned int domain, size_t data, size_t size)

cnp.import_array()

cdef enum:
    LINE = 64            # bytes of a cache line, and of a block's head
    HUGE = 1 << 21       # bytes of a huge page; blocks of two and more ask for them
    MINIMUM = 1 << 15    # bytes of an array from which it is ours: below, malloc reuses as well
    SLOTS = 64           # blocks held at most
    AXES = 64            # NumPy 2 has no more
    TRACED = 389047      # np.lib.tracemalloc_domain

# The lock guards the four below, and is never held while anything is called. A fork waits for it:
# without the GIL another thread may have it, and a child would wait for that thread for ever. (Of
# Python's own locks a child cannot be sure, after a fork in the middle of one.)
if fastbn_hold_at_fork():
    raise MemoryError("no memory for what is to be done at a fork")
cdef size_t *held[SLOTS]     # released blocks, oldest first
cdef int count = 0
cdef size_t held_bytes = 0
cdef size_t limit = 0


cdef size_t *_remove(int i) noexcept nogil:
    """Take the i-th block out of what is held."""
    global count, held_bytes
    cdef size_t *block = held[i]
    count -= 1
    held_bytes -= block[0]
    memmove(&held[i], &held[i + 1], (count - i) * sizeof(held[0]))
    return block


cdef void _evict(size_t most) noexcept nogil:
    """Give the oldest blocks back to the system until at most `most` bytes are held."""
    cdef size_t *block
    while True:
        lock()
        block = _remove(0) if held_bytes > most else NULL
        unlock()
        if block == NULL:
            return
        fastbn_aligned_free(block)


cdef size_t *_find(size_t size) noexcept nogil:
    """The smallest held block of `size` bytes and up to a quarter more; the newest of equals."""
    cdef size_t smallest = size + size // 4
    cdef size_t *block
    cdef int i, best = -1
    lock()
    for i in range(count):
        if size <= held[i][0] <= smallest:
            smallest = held[i][0]
            best = i
    block = _remove(best) if best >= 0 else NULL
    unlock()
    return block


cdef size_t *_fresh(size_t size) noexcept nogil:
    cdef size_t alignment = HUGE if size >= 2 * HUGE else LINE
    cdef size_t *block = <size_t *>fastbn_aligned_alloc(alignment, size)
    if block == NULL:
        _evict(0)
        block = <size_t *>fastbn_aligned_alloc(alignment, size)
    if block != NULL:
        if alignment == HUGE:
            fastbn_use_huge_pages(block, size)
        block[0] = size
    return block


cdef void *_malloc(void *ctx, size_t size) noexcept nogil:
    cdef size_t *block
    if size > <size_t>-1 // 2:
        return NULL
    size += LINE
    block = _find(size)
    if block == NULL:
        block = _fresh(size)
    return <char *>block + LINE if block != NULL else NULL


cdef void _free(void *ctx, void *data, size_t size) noexcept nogil:
    global count, held_bytes
    cdef size_t most
    cdef size_t *block
    cdef size_t *oldest = NULL
    cdef bint kept = False
    if data == NULL:
        return
    block = <size_t *>(<char *>data - LINE)
    lock()
    most = limit
    unlock()
    if MINIMUM <= block[0] <= most:
        _evict(most - block[0])
        lock()
        if count == SLOTS:
            oldest = _remove(0)
        kept = count < SLOTS and held_bytes + block[0] <= limit
        if kept:
            held[count] = block
            count += 1
            held_bytes += block[0]
        unlock()
    if oldest != NULL:
        fastbn_aligned_free(oldest)
    if not kept:
        fastbn_aligned_free(block)


cdef void *_calloc(void *ctx, size_t number, size_t size) noexcept nogil:
    cdef void *data
    if size and number > <size_t>-1 // size:
        return NULL
    data = _malloc(ctx, number * size)
    if data != NULL:
        memset(data, 0, number * size)
    return data


cdef void *_realloc(void *ctx, void *data, size_t size) noexcept nogil:
    cdef void *larger = _malloc(ctx, size)
    if data != NULL and larger != NULL:
        memcpy(larger, data, min(size, (<size_t *>(<char *>data - LINE))[0] - LINE))
        _free(ctx, data, 0)
    return larger


cdef PyDataMem_Handler handler
strcpy(handler.name, "fastbn")
handler.version = 1
handler.allocator.ctx = NULL
handler.allocator.malloc = _malloc
handler.allocator.calloc = _calloc
handler.allocator.realloc = _realloc
handler.allocator.free = _free
cdef object capsule = PyCapsule_New(&handler, "mem_handler", NULL)


def empty(tuple shape not None, dtype):
    """np.empty(shape, dtype) for dtypes of numbers in native byte order."""
    cdef cnp.npy_intp lengths[AXES]
    cdef int typenum = (<cnp.dtype?>dtype).type_num, axis, axes = len(shape)
    cdef size_t size = (<cnp.dtype>dtype).itemsize, most = <size_t>-1 // 2
    cdef cnp.ndarray array
    cdef void *data = NULL
    if axes > AXES:
        raise ValueError(f"shape must have at most {AXES} axes; got {axes}")
    for axis in range(axes):
        lengths[axis] = shape[axis]
        size = size * <size_t>lengths[axis] if size <= most // max(1, <size_t>lengths[axis]) else 0
    if size >= MINIMUM:
        data = _malloc(NULL, size)
    if data == NULL:  # a small array, or one for which NumPy finds no memory and says so
        return PyArray_SimpleNew(axes, lengths, typenum)
    # Not through PyDataMem_SetHandler: putting NumPy's handler back needs memory, and where there
    # was none every later array of the thread would be ours.
    try:
        array = PyArray_SimpleNewFromData(axes, lengths, typenum, data)
    except BaseException:
        _free(NULL, data, size)
        raise
    Py_INCREF(capsule)
    (<PyArrayObject_fields *>array).mem_handler = <PyObject *>capsule
    cnp.PyArray_ENABLEFLAGS(array, cnp.NPY_ARRAY_OWNDATA)
    PyTraceMalloc_Track(TRACED, <size_t>data, size)
    return array


def plain_dtype(tuple arrays not None):
    """The dtype of arrays that kernels take as they are; None if one of them is not such.

    That is: exactly numpy.ndarray, all float32 or all float64, contiguous, aligned, native.
    """
    cdef cnp.ndarray array
    cdef int typenum = -1
    for each in arrays:
        if type(each) is not cnp.ndarray:
            return None
        array = <cnp.ndarray>each
        if typenum == -1:
            typenum = cnp.PyArray_TYPE(array)
        if (cnp.PyArray_TYPE(array) != typenum
                or not cnp.PyArray_IS_C_CONTIGUOUS(array)
                or not cnp.PyArray_ISALIGNED(array) or not cnp.PyArray_ISNOTSWAPPED(array)):
            return None
    if typenum == cnp.NPY_FLOAT32:
        return FLOAT32
    return FLOAT64 if typenum == cnp.NPY_FLOAT64 else None


FLOAT32 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT32)
FLOAT64 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT64)


def set_limit(size_t size):
    """Hold at most `size` bytes of released blocks from now on."""
    global limit
    lock()
    limit = size
    unlock()
    _evict(size)


def held_now():
    """Bytes of the released blocks that are held."""
    cdef size_t size
    lock()
    size = held_bytes
    unlock()
    return size


def get_limit():
    cdef size_t size
    lock()
    size = limit
    unlock()
    return size
