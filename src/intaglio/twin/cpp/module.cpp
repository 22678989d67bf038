// The Python module: a model, the memories of its sequences, and the single operations for tests.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <mutex>
#include <optional>
#include <unordered_map>

#include "engines.h"
#include "pool.h"
#include "store.h"
#include "tables.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace intaglio {

// A NumPy array. Whatever else has a buffer is refused: nanobind follows the strides of every
// buffer, and NumPy's own timedelta64 and datetime64 scalars have none.
template <class T, int N>
struct Array : nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu> {};

} // namespace intaglio

namespace nanobind::detail {

template <class T, int N> struct type_caster<intaglio::Array<T, N>> {
  using Base = ndarray<const T, ndim<N>, c_contig, device::cpu>;
  using Own = intaglio::Array<T, N>;
  NB_TYPE_CASTER(Own, make_caster<Base>::Name)

  template <class Flags>
  bool from_python(handle source, Flags flags, cleanup_list *cleanup) noexcept {
    static PyObject *const kind = object(module_::import_("numpy").attr("ndarray")).release().ptr();
    make_caster<Base> base;
    if (PyObject_IsInstance(source.ptr(), kind) != 1 || !base.from_python(source, flags, cleanup))
      return PyErr_Clear(), false;
    static_cast<Base &>(value) = std::move(base.value);
    return true;
  }
};

} // namespace nanobind::detail

namespace intaglio {
namespace {

template <class T> using Made = nb::ndarray<nb::numpy, T>;

const Engine &engine_named(const std::string &name) {
  for (const Engine *engine : engines())
    if (engine->name == name) return *engine;
  throw std::invalid_argument("engine " + name + " must be one that this processor has");
}

// An array for results, all of which are then written: its elements are not set.
template <class T> Made<T> made(std::vector<size_t> shape, T *&data) {
  size_t size = 1;
  for (size_t n : shape) size *= n;
  nb::capsule owner;
  if (size * sizeof(T) >= Pages::HUGE) { // few page faults
    auto pages = std::make_unique<Pages>(size * sizeof(T));
    data = reinterpret_cast<T *>(pages->data);
    owner = nb::capsule(pages.get(), [](void *p) noexcept { delete static_cast<Pages *>(p); });
    pages.release();
  } else {
    std::unique_ptr<T[]> array(new T[std::max<size_t>(size, 1)]);
    data = array.get();
    owner = nb::capsule(data, [](void *p) noexcept { delete[] static_cast<T *>(p); });
    array.release();
  }
  return Made<T>(data, shape.size(), shape.data(), owner);
}

// Which model something belongs to: the same object, or not.
using Owner = std::shared_ptr<const char>;

// The low-rank additions of one adapter, for one model.
class NativeAdapter {
public:
  NativeAdapter(Owner owner, size_t matrices)
      : owner(std::move(owner)), parts(matrices), held(matrices) {}

  const Owner owner;
  bool used = false; // by a sequence: it stays as it is

  const LowRank *view() const { return parts.data(); }
  size_t bytes() const {
    size_t sum = 0;
    for (const Held &h : held) sum += h.down.size() + h.up.size() + 3 * (h.dm.size() + h.um.size());
    return sum;
  }

  struct Held {
    std::vector<int8_t> down, up;
    std::vector<uint16_t> dm, um;
    std::vector<uint8_t> ds, us;
  };

  void set(size_t at, Held &&h, int rank, bool small) {
    held[at] = std::move(h);
    const Held &k = held[at];
    parts[at] = {rank, small, k.down.data(), k.up.data(), k.dm.data(), k.um.data(),
                 k.ds.data(), k.us.data()};
  }
private:
  std::vector<LowRank> parts;
  std::vector<Held> held;
};

class NativeMemory {
public:
  NativeMemory(Owner owner, int layers, int kv_heads, int head_width, int context,
               std::shared_ptr<NativeAdapter> adapter)
      : owner(std::move(owner)), layers(layers), kv_heads(kv_heads), context(context),
        adapter(std::move(adapter)) {
    view.adapter = this->adapter ? this->adapter->view() : nullptr;
    view.channels = int(round_up(head_width, TILE));
    view.head_stride = round_up(context, TILE) * view.channels;
    const size_t bytes = size_t(layers) * kv_heads * view.head_stride;
    keys = Pages(bytes);
    values = Pages(bytes);
    view.keys = keys.data;
    view.values = reinterpret_cast<int8_t *>(values.data);
  }

  // A copy of the first `count` positions.
  NativeMemory *fork(int count) const {
    require(0 <= count && count <= length,
            "positions to copy must be from 0 to " + std::to_string(length));
    auto copy = std::make_unique<NativeMemory>(owner, layers, kv_heads, view.channels,
                                               context, adapter);
    const size_t bytes = round_up(count, TILE) * view.channels;
    for (int64_t head = 0; head < int64_t(layers) * kv_heads; head++) {
      memcpy(copy->keys.data + head * view.head_stride, keys.data + head * view.head_stride, bytes);
      memcpy(copy->values.data + head * view.head_stride, values.data + head * view.head_stride,
             bytes);
    }
    copy->length = count;
    return copy.release();
  }

  size_t bytes() const { return keys.size + values.size; }

  const Owner owner;
  const int layers, kv_heads, context;
  int length = 0; // positions that are there
  Memory view{};

private:
  std::shared_ptr<NativeAdapter> adapter;
  Pages keys, values;
};

// While an engine runs: Python's lock is given back before the model's is taken.
struct Busy {
  explicit Busy(std::mutex &lock) : guard(lock) {}
  nb::gil_scoped_release release;
  std::lock_guard<std::mutex> guard;
};

using NormTuple = std::tuple<int64_t, int64_t, int64_t>; // epsilon, multiplier, shift

Norm norm_of(const NormTuple &t) {
  const auto [epsilon, multiplier, shift] = t;
  require(epsilon >= 1 && epsilon < int64_t(1) << 48 && multiplier >= 1 && multiplier < 65536 &&
              shift >= 40 && shift <= 62,
          "norm must have legal epsilon, multiplier and shift");
  return {epsilon, multiplier, int(shift)};
}

constexpr int64_t MOST_INPUTS = 1 << 19; // sums of 30 * 128 stay below 2**31

class NativeModel {
public:
  NativeModel(const std::string &engine, int threads, std::vector<int64_t> shape,
              std::vector<int64_t> widths, Array<uint32_t, 1> rotary, Array<int8_t, 2> embedding,
              Array<uint16_t, 1> embedding_multiplier, int64_t embedding_shift,
              const NormTuple &norm)
      : engine(engine_named(engine)), pool(check_threads(threads)) {
    require(shape.size() == 8 && widths.size() == 4, "shape must have 8 and widths 4 entries");
    for (int64_t n : shape) require(n >= 1 && n <= 1 << 24, "dimensions must be from 1 to 2**24");
    for (int64_t n : widths) require(n >= 4 && n <= 16, "widths must be from 4 to 16");
    Model &m = view;
    m.vocabulary = int(shape[0]), m.width = int(shape[1]), m.layers = int(shape[2]);
    m.heads = int(shape[3]), m.kv_heads = int(shape[4]), m.head_width = int(shape[5]);
    m.inner = int(shape[6]), m.context = int(shape[7]);
    m.widths = {int(widths[0]), int(widths[1]), int(widths[2]), int(widths[3])};
    require(m.width <= 65536 && m.context <= 1 << 17 && m.heads % m.kv_heads == 0 &&
                m.head_width % 2 == 0 && m.head_width <= 4096 && m.heads <= 1 << 14 &&
                m.inner <= MOST_INPUTS && int64_t(m.heads) * m.head_width <= MOST_INPUTS &&
                m.layers <= 1 << 12,
            "dimensions must be a legal architecture's");
    require(rotary.shape(0) == size_t(m.head_width / 2) &&
                embedding.shape(0) == size_t(m.vocabulary) &&
                embedding.shape(1) == size_t(m.width) &&
                embedding_multiplier.shape(0) == size_t(m.vocabulary),
            "rotary and embedding must have the model's shape");
    require(embedding_shift >= 0 && embedding_shift <= 56, "embedding_shift must be 0 to 56");
    this->rotary.assign(rotary.data(), rotary.data() + rotary.size());
    this->embedding = Pages(embedding.size());
    memcpy(this->embedding.data, embedding.data(), embedding.size());
    this->embedding_multiplier.assign(embedding_multiplier.data(),
                                      embedding_multiplier.data() + embedding_multiplier.size());
    m.rotary = this->rotary.data();
    m.embedding = reinterpret_cast<int8_t *>(this->embedding.data);
    m.embedding_multiplier = this->embedding_multiplier.data();
    m.embedding_shift = int(embedding_shift);
    m.norm = norm_of(norm);
    layers.resize(m.layers);
    matrices.resize(size_t(m.layers) * 7 + 1);
    set.assign(matrices.size(), false);
    layers_set.assign(m.layers, false);
    m.layer = layers.data();
  }

  void set_layer(int index, const NormTuple &attention, const NormTuple &mlp, int score_shift) {
    require(0 <= index && index < view.layers, "layer must be one of the model's");
    require(0 <= score_shift && score_shift <= 31, "score_shift must be 0 to 31");
    Layer &layer = layers[index];
    layer.norm_attention = norm_of(attention);
    layer.norm_mlp = norm_of(mlp);
    layer.score_shift = score_shift;
    layers_set[index] = true;
  }

  // kind: 0 to 6 as in golden.model.MATRICES; layer `layers`, kind 0 is the head
  void set_matrix(int layer, int kind, int bits, Array<uint8_t, 2> codes, int extra_shift,
                  Array<int32_t, 1> extra_inputs, Array<uint8_t, 2> extra_codes,
                  Array<uint16_t, 1> multiplier, Array<uint8_t, 1> shift) {
    const bool head = layer == view.layers;
    require(0 <= layer && layer <= view.layers && 0 <= kind && kind < (head ? 1 : 7),
            "matrix must be one of the model's");
    const auto [inputs, outputs, activation] = shape_of(head ? 7 : kind);
    const int64_t extras = int64_t(extra_inputs.shape(0));
    require(bits >= 2 && bits <= 4, "code width must be 2, 3 or 4 bits");
    require(codes.shape(0) == size_t(inputs) && codes.shape(1) == size_t(outputs) &&
                multiplier.shape(0) == size_t(outputs) && shift.shape(0) == size_t(outputs) &&
                extra_codes.shape(0) == size_t(extras) && extra_codes.shape(1) == size_t(outputs),
            "matrix must have the model's shape");
    require(extra_shift >= 0 && extra_shift <= 6, "extra_shift must be 0 to 6");
    int64_t before = -1;
    for (int64_t i = 0; i < extras; i++) {
      require(extra_inputs.data()[i] > before && extra_inputs.data()[i] < inputs,
              "extra inputs must ascend within the inputs");
      before = extra_inputs.data()[i];
    }
    // a token's own shift is taken off these
    const int low = head ? 0 : kind == 3 ? std::max(16 - activation, 0) : kind == 6 ? 32 - activation : 0;
    for (size_t i = 0; i < shift.size(); i++)
      require(shift.data()[i] >= low && shift.data()[i] <= 62, "shifts must be legal");
    Busy busy(lock);
    require(!room, "matrices must be set before the model runs");
    PackedMatrix made = pack_matrix(codes.data(), inputs, outputs, bits, extra_shift,
                                    extra_inputs.data(), int(extras), extra_codes.data(),
                                    multiplier.data(), shift.data(), activation);
    const size_t at = size_t(layer) * 7 + kind;
    matrices[at] = std::move(made);
    set[at] = true;
    Matrix view_of = matrices[at].view();
    if (head) {
      view.head = view_of;
      return;
    }
    Layer &l = layers[layer];
    Matrix *places[] = {&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down};
    *places[kind] = view_of;
  }

  std::unique_ptr<NativeMemory> memory(std::shared_ptr<NativeAdapter> adapter) const {
    require(!adapter || adapter->owner == owner, "adapter must be one of this model's");
    if (adapter) adapter->used = true;
    return std::make_unique<NativeMemory>(owner, view.layers, view.kv_heads, view.head_width,
                                          view.context, std::move(adapter));
  }

  std::shared_ptr<NativeAdapter> adapter() const {
    return std::make_shared<NativeAdapter>(owner, size_t(view.layers) * MATRICES);
  }

  // One part of an adapter; no sequence may use the adapter yet.
  void set_part(NativeAdapter &adapter, int layer, int kind, Array<int8_t, 2> down,
                Array<uint16_t, 1> down_multiplier, Array<uint8_t, 1> down_shift,
                Array<int8_t, 2> up, Array<uint16_t, 1> up_multiplier,
                Array<uint8_t, 1> up_shift) const {
    require(adapter.owner == owner && !adapter.used,
            "adapter must be one of this model's that no sequence uses yet");
    require(0 <= layer && layer < view.layers && 0 <= kind && kind < MATRICES,
            "part must be of one of the model's matrices");
    const auto [inputs, outputs, activation] = shape_of(kind);
    const size_t rank = down.shape(1);
    require(rank >= 1 && rank <= MOST_RANK && down.shape(0) == size_t(inputs) &&
                up.shape(0) == rank && up.shape(1) == size_t(outputs) &&
                down_multiplier.size() == rank && down_shift.size() == rank &&
                up_multiplier.size() == size_t(outputs) && up_shift.size() == size_t(outputs),
            "part must have the matrix' shape and a rank of 1 to 64");
    for (size_t i = 0; i < rank; i++)
      require(down_shift.data()[i] <= 62, "shifts must be legal");
    for (size_t i = 0; i < up_shift.size(); i++)
      require(up_shift.data()[i] <= 62, "shifts must be legal");
    auto copy = [](auto &to, const auto &from) {
      to.assign(from.data(), from.data() + from.size());
    };
    NativeAdapter::Held held;
    copy(held.down, down), copy(held.up, up);
    copy(held.dm, down_multiplier), copy(held.um, up_multiplier);
    copy(held.ds, down_shift), copy(held.us, up_shift);
    const bool small = (int64_t(inputs) * 128 << (activation - 1)) < int64_t(1) << 31;
    adapter.set(size_t(layer) * MATRICES + kind, std::move(held), int(rank), small);
  }

  Made<int32_t> forward(std::vector<NativeMemory *> memories, Array<int64_t, 1> tokens,
                        Array<int64_t, 1> positions, Array<int64_t, 1> wanted) {
    int32_t *logits;
    Made<int32_t> result = made<int32_t>({wanted.size(), size_t(view.vocabulary)}, logits);
    Busy busy(lock);
    ready();
    std::vector<Row> rows = rows_of(memories, tokens, positions);
    std::vector<int32_t> chosen(wanted.size());
    for (size_t i = 0; i < chosen.size(); i++) {
      const int64_t row = wanted.data()[i];
      require(row >= 0 && row < int64_t(rows.size()) && (i == 0 || row > chosen[i - 1]),
              "wanted rows must ascend within the rows");
      chosen[i] = int32_t(row);
    }
    pass(rows, chosen, logits);
    for (size_t i = 0; i < rows.size(); i++) memories[i]->length = rows[i].position + 1;
    return result;
  }

  Made<int32_t> decode(std::vector<NativeMemory *> memories, Array<int64_t, 1> tokens,
                       Array<int64_t, 1> positions, Array<uint64_t, 2> samplings, int64_t count) {
    require(count >= 0 && count <= view.context, "count must be from 0 to the context");
    int32_t *out;
    Made<int32_t> result = made<int32_t>({size_t(count), memories.size()}, out);
    Busy busy(lock);
    ready();
    std::vector<Row> rows = rows_of(memories, tokens, positions);
    const size_t batch = rows.size();
    require(samplings.shape(0) == batch && samplings.shape(1) == 4,
            "samplings must be [sequences][4]");
    std::vector<Sampling> how(batch);
    for (size_t b = 0; b < batch; b++) {
      const uint64_t *s = samplings.data() + 4 * b;
      require(s[0] < 1 << 20 && s[1] >= 1 && s[1] <= CANDIDATES && s[2] >= 1 && s[2] <= 1 << 16,
              "sampling must be legal");
      how[b] = {uint32_t(s[0]), uint32_t(s[1]), uint32_t(s[2]), s[3]};
      require(rows[b].position + count <= view.context, "positions must be within the context");
      for (size_t other = 0; other < b; other++)
        require(memories[other] != memories[b], "sequences of one decode must differ");
    }
    std::vector<int32_t> all(batch), logits(batch * view.vocabulary);
    for (size_t b = 0; b < batch; b++) all[b] = int32_t(b);
    for (int64_t step = 0; step < count && batch; step++) {
      pass(rows, all, logits.data());
      for (size_t b = 0; b < batch; b++) {
        rows[b].token = out[step * batch + b] =
            engine.sample(logits.data() + b * view.vocabulary, view.vocabulary, how[b],
                          uint32_t(rows[b].position));
        memories[b]->length = ++rows[b].position;
      }
    }
    return result;
  }

  size_t bytes() const {
    size_t sum = embedding.size + 2 * embedding_multiplier.size();
    for (const PackedMatrix &m : matrices) sum += m.bytes();
    return sum;
  }

  // One operation alone, for tests.
  Made<int32_t> matrix_product(int layer, int kind, Array<int32_t, 2> x, Array<int32_t, 1> lifts,
                               int bits) {
    ready();
    const bool head = layer == view.layers;
    require(0 <= layer && layer <= view.layers && 0 <= kind && kind < (head ? 1 : 7),
            "matrix must be one of the model's");
    require(bits >= 2 && bits <= 32, "bits must be 2 to 32");
    const Matrix m = matrices[size_t(layer) * 7 + kind].view();
    const int activation = std::get<2>(shape_of(head ? 7 : kind));
    require(x.shape(1) == size_t(m.inputs) && lifts.shape(0) == x.shape(0),
            "activations must have the matrix' inputs, lifts their rows");
    int least = 62;
    for (int i = 0; i < m.outputs; i++) least = std::min<int>(least, m.shift[i]);
    for (size_t i = 0; i < lifts.size(); i++)
      require(lifts.data()[i] >= 0 && lifts.data()[i] <= least, "lifts must be below the shifts");
    const int32_t high = (1 << (activation - 1)) - 1;
    for (size_t i = 0; i < x.size(); i++)
      require(x.data()[i] <= high && x.data()[i] >= -high - 1, "activations must fit their width");
    int32_t *y;
    Made<int32_t> result = made<int32_t>({x.shape(0), size_t(m.outputs)}, y);
    Busy busy(lock);
    engine.linear(m, x.data(), int(x.shape(0)), lifts.data(), bits, room->scratch, y);
    return result;
  }

  Made<int32_t> attention(const NativeMemory &memory, int layer, int kv_head, Array<int32_t, 2> q,
                          int position) {
    ready();
    const int group = view.heads / view.kv_heads;
    check_memory(memory);
    require(0 <= layer && layer < view.layers && 0 <= kv_head && kv_head < view.kv_heads &&
                0 <= position && position < memory.length,
            "layer, head and position must be the memory's");
    require(q.shape(0) == size_t(group) && q.shape(1) == size_t(view.head_width),
            "queries must be [group][head_width]");
    const int32_t high = (1 << (view.widths.query - 1)) - 1;
    for (size_t i = 0; i < q.size(); i++)
      require(q.data()[i] <= high && q.data()[i] >= -high - 1, "queries must fit their width");
    int32_t *y;
    Made<int32_t> result = made<int32_t>({q.shape(0), q.shape(1)}, y);
    Busy busy(lock);
    engine.attend(view, memory.view, layer, kv_head, q.data(), position, room->scratch.thread[0], y);
    return result;
  }

  const Engine &engine;

private:
  static int check_threads(int threads) {
    require(threads >= 1 && threads <= 1024, "threads must be from 1 to 1024");
    return threads;
  }

  std::tuple<int, int, int> shape_of(int kind) const { // inputs, outputs, bits of an input
    const Model &m = view;
    const int query = m.heads * m.head_width, kv = m.kv_heads * m.head_width;
    switch (kind) {
    case 0: return {m.width, query, m.widths.norm};
    case 1:
    case 2: return {m.width, kv, m.widths.norm};
    case 3: return {query, m.width, m.widths.attention};
    case 4:
    case 5: return {m.width, m.inner, m.widths.norm};
    case 6: return {m.inner, m.width, m.widths.product};
    default: return {m.width, m.vocabulary, m.widths.norm};
    }
  }

  void check_memory(const NativeMemory &memory) const {
    require(memory.owner == owner, "sequence must be one of this model's");
  }

  std::vector<Row> rows_of(const std::vector<NativeMemory *> &memories, Array<int64_t, 1> &tokens,
                           Array<int64_t, 1> &positions) const {
    const size_t count = memories.size();
    require(tokens.size() == count && positions.size() == count,
            "tokens, positions and sequences must be equally many");
    std::vector<Row> rows(count);
    std::unordered_map<const NativeMemory *, int64_t> next; // position of every sequence seen
    for (size_t r = 0; r < count; r++) {
      NativeMemory *memory = memories[r];
      require(memory != nullptr, "sequences must not be None");
      check_memory(*memory);
      const int64_t token = tokens.data()[r], position = positions.data()[r];
      require(token >= 0 && token < view.vocabulary, "tokens must be within the vocabulary");
      const auto seen = next.find(memory);
      require(position >= 0 && position < view.context &&
                  (seen == next.end() ? position <= memory->length : position == seen->second),
              "positions must be within the context and follow what the sequence holds");
      next[memory] = position + 1;
      rows[r] = {int32_t(token), int32_t(position), &memory->view};
    }
    return rows;
  }

  void pass(const std::vector<Row> &rows, const std::vector<int32_t> &wanted, int32_t *logits) {
    // little work is done sooner than others could join
    const bool alone = pool.threads() == 1 || weights * rows.size() < ALONE;
    barrier.size = alone ? 1 : pool.threads();
    const Pass p = {&view, &room->scratch, rows.data(), int(rows.size()), wanted.data(),
                    int(wanted.size()), logits,   &barrier,    barrier.size};
    if (alone)
      engine.forward(p, 0);
    else
      pool.run([&](int thread) { engine.forward(p, thread); });
  }

  // Once all parts are there: room to work in.
  void ready() {
    if (room) return;
    for (size_t i = 0; i < set.size(); i++) require(set[i], "every matrix must be set");
    for (size_t i = 0; i < layers_set.size(); i++) require(layers_set[i], "every layer must be set");
    weights = 0;
    for (const PackedMatrix &p : matrices)
      weights += size_t(p.shape.outputs) * (p.shape.inputs + p.shape.extras);
    room.emplace(view, pool.wanted());
#ifdef __GLIBC__
    malloc_trim(0); // what loading took
#endif
  }

  Model view{};
  const Owner owner = std::make_shared<const char>();
  std::optional<Room> room;
  std::vector<uint32_t> rotary;
  Pages embedding;
  std::vector<uint16_t> embedding_multiplier;
  std::vector<Layer> layers;
  std::vector<PackedMatrix> matrices;
  std::vector<bool> set, layers_set;
  Barrier barrier{};
  static constexpr size_t ALONE = 4 << 20; // products of one pass
  size_t weights = 0;
  std::mutex lock;
  Pool pool;
};

Made<int32_t> table(const std::string &name) {
  auto copy = [](const int32_t *from, size_t n) {
    int32_t *to;
    Made<int32_t> result = made<int32_t>({n}, to);
    memcpy(to, from, 4 * n);
    return result;
  };
  if (name == "rsqrt") return copy(RSQRT_TABLE, 192);
  if (name == "exp") return copy(EXP_TABLE, 65);
  if (name == "sine") return copy(SINE_TABLE, 258);
  if (name == "sigmoid") return copy(SIGMOID_TABLE, 257);
  throw std::invalid_argument("table must be rsqrt, exp, sine or sigmoid");
}

} // namespace

NB_MODULE(_native, m) {
  nb::class_<NativeAdapter>(m, "Adapter").def_prop_ro("bytes", &NativeAdapter::bytes);
  nb::class_<NativeMemory>(m, "Memory")
      .def("fork", &NativeMemory::fork, "length"_a, nb::rv_policy::take_ownership)
      .def_ro("length", &NativeMemory::length)
      .def_prop_ro("bytes", &NativeMemory::bytes);
  nb::class_<NativeModel>(m, "Model")
      .def(nb::init<const std::string &, int, std::vector<int64_t>, std::vector<int64_t>,
                    Array<uint32_t, 1>, Array<int8_t, 2>, Array<uint16_t, 1>, int64_t,
                    const NormTuple &>(),
           "engine"_a, "threads"_a, "shape"_a, "widths"_a, "rotary"_a.noconvert(),
           "embedding"_a.noconvert(), "embedding_multiplier"_a.noconvert(), "embedding_shift"_a,
           "norm"_a)
      .def("set_layer", &NativeModel::set_layer)
      .def("set_matrix", &NativeModel::set_matrix, "layer"_a, "kind"_a, "bits"_a,
           "codes"_a.noconvert(), "extra_shift"_a, "extra_inputs"_a.noconvert(),
           "extra_codes"_a.noconvert(), "multiplier"_a.noconvert(), "shift"_a.noconvert())
      .def("memory",
           [](const NativeModel &model, std::shared_ptr<NativeAdapter> adapter) {
             return model.memory(std::move(adapter)).release();
           },
           "adapter"_a.none() = nb::none(), nb::rv_policy::take_ownership)
      .def("adapter", &NativeModel::adapter)
      .def("set_part", &NativeModel::set_part, "adapter"_a, "layer"_a, "kind"_a,
           "down"_a.noconvert(), "down_multiplier"_a.noconvert(), "down_shift"_a.noconvert(),
           "up"_a.noconvert(), "up_multiplier"_a.noconvert(), "up_shift"_a.noconvert())
      .def("forward", &NativeModel::forward, "memories"_a, "tokens"_a.noconvert(),
           "positions"_a.noconvert(), "wanted"_a.noconvert())
      .def("decode", &NativeModel::decode, "memories"_a, "tokens"_a.noconvert(),
           "positions"_a.noconvert(), "samplings"_a.noconvert(), "count"_a)
      .def("matrix_product", &NativeModel::matrix_product, "layer"_a, "kind"_a,
           "x"_a.noconvert(), "lifts"_a.noconvert(), "bits"_a)
      .def("attention", &NativeModel::attention, "memory"_a, "layer"_a, "kv_head"_a,
           "q"_a.noconvert(), "position"_a)
      .def_prop_ro("bytes", &NativeModel::bytes);
  m.def("engines", [] {
    std::vector<std::string> names;
    for (const Engine *engine : engines()) names.push_back(engine->name);
    return names;
  });
  m.def("table", &table);
  m.def("norm", [](const std::string &engine, Array<int32_t, 1> x, const NormTuple &constants, int bits) {
    require(x.size() <= 65536 && bits >= 2 && bits <= 16, "norm must have at most 65536 elements, 2 to 16 bits");
    int32_t *y;
    Made<int32_t> result = made<int32_t>({x.size()}, y);
    engine_named(engine).norm(x.data(), int64_t(x.size()), norm_of(constants), bits, y);
    return result;
  }, "engine"_a, "x"_a.noconvert(), "constants"_a, "bits"_a);
  m.def("rotate", [](const std::string &engine, Array<int32_t, 1> x, Array<uint32_t, 1> rotary,
                     uint32_t position, int bits) {
    require(x.size() == 2 * rotary.size() && bits >= 2 && bits <= 16, "a pair must have a fraction");
    const Engine &e = engine_named(engine);
    std::vector<int32_t> sines(x.size());
    int32_t *y;
    Made<int32_t> result = made<int32_t>({x.size()}, y);
    e.turn(position, rotary.data(), int(rotary.size()), sines.data());
    e.rotate(x.data(), sines.data(), int(rotary.size()), bits, y);
    return result;
  }, "engine"_a, "x"_a.noconvert(), "rotary"_a.noconvert(), "position"_a, "bits"_a);
  m.def("shrink", [](const std::string &engine, Array<int32_t, 1> x, int bits) {
    require(bits >= 2 && bits <= 16, "bits must be 2 to 16");
    int32_t *y;
    Made<int32_t> result = made<int32_t>({x.size()}, y);
    const int lift = engine_named(engine).shrink(x.data(), int64_t(x.size()), bits, y);
    return std::make_tuple(result, lift);
  }, "engine"_a, "x"_a.noconvert(), "bits"_a);
  m.def("gate", [](const std::string &engine, Array<int32_t, 1> gate, Array<int32_t, 1> up) {
    require(gate.size() == up.size(), "gate and up must be equally many");
    for (size_t i = 0; i < gate.size(); i++)
      require(gate.data()[i] >= -(1 << 23) && gate.data()[i] < 1 << 23 &&
                  up.data()[i] >= -(1 << 19) && up.data()[i] < 1 << 19,
              "gate must fit 24 bits, up 20");
    int32_t *y;
    Made<int32_t> result = made<int32_t>({gate.size()}, y);
    engine_named(engine).gate(gate.data(), up.data(), int64_t(gate.size()), y);
    return result;
  }, "engine"_a, "gate"_a.noconvert(), "up"_a.noconvert());
  m.def("sample", [](const std::string &engine, Array<int32_t, 1> logits, uint32_t beta,
                     uint32_t top_k, uint32_t top_p, uint64_t seed, uint32_t position) {
    require(logits.size() >= 1 && logits.size() < size_t(1) << 31, "there must be logits");
    require(beta < 1 << 20 && top_k >= 1 && top_k <= CANDIDATES && top_p >= 1 && top_p <= 1 << 16,
            "sampling must be legal");
    for (size_t i = 0; i < logits.size(); i++)
      require(logits.data()[i] >= -(1 << 23) && logits.data()[i] < 1 << 23, "logits must fit 24 bits");
    return engine_named(engine).sample(logits.data(), int64_t(logits.size()),
                                       {beta, top_k, top_p, seed}, position);
  }, "engine"_a, "logits"_a.noconvert(), "beta"_a, "top_k"_a, "top_p"_a, "seed"_a,
     "position"_a);
}

} // namespace intaglio
