"""Matrices that share one input vector: their fabrics, and the narrowing of what they sum."""

from collections.abc import Sequence
from typing import Literal

from amaranth.hdl import (
    Array,
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Instance,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
    signed,
)
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import MULTIPLIER_BITS, Int
from intaglio.hardware.fabric import INDEX_BITS, cycles, module_name
from intaglio.hardware.images import NARROW_BITS, SHIFT_BITS
from intaglio.hardware.rounding import doubled, halved, named, saturated
from intaglio.plan.tiling import FabricPlan

LIFT_BITS = 5
NARROW_STAGES = 4  # sums read, products, shifted products, outputs: a register each

Order = Literal["sequence", "parallel"]
Named = tuple[str, FabricPlan, Int]


def linear_gap(fabrics: Sequence[FabricPlan], beat: int) -> int:
    """Cycles from the last beat in to the first beat out; the slowest fabric counts."""
    return max(cycles(fabric, beat) for fabric in fabrics) + NARROW_STAGES


def linear_members(matrices: Sequence[Named], order: Order, beat: int) -> dict[str, wiring.Member]:
    """The members of a :class:`Linear` without addends."""
    o = data.ArrayLayout(signed(max(to.bits for _, _, to in matrices)), beat)
    if order == "parallel":
        o = data.ArrayLayout(o, len(matrices))
    i = data.ArrayLayout(signed(matrices[0][1].activation), beat)
    return {
        "id": In(16),
        "lift": In(LIFT_BITS),
        "i": In(stream.Signature(i)),
        "o": Out(stream.Signature(o)),
        "busy": Out(1),
    }


class Linear(wiring.Component):
    """Multiplies a vector with several matrices and narrows every output.

    Computes :func:`intaglio.golden.ops.narrow` of exact dot products. ``matrices``: name of the
    ROM images, fabric and output range of each. ``order``: ``sequence`` gives the beats of one
    matrix after those of the other; ``parallel`` gives a beat of each at once (they have equally
    many outputs). Elements are sign-extended to the widest range; what pads the last beat is 0.

    Each fabric begins a row as soon as its inputs have come. The next vector is taken when the last
    beat has left. ``gap`` is :func:`linear_gap`, whether or not the beats in have gaps between
    them; beats then flow one per cycle, from matrix to matrix too.

    ``addend``: bits of an addend, or 0: then there are no addends, nor ports and gates for them.
    A beat of sums waits for its beat of addends, which joins the products; beats that have met
    theirs go on.

    Members
    -------
    id : ``In(16)``, number of the ROM images
    lift : ``In(5)``, taken off every output's shift; held while a vector is inside
    adapted : ``In(1)``, wait for addends; held likewise. Without it they must be 0
    e : array of streams of ``beat`` addends, one for each matrix, in its own order
    i : stream of ``beat`` activations
    o : stream of ``beat`` outputs, or in parallel order of an array of them
    busy : ``Out(1)``, the clock must run; low between the beats of an unfinished vector
    """

    def __init__(
        self, *, matrices: Sequence[Named], order: Order, beat: int, addend: int = 0
    ) -> None:
        self.matrices, self.order, self.beat = tuple(matrices), order, beat
        self.addend = addend
        self.fabrics = [fabric for _, fabric, _ in self.matrices]
        inputs = {(fabric.inputs, fabric.activation) for fabric in self.fabrics}
        if len(inputs) != 1:
            raise ValueError(f"matrices must share one input vector, not {sorted(inputs)}")
        ((self.inputs, self.activation),) = inputs
        if self.inputs % beat:
            raise ValueError(f"inputs must be a multiple of the beat {beat}, not {self.inputs}")
        self.columns = [-(-fabric.outputs // beat) for fabric in self.fabrics]
        if order == "parallel" and len(set(self.columns)) != 1:
            raise ValueError(f"parallel matrices must have equal outputs, not {self.columns} beats")
        self.to = Int(max(to.bits for _, _, to in self.matrices))
        e = stream.Signature(data.ArrayLayout(signed(max(addend, 1)), beat))
        addends = {"adapted": In(1), "e": In(e).array(len(self.matrices))} if addend else {}
        super().__init__(
            {
                **linear_members(self.matrices, order, beat),
                **addends,
            }
        )

    @property
    def gap(self) -> int:
        """Cycles from the last beat in to the first beat out."""
        return linear_gap(self.fabrics, self.beat)

    def elaborate(self, platform) -> Module:
        m = Module()
        # what narrows stands still, and costs nothing, while the fabrics run
        m.domains.read = ClockDomain("read", local=True)
        self.start, self.soon, self.reading, self.step = (Signal() for _ in range(4))
        self.loaded = Signal(INDEX_BITS)
        self.column = Signal(INDEX_BITS)
        self.matrix = Signal(range(max(len(self.matrices), 2)))
        self.last = Signal()
        running = self._run(m)
        stages = [Signal(name=name) for name in ("fetched", "multiplied", "shifted")]
        # a cycle early, for ROMs must read their first words anew after they stood
        working = Cat(self.soon, self.reading, *stages, self.o.valid).any()
        m.submodules += Instance(
            "clock_gate", i_clk=ClockSignal(), i_rst=ResetSignal(), i_enable=working,
            o_gated=ClockSignal("read"), o_gated_rst=ResetSignal("read"),
        )  # fmt: skip
        m.d.comb += [
            self.step.eq(~self.o.valid | self.o.ready),
            self.busy.eq(running | working),
        ]
        self.advance, self.rooms = self.step, [self.step] * len(stages)
        if self.addend:
            self._meet(m, stages)
        else:
            with m.If(self.step):
                m.d.read += [
                    Cat(*stages).eq(Cat(self.reading, *stages[:-1])),
                    self.o.valid.eq(stages[-1]),
                ]
        self._read(m)
        reads = [self._fabric(m, index) for index in range(len(self.matrices))]
        if self.order == "sequence":
            self._narrow(m, reads, range(len(reads)), self.o.payload)
        else:
            for index, payload in enumerate(self.o.payload):
                self._narrow(m, reads[index : index + 1], [index], payload)
        return m

    def _meet(self, m: Module, stages: Sequence[Signal]) -> None:
        """Hold fetched sums, and what is behind them, until their addends are there."""
        fetched, multiplied, shifted = stages
        self.advance, offered = Signal(), Signal()
        # a beat moves on where there is room, so that none that follows late is late twice
        rooms = Signal(2)
        self.rooms = [*rooms, self.step]
        if self.order == "sequence":
            turn = Signal.like(self.matrix, name="fetched_turn")
            with m.If(self.advance):
                m.d.read += turn.eq(self.matrix)
            mine = [turn == index for index in range(len(self.e))]
            there = Array(e.valid for e in self.e)[turn]
        else:
            mine = [Const(1, 1)] * len(self.e)
            there = Cat(e.valid for e in self.e).all()
        m.d.comb += [
            offered.eq(~self.adapted | there),
            rooms.eq(~Cat(multiplied, shifted) | Cat(rooms[1], self.step)),
            self.advance.eq(~fetched | (offered & rooms[0])),
            *(
                e.ready.eq(fetched & offered & rooms[0] & self.adapted & turn)
                for e, turn in zip(self.e, mine, strict=True)
            ),
        ]
        with m.If(self.advance):
            m.d.read += fetched.eq(self.reading)
        flags = [fetched & offered, multiplied, shifted, self.o.valid]
        for room, before, flag in zip(self.rooms, flags, flags[1:], strict=False):
            with m.If(room):
                m.d.read += flag.eq(before)

    def _run(self, m: Module) -> Signal:
        """Load the vector, start all fabrics with its first beat, wait for the slowest.

        The wait begins with the last beat. It is as long as where beats come one per cycle, and
        rows that waited for beats with gaps, or whose clock stood, are done by then too.
        """
        beats = self.inputs // self.beat
        wait = max(cycles(fabric, self.beat) for fabric in self.fabrics)
        running, time = Signal(), Signal(range(wait))
        accept, last = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~self.busy),
            accept.eq(self.i.valid & self.i.ready),
            self.start.eq(accept & (self.loaded == 0)),
            last.eq(accept & (self.loaded == beats - 1)),
        ]
        with m.If(accept):
            m.d.sync += self.loaded.eq(self.loaded + 1)
        with m.If(last):
            m.d.sync += [self.loaded.eq(0), running.eq(1), time.eq(0)]
        with m.If(running):
            m.d.sync += time.eq(time + 1)
            m.d.comb += self.soon.eq(time == wait - 2)
            with m.If(self.soon):
                m.d.sync += [running.eq(0), self.reading.eq(1)]
        return running

    def _read(self, m: Module) -> None:
        """Count the beats to read: all columns of a matrix, then the next matrix."""
        ends = self.columns if self.order == "sequence" else self.columns[:1]
        m.d.comb += self.last.eq(
            self.column == Array(end - 1 for end in ends)[self.matrix]
            if len(ends) > 1
            else self.column == ends[0] - 1
        )
        with m.If(self.reading & self.advance):
            m.d.sync += self.column.eq(self.column + 1)
            with m.If(self.last):
                m.d.sync += [self.column.eq(0), self.matrix.eq(self.matrix + 1)]
                with m.If(self.matrix == len(ends) - 1):
                    m.d.sync += [self.matrix.eq(0), self.reading.eq(0)]

    def _fabric(self, m: Module, index: int) -> tuple[Signal, Signal]:
        """Place a fabric and its narrowing constants; return one beat's sums and constants."""
        name, fabric, _ = self.matrices[index]
        sums = Signal(self.beat * fabric.accumulator, name=f"{name}_sums")
        constants = Signal(self.beat * NARROW_BITS, name=f"{name}_constants")
        mine = self.matrix == index if self.order == "sequence" else 1
        m.submodules[f"{name}_fabric"] = Instance(
            module_name(fabric.bits, fabric.lanes, fabric.activation),
            p_NAME=name, p_INPUTS=fabric.inputs, p_COLUMNS=fabric.outputs, p_ROWS=fabric.rows,
            p_EXTRA=fabric.extra_rows, p_SHIFT=fabric.extra_shift,
            p_ACCUMULATOR=fabric.accumulator, p_BEAT=self.beat,
            i_clk=ClockSignal(), i_read_clk=ClockSignal("read"), i_rst=ResetSignal(), i_id=self.id,
            i_load=self.i.valid & self.i.ready, i_load_index=self.loaded,
            i_load_data=Value.cast(self.i.payload), i_start=self.start,
            i_read=self.reading & self.advance & mine, i_read_index=self.column, o_read_data=sums,
        )  # fmt: skip
        # ROM has no enable: it reads the same word again while the outputs wait
        held = Signal(INDEX_BITS, name=f"{name}_held")
        address = Signal(range(max(self.columns[index], 2)), name=f"{name}_address")
        m.d.comb += address.eq(Mux(self.advance, self.column, held))
        with m.If(self.advance):
            m.d.read += held.eq(self.column)
        m.submodules[f"{name}_narrow"] = Instance(
            "rom", p_NAME=f"{name}_narrow", p_WIDTH=self.beat * NARROW_BITS,
            p_DEPTH=self.columns[index], i_clk=ClockSignal("read"), i_id=self.id,
            i_address=address, o_data=constants,
        )  # fmt: skip
        return sums, constants

    def _narrow(
        self, m: Module, reads: Sequence[tuple[Signal, Signal]], which: Sequence[int], payload
    ) -> None:
        """Multiply, shift, round and saturate: three registers behind the sums.

        ``which``: the matrices that the sums are of.
        """
        to = [self.matrices[index][2] for index in which]
        turns = [Signal.like(self.matrix, name=f"turn_{stage}") for stage in range(3)]
        if self.addend:
            rooms = [self.advance, *self.rooms]
            for room, turn, before in zip(rooms, turns, [self.matrix, *turns], strict=False):
                with m.If(room):
                    m.d.read += turn.eq(before)
        else:
            with m.If(self.step):
                m.d.read += Cat(*turns).eq(Cat(self.matrix, *turns[:-1]))
        widest = max(len(sums) for sums, _ in reads) // self.beat
        bits = widest + MULTIPLIER_BITS
        if self.addend:
            bits = max(bits, self.addend) + 1
        for lane in range(self.beat):
            product = Signal(signed(bits), reset_less=True)
            shift = Signal(SHIFT_BITS, reset_less=True)
            shifted = Signal(signed(len(product) + 1), reset_less=True)
            sums = [element(word, lane, self.beat).as_signed() for word, _ in reads]
            sum_ = chosen(m, turns[0], sums)
            constant = chosen(m, turns[0], [element(c, lane, self.beat) for _, c in reads])
            scaled = sum_ * constant[:MULTIPLIER_BITS]
            if self.addend:
                addends = [self.e[index].payload[lane] for index in which]
                scaled = scaled + chosen(m, turns[0], addends)
            rounded = named(m, halved(shifted))
            outputs = {t.bits: named(m, saturated(m, rounded, t)) for t in to}
            output = chosen(m, turns[2], [outputs[t.bits] for t in to])
            stages = [
                [product.eq(scaled), shift.eq(constant[MULTIPLIER_BITS:] - self.lift)],
                [shifted.eq(doubled(product, shift))],
                [payload[lane].eq(output)],
            ]
            if not self.addend:  # all move at once
                stages = [[register for stage in stages for register in stage]]
            for room, registers in zip(self.rooms, stages, strict=False):
                with m.If(room):
                    m.d.read += registers


def element(word: Value, lane: int, beat: int) -> Value:
    """One of a beat's elements."""
    bits = len(word) // beat
    return word[lane * bits : (lane + 1) * bits]


def chosen(m: Module, turn: Signal, values: Sequence[Value]) -> Signal:
    """The value whose turn it is, as a wire."""
    return named(m, values[0] if len(values) == 1 else Array(values)[turn])
