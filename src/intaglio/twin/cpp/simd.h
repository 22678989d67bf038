// Sixteen sums at a time, once per instruction set. A Unit is 64 bytes: TILE outputs, GROUP inputs
// each. dot() adds to every output the products of its four bytes with four bytes that all outputs
// share. Which side is unsigned, and how large it may be, is said at each function.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

#include "model.h"
#include "tables.h"

#if defined(INTAGLIO_AVX512) || defined(INTAGLIO_AVX2)
#include <immintrin.h>
#elif defined(INTAGLIO_NEON)
#include <arm_neon.h>
#endif

namespace intaglio {
namespace {

inline int32_t load4(const void *p) {
  int32_t v;
  memcpy(&v, p, 4);
  return v;
}

// f(0) to f(N - 1), each number a constant
template <int N, class F> inline void unrolled(F f) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
    (f(std::integral_constant<int, I>{}), ...);
  }(std::make_integer_sequence<int, N>{});
}

// What N entries of a table give for field number 0, 1, 2 of the index: see Decoder::look.
template <int N> struct Looked {
  int8_t at[3][N];
};
template <int BITS, int N> constexpr Looked<N> looked_up(int bias) {
  Looked<N> made{};
  for (int field = 0; field < 3; field++)
    for (int i = 0; i < N; i++)
      made.at[field][i] = int8_t(
          CODE_VALUES[BITS - 2][(i >> (BITS * field) % 6) & ((1 << BITS) - 1)] + bias);
  return made;
}

#if defined(INTAGLIO_AVX512)

constexpr int MOST_ROWS = 6, MOST_TILES = 4; // 24 of 32 registers are sums
constexpr int WEIGHT_BIAS = 15;              // weights are stored in registers as 0 to 30
constexpr int SOFT_DIGITS = 2, SOFT_BITS = 8; // how a 16-bit weight of attention is cut
constexpr int MIX_TILES = 4;                  // of values that are summed together
using Acc = __m512i;
using Unit = __m512i;

inline Acc zero() { return _mm512_setzero_si512(); }
inline void store(int32_t *p, Acc a) { _mm512_storeu_si512(p, a); }
inline Unit load_unit(const void *p) { return _mm512_loadu_si512(p); }
inline Unit load_keys(const uint8_t *p) { return load_unit(p); }
using Four = __m512i;
inline Four four_of(const int8_t *x) { return _mm512_set1_epi32(load4(x)); }
// unit unsigned, all of 8 bits; x signed
inline Acc dot(Acc a, Unit u, Four x) { return _mm512_dpbusd_epi32(a, u, x); }
inline Acc dot_keys(Acc a, Unit u, const int8_t *x) { return dot(a, u, four_of(x)); }
// unit signed, w unsigned of SOFT_BITS
inline Acc dot_values(Acc a, Unit u, const uint8_t *w) {
  return _mm512_dpbusd_epi32(a, _mm512_set1_epi32(load4(w)), u);
}

template <int BITS> struct Table {
  static constexpr auto ENTRIES = looked_up<BITS, 64>(WEIGHT_BIAS);
  const __m512i entries[3] = {load_unit(ENTRIES.at[0]), load_unit(ENTRIES.at[1]),
                              load_unit(ENTRIES.at[2])};

  template <int FIELD> Unit look(Unit v) const {
#if defined(INTAGLIO_VBMI) // the permutation ignores what stands above six bits
    if constexpr (BITS * FIELD + BITS <= 6)
      return _mm512_permutexvar_epi8(v, entries[FIELD]);
    else
      return _mm512_permutexvar_epi8(_mm512_srli_epi16(v, BITS * FIELD), entries[0]);
#else
    if constexpr (FIELD) v = _mm512_srli_epi16(v, BITS * FIELD);
    return _mm512_shuffle_epi8(entries[0], _mm512_and_si512(v, _mm512_set1_epi8((1 << BITS) - 1)));
#endif
  }
};

// 0xCA takes the first where the mask is set
inline Unit join_tops(Unit v0, Unit v1, Unit v2) {
  const __m512i two = _mm512_ternarylogic_epi32(_mm512_set1_epi8(3), _mm512_srli_epi16(v0, 6),
                                                _mm512_srli_epi16(v1, 4), 0xCA);
  return _mm512_ternarylogic_epi32(_mm512_set1_epi8(15), two, _mm512_srli_epi16(v2, 2), 0xCA);
}

#elif defined(INTAGLIO_AVX2)

constexpr int MOST_ROWS = 4, MOST_TILES = 1; // 8 of 16 registers are sums
constexpr int WEIGHT_BIAS = 15;
constexpr int SOFT_DIGITS = 3, SOFT_BITS = 7; // 16-bit sums of two products must not saturate
constexpr int MIX_TILES = 1;
struct Acc {
  __m256i a, b;
};
using Unit = Acc;

inline Acc zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline void store(int32_t *p, Acc a) {
  _mm256_storeu_si256((__m256i *)p, a.a);
  _mm256_storeu_si256((__m256i *)(p + 8), a.b);
}
inline __m256i load_half(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
inline Unit load_unit(const void *p) { return {load_half(p), load_half((const char *)p + 32)}; }
inline Unit load_keys(const uint8_t *p) { return load_unit(p); }
inline __m256i add_dot(__m256i a, __m256i u, __m256i s) { // u * s: sums of two fit 16 bits
  return _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
}
using Four = __m256i;
inline Four four_of(const int8_t *x) { return _mm256_set1_epi32(load4(x)); }
// weights up to 30 times 8 bits signed
inline Acc dot(Acc a, Unit u, Four x) { return {add_dot(a.a, u.a, x), add_dot(a.b, u.b, x)}; }
// keys of 8 bits unsigned times digits of 7 bits signed
inline Acc dot_keys(Acc a, Unit u, const int8_t *x) { return dot(a, u, four_of(x)); }
inline Acc dot_values(Acc a, Unit u, const uint8_t *w) {
  const __m256i s = _mm256_set1_epi32(load4(w));
  return {add_dot(a.a, s, u.a), add_dot(a.b, s, u.b)};
}

template <int BITS> struct Table {
  static constexpr auto ENTRIES = looked_up<BITS, 32>(WEIGHT_BIAS);
  const __m256i entries = load_half(ENTRIES.at[0]);

  template <int FIELD> __m256i look(__m256i v) const {
    if constexpr (FIELD) v = _mm256_srli_epi16(v, BITS * FIELD);
    return _mm256_shuffle_epi8(entries, _mm256_and_si256(v, _mm256_set1_epi8((1 << BITS) - 1)));
  }
  template <int FIELD> Unit look(Unit v) const { return {look<FIELD>(v.a), look<FIELD>(v.b)}; }
};

inline __m256i join_tops(__m256i v0, __m256i v1, __m256i v2) {
  const __m256i low = _mm256_and_si256(_mm256_srli_epi16(v0, 6), _mm256_set1_epi8(3));
  const __m256i middle = _mm256_and_si256(_mm256_srli_epi16(v1, 4), _mm256_set1_epi8(12));
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(v2, 2), _mm256_set1_epi8(48));
  return _mm256_or_si256(_mm256_or_si256(low, middle), high);
}
inline Unit join_tops(Unit v0, Unit v1, Unit v2) {
  return {join_tops(v0.a, v1.a, v2.a), join_tops(v0.b, v1.b, v2.b)};
}

#elif defined(INTAGLIO_NEON)

constexpr int MOST_ROWS = 4, MOST_TILES = 1; // 16 of 32 registers are sums
constexpr int WEIGHT_BIAS = 0;               // both sides of sdot are signed
constexpr int SOFT_DIGITS = 3, SOFT_BITS = 7, MIX_TILES = 2;
struct Acc {
  int32x4_t v[4];
};
struct Unit {
  int8x16_t v[4];
};

inline Acc zero() {
  const int32x4_t z = vdupq_n_s32(0);
  return {{z, z, z, z}};
}
inline void store(int32_t *p, Acc a) {
  for (int i = 0; i < 4; i++) vst1q_s32(p + 4 * i, a.v[i]);
}
inline Unit load_unit(const void *p) {
  const int8_t *q = (const int8_t *)p;
  return {{vld1q_s8(q), vld1q_s8(q + 16), vld1q_s8(q + 32), vld1q_s8(q + 48)}};
}
inline Unit load_keys(const uint8_t *p) {
  Unit u = load_unit(p);
  for (int i = 0; i < 4; i++) u.v[i] = veorq_s8(u.v[i], vdupq_n_s8(-128));
  return u;
}
using Four = int8x16_t;
inline Four four_of(const int8_t *x) { return vreinterpretq_s8_s32(vdupq_n_s32(load4(x))); }
inline Acc dot(Acc a, Unit u, Four x) {
  for (int i = 0; i < 4; i++) a.v[i] = vdotq_s32(a.v[i], u.v[i], x);
  return a;
}
inline Acc dot_keys(Acc a, Unit u, const int8_t *x) { return dot(a, u, four_of(x)); }
inline Acc dot_values(Acc a, Unit u, const uint8_t *w) {
  return dot(a, u, four_of((const int8_t *)w));
}

template <int BITS> struct Table {
  static constexpr auto ENTRIES = looked_up<BITS, 16>(WEIGHT_BIAS);
  const int8x16_t entries = vld1q_s8(ENTRIES.at[0]);

  template <int FIELD> Unit look(Unit u) const {
    for (int i = 0; i < 4; i++) {
      uint8x16_t v = vreinterpretq_u8_s8(u.v[i]);
      if constexpr (FIELD) v = vshrq_n_u8(v, BITS * FIELD);
      u.v[i] = vqtbl1q_s8(entries, vandq_u8(v, vdupq_n_u8((1 << BITS) - 1)));
    }
    return u;
  }
};

inline Unit join_tops(Unit v0, Unit v1, Unit v2) {
  for (int i = 0; i < 4; i++) {
    uint8x16_t t = vshrq_n_u8(vreinterpretq_u8_s8(v0.v[i]), 6);
    t = vorrq_u8(t, vandq_u8(vshrq_n_u8(vreinterpretq_u8_s8(v1.v[i]), 4), vdupq_n_u8(12)));
    t = vorrq_u8(t, vandq_u8(vshrq_n_u8(vreinterpretq_u8_s8(v2.v[i]), 2), vdupq_n_u8(48)));
    v0.v[i] = vreinterpretq_s8_u8(t);
  }
  return v0;
}

#else // portable

constexpr int MOST_ROWS = 1, MOST_TILES = 1;
constexpr int WEIGHT_BIAS = 0;
constexpr int SOFT_DIGITS = 2, SOFT_BITS = 8, MIX_TILES = 1;
struct Acc {
  int32_t v[16];
};
struct Unit {
  int8_t v[64];
};

inline Acc zero() { return {}; }
inline void store(int32_t *p, const Acc &a) { memcpy(p, a.v, sizeof a.v); }
inline Unit load_unit(const void *p) {
  Unit u;
  memcpy(u.v, p, 64);
  return u;
}
inline Unit load_keys(const uint8_t *p) {
  Unit u = load_unit(p);
  for (int i = 0; i < 64; i++) u.v[i] = int8_t(uint8_t(u.v[i]) ^ 128);
  return u;
}
template <class X> inline Acc dot_any(Acc a, const Unit &u, const X *x) {
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 4; j++) a.v[i] += int32_t(u.v[4 * i + j]) * x[j];
  return a;
}
using Four = const int8_t *;
inline Four four_of(const int8_t *x) { return x; }
inline Acc dot(Acc a, const Unit &u, Four x) { return dot_any(a, u, x); }
inline Acc dot_keys(Acc a, const Unit &u, const int8_t *x) { return dot_any(a, u, x); }
inline Acc dot_values(Acc a, const Unit &u, const uint8_t *w) { return dot_any(a, u, w); }

template <int BITS> struct Table {
  template <int FIELD> Unit look(Unit u) const {
    for (int i = 0; i < 64; i++)
      u.v[i] = CODE_VALUES[BITS - 2][uint8_t(u.v[i]) >> BITS * FIELD & ((1 << BITS) - 1)];
    return u;
  }
};

inline Unit join_tops(Unit v0, const Unit &v1, const Unit &v2) {
  for (int i = 0; i < 64; i++)
    v0.v[i] = int8_t(uint8_t(v0.v[i]) >> 6 | uint8_t(v1.v[i]) >> 6 << 2 | uint8_t(v2.v[i]) >> 6 << 4);
  return v0;
}

#endif

// Blocks of codes to units of weights. Table::look<FIELD>(bytes) gives the weights whose codes are
// bits BITS * FIELD and up of every byte; join_tops() joins the two top bits of three bytes to six.
template <int BITS> struct Decoder : Table<BITS> {
  static constexpr int UNITS = BITS == 3 ? 8 : BITS == 4 ? 2 : 4;
  static constexpr int BYTES = BITS == 3 ? 192 : 64;
  struct Tops {
    Unit joined;
  };

  // What units of the block at p take besides its bytes.
  void put_tops(const uint8_t *p, Tops &to) const {
    if constexpr (BITS == 3)
      to.joined = join_tops(load_unit(p), load_unit(p + 64), load_unit(p + 128));
  }

  template <int U> Unit unit(const uint8_t *p, const Tops &tops) const {
    if constexpr (BITS != 3)
      return this->template look<U>(load_unit(p));
    else if constexpr (U < 6)
      return this->template look<U % 2>(load_unit(p + 64 * (U / 2)));
    else
      return this->template look<U % 2>(tops.joined);
  }
};

// Biases that the sums above contain, to be taken off by who reads them.
#if defined(INTAGLIO_AVX512) || defined(INTAGLIO_AVX2)
constexpr int KEYS_BIAS = KEY_BIAS;
#else
constexpr int KEYS_BIAS = 0;
#endif

} // namespace
} // namespace intaglio
