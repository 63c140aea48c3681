/* The register tiles under every matrix product.
 *
 * C rather than Cython because the accumulators must stay in registers. With a vector type of the
 * level's own width and every loop over them unrolled they do, at -O2 and -O3 alike; written as
 * plain loops over an array GCC keeps them in memory and the tile runs some thirty times slower.
 *
 *   fb_tile:  c += a b       FB_MR rows by two vectors. a is packed as [depth][rows]; vector v of
 *                            step p of b is read where it lies, at b[v] + offset[p]: pixels under
 *                            place p of a filter, or a row of a packed panel. Vector v of row i of
 *                            c is at c[v] + i * ldc. Up to FB_THIN rows go with FB_WIDE vectors.
 *   fb_dot:   sums += d x'   FB_DF rows of d by FB_DX of x; the lanes run along the sum and are
 *                            added up in the end. Vector t of x is at x[v] + at[t].
 *
 * `start` non-NULL: c = start[i] + a b in row i, whatever c held. Else the product is summed by
 * itself and then added to c: a long sum is cut into blocks, and so keeps more digits.
 * Fewer rows come in thirds of FB_MR (of FB_STEP each); fewer vectors of c are told by `vectors`.
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
#define FB_THIN 3
#define FB_WIDE (2 * FB_MR / FB_THIN)

/* Of fb_dot: with FB_DX vectors of x and one of d they fill the registers. */
#if FB_MR == 12
#define FB_DF 6
#define FB_DX 4
#else
#define FB_DF 4
#define FB_DX 3
#endif

/* Whether there are vector types; -DFB_VECTORS=0 goes without, as compilers that have none must.
 * Clang has them under Windows too, where it does not call itself GNU C. */
#ifndef FB_VECTORS
#if defined(__GNUC__) || defined(__clang__)
#define FB_VECTORS 1
#else
#define FB_VECTORS 0
#endif
#endif

#if defined(__GNUC__) || defined(__clang__)
#define FB_INLINE static inline __attribute__((always_inline))
#define FB_ALONE static __attribute__((noinline))  /* all registers are for the tile */
#else
#define FB_INLINE static inline
#define FB_ALONE static
#endif

#if defined(__clang__)
#define FB_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define FB_UNROLL _Pragma("GCC unroll 16")
#else
#define FB_UNROLL
#endif

#if FB_VECTORS
#define FB_VECTOR(T, V) \
    typedef T V __attribute__((vector_size(FB_BYTES), aligned(sizeof(T)), may_alias)); \
    static inline V V##_load(const T *p) { return *(const V *)p; } \
    static inline void V##_store(T *p, V v) { *(V *)p = v; } \
    static inline V V##_fma(T s, V v, V acc) { return acc + s * v; } \
    static inline V V##_dot(V u, V v, V acc) { return acc + u * v; } \
    static inline V V##_set(T s) { return s - (V){0}; } \
    static inline V V##_add(V a, V b) { return a + b; }

/* Adds up the lanes of 16 bytes' worth of sums, one after the other in memory. Wide loads from
 * wider stores, and then registers: narrow stores read back as wide ones make the load wait. */
typedef float fb_xf __attribute__((vector_size(16), aligned(4), may_alias));
typedef double fb_xd __attribute__((vector_size(16), aligned(8), may_alias));
typedef int fb_i4 __attribute__((vector_size(16)));
typedef long long fb_i2 __attribute__((vector_size(16)));
#if defined(__clang__) || __GNUC__ >= 12
#define FB_MIX_F(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define FB_MIX_D(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FB_MIX_F(a, b, ...) __builtin_shuffle(a, b, (fb_i4){__VA_ARGS__})
#define FB_MIX_D(a, b, ...) __builtin_shuffle(a, b, (fb_i2){__VA_ARGS__})
#endif
#define FB_PAIRS_F(a, b) (FB_MIX_F(a, b, 0, 2, 4, 6) + FB_MIX_F(a, b, 1, 3, 5, 7))
#define FB_PAIRS_D(a, b) (FB_MIX_D(a, b, 0, 2) + FB_MIX_D(a, b, 1, 3))
/* to[p * width + i] = row[i][p] for four rows and four steps. */
static inline void fb_vf_turn(const float *const *row, ptrdiff_t p, float *to, ptrdiff_t width)
{
    fb_xf x[4], y[4];
    FB_UNROLL for (int i = 0; i < 4; i++) x[i] = *(const fb_xf *)(row[i] + p);
    y[0] = FB_MIX_F(x[0], x[1], 0, 4, 1, 5);
    y[1] = FB_MIX_F(x[2], x[3], 0, 4, 1, 5);
    y[2] = FB_MIX_F(x[0], x[1], 2, 6, 3, 7);
    y[3] = FB_MIX_F(x[2], x[3], 2, 6, 3, 7);
    *(fb_xf *)to = FB_MIX_F(y[0], y[1], 0, 1, 4, 5);
    *(fb_xf *)(to + width) = FB_MIX_F(y[0], y[1], 2, 3, 6, 7);
    *(fb_xf *)(to + 2 * width) = FB_MIX_F(y[2], y[3], 0, 1, 4, 5);
    *(fb_xf *)(to + 3 * width) = FB_MIX_F(y[2], y[3], 2, 3, 6, 7);
}
static inline void fb_vd_turn(const double *const *row, ptrdiff_t p, double *to, ptrdiff_t width)
{
    for (int half = 0; half < 4; half += 2)
        for (int step = 0; step < 4; step += 2) {
            fb_xd x = *(const fb_xd *)(row[half] + p + step);
            fb_xd y = *(const fb_xd *)(row[half + 1] + p + step);
            *(fb_xd *)(to + step * width + half) = FB_MIX_D(x, y, 0, 2);
            *(fb_xd *)(to + (step + 1) * width + half) = FB_MIX_D(x, y, 1, 3);
        }
}
/* even[i] = x[2 * i] and odd[i] = x[2 * i + 1] for four i, and back. */
static inline void fb_vf_part(const float *x, float *even, float *odd)
{
    fb_xf a = *(const fb_xf *)x, b = *(const fb_xf *)(x + 4);
    *(fb_xf *)even = FB_MIX_F(a, b, 0, 2, 4, 6);
    *(fb_xf *)odd = FB_MIX_F(a, b, 1, 3, 5, 7);
}
static inline void fb_vd_part(const double *x, double *even, double *odd)
{
    for (int i = 0; i < 4; i += 2) {
        fb_xd a = *(const fb_xd *)(x + 2 * i), b = *(const fb_xd *)(x + 2 * i + 2);
        *(fb_xd *)(even + i) = FB_MIX_D(a, b, 0, 2);
        *(fb_xd *)(odd + i) = FB_MIX_D(a, b, 1, 3);
    }
}
static inline void fb_vf_zip(const float *even, const float *odd, float *x)
{
    fb_xf a = *(const fb_xf *)even, b = *(const fb_xf *)odd;
    *(fb_xf *)x = FB_MIX_F(a, b, 0, 4, 1, 5);
    *(fb_xf *)(x + 4) = FB_MIX_F(a, b, 2, 6, 3, 7);
}
static inline void fb_vd_zip(const double *even, const double *odd, double *x)
{
    for (int i = 0; i < 4; i += 2) {
        fb_xd a = *(const fb_xd *)(even + i), b = *(const fb_xd *)(odd + i);
        *(fb_xd *)(x + 2 * i) = FB_MIX_D(a, b, 0, 2);
        *(fb_xd *)(x + 2 * i + 2) = FB_MIX_D(a, b, 1, 3);
    }
}
static inline void fb_vf_fold(const float *lanes, float *sums)
{
    fb_xf x[4];
    FB_UNROLL for (int r = 0; r < 4; r++) {
        x[r] = *(const fb_xf *)(lanes + r * (FB_BYTES / 4));
        FB_UNROLL for (int l = 4; l < FB_BYTES / 4; l += 4)
            x[r] += *(const fb_xf *)(lanes + r * (FB_BYTES / 4) + l);
    }
    x[0] = FB_PAIRS_F(x[0], x[1]);
    x[2] = FB_PAIRS_F(x[2], x[3]);
    *(fb_xf *)sums += FB_PAIRS_F(x[0], x[2]);
}
static inline void fb_vd_fold(const double *lanes, double *sums)
{
    fb_xd x[2];
    FB_UNROLL for (int r = 0; r < 2; r++) {
        x[r] = *(const fb_xd *)(lanes + r * (FB_BYTES / 8));
        FB_UNROLL for (int l = 2; l < FB_BYTES / 8; l += 2)
            x[r] += *(const fb_xd *)(lanes + r * (FB_BYTES / 8) + l);
    }
    *(fb_xd *)sums += FB_PAIRS_D(x[0], x[1]);
}
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
        for (size_t l = 0; l < FB_BYTES / sizeof(T); l++) a.lane[l] += b.lane[l]; \
        return a; } \
    static void V##_turn(const T *const *row, ptrdiff_t p, T *to, ptrdiff_t width) { \
        for (int s = 0; s < 4; s++) for (int i = 0; i < 4; i++) to[s * width + i] = row[i][p + s]; } \
    static void V##_part(const T *x, T *even, T *odd) { \
        for (int i = 0; i < 4; i++) { even[i] = x[2 * i]; odd[i] = x[2 * i + 1]; } } \
    static void V##_zip(const T *even, const T *odd, T *x) { \
        for (int i = 0; i < 4; i++) { x[2 * i] = even[i]; x[2 * i + 1] = odd[i]; } } \
    static void V##_fold(const T *lanes, T *sums) { \
        for (size_t r = 0; r < 16 / sizeof(T); r++, lanes += FB_BYTES / sizeof(T)) { \
            for (size_t l = 0; l < FB_BYTES / sizeof(T); l++) sums[r] += lanes[l]; } }
#endif

/* The body takes its size as constants, and is inlined into one copy for each size. The fewer of
 * a step's rows and vectors is loaded ahead. */
#define FB_EACH FB_UNROLL for (int i = 0; i < R; i++) FB_UNROLL for (int v = 0; v < VS; v++)

#define FB_TILES(T, V, TILE, DOT) \
FB_VECTOR(T, V) \
enum { V##_W = FB_BYTES / sizeof(T) }; \
FB_INLINE void TILE##_body(const int R, const int VS, ptrdiff_t depth, const T *a, \
                           const T *const *b, const ptrdiff_t *offset, const T *start, \
                           T *const *c, ptrdiff_t ldc) \
{ \
    V acc[FB_MR][FB_WIDE], bv[2]; \
    const T *bs[FB_WIDE]; \
    FB_UNROLL for (int v = 0; v < VS; v++) bs[v] = b[v]; \
    FB_EACH acc[i][v] = V##_set(start ? start[i] : 0); \
    for (ptrdiff_t p = 0; p < depth; p++, a += R) { \
        if (VS <= 2) { \
            FB_UNROLL for (int v = 0; v < VS; v++) bv[v] = V##_load(bs[v] + offset[p]); \
            FB_EACH acc[i][v] = V##_fma(a[i], bv[v], acc[i][v]); \
        } else FB_UNROLL for (int v = 0; v < VS; v++) { \
            V one = V##_load(bs[v] + offset[p]); \
            FB_UNROLL for (int i = 0; i < R; i++) acc[i][v] = V##_fma(a[i], one, acc[i][v]); \
        } \
    } \
    if (!start) FB_EACH acc[i][v] = V##_add(acc[i][v], V##_load(c[v] + i * ldc)); \
    FB_EACH V##_store(c[v] + i * ldc, acc[i][v]); \
} \
FB_ALONE void TILE(ptrdiff_t rows, int vectors, ptrdiff_t depth, const T *a, const T *const *b, \
                 const ptrdiff_t *offset, const T *start, T *const *c, ptrdiff_t ldc) \
{ \
    if (vectors > 2) TILE##_body(FB_THIN, FB_WIDE, depth, a, b, offset, start, c, ldc); \
    else if (rows > 2 * FB_STEP) FB_WIDTHS(TILE##_body, 3 * FB_STEP) \
    else if (rows > FB_STEP) FB_WIDTHS(TILE##_body, 2 * FB_STEP) \
    else FB_WIDTHS(TILE##_body, FB_STEP) \
} \
FB_ALONE void DOT(ptrdiff_t count, const T *d, ptrdiff_t ldd, const T *x, \
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
    FB_UNROLL for (int r = 0; r < R * VS; r += 16 / (int)sizeof(T)) V##_fold(lanes + r * V##_W, sums + r); \
}

/* to[p * width + i] = row i of x at p, four rows a pass, from the last: where width is no multiple
 * of four a pass writes over the beginning of what the next one writes. `to` has room for two more. */
#define FB_TURN(T, V, NAME) \
static void NAME(const T *x, ptrdiff_t rows, ptrdiff_t line, ptrdiff_t depth, ptrdiff_t width, T *to) \
{ \
    for (ptrdiff_t i = (rows - 1) / 4 * 4; i >= 0; i -= 4) { \
        const T *row[4]; \
        ptrdiff_t p = 0; \
        for (int r = 0; r < 4; r++) row[r] = x + (i + r < rows ? i + r : rows - 1) * line; \
        if (i + 4 <= width || i > 0) \
            for (; p + 4 <= depth; p += 4) V##_turn(row, p, to + p * width + i, width); \
        for (; p < depth; p++) \
            for (int r = 0; r < 4 && i + r < rows; r++) to[p * width + i + r] = row[r][p]; \
    } \
}

/* Rows dealt out, to[d * width + i] = x[i * stride + d] for d < deals, and collected again, the other
 * way round. Four i a pass at strides 2 and 4, the last pass over some that were done: GCC's own
 * loops cost more to enter than they save on the rows of small images. */
#define FB_DEAL(T, V, DEAL, COLLECT) \
static void DEAL(const T *x, ptrdiff_t stride, ptrdiff_t deals, ptrdiff_t count, T *to, \
                 ptrdiff_t width) \
{ \
    ptrdiff_t i = 0; \
    if (deals == stride && count >= 4 && (stride == 2 || stride == 4)) \
        for (; i < count; i += 4) { \
            ptrdiff_t at = i + 4 <= count ? i : count - 4; \
            const T *from = x + at * stride, *row[4] = {from, from + 4, from + 8, from + 12}; \
            if (stride == 2) V##_part(from, to + at, to + width + at); \
            else V##_turn(row, 0, to + at, width); \
        } \
    else if (deals == 1 && stride == 2) \
        for (; i + 4 < count; i += 4) {  /* a pass reads one number more than it needs */ \
            T odd[4]; \
            V##_part(x + 2 * i, to + i, odd); \
        } \
    for (; i < count; i++) \
        for (ptrdiff_t d = 0; d < deals; d++) to[d * width + i] = x[i * stride + d]; \
} \
static void COLLECT(const T *x, ptrdiff_t width, ptrdiff_t deals, ptrdiff_t count, T *to, \
                    ptrdiff_t stride) \
{ \
    ptrdiff_t i = 0; \
    if (deals == stride && count >= 4 && (stride == 2 || stride == 4)) \
        for (; i < count; i += 4) { \
            ptrdiff_t at = i + 4 <= count ? i : count - 4; \
            const T *from = x + at; \
            if (stride == 2) V##_zip(from, from + width, to + 2 * at); \
            else { \
                const T *row[4] = {from, from + width, from + 2 * width, from + 3 * width}; \
                V##_turn(row, 0, to + 4 * at, 4); \
            } \
        } \
    for (; i < count; i++) \
        for (ptrdiff_t d = 0; d < deals; d++) to[i * stride + d] = x[d * width + i]; \
}

#define FB_WIDTHS(body, R) { \
    if (vectors > 1) body(R, 2, depth, a, b, offset, start, c, ldc); \
    else body(R, 1, depth, a, b, offset, start, c, ldc); }

FB_TILES(float, fb_vf, fb_tile_f, fb_dot_f)
FB_TILES(double, fb_vd, fb_tile_d, fb_dot_d)
FB_DEAL(float, fb_vf, fb_deal_f, fb_collect_f)
FB_DEAL(double, fb_vd, fb_deal_d, fb_collect_d)
FB_TURN(float, fb_vf, fb_turn_f)
FB_TURN(double, fb_vd, fb_turn_d)

#endif
