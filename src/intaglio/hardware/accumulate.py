"""One column: counts the bits that its lanes select, and accumulates them. What sums start from."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Accumulate(wiring.Component):
    """A counter tree and a shift accumulator.

    Every bit cycle the selected bits, the carry of the cycle before and the accumulator's lowest
    bit are added; the sum's lowest bit goes back into the accumulator, which turns by one. A cycle
    after a row's last bit its carry is added above the ``product`` bits that turned. Main rows turn
    the bits from ``shift`` on, extra rows those from 0 on.

    Members
    -------
    start : ``In(1)``, begin from 0
    enable : ``In(1)``, a bit cycle
    bits : ``In``, the selected bit of every lane
    first, last : ``In(1)``, it is the row's first or last
    extra : ``In(1)``, it belongs to an extra row
    sum : ``Out``, exact two cycles after the last bit cycle
    """

    def __init__(self, *, lanes: int, product: int, accumulator: int, shift: int = 0) -> None:
        if accumulator < product + shift:
            raise ValueError(
                f"accumulator must hold a product, {product + shift} bits, not {accumulator}"
            )
        self.product, self.shift = product, shift
        self.carry_bits = lanes.bit_length()
        super().__init__(
            {
                "start": In(1),
                "enable": In(1),
                "bits": In(lanes),
                "first": In(1),
                "last": In(1),
                "extra": In(1),
                "sum": Out(accumulator),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        carry, ended, ended_extra = Signal(self.carry_bits), Signal(), Signal()
        carried = Signal(self.carry_bits)
        m.d.comb += carried.eq(Mux(self.first, 0, carry))
        tap = Mux(self.extra, self.sum[0], self.sum[self.shift]) if self.shift else self.sum[0]
        total = count(m, [[*self.bits, tap], *[[]] * self.carry_bits], carried)
        m.d.sync += ended.eq(self.enable & self.last)
        with m.If(self.enable):
            m.d.sync += [carry.eq(total[1:]), ended_extra.eq(self.extra)]
            if self.shift:
                with m.If(self.extra):
                    self._turn(m, 0, total[0])
                with m.Else():
                    self._turn(m, self.shift, total[0])
            else:
                self._turn(m, 0, total[0])
        with m.If(ended):
            if self.shift:
                with m.If(ended_extra):
                    self._raise(m, 0, carry)
                with m.Else():
                    self._raise(m, self.shift, carry)
            else:
                self._raise(m, 0, carry)
        with m.If(self.start):
            m.d.sync += [self.sum.eq(0), carry.eq(0)]
        return m

    def _turn(self, m: Module, base: int, bit: Value) -> None:
        """Turn the product's bits by one; ``bit`` comes in at the top."""
        top = base + self.product - 1
        m.d.sync += self.sum[base : top + 1].eq(Cat(self.sum[base + 1 : top + 1], bit))

    def _raise(self, m: Module, base: int, carry: Value) -> None:
        """Add a row's carry above its bits."""
        if base + self.product < len(self.sum):
            high = self.sum[base + self.product :]
            m.d.sync += high.eq(high + carry)


class Start(wiring.Component):
    """Takes a beat of sums and adds the values that they start from.

    Members
    -------
    take : ``In(1)``
    counted : ``In``, ``beat`` sums of ``accumulator`` bits, of the cycle before
    values : ``In``, likewise, of this cycle
    sums : ``Out``, likewise
    """

    def __init__(self, *, beat: int, accumulator: int) -> None:
        self.beat, self.accumulator = beat, accumulator
        bits = beat * accumulator
        super().__init__(
            {"take": In(1), "counted": In(bits), "values": In(bits), "sums": Out(bits)}
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        taken = Signal.like(self.counted, reset_less=True)
        with m.If(self.take):
            m.d.sync += taken.eq(self.counted)
        for place in range(self.beat):
            of = slice(place * self.accumulator, (place + 1) * self.accumulator)
            m.d.comb += self.sums[of].eq(taken[of] + self.values[of])
        return m


def count(m: Module, columns: list[list[Value]], carried: Value) -> Value:
    """Sum of bits by weight, and of ``carried``: full adders until one bit of a weight is left.

    The result has one bit more than ``carried``.
    """
    waiting = [list(bits) for bits in columns] + [[]]
    for weight, bit in enumerate(carried):
        waiting[weight].append(bit)
    result = []
    for weight in range(len(carried) + 1):
        bits = waiting[weight]
        while len(bits) > 1:
            a, b, c = (*bits[:3], None)[:3]
            bits = bits[3:]
            either = wire(m, a ^ b)
            if c is None:
                total, over = either, a & b
            else:
                total, over = wire(m, either ^ c), (a & b) | (either & c)
            bits.append(total)
            if weight < len(carried):
                waiting[weight + 1].append(wire(m, over))
        result.append(bits[0] if bits else None)
    return Cat(*[bit if bit is not None else 0 for bit in result])


def wire(m: Module, value: Value) -> Signal:
    """A name for a bit."""
    bit = Signal()
    m.d.comb += bit.eq(value)
    return bit
