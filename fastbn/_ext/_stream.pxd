"""Writing a result either into the caches or past them: one loop for both.

    while n > 0:
        size = chunk_size(out, n, streaming)      # up to PIECE of n if not streaming
        to = chunk_start(&chunk, out, streaming)  # out itself if not streaming
        ... to[0:size] = ...
        chunk_done(out, to, size, streaming)
        out += size; n -= size

A Line is WIDTH numbers of scratch that begin on a cache line.

Streaming pays for results that will not be in the last cache when they are wanted; the caller knows
(fastbn/_memory.py). The numbers are the same either way.
"""
from cython cimport floating

from ._interrupt cimport PIECE

cdef extern from "_stream.h":
    ctypedef union Chunk "fastbn_chunk":
        float f32[256]
        double f64[128]
    ctypedef union Line "fastbn_line":
        float f32[1024]
        double f64[1024]
    enum: WIDTH "FASTBN_WIDTH"
    void fastbn_stream(void *to, const void *origin, size_t bytes) noexcept nogil
    void stream_end "fastbn_stream_end"() noexcept nogil
    void prefetch "fastbn_prefetch"(const void *at) noexcept nogil


cdef inline Py_ssize_t chunk_size(
    const floating *out, Py_ssize_t n, bint streaming
) noexcept nogil:
    """Numbers of the next chunk; the first is shorter, so that those after it begin on a line."""
    if not streaming:
        return min(n, <Py_ssize_t>PIECE)
    return min(n, <Py_ssize_t>((sizeof(Chunk) - (<size_t>out & 63)) // sizeof(floating)))


cdef inline floating *chunk_start(Chunk *chunk, floating *out, bint streaming) noexcept nogil:
    return <floating *>chunk if streaming else out


cdef inline void chunk_done(
    floating *out, const floating *to, Py_ssize_t size, bint streaming
) noexcept nogil:
    if streaming:
        fastbn_stream(out, to, size * sizeof(floating))
