"""Attention of one position, beside the memory of keys and values that it reads."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import (
    ATTENTION,
    ATTENTION_FRACTION,
    CONTEXT_LIMIT,
    KEY,
    SCORE,
    VALUE,
    WEIGHT_BITS,
    Int,
)
from intaglio.hardware.exponential import Exponential
from intaglio.hardware.port import POSITION_BITS, SLOT_BITS
from intaglio.hardware.reciprocal import DIVISOR_BITS, QUOTIENT_BITS, Reciprocal
from intaglio.hardware.rounding import doubled, halved, named, saturated

GROUP = 8  # products that one register's adder tree takes
QUERY_BITS = 16  # of a raised query in its memory
WORD = 32  # bits of a partial sum: simulators are fastest on whole machine words
OFFSET = 1 << KEY.bits - 1  # what keys and values are raised by, to be unsigned
SCORE_SHIFT_BITS = 5
MEAN_SHIFT = 31 - ATTENTION_FRACTION - DIVISOR_BITS  # golden's shift, less the total's length
MEAN_BITS = ATTENTION.bits + 4  # of twice the mean, before saturation

# Cycles after the one in which a word is addressed, until what it gives is in its last register.
SCORED = 5  # key words, groups, dot products, halves of scores, scores, buffer and maximum
WEIGHED = 5  # score, distance, the exponential's three, accumulators
OUTPUT = 5  # choice, offset, product, shift, rounding


def added(values: list[Value], bits: int = WORD) -> Value:
    """The sum of ``values`` by a balanced tree, modulo ``2**bits``."""
    if len(values) == 1:
        return values[0]
    middle = len(values) // 2
    return (added(values[:middle], bits) + added(values[middle:], bits))[:bits]


def extended(value: Value, bits: int) -> Value:
    """``value`` and as many zeros as make ``bits``."""
    return Cat(value, Const(0, bits - len(value)))


def register(name: str, bits: int) -> Signal:
    """A register without reset, of a whole machine word that holds ``bits``."""
    return Signal(next(size for size in (16, 32, 64) if size >= bits), name=name, reset_less=True)


class Attention(wiring.Component):
    """Softmax attention of all heads for one position.

    Computes :func:`intaglio.golden.forward.attend`. Takes ``heads * head_width / beat`` beats of
    rotated query, then ``kv_heads * head_width / beat`` of rotated key, then as many of value, and
    gives as many beats as of query, in head order. Keys and values stay in memory by (slot,
    position); those of earlier positions must have been sent before. The next position is taken
    when the last beat has left.

    ``positions`` consecutive positions are read per cycle, all heads at once, in two passes:
    scores, which are kept, and their maximum; then weights and the sums weighted by them. A
    reciprocal per head and ``beat`` multipliers make means of the sums. ``gap(position)`` cycles
    from the last beat in to the first out.

    Queries, keys and values are raised by half their range before they meet, so that every
    multiplier is unsigned; the sums are corrected by what that adds.

    Members
    -------
    i : stream of ``beat`` elements of max(query.bits, 8) bits
    slot, position, score_shift : ``In(8)``, ``In(20)``, ``In(5)``, steady from the first beat in
        to the last out
    o : stream of ``beat`` elements of 16 bits, 8 fraction bits
    busy : ``Out(1)``, from the first beat in to the last out
    """

    def __init__(
        self,
        *,
        heads: int,
        kv_heads: int,
        head_width: int,
        context: int,
        slots: int,
        beat: int,
        positions: int,
        query: Int,
    ) -> None:
        if heads % kv_heads:
            raise ValueError(f"heads must be a multiple of kv_heads, not {heads} and {kv_heads}")
        if head_width % beat:
            raise ValueError(f"head_width must be a multiple of the beat {beat}, not {head_width}")
        if positions < 1 or positions & positions - 1:
            raise ValueError(f"positions must be a power of two, not {positions}")
        if not 1 <= context <= CONTEXT_LIMIT:
            raise ValueError(f"context must be from 1 to {CONTEXT_LIMIT}, not {context}")
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, head_width
        self.context, self.slots, self.beat, self.positions = context, slots, beat, positions
        self.query = query
        self.dot_bits = (head_width << query.bits - 1 + KEY.bits - 1).bit_length() + 1
        if self.dot_bits > WORD:
            raise ValueError(
                f"dot products of {head_width} elements must fit {WORD} bits, not {self.dot_bits}"
            )
        self.chunks = head_width // beat  # beats per head
        self.words = -(-context // positions)  # words per slot and bank
        self.total_bits = (context * ((1 << WEIGHT_BITS) - 1)).bit_length()
        self.sum_bits = self.total_bits + VALUE.bits
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(signed(max(query.bits, 8)), beat))),
                "slot": In(SLOT_BITS),
                "position": In(POSITION_BITS),
                "score_shift": In(SCORE_SHIFT_BITS),
                "o": Out(stream.Signature(data.ArrayLayout(signed(ATTENTION.bits), beat))),
                "busy": Out(1),
            }
        )

    def gap(self, position: int) -> int:
        """Cycles from the last beat of value in to the first beat out."""
        words = position // self.positions + 1
        return 2 * words + SCORED + WEIGHED + Reciprocal.gap + OUTPUT

    def elaborate(self, platform) -> Module:
        m = Module()
        self._control(m)
        self._take(m)
        keys, values = self._memories(m)
        scores = self._score(m, keys)
        weights = self._weigh(m, scores)
        sums, totals = self._accumulate(m, weights, values)
        self._divide(m, totals)
        self._give(m, sums, totals)
        return m

    def _control(self, m: Module) -> None:
        """Where the work stands: words addressed, and what the pipelines hold of them."""
        lane_bits = self.positions.bit_length() - 1
        depth = self.slots * self.words
        self.finished, self.taking = Signal(), Signal(init=1)
        ended = self._count(m)
        self.base, self.final, self.address = (
            Signal(range(depth), name=name) for name in ("base", "final", "address")
        )
        self.step, last_step = Signal(range(self.words)), Signal(range(self.words))
        self.lane = Signal(range(self.positions)) if lane_bits else Const(0, 1)

        # one bit per stage that the words of a pass have reached, and the last word's among them
        self.scoring, self.scored = Signal(SCORED + 1), Signal(SCORED + 1)
        self.weighing, self.weighed = Signal(WEIGHED + 1), Signal(WEIGHED + 1)
        score_on, weigh_on = Signal(), Signal()
        m.d.sync += [
            score_on.eq((score_on & ~self.scored[0]) | ended),
            weigh_on.eq((weigh_on & ~self.weighed[0]) | self.scored[SCORED]),
            self.taking.eq((self.taking & ~ended) | self.finished),
            self.busy.eq((self.busy & ~self.finished) | self.accept),
        ]
        m.d.comb += [
            last_step.eq(self.position >> lane_bits),
            self.scoring[0].eq(score_on),
            self.scored[0].eq(score_on & (self.address == self.final)),
            self.weighing[0].eq(weigh_on),
            self.weighed[0].eq(weigh_on & (self.step == last_step)),
        ]
        if lane_bits:
            m.d.comb += self.lane.eq(self.position[:lane_bits])
        for flags in (self.scoring, self.scored, self.weighing, self.weighed):
            later = Signal(len(flags) - 1, name=f"later_{flags.name}")
            m.d.comb += flags[1:].eq(later)
            m.d.sync += later.eq(flags[:-1])

        self._address(m, last_step)

    def _address(self, m: Module, last_step: Signal) -> None:
        """The rows of keys, then of values, and the words of scores that the passes are at."""
        start = self.taking | self.scored[SCORED]
        m.d.sync += [self.base.eq(self.slot * self.words), self.final.eq(self.base + last_step)]
        with m.If(start):
            m.d.sync += [self.address.eq(self.base), self.step.eq(0)]
        with m.Else():
            m.d.sync += [
                self.address.eq(self.address + (self.scoring[0] | self.weighing[WEIGHED - 1])),
                self.step.eq(self.step + (self.scoring[SCORED] | self.weighing[0])),
            ]

    def _count(self, m: Module) -> Value:
        """Count the beats as they are accepted; return that the last one is."""
        rows = self.heads + 2 * self.kv_heads
        self.accept, self.held = Signal(), Signal()
        self.row, self.chunk = Signal(range(rows)), Signal(range(self.chunks))
        row, chunk, wrap = Signal(range(rows)), Signal(range(self.chunks)), Signal()
        ended = self.accept & wrap & (row == rows - 1)
        m.d.comb += [
            self.i.ready.eq(self.taking),
            self.accept.eq(self.i.valid & self.taking),
            wrap.eq(chunk == self.chunks - 1),
        ]
        m.d.sync += self.held.eq(self.accept)
        with m.If(self.accept):
            m.d.sync += [
                self.row.eq(row),
                self.chunk.eq(chunk),
                chunk.eq(Mux(wrap, 0, chunk + 1)),
                row.eq(Mux(ended, 0, row + wrap)),
            ]
        return ended

    def _take(self, m: Module) -> None:
        """Beats come into a register: keys and values as a row to write, queries on their way."""
        half = 1 << self.query.bits - 1
        raised = Signal(self.beat * QUERY_BITS, reset_less=True)
        self.word = Signal(self.head_width * KEY.bits, reset_less=True)
        lanes = [self.i.payload[lane].as_unsigned() for lane in range(self.beat)]
        taken = [lane[: KEY.bits] ^ Const(OFFSET, KEY.bits) for lane in lanes]
        queries = [lane[: self.query.bits] ^ Const(half, self.query.bits) for lane in lanes]
        with m.If(self.accept):
            m.d.sync += [
                self.word.eq(Cat(self.word[self.beat * KEY.bits :], *taken)),
                raised.eq(Cat(extended(query, QUERY_BITS) for query in queries)),
            ]
        is_query = Signal()
        m.d.comb += is_query.eq(self.held & (self.row < self.heads))
        self._keep_queries(m, raised, is_query)
        self._sum_queries(m, raised, is_query)

    def _keep_queries(self, m: Module, raised: Signal, is_query: Signal) -> None:
        """A word per beat, all of them read at once."""
        depth = self.heads * self.chunks
        m.submodules.queries = memory = Memory(shape=len(raised), depth=depth, init=[])
        port, count = memory.write_port(), Signal(range(depth))
        m.d.comb += [port.addr.eq(count), port.data.eq(raised), port.en.eq(is_query)]
        with m.If(is_query):
            m.d.sync += count.eq(Mux(count == depth - 1, 0, count + 1))
        words = []
        for address in range(depth):
            word = memory.read_port(domain="comb")
            m.d.comb += word.addr.eq(address)
            words += [word.data.word_select(lane, QUERY_BITS) for lane in range(self.beat)]
        width = self.head_width
        self.queries = [words[head * width : (head + 1) * width] for head in range(self.heads)]

    def _sum_queries(self, m: Module, raised: Signal, is_query: Signal) -> None:
        """The sum of each head's raised query."""
        bits = (self.head_width << self.query.bits).bit_length()
        m.submodules.query_sums = memory = Memory(shape=bits, depth=self.heads, init=[])
        port, total = memory.write_port(), register("query_sum", WORD)
        lanes = [raised.word_select(lane, QUERY_BITS) for lane in range(self.beat)]
        with m.If(is_query):
            before = Mux(self.chunk == 0, 0, total)
            m.d.sync += total.eq(added([before, *(extended(lane, WORD) for lane in lanes)]))
        m.d.sync += [port.en.eq(is_query), port.addr.eq(self.row)]
        m.d.comb += port.data.eq(total)
        self.query_sums = []
        for head in range(self.heads):
            word = memory.read_port(domain="comb")
            m.d.comb += word.addr.eq(head)
            self.query_sums.append(word.data)

    def _memories(self, m: Module) -> tuple[list[list[Value]], list[list[Value]]]:
        """Rows of keys and of values by bank and head, a cycle after their address."""
        starts = self.heads, self.heads + self.kv_heads
        enables = self.scoring[0], self.weighing[WEIGHED - 1]
        keys, values = (
            [
                [
                    self._memory(m, f"{kind}_{bank}_{head}", bank, start + head, enable)
                    for head in range(self.kv_heads)
                ]
                for bank in range(self.positions)
            ]
            for kind, start, enable in zip(("keys", "values"), starts, enables, strict=True)
        )
        return keys, values

    def _memory(self, m: Module, name: str, bank: int, row: int, enable: Value) -> Value:
        """What is read of one head's bank, which is written when its ``row`` is whole."""
        memory = Memory(shape=len(self.word), depth=self.slots * self.words, init=[])
        m.submodules[name] = memory
        write, read = memory.write_port(), memory.read_port()
        whole = self.held & (self.chunk == self.chunks - 1)
        m.d.comb += [
            write.addr.eq(self.final),
            write.data.eq(self.word),
            write.en.eq(whole & (self.row == row) & (self.lane == bank)),
            read.addr.eq(self.address),
            read.en.eq(enable),
        ]
        return read.data

    def _score(self, m: Module, keys: list[list[Value]]) -> list[list[Signal]]:
        """Scores, raised to be unsigned, by head and lane: the words of the buffer's port."""
        scores = []
        for bank, words in enumerate(keys):
            key_sums = [self._key_sum(m, f"{bank}_{k}", word) for k, word in enumerate(words)]
            for head in range(self.heads):
                at = head * self.kv_heads // self.heads
                scores.append(self._head_score(m, bank, head, words[at], key_sums[at]))
        return [scores[head :: self.heads] for head in range(self.heads)]

    def _groups(self, m: Module, name: str, terms: list[Value]) -> list[Signal]:
        """Registered sums of up to GROUP terms."""
        groups = []
        for start in range(0, len(terms), GROUP):
            group = register(f"{name}_{start}", WORD)
            with m.If(self.scoring[1]):
                m.d.sync += group.eq(added(terms[start : start + GROUP]))
            groups.append(group)
        return groups

    def _elements(self, word: Value) -> list[Value]:
        return [word[KEY.bits * e : KEY.bits * (e + 1)] for e in range(self.head_width)]

    def _key_sum(self, m: Module, name: str, word: Value) -> Signal:
        """The sum of a key's elements, beside the groups' registers."""
        groups = self._groups(m, f"key_{name}", [extended(k, WORD) for k in self._elements(word)])
        return named(m, added(groups))

    def _head_score(self, m: Module, bank: int, head: int, word: Value, key_sum: Value) -> Signal:
        name = f"{bank}_{head}"
        products = [
            extended(query, WORD - KEY.bits) * key
            for query, key in zip(self.queries[head], self._elements(word), strict=True)
        ]
        groups = self._groups(m, f"dot_{name}", products)
        # (q + Q) (k + K) = q k + Q (k + K) + K (q + Q) - Q K
        excess = Cat(Const(0, self.query.bits - 1), key_sum)
        excess = (excess + Cat(Const(0, KEY.bits - 1), self.query_sums[head]))[:WORD]
        surplus = (self.head_width << self.query.bits - 1 << KEY.bits - 1) % (1 << WORD)
        dot = Signal(signed(WORD), name=f"dot_{name}", reset_less=True)
        with m.If(self.scoring[2]):
            m.d.sync += dot.eq(added(groups) + surplus - excess)
        near = Signal(signed(self.dot_bits + 1), name=f"near_{name}", reset_less=True)
        with m.If(self.scoring[3]):
            m.d.sync += near.eq(doubled(dot[: self.dot_bits].as_signed(), self.score_shift))
        score = register(f"score_{name}", SCORE.bits)
        with m.If(self.scoring[4]):
            m.d.sync += score.eq(extended(self._raised_score(near), len(score)))
        return score

    def _raised_score(self, near: Signal) -> Value:
        """Half of ``near``, rounded up, saturated and raised, from the register ``near`` alone."""
        half = halved(near) + Const(1 << SCORE.bits - 1, signed(SCORE.bits + 1))
        high, low = Const((1 << SCORE.bits) - 1, SCORE.bits), Const(0, SCORE.bits)
        if len(near) - 1 <= SCORE.bits:
            return half.as_unsigned()[: SCORE.bits]
        too_high, too_low = near > 2 * SCORE.high, near < 2 * SCORE.low
        return Mux(too_high, high, Mux(too_low, low, half.as_unsigned()[: SCORE.bits]))

    def _hidden(self, flag: Value, lane: int) -> Value:
        """Whether a lane of a word, the last one if ``flag``, is beyond the position."""
        return flag & (self.lane < lane) if lane else Const(0)

    def _weigh(self, m: Module, scores: list[list[Signal]]) -> list[list[Value]]:
        """Weights by head and lane: buffer, distance from the maximum, exponential."""
        m.submodules.exponential = exponential = Exponential(
            lanes=self.heads * self.positions, bits=SCORE.bits
        )
        m.d.comb += exponential.enable.eq(self.weighing[2:5].any())
        for head, lanes in enumerate(scores):
            memory = Memory(shape=SCORE.bits * self.positions, depth=self.words, init=[])
            m.submodules[f"scores_{head}"] = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.addr.eq(self.step),
                write.data.eq(Cat(lane[: SCORE.bits] for lane in lanes)),
                write.en.eq(self.scoring[SCORED]),
                read.addr.eq(self.step),
                read.en.eq(self.weighing[0]),
            ]
            largest = self._largest(m, head, lanes)
            for lane in range(self.positions):
                score = read.data[SCORE.bits * lane : SCORE.bits * (lane + 1)]
                distance = register(f"distance_{head}_{lane}", SCORE.bits)
                far = self._hidden(self.weighed[1], lane)
                with m.If(self.weighing[1]):
                    m.d.sync += distance.eq(
                        (largest - score)[: SCORE.bits] | far.replicate(SCORE.bits)
                    )
                m.d.comb += exponential.distance[head * self.positions + lane].eq(distance)
        weights = list(exponential.weight)
        return [weights[h * self.positions : (h + 1) * self.positions] for h in range(self.heads)]

    def _largest(self, m: Module, head: int, lanes: list[Signal]) -> Signal:
        largest = register(f"largest_{head}", SCORE.bits)

        def greatest(values: list[Value]) -> Value:
            if len(values) == 1:
                return values[0]
            middle = len(values) // 2
            x, y = (named(m, greatest(half)) for half in (values[:middle], values[middle:]))
            return Mux(x > y, x, y)

        seen = [
            lane & (~self._hidden(self.scored[SCORED], index)).replicate(len(lane))
            if index
            else lane
            for index, lane in enumerate(lanes)
        ]
        with m.If(self.taking | self.scoring[SCORED]):
            m.d.sync += largest.eq(Mux(self.taking, 0, greatest([largest, *seen])))
        return largest

    def _accumulate(self, m: Module, weights, values) -> tuple[list[list[Signal]], list[Signal]]:
        """Weighted sums of raised values by head and element, and total weights by head."""
        # one condition for all: a simulator then passes over them at once
        clear, moving = self.scored[SCORED], Signal()
        m.d.comb += moving.eq(clear | self.weighing[WEIGHED])
        sums, totals = [], []
        for head, lanes in enumerate(weights):
            at = head * self.kv_heads // self.heads
            elements = [self._elements(bank[at]) for bank in values]
            total = register(f"total_{head}", self.total_bits)
            accumulators = [
                register(f"sum_{head}_{e}", self.sum_bits) for e in range(self.head_width)
            ]
            with m.If(moving):
                weight = added([extended(lane, WORD) for lane in lanes])
                m.d.sync += total.eq(Mux(clear, 0, (total + weight)[: len(total)]))
                for e, accumulator in enumerate(accumulators):
                    products = [
                        extended(bank[e], WORD - WEIGHT_BITS) * lane
                        for bank, lane in zip(elements, lanes, strict=True)
                    ]
                    more = (accumulator + added(products))[: len(accumulator)]
                    m.d.sync += accumulator.eq(Mux(clear, 0, more))
            sums.append(accumulators)
            totals.append(total)
        return sums, totals

    def _divide(self, m: Module, totals: list[Signal]) -> None:
        """The reciprocals of all heads at once."""
        start, self.dividing = Signal(), Signal(range(Reciprocal.gap))
        m.submodules.reciprocal = self.reciprocal = reciprocal = Reciprocal(
            lanes=self.heads, bits=self.total_bits
        )
        m.d.comb += reciprocal.start.eq(start)
        m.d.comb += [port.eq(total) for port, total in zip(reciprocal.total, totals, strict=True)]
        m.d.sync += start.eq(self.weighed[WEIGHED])
        with m.If(start):
            m.d.sync += self.dividing.eq(Reciprocal.gap - 2)
        with m.Elif(self.dividing != 0):
            m.d.sync += self.dividing.eq(self.dividing - 1)

    def _give(self, m: Module, sums: list[list[Signal]], totals: list[Signal]) -> None:
        """Means leave, a beat at a time: choice, offset, product, shift, rounding."""
        beats = self.heads * self.chunks
        sending, index = Signal(), Signal(range(beats))
        stages, advance = Signal(OUTPUT - 1), Signal()
        m.d.comb += [
            advance.eq(~self.o.valid | self.o.ready),
            self.finished.eq(self.o.valid & self.o.ready & ~sending & ~stages.any()),
        ]
        with m.If(self.dividing == 1):
            m.d.sync += sending.eq(1)
        with m.If(advance):
            m.d.sync += [stages.eq(Cat(sending, stages)), self.o.valid.eq(stages[-1])]
        with m.If(advance & sending):
            m.d.sync += index.eq(index + 1)
            with m.If(index == beats - 1):
                m.d.sync += [sending.eq(0), index.eq(0)]

        self._mean(m, advance, stages, self._chosen(m, advance & sending, index, sums, totals))

    def _chosen(self, m: Module, enable: Value, index: Signal, sums, totals):
        """The sums of a beat, with their total and head."""
        chosen = [register(f"chosen_{lane}", self.sum_bits) for lane in range(self.beat)]
        total, head = register("chosen_total", self.total_bits), Signal(range(self.heads))
        with m.If(enable), m.Switch(index):
            for number in range(self.heads * self.chunks):
                at, chunk = divmod(number, self.chunks)
                here = sums[at][chunk * self.beat : (chunk + 1) * self.beat]
                with m.Case(number):
                    m.d.sync += [total.eq(totals[at][: self.total_bits]), head.eq(at)]
                    m.d.sync += [
                        wire.eq(value[: self.sum_bits])
                        for wire, value in zip(chosen, here, strict=True)
                    ]
        return chosen, total, head

    def _mean(self, m: Module, advance: Signal, stages: Signal, chosen) -> None:
        """From a beat's choice to its means."""
        sums, total, head = chosen
        enables = [advance & stage for stage in stages]
        multiplier = Signal(QUOTIENT_BITS, reset_less=True)
        shifts = [
            Signal(range(self.total_bits - DIVISOR_BITS + 1), name=f"shift_{i}") for i in range(2)
        ]
        with m.If(enables[0]), m.Switch(head):
            for at in range(self.heads):
                with m.Case(at):
                    m.d.sync += multiplier.eq(self.reciprocal.reciprocal[at])
                    m.d.sync += shifts[0].eq(self.reciprocal.length[at] - DIVISOR_BITS)
        with m.If(enables[1]):
            m.d.sync += shifts[1].eq(shifts[0])
        for lane, value in enumerate(sums):
            weighted, product, near = (
                Signal(signed(bits), name=f"{name}_{lane}", reset_less=True)
                for name, bits in (
                    ("weighted", self.sum_bits),
                    ("product", self.sum_bits + QUOTIENT_BITS),
                    ("mean", MEAN_BITS),
                )
            )
            far = product[MEAN_SHIFT + DIVISOR_BITS - 1 :].as_signed()
            with m.If(enables[0]):
                m.d.sync += weighted.eq(value - Cat(Const(0, VALUE.bits - 1), total))
            with m.If(enables[1]):
                m.d.sync += product.eq(weighted * multiplier)
            with m.If(enables[2]):
                m.d.sync += near.eq(far >> shifts[1])
            with m.If(enables[3]):
                m.d.sync += self.o.payload[lane].eq(saturated(m, halved(near), ATTENTION))
