/* exp for vectors: plain enough for the compiler to run many at once. x <= 0; under 1 ulp.

   e^x = 2^n e^r with |r| <= ln(2) / 2: n by rounding (adding 1.5 * 2^52 leaves it in the low bits),
   r in two parts (Cody and Waite, 1980), e^r by its Taylor polynomial of degree 13, whose next term
   is below 2^-57. 2^n is applied in two halves, so that subnormal results are right. NaN stays NaN. */
#ifndef FASTBN_EXP_H
#define FASTBN_EXP_H

#include <stdint.h>
#include <string.h>

static inline double fastbn_power_of_two(double shifted) { /* 2^n; shifted = n + 1.5 * 2^52 */
  uint64_t bits;
  memcpy(&bits, &shifted, 8);
  bits = (bits + 1023) << 52;
  memcpy(&shifted, &bits, 8);
  return shifted;
}

static inline double fastbn_exp(double x) {
  const double magic = 6755399441055744.0;
  double shifted, n, half, r, p;
  x = x < -750.0 ? -750.0 : x;
  shifted = x * 1.4426950408889634 + magic;
  n = shifted - magic;
  half = n * 0.5 + magic;
  r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  p = 1.0 / 6227020800;
  p = p * r + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  return p * fastbn_power_of_two(half) * fastbn_power_of_two(n - (half - magic) + magic);
}

#endif
