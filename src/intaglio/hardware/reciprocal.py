"""The reciprocal of a total weight, one quotient bit per cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

DIVISOR_BITS = 16  # the top bits of a total
QUOTIENT_BITS = 17
DIVIDEND = 1 << 31


class Reciprocal(wiring.Component):
    """``2**31`` divided by the top 16 bits of ``total``, rounded down.

    The reciprocal of :func:`intaglio.golden.ops.mean`. The results stand from ``gap`` cycles after
    ``start`` on until the next one: a cycle to find the top bits, then one per bit of the quotient.

    Members
    -------
    start : ``In(1)``, one cycle
    total : ``In(bits)``, at least ``2**15``; read in the cycle of ``start``
    reciprocal : ``Out(17)``
    length : ``Out``, bits of ``total``
    """

    gap = 1 + QUOTIENT_BITS

    def __init__(self, *, bits: int) -> None:
        if bits < DIVISOR_BITS:
            raise ValueError(f"bits must be at least {DIVISOR_BITS}, not {bits}")
        self.bits = bits
        super().__init__(
            {
                "start": In(1),
                "total": In(bits),
                "reciprocal": Out(QUOTIENT_BITS),
                "length": Out(range(bits + 1)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        steps = Signal(range(QUOTIENT_BITS + 1))
        divisor = Signal(DIVISOR_BITS, reset_less=True)
        remainder = Signal(DIVISOR_BITS, reset_less=True)
        twice, less = Signal(DIVISOR_BITS + 1), Signal(DIVISOR_BITS + 2)
        fits = Signal()
        m.d.comb += [
            twice.eq(Cat(0, remainder)),
            less.eq(twice - divisor),
            fits.eq(~less[-1]),
        ]
        with m.If(self.start):
            m.d.sync += [steps.eq(QUOTIENT_BITS), remainder.eq(DIVIDEND >> QUOTIENT_BITS)]
            for length in range(DIVISOR_BITS, self.bits + 1):
                with m.If(self.total[length - 1]):
                    m.d.sync += [
                        divisor.eq(self.total[length - DIVISOR_BITS : length]),
                        self.length.eq(length),
                    ]
        with m.Elif(steps != 0):
            m.d.sync += [
                steps.eq(steps - 1),
                remainder.eq(Mux(fits, less, twice)),
                self.reciprocal.eq(Cat(fits, self.reciprocal)),
            ]
        return m
