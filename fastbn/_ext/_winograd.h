/* The transforms of Winograd's minimal filtering along the rows of images, float32.
 *
 * F(4, 3): four rows of outputs of a filter three rows tall take six products instead of twelve.
 * F(2, 5): two rows of one five rows tall take six instead of ten.
 *     out = A' [(G w) * (B' x)],  summed over channels where the * stands
 * by the Cook-Toom construction at the points 0, +-3/2, +-3/4 and infinity. All coefficients of A
 * and B are binary fractions, so that they are exact. Of the sets of such points that were tried
 * these lose the least: on normal data, in a model in NumPy, 2.1 times the error of the direct sum,
 * where 0, +-1, +-2 lose 3.1 times. B is the same for both filterings, and the loss about the same.
 *
 * Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016.
 */
#ifndef FASTBN_WINOGRAD_H
#define FASTBN_WINOGRAD_H

#include "_tile.h"

#if FB_VECTORS
typedef fb_vf fb_wv;
#define FB_WLOAD(p) fb_vf_load(p)
#define FB_WSTORE(p, v) fb_vf_store(p, v)
#define FB_WLANES (FB_BYTES / 4)
#else
typedef float fb_wv;
#define FB_WLOAD(p) (*(p))
#define FB_WSTORE(p, v) (*(p) = (v))
#define FB_WLANES 1
#endif

/* G w of one column of a filter, from its rows `line` apart. */
static void fb_winograd_filter(const float *w, ptrdiff_t line, ptrdiff_t tall, double *u)
{
    double a = w[0], b = w[line], c = w[2 * line], d = 0, e = 0;
    if (tall > 3) {
        d = w[3 * line];
        e = w[4 * line];
    }
    double even = a * (32. / 243) + c * (8. / 27) + e * (2. / 3);
    double odd = b * (16. / 81) + d * (4. / 9);
    u[0] = a * (64. / 81);
    u[1] = even + odd;
    u[2] = even - odd;
    even = a * (-128. / 243) - c * (8. / 27) - e * (1. / 6);
    odd = b * (32. / 81) + d * (2. / 9);
    u[3] = even - odd;
    u[4] = even + odd;
    u[5] = tall > 3 ? e : c;
}

/* B' x: six rows `pitch` apart become six rows `distance` apart; in whole vectors. */
static void fb_winograd_input(const float *x, ptrdiff_t pitch, ptrdiff_t count, float *v,
                              ptrdiff_t distance)
{
    for (ptrdiff_t i = 0; i < count; i += FB_WLANES, x += FB_WLANES, v += FB_WLANES) {
        fb_wv d0 = FB_WLOAD(x), d1 = FB_WLOAD(x + pitch), d2 = FB_WLOAD(x + 2 * pitch),
              d3 = FB_WLOAD(x + 3 * pitch), d4 = FB_WLOAD(x + 4 * pitch),
              d5 = FB_WLOAD(x + 5 * pitch), even, odd;
        FB_WSTORE(v, d4 - d2 * 2.8125f + d0 * 1.265625f);
        even = d4 - d2 * 0.5625f;
        odd = d3 * 1.5f - d1 * 0.84375f;
        FB_WSTORE(v + distance, even + odd);
        FB_WSTORE(v + 2 * distance, even - odd);
        even = d4 - d2 * 2.25f;
        odd = d3 * 0.75f - d1 * 1.6875f;
        FB_WSTORE(v + 3 * distance, even + odd);
        FB_WSTORE(v + 4 * distance, even - odd);
        FB_WSTORE(v + 5 * distance, d5 - d3 * 2.8125f + d1 * 1.265625f);
    }
}

/* A' m + bias: six rows `distance` apart become the first `rows` of a strip's rows of `count` outputs,
 * `line` apart; a strip has four of them, or two.
 * Returns a number that is 0 if all of them are finite, and NaN if not. */
static float fb_winograd_output(const float *m, ptrdiff_t distance, ptrdiff_t count, float bias,
                                ptrdiff_t strip, ptrdiff_t rows, float *out, ptrdiff_t line)
{
    float some[4 * FB_WLANES], finite[FB_WLANES] = {0};
    fb_wv all = FB_WLOAD(finite);
    for (ptrdiff_t i = 0; i < count; i += FB_WLANES) {
        /* The last vector ends with the row; what it has in common with the one before is equal. */
        ptrdiff_t at = i + FB_WLANES <= count || count < FB_WLANES ? i : count - FB_WLANES;
        const float *from = m + at;
        fb_wv m0 = FB_WLOAD(from), m1 = FB_WLOAD(from + distance),
              m2 = FB_WLOAD(from + 2 * distance), m3 = FB_WLOAD(from + 3 * distance),
              m4 = FB_WLOAD(from + 4 * distance), m5 = FB_WLOAD(from + 5 * distance),
              sum = m1 + m2, difference = m1 - m2, sum2 = m3 + m4, difference2 = m3 - m4;
        fb_wv y[4] = {m0 + sum + sum2 + bias,
                      difference * 1.5f + difference2 * 0.75f + bias,
                      sum * 2.25f + sum2 * 0.5625f + bias,
                      difference * 3.375f + difference2 * 0.421875f + bias};
        if (strip == 4) y[3] += m5;
        else y[1] += m5;
        for (ptrdiff_t r = 0; r < rows; r++) {
            if (count >= FB_WLANES) {
                FB_WSTORE(out + r * line + at, y[r]);
                all += y[r] - y[r];
            } else {
                FB_WSTORE(some + r * FB_WLANES, y[r]);
                for (ptrdiff_t l = 0; l < count; l++) {
                    out[r * line + l] = some[r * FB_WLANES + l];
                    finite[0] += out[r * line + l] - out[r * line + l];
                }
            }
        }
    }
    FB_WSTORE(some, all);
    for (int l = 0; l < FB_WLANES; l++) finite[0] += some[l];
    return finite[0];
}

#endif
