// The function tables of docs/spec.md, filled when the module is loaded.
#pragma once
#include <cstdint>

namespace intaglio {

extern int32_t RSQRT_TABLE[192], EXP_TABLE[65], SINE_TABLE[258], SIGMOID_TABLE[257];
// An entry and its distance to the next in one word, so that one look finds both.
extern uint32_t EXP_WORDS[64], SIGMOID_WORDS[257]; // distance << 16 | entry; distance << 17 | entry
constexpr int8_t CODE_VALUES[3][16] = { // by code width, from 2
    {4, 13, -4, -13},
    {2, 5, 9, 15, -2, -5, -9, -15},
    {1, 2, 4, 5, 7, 9, 11, 15, -1, -2, -4, -5, -7, -9, -11, -15},
};

} // namespace intaglio
