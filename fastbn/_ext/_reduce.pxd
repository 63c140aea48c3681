"""Blocked reductions: the one way in which the kernels sum.

Sums over a run of numbers are carried by the partial sums of _lanes.h, a few vectors side by side;
sums over rows by as many partial sums as there are columns. After a block (BLOCK numbers of a run,
STRIP rows) they go into doubles. Which number lands in which sum depends on lengths alone, so a
result is the same at any thread count.

Mean and variance are taken in one pass: a block sums x - k and (x - k)^2 for a k near the mean, and
blocks are merged by Chan, Golub and LeVeque's update ("Updating formulae and a pairwise algorithm
for computing sample variances", 1979). k is the mean so far, and for the first block that of its
beginning. If a block's mean lies d from k then its m2 = sum((x - k)^2) - n d^2 loses digits as
n d^2 grows; but d is the distance from numbers already in the total, whose own m2 grows by n d^2
and more over BLOCK / FIRST with it. So a large mean, an outlier or a slope costs no more than that
factor, and nothing like E[x^2] - E[x]^2 is ever formed.
"""
from cython cimport floating

from ._interrupt cimport Watch, pause
from ._stream cimport Line

cdef extern from "_lanes.h" nogil:
    float fb_sum_f(const float *x, Py_ssize_t n)
    double fb_sum_d(const double *x, Py_ssize_t n)
    float fb_squares_f(const float *x, Py_ssize_t n, float k, float *sum)
    double fb_squares_d(const double *x, Py_ssize_t n, double k, double *sum)
    float fb_products_f(const float *d, const float *x, Py_ssize_t n, float k, float *sum)
    double fb_products_d(const double *d, const double *x, Py_ssize_t n, double k, double *sum)
    float fb_weighted_f(const float *d, const float *w, const float *x, Py_ssize_t n, float k,
                        float *sum)
    double fb_weighted_d(const double *d, const double *w, const double *x, Py_ssize_t n,
                         double k, double *sum)

cdef enum:
    LANES = 32     # partial sums, where they are kept in an array
    BLOCK = 2048   # numbers: 8 KiB of float32, 16 KiB of float64; half of a small L1 cache
    FIRST = 256    # numbers that the first k is the mean of
    STRIP = 32     # rows: a sum of more would lose more digits than one of a block's lanes
    FIRST_ROWS = 8


cdef struct Moments:
    double count
    double mean
    double m2      # sum of squared deviations from the mean


cdef inline bint finite(double x) noexcept nogil:
    return x - x == 0


cdef inline floating block_sum(const floating *x, Py_ssize_t n) noexcept nogil:
    """Sum of one block."""
    if floating is float:
        return fb_sum_f(x, n)
    else:
        return fb_sum_d(x, n)


cdef inline floating block_squares(
    const floating *x, Py_ssize_t n, floating k, floating *sum
) noexcept nogil:
    """Sum of (x - k)^2 over one block; *sum is that of x - k."""
    if floating is float:
        return fb_squares_f(x, n, k, sum)
    else:
        return fb_squares_d(x, n, k, sum)


cdef inline void add_wide_products(
    const floating *d, const floating *w, const floating *x, Py_ssize_t n, floating k,
    double *total, double *dot
) noexcept nogil:
    """add_products in double: for blocks whose products overflow."""
    cdef double each
    cdef Py_ssize_t i
    for i in range(n):
        each = d[i]
        if w != NULL:
            each *= w[i]
        total[0] += each
        dot[0] += each * (<double>x[i] - k)


cdef inline void add_products(
    const floating *d, const floating *w, const floating *x, Py_ssize_t n, floating k,
    Watch *watch, double *total, double *dot
) noexcept nogil:
    """Add sum(d * w) to *total and sum(d * w * (x - k)) to *dot; w NULL is 1."""
    cdef Py_ssize_t size
    cdef floating sum, product
    while n > 0:
        size = min(<Py_ssize_t>BLOCK, n)
        if pause(watch, n, size):
            return
        if floating is float:
            if w != NULL:
                product = fb_weighted_f(d, w, x, size, k, &sum)
            else:
                product = fb_products_f(d, x, size, k, &sum)
        else:
            if w != NULL:
                product = fb_weighted_d(d, w, x, size, k, &sum)
            else:
                product = fb_products_d(d, x, size, k, &sum)
        if finite(sum) and finite(product):
            total[0] += sum
            dot[0] += product
        else:
            add_wide_products(d, w, x, size, k, total, dot)
        d += size
        x += size
        n -= size
        if w != NULL:
            w += size


cdef inline bint underflow(
    floating squares, floating sum, floating x, floating last, floating k
) noexcept nogil:
    """Whether squares of x - k are too small for float32, and not for x being k throughout.

    A sum of 1e-25 and more has a term that is normal by far. Zeros, as a dead unit puts out, must
    stay fast: the sum, the first and the last number tell them from the others, all but surely.
    """
    if floating is float:
        return (squares < <floating>1e-25) & ((sum != 0) | (x != k) | (last != k))
    else:
        return False


cdef inline double variance(double m2, double count) noexcept nogil:
    """Biased; rounding may have put that of equal numbers below 0."""
    return 0 if m2 < 0 else m2 / count


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


cdef inline void merge_columns(
    double *mean, double *m2, double count, double size, const double *new_mean,
    const double *new_m2, Py_ssize_t width
) noexcept nogil:
    """merge for many sets of `count` numbers with as many of `size`, without a branch."""
    cdef double weight = size / (count + size), spread = count * weight, delta
    cdef bint usual
    cdef Py_ssize_t c
    for c in range(width):
        delta = new_mean[c] - mean[c]
        usual = delta - delta == 0
        mean[c] += delta * weight if usual else new_mean[c]
        m2[c] = m2[c] + new_m2[c] + delta * (delta * spread) if usual else delta - delta


cdef inline void merge_wide(
    Moments *into, const floating *x, Py_ssize_t n, Py_ssize_t stride
) noexcept nogil:
    """Merge n numbers in two plain passes in double: for squares that over- or underflow."""
    cdef double mean = 0, m2 = 0
    cdef Py_ssize_t i
    for i in range(n):
        mean += x[i * stride]
    mean /= n
    for i in range(n):
        m2 += (x[i * stride] - mean) * (x[i * stride] - mean)
    merge(into, <double>n, mean, m2)


cdef inline floating beginning(const floating *x, Py_ssize_t n) noexcept nogil:
    """Mean of the first numbers of a run, which its deviations are taken from."""
    if n <= FIRST:
        return block_sum(x, n) * <floating>(1.0 / n)
    return block_sum(x, <Py_ssize_t>FIRST) * <floating>(1.0 / FIRST)


cdef inline void add_moments(
    Moments *into, const floating *x, Py_ssize_t n, Watch *watch
) noexcept nogil:
    """Merge the moments of a contiguous run into *into."""
    cdef Py_ssize_t size
    cdef floating k, sum, squares
    cdef double inverse
    while n > 0:
        size = min(<Py_ssize_t>BLOCK, n)
        if pause(watch, n, size):
            return
        inverse = 1.0 / size
        k = <floating>into.mean if into.count >= FIRST else beginning(x, size)
        squares = block_squares(x, size, k, &sum)
        if not finite(squares) or underflow(squares, sum, x[0], x[size - 1], k):
            merge_wide(into, x, size, 1)
        else:
            merge(into, <double>size, k + sum * inverse, squares - sum * (sum * inverse))
        x += size
        n -= size


cdef inline void _row_sums(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width, floating *sums
) noexcept nogil:
    """sums = sum over rows"""
    cdef Py_ssize_t n, c
    for c in range(width):
        sums[c] = 0
    for n in range(rows):
        for c in range(width):
            sums[c] += x[n * stride + c]


cdef inline void _row_squares(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width, const floating *k,
    floating *first, floating *second
) noexcept nogil:
    """first = sum over rows of x - k, second of (x - k)^2; four rows a pass: fewer stores."""
    cdef floating p, q, r, s
    cdef Py_ssize_t n = 0, c
    for c in range(width):
        first[c] = 0
        second[c] = 0
    while n + 4 <= rows:
        for c in range(width):
            p = x[c] - k[c]
            q = x[stride + c] - k[c]
            r = x[2 * stride + c] - k[c]
            s = x[3 * stride + c] - k[c]
            first[c] += (p + q) + (r + s)
            second[c] += (p * p + q * q) + (r * r + s * s)
        x += 4 * stride
        n += 4
    while n < rows:
        for c in range(width):
            p = x[c] - k[c]
            first[c] += p
            second[c] += p * p
        x += stride
        n += 1


cdef inline void add_column_moments(
    const floating *x, Py_ssize_t rows, Py_ssize_t stride, Py_ssize_t width, Watch *watch,
    double *mean, double *m2
) noexcept nogil:
    """add_moments for `width` neighbouring columns at once, from nothing: mean and m2 are set."""
    cdef Line line[3]
    cdef floating *k = <floating *>&line[0]
    cdef floating *first = <floating *>&line[1]
    cdef floating *second = <floating *>&line[2]
    cdef double inverse, weight, spread, delta, count = 0
    cdef Moments moments
    cdef Py_ssize_t c, size
    cdef const floating *last
    cdef int awkward
    for c in range(width):
        mean[c] = 0
        m2[c] = 0
    while rows > 0:
        size = min(<Py_ssize_t>STRIP, rows)
        if pause(watch, rows * width, size * width):
            return
        if count == 0:
            _row_sums(x, min(<Py_ssize_t>FIRST_ROWS, size), stride, width, k)
            for c in range(width):
                k[c] *= <floating>(1.0 / min(<Py_ssize_t>FIRST_ROWS, size))
        else:
            for c in range(width):
                k[c] = <floating>mean[c]
        _row_squares(x, size, stride, width, <const floating *>k, first, second)
        awkward = 0
        last = x + (size - 1) * stride
        for c in range(width):
            awkward |= (second[c] - second[c] != 0) | underflow(
                second[c], first[c], x[c], last[c], k[c])
        inverse = 1.0 / size
        if not awkward:
            weight = size / (count + size)
            spread = count * weight
            for c in range(width):
                delta = k[c] + first[c] * inverse - mean[c]
                mean[c] += delta * weight
                m2[c] += second[c] - first[c] * (first[c] * inverse) + delta * (delta * spread)
        else:
            for c in range(width):
                moments.count, moments.mean, moments.m2 = count, mean[c], m2[c]
                if finite(second[c]) and not underflow(
                        second[c], first[c], x[c], last[c], k[c]):
                    merge(&moments, <double>size, k[c] + first[c] * inverse,
                          second[c] - first[c] * (first[c] * inverse))
                else:
                    merge_wide(&moments, x + c, size, stride)
                mean[c], m2[c] = moments.mean, moments.m2
        count += size
        x += size * stride
        rows -= size


cdef inline void row_products(
    const floating *dout, Py_ssize_t dout_stride, const floating *x, Py_ssize_t stride,
    Py_ssize_t rows, Py_ssize_t width, const floating *k, floating *sums, floating *dots
) noexcept nogil:
    """sums += sum over rows of dout, dots of dout * (x - k). At most four rows."""
    cdef const floating *d1 = dout + dout_stride
    cdef const floating *d2 = dout + 2 * dout_stride
    cdef const floating *d3 = dout + 3 * dout_stride
    cdef Py_ssize_t n, c
    if rows == 4:
        for c in range(width):
            sums[c] += (dout[c] + d1[c]) + (d2[c] + d3[c])
            dots[c] += (dout[c] * (x[c] - k[c]) + d1[c] * (x[stride + c] - k[c])) + (
                d2[c] * (x[2 * stride + c] - k[c]) + d3[c] * (x[3 * stride + c] - k[c]))
        return
    for n in range(rows):
        for c in range(width):
            sums[c] += dout[n * dout_stride + c]
            dots[c] += dout[n * dout_stride + c] * (x[n * stride + c] - k[c])


cdef inline double wide_sum(const floating *x, Py_ssize_t n, Watch *watch) noexcept nogil:
    """Sum of a contiguous run, carried in double from block to block."""
    cdef Py_ssize_t size
    cdef double total = 0
    while n > 0:
        size = min(<Py_ssize_t>BLOCK, n)
        if pause(watch, n, size):
            return 0
        total += block_sum(x, size)
        x += size
        n -= size
    return total
