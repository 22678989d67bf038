"""The token chosen from the logits: the 64 largest, their weights, and a random number.

Beats are sorted as they come. The r-th largest of a beat has r larger ones beside it, so the list
that keeps the r-th ones never needs more than 64 / (r + 1) places: at 16 lanes 211 places in all
instead of 1,024. A tree over the lists then gives the largest that is left, one per cycle.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import CANDIDATES, LOGIT, WEIGHT_BITS
from intaglio.golden.sample import BETA_BITS, BETA_SHIFT, Sampling
from intaglio.hardware.exponential import Exponential
from intaglio.hardware.philox import WORD, Philox
from intaglio.hardware.port import POSITION_BITS, TOKEN_BITS

PLACE_BITS = CANDIDATES.bit_length() - 1
TOP_P_BITS = 17
SEED_BITS = 64
SUM_BITS = WEIGHT_BITS + PLACE_BITS  # of cumulative weights
DISTANCE_BITS = LOGIT.bits + BETA_BITS - BETA_SHIFT + 1

# Cycles from a candidate's leaving the tree until its cumulative weight is written: candidate,
# difference, product, distance, the exponential's three, sum, memory.
WEIGHED = 8
SEARCH = 2 * PLACE_BITS  # a binary search: address and comparison per bit


def sorting_network(lanes: int) -> list[list[tuple[int, int]]]:
    """Batcher's odd-even merge sort: the pairs that every level compares, the greater first."""
    levels, size = [], 1
    while size < lanes:
        distance = size
        while distance:
            levels.append(
                [
                    (low, low + distance)
                    for start in range(distance % size, lanes - distance, 2 * distance)
                    for low in range(start, min(start + distance, lanes - distance))
                    if low // (2 * size) == (low + distance) // (2 * size)
                ]
            )
            distance //= 2
        size *= 2
    return levels


def ordered(x: Value, y: Value) -> tuple[Value, Value]:
    """The greater and the less of two.

    They compare each by itself, in words that no tool merges before gates: what is shared between
    registers a simulator computes whether they are enabled or not.
    """
    return Mux(x > y, x, y), Mux(y < x, y, x)


class Sampler(wiring.Component):
    """Chooses a token from ``vocabulary`` logits.

    Computes :func:`intaglio.golden.sample.sample`. Takes ``ceil(vocabulary / beat)`` beats, what is
    beyond the vocabulary in the last one is ignored. ``gap(sampling)`` cycles from the last beat in
    to the token out. The next logits are taken when the token has left.

    Members
    -------
    i : stream of ``beat`` logits of 24 bits
    beta, top_k, top_p, seed : ``In(20)``, ``In(7)``, ``In(17)``, ``In(64)``: golden's Sampling
    position : ``In(20)``, of the token before the chosen one; like the settings steady from the
        first beat in until the token has left
    o : stream of the token, 20 bits
    busy : ``Out(1)``, from the first beat in until the token has left
    """

    def __init__(self, *, vocabulary: int, beat: int) -> None:
        if not 1 <= vocabulary <= 1 << TOKEN_BITS:
            raise ValueError(f"vocabulary must be from 1 to {1 << TOKEN_BITS}, not {vocabulary}")
        if beat < 1 or beat & beat - 1:
            raise ValueError(f"beat must be a power of two, not {beat}")
        self.vocabulary, self.beat = vocabulary, beat
        self.beats = -(-vocabulary // beat)
        self.network = sorting_network(beat)
        self.depths = [
            min(CANDIDATES // (rank + 1), self.beats) for rank in range(min(beat, CANDIDATES))
        ]
        self.levels = len(self.depths).bit_length() - 1  # of the tree
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(signed(LOGIT.bits), beat))),
                "beta": In(BETA_BITS),
                "top_k": In(CANDIDATES.bit_length()),
                "top_p": In(TOP_P_BITS),
                "seed": In(SEED_BITS),
                "position": In(POSITION_BITS),
                "o": Out(stream.Signature(TOKEN_BITS)),
                "busy": Out(1),
            }
        )

    def gap(self, sampling: Sampling) -> int:
        """Cycles from the last beat in to the token out."""
        ranked = 2 + len(self.network) + self.levels
        if sampling.greedy:
            return ranked + 1
        weighed = min(sampling.top_k, self.vocabulary) - 1 + WEIGHED
        return ranked + weighed + 1 + SEARCH + 2 + SEARCH + 2

    def elaborate(self, platform) -> Module:
        m = Module()
        lanes, held, last = self._take(m)
        last = self._delayed(m, last, len(self.network), "last")[-1]
        lists = self._keep(m, *self._sort(m, lanes, held), last)
        root = self._draw(m, lists, last)
        self._weigh(m, root)
        self._choose(m)
        return m

    def _delayed(self, m: Module, flag: Value, cycles: int, name: str) -> list[Value]:
        """``flag`` and what it was up to ``cycles`` before."""
        flags = [flag]
        for cycle in range(cycles):
            later = Signal(name=f"{name}_{cycle + 1}")
            m.d.sync += later.eq(flags[-1])
            flags.append(later)
        return flags

    def _take(self, m: Module) -> tuple[list[Signal], Signal, Signal]:
        """A beat in registers: logits raised to be unsigned, above the lane's complement."""
        lane_bits = self.beat.bit_length() - 1
        accept, held, last, ready = Signal(), Signal(), Signal(), Signal(init=1)
        count, ended = Signal(range(self.beats)), Signal()
        self.clear, self.beat_index = Signal(), Signal(range(self.beats), reset_less=True)
        self.greedy, self.lane_bits = Signal(), lane_bits
        m.submodules.philox = self.philox = Philox()
        m.d.comb += [
            self.i.ready.eq(ready),
            accept.eq(self.i.valid & ready),
            ended.eq(accept & (count == self.beats - 1)),
            self.clear.eq(accept & ~self.busy),
            self.greedy.eq(self.beta == 0),
            self.philox.start.eq(ended),
            self.philox.counter.eq(self.position),
            self.philox.key.eq(self.seed),
        ]
        m.d.sync += [held.eq(accept), last.eq(ended)]
        with m.If(accept):
            m.d.sync += [self.beat_index.eq(count), count.eq(count + 1), self.busy.eq(1)]
        with m.If(ended):
            m.d.sync += [count.eq(0), ready.eq(0)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [self.busy.eq(0), ready.eq(1)]
        lanes = []
        for lane in range(self.beat):
            register = Signal(WORD, name=f"held_{lane}", reset_less=True)
            raised = self.i.payload[lane].as_unsigned() ^ Const(1 << LOGIT.bits - 1, LOGIT.bits)
            if lane >= self.tail:
                raised = Mux(count == self.beats - 1, 0, raised)
            with m.If(accept):
                m.d.sync += register.eq(Cat(Const(~lane % self.beat, lane_bits), raised))
            lanes.append(register)
        return lanes, held, last

    @property
    def tail(self) -> int:
        """Logits in the last beat."""
        return self.vocabulary - (self.beats - 1) * self.beat

    def _sort(self, m: Module, lanes: list[Signal], held: Signal):
        """Beats with a logit above the 64th best so far, sorted: keys, valid, index of the beat."""
        self.threshold = Signal(LOGIT.bits + 1)
        wanted = Signal()
        above = [self._value(lane) > self.threshold for lane in lanes]
        m.d.comb += wanted.eq(held & Cat(above).any())
        valid, index = wanted, self.beat_index
        for level, pairs in enumerate(self.network):
            after = list(lanes)
            for high, low in pairs:
                x, y = lanes[high], lanes[low]
                after[high], after[low] = ordered(x, y)
            # a memory of one word, not a register: simulators leave it alone while idle
            word = Memory(shape=self.beat * WORD, depth=1, init=[])
            m.submodules[f"level_{level}"] = word
            keep, kept = word.write_port(), word.read_port(domain="comb").data
            later, moved = Signal.like(index, name=f"index_{level}"), Signal(name=f"valid_{level}")
            m.d.comb += [keep.data.eq(Cat(after)), keep.en.eq(valid)]
            m.d.sync += moved.eq(valid)
            with m.If(valid):
                m.d.sync += later.eq(index)
            lanes = [kept.word_select(lane, WORD) for lane in range(self.beat)]
            valid, index = moved, later
        return lanes, valid, index

    def _value(self, key: Value) -> Value:
        """A key's logit as lists keep it, above the empty places."""
        return Cat(key[self.lane_bits : self.lane_bits + LOGIT.bits], Const(1, 1))

    def _keep(self, m: Module, keys, valid: Value, index: Value, last: Value) -> list[list[Signal]]:
        """The lists by rank, greatest first; an entry is (complement of the token, logit, 1)."""
        index_bits = self.lane_bits + len(index)
        self.index_bits, self.entry_bits = index_bits, index_bits + LOGIT.bits + 1
        self.pops = []
        lists = []
        for rank, depth in enumerate(self.depths):
            cells = [
                Signal(2 * WORD, name=f"list_{rank}_{place}", reset_less=True)
                for place in range(depth)
            ]
            values = [cell[index_bits : self.entry_bits] for cell in cells]
            value = self._value(keys[rank])
            entry = Cat(keys[rank][: self.lane_bits], ~index, value)
            insert, pop = Signal(name=f"insert_{rank}"), Signal(name=f"pop_{rank}")
            allowed = ~last if rank >= self.tail else Const(1)
            m.d.comb += insert.eq(valid & allowed & (value > values[-1]))
            # one condition per list: a simulator then passes over it at once
            moving = Signal(name=f"moving_{rank}")
            m.d.comb += moving.eq(self.clear | insert | pop)
            with m.If(moving):
                for place, cell in enumerate(cells):
                    new = Mux(value > values[place], entry, cell[: self.entry_bits])
                    if place:
                        above = cells[place - 1][: self.entry_bits]
                        # the place above's comparison, see ``ordered``
                        new = Mux(values[place - 1] < value, above, new)
                    below = cells[place + 1] if place + 1 < depth else Const(0, 1)
                    left = Mux(insert, new, below[: self.entry_bits])
                    m.d.sync += cell.eq(Mux(self.clear, 0, left))
            lists.append(cells)
            self.pops.append(pop)
        if self.depths[0] == CANDIDATES:
            m.d.comb += self.threshold.eq(lists[0][-1][index_bits : self.entry_bits])
        return lists

    def _draw(self, m: Module, lists: list[list[Signal]], last: Value) -> Signal:
        """The tree over the lists: every node holds the greatest of what is below it."""
        begin = self._delayed(m, last, self.levels, "begin")
        self.taking, self.drawn, merging = Signal(), Signal(CANDIDATES.bit_length()), Signal()
        wanted, self.final = Signal(CANDIDATES.bit_length()), Signal()
        limit = min(self.vocabulary, CANDIDATES)
        m.d.comb += [
            wanted.eq(Mux(self.greedy, 1, Mux(self.top_k < limit, self.top_k, limit))),
            self.final.eq(self.taking & (self.drawn + 1 == wanted)),
        ]
        with m.If(self.clear):
            m.d.sync += self.drawn.eq(0)
        with m.Elif(self.taking):
            m.d.sync += self.drawn.eq(self.drawn + 1)
        with m.If(last):
            m.d.sync += merging.eq(1)
        with m.If(begin[-1]):
            m.d.sync += self.taking.eq(1)
        with m.If(self.final):
            m.d.sync += [merging.eq(0), self.taking.eq(0)]

        nodes = [(cells[0], pop) for cells, pop in zip(lists, self.pops, strict=True)]
        level = 0
        while len(nodes) > 1:
            nodes = [
                self._node(m, f"{level}_{i}", merging, nodes[2 * i], nodes[2 * i + 1])
                for i in range(len(nodes) // 2)
            ]
            level += 1
        ((root, taken),) = nodes
        m.d.comb += taken.eq(self.taking)
        return root

    def _node(self, m: Module, name: str, merging: Signal, left, right) -> tuple[Signal, Signal]:
        """A register over two others: refilled, by the greater one, when empty or taken."""
        entry = Signal(2 * WORD, name=f"node_{name}", reset_less=True)
        taken, load, first = (Signal(name=f"{kind}_{name}") for kind in ("taken", "load", "first"))
        (x, take_x), (y, take_y) = left, right
        m.d.comb += [
            load.eq(merging & (taken | ~entry[self.entry_bits - 1])),
            first.eq(x > y),
            take_x.eq(load & first),
            take_y.eq(load & ~first),
        ]
        with m.If(self.clear | load):
            m.d.sync += entry.eq(Mux(self.clear, 0, Mux(first, x, y)))
        return entry, taken

    def _weigh(self, m: Module, root: Signal) -> None:
        """Candidates become cumulative weights, one per cycle, beside their tokens."""
        running = self._delayed(m, self.taking & ~self.greedy, WEIGHED, "running")
        final = self._delayed(m, self.final & ~self.greedy, WEIGHED, "final")
        m.submodules.tokens = tokens = Memory(shape=self.index_bits, depth=CANDIDATES, init=[])
        m.submodules.sums = sums = Memory(shape=SUM_BITS, depth=CANDIDATES, init=[])
        m.submodules.exponential = exponential = Exponential(lanes=1, bits=DISTANCE_BITS)
        token, total = tokens.write_port(), sums.write_port()
        self.tokens, self.sums = tokens.read_port(), sums.read_port()
        self.root_token = ~root[: self.index_bits]
        value, best, difference = (
            Signal(LOGIT.bits, name=name, reset_less=True)
            for name in ("value", "best", "difference")
        )
        product = Signal(LOGIT.bits + BETA_BITS, reset_less=True)
        distance = Signal(DISTANCE_BITS, reset_less=True)
        self.total, place = Signal(SUM_BITS, reset_less=True), Signal(PLACE_BITS)
        logit = root[self.index_bits : self.index_bits + LOGIT.bits]
        with m.If(running[0]):
            m.d.sync += value.eq(logit)
            with m.If(self.drawn == 0):
                m.d.sync += best.eq(logit)
        with m.If(running[1]):
            m.d.sync += difference.eq(best - value)
        with m.If(running[2]):
            m.d.sync += product.eq(difference * self.beta)
        with m.If(running[3]):
            m.d.sync += distance.eq((product + (1 << BETA_SHIFT - 1))[BETA_SHIFT:])
        with m.If(self.clear):
            m.d.sync += [self.total.eq(0), place.eq(0)]
        with m.If(running[7]):
            m.d.sync += self.total.eq(self.total + exponential.weight[0])
        with m.If(running[8]):
            m.d.sync += place.eq(place + 1)
        m.d.comb += [
            exponential.distance[0].eq(distance),
            exponential.enable.eq(Cat(running[4:7]).any()),
            token.addr.eq(self.drawn),
            token.data.eq(self.root_token),
            token.en.eq(running[0]),
            total.addr.eq(place),
            total.data.eq(self.total),
            total.en.eq(running[8]),
        ]
        self.summed = final[-1]

    def _choose(self, m: Module) -> None:
        """Two searches of the cumulative weights: where top-p cuts, then the random number."""
        step = Signal(range(2 * SEARCH + 5))
        cut, pick, ended = SEARCH + 2, SEARCH + 3, 2 * SEARCH + 4
        probing, place, bit = Signal(), Signal(PLACE_BITS), Signal(PLACE_BITS)
        probe, product = Signal(PLACE_BITS), Signal(SUM_BITS + WORD, reset_less=True)
        bound, second = Signal(SUM_BITS + 1, reset_less=True), Signal()
        searching = ((step >= 1) & (step <= SEARCH)) | ((step >= pick) & (step < pick + SEARCH))
        m.d.comb += [
            second.eq(step == cut),
            probing.eq(searching & ~step[0]),
            probe.eq(Mux(searching, place | (bit - 1), place)),
            self.sums.addr.eq(probe),
            self.sums.en.eq(step != 0),
            self.tokens.addr.eq(place),
            self.tokens.en.eq(step == ended - 1),
        ]
        with m.If(self.summed):
            m.d.sync += step.eq(1)
        with m.Elif(step == ended):
            m.d.sync += step.eq(0)
        with m.Elif(step != 0):
            m.d.sync += step.eq(step + 1)
        with m.If(self.summed | second):
            m.d.sync += [
                place.eq(0),
                bit.eq(1 << PLACE_BITS - 1),
                product.eq(
                    Mux(second, self.sums.data, self.total)
                    * Mux(second, self.philox.o[:WORD], self.top_p)
                ),
            ]
        with m.If(step == 1):
            m.d.sync += bound.eq((product + 0xFFFF)[16:])
        with m.If(step == pick):
            m.d.sync += bound.eq(product[WORD:] + 1)
        with m.If(probing):
            m.d.sync += bit.eq(bit >> 1)
            with m.If((probe < self.drawn) & (self.sums.data < bound)):
                m.d.sync += place.eq(place | bit)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(step == ended):
            m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(self.tokens.data)]
        with m.If(self.taking & self.greedy):
            m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(self.root_token)]
