"""A whole fabric as gates: product banks, selection, accumulators. What area is measured on."""

from amaranth.hdl import (
    Array,
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    DomainRenamer,
    Instance,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import CODEBOOKS
from intaglio.hardware.accumulate import Accumulate, Start
from intaglio.hardware.fabric import INDEX_BITS
from intaglio.hardware.library import Library
from intaglio.hardware.product_bank import ProductBank
from intaglio.plan.tiling import FabricPlan


class Select(wiring.Component):
    """The fabric of :mod:`intaglio.hardware.fabric`, gate by gate: the same ports and cycles.

    The programmable cells are instances: ``selection`` ties every (row, lane, column) to one of its
    lane's lines, ``rom`` holds which row an extra row repeats, and what sums start from: no ROM
    could load all accumulators at once, so it is added to a beat that is read. Columns beyond the
    last read 0.

    ``cells``: a module of the fabric's own in place of ``selection``, which has its clock besides.
    ``library``: takes banks and columns, each once.
    """

    def __init__(
        self, *, name: str, fabric: FabricPlan, beat: int, cells: str | None = None,
        library: Library | None = None,
    ) -> None:  # fmt: skip
        self.name, self.fabric, self.beat = name, fabric, beat
        self.cells, self.library = cells, library
        super().__init__(
            {
                "read_clk": In(1),
                "id": In(16),
                "load": In(1),
                "load_index": In(INDEX_BITS),
                "load_data": In(beat * fabric.activation),
                "start": In(1),
                "read": In(1),
                "read_index": In(INDEX_BITS),
                "read_data": Out(beat * fabric.accumulator),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        f = self.fabric
        rows = f.rows + f.extra_rows
        # one stage of registers each: which bit, the lane's bit, its lines, the row's end
        running, row, cycle = Signal(), Signal(range(max(rows, 2))), Signal(range(f.product_bits))
        first, last, working = Signal(), Signal(), Signal()
        m.d.comb += [
            first.eq(cycle == 0),
            last.eq(cycle == f.product_bits - 1),
            working.eq(running & (~first | self._loaded(m).bit_select(row, 1))),
        ]
        with m.If(working):
            m.d.sync += cycle.eq(cycle + 1)
            with m.If(last):
                m.d.sync += [cycle.eq(0), row.eq(row + 1)]
                with m.If(row == rows - 1):
                    m.d.sync += running.eq(0)
        with m.If(self.start):
            m.d.sync += [running.eq(1), row.eq(0), cycle.eq(0)]
        extra = Signal()
        m.d.comb += extra.eq(row >= f.rows)
        states = [Cat(working, first, last, extra, row)]
        for stage in range(2):
            late = Signal(len(states[0]), name=f"state_{stage + 1}")
            m.d.sync += late.eq(states[-1])
            states.append(late)

        serial = self._serialise(m, states[0], row, extra, last)
        lines = self._banks(m, serial, states[1])
        sums = self._columns(m, lines, states[2])
        self._read(m, sums)
        return m

    def _loaded(self, m: Module) -> Value:
        """By row, whether its activations are there."""
        f = self.fabric
        wanted = [f.wanted(row, self.beat) for row in range(f.rows)]
        loaded = Signal(f.rows)
        for row, beats in enumerate(wanted):
            with m.If(self.load & (self.load_index == beats - 1)):
                m.d.sync += loaded[row].eq(1)
        with m.If(self.start):
            m.d.sync += loaded.eq(Cat(beats == 1 for beats in wanted))
        return Cat(loaded, Const((1 << f.extra_rows) - 1, f.extra_rows))

    def _serialise(
        self, m: Module, state: Value, row: Value, extra: Value, last: Value
    ) -> list[Value]:
        """Each lane's activation of the row, least significant bit first, its sign repeated."""
        f = self.fabric
        held = [
            [Signal(f.activation, name=f"activation_{r}_{lane}") for lane in range(f.lanes)]
            for r in range(f.rows)
        ]
        for index in range(f.inputs):
            r, lane = divmod(index, f.lanes)
            beat, place = divmod(index, self.beat)
            with m.If(self.load & (self.load_index == beat)):
                low = place * f.activation
                m.d.sync += held[r][lane].eq(self.load_data[low : low + f.activation])
        sources = self._sources(m, row, last)
        serial = []
        for lane in range(f.lanes):
            taken = [held[r][lane] for r in range(f.rows)]
            x = Array([*taken, Const(0, f.activation)])[
                Mux(extra, sources[lane], row) if f.extra_rows else row
            ]
            shifting = Signal(f.activation, name=f"serial_{lane}")
            with m.If(state[0]):
                m.d.sync += shifting.eq(Mux(state[1], x, Cat(shifting[1:], shifting[-1])))
            serial.append(shifting[0])
        return serial

    def _sources(self, m: Module, row: Value, last: Value) -> list[Value]:
        """The row that each lane repeats in an extra row, from ROM."""
        f = self.fabric
        if not f.extra_rows:
            return []
        bits = f.rows.bit_length()
        following, address = Signal(len(row) + 1), Signal(range(max(f.extra_rows, 2)))
        word = Signal(f.lanes * bits)
        m.d.comb += [
            following.eq(row + last),
            address.eq(Mux(following < f.rows, 0, following - f.rows)),
        ]
        m.submodules.map = Instance(
            "rom", p_NAME=f"{self.name}_map", p_WIDTH=len(word), p_DEPTH=f.extra_rows,
            i_clk=ClockSignal(), i_id=self.id, i_address=address, o_data=word,
        )  # fmt: skip
        return [word[lane * bits : (lane + 1) * bits] for lane in range(f.lanes)]

    def _banks(self, m: Module, serial: list[Value], state: Value) -> Value:
        """The product lines of all lanes."""
        lines = []
        for lane, bit in enumerate(serial):
            bank = self._place(m, f"bank_{lane}", ProductBank, bits=self.fabric.bits)
            m.d.comb += [bank.x.eq(bit), Cat(bank.enable, bank.first, bank.last).eq(state[:3])]
            lines.append(bank.lines)
        return Cat(*lines)

    def _columns(self, m: Module, lines: Value, state: Value) -> list[Value]:
        """Select, count and accumulate."""
        f = self.fabric
        selected = Signal(f.lanes * f.outputs)
        ports = {"i_id": self.id, "i_row": state[4:], "i_lines": lines, "o_selected": selected}
        if self.cells:
            cells = Instance(self.cells, i_clk=ClockSignal(), **ports)
        else:
            cells = Instance(
                "selection", p_NAME=self.name, p_BITS=f.bits, p_LANES=f.lanes,
                p_COLUMNS=f.outputs, p_ROWS=f.rows + f.extra_rows, **ports,
            )  # fmt: skip
        m.submodules.selection = cells
        assert len(lines) == f.lanes * len(CODEBOOKS[f.bits])
        sums = []
        for column in range(f.outputs):
            one = self._place(
                m, f"column_{column}", Accumulate, lanes=f.lanes, product=f.product_bits,
                accumulator=f.accumulator, shift=f.extra_shift,
            )  # fmt: skip
            m.d.comb += [
                one.start.eq(self.start),
                one.bits.eq(Cat(selected[lane * f.outputs + column] for lane in range(f.lanes))),
                Cat(one.enable, one.first, one.last, one.extra).eq(state[:4]),
            ]
            sums.append(one.sum)
        return sums

    def _place(
        self, m: Module, name: str, kind: type[wiring.Component], domain: str = "sync", **parameters
    ):  # fmt: skip
        """A part, in the library where there is one."""
        if self.library is None:
            part = kind(**parameters)
            m.submodules[name] = DomainRenamer(domain)(part)
            return part
        return self.library.place(
            m, kind, clock=ClockSignal(domain), reset=ResetSignal(domain, allow_reset_less=True),
            **parameters,
        )  # fmt: skip

    def _read(self, m: Module, sums: list[Value]) -> None:
        """One beat of the sums, registered by the reader's clock, above its start values.

        ROM has no enable: it reads the same word again while the reader waits.
        """
        f = self.fabric
        m.domains.read = ClockDomain("read", local=True, reset_less=True)
        m.d.comb += ClockSignal("read").eq(self.read_clk)
        padding = -f.outputs % self.beat
        padded = [*sums, *[Const(0, f.accumulator)] * padding]
        beats = [Cat(*padded[i : i + self.beat]) for i in range(0, len(padded), self.beat)]
        start = self._place(m, "start", Start, "read", beat=self.beat, accumulator=f.accumulator)
        m.d.comb += [
            start.take.eq(self.read),
            start.counted.eq(Array(beats)[self.read_index]),
            self.read_data.eq(start.sums),
        ]
        held = Signal.like(self.read_index)
        with m.If(self.read):
            m.d.read += held.eq(self.read_index)
        address = Signal(range(max(len(beats), 2)))
        m.d.comb += address.eq(Mux(self.read, self.read_index, held))
        m.submodules.start_values = Instance(
            "rom", p_NAME=f"{self.name}_start", p_WIDTH=len(start.values), p_DEPTH=len(beats),
            i_clk=ClockSignal("read"), i_id=self.id, i_address=address, o_data=start.values,
        )  # fmt: skip
