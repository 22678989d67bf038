"""A vector to fewer bits, by a power of two of its own."""

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import Int
from intaglio.hardware.rounding import doubled, halved, saturated


class Shrink(wiring.Component):
    """Narrows a vector by the fewest bits with which its largest magnitude fits.

    Computes :func:`intaglio.golden.ops.shrink`. Keeps ``length / beat`` beats, then gives them one
    per cycle; ``gap`` 4. The next vector is taken when the last beat has left.

    Members
    -------
    i : stream of ``beat`` elements of ``source``
    o : stream of ``beat`` elements of ``to``
    shift : ``Out``, bits taken off; holds from the first beat out to the next vector's first beat
    busy : ``Out(1)``, the clock must run; low between the beats of an unfinished vector
    """

    gap = 4

    def __init__(self, *, length: int, beat: int, source: Int, to: Int) -> None:
        self.beats, self.beat, self.source, self.to = length // beat, beat, source, to
        super().__init__(
            {
                "i": In(stream.Signature(data.ArrayLayout(signed(source.bits), beat))),
                "o": Out(stream.Signature(data.ArrayLayout(signed(to.bits), beat))),
                "shift": Out(range(max(source.bits - to.bits, 1) + 1)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=self.beat * self.source.bits, depth=max(self.beats, 2), init=[]
        )
        write, read = memory.write_port(), memory.read_port()
        sending, accept, finish = Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~sending),
            accept.eq(self.i.valid & self.i.ready),
            write.en.eq(accept),
            write.data.eq(Value.cast(self.i.payload)),
            self.busy.eq(sending),
        ]
        with m.If(accept):
            m.d.sync += write.addr.eq(write.addr + 1)
            with m.If(write.addr == self.beats - 1):
                m.d.sync += [sending.eq(1), write.addr.eq(0)]
        self._measure(m, accept, finish)
        self._send(m, read, sending, finish)
        with m.If(finish):
            m.d.sync += sending.eq(0)
        return m

    def _measure(self, m: Module, accept: Value, finish: Value) -> None:
        """The largest magnitude's leading bit decides the shift, a cycle after the last beat."""
        magnitude, beat = self.source.bits - 1, Signal(self.source.bits - 1)
        largest = Signal(magnitude)
        folded = [Mux(x[-1], ~x[:-1], x[:-1]) for x in self.i.payload]
        m.d.comb += beat.eq(_any(folded))
        with m.If(accept):
            m.d.sync += largest.eq(largest | beat)
        with m.If(finish):
            m.d.sync += largest.eq(0)
        shift = Signal.like(self.shift)
        for bit in range(self.to.bits - 1, magnitude):
            with m.If(largest[bit]):
                m.d.comb += shift.eq(bit - self.to.bits + 2)
        with m.If(self.busy):
            m.d.sync += self.shift.eq(shift)

    def _send(self, m: Module, read, sending: Value, finish: Value) -> None:
        """Memory, shift, rounding: a register each; all stand while the last one waits."""
        step, ended = Signal(), Signal()
        fetched, shifted = Signal(), Signal()
        m.d.comb += [
            step.eq(~self.o.valid | self.o.ready),
            read.en.eq(step & sending),
            finish.eq(self.o.valid & self.o.ready & ended & ~fetched & ~shifted),
        ]
        with m.If(step):
            m.d.sync += [
                fetched.eq(sending & ~ended),
                shifted.eq(fetched),
                self.o.valid.eq(shifted),
            ]
            with m.If(sending & ~ended):
                m.d.sync += [read.addr.eq(read.addr + 1), ended.eq(read.addr == self.beats - 1)]
        bits = self.source.bits
        for lane, o in enumerate(self.o.payload):
            rest = Signal(signed(self.to.bits + 1), name=f"rest_{lane}", reset_less=True)
            x = read.data[lane * bits : (lane + 1) * bits].as_signed()
            result = saturated(m, halved(rest), self.to)
            with m.If(step & fetched):
                # the shift leaves to.bits and the bit that rounds
                m.d.sync += rest.eq(doubled(x, self.shift))
            with m.If(step & shifted):
                m.d.sync += o.eq(result)
        with m.If(finish):
            m.d.sync += [ended.eq(0), read.addr.eq(0)]


def _any(values: list[Value]) -> Value:
    """Bitwise or of all values."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return _any(values[:half]) | _any(values[half:])
