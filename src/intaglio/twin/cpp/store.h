// Who owns the bytes: packed matrices, memories, scratch. Everything is checked here, so that
// engines need not.
#pragma once
#include <sys/mman.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "model.h"

namespace intaglio {

inline void require(bool holds, const std::string &what) {
  if (!holds) throw std::invalid_argument(what);
}

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Zeroed bytes of whole pages, committed when they are touched.
class Pages {
public:
  static constexpr size_t HUGE = size_t(8) << 20; // bytes from which pages are large

  Pages() = default;
  explicit Pages(size_t size) : size(size) {
    if (!size) return;
#ifdef __SANITIZE_ADDRESS__ // so that the sanitizer sees where it ends
    data = static_cast<uint8_t *>(aligned_alloc(64, (size + 63) / 64 * 64));
    if (!data) throw std::bad_alloc();
    memset(data, 0, size);
    __asan_poison_memory_region(data + size, (size + 63) / 64 * 64 - size);
    return;
#endif
    void *got = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (got == MAP_FAILED) throw std::bad_alloc();
    data = static_cast<uint8_t *>(got);
#ifdef MADV_HUGEPAGE
    if (size >= HUGE) madvise(data, size, MADV_HUGEPAGE);
#endif
  }
  Pages(Pages &&other) noexcept { *this = std::move(other); }
  Pages &operator=(Pages &&other) noexcept {
    std::swap(data, other.data);
    std::swap(size, other.size);
    return *this;
  }
  ~Pages() {
#ifdef __SANITIZE_ADDRESS__
    if (data) __asan_unpoison_memory_region(data, (size + 63) / 64 * 64);
    free(data);
    return;
#endif
    if (data) munmap(data, size);
  }

  uint8_t *data = nullptr;
  size_t size = 0;
};

struct Block { // of codes: see Digit
  int inputs, bytes;
};

inline Block block_of(int bits) {
  return bits == 4 ? Block{8, 64} : bits == 3 ? Block{32, 192} : Block{16, 64};
}

// Codes [inputs][outputs] of one digit, packed.
class PackedDigit {
public:
  PackedDigit() = default;
  PackedDigit(const uint8_t *codes, int inputs, int outputs, int bits) {
    const Block block = block_of(bits);
    view = {nullptr, bits, (inputs + block.inputs - 1) / block.inputs};
    const int tiles = (outputs + TILE - 1) / TILE;
    pages = Pages(size_t(tiles) * view.blocks * block.bytes);
    view.codes = pages.data;
    const uint8_t mask = uint8_t((1 << bits) - 1);
    for (int i = 0; i < inputs; i++)
      for (int o = 0; o < outputs; o++)
        put(i, o, codes[size_t(i) * outputs + o] & mask, tiles, block);
  }

  Digit view{};
  size_t bytes() const { return pages.size; }

private:
  void put(int input, int output, int code, int tiles, Block block) {
    const int tile = output / TILE, super = tile / SUPER, first = super * SUPER;
    const int width = std::min(SUPER, tiles - first);
    uint8_t *p = pages.data + size_t(first) * view.blocks * block.bytes +
                 (size_t(input / block.inputs) * width + (tile - first)) * block.bytes;
    const int unit = input % block.inputs / GROUP;
    const int byte = output % TILE * GROUP + input % GROUP;
    if (view.bits == 3 && unit >= 6) { // the top two bits of three bytes
      const int six = code << 3 * (unit - 6);
      for (int part = 0; part < 3; part++)
        p[byte + 64 * part] |= uint8_t((six >> 2 * part & 3) << 6);
    } else if (view.bits == 3) {
      p[byte + 64 * (unit / 2)] |= uint8_t(code << 3 * (unit % 2));
    } else {
      p[byte] |= uint8_t(code << view.bits * unit);
    }
  }

  Pages pages;
};

class PackedMatrix {
public:
  PackedMatrix() = default;

  Matrix view() const {
    Matrix m = shape;
    m.main = main.view;
    m.extra = extra.view;
    m.extra_inputs = extra_inputs.empty() ? nullptr : extra_inputs.data();
    m.multiplier = multiplier.data();
    m.shift = shift.data();
    return m;
  }
  size_t bytes() const {
    return main.bytes() + extra.bytes() + 4 * extra_inputs.size() + 3 * multiplier.size();
  }

  Matrix shape{};
  PackedDigit main, extra;
  std::vector<int32_t> extra_inputs;
  std::vector<uint16_t> multiplier;
  std::vector<uint8_t> shift;
};

// int8 digits that hold any signed number of so many bits.
inline int digits_of(int bits) { return bits <= 8 ? 1 : bits <= 15 ? 2 : 3; }

// Codes [inputs][outputs] and all else of one matrix, which must be legal.
inline PackedMatrix pack_matrix(const uint8_t *codes, int inputs, int outputs, int bits,
                                int extra_shift, const int32_t *extra_inputs, int extras,
                                const uint8_t *extra_codes, const uint16_t *multiplier,
                                const uint8_t *shift, int activation) {
  PackedMatrix made;
  made.shape.inputs = inputs, made.shape.outputs = outputs;
  made.shape.extras = extras, made.shape.extra_shift = extra_shift;
  made.shape.digits = digits_of(activation);
  const int64_t largest = (int64_t(15) << extra_shift) + (extras ? 15 : 0);
  made.shape.small = (inputs * largest << (activation - 1)) < int64_t(1) << 31;
  made.main = PackedDigit(codes, inputs, outputs, bits);
  if (extras) made.extra = PackedDigit(extra_codes, extras, outputs, bits);
  if (extras < inputs) made.extra_inputs.assign(extra_inputs, extra_inputs + extras);
  made.multiplier.assign(multiplier, multiplier + outputs);
  made.shift.assign(shift, shift + outputs);
  return made;
}

// Where so many threads work on a model.
class Room {
public:
  Room(const Model &m, int count) : threads(count) {
    const int query = m.heads * m.head_width, kv = m.kv_heads * m.head_width;
    const int longest = std::max({m.width, m.inner, query});
    const int wide = TILE * SUPER, channels = int(round_up(m.head_width, TILE));
    const size_t span = round_up(m.context, TILE);
    const size_t most = std::max({digits_of(m.widths.norm), digits_of(m.widths.attention),
                                  digits_of(m.widths.product)});
    scratch.thread = threads.data();
    scratch.stride = round_up(longest, 64);
    auto activations = [&](Activations &a, size_t rows) {
      take(a.digits, rows * most * scratch.stride);
      take(a.sums, rows);
      take(a.lifts, rows);
    };
    take(scratch.residual, size_t(BLOCK) * m.width);
    take(scratch.queries, size_t(BLOCK) * query);
    take(scratch.keys, size_t(BLOCK) * kv);
    take(scratch.values, size_t(BLOCK) * kv);
    take(scratch.attention, size_t(BLOCK) * query);
    take(scratch.product, size_t(BLOCK) * m.inner);
    take(scratch.sines, size_t(BLOCK) * m.head_width);
    activations(scratch.shared, BLOCK);
    for (Scratch::Thread &t : threads) {
      activations(t.own, PRIVATE);
      activations(t.gathered, BLOCK);
      take(t.tile, most * BLOCK * wide);
      take(t.second, most * BLOCK * wide);
      take(t.narrowed, std::max(BLOCK * wide, longest));
      take(t.inputs, longest);
      take(t.latents, size_t(BLOCK) * MOST_RANK);
      take(t.addends, wide);
      take(t.scores, 6 * span);
      take(t.weights, 3 * span);
      take(t.query, size_t(6) * channels);
      take(t.mixed, channels);
    }
  }
  Room(const Room &) = delete;

  Scratch scratch{};

private:
  template <class T> void take(T *&place, size_t count) {
    pieces.emplace_back(count * sizeof(T));
    place = reinterpret_cast<T *>(pieces.back().data);
  }

  std::vector<Scratch::Thread> threads;
  std::vector<Pages> pieces;
};

} // namespace intaglio
