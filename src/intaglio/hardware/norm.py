"""RMSNorm of one vector, and the vector once more for the residual adder."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intaglio.golden.number import (
    MULTIPLIER_BITS,
    RESIDUAL,
    RSQRT_MANTISSA,
    RSQRT_TABLE,
    SQUARE_BITS,
    Int,
)
from intaglio.hardware.rounding import doubled, halved, named, saturated

EPSILON_BITS = 48
SHIFT_BITS = 6
PAIR_BITS = 6  # of the pairs of leading zeros, 0 to 39
START_BITS = 13  # of an entry of RSQRT_TABLE
ROOT_BITS = 17
TREE = 16  # terms that one register's adder tree takes
HALF = 32  # squares are summed in two halves, the lower of so many bits

# Steps from the sum of squares to the gain, one cycle each.
SUM, COARSE, FINE, LOOK_UP, ONCE, TWICE, REST, NEWTON, SCALE = range(9)
STEPS = SCALE + 1


class Norm(wiring.Component):
    """Normalises one vector by its root mean square, with a static output scale.

    Computes :func:`intaglio.golden.ops.norm`. ``width / beat`` beats are taken and kept, then given
    by ``o``, one per cycle, then once more, as they came, by ``x``. ``gap`` is 15 and one more for
    each register of the adder tree: 16 for beats of up to 16. The next vector is taken when the
    last beat has left ``x``.

    Members
    -------
    i : stream of ``beat`` elements of 32 bits
    o : stream of ``beat`` elements of ``to``
    x : stream of what came by ``i``; starts when all of ``o`` has left. May be valid while the
        block is not busy: its clock is wanted only when the consumer is ready
    epsilon, multiplier, shift : ``In(48)``, ``In(16)``, ``In(6)``, steady, shift 40 to 62
    busy : ``Out(1)``, the clock must run; low while beats or a consumer of ``x`` are waited for
    """

    def __init__(self, *, width: int, beat: int, to: Int) -> None:
        self.width, self.beats, self.beat, self.to = width, width // beat, beat, to
        residual = stream.Signature(data.ArrayLayout(signed(RESIDUAL.bits), beat))
        super().__init__(
            {
                "i": In(residual),
                "o": Out(stream.Signature(data.ArrayLayout(signed(to.bits), beat))),
                "x": Out(residual),
                "epsilon": In(EPSILON_BITS),
                "multiplier": In(MULTIPLIER_BITS),
                "shift": In(SHIFT_BITS),
                "busy": Out(1),
            }
        )

    @property
    def tree_registers(self) -> int:
        """Registers of the adder tree over a beat."""
        registers, terms = 0, self.beat
        while terms > 1:
            registers, terms = registers + 1, -(-terms // TREE)
        return registers

    @property
    def gap(self) -> int:
        """Cycles from the last beat in to the first out."""
        squares, sums, pipeline = 1, 1, 3
        return squares + self.tree_registers + sums + STEPS + pipeline + 1

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=self.beat * RESIDUAL.bits, depth=max(self.beats, 2), init=[]
        )
        write, accept, last = memory.write_port(), Signal(), Signal()
        m.d.comb += [
            accept.eq(self.i.valid & self.i.ready),
            last.eq(accept & (write.addr == self.beats - 1)),
            write.en.eq(accept),
            write.data.eq(Value.cast(self.i.payload)),
        ]
        with m.If(accept):
            m.d.sync += write.addr.eq(Mux(last, 0, write.addr + 1))

        first = write.addr == 0
        low, high, summed, summing = self._squares(m, accept, first, last)
        phase = Signal(STEPS)
        m.d.sync += phase.eq((phase << 1) | summed)
        gain, shift = self._root(m, phase, low, high)
        giving = self._give(m, memory.read_port(), last, phase[SCALE], gain, shift)
        m.d.comb += self.busy.eq(summing | phase.any() | giving)
        return m

    def _squares(
        self, m: Module, accept: Value, first: Value, last: Value
    ) -> tuple[Signal, Signal, Value, Value]:
        """The exact sum of squares and epsilon, in two halves that do not wait for each other.

        Returns the halves, a strobe a cycle before they are complete, and whether a beat is inside.
        """
        x = Signal(self.i.payload.shape(), reset_less=True)
        full = Signal(2 + self.tree_registers)  # registers of x, squares, tree
        firsts, lasts = Signal.like(full), Signal.like(full)
        m.d.sync += [
            full.eq((full << 1) | accept),
            firsts.eq((firsts << 1) | (accept & first)),
            lasts.eq((lasts << 1) | last),
        ]
        with m.If(accept):
            m.d.sync += x.eq(self.i.payload)
        squares = [
            Signal(2 * RESIDUAL.bits - 1, name=f"square_{k}", reset_less=True)
            for k in range(self.beat)
        ]
        with m.If(full[0]):
            m.d.sync += [square.eq(x[k] * x[k]) for k, square in enumerate(squares)]
        low, high = [s[:HALF] for s in squares], [s[HALF:] for s in squares]
        for level in range(self.tree_registers):
            with m.If(full[1 + level]):
                low, high = _tree(m, low, f"low_{level}"), _tree(m, high, f"high_{level}")

        carry = (self.width - 1).bit_length()
        sum_low = Signal(max(HALF + carry, EPSILON_BITS) + 1)
        sum_high = Signal(RESIDUAL.bits + carry)
        with m.If(full[-1]):
            m.d.sync += [
                sum_low.eq(Mux(firsts[-1], self.epsilon, sum_low) + low[0]),
                sum_high.eq(Mux(firsts[-1], 0, sum_high) + high[0]),
            ]
        return sum_low, sum_high, lasts[-1], full.any()

    def _root(self, m: Module, phase: Signal, low: Value, high: Value) -> tuple[Value, Signal]:
        """The gain: reciprocal root of the sum, times the multiplier; and the shift that goes with
        it. One multiplier does the Newton phase and the scaling.
        """
        mantissa, pairs = self._normalised(m, phase, low, high)
        shift = Signal(SHIFT_BITS)
        m.submodules.table = table = Memory(
            shape=START_BITS, depth=len(RSQRT_TABLE), init=RSQRT_TABLE.tolist()
        )
        port = table.read_port()
        m.d.comb += [
            port.en.eq(phase[LOOK_UP]),
            port.addr.eq(mantissa[RSQRT_MANTISSA - 8 :] - 64),
        ]
        with m.If(phase[LOOK_UP]):
            m.d.sync += shift.eq(self.shift - pairs)

        start, product = port.data, Signal(RSQRT_MANTISSA + 2 * START_BITS)
        rest = Signal(RSQRT_MANTISSA + 2)  # 3 less the product, 24 fraction bits
        factor, other = Signal(RSQRT_MANTISSA + START_BITS), Signal(MULTIPLIER_BITS)
        m.d.comb += [factor.eq(mantissa), other.eq(start)]
        with m.If(phase[TWICE]):
            m.d.comb += factor.eq(product)
        with m.If(phase[NEWTON]):
            m.d.comb += factor.eq(rest)
        with m.If(phase[SCALE]):
            m.d.comb += [factor.eq(product[21:][:ROOT_BITS]), other.eq(self.multiplier)]
        with m.If(phase[REST]):
            m.d.sync += rest.eq((3 << RSQRT_MANTISSA) - (product >> RSQRT_MANTISSA))
        with m.If(phase[ONCE] | phase[TWICE] | phase[NEWTON] | phase[SCALE]):
            half = Mux(phase[SCALE], 1 << 15, 0)
            m.d.sync += product.eq(factor * other + half)
        return product[16:][:ROOT_BITS], shift

    def _normalised(
        self, m: Module, phase: Signal, low: Value, high: Value
    ) -> tuple[Signal, Signal]:
        """The top 24 bits of the sum without its leading zeros, taken off in pairs; how many."""
        total, pairs = Signal(SQUARE_BITS), Signal(PAIR_BITS)
        coarse, mantissa = Signal(RSQRT_MANTISSA + 14), Signal(RSQRT_MANTISSA)
        with m.If(phase[SUM]):
            m.d.sync += total.eq(Cat(low[:HALF], (high + low[HALF:])[: SQUARE_BITS - HALF]))
        x, zeros = _without_zeros(m, total, 64, 32, 16)
        with m.If(phase[COARSE]):
            m.d.sync += [coarse.eq(x), pairs[3:].eq(zeros)]
        x, zeros = _without_zeros(m, coarse, 8, 4, 2)
        with m.If(phase[FINE]):
            m.d.sync += [mantissa.eq(x), pairs[:3].eq(zeros)]
        return mantissa, pairs

    def _give(
        self, m: Module, read, received: Value, ready: Value, gain: Value, shift: Value
    ) -> Value:
        """Read the memory twice, for ``o`` and for ``x``. Returns whether the clock must run."""
        rooting, scaling, replaying = Signal(), Signal(), Signal()  # or none: beats are taken
        step, fetched, sent, replayed = Signal(), Signal(), Signal(), Signal()
        left = Signal(range(self.beats + 1), init=self.beats)  # to be read in this pass
        replay_step = replaying & (~fetched | self.x.ready)
        scale_step = scaling & (~self.o.valid | self.o.ready)
        inside = self._scale(m, read.data, scale_step, fetched, gain, shift)
        m.d.comb += [
            self.i.ready.eq(~(rooting | scaling | replaying)),
            self.x.valid.eq(replaying & fetched),
            Value.cast(self.x.payload).eq(read.data),
            step.eq(ready | scale_step | replay_step),
            read.en.eq(step & left.any()),
            sent.eq(self.o.valid & self.o.ready & ~(left.any() | inside)),
            replayed.eq(replay_step & fetched & ~left.any()),
        ]
        with m.If(step):
            m.d.sync += fetched.eq(left.any())
        with m.If(read.en):
            wrap = read.addr == self.beats - 1
            m.d.sync += [left.eq(left - 1), read.addr.eq(Mux(wrap, 0, read.addr + 1))]
        with m.If(received):
            m.d.sync += rooting.eq(1)
        with m.If(ready):  # the first beat is fetched as the gain comes
            m.d.sync += [rooting.eq(0), scaling.eq(1)]
        with m.If(sent):
            m.d.sync += [scaling.eq(0), replaying.eq(1), left.eq(self.beats)]
        with m.If(replayed):
            m.d.sync += [replaying.eq(0), left.eq(self.beats)]
        return scaling | replay_step

    def _scale(
        self, m: Module, beat: Value, step: Value, fetched: Value, gain: Value, shift: Value
    ) -> Value:
        """Product, shift, rounding: a register each. Returns whether a beat is before ``o``."""
        scaled, shifted, step = Signal(), Signal(), named(m, step)
        with m.If(step):
            m.d.sync += [scaled.eq(fetched), shifted.eq(scaled), self.o.valid.eq(shifted)]
        bits, narrow = RESIDUAL.bits, Int(self.to.bits + 2)
        for lane, o in enumerate(self.o.payload):
            product = Signal(signed(bits + ROOT_BITS), name=f"product_{lane}", reset_less=True)
            rest = Signal(signed(narrow.bits), name=f"rest_{lane}", reset_less=True)
            x = beat[lane * bits : (lane + 1) * bits].as_signed()
            with m.If(step & fetched):
                m.d.sync += product.eq(x * gain)
            # what saturates before rounding would after it too
            part = saturated(m, doubled(product, shift), narrow)
            result = saturated(m, halved(rest), self.to)
            with m.If(step & scaled):
                m.d.sync += rest.eq(part)
            with m.If(step & shifted):
                m.d.sync += o.eq(result)
        return fetched | scaled | shifted


def _tree(m: Module, terms: list[Value], name: str) -> list[Value]:
    """Sums of ``TREE`` terms at a time, each in a register."""
    groups = [terms[start : start + TREE] for start in range(0, len(terms), TREE)]
    width = len(terms[0]) + (len(groups[0]) - 1).bit_length()
    sums: list[Value] = [
        Signal(width, name=f"{name}_{k}", reset_less=True) for k in range(len(groups))
    ]
    m.d.sync += [register.eq(_sum(group)) for register, group in zip(sums, groups, strict=True)]
    return sums


def _sum(terms: list[Value]) -> Value:
    """Sum as a balanced tree."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return _sum(terms[:half]) + _sum(terms[half:])


def _without_zeros(m: Module, x: Value, *steps: int) -> tuple[Value, Value]:
    """Take ``steps`` leading zeros off ``x``, each if all are there, steps halving.

    Returns the bits that can still come into the mantissa, and which steps were taken, the last one
    lowest: a binary number of zeros in units of the last step.
    """
    taken = []
    for zeros in steps:
        none = named(m, ~x[len(x) - zeros :].any())
        moved = Cat(Const(0, zeros), x)[: len(x)]
        # at most zeros - 2 more can follow: what lies below them does not count
        keep = min(len(x), RSQRT_MANTISSA + zeros - 2)
        x = named(m, Mux(none, moved[-keep:], x[-keep:]))
        taken.append(none)
    return x, Cat(*reversed(taken))
