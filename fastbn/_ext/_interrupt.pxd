"""Ctrl-C in a long call: every kernel asks, between pieces of work, whether to give up.

    cdef Watch watch
    begin(&watch, num_threads)       # when nothing can raise any more
    for task in prange(..., nogil=True, ...):
        if not stopped(&watch):
            ...
    return finish(&watch)            # -1, with the handler's exception set, if it was interrupted

A look is a flag for most threads, and a clock for the one that made the call; what lies between two
looks should take more than a microsecond and less than a tenth of a second, whatever the shape. So
a long run of numbers looks once in PIECE of them (`pause`). What a call that was given up has
written is its own, and is dropped with the exception.
"""

cdef extern from "_interrupt.h" nogil:
    ctypedef struct Watch "fastbn_watch":
        int stop
    void begin "fastbn_begin"(Watch *watch, int num_threads)
    int end "fastbn_end"(Watch *watch)
    bint given_up "fastbn_given_up"(Watch *watch)   # does not ask
    bint stopped "fastbn_stopped"(Watch *watch)

cdef enum:
    PIECE_BITS = 20
    PIECE = 1 << PIECE_BITS
    ITEMS = 64


cdef inline bint pause(Watch *watch, Py_ssize_t left, Py_ssize_t size) noexcept nogil:
    """stopped, asked only where `left` numbers become `left - size` across a multiple of PIECE."""
    return left > PIECE and (left ^ (left - size)) >> PIECE_BITS != 0 and stopped(watch)


cdef inline bint stopped_at(Watch *watch, Py_ssize_t item) noexcept nogil:
    """stopped, asked only for one in ITEMS of what may be small."""
    return given_up(watch) or item % ITEMS == 0 and stopped(watch)


cdef inline Py_ssize_t first_of(Py_ssize_t items, Py_ssize_t worker, int workers) noexcept nogil:
    """The first item of a worker. The first worker, which asks, has as many as any: while it waits
    for others nobody asks."""
    return (items * worker + workers - 1) // workers


cdef inline int finish(Watch *watch) except -1:
    return -1 if end(watch) else 0
