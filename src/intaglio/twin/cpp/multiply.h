// Matrices times narrow activations: from codes to narrowed results.
#pragma once
#include "adapter.h"

namespace intaglio {
namespace {

constexpr int WIDE = TILE * SUPER; // outputs of a super tile

inline int super_tiles(int outputs) { return (outputs + WIDE - 1) / WIDE; }
inline int tiles_of(const Matrix &m, int super) { // tiles of one super tile
  const int left = (m.outputs + TILE - 1) / TILE - super * SUPER;
  return left < SUPER ? left : SUPER;
}

// Sums of ROWS rows and TILES tiles; step: bytes from a tile's block to its next. Unit by unit, all
// tiles: what is decoded serves all rows, and a row's four bytes all tiles.
template <int BITS, int ROWS, int TILES>
inline void multiply_part(const Decoder<BITS> &decoder, const uint8_t *codes, size_t step,
                          int blocks, const int8_t *x, size_t stride, int32_t *out) {
  using D = Decoder<BITS>;
  Acc acc[ROWS][TILES];
  // all unrolled: of sums that are reached by a number at run time GCC keeps none in registers
  unrolled<ROWS * TILES>([&](auto i) { acc[i / TILES][i % TILES] = zero(); });
  for (int b = 0; b < blocks; b++, codes += step, x += GROUP * D::UNITS) {
    typename D::Tops tops[TILES];
    for (int t = 0; t < TILES; t++) decoder.put_tops(codes + t * D::BYTES, tops[t]);
    unrolled<D::UNITS>([&](auto unit) {
      Unit units[TILES];
      unrolled<TILES>([&](auto t) {
        units[t] = decoder.template unit<unit>(codes + t * D::BYTES, tops[t]);
      });
      unrolled<ROWS>([&](auto r) {
        const Four four = four_of(x + r * stride + GROUP * unit);
        unrolled<TILES>([&](auto t) { acc[r][t] = dot(acc[r][t], units[t], four); });
      });
    });
  }
  unrolled<ROWS * TILES>([&](auto i) {
    store(out + i / TILES * WIDE + i % TILES * TILE, acc[i / TILES][i % TILES]);
  });
}

template <int BITS, int TILES>
inline void multiply_rows(const Decoder<BITS> &decoder, const uint8_t *codes, size_t step,
                          int blocks, const int8_t *x, size_t stride, int rows, int32_t *out) {
  int r = 0;
  auto next = [&](auto part, int n) {
    part(decoder, codes, step, blocks, x + r * stride, stride, out + r * WIDE);
    r += n;
  };
  while (r < rows) {
    const int left = rows - r;
    if constexpr (MOST_ROWS >= 6) {
      if (left >= 6) {
        next(multiply_part<BITS, 6, TILES>, 6);
        continue;
      }
    }
    if constexpr (MOST_ROWS >= 4) {
      if (left >= 4) {
        next(multiply_part<BITS, 4, TILES>, 4);
        continue;
      }
      if (left == 3) {
        next(multiply_part<BITS, 3, TILES>, 3);
        continue;
      }
      if (left == 2) {
        next(multiply_part<BITS, 2, TILES>, 2);
        continue;
      }
    }
    next(multiply_part<BITS, 1, TILES>, 1);
  }
}

template <int BITS>
inline void multiply_width(const Digit &digit, int super, int tiles, const int8_t *x,
                           size_t stride, int rows, int32_t *out) {
  using D = Decoder<BITS>;
  const D decoder{};
  const uint8_t *codes = digit.codes + size_t(super) * SUPER * digit.blocks * D::BYTES;
  const size_t step = size_t(tiles) * D::BYTES;
  if (MOST_TILES == SUPER && tiles == SUPER) {
    multiply_rows<BITS, MOST_TILES>(decoder, codes, step, digit.blocks, x, stride, rows, out);
    return;
  }
  for (int t = 0; t < tiles; t++)
    multiply_rows<BITS, 1>(decoder, codes + t * D::BYTES, step, digit.blocks, x, stride, rows,
                           out + t * TILE);
}

// Biased sums [rows][WIDE] of one super tile.
inline void multiply(const Digit &digit, int super, int tiles, const int8_t *x, size_t stride,
                     int rows, int32_t *out) {
  if (digit.bits == 4)
    multiply_width<4>(digit, super, tiles, x, stride, rows, out);
  else if (digit.bits == 3)
    multiply_width<3>(digit, super, tiles, x, stride, rows, out);
  else
    multiply_width<2>(digit, super, tiles, x, stride, rows, out);
}

// Where the sums of one row stand: digit by digit, `stride` apart; `bias`: what they hold too much.
struct Sums {
  const int32_t *at;
  size_t stride;
  i64 bias;
};

// The exact sum of output j, modulo the integers of type T.
template <class T, int DIGITS> inline T sum_of(const Sums &sums, int j) {
  T sum = T(sums.at[j]);
  for (int d = 1; d < DIGITS; d++) sum += T(sums.at[j + d * sums.stride]) << 8 * d;
  return sum - T(sums.bias);
}

// Narrowed results of one row, n of them, n at most WIDE; room for WIDE. ``addends`` [n] or null.
template <int DIGITS, bool EXTRA>
inline void narrow_row(const Sums &main, const Sums &extra, int n, int extra_shift,
                       const uint16_t *multiplier, const uint8_t *shift, int lift, int bits,
                       int32_t *y, const i64 *addends) {
  const i64 top = high_of(bits), low = -top - 1;
  for (int j = 0; j < n; j++) {
    u64 acc = sum_of<u64, DIGITS>(main, j);
    if constexpr (EXTRA) acc = (acc << extra_shift) + sum_of<u64, DIGITS>(extra, j);
    const i64 product = i64(acc) * multiplier[j] + (addends ? addends[j] : 0);
    y[j] = int32_t(clamp(round_shift(product, shift[j] - lift), low, top));
  }
}

#if defined(INTAGLIO_AVX512)
// The same where the exact sum fits 32 bits: even and odd outputs as 64 bits each.
template <int DIGITS, bool EXTRA>
inline void narrow_row_small(const Sums &main, const Sums &extra, int n, int extra_shift,
                             const uint16_t *multiplier, const uint8_t *shift, int lift, int bits,
                             int32_t *y, const i64 *) {
  const __m512i top = _mm512_set1_epi64(high_of(bits)), low = _mm512_set1_epi64(~high_of(bits));
  const __m512i one = _mm512_set1_epi64(1), lifted = _mm512_set1_epi32(lift);
  auto total = [](const Sums &sums, int j) {
    __m512i sum = load_unit(sums.at + j);
    for (int d = 1; d < DIGITS; d++)
      sum = _mm512_add_epi32(sum, _mm512_slli_epi32(load_unit(sums.at + j + d * sums.stride), 8 * d));
    return _mm512_sub_epi32(sum, _mm512_set1_epi32(int32_t(sums.bias)));
  };
  auto narrowed = [&](__m512i x, __m512i m, __m512i s) {
    const __m512i half = _mm512_srli_epi64(_mm512_sllv_epi64(one, s), 1);
    const __m512i v = _mm512_srav_epi64(_mm512_add_epi64(_mm512_mul_epi32(x, m), half), s);
    return _mm512_min_epi64(_mm512_max_epi64(v, low), top);
  };
  for (int j = 0; j < n; j += TILE) {
    const __mmask16 live = n - j >= TILE ? 0xFFFF : __mmask16((1 << (n - j)) - 1);
    __m512i x = total(main, j);
    if constexpr (EXTRA)
      x = _mm512_add_epi32(_mm512_sll_epi32(x, _mm_cvtsi32_si128(extra_shift)), total(extra, j));
    const __m512i m = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(live, multiplier + j));
    const __m512i s = _mm512_maskz_sub_epi32(
        live, _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(live, shift + j)), lifted);
    const __m512i even = narrowed(x, m, _mm512_and_si512(s, _mm512_set1_epi64(63)));
    const __m512i odd = narrowed(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(m, 32),
                                 _mm512_srli_epi64(s, 32));
    _mm512_storeu_si512(y + j,
                        _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32)));
  }
}
#endif

// Narrowed results [rows][WIDE] of one super tile.
inline void linear_tile(const Matrix &m, int super, const Activations &a, size_t stride, int rows,
                        bool lifted, int bits, Scratch::Thread &scratch, int32_t *y,
                        const Additions *additions = nullptr) {
  const Activations &second = m.extra_inputs ? scratch.gathered : a;
  const int tiles = tiles_of(m, super), first = super * WIDE;
  const int n = m.outputs - first < WIDE ? m.outputs - first : WIDE;
  multiply(m.main, super, tiles, a.digits, stride, rows * m.digits, scratch.tile);
  if (m.extras)
    multiply(m.extra, super, tiles, second.digits, stride, rows * m.digits, scratch.second);
  for (int r = 0; r < rows; r++) {
    const size_t plane = size_t(rows) * WIDE;
    const Sums sums = {scratch.tile + r * WIDE, plane, WEIGHT_BIAS * a.sums[r]};
    const Sums more = {scratch.second + r * WIDE, plane,
                       m.extras ? WEIGHT_BIAS * second.sums[r] : 0};
    const LowRank *low_rank = additions ? additions->part[r] : nullptr;
    if (low_rank)
      addend_row(*low_rank, additions->latents + r * MOST_RANK, m.outputs, first, n,
                 scratch.addends);
    auto go = [&](auto part) {
      part(sums, more, n, m.extra_shift, m.multiplier + first, m.shift + first,
           lifted ? a.lifts[r] : 0, bits, y + r * WIDE, low_rank ? scratch.addends : nullptr);
    };
#if defined(INTAGLIO_AVX512)
    const bool small = m.small && !low_rank;
    if (small && m.digits == 1) {
      m.extras ? go(narrow_row_small<1, true>) : go(narrow_row_small<1, false>);
      continue;
    }
    if (small && m.digits == 2) {
      m.extras ? go(narrow_row_small<2, true>) : go(narrow_row_small<2, false>);
      continue;
    }
#endif
    if (m.extras == 0)
      m.digits == 1   ? go(narrow_row<1, false>)
      : m.digits == 2 ? go(narrow_row<2, false>)
                      : go(narrow_row<3, false>);
    else
      m.digits == 1   ? go(narrow_row<1, true>)
      : m.digits == 2 ? go(narrow_row<2, true>)
                      : go(narrow_row<3, true>);
  }
}

inline int padded(int n) { return (n + 31) & ~31; } // the inputs of whole blocks of any width

// Cut row r's activations [n] into signed digits [DIGITS], `plane` bytes apart; returns their sum.
template <int DIGITS>
inline i64 cut_row(const int32_t *x, int n, int8_t *digits, size_t plane) {
  i64 sum = 0;
  for (int i = 0; i < n; i++) {
    int32_t v = x[i];
    sum += v;
    for (int d = 0; d < DIGITS; d++) {
      const int8_t low = int8_t(v);
      digits[d * plane + i] = low;
      v = (v - low) >> 8;
    }
  }
  for (int d = 0; d < DIGITS; d++) memset(digits + d * plane + n, 0, padded(n) - n);
  return sum;
}

inline i64 cut_digits(const int32_t *x, int n, int digits, int8_t *out, size_t plane) {
  if (digits == 1) return cut_row<1>(x, n, out, plane);
  if (digits == 2) return cut_row<2>(x, n, out, plane);
  return cut_row<3>(x, n, out, plane);
}

// Write one row of activations, `row` of `rows`.
inline void put_row(Activations &a, size_t stride, int row, int rows, const int32_t *x, int n,
                    int digits) {
  a.sums[row] = cut_digits(x, n, digits, a.digits + row * stride, rows * stride);
}

// Of all rows, the inputs that have a second digit in m.
inline void gather(const Matrix &m, const Activations &a, size_t stride, int rows,
                   Activations &to) {
  if (!m.extra_inputs) return;
  for (int r = 0; r < rows; r++) to.sums[r] = 0;
  for (int d = 0; d < m.digits; d++)
    for (int r = 0; r < rows; r++) {
      const int8_t *from = a.digits + (size_t(d) * rows + r) * stride;
      int8_t *chosen = to.digits + (size_t(d) * rows + r) * stride;
      i64 sum = 0;
      for (int i = 0; i < m.extras; i++) sum += chosen[i] = from[m.extra_inputs[i]];
      memset(chosen + m.extras, 0, padded(m.extras) - m.extras);
      to.sums[r] += sum * (i64(1) << 8 * d);
    }
}

// One row's activations again, from their digits.
inline void join_row(const Matrix &m, const Activations &a, size_t stride, int row, int rows,
                     int32_t *x) {
  for (int i = 0; i < m.inputs; i++) x[i] = 0;
  for (int d = m.digits - 1; d >= 0; d--) {
    const int8_t *digits = a.digits + (size_t(d) * rows + row) * stride;
    for (int i = 0; i < m.inputs; i++) x[i] = x[i] * 256 + digits[i];
  }
}

} // namespace
} // namespace intaglio
