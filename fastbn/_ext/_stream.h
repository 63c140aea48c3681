/* Stores that go past the caches.

   An ordinary store to a line that is not in the cache first reads it. A result too large to be in
   the cache when it is next wanted is written faster by stores that do not: whole lines at a time,
   through a chunk that the kernel fills first. */
#ifndef FASTBN_STREAM_H
#define FASTBN_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FASTBN_CHUNK 1024 /* bytes: larger ones measured slower, smaller ones no faster */
#define FASTBN_WIDTH 1024 /* numbers of a line of parameters or sums */

typedef union {
  _Alignas(64) float f32[FASTBN_CHUNK / 4];
  double f64[FASTBN_CHUNK / 8];
} fastbn_chunk;

/* Compilers align arrays of their own to 16 bytes, and then most wide loads touch two lines. */
typedef union {
  _Alignas(64) float f32[FASTBN_WIDTH];
  double f64[FASTBN_WIDTH];
} fastbn_line;

/* Asks for a line that is wanted soon; `at` need not be a valid address. */
#if defined(__GNUC__) || defined(__clang__)
#define fastbn_prefetch(at) __builtin_prefetch(at)
#else
#define fastbn_prefetch(at) ((void)(at))
#endif

#if defined(__SSE2__)
#include <immintrin.h>

/* `to` from its first whole line on; the bytes before and after it are stored ordinarily. */
static inline void fastbn_stream(void *to, const void *from, size_t bytes) {
  char *out = (char *)to;
  const char *in = (const char *)from;
  size_t head = -(uintptr_t)out & 63;
  if (head > bytes) head = bytes;
  memcpy(out, in, head);
  out += head; in += head; bytes -= head;
  for (; bytes >= 64; bytes -= 64, out += 64, in += 64) {
#if defined(__AVX512F__)
    _mm512_stream_si512((__m512i *)out, _mm512_loadu_si512(in));
#elif defined(__AVX__)
    _mm256_stream_si256((__m256i *)out, _mm256_loadu_si256((const __m256i *)in));
    _mm256_stream_si256((__m256i *)out + 1, _mm256_loadu_si256((const __m256i *)in + 1));
#else
    for (int i = 0; i < 4; i++)
      _mm_stream_si128((__m128i *)out + i, _mm_loadu_si128((const __m128i *)in + i));
#endif
  }
  memcpy(out, in, bytes);
}

/* Streamed stores are seen by other threads only after this. */
static inline void fastbn_stream_end(void) { _mm_sfence(); }

#else /* stores are ordinary where we know no others */

static inline void fastbn_stream(void *to, const void *from, size_t bytes) {
  memcpy(to, from, bytes);
}
static inline void fastbn_stream_end(void) {}

#endif
#endif
