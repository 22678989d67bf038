"""From a token to its residual."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import EMBEDDING, MULTIPLIER_BITS, RESIDUAL
from intaglio.hardware.rounding import doubled, halved

TOKEN_BITS = 20
SHIFT_BITS = 6


class Embedding(wiring.Component):
    """Looks a token up in ROM and scales it to the residual.

    Computes :func:`intaglio.golden.ops.embed`: 8-bit codes times the token's multiplier, divided by
    ``2**shift``. The ROMs stand outside and answer a cycle later. One beat per cycle; ``gap`` 5.
    The next token is taken when the last beat has left.

    Members
    -------
    i : stream of ``token``, 20 bits
    address : ``Out``, word of the code ROM: token times ``width / beat`` plus the beat's number
    data : ``In``, ``beat`` codes of 8 bits
    multiplier_address : ``Out``, word of the multiplier ROM: the token
    multiplier : ``In(16)``, unsigned
    shift : ``In(6)``, steady, 0 to 56
    o : stream of ``beat`` elements of 32 bits
    busy : ``Out(1)``, the clock must run
    """

    gap = 5

    def __init__(self, *, vocabulary: int, width: int, beat: int) -> None:
        self.vocabulary, self.beats, self.beat = vocabulary, width // beat, beat
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"token": TOKEN_BITS}))),
                "address": Out(range(max(vocabulary * self.beats, 2))),
                "data": In(data.ArrayLayout(signed(EMBEDDING.bits), beat)),
                "multiplier_address": Out(range(max(vocabulary, 2))),
                "multiplier": In(MULTIPLIER_BITS),
                "shift": In(SHIFT_BITS),
                "o": Out(stream.Signature(data.ArrayLayout(signed(RESIDUAL.bits), beat))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        step, accept = Signal(), Signal()
        fetched, scaled, shifted = Signal(), Signal(), Signal()
        left = Signal(range(self.beats + 1))  # beats to ask for
        m.d.comb += [
            step.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(~self.busy),
            accept.eq(self.i.valid & self.i.ready),
        ]
        with m.If(step):
            m.d.sync += [
                fetched.eq(left.any()),
                scaled.eq(fetched),
                shifted.eq(scaled),
                self.o.valid.eq(shifted),
            ]
        self._fetch(m, step, accept, left)
        last = ~(left.any() | fetched | scaled | shifted)
        with m.If(accept):
            m.d.sync += self.busy.eq(1)
        with m.Elif(self.o.valid & self.o.ready & last):
            m.d.sync += self.busy.eq(0)

        for lane, (code, o) in enumerate(zip(self.data, self.o.payload, strict=True)):
            product = Signal(
                signed(EMBEDDING.bits + MULTIPLIER_BITS), name=f"product_{lane}", reset_less=True
            )
            rest = Signal(signed(len(product) + 1), name=f"rest_{lane}", reset_less=True)
            with m.If(step & fetched):
                m.d.sync += product.eq(code * self.multiplier)
            with m.If(step & scaled):
                m.d.sync += rest.eq(doubled(product, self.shift))
            with m.If(step & shifted):
                # 24 bits at most: nothing to saturate
                m.d.sync += o.eq(halved(rest))
        return m

    def _fetch(self, m: Module, step: Value, accept: Value, left: Signal) -> None:
        """Ask for the next word; while the pipeline stands, ask for the last one again."""
        following, latest = Signal.like(self.address), Signal.like(self.address)
        m.d.comb += self.address.eq(Mux(step, following, latest))
        with m.If(accept):
            token = self.i.payload.token[: len(self.multiplier_address)]
            m.d.sync += [
                self.multiplier_address.eq(token),
                following.eq(token * self.beats),
                left.eq(self.beats),
            ]
        with m.Elif(step & left.any()):
            m.d.sync += [following.eq(following + 1), latest.eq(following), left.eq(left - 1)]
