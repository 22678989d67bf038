// Low-rank additions to a matrix (docs/spec.md, the section on adapters).
#pragma once
#include "functions.h"

namespace intaglio {
namespace {

constexpr int ADDEND_SHIFT = 8;

// What an addition needs while a matrix is at work: by row, its part (or null) and latents.
struct Additions {
  const LowRank *part[BLOCK];
  int32_t *latents; // [rows][MOST_RANK]
};

template <class T>
inline void down_sums(const LowRank &part, const int32_t *x, int inputs, T *sums) {
  for (int j = 0; j < part.rank; j++) sums[j] = 0;
  for (int i = 0; i < inputs; i++) {
    const int8_t *row = part.down + size_t(i) * part.rank;
    for (int j = 0; j < part.rank; j++) sums[j] += T(row[j]) * x[i];
  }
}

inline void latent_row(const LowRank &part, const int32_t *x, int inputs, int32_t *latent) {
  i64 sums[MOST_RANK];
  if (part.small) {
    int32_t narrow_sums[MOST_RANK];
    down_sums(part, x, inputs, narrow_sums);
    for (int j = 0; j < part.rank; j++) sums[j] = narrow_sums[j];
  } else {
    down_sums(part, x, inputs, sums);
  }
  for (int j = 0; j < part.rank; j++)
    latent[j] = int32_t(narrow(sums[j], part.down_multiplier[j], part.down_shift[j], 16));
}

// What joins the products of n outputs from `first` on.
inline void addend_row(const LowRank &part, const int32_t *latent, int outputs, int first, int n,
                       i64 *addends) {
  int32_t sums[TILE * SUPER] = {};
  for (int k = 0; k < part.rank; k++) {
    const int8_t *row = part.up + size_t(k) * outputs + first;
    for (int j = 0; j < n; j++) sums[j] += int32_t(row[j]) * latent[k];
  }
  for (int j = 0; j < n; j++)
    addends[j] = round_shift((i64(sums[j]) * part.up_multiplier[first + j]) << ADDEND_SHIFT,
                             part.up_shift[first + j]);
}

} // namespace
} // namespace intaglio
