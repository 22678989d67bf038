#include "tables.h"

#include <cmath>

namespace intaglio {

int32_t RSQRT_TABLE[192], EXP_TABLE[65], SINE_TABLE[258], SIGMOID_TABLE[257];
uint32_t EXP_WORDS[64], SIGMOID_WORDS[257];

namespace {

int32_t rounded(double v) { return int32_t(std::lround(v)); }

const bool filled = [] {
  for (int h = 64; h < 256; h++) RSQRT_TABLE[h - 64] = rounded(4096 * std::sqrt(256 / (h + 0.5)));
  for (int h = 0; h < 65; h++) EXP_TABLE[h] = rounded(65535 * std::pow(2.0, -h / 64.0));
  for (int h = 0; h < 257; h++) SINE_TABLE[h] = rounded(32767 * std::sin(M_PI / 2 * h / 256));
  SINE_TABLE[257] = 32767;
  for (int h = 0; h < 257; h++) SIGMOID_TABLE[h] = rounded(65536 / (1 + std::exp(-h / 16.0)));
  for (int h = 0; h < 64; h++)
    EXP_WORDS[h] = uint32_t(EXP_TABLE[h] - EXP_TABLE[h + 1]) << 16 | uint32_t(EXP_TABLE[h]);
  for (int h = 0; h < 256; h++)
    SIGMOID_WORDS[h] =
        uint32_t(SIGMOID_TABLE[h + 1] - SIGMOID_TABLE[h]) << 17 | uint32_t(SIGMOID_TABLE[h]);
  SIGMOID_WORDS[256] = uint32_t(SIGMOID_TABLE[256]); // for arguments beyond the table
  return true;
}();

} // namespace
} // namespace intaglio
