"""Rotation of queries and keys by their position."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import KEY, ROTARY, SINE_BITS, SINE_TABLE, VALUE, Int
from intaglio.hardware.rounding import named, saturated

ANGLE_BITS = 32  # of a turn
REST_BITS, INDEX_BITS = 8, 9  # of a phase: place within an interval, interval 0 to 256
HERE_BITS, RISE_BITS = 15, 8  # of a table entry: value at the interval's start, rise over it
FRACTION_SHIFT = 15  # sines are scaled to 32767
KIND = data.StructLayout({"query": 1, "value": 1})


class Rotary(wiring.Component):
    """Turns pairs of queries and keys, and narrows them; values pass.

    Computes :func:`intaglio.golden.ops.turn`, then :func:`intaglio.golden.ops.rotate`. After
    ``start`` the cosines and sines of all pairs are made, one per cycle; ``prepare`` cycles later
    the first beat can be accepted. Then the query's, key's and value's beats pass in this order,
    one per cycle; ``gap`` 3. All registers stand while the last one waits. After the value's last
    beat nothing is taken before the next ``start``.

    Members
    -------
    start : ``In(1)``, strobe: a new position
    position : ``In(position_bits)``, held from ``start`` on
    i : stream of ``beat`` elements of 16 bits
    o : stream of ``beat`` elements of the query's bits, at least 8: queries narrowed to ``query``,
        keys to 8 bits, values (within 8 bits already) as they came
    busy : ``Out(1)``, the clock must run; low between the beats
    """

    gap = 3

    def __init__(
        self,
        *,
        heads: int,
        kv_heads: int,
        head_width: int,
        beat: int,
        fractions: Sequence[int],
        query: Int,
        position_bits: int,
    ) -> None:
        self.fractions, self.query, self.head_width = tuple(fractions), query, head_width
        self.words = head_width // beat  # beats of a head
        self.query_beats, self.key_beats = heads * self.words, kv_heads * self.words
        self.beat, self.position_bits = beat, position_bits
        self.to = Int(max(query.bits, KEY.bits, VALUE.bits))
        super().__init__(
            {
                "start": In(1),
                "position": In(position_bits),
                "i": In(stream.Signature(data.ArrayLayout(signed(ROTARY.bits), beat))),
                "o": Out(stream.Signature(data.ArrayLayout(signed(self.to.bits), beat))),
                "busy": Out(1),
            }
        )

    @property
    def prepare(self) -> int:
        """Cycles from ``start`` to the first beat that can be accepted."""
        return self.head_width + SineSequence.latency + 1

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.turns = turns = Memory(
            shape=self.beat * SINE_BITS, depth=max(self.words, 2), init=[]
        )
        m.submodules.sines = sines = SineSequence(
            fractions=self.fractions, position_bits=self.position_bits
        )
        write = turns.write_port()
        lane, collected = Signal(range(self.beat)), Signal(self.beat * SINE_BITS)
        m.d.comb += [
            sines.start.eq(self.start),
            sines.position.eq(self.position),
            write.en.eq(sines.valid & (lane == self.beat - 1)),
            write.data.eq(Cat(collected[SINE_BITS:], sines.value)),
        ]
        with m.If(sines.valid):
            m.d.sync += [lane.eq(lane + 1), collected.eq(write.data)]
        with m.If(write.en):
            m.d.sync += write.addr.eq(Mux(write.addr == self.words - 1, 0, write.addr + 1))

        ready = Signal()
        with m.If(sines.last):
            m.d.sync += ready.eq(1)
        inside = self._rotate(m, turns.read_port(), ready)
        m.d.comb += self.busy.eq(sines.busy | inside)
        return m

    def _rotate(self, m: Module, turns, ready: Signal) -> Value:
        """Input, products, rounding: a register each. Returns whether a beat is inside."""
        step, accept = Signal(), Signal()
        loaded, multiplied = Signal(), Signal()
        m.d.comb += [
            step.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(step & ready),
            accept.eq(self.i.valid & self.i.ready),
            turns.en.eq(accept),
        ]
        with m.If(step):
            m.d.sync += [loaded.eq(accept), multiplied.eq(loaded), self.o.valid.eq(multiplied)]
        kind = self._count(m, accept, ready, turns.addr)
        kinds = [Signal(KIND, name=f"kind_{stage}") for stage in ("x", "product")]
        x = Signal(self.i.payload.shape(), reset_less=True)
        kept = Signal(self.o.payload.shape(), reset_less=True)
        with m.If(accept):
            m.d.sync += [x.eq(self.i.payload), kinds[0].eq(kind)]
        with m.If(step & loaded):
            m.d.sync += kinds[1].eq(kinds[0])
            m.d.sync += [old.eq(new) for old, new in zip(kept, x, strict=True)]
        for lane in range(0, self.beat, 2):
            pair = [x[lane], x[lane + 1]]
            cosine, sine = (
                turns.data.word_select(lane + k, SINE_BITS).as_signed() for k in range(2)
            )
            sums = self._turned(m, step & loaded & ~kinds[0].value, pair, cosine, sine)
            for k, total in enumerate(sums):
                result = self._narrowed(m, total, kinds[1], kept[lane + k])
                with m.If(step & multiplied):
                    m.d.sync += self.o.payload[lane + k].eq(result)
        return loaded | multiplied | self.o.valid

    def _turned(
        self, m: Module, enable: Value, pair: list[Value], cosine: Value, sine: Value
    ) -> tuple[Value, Value]:
        """The turned pair, exact: sums of two registered products each."""
        products = []
        for factor in (cosine, sine):
            for x in pair:
                product = Signal(signed(ROTARY.bits + SINE_BITS), reset_less=True)
                with m.If(enable):
                    m.d.sync += product.eq(x * factor)
                products.append(product)
        return products[0] - products[3], products[2] + products[1]

    def _narrowed(self, m: Module, total: Value, kind, kept: Value) -> Value:
        """What leaves: a query, a key or the value that was kept."""
        shifts = {to: FRACTION_SHIFT + ROTARY.bits - to.bits for to in (self.query, KEY)}
        half = Mux(kind.query, 1 << shifts[self.query] - 1, 1 << shifts[KEY] - 1)
        rounded = named(m, total + half)
        query, key = (saturated(m, rounded >> shifts[to], to) for to in (self.query, KEY))
        return Mux(kind.value, kept, Mux(kind.query, query, key))

    def _count(self, m: Module, accept: Value, ready: Signal, word: Signal) -> data.View:
        """Whose beat comes next; ``word``: its place in the head. The last one ends the vector."""
        count = Signal(range(self.query_beats + 2 * self.key_beats))
        last = count == self.query_beats + 2 * self.key_beats - 1
        with m.If(accept):
            m.d.sync += [
                count.eq(Mux(last, 0, count + 1)),
                word.eq(Mux(word == self.words - 1, 0, word + 1)),
            ]
        with m.If(accept & last):
            m.d.sync += ready.eq(0)
        kind = Signal(KIND)
        m.d.comb += [
            kind.query.eq(count < self.query_beats),
            kind.value.eq(count >= self.query_beats + self.key_beats),
        ]
        return kind


class SineSequence(wiring.Component):
    """Cosine and sine of a position's angles, one per cycle: cosine, sine of the first pair, ...

    Computes :func:`intaglio.golden.ops.turn`. The first comes ``latency`` cycles after ``start``.

    Members
    -------
    start : ``In(1)``, strobe
    position : ``In(position_bits)``, held from ``start`` on
    value : ``Out(signed(16))``, scaled to 32767
    valid, last : ``Out(1)``, ``value`` is one of the sequence, is its last
    busy : ``Out(1)``, the clock must run
    """

    latency = 6

    def __init__(self, *, fractions: Sequence[int], position_bits: int) -> None:
        self.fractions, self.position_bits = tuple(fractions), position_bits
        super().__init__(
            {
                "start": In(1),
                "position": In(position_bits),
                "value": Out(signed(SINE_BITS)),
                "valid": Out(1),
                "last": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.fractions = fractions = Memory(
            shape=ANGLE_BITS, depth=max(len(self.fractions), 2), init=self.fractions
        )
        running, index = Signal(), Signal(range(2 * len(self.fractions)))
        end = index == 2 * len(self.fractions) - 1
        valid, lasts = Signal(self.latency), Signal(self.latency)
        port = fractions.read_port()
        m.d.comb += [port.en.eq(running), port.addr.eq(index >> 1)]
        m.d.sync += [
            valid.eq((valid << 1) | running),
            lasts.eq((lasts << 1) | (running & end)),
        ]
        with m.If(self.start):
            m.d.sync += running.eq(1)
        with m.If(running):
            m.d.sync += index.eq(Mux(end, 0, index + 1))
            with m.If(end):
                m.d.sync += running.eq(0)
        m.d.comb += [
            self.valid.eq(valid[-1]),
            self.last.eq(lasts[-1]),
            self.busy.eq(running | valid.any()),
        ]
        self._sine(m, port.data, index[0])
        return m

    def _sine(self, m: Module, fraction: Value, sine: Value) -> None:
        """Angle, phase, table, product, magnitude: a register each."""
        m.submodules.table = table = Memory(
            shape=HERE_BITS + RISE_BITS, depth=len(SINE_TABLE) - 1, init=table_words()
        )
        port = table.read_port()
        sines, negatives = Signal(2), Signal(4)
        angle = Signal(ANGLE_BITS)
        quadrant, phase = Signal(2), angle[ANGLE_BITS - 2 - REST_BITS - 8 : ANGLE_BITS - 2]
        folded, rest = Signal(REST_BITS + INDEX_BITS), Signal(REST_BITS)
        here, risen = Signal(HERE_BITS), Signal(RISE_BITS + REST_BITS)
        magnitude = Signal(HERE_BITS + 1)
        m.d.comb += [
            quadrant.eq(angle[-2:] + ~sines[1]),  # a cosine is a sine a quarter turn on
            port.addr.eq(folded >> REST_BITS),
            self.value.eq(Mux(negatives[-1], -magnitude, magnitude)),
        ]
        m.d.sync += [
            sines.eq((sines << 1) | sine),
            angle.eq(self.position * fraction),
            folded.eq(Mux(quadrant[0], (1 << REST_BITS + 8) - phase, phase)),
            negatives.eq((negatives << 1) | quadrant[1]),
            rest.eq(folded[:REST_BITS]),
            risen.eq(port.data[HERE_BITS:] * rest),
            here.eq(port.data[:HERE_BITS]),
            magnitude.eq(here + ((risen + (1 << REST_BITS - 1)) >> REST_BITS)),
        ]


def table_words() -> list[int]:
    """The sine table by interval: its value in the low bits, its rise above."""
    here, there = SINE_TABLE[:-1].tolist(), SINE_TABLE[1:].tolist()
    return [a | (b - a) << HERE_BITS for a, b in zip(here, there, strict=True)]
