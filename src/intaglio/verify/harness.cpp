// Runs the Verilated `chip`: commands on stdin, replies on stdout, both fixed records in the
// machine's byte order (intaglio.verify.simulation is the other side). Simulated time passes only
// inside a RUN or SETTLE command, so that a run does not depend on when its commands arrive.
//
//   +rom=DIR          ROM images (read by the chip)
//   +expect=FILE      compare every probe with this trace (intaglio.verify.trace), stop at the first
//                     difference
//   +deadline=N       stop after N cycles without a command, result or logits being transferred
//   +stall=SEED       delay commands and refuse results at random
//   +waves=FILE.fst   waves of the cycles +waves_from=N to +waves_to=N (a build with tracing only)

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <svdpi.h>
#include <verilated.h>
#if VM_TRACE_FST
#include <verilated_fst_c.h>
#endif

#include "Vchip.h"
#include "chip_layout.h"

namespace {

constexpr uint64_t RESET_CYCLES = 4;

[[noreturn]] void fail(const std::string& message) {
    std::fprintf(stderr, "%s\n", message.c_str());
    std::exit(1);
}

// ---- the protocol ---------------------------------------------------------------------------

enum CommandKind : uint8_t { TOKEN, SETTINGS, RUN, SETTLE, COUNTS, QUIT, WRITE };
enum ReplyKind : uint8_t { ACCEPTED, RESULT, LOGITS, STOPPED, DIFFERENCE, TOTALS };
enum Reason : uint8_t { ENOUGH, SETTLED, LATE, DIFFERENT, FINISHED };
enum Fault : uint8_t { VALUE, UNEXPECTED, MISSING };

struct Command {
    uint8_t kind, slot, epoch, flags;  // flags: last | adapted << 1, or host | stop_enable << 1
    uint32_t position;                 // or limit
    uint32_t token;                    // or stop
    uint32_t beta, top_k, top_p;       // beta: or a token's adapter
    uint64_t seed;
    uint64_t amount;  // results to run for, or words of a write that follow
};
static_assert(sizeof(Command) == 40);

struct Reply {
    uint8_t kind, slot, epoch, flags;  // flags: a result's final, a Reason, a Fault
    uint32_t position;
    int32_t token, layer, op, element, expected, got;
    uint64_t cycle;
    uint64_t extra;  // nanoseconds of simulation, or the number of words that follow
};
static_assert(sizeof(Reply) == 48);

struct Seen {  // of one operation of one stage
    uint64_t total;                         // elements compared so far
    uint32_t next, slot, position, unused;  // the next element, and of which position
};
static_assert(sizeof(Seen) == 24);

class Pipe {
public:
    Pipe() : _out(dup(STDOUT_FILENO)) {
        // what the chip prints must not mix with replies
        if (_out < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) fail("cannot open the reply pipe");
    }

    bool read(void* into, size_t size) {
        auto* bytes = static_cast<char*>(into);
        while (size) {
            if (_begin == _end) {
                const ssize_t got = ::read(STDIN_FILENO, _input.data(), _input.size());
                if (got <= 0) return false;
                _begin = 0;
                _end = static_cast<size_t>(got);
            }
            const size_t part = std::min(size, _end - _begin);
            std::memcpy(bytes, _input.data() + _begin, part);
            bytes += part, size -= part, _begin += part;
        }
        return true;
    }

    void write(const void* from, size_t size) {
        const auto* bytes = static_cast<const char*>(from);
        _output.insert(_output.end(), bytes, bytes + size);
        if (_output.size() > 1 << 16) flush();
    }

    void flush() {
        size_t done = 0;
        while (done < _output.size()) {
            const ssize_t put = ::write(_out, _output.data() + done, _output.size() - done);
            if (put <= 0) std::exit(1);  // nobody listens any more
            done += static_cast<size_t>(put);
        }
        _output.clear();
    }

private:
    int _out;
    std::array<char, 1 << 16> _input;
    size_t _begin = 0, _end = 0;
    std::vector<char> _output;
};

// ---- fields of packed words -----------------------------------------------------------------

using layout::Field;

template <typename Port>
struct Words {
    static constexpr size_t SIZE = (sizeof(Port) + 3) / 4;
    std::array<uint32_t, SIZE + 1> words{};  // one more, so that a 64-bit window never ends outside

    Words() = default;
    explicit Words(const Port& port) { std::memcpy(words.data(), &port, sizeof port); }
    void to(Port& port) const { std::memcpy(&port, words.data(), sizeof port); }

    uint64_t get(Field field) const {
        uint64_t value = 0;
        for (unsigned done = 0; done < field.width;) {
            const unsigned bit = field.offset + done, shift = bit % 32;
            const unsigned part = std::min(32 - shift, field.width - done);
            const uint64_t bits = words[bit / 32] >> shift & ((uint64_t{1} << part) - 1);
            value |= bits << done;
            done += part;
        }
        return value;
    }

    void set(Field field, uint64_t value) {
        for (unsigned done = 0; done < field.width;) {
            const unsigned bit = field.offset + done, shift = bit % 32;
            const unsigned part = std::min(32 - shift, field.width - done);
            const auto mask = static_cast<uint32_t>(((uint64_t{1} << part) - 1) << shift);
            words[bit / 32] = (words[bit / 32] & ~mask) |
                              (static_cast<uint32_t>(value >> done << shift) & mask);
            done += part;
        }
    }
};

int32_t element(const uint32_t* words, unsigned index, unsigned bits) {
    const unsigned bit = index * bits, word = bit / 32, shift = bit % 32;
    uint64_t window = words[word];
    if (shift + bits > 32) window |= static_cast<uint64_t>(words[word + 1]) << 32;
    return static_cast<int32_t>(static_cast<uint32_t>(window >> shift) << (32 - bits)) >>
           (32 - bits);
}

// Whether `count` elements are those expected. `bits` is a constant where this is called often.
inline bool equal(const uint32_t* words, unsigned count, unsigned bits, const int32_t* expected) {
    uint64_t different = 0;
    unsigned i = 0;
    // a 64-bit window from an element's first byte, as long as it ends within the words
    for (; i * bits / 8 + 8 <= (count * bits + 31) / 32 * 4 && i < count; ++i) {
        uint64_t window;
        std::memcpy(&window, reinterpret_cast<const char*>(words) + i * bits / 8, sizeof window);
        const auto low = static_cast<uint32_t>(window >> i * bits % 8);
        different |= (low ^ static_cast<uint32_t>(expected[i])) << (32 - bits);
        different |= static_cast<uint32_t>((expected[i] >> 31) ^ (expected[i] >> (bits - 1)));
    }
    for (; i < count; ++i) different |= element(words, i, bits) ^ expected[i];
    return !different;
}

bool equal_beat(const uint32_t* words, unsigned count, unsigned bits, const int32_t* expected) {
    switch (bits) {
        case 8: return equal(words, count, 8, expected);
        case 10: return equal(words, count, 10, expected);
        case 12: return equal(words, count, 12, expected);
        case 16: return equal(words, count, 16, expected);
        case 20: return equal(words, count, 20, expected);
        case 24: return equal(words, count, 24, expected);
        case 32: return !std::memcmp(words, expected, count * sizeof *expected);
        default: return equal(words, count, bits, expected);
    }
}

// ---- the expected trace ---------------------------------------------------------------------

struct TraceHead {
    char magic[8];
    uint32_t format, layers, slots, positions, ops, record, finished, table, available, heads, rows;
    uint32_t unused;
};
static_assert(sizeof(TraceHead) == 56);

struct Place {
    uint32_t offset, count;
};

struct Progress {  // of one operation of one stage
    Place place{};
    uint32_t next = 0;  // element within the position it works on
    uint32_t slot = 0, position = 0;
    uint64_t total = 0;  // elements so far
    const int32_t* expected = nullptr;
};

class Expectation {
public:
    explicit Expectation(const std::string& path) {
        const int file = open(path.c_str(), O_RDONLY);
        struct stat status {};
        if (file < 0 || fstat(file, &status)) fail(path + ": cannot open the expected trace");
        _size = static_cast<size_t>(status.st_size);
        void* memory = mmap(nullptr, _size, PROT_READ, MAP_SHARED, file, 0);
        close(file);
        if (memory == MAP_FAILED) fail(path + ": cannot map the expected trace");
        _base = static_cast<const char*>(memory);
        _head = reinterpret_cast<const TraceHead*>(_base);
        if (_size < sizeof(TraceHead) || std::memcmp(_head->magic, "INTAGLIO", 8) ||
            _head->format != 1)
            fail(path + ": not an expected trace");
        const auto* table = reinterpret_cast<const Place*>(_base + _head->table);
        _progress.resize(size_t{_head->layers + 2} * _head->ops);
        for (size_t i = 0; i < _progress.size(); ++i) _progress[i].place = table[i];
        _available = reinterpret_cast<const uint32_t*>(_base + _head->available);
        _heads = reinterpret_cast<const uint8_t*>(_base + _head->heads);
        _rows = reinterpret_cast<const int32_t*>(_base + _head->rows);
    }

    bool differs() const { return _different; }
    const Reply& difference() const { return _difference; }
    std::chrono::nanoseconds waited() const { return _waited; }
    const std::vector<Progress>& progress() const { return _progress; }
    uint32_t ops() const { return _head->ops; }
    uint32_t final_stage() const { return _head->layers + 1; }

    // One beat: `count` elements of `bits` bits, the first one lowest.
    void beat(uint32_t stage, uint32_t op, uint32_t count, uint32_t bits, uint32_t slot,
              uint32_t position, const uint32_t* words) {
        if (stage >= _head->layers + 2 || op >= _head->ops)
            return report(UNEXPECTED, stage, op, slot, position, 0, 0, element(words, 0, bits));
        Progress& progress = _progress[size_t{stage} * _head->ops + op];
        if (!enter(progress, stage, op, slot, position, element(words, 0, bits))) return;
        count = std::min(count, progress.place.count - progress.next);
        const int32_t* expected = progress.expected + progress.next;
        if (!equal_beat(words, count, bits, expected)) {
            uint32_t i = 0;
            while (element(words, i, bits) == expected[i]) ++i;
            return report(VALUE, stage, op, slot, position, progress.next + i, expected[i],
                          element(words, i, bits));
        }
        progress.total += count;
        progress.next += count;
        if (progress.next == progress.place.count) progress.next = 0;
    }

private:
    // Whether the beat belongs to the position its operation works on, and a trace of it exists.
    bool enter(Progress& progress, uint32_t stage, uint32_t op, uint32_t slot, uint32_t position,
               int32_t got) {
        if (progress.next) {
            if (progress.slot == slot && progress.position == position) return true;
            report(MISSING, stage, op, progress.slot, progress.position, progress.next,
                   progress.expected[progress.next], got);
            return false;
        }
        progress.expected = find(progress.place, stage, slot, position);
        progress.slot = slot;
        progress.position = position;
        if (!progress.expected) report(UNEXPECTED, stage, op, slot, position, 0, 0, got);
        return progress.expected != nullptr;
    }

    const int32_t* find(Place place, uint32_t stage, uint32_t slot, uint32_t position) {
        if (!place.count || slot >= _head->slots || position >= _head->positions) return nullptr;
        if (!ready(slot, position)) return nullptr;
        const size_t row = size_t{slot} * _head->positions + position;
        if (stage == final_stage() && !_heads[row]) return nullptr;
        return _rows + row * _head->record + place.offset;
    }

    // Whether the position is in the trace; waits for the one who writes it.
    bool ready(uint32_t slot, uint32_t position) {
        const auto written = [&] {
            return __atomic_load_n(_available + slot, __ATOMIC_ACQUIRE) > position;
        };
        if (written()) return true;
        const auto start = std::chrono::steady_clock::now();
        while (!written() && !__atomic_load_n(&_head->finished, __ATOMIC_ACQUIRE)) {
            if (getppid() != _parent) std::exit(1);
            usleep(100);
        }
        _waited += std::chrono::steady_clock::now() - start;
        return written();
    }

    void report(Fault fault, uint32_t stage, uint32_t op, uint32_t slot, uint32_t position,
                uint32_t element, int32_t expected, int32_t got) {
        // of several differences at one clock edge, the one that comes first in the chain
        const auto layer = static_cast<int32_t>(stage) - 1;
        if (_different && (_difference.layer < layer ||
                           (_difference.layer == layer && _difference.op <= static_cast<int>(op))))
            return;
        _different = true;
        _difference = Reply{};
        _difference.kind = DIFFERENCE;
        _difference.slot = static_cast<uint8_t>(slot);
        _difference.flags = fault;
        _difference.position = position;
        _difference.layer = layer;
        _difference.op = static_cast<int32_t>(op);
        _difference.element = static_cast<int32_t>(element);
        _difference.expected = expected;
        _difference.got = got;
    }

    const char* _base = nullptr;
    size_t _size = 0;
    const TraceHead* _head = nullptr;
    const uint32_t* _available = nullptr;
    const uint8_t* _heads = nullptr;
    const int32_t* _rows = nullptr;
    const pid_t _parent = getppid();
    std::vector<Progress> _progress;
    bool _different = false;
    Reply _difference{};
    std::chrono::nanoseconds _waited{0};
};

std::unique_ptr<Expectation> expectation;
bool probing = false;  // off without an expected trace, and during reset

// ---- the chip -------------------------------------------------------------------------------

class Stall {  // a random number of quiet cycles before each transfer, sometimes many
public:
    Stall(uint64_t seed, uint64_t stream)
        : _state(seed ? (seed * 4 + stream) * 0x9E3779B97F4A7C15 | 1 : 0) {}

    bool operator()() {
        if (!_state) return false;
        if (_quiet) return --_quiet, true;
        _state ^= _state << 13, _state ^= _state >> 7, _state ^= _state << 17;
        const uint64_t draw = _state >> 32;
        _quiet = draw % 64 ? draw % 4 : 200 + draw / 64 % 200;
        return _quiet;
    }

private:
    uint64_t _state;
    uint64_t _quiet = 0;
};

class Options {
public:
    Options(VerilatedContext& context) : _context(context) {}

    std::string text(const char* name) const {
        const std::string match = _context.commandArgsPlusMatch((std::string(name) + "=").c_str());
        return match.empty() ? "" : match.substr(match.find('=') + 1);
    }

    uint64_t number(const char* name, uint64_t otherwise) const {
        const std::string value = text(name);
        return value.empty() ? otherwise : std::strtoull(value.c_str(), nullptr, 10);
    }

private:
    VerilatedContext& _context;
};

#if VM_TRACE_FST
class Waves {
public:
    Waves(const Options& options, Vchip& chip)
        : _from(options.number("waves_from", 0)), _to(options.number("waves_to", ~uint64_t{0})) {
        const std::string path = options.text("waves");
        if (path.empty()) return;
        Verilated::traceEverOn(true);
        _file = std::make_unique<VerilatedFstC>();
        chip.trace(_file.get(), 99);
        _file->open(path.c_str());
        if (!_file->isOpen()) fail(path + ": cannot write waves");
    }
    ~Waves() {
        if (_file) _file->close();
    }
    void show(uint64_t cycle, unsigned half) {
        if (_file && cycle >= _from && cycle < _to) _file->dump(2 * cycle + half);
    }

private:
    uint64_t _from, _to;
    std::unique_ptr<VerilatedFstC> _file;
};
#else
class Waves {
public:
    Waves(const Options& options, Vchip&) {
        if (!options.text("waves").empty()) fail("waves need a simulation built with tracing");
    }
    void show(uint64_t, unsigned) {}
};
#endif

template <typename Payload>
struct Port {
    Payload& payload;
    CData &valid, &ready;
};
// Verilator writes the two underscores of Amaranth's port names like this
#define PAYLOAD(name) std::remove_reference_t<decltype(Vchip::name##___05Fpayload)>
#define PORT(name) \
    { _chip->name##___05Fpayload, _chip->name##___05Fvalid, _chip->name##___05Fready }
using CommandPayload = PAYLOAD(command);
using ResultPayload = PAYLOAD(result);
using LogitsPayload = PAYLOAD(logits);

class Harness {
public:
    Harness(VerilatedContext& context, const Options& options)
        : _context(context),
          _chip(std::make_unique<Vchip>(&context, "chip")),
          _waves(options, *_chip),
          _deadline(options.number("deadline", 10'000'000)),
          _delay(options.number("stall", 0), 1),
          _refuse_result(options.number("stall", 0), 2),
          _refuse_logits(options.number("stall", 0), 3) {
        _chip->rst = 1;
        for (uint64_t i = 0; i < RESET_CYCLES; ++i) edge(0), edge(1);
        _chip->rst = 0;
        probing = expectation != nullptr;
    }

    ~Harness() { _chip->final(); }

    void serve() {
        Command command;
        while (_pipe.read(&command, sizeof command)) {
            switch (command.kind) {
                case TOKEN:
                case SETTINGS: _queue.push_back(command); break;
                case WRITE:
                    _writes.emplace_back(command.amount);
                    if (!_pipe.read(_writes.back().data(), 4 * command.amount)) return;
                    _queue.push_back(command);
                    break;
                case RUN: run(command.amount, false); break;
                case SETTLE: run(~uint64_t{0}, true); break;
                case COUNTS: totals(); break;
                default: return;
            }
        }
    }

private:
    void edge(unsigned level) {
        _chip->clk = level;
        _chip->eval();
        _waves.show(_cycle, level);
    }

    void run(uint64_t results, bool settle) {
        const auto waited = expectation ? expectation->waited() : std::chrono::nanoseconds{0};
        const auto start = std::chrono::steady_clock::now();
        _wanted = results;
        _moved = _cycle;
        Reason reason = ENOUGH;
        while (_wanted) {
            step();
            if (expectation && expectation->differs()) {
                reason = DIFFERENT;
            } else if (_cycle - _moved > _deadline) {
                reason = LATE;
            } else if (_context.gotFinish()) {
                reason = FINISHED;
            } else if (settle && _still) {
                reason = SETTLED;
            } else {
                continue;
            }
            break;
        }
        _spent += std::chrono::steady_clock::now() - start;
        if (expectation) _spent -= expectation->waited() - waited;
        if (reason == DIFFERENT) reply(expectation->difference());
        Reply end{};
        end.kind = STOPPED;
        end.flags = reason;
        end.extra = static_cast<uint64_t>(_spent.count());
        reply(end);
        _pipe.flush();
    }

    // One cycle: inputs, falling edge, what is transferred, rising edge.
    void step() {
        if (!_command.valid && !_queue.empty() && !_delay()) {
            pack(_queue.front()).to(_command.payload);
            _command.valid = 1;
        }
        _result.ready = !_refuse_result();
        _logits.ready = !_refuse_logits();
        edge(0);
        const bool sent = _command.valid && _command.ready;
        if (sent) accepted();
        if (_result.valid && _result.ready) result();
        if (_logits.valid && _logits.ready) logits();
        _still = _queue.empty() && !sent && !_chip->busy && !_result.valid &&
                 !_logits.valid;
        edge(1);
        if (sent) _command.valid = 0;
        ++_cycle;
    }

    Words<CommandPayload> pack(const Command& command) const {
        Words<CommandPayload> words;
        if (command.kind == WRITE) {  // as the port's word is
            const auto& write = _writes.front();
            std::copy_n(write.begin(), std::min(write.size(), words.SIZE), words.words.begin());
            return words;
        }
        words.set(layout::command_kind, command.kind == SETTINGS);
        words.set(layout::command_slot, command.slot);
        words.set(layout::command_epoch, command.epoch);
        if (command.kind == TOKEN) {
            words.set(layout::command_position, command.position);
            words.set(layout::command_token, command.token);
            words.set(layout::command_last, command.flags & 1);
            words.set(layout::command_adapted, command.flags >> 1 & 1);
            words.set(layout::command_adapter, command.beta);
            return words;
        }
        words.set(layout::command_beta, command.beta);
        words.set(layout::command_top_k, command.top_k);
        words.set(layout::command_top_p, command.top_p);
        words.set(layout::command_seed, command.seed);
        words.set(layout::command_host, command.flags & 1);
        words.set(layout::command_limit, command.position);
        words.set(layout::command_stop, command.token);
        words.set(layout::command_stop_enable, command.flags >> 1 & 1);
        return words;
    }

    void accepted() {
        const Command& command = _queue.front();
        _moved = _cycle;
        if (command.kind == TOKEN) {
            Reply note{};
            note.kind = ACCEPTED;
            note.slot = command.slot;
            note.epoch = command.epoch;
            note.position = command.position;
            note.token = static_cast<int32_t>(command.token);
            reply(note);
        }
        if (command.kind == WRITE) _writes.pop_front();
        _queue.pop_front();
    }

    void result() {
        const Words<ResultPayload> words(_result.payload);
        Reply note{};
        note.kind = RESULT;
        note.slot = static_cast<uint8_t>(words.get(layout::result_slot));
        note.epoch = static_cast<uint8_t>(words.get(layout::result_epoch));
        note.flags = static_cast<uint8_t>(words.get(layout::result_final));
        note.position = static_cast<uint32_t>(words.get(layout::result_position));
        note.token = static_cast<int32_t>(words.get(layout::result_token));
        // the token is the last operation of the position before its own
        const auto token = static_cast<uint32_t>(note.token);
        if (expectation)
            expectation->beat(expectation->final_stage(), expectation->ops() - 1, 1, 32, note.slot,
                              note.position - 1, &token);
        deliver(note);
    }

    void logits() {
        const Words<LogitsPayload> words(_logits.payload);
        static_assert(layout::logits_data.offset + layout::logits_data.width <=
                      32 * Words<LogitsPayload>::SIZE);
        for (unsigned i = 0; i < layout::BEAT && _row.size() < layout::VOCABULARY; ++i) {
            const unsigned bits = layout::LOGIT_BITS;
            const Field field{layout::logits_data.offset + i * bits, bits};
            const auto value = static_cast<uint32_t>(words.get(field));
            _row.push_back(element(&value, 0, bits));
        }
        _moved = _cycle;
        if (_row.size() < layout::VOCABULARY) return;
        Reply note{};
        note.kind = LOGITS;
        note.slot = static_cast<uint8_t>(words.get(layout::logits_header_slot));
        note.epoch = static_cast<uint8_t>(words.get(layout::logits_header_epoch));
        note.position = static_cast<uint32_t>(words.get(layout::logits_header_position));
        note.extra = _row.size();
        note.cycle = _cycle;
        _pipe.write(&note, sizeof note);
        _pipe.write(_row.data(), _row.size() * sizeof(int32_t));
        _pipe.flush();
        _row.clear();
        --_wanted;
    }

    void deliver(Reply& note) {
        reply(note);
        _pipe.flush();
        _moved = _cycle;
        --_wanted;
    }

    void totals() {
        std::vector<Seen> seen;
        if (expectation)
            for (const Progress& at : expectation->progress())
                seen.push_back({at.total, at.next, at.slot, at.position, 0});
        Reply note{};
        note.kind = TOTALS;
        note.extra = seen.size();
        reply(note);
        _pipe.write(seen.data(), seen.size() * sizeof(Seen));
        _pipe.flush();
    }

    void reply(Reply note) {
        note.cycle = _cycle;
        _pipe.write(&note, sizeof note);
    }

    VerilatedContext& _context;
    std::unique_ptr<Vchip> _chip;
    Port<CommandPayload> _command PORT(command);
    Port<ResultPayload> _result PORT(result);
    Port<LogitsPayload> _logits PORT(logits);
    Waves _waves;
    Pipe _pipe;
    std::deque<Command> _queue;
    std::deque<std::vector<uint32_t>> _writes;  // of those in the queue
    std::vector<int32_t> _row;  // logits so far
    uint64_t _cycle = 0, _moved = 0, _wanted = 0;
    const uint64_t _deadline;
    bool _still = false;
    Stall _delay, _refuse_result, _refuse_logits;
    std::chrono::nanoseconds _spent{0};
};

}  // namespace

extern "C" void intaglio_probe(int op, int count, int bits, unsigned short layer,
                               unsigned char slot, unsigned int position, const svBitVecVal* data) {
    if (!probing) return;
    const auto stage = static_cast<uint16_t>(layer + 1);  // the embedding's 0xFFFF becomes 0
    expectation->beat(stage, static_cast<uint32_t>(op), static_cast<uint32_t>(count),
                      static_cast<uint32_t>(bits), slot, position, data);
}

extern "C" void intaglio_probe_wide(int op, int count, int bits, unsigned short layer,
                                    unsigned char slot, unsigned int position,
                                    const svBitVecVal* data) {
    intaglio_probe(op, count, bits, layer, slot, position, data);
}

int main(int argc, char** argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    const Options options(context);
    const std::string expected = options.text("expect");
    if (!expected.empty()) expectation = std::make_unique<Expectation>(expected);
    Harness harness(context, options);
    harness.serve();
    return 0;
}
