"""The reciprocal of a total weight, one quotient bit per cycle."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

DIVISOR_BITS = 16  # the top bits of a total
QUOTIENT_BITS = 17
DIVIDEND = 1 << 31


class Reciprocal(wiring.Component):
    """``2**31`` divided by the top 16 bits of ``lanes`` totals, rounded down.

    The reciprocals of :func:`intaglio.golden.ops.mean`. The results stand from ``gap`` cycles after
    ``start`` on until the next one: a cycle to find the top bits, then one per bit of the quotient.

    Members
    -------
    start : ``In(1)``, one cycle
    total : ``In(bits)`` by lane, at least ``2**15``; read in the cycle of ``start``
    reciprocal : ``Out(17)`` by lane
    length : ``Out`` by lane, bits of ``total``
    """

    gap = 1 + QUOTIENT_BITS

    def __init__(self, *, lanes: int, bits: int) -> None:
        if bits < DIVISOR_BITS:
            raise ValueError(f"bits must be at least {DIVISOR_BITS}, not {bits}")
        self.lanes, self.bits = lanes, bits
        super().__init__(
            {
                "start": In(1),
                "total": In(bits).array(lanes),
                "reciprocal": Out(QUOTIENT_BITS).array(lanes),
                "length": Out(range(bits + 1)).array(lanes),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        steps, moving = Signal(range(QUOTIENT_BITS + 1)), Signal()
        m.d.comb += moving.eq(self.start | (steps != 0))
        with m.If(moving):
            m.d.sync += steps.eq(Mux(self.start, QUOTIENT_BITS, steps - 1))
        for lane in range(self.lanes):
            self._lane(m, moving, lane)
        return m

    def _lane(self, m: Module, moving: Signal, lane: int) -> None:
        total, quotient = self.total[lane], self.reciprocal[lane]
        divisor, remainder = (
            Signal(DIVISOR_BITS, name=f"{name}_{lane}", reset_less=True)
            for name in ("divisor", "remainder")
        )
        twice = Cat(Const(0, 1), remainder)
        fits = twice >= divisor
        top, length = total[:DIVISOR_BITS], Const(DIVISOR_BITS)
        for size in range(DIVISOR_BITS + 1, self.bits + 1):
            top = Mux(total[size - 1], total[size - DIVISOR_BITS : size], top)
            length = Mux(total[size - 1], size, length)
        with m.If(self.start):
            m.d.sync += [divisor.eq(top), self.length[lane].eq(length)]
        with m.If(moving):
            m.d.sync += [
                remainder.eq(
                    Mux(self.start, DIVIDEND >> QUOTIENT_BITS, Mux(fits, twice - divisor, twice))
                ),
                quotient.eq(Cat(fits, quotient)),
            ]
