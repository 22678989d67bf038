// Every engine of this platform against the portable one, bit for bit, without Python: whole passes
// of random models, and each operation alone. Prints a line per engine, with a hash of all results
// that is the same on every platform; exits with 1 where an engine differs.
//
//   check [models] [what to spoil]   spoiling a result shows that a difference is seen
#include <cstdio>
#include <optional>

#include "engines.h"
#include "pool.h"
#include "store.h"
#include "tables.h"

using namespace intaglio;

namespace {

constexpr int CONTEXT = 150, THREADS = 2;

// SplitMix64, and numbers whose corners are frequent.
class Random {
public:
  explicit Random(uint64_t seed) : state(seed) {}

  uint64_t word() {
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
  }
  int64_t from(int64_t low, int64_t high) { return low + int64_t(word() % uint64_t(high - low + 1)); }
  bool one_in(int n) { return from(1, n) == 1; }
  int32_t signed_of(int bits) {
    const int64_t high = (int64_t(1) << (bits - 1)) - 1;
    if (one_in(4)) return int32_t(one_in(2) ? high : -high - 1);
    return int32_t(from(-high - 1, high) >> from(0, bits - 1));
  }
  std::vector<int32_t> vector_of(int bits, size_t n) {
    std::vector<int32_t> made(n);
    for (int32_t &v : made) v = signed_of(bits);
    return made;
  }

private:
  uint64_t state;
};

Norm random_norm(Random &random) {
  return {random.from(1, (int64_t(1) << 48) - 1) >> random.from(0, 47) | 1, random.from(1, 65535),
          int(random.from(40, 62))};
}

// A model of random shape, widths and codes, with room for passes of THREADS threads.
class RandomModel {
public:
  explicit RandomModel(Random &random) {
    Model &m = view;
    m.kv_heads = int(random.from(1, 3)), m.heads = m.kv_heads * int(random.from(1, 8));
    m.head_width = 2 * int(random.one_in(6) ? random.from(32, 128) : random.from(1, 20));
    m.vocabulary = int(random.from(2, 150)), m.width = int(random.from(1, 150));
    m.inner = int(random.from(1, 200)), m.layers = int(random.from(1, 2)), m.context = CONTEXT;
    auto bits = [&] { return int(random.from(4, 16)); };
    m.widths = {bits(), bits(), bits(), bits()};
    for (int i = 0; i < m.head_width / 2; i++) rotary.push_back(uint32_t(random.word()));
    for (int i = 0; i < m.vocabulary * m.width; i++) embedding.push_back(int8_t(random.signed_of(8)));
    for (int i = 0; i < m.vocabulary; i++) multipliers.push_back(uint16_t(random.word()));
    m.rotary = rotary.data(), m.embedding = embedding.data();
    m.embedding_multiplier = multipliers.data(), m.embedding_shift = int(random.from(0, 12));
    layers.resize(m.layers);
    m.layer = layers.data();
    matrices.reserve(size_t(7) * m.layers + 1);
    for (Layer &layer : layers) fill(random, layer);
    m.norm = norm_to(random, m.widths.norm);
    m.head = matrix(random, m.width, m.vocabulary, m.widths.norm, 24, 0);
    room.emplace(view, THREADS);
  }

  Model view{};
  std::optional<Room> room;

private:
  void fill(Random &random, Layer &l) {
    const Model &m = view;
    const int query = m.heads * m.head_width, kv = m.kv_heads * m.head_width;
    const int norm = m.widths.norm, attention = m.widths.attention, product = m.widths.product;
    l.norm_attention = norm_to(random, norm), l.norm_mlp = norm_to(random, norm);
    l.score_shift = int(random.one_in(4) ? random.from(0, 31) : m.widths.query - 1);
    l.q = matrix(random, m.width, query, norm, 16, 0);
    l.k = matrix(random, m.width, kv, norm, 16, 0);
    l.v = matrix(random, m.width, kv, norm, 8, 0);
    l.o = matrix(random, query, m.width, attention, 20, 16 - attention);
    l.gate = matrix(random, m.width, m.inner, norm, 18, 0);
    l.up = matrix(random, m.width, m.inner, norm, 20, 0);
    l.down = matrix(random, m.inner, m.width, product, 20, 32 - product);
  }

  // Constants with which outputs of so many bits seldom saturate.
  Norm norm_to(Random &random, int bits) {
    const int root = (bit_length(view.width) + 1) / 2;
    return {random.from(1, 1 << 20), random.from(1 << 15, 65535), 60 - (bits + root) % 20};
  }

  // Results of about so many bits, as far as the least shift allows it.
  Matrix matrix(Random &random, int inputs, int outputs, int activation, int to, int least) {
    const int bits = int(random.from(2, 4)), mask = (1 << bits) - 1;
    auto codes = [&](size_t n) {
      std::vector<uint8_t> made(n);
      for (uint8_t &code : made) code = uint8_t(random.word() & mask);
      return made;
    };
    std::vector<int32_t> chosen;
    if (const int64_t every = random.from(0, 3)) // none, all, or some inputs have a second digit
      for (int i = 0; i < inputs; i++)
        if (random.one_in(int(every))) chosen.push_back(i);
    const int extras = int(chosen.size());
    const int extra_shift = extras ? int(random.from(0, 6)) : 0;
    const std::vector<uint8_t> main = codes(size_t(inputs) * outputs);
    const std::vector<uint8_t> extra = codes(size_t(extras) * outputs);
    const int typical = activation + 3 + extra_shift + bit_length(inputs) / 2 + 15 - to;
    std::vector<uint16_t> multiplier;
    std::vector<uint8_t> shift;
    for (int i = 0; i < outputs; i++) {
      multiplier.push_back(uint16_t(random.word()));
      shift.push_back(uint8_t(std::clamp<int64_t>(typical + random.from(-3, 3), least, 62)));
    }
    PackedMatrix made =
        pack_matrix(main.data(), inputs, outputs, bits, extra_shift, chosen.data(), extras,
                    extra.data(), multiplier.data(), shift.data(), activation);
    matrices.push_back(std::move(made));
    return matrices.back().view();
  }

  static int bit_length(int v) { return v ? 32 - __builtin_clz(unsigned(v)) : 0; }

  std::vector<uint32_t> rotary;
  std::vector<int8_t> embedding;
  std::vector<uint16_t> multipliers;
  std::vector<Layer> layers;
  std::vector<PackedMatrix> matrices;
};

struct Sequence { // its keys and values
  explicit Sequence(const Model &m) {
    view.channels = int(round_up(m.head_width, TILE));
    view.head_stride = round_up(m.context, TILE) * view.channels;
    const size_t bytes = size_t(m.layers) * m.kv_heads * view.head_stride;
    keys = Pages(bytes), values = Pages(bytes);
    view.keys = keys.data, view.values = reinterpret_cast<int8_t *>(values.data);
  }
  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> all(keys.data, keys.data + keys.size);
    all.insert(all.end(), values.data, values.data + values.size);
    return all;
  }

  Memory view{};
  Pages keys, values;
};

struct Token {
  int sequence, token, position;
};

// What passes over two sequences leave behind.
struct Passed {
  Sequence first, second;
  std::vector<int32_t> logits;

  explicit Passed(const Model &m) : first(m), second(m) {}

  void run(const Engine &engine, RandomModel &model, Pool &pool, const std::vector<Token> &tokens,
           const std::vector<int32_t> &wanted) {
    std::vector<Row> rows;
    for (const Token &t : tokens)
      rows.push_back({t.token, t.position, t.sequence ? &second.view : &first.view});
    const size_t before = logits.size();
    logits.resize(before + wanted.size() * model.view.vocabulary);
    Barrier barrier{0, 0, pool.threads()};
    const Pass pass = {&model.view,         &model.room->scratch,
                       rows.data(),         int(rows.size()),
                       wanted.data(),       int(wanted.size()),
                       &logits[before],     &barrier,
                       pool.threads()};
    pool.run([&](int thread) { engine.forward(pass, thread); });
  }
};

// Runs the same on an engine and on the portable one.
class Comparison {
public:
  Comparison(const Engine &engine, std::string spoiled)
      : engine(engine), spoiled(std::move(spoiled)) {}

  void check(uint64_t seed) {
    Random random(seed);
    RandomModel model(random);
    Passed want(model.view), got(model.view);
    check_passes(random, model, want, got);
    check_attention(random, model, want.first.view, got.first.view);
    check_matrices(random, model);
    for (int i = 0; i < 20; i++) check_vectors(random);
    check_sample(random);
  }

  uint64_t hash = 0xCBF29CE484222325u; // FNV-1a

private:
  template <class T>
  void same(const char *what, const std::vector<T> &want, std::vector<T> got) {
    if (what == spoiled) got[got.size() / 2] ^= 1;
    for (size_t i = 0; i < want.size(); i++) {
      if (want[i] != got[i])
        throw std::runtime_error(std::string(what) + " [" + std::to_string(i) + "] is " +
                                 std::to_string(got[i]) + ", not " + std::to_string(want[i]));
      hash = (hash ^ uint32_t(want[i])) * 0x100000001B3u;
    }
  }

  void check_passes(Random &random, RandomModel &model, Passed &want, Passed &got) {
    const int shares[][2] = {{100, 0}, {1, 0}, {3, 2}, {0, 1}, {5, 60}, {20, 4}};
    int lengths[2] = {0, 0};
    Pool pool(THREADS);
    for (const auto &share : shares) {
      std::vector<Token> tokens;
      std::vector<int32_t> wanted;
      for (int s = 0; s < 2; s++)
        for (int i = 0; i < share[s]; i++) {
          if (random.one_in(3)) wanted.push_back(int32_t(tokens.size()));
          tokens.push_back({s, int(random.from(0, model.view.vocabulary - 1)), lengths[s]++});
        }
      want.run(portable_engine, model, pool, tokens, wanted);
      got.run(engine, model, pool, tokens, wanted);
    }
    same("memory", want.first.bytes(), got.first.bytes());
    same("memory", want.second.bytes(), got.second.bytes());
    same("pass", want.logits, got.logits);
  }

  void check_attention(Random &random, RandomModel &model, const Memory &mine,
                       const Memory &theirs) {
    const Model &m = model.view;
    const size_t n = size_t(m.heads / m.kv_heads) * m.head_width;
    for (int i = 0; i < 40; i++) {
      const std::vector<int32_t> q = random.vector_of(m.widths.query, n);
      const int layer = int(random.from(0, m.layers - 1)), head = int(random.from(0, m.kv_heads - 1));
      const int position = int(random.from(0, 128));
      std::vector<int32_t> want(n), got(n);
      Scratch::Thread &own = model.room->scratch.thread[0];
      portable_engine.attend(m, mine, layer, head, q.data(), position, own, want.data());
      engine.attend(m, theirs, layer, head, q.data(), position, own, got.data());
      same("attend", want, got);
    }
  }

  void check_matrices(Random &random, RandomModel &model) {
    const Layer &l = model.view.layer[0];
    const Widths &w = model.view.widths;
    const struct {
      const Matrix &matrix;
      int activation, bits;
    } all[] = {{l.q, w.norm, 16},     {l.k, w.norm, 16},  {l.v, w.norm, 8},
               {l.o, w.attention, 32}, {l.gate, w.norm, 24}, {l.up, w.norm, 20},
               {l.down, w.product, 32}, {model.view.head, w.norm, 24}};
    for (const auto &[m, activation, bits] : all) {
      const int rows = int(random.from(1, 9));
      const int least = *std::min_element(m.shift, m.shift + m.outputs);
      std::vector<int32_t> lifts(rows), want(size_t(rows) * m.outputs), got(want);
      for (int32_t &lift : lifts) lift = int32_t(random.from(0, least));
      const std::vector<int32_t> x = random.vector_of(activation, size_t(rows) * m.inputs);
      portable_engine.linear(m, x.data(), rows, lifts.data(), bits, model.room->scratch, want.data());
      engine.linear(m, x.data(), rows, lifts.data(), bits, model.room->scratch, got.data());
      same("linear", want, got);
    }
  }

  void check_vectors(Random &random) {
    const int n = int(random.from(1, 100)), bits = int(random.from(4, 16));
    const std::vector<int32_t> x = random.vector_of(32, n);
    std::vector<int32_t> want(2 * n), got(2 * n);
    const Norm norm = random_norm(random);
    portable_engine.norm(x.data(), n, norm, bits, want.data());
    engine.norm(x.data(), n, norm, bits, got.data());
    same("norm", want, got);

    const int lift = portable_engine.shrink(x.data(), n, bits, want.data());
    got[n] = want[n] = 0;
    if (engine.shrink(x.data(), n, bits, got.data()) != lift) got[n] = 1;
    same("shrink", want, got);

    std::vector<uint32_t> rotary(n);
    for (uint32_t &fraction : rotary) fraction = uint32_t(random.word());
    const uint32_t position = uint32_t(random.from(0, (1 << 17) - 1));
    portable_engine.turn(position, rotary.data(), n, want.data());
    engine.turn(position, rotary.data(), n, got.data());
    same("turn", want, got);

    const std::vector<int32_t> pairs = random.vector_of(16, 2 * n), sines = got;
    portable_engine.rotate(pairs.data(), sines.data(), n, bits, want.data());
    engine.rotate(pairs.data(), sines.data(), n, bits, got.data());
    same("rotate", want, got);

    const std::vector<int32_t> gates = random.vector_of(24, n), ups = random.vector_of(20, n);
    portable_engine.gate(gates.data(), ups.data(), n, want.data());
    engine.gate(gates.data(), ups.data(), n, got.data());
    same("gate", want, got);
  }

  void check_sample(Random &random) {
    const int spread = int(random.from(1, 23));
    const std::vector<int32_t> logits = random.vector_of(spread + 1, size_t(random.from(1, 1000)));
    std::vector<int32_t> want, got;
    for (int i = 0; i < 20; i++) {
      const Sampling how = {uint32_t(random.from(0, (1 << 20) - 1) >> random.from(0, 19)),
                            uint32_t(random.from(1, 64)), uint32_t(random.from(1, 1 << 16)),
                            random.word()};
      want.push_back(portable_engine.sample(logits.data(), int64_t(logits.size()), how, i));
      got.push_back(engine.sample(logits.data(), int64_t(logits.size()), how, i));
    }
    same("sample", want, got);
  }

  const Engine &engine;
  const std::string spoiled;
};

// Attention over the longest context, all values and all weights alike: no sum may overflow.
void check_long_context(const Engine &engine) {
  constexpr int LONGEST = 1 << 17, HEAD = 2;
  Layer layer{};
  Model model{};
  model.heads = model.kv_heads = model.layers = 1;
  model.head_width = HEAD, model.context = LONGEST, model.widths.query = 12;
  model.layer = &layer;
  Sequence sequence(model);
  Scratch::Thread own{};
  std::vector<int32_t> scores(6 * LONGEST);
  std::vector<uint8_t> weights(3 * LONGEST);
  std::vector<int8_t> cut(6 * TILE);
  std::vector<int64_t> mixed(TILE);
  own.scores = scores.data(), own.weights = weights.data();
  own.query = cut.data(), own.mixed = mixed.data();
  for (const int value : {-128, 127}) {
    memset(sequence.values.data, value, sequence.values.size);
    const int32_t q[HEAD] = {};
    int32_t y[HEAD];
    engine.attend(model, sequence.view, 0, 0, q, LONGEST - 1, own, y);
    for (const int32_t mean : y)
      if (abs(mean - 256 * value) > 2)
        throw std::runtime_error("mean of " + std::to_string(value) + " over all positions is " +
                                 std::to_string(mean) + " / 256");
  }
}

} // namespace

int main(int count, char **arguments) {
  const int models = count > 1 ? atoi(arguments[1]) : 20;
  int different = 0;
  for (const Engine *engine : engines()) {
    Comparison comparison(*engine, count > 2 ? arguments[2] : "");
    int seed = 0;
    try {
      for (; seed < models; seed++) comparison.check(uint64_t(seed));
      check_long_context(*engine);
      printf("%s: %d models equal, hash %016llx\n", engine->name, models,
             static_cast<unsigned long long>(comparison.hash));
    } catch (const std::runtime_error &error) {
      printf("%s: model %d: %s\n", engine->name, seed, error.what());
      different = 1;
    }
  }
  return different;
}
