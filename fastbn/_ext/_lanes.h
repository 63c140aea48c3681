/* Sums over one block of numbers, with the partial sums kept in registers.
 *
 * C rather than Cython for the reason that _tile.h has: of partial sums in an array GCC keeps some in
 * memory, and every addition then waits for the store before it.
 *
 *   fb_sum:       sum of x
 *   fb_squares:   sum of (x - k)^2, and of x - k
 *   fb_products:  sum of d * (x - k), and of d
 *   fb_weighted:  the same with d * w for d
 *
 * Four vectors of each sum hide the latency of an addition. Eight additions are summed by themselves
 * before they join the others: next to a large number less is lost. What is left over at the end is
 * added by a vector that ends there, of which only the numbers that are left count.
 */
#ifndef FASTBN_LANES_H
#define FASTBN_LANES_H

#include <stdint.h>
#include "_tile.h"

enum fb_terms { FB_SUM, FB_SQUARES, FB_PRODUCTS, FB_WEIGHTED };

/* The two terms of number i, or of the vector that begins there; `terms` is a constant. */
#define FB_TERMS(LOAD, i) \
    switch (terms) { \
        case FB_SUM: a = LOAD(x + (i)); b = a - a; break; \
        case FB_SQUARES: a = LOAD(x + (i)) - k; b = a * a; break; \
        case FB_PRODUCTS: a = LOAD(d + (i)); b = a * (LOAD(x + (i)) - k); break; \
        default: a = LOAD(d + (i)) * LOAD(w + (i)); b = a * (LOAD(x + (i)) - k); \
    }
#define FB_ONE(p) (*(p))

#if FB_VECTORS
static const int32_t fb_tail[32] = {0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
                                    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

/* The sum of a vector's numbers, a half to the other: in registers where the compiler can. Through an
 * array GCC reads what it has just written in other widths, and waits for it. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FB_SHUFFLE 1
#endif
#endif

#ifdef FB_SHUFFLE
typedef int64_t fb_v8 __attribute__((vector_size(64))), fb_v4 __attribute__((vector_size(32)));
typedef int64_t fb_v2 __attribute__((vector_size(16)));
typedef float fb_f8 __attribute__((vector_size(32))), fb_f4 __attribute__((vector_size(16)));
typedef double fb_d4 __attribute__((vector_size(32))), fb_d2 __attribute__((vector_size(16)));
#define FB_HALF(H, v, ...) ((H)__builtin_shufflevector(v, v, __VA_ARGS__))

static inline float fb_fold_f(fb_vf v) {
#if FB_BYTES == 64
    fb_f8 v8 = FB_HALF(fb_f8, (fb_v8)v, 0, 1, 2, 3) + FB_HALF(fb_f8, (fb_v8)v, 4, 5, 6, 7);
#elif FB_BYTES == 32
    fb_f8 v8 = (fb_f8)v;
#endif
#if FB_BYTES >= 32
    fb_f4 v4 = FB_HALF(fb_f4, (fb_v4)v8, 0, 1) + FB_HALF(fb_f4, (fb_v4)v8, 2, 3);
#else
    fb_f4 v4 = (fb_f4)v;
#endif
    v4 += FB_HALF(fb_f4, (fb_v2)v4, 1, 0);
    return v4[0] + v4[1];
}

static inline double fb_fold_d(fb_vd v) {
#if FB_BYTES == 64
    fb_d4 v4 = FB_HALF(fb_d4, (fb_v8)v, 0, 1, 2, 3) + FB_HALF(fb_d4, (fb_v8)v, 4, 5, 6, 7);
#elif FB_BYTES == 32
    fb_d4 v4 = (fb_d4)v;
#endif
#if FB_BYTES >= 32
    fb_d2 v2 = FB_HALF(fb_d2, (fb_v4)v4, 0, 1) + FB_HALF(fb_d2, (fb_v4)v4, 2, 3);
#else
    fb_d2 v2 = (fb_d2)v;
#endif
    return v2[0] + v2[1];
}
#else
#define FB_FOLD(T, V, NAME) \
    static inline T fb_fold_##NAME(V v) { \
        T sum = 0; \
        for (size_t i = 0; i < FB_BYTES / sizeof(T); i++) sum += v[i]; \
        return sum; \
    }
FB_FOLD(float, fb_vf, f)
FB_FOLD(double, fb_vd, d)
#endif

#define FB_SUMS(T, V, NAME) \
    typedef int32_t V##_bits __attribute__((vector_size(FB_BYTES), aligned(4), may_alias)); \
    FB_INLINE T fb_sums_##NAME(enum fb_terms terms, const T *d, const T *w, const T *x, \
                               ptrdiff_t n, T k, T *sum) { \
        enum { L = FB_BYTES / sizeof(T) }; \
        V first[4] = {{0}}, second[4] = {{0}}; \
        T one = 0, two = 0; \
        ptrdiff_t i = 0; \
        while (i + 4 * L <= n) { \
            V a1[4] = {{0}}, b1[4] = {{0}}; \
            for (int r = 0; r < 8 && i + 4 * L <= n; r++, i += 4 * L) { \
                FB_UNROLL for (int j = 0; j < 4; j++) { \
                    V a, b; \
                    FB_TERMS(V##_load, i + j * L) \
                    a1[j] += a; \
                    b1[j] += b; \
                } \
            } \
            FB_UNROLL for (int j = 0; j < 4; j++) { \
                first[j] += a1[j]; \
                second[j] += b1[j]; \
            } \
        } \
        for (; i + L <= n; i += L) { \
            V a, b; \
            FB_TERMS(V##_load, i) \
            first[0] += a; \
            second[0] += b; \
        } \
        if (i < n && n >= L) { \
            V a, b; \
            const char *end = (const char *)fb_tail + 64 - FB_BYTES + (n - i) * sizeof(T); \
            const V##_bits tail = *(const V##_bits *)end; \
            FB_TERMS(V##_load, n - L) \
            first[1] += (V)((V##_bits)a & tail); \
            second[1] += (V)((V##_bits)b & tail); \
        } else { \
            for (; i < n; i++) { \
                T a, b; \
                FB_TERMS(FB_ONE, i) \
                one += a; \
                two += b; \
            } \
        } \
        *sum = one + fb_fold_##NAME((first[0] + first[1]) + (first[2] + first[3])); \
        return two + fb_fold_##NAME((second[0] + second[1]) + (second[2] + second[3])); \
    }
#else /* No vector extension: right, but slow. */
#define FB_SUMS(T, V, NAME) \
    static inline T fb_sums_##NAME(enum fb_terms terms, const T *d, const T *w, const T *x, \
                                   ptrdiff_t n, T k, T *sum) { \
        T one = 0, two = 0; \
        for (ptrdiff_t i = 0; i < n; i++) { \
            T a, b; \
            FB_TERMS(FB_ONE, i) \
            one += a; \
            two += b; \
        } \
        *sum = one; \
        return two; \
    }
#endif

#define FB_REDUCTIONS(T, V, NAME) \
    FB_SUMS(T, V, NAME) \
    static inline T fb_sum_##NAME(const T *x, ptrdiff_t n) { \
        T sum; \
        fb_sums_##NAME(FB_SUM, x, x, x, n, 0, &sum); \
        return sum; \
    } \
    static inline T fb_squares_##NAME(const T *x, ptrdiff_t n, T k, T *sum) { \
        return fb_sums_##NAME(FB_SQUARES, x, x, x, n, k, sum); \
    } \
    static inline T fb_products_##NAME(const T *d, const T *x, ptrdiff_t n, T k, T *sum) { \
        return fb_sums_##NAME(FB_PRODUCTS, d, d, x, n, k, sum); \
    } \
    static inline T fb_weighted_##NAME(const T *d, const T *w, const T *x, ptrdiff_t n, T k, \
                                       T *sum) { \
        return fb_sums_##NAME(FB_WEIGHTED, d, w, x, n, k, sum); \
    }

FB_REDUCTIONS(float, fb_vf, f)
FB_REDUCTIONS(double, fb_vd, d)

#endif
