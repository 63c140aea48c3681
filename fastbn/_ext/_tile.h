/* The register tile under every matrix product: FB_MR rows by two native vectors.
 *
 * C rather than Cython because the accumulators must stay in registers. With a vector type of the
 * level's own width and every loop over them unrolled they do, at -O2 and -O3 alike; written as
 * plain loops over an array GCC keeps them in memory and the tile runs some thirty times slower.
 *
 *   fb_tile:    c += a b    with a packed as [depth][FB_MR], b as [depth][two vectors]
 *   fb_gather:  the same, but row i of a is read in place, from x + offset[i]: `lines` lines of
 *               `length` steps; the weight gradient of a convolution reads its image that way
 *
 * `start` non-NULL: c = start[i] + a b in row i, whatever c held. Else the product is summed by
 * itself and then added to c: a long sum is cut into blocks, and so keeps more digits.
 * At an edge fewer `rows` and `columns` are asked for: whole thirds of the rows and whole vectors
 * are computed and stored, so c has room for those.
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
    static V V##_set(T s) { \
        V v; for (size_t l = 0; l < FB_BYTES / sizeof(T); l++) v.lane[l] = s; return v; } \
    static V V##_add(V a, V b) { \
        for (size_t l = 0; l < FB_BYTES / sizeof(T); l++) a.lane[l] += b.lane[l]; return a; }
#endif

/* The bodies take their size as constants, and are inlined into one copy for each size. */
#define FB_EACH FB_UNROLL for (int i = 0; i < R; i++) FB_UNROLL for (int v = 0; v < VS; v++)

#define FB_TILES(T, V, TILE, GATHER) \
FB_VECTOR(T, V) \
enum { V##_W = FB_BYTES / sizeof(T) }; \
FB_INLINE void TILE##_body(const int R, const int VS, ptrdiff_t depth, const T *a, const T *b, \
                           const T *start, T *c, ptrdiff_t ldc) \
{ \
    V acc[FB_MR][2], bv[2]; \
    FB_EACH acc[i][v] = V##_set(start ? start[i] : 0); \
    for (ptrdiff_t p = 0; p < depth; p++, a += FB_MR, b += 2 * V##_W) { \
        FB_UNROLL for (int v = 0; v < VS; v++) bv[v] = V##_load(b + v * V##_W); \
        FB_EACH acc[i][v] = V##_fma(a[i], bv[v], acc[i][v]); \
    } \
    if (!start) FB_EACH acc[i][v] = V##_add(acc[i][v], V##_load(c + i * ldc + v * V##_W)); \
    FB_EACH V##_store(c + i * ldc + v * V##_W, acc[i][v]); \
} \
FB_INLINE void GATHER##_body(const int R, const int VS, ptrdiff_t lines, ptrdiff_t length, \
                             const T *x, const ptrdiff_t *offset, ptrdiff_t line, \
                             ptrdiff_t step, const T *b, T *c, ptrdiff_t ldc) \
{ \
    V acc[FB_MR][2], bv[2]; \
    FB_EACH acc[i][v] = V##_set(0); \
    for (ptrdiff_t l = 0; l < lines; l++, x += line) { \
        const T *at = x; \
        for (ptrdiff_t p = 0; p < length; p++, at += step, b += 2 * V##_W) { \
            FB_UNROLL for (int v = 0; v < VS; v++) bv[v] = V##_load(b + v * V##_W); \
            FB_EACH acc[i][v] = V##_fma(at[offset[i]], bv[v], acc[i][v]); \
        } \
    } \
    FB_EACH acc[i][v] = V##_add(acc[i][v], V##_load(c + i * ldc + v * V##_W)); \
    FB_EACH V##_store(c + i * ldc + v * V##_W, acc[i][v]); \
} \
static void TILE(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth, const T *a, const T *b, \
                 const T *start, T *c, ptrdiff_t ldc) \
{ FB_BY_SIZE(TILE##_body, V##_W, depth, a, b, start, c, ldc) } \
static void GATHER(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t lines, ptrdiff_t length, \
                   const T *x, const ptrdiff_t *offset, ptrdiff_t line, ptrdiff_t step, \
                   const T *b, T *c, ptrdiff_t ldc) \
{ FB_BY_SIZE(GATHER##_body, V##_W, lines, length, x, offset, line, step, b, c, ldc) }

#define FB_BY_SIZE(body, W, ...) \
    if (rows > 2 * FB_STEP) { \
        if (columns > W) body(3 * FB_STEP, 2, __VA_ARGS__); \
        else body(3 * FB_STEP, 1, __VA_ARGS__); \
    } else if (rows > FB_STEP) { \
        if (columns > W) body(2 * FB_STEP, 2, __VA_ARGS__); \
        else body(2 * FB_STEP, 1, __VA_ARGS__); \
    } else { \
        if (columns > W) body(FB_STEP, 2, __VA_ARGS__); \
        else body(FB_STEP, 1, __VA_ARGS__); \
    }

FB_TILES(float, fb_vf, fb_tile_f, fb_gather_f)
FB_TILES(double, fb_vd, fb_tile_d, fb_gather_d)

#endif
