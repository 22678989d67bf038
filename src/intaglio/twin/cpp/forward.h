// The whole pass: every thread runs forward() and takes its share of each section.
#pragma once
#include <sched.h>

#include "attend.h"
#include "multiply.h"

namespace intaglio {
namespace {

constexpr int SPINS = 2000;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// All threads arrive before any leaves.
inline void arrive(const Pass &pass) {
  if (pass.threads == 1) return;
  Barrier &b = *pass.barrier;
  const int32_t phase = __atomic_load_n(&b.phase, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&b.waiting, 1, __ATOMIC_ACQ_REL) == b.size) {
    __atomic_store_n(&b.waiting, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&b.phase, phase + 1, __ATOMIC_RELEASE);
    return;
  }
  for (int spins = 0; __atomic_load_n(&b.phase, __ATOMIC_ACQUIRE) == phase; spins++)
    spins < SPINS ? relax() : void(sched_yield()); // whoever is missing may need this processor
}

struct Share {
  int first, last;
};

inline Share share(int n, int thread, int threads) {
  return {int(i64(n) * thread / threads), int(i64(n) * (thread + 1) / threads)};
}

// One thread's view of a pass.
struct Worker {
  const Pass &pass;
  const Model &model;
  Scratch &scratch;
  Scratch::Thread &own;
  const int thread, threads, rows;
  const Row *const row; // [rows], or null where no adapter can be (the head)
  Additions additions;

  Worker(const Pass &pass, int thread, int rows, const Row *row)
      : pass(pass), model(*pass.model), scratch(*pass.scratch), own(scratch.thread[thread]),
        thread(thread), threads(pass.threads), rows(rows), row(row) {}

  Share part(int n) const { return share(n, thread, threads); }

  // Few rows: every thread makes its own copy and nobody waits. Many: each makes a part of one.
  template <class Make> Activations &activations(Make make) {
    const bool alone = threads == 1 || rows <= PRIVATE;
    Activations &a = alone && rows <= PRIVATE ? own.own : scratch.shared;
    const Share s = alone ? Share{0, rows} : part(rows);
    for (int r = s.first; r < s.last; r++) make(a, r);
    if (!alone) arrive(pass);
    return a;
  }

  Activations &normed(const int32_t *x, const Norm &constants) {
    return activations([&](Activations &a, int r) {
      int32_t *y = own.narrowed;
      norm(x + size_t(r) * model.width, model.width, constants, model.widths.norm, y);
      put_row(a, scratch.stride, r, rows, y, model.width, model.layer[0].q.digits);
    });
  }

  Activations &shrunk(const int32_t *x, int n, int bits, int digits) {
    return activations([&](Activations &a, int r) {
      a.lifts[r] = shrink(x + size_t(r) * n, n, bits, own.narrowed);
      put_row(a, scratch.stride, r, rows, own.narrowed, n, digits);
    });
  }

  // What adapters add to a matrix: null where no row has one that does.
  const Additions *added(const Matrix &m, int layer, int kind, const Activations &a) {
    bool any = false;
    for (int r = 0; row && r < rows; r++) {
      const LowRank *adapter = row[r].memory->adapter;
      const LowRank *part = adapter ? adapter + layer * MATRICES + kind : nullptr;
      additions.part[r] = part && part->rank ? part : nullptr;
      any = any || additions.part[r];
    }
    if (!any) return nullptr;
    additions.latents = own.latents;
    for (int r = 0; r < rows; r++)
      if (additions.part[r]) {
        join_row(m, a, scratch.stride, r, rows, own.inputs);
        latent_row(*additions.part[r], own.inputs, m.inputs, own.latents + r * MOST_RANK);
      }
    return &additions;
  }

  // This thread's super tiles of m; use(first output, outputs), results in own.narrowed [rows][WIDE]
  template <class Use>
  void linear(const Matrix &m, int layer, int kind, const Activations &a, bool lifted, int bits,
              Use use) {
    const Share s = part(super_tiles(m.outputs));
    if (s.first == s.last) return;
    gather(m, a, scratch.stride, rows, own.gathered);
    const Additions *more = added(m, layer, kind, a);
    for (int super = s.first; super < s.last; super++) {
      linear_tile(m, super, a, scratch.stride, rows, lifted, bits, own, own.narrowed, more);
      use(super * WIDE, width_of(m, super));
    }
  }

  void copy_linear(const Matrix &m, int layer, int kind, const Activations &a, int bits,
                   int32_t *out) {
    linear(m, layer, kind, a, false, bits, [&](int first, int n) {
      for (int r = 0; r < rows; r++)
        memcpy(out + size_t(r) * m.outputs + first, own.narrowed + r * WIDE, 4 * n);
    });
  }

  void add_linear(const Matrix &m, int layer, int kind, const Activations &a) {
    linear(m, layer, kind, a, true, 32, [&](int first, int n) {
      for (int r = 0; r < rows; r++) {
        int32_t *x = scratch.residual + size_t(r) * model.width + first;
        const int32_t *y = own.narrowed + r * WIDE;
        for (int i = 0; i < n; i++) x[i] = int32_t(clamp(i64(x[i]) + y[i], INT32_MIN, INT32_MAX));
      }
    });
    arrive(pass);
  }

  void embed() {
    const Share s = part(rows);
    for (int r = s.first; r < s.last; r++) {
      const int8_t *codes = model.embedding + size_t(row[r].token) * model.width;
      const i64 multiplier = model.embedding_multiplier[row[r].token];
      int32_t *x = scratch.residual + size_t(r) * model.width;
      for (int i = 0; i < model.width; i++)
        x[i] = int32_t(narrow(codes[i], multiplier, model.embedding_shift, 32));
      turn(row[r].position, model.rotary, model.head_width / 2,
           scratch.sines + size_t(r) * model.head_width);
    }
    arrive(pass);
  }

  // Turn the keys of this thread's key heads and put them and the values into memory.
  void remember_all(int layer) {
    const int width = model.head_width, kv_width = width * model.kv_heads;
    const Share s = part(model.kv_heads);
    int32_t *turned = own.narrowed;
    for (int head = s.first; head < s.last; head++)
      for (int r = 0; r < rows; r++) {
        const size_t at = size_t(r) * kv_width + head * width;
        rotate(scratch.keys + at, scratch.sines + size_t(r) * width, width / 2, 8, turned);
        remember(*row[r].memory, i64(layer) * model.kv_heads + head, row[r].position, turned,
                 scratch.values + at, width);
      }
    arrive(pass);
  }

  void attend_all(int layer) {
    const int width = model.head_width, group = model.heads / model.kv_heads;
    const int query_width = width * model.heads;
    int32_t *turned = own.narrowed;
    // neighbours take turns, since later rows have more to read
    for (int job = thread; job < rows * model.kv_heads; job += threads) {
      const int r = job / model.kv_heads, head = job % model.kv_heads;
      const size_t at = size_t(r) * query_width + size_t(head) * group * width;
      for (int h = 0; h < group; h++)
        rotate(scratch.queries + at + h * width, scratch.sines + size_t(r) * width, width / 2,
               model.widths.query, turned + h * width);
      attend(model, *row[r].memory, layer, head, turned, row[r].position, own,
             scratch.attention + at);
    }
    arrive(pass);
  }

  void run_layer(int index) {
    const Layer &l = model.layer[index];
    Activations &a = normed(scratch.residual, l.norm_attention);
    copy_linear(l.q, index, 0, a, 16, scratch.queries);
    copy_linear(l.k, index, 1, a, 16, scratch.keys);
    copy_linear(l.v, index, 2, a, 8, scratch.values);
    arrive(pass);
    remember_all(index);
    attend_all(index);
    const int query_width = model.heads * model.head_width;
    Activations &mixed =
        shrunk(scratch.attention, query_width, model.widths.attention, l.o.digits);
    add_linear(l.o, index, 3, mixed);

    Activations &b = normed(scratch.residual, l.norm_mlp);
    copy_linear(l.gate, index, 4, b, 24, scratch.product);
    linear(l.up, index, 5, b, false, 20, [&](int first, int n) { // the same tiles as the gate's
      for (int r = 0; r < rows; r++) {
        int32_t *product = scratch.product + size_t(r) * model.inner + first;
        gate(product, own.narrowed + r * WIDE, n, product);
      }
    });
    arrive(pass);
    Activations &inner = shrunk(scratch.product, model.inner, model.widths.product, l.down.digits);
    add_linear(l.down, index, 6, inner);
  }

  static int width_of(const Matrix &m, int super) {
    const int left = m.outputs - super * WIDE;
    return left < WIDE ? left : WIDE;
  }
};

// Rows in blocks of BLOCK; a block's residuals feed the head before the next block overwrites them.
void forward(const Pass &pass, int thread) {
  const Model &model = *pass.model;
  Scratch &scratch = *pass.scratch;
  int done = 0; // wanted rows whose logits are there
  for (int start = 0; start < pass.count; start += BLOCK) {
    const int rows = pass.count - start < BLOCK ? pass.count - start : BLOCK;
    Worker worker(pass, thread, rows, pass.rows + start);
    worker.embed();
    for (int index = 0; index < model.layers; index++) worker.run_layer(index);
    int wanted = 0;
    while (done + wanted < pass.wanted_count && pass.wanted[done + wanted] < start + rows) wanted++;
    if (wanted == 0) continue;
    // the wanted rows move together; ascending, so none is overwritten before it moved
    if (thread == 0)
      for (int i = 0; i < wanted; i++)
        memmove(scratch.residual + size_t(i) * model.width,
                scratch.residual + size_t(pass.wanted[done + i] - start) * model.width,
                4 * size_t(model.width));
    arrive(pass);
    Worker head(pass, thread, wanted, nullptr);
    const Activations &a = head.normed(scratch.residual, model.norm);
    head.copy_linear(model.head, 0, 0, a, 24, pass.logits + size_t(done) * model.vocabulary);
    arrive(pass);
    done += wanted;
  }
}

// A whole matrix on one thread, for tests of this operation alone.
void linear(const Matrix &m, const int32_t *x, int rows, const int32_t *lifts, int bits,
            Scratch &scratch, int32_t *y) {
  Scratch::Thread &own = scratch.thread[0];
  for (int start = 0; start < rows; start += BLOCK) {
    const int count = rows - start < BLOCK ? rows - start : BLOCK;
    for (int r = 0; r < count; r++) {
      put_row(scratch.shared, scratch.stride, r, count, x + size_t(start + r) * m.inputs, m.inputs,
              m.digits);
      scratch.shared.lifts[r] = lifts ? lifts[start + r] : 0;
    }
    gather(m, scratch.shared, scratch.stride, count, own.gathered);
    for (int super = 0; super < super_tiles(m.outputs); super++) {
      linear_tile(m, super, scratch.shared, scratch.stride, count, true, bits, own, own.narrowed);
      const int n = Worker::width_of(m, super);
      for (int r = 0; r < count; r++)
        memcpy(y + size_t(start + r) * m.outputs + super * WIDE, own.narrowed + r * WIDE, 4 * n);
    }
  }
}

} // namespace
} // namespace intaglio
