// Attention of one row over the keys and values of its sequence (docs/spec.md, section 7).
#pragma once
#include "functions.h"

namespace intaglio {
namespace {

constexpr int QUERY_BITS = 7;   // digits of a query, signed: sums of two products fit 16 bits
constexpr int SPAN = 32768;     // positions whose weighted values fit 32 bits

template <int N> struct Count {
  static constexpr int value = N;
};

inline int query_digits(int bits) { return bits <= 7 ? 1 : bits <= 14 ? 2 : 3; }
inline size_t keys_at(const Memory &m, int position, int channel) {
  return size_t(position / TILE) * TILE * m.channels + (channel / GROUP) * (TILE * GROUP) +
         position % TILE * GROUP + channel % GROUP;
}
inline size_t values_at(const Memory &m, int position, int channel) {
  return (size_t(position / GROUP) * m.channels + channel) * GROUP + position % GROUP;
}

inline void remember(const Memory &m, int64_t head, int position, const int32_t *key,
                     const int32_t *value, int n) {
  uint8_t *keys = m.keys + head * m.head_stride;
  int8_t *values = m.values + head * m.head_stride;
  keys += keys_at(m, position, 0);
  values += values_at(m, position, 0);
  for (int i = 0; i < n; i++)
    keys[i / GROUP * (TILE * GROUP) + i % GROUP] = uint8_t(key[i] + KEY_BIAS);
  for (int i = 0; i < n; i++) values[i * GROUP] = int8_t(value[i]);
}

// Biased sums of ROWS query digits with TILE positions at a time.
template <int ROWS>
inline void dot_positions(const uint8_t *keys, int channels, int tiles, const int8_t *q,
                          int32_t *out, size_t out_stride) {
  for (int t = 0; t < tiles; t++, keys += TILE * channels) {
    Acc acc[ROWS];
    for (int r = 0; r < ROWS; r++) acc[r] = zero();
    for (int c = 0; c < channels; c += GROUP) {
      const Unit u = load_keys(keys + c * TILE);
      for (int r = 0; r < ROWS; r++) acc[r] = dot_keys(acc[r], u, q + r * channels + c);
    }
    for (int r = 0; r < ROWS; r++) store(out + r * out_stride + t * TILE, acc[r]);
  }
}

// Weighted sums of TILES * TILE channels over positions, by digits of the weights.
template <int TILES>
inline void mix_positions(const int8_t *values, int channels, int groups, const uint8_t *weights,
                          size_t digit_stride, i64 *out) {
  Acc acc[SOFT_DIGITS][TILES];
  for (int d = 0; d < SOFT_DIGITS; d++)
    for (int t = 0; t < TILES; t++) acc[d][t] = zero();
  for (int g = 0; g < groups; g++, values += channels * GROUP)
    for (int t = 0; t < TILES; t++) {
      const Unit u = load_unit(values + t * TILE * GROUP);
      for (int d = 0; d < SOFT_DIGITS; d++)
        acc[d][t] = dot_values(acc[d][t], u, weights + d * digit_stride + g * GROUP);
    }
  for (int d = 0; d < SOFT_DIGITS; d++)
    for (int t = 0; t < TILES; t++) {
      int32_t sums[TILE];
      store(sums, acc[d][t]);
      for (int i = 0; i < TILE; i++) out[t * TILE + i] += i64(sums[i]) << SOFT_BITS * d;
    }
}

// Scores to unnormalised weights, cut into digits [SOFT_DIGITS][stride]; returns their total.
#if defined(INTAGLIO_AVX512)
inline i64 soften(int32_t *scores, int n, int32_t top, uint8_t *weights, size_t stride) {
  // two permutations of 32 entries and a choice
  const __m512i a = load_unit(EXP_WORDS), b = load_unit(EXP_WORDS + 16),
                c = load_unit(EXP_WORDS + 32), d = load_unit(EXP_WORDS + 48);
  __m512i total = zero();
  for (int i = 0; i < n; i += TILE) {
    const __mmask16 live = n - i >= TILE ? 0xFFFF : __mmask16((1 << (n - i)) - 1);
    const __m512i distance = _mm512_sub_epi32(_mm512_set1_epi32(top), load_unit(scores + i));
    const __m512i index = _mm512_srli_epi32(distance, 4);
    const __m512i word = _mm512_mask_blend_epi32(
        _mm512_test_epi32_mask(index, _mm512_set1_epi32(32)),
        _mm512_permutex2var_epi32(a, index, b), _mm512_permutex2var_epi32(c, index, d));
    const __m512i here = _mm512_and_si512(word, _mm512_set1_epi32(0xFFFF));
    const __m512i rest = _mm512_and_si512(distance, _mm512_set1_epi32(15));
    const __m512i drop = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(word, 16), rest),
                         _mm512_set1_epi32(8)),
        4);
    const __m512i whole =
        _mm512_min_epi32(_mm512_srli_epi32(distance, 10), _mm512_set1_epi32(17));
    const __m512i half =
        _mm512_srli_epi32(_mm512_sllv_epi32(_mm512_set1_epi32(1), whole), 1);
    const __m512i w = _mm512_maskz_mov_epi32(
        live, _mm512_srlv_epi32(_mm512_add_epi32(_mm512_sub_epi32(here, drop), half), whole));
    total = _mm512_add_epi32(total, w);
    _mm_storeu_si128((__m128i *)(weights + i), _mm512_cvtepi32_epi8(w));
    _mm_storeu_si128((__m128i *)(weights + stride + i),
                     _mm512_cvtepi32_epi8(_mm512_srli_epi32(w, 8)));
  }
  return u64(_mm512_reduce_add_epi64(_mm512_and_si512(total, _mm512_set1_epi64(0xFFFFFFFF)))) +
         u64(_mm512_reduce_add_epi64(_mm512_srli_epi64(total, 32)));
}
#else
inline i64 soften(int32_t *scores, int n, int32_t top, uint8_t *weights, size_t stride) {
  for (int i = 0; i < n; i++) { // exp2 in 32 bits, in place of the scores: loops that vectorize
    const uint32_t distance = uint32_t(top - scores[i]);
    const uint32_t word = EXP_WORDS[distance >> 4 & 63];
    const uint32_t whole = distance >> 10 > 17 ? 17 : distance >> 10;
    const uint32_t mantissa = (word & 0xFFFF) - ((word >> 16) * (distance & 15) + 8 >> 4);
    scores[i] = int32_t((mantissa + ((1u << whole) >> 1)) >> whole);
  }
  i64 total = 0;
  for (int i = 0; i < n; i++) total += scores[i];
  for (int d = 0; d < SOFT_DIGITS; d++) {
    uint8_t *digit = weights + d * stride;
    for (int i = 0; i < n; i++) digit[i] = uint8_t(scores[i] >> SOFT_BITS * d & ((1 << SOFT_BITS) - 1));
    memset(digit + n, 0, (TILE - n % TILE) % TILE);
  }
  return total;
}
#endif

inline void mean(const i64 *sums, i64 total, int n, int32_t *y) {
  const int length = bit_length(total);
  const i64 reciprocal = (i64(1) << 31) / (total >> (length - 16));
  for (int i = 0; i < n; i++) y[i] = int32_t(narrow(sums[i], reciprocal, length + 7, 16));
}

// From biased sums by digit to scores, in place of the first digit; T holds every sum. Returns the
// largest.
template <class T>
inline int32_t narrow_scores(int32_t *scores, int n, size_t stride, int digits, i64 bias,
                             int shift) {
  const T half = T((i64(1) << shift) >> 1) - T(bias);
  int32_t top = INT32_MIN;
  auto go = [&](auto digit) {
    for (int t = 0; t < n; t++) {
      T dot = scores[t];
      for (int d = 1; d < digit.value; d++) dot += T(scores[t + d * stride]) << QUERY_BITS * d;
      const T s = (dot + half) >> shift;
      const int32_t score = int32_t(s < -(1 << 19) ? -(1 << 19) : s > (1 << 19) - 1 ? (1 << 19) - 1 : s);
      scores[t] = score;
      top = score > top ? score : top;
    }
  };
  digits == 1   ? go(Count<1>())
  : digits == 2 ? go(Count<2>())
                : go(Count<3>());
  return top;
}

// Attention of the group of query heads q [group][head_width] that shares kv_head.
void attend(const Model &model, const Memory &memory, int layer, int kv_head, const int32_t *q,
            int position, Scratch::Thread &scratch, int32_t *y) {
  const int width = model.head_width, channels = memory.channels;
  const int group = model.heads / model.kv_heads, n = position + 1;
  const int digits = query_digits(model.widths.query), tiles = (n + TILE - 1) / TILE;
  const size_t stride = size_t(tiles) * TILE;
  const i64 head = i64(layer) * model.kv_heads + kv_head;
  const uint8_t *keys = memory.keys + head * memory.head_stride;
  const int8_t *values = memory.values + head * memory.head_stride;
  const int shift = model.layer[layer].score_shift;
  // no sum comes near 2**31, its rounding neither
  const bool small = shift < 30 && model.widths.query + 7 + bit_length(width) < 31;
  i64 sums[2];

  for (int first = 0; first < group; first += 2) { // two heads share what is read of the keys
    const int heads = group - first < 2 ? 1 : 2;
    int8_t *cut = scratch.query;
    for (int h = 0; h < heads; h++) {
      const int32_t *from = q + (first + h) * width;
      i64 sum = 0;
      for (int i = 0; i < width; i++) {
        int32_t v = from[i];
        sum += v;
        for (int d = 0; d < digits; d++) {
          const int32_t low = d + 1 < digits ? ((v + 64) & 127) - 64 : v;
          cut[(h * digits + d) * channels + i] = int8_t(low);
          v = (v - low) >> QUERY_BITS;
        }
      }
      for (int d = 0; d < digits; d++)
        memset(cut + (h * digits + d) * channels + width, 0, channels - width);
      sums[h] = KEYS_BIAS * sum;
    }
    int32_t *raw = scratch.scores;
    switch (heads * digits) {
    case 1: dot_positions<1>(keys, channels, tiles, cut, raw, stride); break;
    case 2: dot_positions<2>(keys, channels, tiles, cut, raw, stride); break;
    case 3: dot_positions<3>(keys, channels, tiles, cut, raw, stride); break;
    case 4: dot_positions<4>(keys, channels, tiles, cut, raw, stride); break;
    default: dot_positions<6>(keys, channels, tiles, cut, raw, stride); break;
    }
    for (int h = 0; h < heads; h++) {
      int32_t *scores = raw + h * digits * stride, top;
      if (small)
        top = narrow_scores<int32_t>(scores, n, stride, digits, sums[h], shift);
      else
        top = narrow_scores<i64>(scores, n, stride, digits, sums[h], shift);
      i64 *mixed = scratch.mixed;
      memset(mixed, 0, sizeof(i64) * channels);
      const i64 total = soften(scores, n, top, scratch.weights, stride);
      for (int from = 0; from < n; from += SPAN) {
        const int to = n - from < SPAN ? n : from + SPAN, groups = (to - from + GROUP - 1) / GROUP;
        const int8_t *v = values + size_t(from) * channels;
        const uint8_t *w = scratch.weights + from;
        int c = 0;
        if constexpr (MIX_TILES >= 4)
          for (; c + 4 * TILE <= channels; c += 4 * TILE)
            mix_positions<4>(v + c * GROUP, channels, groups, w, stride, mixed + c);
        if constexpr (MIX_TILES >= 2)
          for (; c + 2 * TILE <= channels; c += 2 * TILE)
            mix_positions<2>(v + c * GROUP, channels, groups, w, stride, mixed + c);
        for (; c < channels; c += TILE)
          mix_positions<1>(v + c * GROUP, channels, groups, w, stride, mixed + c);
      }
      mean(mixed, total, width, y + (first + h) * width);
    }
  }
}

} // namespace
} // namespace intaglio
