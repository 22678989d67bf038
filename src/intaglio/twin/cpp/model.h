// The data of a twin: what engines read and write. Plain structures, no code: every instruction set
// compiles its own engine against them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace intaglio {

constexpr int TILE = 16;       // outputs that one accumulator holds
constexpr int SUPER = 4;       // tiles whose codes are stored interleaved
constexpr int GROUP = 4;       // inputs that one lane of a dot product takes
constexpr int BLOCK = 96;      // most rows of one pass
constexpr int PRIVATE = 4;     // up to so many rows every thread prepares its activations itself
constexpr int CANDIDATES = 64; // logits the sampler keeps
constexpr int MATRICES = 7;    // of a layer, in the order of golden.model.MATRICES
constexpr int MOST_RANK = 64;
constexpr int KEY_BIAS = 128;  // keys are stored as unsigned bytes

// One digit of a matrix: codes of `bits` bits. A unit is TILE outputs by GROUP inputs; a block is
// the units that share bytes (4 bits: 2 in 64 bytes, 3 bits: 8 in 192, 2 bits: 4 in 64). Stored by
// super tile, block, tile.
struct Digit {
  const uint8_t *codes;
  int bits, blocks;
};

struct Matrix {
  int inputs, outputs, extras, extra_shift, digits; // digits: int8 digits of an activation
  bool small;                                       // every exact sum fits 32 bits
  Digit main, extra;
  const int32_t *extra_inputs; // null: every input has its second digit
  const uint16_t *multiplier;
  const uint8_t *shift;
};

struct Norm {
  int64_t epsilon, multiplier;
  int shift;
};

struct Layer {
  Norm norm_attention, norm_mlp;
  Matrix q, k, v, o, gate, up, down;
  int score_shift;
};

struct Widths {
  int norm, query, attention, product;
};

struct Model {
  int vocabulary, width, layers, heads, kv_heads, head_width, inner, context;
  Widths widths;
  const uint32_t *rotary; // [head_width / 2]
  const int8_t *embedding;
  const uint16_t *embedding_multiplier;
  int embedding_shift;
  const Layer *layer;
  Norm norm;
  Matrix head;
};

// What an adapter adds to one matrix; rank 0: nothing.
struct LowRank {
  int rank;
  bool small; // every exact sum of down fits 32 bits
  const int8_t *down, *up; // [inputs][rank], [rank][outputs]
  const uint16_t *down_multiplier, *up_multiplier;
  const uint8_t *down_shift, *up_shift;
};

// Keys and values of one sequence. Keys: [layer][kv_head][position / 16][channel / 4][16][4],
// values: [layer][kv_head][position / 4][channel][4]; channels padded to `channels`.
struct Memory {
  uint8_t *keys;
  int8_t *values;
  int64_t head_stride; // bytes of one kv head
  int channels;
  const LowRank *adapter; // [layers][7], or null
};

struct Row {
  int32_t token, position;
  Memory *memory;
};

struct Sampling {
  uint32_t beta, top_k, top_p;
  uint64_t seed;
};

// Narrow activations, digit by digit: digits [digit][row][stride], sums [row] and lifts [row].
struct Activations {
  int8_t *digits;
  int64_t *sums;
  int32_t *lifts;
};

struct Scratch {
  size_t stride; // bytes of one row of digits
  int32_t *residual, *queries, *keys, *values, *attention, *product;
  int32_t *sines; // [BLOCK][head_width]: cosine, sine by pair
  Activations shared;
  struct Thread {
    Activations own;      // PRIVATE rows
    Activations gathered; // those of the inputs that have a second digit
    int32_t *tile, *second, *narrowed, *other; // [3 BLOCK][64] accumulators; [BLOCK][64] results
    int32_t *inputs;                           // [longest]: one row's activations
    int32_t *latents;                          // [BLOCK][MOST_RANK]
    int64_t *addends;                          // [WIDE]
    int32_t *scores;                           // [6][context], padded
    uint8_t *weights;                          // [3][context], padded
    int8_t *query;                             // [6][channels]
    int64_t *mixed;                            // [channels]
  } *thread;
};

struct Barrier {
  int32_t waiting, phase, size;
};

struct Pass {
  const Model *model;
  Scratch *scratch;
  const Row *rows;
  int count;
  const int32_t *wanted; // rows whose logits are wanted, ascending
  int wanted_count;
  int32_t *logits; // [wanted_count][vocabulary]
  Barrier *barrier;
  int threads;
};

// What an instruction set offers. All arrays are row major.
struct Engine {
  const char *name;
  void (*forward)(const Pass &, int thread);
  int32_t (*sample)(const int32_t *logits, int64_t vocabulary, const Sampling &, uint32_t position);
  void (*norm)(const int32_t *x, int64_t n, const Norm &, int bits, int32_t *y);
  void (*linear)(const Matrix &, const int32_t *x, int rows, const int32_t *lifts, int bits,
                 Scratch &, int32_t *y);
  void (*turn)(uint32_t position, const uint32_t *rotary, int pairs, int32_t *sines);
  void (*rotate)(const int32_t *x, const int32_t *sines, int pairs, int bits, int32_t *y);
  void (*attend)(const Model &, const Memory &, int layer, int kv_head, const int32_t *q,
                 int position, Scratch::Thread &, int32_t *y);
  int (*shrink)(const int32_t *x, int64_t n, int bits, int32_t *y);
  void (*gate)(const int32_t *gate, const int32_t *up, int64_t n, int32_t *y);
};

extern const Engine portable_engine;
#if defined(__x86_64__)
extern const Engine avx2_engine, avx512_engine, avx512vbmi_engine;
#elif defined(__aarch64__)
extern const Engine neon_engine;
#endif

} // namespace intaglio
