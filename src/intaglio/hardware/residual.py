"""The adder of the residual stream."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import RESIDUAL
from intaglio.hardware.rounding import saturated


class Residual(wiring.Component):
    """Adds an increment to the residual, saturating at 32 bits.

    Computes :func:`intaglio.golden.ops.add`, element by element. One beat per cycle, taken from
    both inputs at once; ``gap`` 1.

    Members
    -------
    y : stream of increments, ``beat`` elements of 32 bits
    x : stream of the residual, likewise
    o : stream of sums, likewise
    busy : ``Out(1)``, a sum waits; the clock must run
    """

    gap = 1

    def __init__(self, *, beat: int) -> None:
        self.beat = beat
        elements = stream.Signature(data.ArrayLayout(signed(RESIDUAL.bits), beat))
        super().__init__({"y": In(elements), "x": In(elements), "o": Out(elements), "busy": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        free, both = Signal(), Signal()
        m.d.comb += [
            free.eq(~self.o.valid | self.o.ready),
            both.eq(self.x.valid & self.y.valid),
            self.x.ready.eq(free & self.y.valid),
            self.y.ready.eq(free & self.x.valid),
            self.busy.eq(self.o.valid),
        ]
        with m.If(free):
            m.d.sync += self.o.valid.eq(both)
        pairs = zip(self.x.payload, self.y.payload, strict=True)
        sums = [saturated(m, x + y, RESIDUAL) for x, y in pairs]
        with m.If(free & both):
            m.d.sync += [o.eq(total) for o, total in zip(self.o.payload, sums, strict=True)]
        return m
