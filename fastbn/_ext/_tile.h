/* The register tiles under every matrix product.
 *
 * C rather than Cython because the accumulators must stay in registers. With a vector type of the
 * level's own width and every loop over them unrolled they do, at -O2 and -O3 alike; written as
 * plain loops over an array GCC keeps them in memory and the tile runs some thirty times slower.
 *
 *   fb_tile:  c += a b       FB_MR rows by two vectors. a is packed as [depth][rows]; step p of b
 *                            is read where it lies, at b0 + offset[p] and b1 + offset[p]: a vector
 *                            of pixels under place p of a filter, or a row of a packed panel.
 *   fb_dot:   sums = d x'    FB_DF rows of d by FB_DX of x; the lanes run along the sum and are
 *                            added up in the end. Vector t of x is at x[v] + at[t].
 *
 * `start` non-NULL: c = start[i] + a b in row i, whatever c held. Else the product is summed by
 * itself and then added to c: a long sum is cut into blocks, and so keeps more digits.
 * Fewer rows come in thirds of FB_MR (of FB_STEP each), fewer columns as one vector.
 */
#ifndef FASTBN_TILE_H
#define FASTBN_TILE_H

#include <stddef.h>

#if defined(__AVX512F__)
#define FB_BYTES 64
#define FB_MR 12
#elif defined(__AVX__)
#define FB_BYTES 32
#define FB_MR 6
#elif defined(__aarch64__)
#define FB_BYTES 16
#define FB_MR 12
#else
#define FB_BYTES 16
#define FB_MR 6
#endif

#define FB_STEP (FB_MR / 3)

/* Of fb_dot: with FB_DX vectors of x and one of d they fill the registers. */
#if FB_MR == 12
#define FB_DF 6
#define FB_DX 4
#else
#define FB_DF 4
#define FB_DX 3
#endif

#if defined(__GNUC__)
#define FB_INLINE static inline __attribute__((always_inline))
#else
#define FB_INLINE static inline
#endif

#if defined(__clang__)
#define FB_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define FB_UNROLL _Pragma("GCC unroll 16")
#else
#define FB_UNROLL
#endif

#if defined(__GNUC__)
#define FB_VECTOR(T, V) \
    typedef T V __attribute__((vector_size(FB_BYTES), aligned(sizeof(T)), may_alias)); \
    static inline V V##_load(const T *p) { return *(const V *)p; } \
    static inline void V##_store(T *p, V v) { *(V *)p = v; } \
    static inline V V##_fma(T s, V v, V acc) { return acc + s * v; } \
    static inline V V##_dot(V u, V v, V acc) { return acc + u * v; } \
    static inline V V##_set(T s) { return s - (V){0}; } \
    static inline V V##_add(V a, V b) { return a + b; }
#else  /* No vector extension: the same tile from plain loops, right but slow. */
#define FB_VECTOR(T, V) \
    typedef struct { T lane[FB_BYTES / sizeof(T)]; } V; \
    static V V##_load(const T *p) { return *(const V *)p; } \
    static void V##_store(T *p, V v) { *(V *)p = v; } \
    static V V##_fma(T s, V v, V acc) { \
        for (size_t l = 0; l < FB_BYTES / sizeof(T); l++) acc.lane[l] += s * v.lane[l]; \
        return acc; } \
    static V V##_dot(V u, V v, V acc) { \
        for (size_t l = 0; l < FB_BYTES / sizeof(T); l++) acc.lane[l] += u.lane[l] * v.lane[l]; \
        return acc; } \
    static V V##_set(T s) { \
        V v; for (size_t l = 0; l < FB_BYTES / sizeof(T); l++) v.lane[l] = s; return v; } \
    static V V##_add(V a, V b) { \
        for (size_t l = 0; l < FB_BYTES / sizeof(T); l++) a.lane[l] += b.lane[l]; return a; }
#endif

/* The body takes its size as constants, and is inlined into one copy for each size. */
#define FB_EACH FB_UNROLL for (int i = 0; i < R; i++) FB_UNROLL for (int v = 0; v < VS; v++)

#define FB_TILES(T, V, TILE, DOT) \
FB_VECTOR(T, V) \
enum { V##_W = FB_BYTES / sizeof(T) }; \
FB_INLINE void TILE##_body(const int R, const int VS, ptrdiff_t depth, const T *a, const T *b0, \
                           const T *b1, const ptrdiff_t *offset, const T *start, T *c0, T *c1, \
                           ptrdiff_t ldc) \
{ \
    V acc[FB_MR][2], bv[2]; \
    const T *b[2] = {b0, b1}; \
    T *c[2] = {c0, c1}; \
    FB_EACH acc[i][v] = V##_set(start ? start[i] : 0); \
    for (ptrdiff_t p = 0; p < depth; p++, a += R) { \
        FB_UNROLL for (int v = 0; v < VS; v++) bv[v] = V##_load(b[v] + offset[p]); \
        FB_EACH acc[i][v] = V##_fma(a[i], bv[v], acc[i][v]); \
    } \
    if (!start) FB_EACH acc[i][v] = V##_add(acc[i][v], V##_load(c[v] + i * ldc)); \
    FB_EACH V##_store(c[v] + i * ldc, acc[i][v]); \
} \
static void TILE(ptrdiff_t rows, int vectors, ptrdiff_t depth, const T *a, const T *b0, \
                 const T *b1, const ptrdiff_t *offset, const T *start, T *c0, T *c1, \
                 ptrdiff_t ldc) \
{ \
    if (rows > 2 * FB_STEP) FB_WIDTHS(TILE##_body, 3 * FB_STEP) \
    else if (rows > FB_STEP) FB_WIDTHS(TILE##_body, 2 * FB_STEP) \
    else FB_WIDTHS(TILE##_body, FB_STEP) \
} \
static void DOT(ptrdiff_t count, const T *d, ptrdiff_t ldd, const T *x, \
                const ptrdiff_t *offset, const ptrdiff_t *at, T *sums) \
{ \
    enum { R = FB_DF, VS = FB_DX }; \
    V acc[R][VS], xv[VS], dv; \
    FB_EACH acc[i][v] = V##_set(0); \
    for (ptrdiff_t t = 0; t < count; t++, d += V##_W) { \
        const T *here = x + at[t]; \
        FB_UNROLL for (int v = 0; v < VS; v++) xv[v] = V##_load(here + offset[v]); \
        FB_UNROLL for (int i = 0; i < R; i++) { \
            dv = V##_load(d + i * ldd); \
            FB_UNROLL for (int v = 0; v < VS; v++) acc[i][v] = V##_dot(dv, xv[v], acc[i][v]); \
        } \
    } \
    T lanes[R * VS * V##_W]; \
    FB_EACH V##_store(lanes + (i * VS + v) * V##_W, acc[i][v]); \
    /* All rows' lanes fold in halves, in place: a sum of lanes one by one would wait for itself. */ \
    FB_UNROLL for (int half = V##_W / 2; half > 0; half /= 2) \
        for (int r = 0; r < R * VS; r++) \
            FB_UNROLL for (int l = 0; l < half; l++) \
                lanes[r * half + l] = lanes[2 * r * half + l] + lanes[(2 * r + 1) * half + l]; \
    for (int r = 0; r < R * VS; r++) sums[r] = lanes[r]; \
}

#define FB_WIDTHS(body, R) { \
    if (vectors > 1) body(R, 2, depth, a, b0, b1, offset, start, c0, c1, ldc); \
    else body(R, 1, depth, a, b0, b1, offset, start, c0, c1, ldc); }

FB_TILES(float, fb_vf, fb_tile_f, fb_dot_f)
FB_TILES(double, fb_vd, fb_tile_d, fb_dot_d)

#endif
