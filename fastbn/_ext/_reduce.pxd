"""Blocked reductions: the one way in which the kernels sum.

A run of numbers is cut into blocks that fit the first-level cache. Inside a block LANES partial
sums run side by side, which the compiler turns into a few vectors without being allowed to
reassociate; across blocks the sums are carried in double. Which number lands in which lane depends
on lengths alone, so a result is the same at any thread count.

Mean and variance: each block is read twice while it is in the first-level cache (its own mean,
then squared deviations from that), and blocks are merged by Chan, Golub and LeVeque's update
("Updating formulae and a pairwise algorithm for computing sample variances", 1979). Memory is read
once, and nothing is ever formed like E[x^2] - E[x]^2, which loses everything where the mean is
large against the deviation.
"""
from cython cimport floating

cdef enum:
    LANES = 32     # four zmm, eight ymm, or eight xmm of float32: enough to hide an add's latency
    BLOCK = 2048   # 8 KiB of float32, 16 KiB of float64: half of a small first-level cache


cdef struct Moments:
    double count
    double mean
    double m2      # sum of squared deviations from the mean


cdef inline floating fold(floating *lanes) noexcept nogil:
    """Sum of LANES lanes, as a tree. Overwrites them."""
    cdef Py_ssize_t lane, half = LANES // 2
    while half > 0:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return lanes[0]


cdef inline void lane_sums(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, floating *lanes
) noexcept nogil:
    """lanes = sum over `rows` rows of LANES neighbours, `stride` apart."""
    cdef floating sums[LANES]
    cdef Py_ssize_t _row, lane
    for lane in range(LANES):
        sums[lane] = 0
    for _row in range(rows):
        for lane in range(LANES):
            sums[lane] += x[lane]
        x += stride
    for lane in range(LANES):
        lanes[lane] = sums[lane]


cdef inline void lane_squares(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, const floating *centre,
    floating *residuals, floating *squares
) noexcept nogil:
    """Lanes of sum(x - centre) and of sum((x - centre)^2); centre has LANES numbers."""
    cdef floating around[LANES]
    cdef floating first[LANES]
    cdef floating second[LANES]
    cdef floating d
    cdef Py_ssize_t _row, lane
    for lane in range(LANES):
        around[lane] = centre[lane]
        first[lane] = 0
        second[lane] = 0
    for _row in range(rows):
        for lane in range(LANES):
            d = x[lane] - around[lane]
            first[lane] += d
            second[lane] += d * d
        x += stride
    for lane in range(LANES):
        residuals[lane] = first[lane]
        squares[lane] = second[lane]


cdef inline floating block_sum(const floating *x, Py_ssize_t n) noexcept nogil:
    """Sum of one block."""
    cdef floating lanes[LANES]
    cdef Py_ssize_t lane, whole = n - n % LANES
    lane_sums(x, n // LANES, <Py_ssize_t>LANES, lanes)
    for lane in range(n % LANES):
        lanes[lane] += x[whole + lane]
    return fold(lanes)


cdef inline floating block_square_sum(
    const floating *x, Py_ssize_t n, floating centre, floating *residual
) noexcept nogil:
    """Sum of (x - centre)^2 over one block; *residual is the sum of x - centre."""
    cdef floating centres[LANES]
    cdef floating residuals[LANES]
    cdef floating squares[LANES]
    cdef floating d
    cdef Py_ssize_t lane, whole = n - n % LANES
    for lane in range(LANES):
        centres[lane] = centre
    lane_squares(x, n // LANES, <Py_ssize_t>LANES, centres, residuals, squares)
    for lane in range(n % LANES):
        d = x[whole + lane] - centre
        residuals[lane] += d
        squares[lane] += d * d
    residual[0] = fold(residuals)
    return fold(squares)


cdef inline bint finite(double x) noexcept nogil:
    return x - x == 0


cdef inline void merge(Moments *into, double count, double mean, double m2) noexcept nogil:
    """Chan's update: the moments of two sets together."""
    cdef double total = into.count + count
    cdef double delta = mean - into.mean
    if count == 0:
        return
    if finite(delta):
        into.mean += delta * (count / total)
        # In this order a huge first mean, with no count to weigh it against, does not overflow.
        into.m2 += m2 + delta * (delta * (into.count * count / total))
    else:
        into.mean += mean  # infinite or NaN, by the rules for sums
        into.m2 = delta - delta
    into.count = total


cdef inline void merge_wide(
    Moments *into, const floating *x, Py_ssize_t n, Py_ssize_t stride
) noexcept nogil:
    """Merge n numbers in two plain passes in double: for blocks whose squares overflow."""
    cdef double mean = 0, m2 = 0
    cdef Py_ssize_t i
    for i in range(n):
        mean += x[i * stride]
    mean /= n
    for i in range(n):
        m2 += (x[i * stride] - mean) * (x[i * stride] - mean)
    merge(into, <double>n, mean, m2)


cdef inline void add_moments(Moments *into, const floating *x, Py_ssize_t n) noexcept nogil:
    """Merge the moments of a contiguous run into *into."""
    cdef Py_ssize_t size
    cdef floating centre, residual, squares
    while n > 0:
        size = min(<Py_ssize_t>BLOCK, n)
        centre = block_sum(x, size) / <floating>size
        squares = block_square_sum(x, size, centre, &residual)
        if finite(squares):
            # The rounded block mean is off by residual / size: put it right.
            merge(into, <double>size, centre + <double>residual / <double>size,
                  squares - <double>residual * <double>residual / <double>size)
        else:
            merge_wide(into, x, size, 1)
        x += size
        n -= size


cdef inline double wide_sum(const floating *x, Py_ssize_t n) noexcept nogil:
    """Sum of a contiguous run, carried in double from block to block."""
    cdef Py_ssize_t size
    cdef double total = 0
    while n > 0:
        size = min(<Py_ssize_t>BLOCK, n)
        total += block_sum(x, size)
        x += size
        n -= size
    return total
