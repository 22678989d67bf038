// The operations of docs/spec.md on one vector, exact. Sums of sections 4 to 9 and 13.
#pragma once
#include "simd.h"
#include "tables.h"

namespace intaglio {
namespace {

using i64 = int64_t;
using u64 = uint64_t;
using u128 = unsigned __int128;

inline i64 clamp(i64 v, i64 low, i64 high) { return v < low ? low : v > high ? high : v; }
inline i64 high_of(int bits) { return (i64(1) << (bits - 1)) - 1; }
inline i64 saturate(i64 v, int bits) { return clamp(v, -high_of(bits) - 1, high_of(bits)); }

// Divide by 2**shift, round half up; |v| < 2**62, shift 0 to 62. Unsigned shifts vectorize where
// arithmetic ones of 64 bits do not.
inline i64 round_shift(i64 v, int shift) {
  const u64 bias = u64(1) << 62, half = (u64(1) << shift) >> 1;
  return i64((u64(v) + half + bias) >> shift) - i64(bias >> shift);
}

inline i64 narrow(i64 v, i64 multiplier, int shift, int bits) {
  return saturate(round_shift(v * multiplier, shift), bits);
}

inline int bit_length(u64 v) { return v ? 64 - __builtin_clzll(v) : 0; }

// Section 5.
struct Root {
  i64 root;
  int zeros;
};

inline Root reciprocal_root(u128 square) {
  const u64 high = u64(square >> 64), low = u64(square);
  const int length = high ? 64 + bit_length(high) : bit_length(low);
  const int zeros = (80 - length) / 2;
  const u64 mantissa = u64((square << 2 * zeros) >> 56);
  const u64 t = RSQRT_TABLE[(mantissa >> 16) - 64];
  return {i64(t * ((u64(3) << 24) - (mantissa * t * t >> 24)) >> 21), zeros};
}

inline void norm(const int32_t *x, i64 n, const Norm &c, int bits, int32_t *y) {
  u64 low = 0, high = 0; // of the squares, 32 bits each: sums of 2**16 fit
  for (i64 i = 0; i < n; i++) {
    const u64 square = u64(i64(x[i]) * x[i]);
    low += square & 0xFFFFFFFF;
    high += square >> 32;
  }
  const Root r = reciprocal_root((u128(high) << 32) + low + u128(c.epsilon));
  const i64 gain = round_shift(r.root * c.multiplier, 16);
  const int shift = c.shift - r.zeros;
  const i64 top = high_of(bits);
  for (i64 i = 0; i < n; i++) y[i] = int32_t(clamp(round_shift(x[i] * gain, shift), -top - 1, top));
}

// Section 6.
inline int32_t sine(uint32_t angle) {
  const uint32_t quadrant = angle >> 30;
  uint32_t p = angle >> 14 & 0xFFFF;
  if (quadrant & 1) p = 65536 - p;
  const int i = p >> 8, rest = p & 255;
  const int32_t here = SINE_TABLE[i];
  const int32_t value = here + ((SINE_TABLE[i + 1] - here) * rest + 128 >> 8);
  return quadrant & 2 ? -value : value;
}

inline void turn(uint32_t position, const uint32_t *rotary, int pairs, int32_t *sines) {
  for (int i = 0; i < pairs; i++) {
    const uint32_t angle = position * rotary[i];
    sines[2 * i] = sine(angle + (1u << 30));
    sines[2 * i + 1] = sine(angle);
  }
}

inline void rotate(const int32_t *x, const int32_t *sines, int pairs, int bits, int32_t *y) {
  for (int i = 0; i < pairs; i++) {
    const i64 a = x[2 * i], b = x[2 * i + 1], c = sines[2 * i], d = sines[2 * i + 1];
    y[2 * i] = int32_t(saturate(round_shift(a * c - b * d, 31 - bits), bits));
    y[2 * i + 1] = int32_t(saturate(round_shift(a * d + b * c, 31 - bits), bits));
  }
}

// Section 7: 65535 * 2**-distance, distance >= 0.
inline int32_t exp2(i64 distance) {
  const int whole = distance >> 10 > 17 ? 17 : int(distance >> 10);
  const int index = int(distance >> 4 & 63), rest = int(distance & 15);
  const int32_t here = EXP_TABLE[index];
  const int32_t mantissa = here - ((here - EXP_TABLE[index + 1]) * rest + 8 >> 4);
  return (mantissa + ((1 << whole) >> 1)) >> whole;
}

// Section 8.
inline int lift_of(u64 ones, int bits) {
  const int excess = bit_length(ones) - (bits - 1);
  return excess > 0 ? excess : 0;
}

inline u64 magnitude_bits(const int32_t *x, i64 n) {
  uint32_t ones = 0;
  for (i64 i = 0; i < n; i++) ones |= uint32_t(x[i] ^ (x[i] >> 31));
  return ones;
}

inline int shrink(const int32_t *x, i64 n, int bits, int32_t *y) {
  const int lift = lift_of(magnitude_bits(x, n), bits);
  const i64 half = (i64(1) << lift) >> 1, top = high_of(bits);
  for (i64 i = 0; i < n; i++) y[i] = int32_t(clamp((x[i] + half) >> lift, -top - 1, top));
  return lift;
}

// Section 9. |silu| never exceeds |g|: it needs no saturation of its own.
#if defined(INTAGLIO_AVX512)
void gate(const int32_t *g, const int32_t *u, i64 n, int32_t *y) {
  const __m512i low = _mm512_set1_epi64(INT32_MIN), high = _mm512_set1_epi64(INT32_MAX);
  auto product = [&](__m512i gate, __m512i sigmoid, __m512i up) { // of every other element
    const __m512i silu = _mm512_srai_epi64(
        _mm512_add_epi64(_mm512_mul_epi32(gate, sigmoid), _mm512_set1_epi64(32768)), 16);
    const __m512i v = _mm512_srai_epi64(
        _mm512_add_epi64(_mm512_mul_epi32(silu, up), _mm512_set1_epi64(128)), 8);
    return _mm512_min_epi64(_mm512_max_epi64(v, low), high);
  };
  for (i64 i = 0; i < n; i += TILE) {
    const __mmask16 live = n - i >= TILE ? 0xFFFF : __mmask16((1 << (n - i)) - 1);
    const __m512i gates = _mm512_maskz_loadu_epi32(live, g + i);
    const __m512i ups = _mm512_maskz_loadu_epi32(live, u + i);
    const __m512i size = _mm512_abs_epi32(gates);
    const __m512i index = _mm512_min_epi32(_mm512_srli_epi32(size, 8), _mm512_set1_epi32(256));
    const __m512i word = _mm512_i32gather_epi32(index, SIGMOID_WORDS, 4);
    const __m512i step = _mm512_mullo_epi32(_mm512_srli_epi32(word, 17),
                                            _mm512_and_si512(size, _mm512_set1_epi32(255)));
    const __m512i value = _mm512_add_epi32(
        _mm512_and_si512(word, _mm512_set1_epi32((1 << 17) - 1)),
        _mm512_srli_epi32(_mm512_add_epi32(step, _mm512_set1_epi32(128)), 8));
    const __m512i sigmoid = _mm512_mask_sub_epi32(
        value, _mm512_movepi32_mask(gates), _mm512_set1_epi32(65536), value);
    const __m512i even = product(gates, sigmoid, ups);
    const __m512i odd = product(_mm512_srli_epi64(gates, 32), _mm512_srli_epi64(sigmoid, 32),
                                _mm512_srli_epi64(ups, 32));
    _mm512_mask_storeu_epi32(
        y + i, live, _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32)));
  }
}
#else
void gate(const int32_t *g, const int32_t *u, i64 n, int32_t *y) {
  for (i64 i = 0; i < n; i++) {
    const int32_t size = g[i] < 0 ? -g[i] : g[i];
    const uint32_t word = SIGMOID_WORDS[size >> 8 > 256 ? 256 : size >> 8];
    const int32_t value = int32_t((word & 0x1FFFF) + ((word >> 17) * (size & 255) + 128 >> 8));
    const i64 sigmoid = g[i] < 0 ? 65536 - value : value;
    const i64 silu = (g[i] * sigmoid + 32768) >> 16;
    y[i] = int32_t(clamp((silu * u[i] + 128) >> 8, INT32_MIN, INT32_MAX));
  }
}
#endif

// Section 13.
inline uint32_t random_bits(u64 seed, uint32_t position) {
  uint32_t a = position, b = 0, c = 0, d = 0, k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const u64 x = u64(a) * 0xD2511F53u, y = u64(c) * 0xCD9E8D57u;
    a = uint32_t(y >> 32) ^ b ^ k0;
    b = uint32_t(y);
    c = uint32_t(x >> 32) ^ d ^ k1;
    d = uint32_t(x);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return a;
}

inline int32_t largest(const int32_t *logits, i64 n) {
  int32_t top = logits[0];
  for (i64 i = 1; i < n; i++) top = logits[i] > top ? logits[i] : top;
  for (i64 i = 0; i < n; i++)
    if (logits[i] == top) return int32_t(i);
  return 0;
}

// The 64 largest, largest first; of equal ones the lower index first. Returns how many.
inline int candidates(const int32_t *logits, i64 n, int32_t *value, int32_t *index) {
  int count = 0;
  constexpr i64 STEP = 64;
  for (i64 start = 0; start < n; start += STEP) {
    const i64 end = start + STEP < n ? start + STEP : n;
    if (count == CANDIDATES) { // most steps hold nothing that is large enough
      int32_t top = INT32_MIN;
      for (i64 i = start; i < end; i++) top = logits[i] > top ? logits[i] : top;
      if (top <= value[count - 1]) continue;
    }
    for (i64 i = start; i < end; i++) {
      if (count == CANDIDATES && logits[i] <= value[count - 1]) continue;
      int at = count < CANDIDATES ? count++ : count - 1;
      for (; at > 0 && value[at - 1] < logits[i]; at--) {
        value[at] = value[at - 1];
        index[at] = index[at - 1];
      }
      value[at] = logits[i];
      index[at] = int32_t(i);
    }
  }
  return count;
}

int32_t sample(const int32_t *logits, i64 n, const Sampling &s, uint32_t position) {
  if (s.beta == 0) return largest(logits, n);
  int32_t value[CANDIDATES], index[CANDIDATES];
  int count = candidates(logits, n, value, index);
  if (int(s.top_k) < count) count = int(s.top_k);
  i64 cumulative[CANDIDATES], total = 0;
  for (int i = 0; i < count; i++) {
    const i64 distance = (i64(value[0]) - value[i]) * i64(s.beta);
    total += exp2((distance + (1 << 13)) >> 14);
    cumulative[i] = total;
  }
  int last = 0;
  while (cumulative[last] << 16 < i64(s.top_p) * total) last++;
  const i64 target = i64(u64(cumulative[last]) * random_bits(s.seed, position) >> 32);
  int chosen = 0;
  while (cumulative[chosen] <= target) chosen++;
  return index[chosen];
}

} // namespace
} // namespace intaglio
