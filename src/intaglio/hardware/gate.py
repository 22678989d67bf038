"""The gated unit between the MLP's matrices."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import GATE, PRODUCT, PRODUCT_SHIFT, SIGMOID_TABLE, UP
from intaglio.hardware.rounding import named, saturated

ONE = 1 << 16  # the logistic function's scale
INDEX_BITS, REST_BITS = 8, 8  # of a magnitude: interval of the table, place within it
HERE_BITS, STEP_BITS = 17, 11  # of a table entry: value at the interval's start, rise over it


class Gate(wiring.Component):
    """SiLU of the gate times up.

    Computes :func:`intaglio.golden.ops.gate`: the logistic function by a table of 256 intervals and
    linear interpolation, then two products. Nine registers, one beat per cycle; ``gap`` 9. All
    registers stand while the last one waits.

    Members
    -------
    i : stream of ``gate``, ``beat`` elements of 24 bits, and ``up``, ``beat`` elements of 20 bits
    o : stream of ``beat`` elements of 32 bits
    busy : ``Out(1)``, the clock must run
    """

    gap = 9

    def __init__(self, *, beat: int) -> None:
        self.beat = beat
        pair = data.StructLayout(
            {
                "gate": data.ArrayLayout(signed(GATE.bits), beat),
                "up": data.ArrayLayout(signed(UP.bits), beat),
            }
        )
        super().__init__(
            {
                "i": In(stream.Signature(pair)),
                "o": Out(stream.Signature(data.ArrayLayout(signed(PRODUCT.bits), beat))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        # stage k is full when valid[k]; stage 0 is loaded from the input, the last is the output
        valid, step = Signal(self.gap), Signal()
        m.d.comb += [
            step.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(step),
            self.o.valid.eq(valid[-1]),
            self.busy.eq(valid.any()),
        ]
        with m.If(step):
            m.d.sync += valid.eq((valid << 1) | self.i.valid)
        load = [step & self.i.valid, *(step & valid[k] for k in range(self.gap - 1))]
        load = [named(m, enable) for enable in load]

        m.submodules.table = table = Memory(
            shape=HERE_BITS + STEP_BITS, depth=len(SIGMOID_TABLE) - 1, init=table_words()
        )
        gates = delayed(m, load, self.i.payload.gate, 5)
        ups = delayed(m, load, self.i.payload.up, 7)
        for lane, o in enumerate(self.o.payload):
            lane_gates = [stage[lane] for stage in gates]
            self._lane(m, load, table.read_port(), lane_gates, ups[-1][lane], o)
        return m

    def _lane(
        self, m: Module, load: list[Signal], port, gates: list[Value], up: Value, o: Value
    ) -> None:
        """One element: ``gates`` by stage, ``up`` of stage 6; ``load[k]`` enables stage k."""
        logistic = self._logistic(m, load, port, gates)
        product = Signal(signed(GATE.bits + HERE_BITS + 1), reset_less=True)
        silu = Signal(signed(GATE.bits), reset_less=True)
        wide = Signal(signed(GATE.bits + UP.bits), reset_less=True)
        with m.If(load[5]):
            m.d.sync += product.eq(gates[4] * logistic)
        with m.If(load[6]):
            # at most the gate itself: the logistic function does not pass 1
            m.d.sync += silu.eq((product + (1 << 15)) >> 16)
        with m.If(load[7]):
            m.d.sync += wide.eq(silu * up)
        rounded = (wide + (1 << PRODUCT_SHIFT >> 1)) >> PRODUCT_SHIFT
        result = saturated(m, rounded, PRODUCT)
        with m.If(load[8]):
            m.d.sync += o.eq(result)

    def _logistic(self, m: Module, load: list[Signal], port, gates: list[Value]) -> Signal:
        """The logistic function of the gate, scaled to 2**16, in stage 4."""
        size = Signal(GATE.bits, reset_less=True)  # stage 1: the magnitude, up to 2**23
        beyond = size[INDEX_BITS + REST_BITS :].any()
        rest = Signal(REST_BITS + 1, reset_less=True)
        risen = Signal(STEP_BITS + REST_BITS + 1, reset_less=True)
        base = Signal(HERE_BITS, reset_less=True)
        logistic = Signal(HERE_BITS, reset_less=True)
        here, rise = port.data[:HERE_BITS], port.data[HERE_BITS:]
        m.d.comb += [
            port.en.eq(load[2]),
            port.addr.eq(Mux(beyond, (1 << INDEX_BITS) - 1, size[REST_BITS:][:INDEX_BITS])),
        ]
        with m.If(load[1]):
            m.d.sync += size.eq(Mux(gates[0][-1], -gates[0], gates[0]))
        with m.If(load[2]):  # and the table's register
            m.d.sync += rest.eq(Mux(beyond, 1 << REST_BITS, size[:REST_BITS]))
        with m.If(load[3]):
            m.d.sync += [
                risen.eq(rise * rest),
                base.eq(Mux(gates[2][-1], ONE - here, here)),
            ]
        change = Signal(STEP_BITS)
        m.d.comb += change.eq((risen + (1 << REST_BITS >> 1)) >> REST_BITS)
        with m.If(load[4]):
            m.d.sync += logistic.eq(Mux(gates[3][-1], base - change, base + change))
        return logistic


def delayed(m: Module, load: list[Signal], x: data.View, stages: int) -> list[data.View]:
    """``x`` in the registers of the first ``stages`` stages."""
    registers = [Signal(x.shape(), reset_less=True) for _ in range(stages)]
    for enable, old, new in zip(load, [x, *registers], registers, strict=False):
        with m.If(enable):
            m.d.sync += new.eq(old)
    return registers


def table_words() -> list[int]:
    """The logistic table by interval: its value in the low bits, its rise above."""
    here, there = SIGMOID_TABLE[:-1].tolist(), SIGMOID_TABLE[1:].tolist()
    return [a | (b - a) << HERE_BITS for a, b in zip(here, there, strict=True)]
