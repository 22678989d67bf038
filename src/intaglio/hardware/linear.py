"""Matrices that share one input vector: their fabrics, and the narrowing of what they sum."""

from collections.abc import Sequence
from typing import Literal

from amaranth.hdl import (
    Array,
    Cat,
    ClockDomain,
    ClockSignal,
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


def linear_gap(fabrics: Sequence[FabricPlan]) -> int:
    """Cycles from the last beat in to the first beat out; the slowest fabric counts."""
    return max(cycles(fabric) for fabric in fabrics) + NARROW_STAGES


class Linear(wiring.Component):
    """Multiplies a vector with several matrices and narrows every output.

    Computes :func:`intaglio.golden.ops.narrow` of exact dot products. ``matrices``: name of the
    ROM images, fabric and output range of each. ``order``: ``sequence`` gives the beats of one
    matrix after those of the other; ``parallel`` gives a beat of each at once (they have equally
    many outputs). Elements are sign-extended to the widest range; what pads the last beat is 0.

    The next vector is taken when the last beat has left. ``gap`` is :func:`linear_gap`; beats then
    flow one per cycle, from matrix to matrix too.

    Members
    -------
    id : ``In(16)``, number of the ROM images
    lift : ``In(5)``, taken off every output's shift; held while a vector is inside
    i : stream of ``beat`` activations
    o : stream of ``beat`` outputs, or in parallel order of an array of them
    busy : ``Out(1)``, the clock must run; low between the beats of an unfinished vector
    """

    def __init__(self, *, matrices: Sequence[Named], order: Order, beat: int) -> None:
        self.matrices, self.order, self.beat = tuple(matrices), order, beat
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
        o = data.ArrayLayout(signed(self.to.bits), beat)
        if order == "parallel":
            o = data.ArrayLayout(o, len(self.matrices))
        i = data.ArrayLayout(signed(self.activation), beat)
        super().__init__(
            {
                "id": In(16),
                "lift": In(LIFT_BITS),
                "i": In(stream.Signature(i)),
                "o": Out(stream.Signature(o)),
                "busy": Out(1),
            }
        )

    @property
    def gap(self) -> int:
        """Cycles from the last beat in to the first beat out."""
        return linear_gap(self.fabrics)

    def elaborate(self, platform) -> Module:
        m = Module()
        # what narrows stands still, and costs nothing, while the fabrics run
        m.domains.read = ClockDomain("read", local=True)
        self.start, self.reading, self.step = Signal(), Signal(), Signal()
        self.loaded = Signal(INDEX_BITS)
        self.column = Signal(INDEX_BITS)
        self.matrix = Signal(range(max(len(self.matrices), 2)))
        self.last = Signal()
        running = self._run(m)
        stages = [Signal(name=name) for name in ("fetched", "multiplied", "shifted")]
        working = Cat(self.reading, *stages, self.o.valid).any()
        m.submodules += Instance(
            "clock_gate", i_clk=ClockSignal(), i_rst=ResetSignal(), i_enable=working,
            o_gated=ClockSignal("read"), o_gated_rst=ResetSignal("read"),
        )  # fmt: skip
        m.d.comb += [
            self.step.eq(~self.o.valid | self.o.ready),
            self.busy.eq(running | working),
        ]
        with m.If(self.step):
            m.d.read += [
                Cat(*stages).eq(Cat(self.reading, *stages[:-1])),
                self.o.valid.eq(stages[-1]),
            ]
        self._read(m)
        reads = [self._fabric(m, index) for index in range(len(self.matrices))]
        if self.order == "sequence":
            self._narrow(m, reads, [to for _, _, to in self.matrices], self.o.payload)
        else:
            for read, (_, _, to), payload in zip(reads, self.matrices, self.o.payload, strict=True):
                self._narrow(m, [read], [to], payload)
        return m

    def _run(self, m: Module) -> Signal:
        """Load the vector, start all fabrics with its last beat, wait for the slowest."""
        beats, wait = self.inputs // self.beat, max(cycles(fabric) for fabric in self.fabrics)
        running, time = Signal(), Signal(range(wait))
        accept = Signal()
        m.d.comb += [
            self.i.ready.eq(~self.busy),
            accept.eq(self.i.valid & self.i.ready),
            self.start.eq(accept & (self.loaded == beats - 1)),
        ]
        with m.If(accept):
            m.d.sync += self.loaded.eq(self.loaded + 1)
        with m.If(self.start):
            m.d.sync += [self.loaded.eq(0), running.eq(1), time.eq(0)]
        with m.If(running):
            m.d.sync += time.eq(time + 1)
            with m.If(time == wait - 2):
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
        with m.If(self.reading & self.step):
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
            i_read=self.reading & self.step & mine, i_read_index=self.column, o_read_data=sums,
        )  # fmt: skip
        # ROM has no enable: it reads the same word again while the outputs wait
        held = Signal(INDEX_BITS, name=f"{name}_held")
        address = Signal(range(max(self.columns[index], 2)), name=f"{name}_address")
        m.d.comb += address.eq(Mux(self.step, self.column, held))
        with m.If(self.step):
            m.d.read += held.eq(self.column)
        m.submodules[f"{name}_narrow"] = Instance(
            "rom", p_NAME=f"{name}_narrow", p_WIDTH=self.beat * NARROW_BITS,
            p_DEPTH=self.columns[index], i_clk=ClockSignal("read"), i_id=self.id,
            i_address=address, o_data=constants,
        )  # fmt: skip
        return sums, constants

    def _narrow(
        self, m: Module, reads: Sequence[tuple[Signal, Signal]], to: Sequence[Int], payload
    ) -> None:
        """Multiply, shift, round and saturate: three registers behind the sums."""
        turns = [Signal.like(self.matrix, name=f"turn_{stage}") for stage in range(3)]
        with m.If(self.step):
            m.d.read += Cat(*turns).eq(Cat(self.matrix, *turns[:-1]))
        widest = max(len(sums) for sums, _ in reads) // self.beat
        for lane in range(self.beat):
            product = Signal(signed(widest + MULTIPLIER_BITS), reset_less=True)
            shift = Signal(SHIFT_BITS, reset_less=True)
            shifted = Signal(signed(len(product) + 1), reset_less=True)
            sums = [element(word, lane, self.beat).as_signed() for word, _ in reads]
            sum_ = chosen(m, turns[0], sums)
            constant = chosen(m, turns[0], [element(c, lane, self.beat) for _, c in reads])
            multiplier = constant[:MULTIPLIER_BITS]
            rounded = named(m, halved(shifted))
            outputs = {t.bits: named(m, saturated(m, rounded, t)) for t in to}
            output = chosen(m, turns[2], [outputs[t.bits] for t in to])
            with m.If(self.step):
                m.d.read += [
                    product.eq(sum_ * multiplier),
                    shift.eq(constant[MULTIPLIER_BITS:] - self.lift),
                    shifted.eq(doubled(product, shift)),
                    payload[lane].eq(output),
                ]


def element(word: Value, lane: int, beat: int) -> Value:
    """One of a beat's elements."""
    bits = len(word) // beat
    return word[lane * bits : (lane + 1) * bits]


def chosen(m: Module, turn: Signal, values: Sequence[Value]) -> Signal:
    """The value whose turn it is, as a wire."""
    return named(m, values[0] if len(values) == 1 else Array(values)[turn])
