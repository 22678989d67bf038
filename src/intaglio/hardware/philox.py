"""The counter-based random generator of the sampler."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.golden.sample import PHILOX_MULTIPLIERS, PHILOX_ROUNDS, PHILOX_STEPS

WORD = 32


class Philox(wiring.Component):
    """Philox4x32-10 of a counter and a key.

    Computes :func:`intaglio.golden.sample.philox` with two 32 x 32 bit multipliers whose products
    are registered: two cycles per round, products and mixing. The result stands from ``gap`` cycles
    after ``start`` on until the next one.

    Members
    -------
    start : ``In(1)``, one cycle
    counter : ``In(128)``, first word in the low bits; read in the cycle of ``start``
    key : ``In(64)``, likewise
    o : ``Out(128)``, first word in the low bits
    busy : ``Out(1)``
    """

    gap = 2 * PHILOX_ROUNDS + 1

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "counter": In(4 * WORD),
                "key": In(2 * WORD),
                "o": Out(4 * WORD),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        words = [Signal(WORD, name=f"word_{i}", reset_less=True) for i in range(4)]
        keys = [Signal(WORD, name=f"key_{i}", reset_less=True) for i in range(2)]
        products = [Signal(2 * WORD, name=f"product_{i}", reset_less=True) for i in range(2)]
        rounds, mixing = Signal(range(PHILOX_ROUNDS + 1)), Signal()
        m.d.comb += [self.o.eq(Cat(*words)), self.busy.eq(rounds != 0)]
        with m.If(self.start):
            m.d.sync += [Cat(*words).eq(self.counter), Cat(*keys).eq(self.key)]
            m.d.sync += [rounds.eq(PHILOX_ROUNDS), mixing.eq(0)]
        with m.Elif(self.busy):
            m.d.sync += mixing.eq(~mixing)
            with m.If(mixing):
                m.d.sync += [
                    words[0].eq(products[1][WORD:] ^ words[1] ^ keys[0]),
                    words[1].eq(products[1][:WORD]),
                    words[2].eq(products[0][WORD:] ^ words[3] ^ keys[1]),
                    words[3].eq(products[0][:WORD]),
                    rounds.eq(rounds - 1),
                ]
                m.d.sync += [key.eq(key + s) for key, s in zip(keys, PHILOX_STEPS, strict=True)]
            with m.Else():
                m.d.sync += [
                    products[0].eq(words[0] * PHILOX_MULTIPLIERS[0]),
                    products[1].eq(words[2] * PHILOX_MULTIPLIERS[1]),
                ]
        return m
